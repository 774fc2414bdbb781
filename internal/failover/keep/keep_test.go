package keep

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"firedrill/internal/failover"
	"firedrill/internal/history"
)

// fakeBackend does with each publication what next says.
type fakeBackend struct {
	mu   sync.Mutex // guards the fields below
	seen []uint64
	next func(ctx context.Context, serial uint64, try int) error
}

func (f *fakeBackend) Publish(ctx context.Context, change failover.Change) error {
	f.mu.Lock()
	f.seen = append(f.seen, change.Serial)
	try := len(f.seen)
	f.mu.Unlock()
	if f.next == nil {
		return nil
	}
	return f.next(ctx, change.Serial, try)
}

func (f *fakeBackend) serials() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprint(f.seen)
}

const bookstore = "bookstore.example.test"

func decided(serial uint64) history.Answer {
	return history.Answer{Name: bookstore, Addresses: []string{"10.77.1.20"}, Serial: serial, Decided: true}
}

// keeping runs a keeper in a bubble of fake time.
func keeping(t *testing.T, backend *fakeBackend, play func(k *Keeper)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		k := New(map[string]Backend{bookstore: backend}, nil)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { k.Run(ctx) })
		play(k)
		cancel()
		running.Wait()
	})
}

func apply(t *testing.T, k *Keeper, serials ...uint64) {
	t.Helper()
	for _, serial := range serials {
		if err := k.Apply(decided(serial)); err != nil {
			t.Error(err)
		}
	}
}

func TestNewestDecisionIsPublishedAndOldOnesAreNot(t *testing.T) {
	backend := &fakeBackend{}
	keeping(t, backend, func(k *Keeper) {
		apply(t, k, 5, 7, 6)
		synctest.Wait()
		apply(t, k, 7, 3)
		synctest.Wait()
		if got := backend.serials(); got != "[7]" {
			t.Errorf("published %s; want only 7", got)
		}
	})
}

func TestFailedPublicationIsTriedAgain(t *testing.T) {
	backend := &fakeBackend{next: func(_ context.Context, _ uint64, try int) error {
		if try < 4 {
			return errors.New("away")
		}
		return nil
	}}
	keeping(t, backend, func(k *Keeper) {
		apply(t, k, 5)
		time.Sleep(againMin*7 + time.Millisecond) // of fake time: 1 + 2 + 4 spans
		synctest.Wait()
		if got := backend.serials(); got != "[5 5 5 5]" {
			t.Errorf("published %s", got)
		}
	})
}

func TestPublicationThatHangsGivesWayToANewerDecision(t *testing.T) {
	backend := &fakeBackend{next: func(ctx context.Context, serial uint64, _ int) error {
		if serial == 5 {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}}
	keeping(t, backend, func(k *Keeper) {
		apply(t, k, 5)
		synctest.Wait()
		apply(t, k, 6)
		synctest.Wait()
		time.Sleep(againMin + time.Millisecond)
		synctest.Wait()
		if got := backend.serials(); got != "[5 6]" {
			t.Errorf("published %s; want 6 after 5 was given up", got)
		}
	})
}

func TestAnswerIsLookedAfter(t *testing.T) {
	backend := &fakeBackend{}
	keeping(t, backend, func(k *Keeper) {
		time.Sleep(2*lookEvery + time.Millisecond) // nothing is decided yet
		apply(t, k, 5)
		synctest.Wait()
		time.Sleep(2*lookEvery + time.Millisecond)
		synctest.Wait()
		if got := backend.serials(); got != "[5 5 5]" {
			t.Errorf("published %s; want it again every %s", got, lookEvery)
		}
	})
}

func TestStaleDecisionIsNotPressed(t *testing.T) {
	backend := &fakeBackend{next: func(context.Context, uint64, int) error { return fmt.Errorf("x: %w", failover.ErrStale) }}
	keeping(t, backend, func(k *Keeper) {
		apply(t, k, 5)
		synctest.Wait()
		time.Sleep(lookEvery - time.Millisecond)
		synctest.Wait()
		if got := backend.serials(); got != "[5]" {
			t.Errorf("published %s", got)
		}
	})
}

func TestOtherNamesAndNonsenseArePassedOver(t *testing.T) {
	backend := &fakeBackend{}
	keeping(t, backend, func(k *Keeper) {
		for _, answer := range []history.Answer{
			{Name: "other.test", Addresses: []string{"10.0.0.1"}, Serial: 9}, {Name: bookstore, Serial: 9}, {Name: bookstore, Addresses: []string{"x"}, Serial: 9},
		} {
			_ = k.Apply(answer) // the nonsense is an error
		}
		synctest.Wait()
		if got := backend.serials(); got != "[]" {
			t.Errorf("published %s", got)
		}
	})
}
