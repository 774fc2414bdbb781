package attack

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"firedrill/internal/history"
)

// goesDown is a step after which there is no host, and no daemon that would send on what it has read a moment ago.
type goesDown struct {
	Step
	apply func()
}

func (g goesDown) Apply(context.Context, time.Time) error {
	g.apply()
	return errors.New("the test goes on")
}

// What is said before a host goes down is carried on by others on that host, who end with it: they are given the time.
func TestWhatIsSaidLastIsCarriedOnBeforeTheHostGoesDown(t *testing.T) {
	t.Parallel()
	for _, abrupt := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var carried atomic.Bool
			var before bool
			r := &run{out: newOutbox(), start: time.Now(), options: Options{abrupt: abrupt, Emit: func(event history.Event) {
				if event.Fact.Kind() == history.KindAttackInForce {
					time.AfterFunc(handOver/2, func() { carried.Store(true) }) // the daemon has read it, and sends it on
				}
			}}}
			r.plan.Steps = []Step{goesDown{apply: func() { before = carried.Load() }}}
			ctx, halted := context.WithCancel(t.Context())
			halted() // too late: it was said to be in force
			if _, err := r.oneWay(ctx); err == nil {
				t.Error("the step failed, and nobody says so")
			}
			r.out.close()
			if before == abrupt {
				t.Errorf("abrupt %v: carried on before the host went down: %v", abrupt, before)
			}
		})
	}
}
