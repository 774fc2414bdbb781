//go:build !hostpart

package cli

import (
	"errors"
	"os"
	"syscall"
)

// errHeld says that another process holds a lock file.
var errHeld = errors.New("another process holds it")

// hold makes a lock file if there is none, and holds it until it is closed; the kernel lets go of it when we die. The file is returned with errHeld
// too, to be read and closed: it may say who holds it.
func hold(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return file, errHeld
	}
	return file, nil
}
