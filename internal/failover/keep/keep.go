package keep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/history"
)

const (
	// A publication that failed is tried again after these spans: at once for what passes, seldom enough for what lasts.
	againMin = 200 * time.Millisecond
	againMax = 5 * time.Second

	// lookEvery is how often the answer is published again, which changes nothing unless somebody else has, or a load balancer was started
	// again and is back at its configuration: for so long its clients may be led to the wrong side.
	lookEvery = 2 * time.Second
)

// Backend moves answers in servers that others run.
type Backend interface {
	// Publish makes a name lead somewhere; it returns nil once every server was seen to do so, and failover.ErrStale, wrapped, when a newer
	// change was there.
	Publish(ctx context.Context, change failover.Change) error
}

// Keeper keeps names at their decided answers. Make one with New and Run it once.
type Keeper struct {
	log   *slog.Logger
	names map[string]*name // never changes
}

type name struct {
	backend Backend
	wake    chan struct{} // of size 1

	mu     sync.Mutex // guards newest
	newest failover.Change
}

// New returns a keeper of these names.
func New(backends map[string]Backend, log *slog.Logger) *Keeper {
	k := &Keeper{log: log, names: map[string]*name{}}
	if k.log == nil {
		k.log = slog.New(slog.DiscardHandler)
	}
	for text, backend := range backends {
		k.names[text] = &name{backend: backend, wake: make(chan struct{}, 1)}
	}
	return k
}

// Apply takes a decided answer and returns at once. An answer for another name, or one that is not newer, is passed over.
func (k *Keeper) Apply(answer history.Answer) error {
	n := k.names[answer.Name]
	if n == nil {
		return nil
	}
	change := failover.Change{Name: answer.Name, Serial: answer.Serial}
	for _, text := range answer.Addresses {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("publish %s: %w", answer.Name, err)
		}
		change.Addresses = append(change.Addresses, address)
	}
	change, err := change.Valid()
	if err != nil {
		return err
	}
	n.mu.Lock()
	newer := change.Serial > n.newest.Serial
	if newer {
		n.newest = change
	}
	n.mu.Unlock()
	if newer {
		select {
		case n.wake <- struct{}{}:
		default: // it wakes already
		}
	}
	return nil
}

// Run publishes until ctx ends.
func (k *Keeper) Run(ctx context.Context) {
	var keeping sync.WaitGroup
	for _, n := range k.names {
		keeping.Go(func() { k.keep(ctx, n) })
	}
	keeping.Wait()
}

func (k *Keeper) keep(ctx context.Context, n *name) {
	timer := time.NewTimer(lookEvery)
	defer timer.Stop()
	again := againMin
	done := uint64(0) // serial that every server was seen to serve
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.wake:
			again = againMin
		case <-timer.C:
		}
		n.mu.Lock()
		change := n.newest
		n.mu.Unlock()
		if change.Serial == 0 {
			timer.Reset(lookEvery)
			continue
		}
		err := k.publish(ctx, n, change)
		if err == nil {
			if done != change.Serial {
				k.log.InfoContext(ctx, "answer published", "name", change.Name, "addresses", change.Addresses, "serial", change.Serial)
			}
			done, again = change.Serial, againMin
			timer.Reset(lookEvery)
			continue
		}
		if ctx.Err() == nil {
			k.log.WarnContext(ctx, "answer not published", "name", change.Name, "serial", change.Serial, "error", err, "cure", drill.HintOf(err), "again_in", again)
		}
		timer.Reset(again)
		if again = min(2*again, againMax); errors.Is(err, failover.ErrStale) {
			timer.Reset(lookEvery) // the watch that decided it will tell us too
		}
	}
}

// publish publishes, and gives up when a newer decision comes: what is being waited for is then not wanted any more.
func (k *Keeper) publish(ctx context.Context, n *name, change failover.Change) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ended := make(chan struct{})
	var watching sync.WaitGroup
	defer watching.Wait()
	defer close(ended)
	watching.Go(func() {
		select {
		case <-ended:
		case <-n.wake:
			cancel(errors.New("a newer answer was decided"))
			select { // the loop is to see it too
			case n.wake <- struct{}{}:
			default:
			}
		}
	})
	err := n.backend.Publish(ctx, change)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return err
}
