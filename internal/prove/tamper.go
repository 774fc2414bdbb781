package prove

import (
	"context"
	"sync"
	"time"

	"firedrill/internal/conductor"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Tamper is a crew whose instruments may lie. With no hook set it is the crew that it holds.
type Tamper struct {
	conductor.Crew
	Plan  drill.Plan
	Hands Hands

	// Seen passes an event of the observers on, changed or not at all. inForce says whether the attack has begun.
	Seen func(event history.Event, inForce bool, emit func(history.Event))
	// Order is what is attacked with in place of the plan's order, and where.
	Order func(host drill.Host, order drill.Order) (drill.Host, drill.Order)
	// BeforeAttack is done when the attack is about to begin, InForce when it has begun, AfterAttack when it has ended.
	BeforeAttack, InForce, AfterAttack func(ctx context.Context) error
	// Length ends the attack so long after it came into force.
	Length time.Duration
	// Counted changes what the ledger says.
	Counted func(*history.Ledger)

	mu    sync.Mutex // guards began
	began bool
}

// Step is the drill that the plan holds.
func (t *Tamper) Step() drill.Step { return t.Plan.Steps[0] }

// Other returns the environment that is not attacked.
func (t *Tamper) Other() drill.Environment {
	for _, environment := range t.Plan.Environments {
		if environment.Name != t.Step().Environment {
			return environment
		}
	}
	return drill.Environment{}
}

// Observe passes on what is seen, by way of Seen.
func (t *Tamper) Observe(ctx context.Context, emit func(history.Event)) error {
	if t.Seen == nil {
		return t.Crew.Observe(ctx, emit)
	}
	var one sync.Mutex // observers emit side by side
	return t.Crew.Observe(ctx, func(event history.Event) {
		one.Lock()
		defer one.Unlock()
		t.Seen(event, t.hasBegun(), emit)
	})
}

func (t *Tamper) hasBegun() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.began
}

// Attack runs the order, or what Order makes of it.
func (t *Tamper) Attack(ctx context.Context, host drill.Host, order drill.Order, guid string, emit func(history.Event)) error {
	if t.Order != nil {
		host, order = t.Order(host, order)
	}
	// What a sabotage does of its own is bounded, and goes on when the drill is interrupted: what it began it must end.
	own, end := context.WithTimeout(context.WithoutCancel(ctx), meansMax+order.Length.Duration())
	defer end()
	note := func(err error) {
		if err != nil {
			emit(history.New(time.Now(), "prove", &history.Note{Text: "the sabotage did not work: " + err.Error()}))
		}
	}
	if t.BeforeAttack != nil {
		note(t.BeforeAttack(ctx))
	}
	var means sync.WaitGroup
	defer means.Wait()
	short, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := t.Crew.Attack(short, host, order, guid, func(event history.Event) {
		emit(event)
		if _, is := event.Fact.(*history.AttackInForce); !is {
			return
		}
		t.mu.Lock()
		t.began = true
		t.mu.Unlock()
		if t.Length > 0 {
			time.AfterFunc(t.Length, func() { cancel(context.DeadlineExceeded) })
		}
		if t.InForce != nil {
			means.Go(func() { note(t.InForce(own)) })
		}
	})
	if t.AfterAttack != nil {
		note(t.AfterAttack(own))
	}
	return err
}

// Ledger passes on the count, by way of Counted.
func (t *Tamper) Ledger(ctx context.Context, client drill.Client, emit func(history.Event)) error {
	return t.Crew.Ledger(ctx, client, func(event history.Event) {
		if count, is := event.Fact.(*history.Ledger); is && t.Counted != nil {
			t.Counted(count)
		}
		emit(event)
	})
}
