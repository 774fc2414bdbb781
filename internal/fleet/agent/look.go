package agent

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"golang.org/x/sys/unix"

	"firedrill/internal/fleet"
)

// lookFileMax bounds what is read of a file that says who has reserved the host.
const lookFileMax = 4 << 10

// heardLook says what is in force here, and which release runs. Looking changes nothing but that what dead attacks left is taken back.
func (a *Agent) heardLook(message *nats.Msg) {
	heard := time.Now()
	look, err := fleet.Decode[fleet.Look](message.Data)
	if err != nil {
		a.log.Warn("a look is not understood", "error", err) //nolint:sloglint // no context
		return
	}
	seen := fleet.Looked{ID: look.ID, Heard: heard}
	if look.Clock {
		// Nothing is looked for: what is wanted are the two times.
	} else if seen.InForce, err = a.leftOf(""); err == nil && look.Directory != "" {
		err = lookAtReleases(look.Directory, &seen)
	}
	if err != nil {
		seen.Error = err.Error()
	}
	seen.At = time.Now()
	_ = a.conn.Publish(fleet.FromAgent(a.id.Key, fleet.WordLooked), encode(seen)) // who does not hear it asks again
}

// lookAtReleases reads what a directory of releases says of itself: names alone, never what a link leads to elsewhere.
func lookAtReleases(directory string, seen *fleet.Looked) error {
	link := fleet.ReleaseLink(directory)
	target, err := os.Readlink(link)
	switch {
	case errors.Is(err, fs.ErrNotExist): // no release yet
	case err != nil:
		return err
	default:
		if seen.Release, err = fleet.ReleaseOf(target); err != nil {
			return err
		}
		revision, err := begin(filepath.Join(link, "REVISION"))
		if err != nil {
			return err
		}
		seen.Revision = fleet.RevisionOf(revision)
	}
	seen.Reserved, err = begin(fleet.ReservationFile(directory))
	return err
}

// begin reads a small file; one that is not there is empty, and one that is longer cannot be read. The directory may belong to somebody who is not
// root, as we are: a link in place of the file would have us tell of any file of the host, and a pipe would hold us up.
func begin(path string) (string, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case errors.Is(err, unix.ELOOP):
		return "", errors.New(path + " is a link, and no file")
	case err != nil:
		return "", err
	}
	defer file.Close()
	if about, err := file.Stat(); err != nil || !about.Mode().IsRegular() {
		return "", errors.Join(err, errors.New(path+" is no file"))
	}
	text, err := io.ReadAll(io.LimitReader(file, lookFileMax+1))
	if err == nil && len(text) > lookFileMax {
		err = errors.New(path + " is longer than it can be")
	}
	return strings.TrimSpace(string(text)), err
}
