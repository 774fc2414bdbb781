package dump

import (
	"errors"
	"fmt"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	tries = 20
	pause = 5 * time.Millisecond // a list of a thousand devices takes the kernel less
)

// Whole calls list until what it returns is of one instant, at most 20 times within some 100 ms. list is one of the functions of netlink
// that return all of something. The error is that of list; it is netlink.ErrDumpInterrupted, with what to make of it, when the list changed
// each time.
func Whole[T any](list func() ([]T, error)) ([]T, error) {
	for try := 1; ; try++ {
		found, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return found, err
		}
		if try == tries {
			return nil, fmt.Errorf("it changed each of the %d times that it was read: %w", tries, err)
		}
		<-time.After(pause)
	}
}
