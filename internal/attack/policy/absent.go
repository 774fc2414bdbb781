package policy

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Absent reports whether there certainly is no file of rules at path: any doubt is a no.
func Absent(path string) bool {
	var stat unix.Stat_t
	return errors.Is(unix.Lstat(path, &stat), unix.ENOENT)
}
