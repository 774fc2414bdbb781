package deploy

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"regexp"
	"strings"

	"github.com/pkg/sftp"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
)

// clear removes what an earlier deployment left half done. We hold the lock, so nobody else is at it.
func (t *target) clear(ctx context.Context) error {
	_, err := t.client.Output(ctx, remote.Quote("sh", "-c", `cd "$1" && rm -rf releases/.tmp-* .current-new`, "sh", t.directory()))
	return err
}

// wholeScript gives a verified upload its name. Everything is on the disk before: a power cut must not leave a release of empty files.
const wholeScript = `cd "$1/releases" || exit 1
[ ! -e "$3" ] || { echo "release $3 exists already" >&2; exit 1; }
sync -f "$2" 2>/dev/null || sync
mv "$2" "$3"`

// publish uploads the release beside the others, compares every digest on the host, and gives it its name.
func (t *target) publish(ctx context.Context) error {
	r := t.run
	files := withRevision(r.files, r.result.Revision)
	name := ".tmp-" + r.result.Release
	dir := path.Join(t.directory(), "releases", name)
	err := t.upload(ctx, dir, files)
	if err == nil && !r.request.hooks.unverified {
		err = t.verify(ctx, dir, files)
	}
	if err == nil {
		_, err = t.client.Output(ctx, remote.Quote("sh", "-c", wholeScript, "sh", t.directory(), name, r.result.Release))
	}
	if err != nil {
		return errors.Join(err, t.clear(context.WithoutCancel(ctx)))
	}
	return nil
}

func (t *target) upload(ctx context.Context, dir string, files []file) error {
	if t.record.tools["tar"] {
		return t.uploadTar(ctx, dir, files)
	}
	client, err := t.client.SFTP(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := uploadSFTP(client, dir, t.run.tree, files); err != nil {
		return t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: %w", err))
	}
	return nil
}

// uploadTar sends all files as one stream: for many small ones that is the difference between seconds and minutes.
func (t *target) uploadTar(ctx context.Context, dir string, files []file) error {
	reader, writer := io.Pipe()
	packed := make(chan error, 1)
	go func() {
		err := pack(writer, t.run.tree, files, t.run.stamp)
		_ = writer.CloseWithError(err)
		packed <- err
	}()
	var errOut bytes.Buffer
	// -o: the files belong to the user who is logged in, whatever the archive says.
	line := "umask 022; mkdir " + remote.Quote(dir) + " && exec tar -x -p -o -f - -C " + remote.Quote(dir)
	exit, err := t.client.Run(ctx, remote.Command{Line: line, Stdin: reader, Stderr: &errOut})
	_ = reader.Close()
	packErr := <-packed
	if err != nil {
		return err
	}
	if exit.Code != 0 {
		return t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: tar on the host ended with code %d: %s", exit.Code, strings.TrimSpace(errOut.String())))
	}
	if packErr != nil {
		return t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: %w", packErr))
	}
	return nil
}

func uploadSFTP(client *sftp.Client, dir, tree string, files []file) error {
	for _, sub := range append([]string{"."}, directories(files)...) {
		name := path.Join(dir, sub)
		if err := client.Mkdir(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := client.Chmod(name, 0o755); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	for _, f := range files {
		if err := uploadOne(client, path.Join(dir, f.path), tree, f); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return nil
}

func uploadOne(client *sftp.Client, name, tree string, f file) error {
	if f.link != "" {
		return client.Symlink(f.link, name)
	}
	content, err := f.open(tree)
	if err != nil {
		return err
	}
	defer content.Close()
	to, err := client.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	if _, err := to.ReadFrom(content); err != nil {
		return errors.Join(err, to.Close())
	}
	return errors.Join(to.Chmod(f.mode), to.Close())
}

// verify compares the digest of every file with ours.
func (t *target) verify(ctx context.Context, dir string, files []file) error {
	var regular []file
	for _, f := range files {
		if f.link == "" {
			regular = append(regular, f)
		}
	}
	digests := t.digestsThere
	if !t.record.tools["sha256sum"] || !t.record.tools["xargs"] {
		digests = t.digestsHere
	}
	found, err := digests(ctx, dir, regular)
	if err != nil {
		return err
	}
	if len(found) != len(regular) {
		return t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: %d of %d files can be read back", len(found), len(regular)))
	}
	for i, f := range regular {
		if found[i] != f.digest {
			return t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: %s arrived damaged: SHA-256 %s, want %s", f.path, found[i], f.digest))
		}
	}
	return nil
}

// digestLine is a line of sha256sum; a backslash before it says that the name, which we do not need, is escaped.
var digestLine = regexp.MustCompile(`(?m)^\\?([0-9a-f]{64}) [ *]`)

// digestsThere lets the host compute the digests. The names go over standard input, each ended by NUL, and come back in order.
func (t *target) digestsThere(ctx context.Context, dir string, files []file) ([]string, error) {
	var names strings.Builder
	for _, f := range files {
		names.WriteString("./" + f.path + "\x00")
	}
	var out, errOut bytes.Buffer
	exit, err := t.client.Run(ctx, remote.Command{
		Line: "cd " + remote.Quote(dir) + " && xargs -0 sha256sum", Stdin: strings.NewReader(names.String()), Stdout: &out, Stderr: &errOut,
	})
	if err != nil {
		return nil, err
	}
	if exit.Code != 0 {
		return nil, t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: sha256sum ended with code %d: %s", exit.Code, strings.TrimSpace(errOut.String())))
	}
	var digests []string
	for _, match := range digestLine.FindAllStringSubmatch(out.String(), -1) {
		digests = append(digests, match[1])
	}
	return digests, nil
}

// digestsHere reads every file back, for hosts without sha256sum.
func (t *target) digestsHere(ctx context.Context, dir string, files []file) ([]string, error) {
	client, err := t.client.SFTP(ctx)
	if errors.Is(err, remote.ErrNoSFTP) {
		return t.digestsByCat(ctx, dir, files)
	}
	if err != nil {
		return nil, err
	}
	defer client.Close()
	var digests []string
	for _, f := range files {
		from, err := client.Open(path.Join(dir, f.path))
		if err != nil {
			return nil, t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: read back %s: %w", f.path, err))
		}
		sum := sha256.New()
		_, err = from.WriteTo(sum)
		if err = errors.Join(err, from.Close()); err != nil {
			return nil, t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: read back %s: %w", f.path, err))
		}
		digests = append(digests, hex.EncodeToString(sum.Sum(nil)))
	}
	return digests, nil
}

func (t *target) digestsByCat(ctx context.Context, dir string, files []file) ([]string, error) {
	var digests []string
	for _, f := range files {
		sum := sha256.New()
		exit, err := t.client.Run(ctx, remote.Command{Line: "cat < " + remote.Quote(path.Join(dir, f.path)), Stdout: sum})
		if err != nil {
			return nil, err
		}
		if exit.Code != 0 {
			return nil, t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: read back %s: code %d", f.path, exit.Code))
		}
		digests = append(digests, hex.EncodeToString(sum.Sum(nil)))
	}
	return digests, nil
}
