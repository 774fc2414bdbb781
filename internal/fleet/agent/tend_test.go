package agent

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
)

// lateBy has the control plane fall silent and an order begin after that, and returns how long after its slack was over what is in force was ended.
func lateBy(t *testing.T, drowsy bool) (late time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		const silent = 5 * time.Second
		a := &Agent{options: Options{Leash: LeashDefault, Drowsy: drowsy}, log: slog.New(slog.DiscardHandler), conn: &nats.Conn{}, roused: make(chan struct{}, 1), shipping: make(chan struct{}, 1), tasks: map[string]*task{}}
		a.heard = time.Now().Add(-silent)
		over := a.heard.Add(a.slack())
		running, end := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); a.tend(running) }()
		<-time.After(time.Second) // it has found nothing to look after
		one := &task{ahead: make(chan struct{})}
		one.ctx, one.cancel = context.WithCancelCause(context.Background())
		a.mu.Lock()
		a.tasks["one"] = one
		a.rouse()
		a.mu.Unlock()
		<-one.ctx.Done()
		late = time.Since(over)
		end()
		<-done
	})
	return late
}

// An agent that has nothing to do looks seldom; from when an order is taken it looks often, so that what is in force ends when the slack is over.
func TestAnAgentThatWasIdleLooksAfterWhatBegins(t *testing.T) {
	t.Parallel()
	if late := lateBy(t, false); late < 0 || late > 2*tendEvery {
		t.Errorf("ended %s after its slack", late)
	}
}

func TestAnAgentThatIsNotRousedIsCaught(t *testing.T) {
	t.Parallel()
	if late := lateBy(t, true); late <= 2*tendEvery {
		t.Errorf("the planted bug is not noticed: ended %s after its slack", late)
	}
}

// A host wakes up no later for a connection that may be silent, or for a key that ends, than that is.
func TestAnIdleAgentWakesUpInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &Agent{options: Options{Leash: LeashDefault}}
		now := time.Now()
		for _, row := range []struct{ since, heard, next time.Duration }{
			{time.Hour, 0, tendIdle},
			{0, time.Hour, tendIdle}, // a new connection
			{time.Hour, 8 * time.Second, 2 * time.Second},
			{time.Hour, time.Minute, tendEvery},
		} {
			a.since, a.heard = now.Add(-row.since), now.Add(-row.heard)
			if next := a.tendNext(); next != row.next {
				t.Errorf("%+v: %s", row, next)
			}
		}
		a.heard = now
		a.known.OrderBefore, a.known.OrderEnds = []byte("key"), now.Add(time.Second)
		if next := a.tendNext(); next != time.Second {
			t.Errorf("a key that ends: %s", next)
		}
	})
}
