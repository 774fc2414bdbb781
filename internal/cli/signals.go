//go:build !hostpart

package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// caughtSignal remembers which signal asked for the end.
type caughtSignal struct {
	cancel context.CancelFunc
	signal chan os.Signal
	got    chan syscall.Signal
	relay  chan os.Signal // for a program that must hear it too
}

// forward returns the signals as they come in, for a program that runs for us elsewhere.
func (c *caughtSignal) forward() <-chan os.Signal { return c.relay }

// catchSignals returns a context that ends at the first SIGINT, SIGTERM or SIGHUP. More of them change nothing: reverting has its own
// bounds, and an operator in a hurry must not be able to cut it short.
func catchSignals(parent context.Context) (context.Context, *caughtSignal) {
	ctx, cancel := context.WithCancel(parent)
	c := &caughtSignal{cancel: cancel, signal: make(chan os.Signal, 1), got: make(chan syscall.Signal, 1), relay: make(chan os.Signal, 4)}
	signal.Notify(c.signal, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for received := range c.signal {
			if number, ok := received.(syscall.Signal); ok {
				select {
				case c.got <- number:
				default:
				}
			}
			select {
			case c.relay <- received:
			default:
			}
			cancel()
		}
	}()
	return ctx, c
}

func (c *caughtSignal) stop() {
	signal.Stop(c.signal)
	close(c.signal)
	c.cancel()
}

// code is 128 plus the signal's number, or 0 when there was none.
func (c *caughtSignal) code() int {
	select {
	case number := <-c.got:
		c.got <- number
		return 128 + int(number)
	default:
		return 0
	}
}
