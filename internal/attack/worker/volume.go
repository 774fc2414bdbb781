package worker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
)

// Volume looks at the volume on which a directory lies, as df does.
func Volume(directory string) (attack.Volume, error) {
	var stat unix.Statfs_t
	err := unix.Statfs(directory, &stat)
	for errors.Is(err, unix.EINTR) {
		err = unix.Statfs(directory, &stat)
	}
	if err != nil {
		return attack.Volume{}, fmt.Errorf("look at the volume of %s: %w", directory, err)
	}
	block := uint64(stat.Frsize)
	if stat.Frsize <= 0 {
		block = uint64(stat.Bsize)
	}
	return attack.Volume{Directory: directory, Block: block, Used: (stat.Blocks - stat.Bfree) * block, Available: stat.Bavail * block}, nil
}

// Nameless opens a file for reading and writing that has no name, so that the kernel frees it with the last descriptor. Where the file
// system knows no such files, it is Unlinked.
func Nameless(directory string) (*os.File, error) {
	fd, err := unix.Open(directory, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err == nil {
		return os.NewFile(uintptr(fd), filepath.Join(directory, "(no name)")), nil
	}
	if !errors.Is(err, unix.EOPNOTSUPP) && !errors.Is(err, unix.EISDIR) && !errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("open a file in %s: %w", directory, err)
	}
	return Unlinked(directory)
}

// Unlinked opens a file that is made with a name and loses it at once. If we are killed exactly between, an empty file remains.
func Unlinked(directory string) (*os.File, error) {
	file, err := os.CreateTemp(directory, ".firedrill-*")
	if err != nil {
		return nil, fmt.Errorf("open a file: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("take the name of a file away: %w", err), file.Close())
	}
	return file, nil
}
