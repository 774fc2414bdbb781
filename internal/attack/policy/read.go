//go:build !attackpart

package policy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
)

// sizeMax bounds the file; a page of rules has a few kilobytes.
const sizeMax = 1 << 20

// Read reads the policy of this host. Without a file it returns nil, which bounds nothing. The error is a *drill.Error of kind Refused:
// the file is there, and it is not to be trusted or not to be understood.
//
// The file and its directory must be root's and writable by nobody else, and neither may be a symbolic link: who could exchange them
// would write the policy. Both are looked at through the descriptors that are then read, so there is no time in between.
func (r Reader) Read() (*Policy, error) {
	path := r.Path
	if path == "" {
		path = File
	}
	text, err := r.bytes(path)
	if err != nil || text == nil {
		return nil, distrust(err)
	}
	var known []string
	if r.Kinds != nil {
		known = r.Kinds()
	}
	p, err := Parse(text, path, known)
	if err != nil {
		return nil, distrust(fmt.Errorf("the policy of this host cannot be understood: %w", err))
	}
	return p, nil
}

// distrust makes the refusal; a nil error stays nil.
func distrust(err error) error {
	if err == nil {
		return nil
	}
	hint := drill.HintOf(err)
	if hint == "" {
		hint = "as root, mend the file or remove it; nothing is attacked on this host before"
	}
	return &drill.Error{Op: "attack", Kind: drill.Refused, Hint: hint, Err: fmt.Errorf("not attacking: %w", err)}
}

// bytes returns nil when there is no file.
func (r Reader) bytes(path string) ([]byte, error) {
	directory := filepath.Dir(path)
	const flags = unix.O_RDONLY | unix.O_NOFOLLOW | unix.O_CLOEXEC | unix.O_NONBLOCK
	folder, err := unix.Open(directory, flags|unix.O_DIRECTORY, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, opened(directory, err)
	}
	defer unix.Close(folder)
	if err := r.trusted(folder, directory, unix.S_IFDIR); err != nil {
		return nil, err
	}
	fd, err := unix.Openat(folder, filepath.Base(path), flags, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, opened(path, err)
	}
	file := os.NewFile(uintptr(fd), path)
	defer file.Close()
	if err := r.trusted(fd, path, unix.S_IFREG); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(file, sizeMax+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > sizeMax:
		return nil, fmt.Errorf("%s is larger than %d KiB", path, sizeMax>>10)
	case text == nil:
		return []byte{}, nil
	}
	return text, nil
}

func opened(path string, err error) error {
	e := &drill.Error{Kind: drill.Refused, Err: fmt.Errorf("open %s: %w", path, err)}
	switch {
	case errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR):
		e.Err = fmt.Errorf("%s is a symbolic link, or not what it should be", path)
		e.Hint = "as root, put the real thing in its place"
	case errors.Is(err, unix.EACCES):
		e.Hint = "as root: chmod 755 " + filepath.Dir(File) + " && chmod 644 " + File
	}
	return e
}

// trusted refuses what others than the owner could have written.
func (r Reader) trusted(fd int, path string, kind uint32) error {
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		return fmt.Errorf("stat %s: %w", path, err)
	}
	mode := stat.Mode & 0o7777
	switch {
	case stat.Mode&unix.S_IFMT != kind:
		return &drill.Error{Kind: drill.Refused, Err: fmt.Errorf("%s is not a plain file", path), Hint: "as root, put a plain file in its place"}
	case stat.Uid != r.Owner && !unmappedRoot(stat.Uid):
		return &drill.Error{Kind: drill.Refused, Err: fmt.Errorf("%s belongs to user %d, not to root", path, stat.Uid), Hint: "as root, read it, and then: chown root " + path}
	case mode&0o022 != 0:
		return &drill.Error{Kind: drill.Refused, Err: fmt.Errorf("%s can be written by others than root (mode %04o)", path, mode), Hint: "as root, read it, and then: chmod go-w " + path}
	}
	return nil
}

// unmappedRoot reports whether uid stands for all users that our user namespace does not know, root of the machine among them. Nobody in
// here can be or become one of those, and the rights of an attack from in here end at the namespace too.
func unmappedRoot(uid uint32) bool {
	overflow, err := os.ReadFile("/proc/sys/kernel/overflowuid")
	if err != nil || strings.TrimSpace(string(overflow)) != fmt.Sprint(uid) {
		return false
	}
	return !mapsEveryone("/proc/self/uid_map")
}

// mapsEveryone reports whether root outside is someone in here; when in doubt it says yes.
func mapsEveryone(path string) bool {
	text, err := os.ReadFile(path)
	if err != nil {
		return true
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) != 3 || fields[1] == "0" {
			return true
		}
	}
	return false
}
