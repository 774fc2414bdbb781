package move

import (
	"context"
	"errors"
	"os"
	"syscall"
	"time"

	"firedrill/internal/drill"
)

const (
	waitMax = 20 * time.Second // another writer is done long before, or hangs
	tries   = 20 * time.Millisecond
)

// Take waits for the lock and returns what lets it go. The file is made if need be. The error is a *drill.Error of kind Unreachable.
func Take(ctx context.Context, path string) (yield func(), err error) {
	fail := func(err error) (func(), error) {
		return nil, &drill.Error{Op: "lock " + path, Kind: drill.Unreachable, Err: err, Hint: "Another publication holds it, or its directory cannot be written to."}
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeout(ctx, waitMax)
	defer cancel()
	tick := time.NewTicker(tries)
	defer tick.Stop()
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil // closing lets go of the lock
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return fail(errors.Join(err, file.Close()))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fail(errors.Join(ctx.Err(), file.Close()))
		}
	}
}
