package attack_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// spell is a step that notes how much of its time was left when it was taken back.
type spell struct {
	deadline time.Time
	left     time.Duration
}

func (*spell) Lines() []string                { return []string{"do nothing"} }
func (*spell) Remains() attack.Remains        { return attack.RemainsNothing }
func (s *spell) Revert(context.Context) error { s.left = time.Until(s.deadline); return nil }
func (s *spell) Apply(_ context.Context, deadline time.Time) error {
	s.deadline = deadline
	return nil
}

// endsAsleep runs an attack on a host that sleeps for nearly all of its length, and checks that the attack is over when the host wakes up, by
// the deadline, and not for what of its length was left when the host fell asleep.
func endsAsleep(length time.Duration, bug bool) error {
	guid, err := attack.NewGUID()
	if err != nil {
		return err
	}
	s := &spell{}
	why := ""
	o := attack.Options{Emit: func(e history.Event) {
		if reverted, ok := e.Fact.(*history.AttackReverted); ok {
			why = reverted.Why
		}
	}}
	o.Sleeps(length-length/100, bug)
	_, err = attack.Run(context.Background(), attack.Plan{GUID: guid, Attack: "nothing", Length: length, Steps: []attack.Step{s}}, o)
	switch {
	case s.deadline.IsZero():
		return fmt.Errorf("it was never applied: %w", err)
	case why != "deadline":
		return fmt.Errorf("it ended for %q", why)
	case s.left < length/2:
		return errors.New("it went on when the host was awake again, as if no time had passed")
	}
	return nil
}

func TestTimeAsleepCounts(t *testing.T) {
	if err := endsAsleep(time.Minute, false); err != nil {
		t.Error(err)
	}
}

func TestTimeAsleepThatDoesNotCountIsCaught(t *testing.T) {
	if err := endsAsleep(time.Second, true); err == nil {
		t.Error("the planted bug was not caught")
	} else {
		t.Log("caught:", err)
	}
}

// beginsAwake orders something that may begin five seconds late at most, on a host that falls asleep before it is due, and wakes up a minute
// after that. It must not begin.
func beginsAwake(bug bool) error {
	guid, err := attack.NewGUID()
	if err != nil {
		return err
	}
	s := &spell{}
	o := attack.Options{Emit: func(history.Event) {}}
	o.Sleeps(time.Minute, bug)
	plan := attack.Plan{GUID: guid, Attack: "nothing", Delay: time.Millisecond, Late: 5 * time.Second, Length: 2 * time.Second, Steps: []attack.Step{s}}
	if _, err = attack.Run(context.Background(), plan, o); drill.KindOf(err) != drill.Unproven || !s.deadline.IsZero() {
		return fmt.Errorf("it began when the host woke up: %w", err)
	}
	return nil
}

func TestWhatWasDueWhileTheHostSleptIsNotBegun(t *testing.T) {
	if err := beginsAwake(false); err != nil {
		t.Error(err)
	}
}

func TestBeginningAfterASleepIsCaught(t *testing.T) {
	if err := beginsAwake(true); err == nil {
		t.Error("the planted bug was not caught")
	}
}
