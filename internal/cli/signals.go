//go:build !hostpart

package cli

import (
	"context"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// caughtSignal remembers which signal asked for the end.
type caughtSignal struct {
	cancel context.CancelFunc
	signal chan os.Signal
	got    chan syscall.Signal

	mutex  sync.Mutex
	heard  []os.Signal
	relays []chan os.Signal // one for each program that must hear them too
}

// relayMax is how many signals wait for a program that runs for us; more of them change nothing.
const relayMax = 4

// forward returns the signals, those that came already first, for one program that runs for us elsewhere.
func (c *caughtSignal) forward() <-chan os.Signal {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	relay := make(chan os.Signal, relayMax)
	for _, signal := range c.heard {
		relay <- signal
	}
	c.relays = append(c.relays, relay)
	return relay
}

func (c *caughtSignal) tell(signal os.Signal) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if len(c.heard) < relayMax {
		c.heard = append(c.heard, signal)
	}
	for _, relay := range c.relays {
		select {
		case relay <- signal:
		default:
		}
	}
}

// catchSignals returns a context that ends at the first SIGINT, SIGTERM or SIGHUP. More of them change nothing: reverting has its own
// bounds, and an operator in a hurry must not be able to cut it short.
func catchSignals(parent context.Context) (context.Context, *caughtSignal) {
	ctx, cancel := context.WithCancel(parent)
	c := &caughtSignal{cancel: cancel, signal: make(chan os.Signal, 1), got: make(chan syscall.Signal, 1)}
	signal.Notify(c.signal, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		for received := range c.signal {
			if number, ok := received.(syscall.Signal); ok {
				select {
				case c.got <- number:
				default:
				}
			}
			c.tell(received)
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
	case number := <-c.got: // nil, of one that catches nothing, never has one
		c.got <- number
		return 128 + int(number)
	default:
		return 0
	}
}
