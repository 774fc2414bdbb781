package policy

import (
	"errors"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Absent reports whether there certainly are no rules at path: not even their directory is there. Any doubt is a no: a directory that others
// could write, or a link in its place, refuses an attack also when no file is in it.
func Absent(path string) bool {
	var stat unix.Stat_t
	return errors.Is(unix.Lstat(filepath.Dir(path), &stat), unix.ENOENT)
}
