package databasetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
	"firedrill/internal/history"
)

const (
	// patience bounds what must happen sooner or later: only a hang is longer.
	patience  = 60 * time.Second
	pollEvery = 50 * time.Millisecond
	// tries is how often an old primary is tried once it answers again.
	tries = 10
)

// Subject is a pair of servers under a driver. The first of Hosts is the primary when the story begins.
type Subject struct {
	Driver database.Driver
	Hosts  [2]string

	PowerOff func(ctx context.Context, host string) error // the host is gone, without a word
	Boot     func(ctx context.Context, host string) error // it comes back with what was on its disk
	Rows     func(ctx context.Context) (int, error)       // of a table that Add writes to, read from the primary
	Add      func(ctx context.Context) error              // nil only when acknowledged

	ByItself bool // its own manager promotes without being told, once a primary is gone
	Rejoins  bool // its own manager makes a standby of an old primary, unasked
	Hidden   bool // a standby has no address: it can only be tried where it was once the primary

	seen  database.Seen
	steps []history.DatabaseStep
	added int
}

// Check is one clause. They are a story: each begins where the one before ended.
type Check struct {
	Name string
	Run  func(ctx context.Context, s *Subject) error
}

// Checks returns the contract.
func Checks() []Check {
	return []Check{
		{"says who is primary and who follows", checkStatus},
		{"writes on the primary and nowhere else", checkWrites},
		{"refuses what it must refuse, and changes nothing", checkRefusals},
		{"moves a primary that is well, and loses nothing", checkPlanned},
		{"makes a standby of the old primary", checkRebuilt},
		{"moves away from a host that lost its power", checkCrash},
		{"keeps an old primary that is back from writing", checkBack},
		{"makes a standby of what was lost", checkRebuilt},
	}
}

// Run runs the contract on a subject.
func Run(t *testing.T, s *Subject) {
	t.Helper()
	for _, check := range Checks() {
		if !t.Run(check.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
			defer cancel()
			if err := check.Run(ctx, s); err != nil {
				t.Error(err)
			}
		}) {
			return // what follows begins where this was to end
		}
	}
}

func (s *Subject) mover() database.Mover {
	s.steps = nil
	return database.Mover{Name: "books", Driver: s.Driver, Tell: func(step *history.DatabaseStep) { s.steps = append(s.steps, *step) }}
}

// await polls until nothing is wrong any more.
func await(ctx context.Context, what string, wrong func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := wrong()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %s: %s: %w", patience, what, err)
		case <-time.After(pollEvery):
		}
	}
}

// awaitPair waits until primary is the primary and the other one follows it.
func (s *Subject) awaitPair(ctx context.Context, primary string) error {
	return await(ctx, primary+" leads", func() error {
		status, err := s.Driver.Status(ctx)
		if err != nil {
			return err
		}
		for _, host := range s.Hosts {
			m := status.Member(host)
			switch {
			case m == nil:
				return fmt.Errorf("%s is not told of", host)
			case host == primary && m.Role != database.Primary:
				return fmt.Errorf("%s is %s", host, m.Role)
			case host != primary && (m.Role != database.Standby || !m.Streaming):
				return fmt.Errorf("%s is %s, streaming: %v, %s", host, m.Role, m.Streaming, m.Detail)
			}
		}
		s.seen = s.seen.Remember(status)
		return nil
	})
}

func checkStatus(ctx context.Context, s *Subject) error {
	if err := s.awaitPair(ctx, s.Hosts[0]); err != nil {
		return err
	}
	if s.seen.Timeline == 0 || s.seen.Position == 0 {
		return fmt.Errorf("nothing is said of the log: %+v", s.seen)
	}
	return nil
}

func checkWrites(ctx context.Context, s *Subject) error {
	if err := s.Driver.Write(ctx, s.Hosts[0]); err != nil {
		return fmt.Errorf("the primary: %w", err)
	}
	if err := s.Driver.Write(ctx, s.Hosts[1]); !errors.Is(err, database.ErrReadOnly) && (!s.Hidden || err == nil) {
		return fmt.Errorf("the standby said to a write: %w", orAccepted(err))
	}
	return s.add(ctx, 3)
}

func orAccepted(err error) error {
	if err == nil {
		return errors.New("accepted")
	}
	return err
}

func (s *Subject) add(ctx context.Context, n int) error {
	for range n {
		if err := s.Add(ctx); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		s.added++
	}
	return nil
}

func (s *Subject) nothingLost(ctx context.Context) error {
	rows, err := s.Rows(ctx)
	if err != nil {
		return err
	}
	if rows != s.added {
		return fmt.Errorf("%d rows where %d were acknowledged", rows, s.added)
	}
	return nil
}

func checkRefusals(ctx context.Context, s *Subject) error {
	far := s.seen
	far.Position += 1 << 40
	for _, c := range []struct {
		name  string
		order database.Order
		seen  database.Seen
		kind  drill.ErrorKind
	}{
		{"a host that is not there", database.Order{To: "nobody", Planned: true}, s.seen, drill.Invalid},
		{"the primary itself", database.Order{To: s.Hosts[0], Planned: true}, s.seen, drill.Refused},
	} {
		if _, err := s.mover().Move(ctx, c.order, c.seen); drill.KindOf(err) != c.kind || err == nil {
			return fmt.Errorf("promote %s: %w", c.name, orAccepted(err))
		}
	}
	return s.awaitPair(ctx, s.Hosts[0])
}

// order returns an error unless the steps were told in this order; others may stand between them.
func (s *Subject) order(steps ...string) error {
	told := make([]string, 0, len(s.steps))
	for _, step := range s.steps {
		told = append(told, step.Step)
	}
	rest := told
	for _, step := range steps {
		i := slices.Index(rest, step)
		if i < 0 {
			return fmt.Errorf("%q is not told, or not in its order: %s", step, strings.Join(told, ", "))
		}
		rest = rest[i+1:]
	}
	return nil
}

var movedSteps = []string{
	history.DatabaseLooked, history.DatabaseChosen, history.DatabaseFenced, history.DatabasePromoting, history.DatabasePromoted,
	history.DatabaseWritten, history.DatabaseTried,
}

func checkPlanned(ctx context.Context, s *Subject) error {
	before, after := s.Hosts[0], s.Hosts[1]
	move, err := s.mover().Move(ctx, database.Order{To: after, Planned: true}, s.seen)
	if err != nil {
		return err
	}
	if move.From != before || move.To != after {
		return fmt.Errorf("moved from %s to %s", move.From, move.To)
	}
	if err := s.order(movedSteps...); err != nil {
		return err
	}
	s.Hosts = [2]string{after, before}
	if err := s.Driver.Write(ctx, before); err == nil {
		return errors.New("the old primary accepts writes")
	}
	if err := s.add(ctx, 3); err != nil {
		return err
	}
	return s.nothingLost(ctx)
}

func checkRebuilt(ctx context.Context, s *Subject) error {
	if !s.Rejoins {
		if err := s.mover().Rebuild(ctx, s.Hosts[1]); err != nil {
			return err
		}
		if err := s.order(history.DatabaseRebuilding, history.DatabaseRebuilt, history.DatabaseTried); err != nil {
			return err
		}
	}
	if err := s.awaitPair(ctx, s.Hosts[0]); err != nil {
		return err
	}
	if err := s.Driver.Write(ctx, s.Hosts[1]); !errors.Is(err, database.ErrReadOnly) {
		return fmt.Errorf("the new standby said to a write: %w", orAccepted(err))
	}
	if err := s.add(ctx, 3); err != nil {
		return err
	}
	return s.nothingLost(ctx)
}

func checkCrash(ctx context.Context, s *Subject) error {
	before, after := s.Hosts[0], s.Hosts[1]
	if err := s.awaitCaughtUp(ctx); err != nil {
		return err
	}
	if err := s.PowerOff(ctx, before); err != nil {
		return err
	}
	// What the standby cannot have is more than the policy allows: this must be refused, and change nothing.
	far := s.seen
	far.Position += 1 << 40
	if !s.ByItself {
		if _, err := s.mover().Move(ctx, database.Order{}, far); drill.KindOf(err) != drill.Refused || err == nil {
			return fmt.Errorf("a standby that is far behind: %w", orAccepted(err))
		}
		if err := s.Driver.Write(ctx, after); !errors.Is(err, database.ErrReadOnly) {
			return fmt.Errorf("a refused promotion left a standby that says to a write: %w", orAccepted(err))
		}
	}
	if s.ByItself {
		if err := s.awaitPrimary(ctx, after); err != nil {
			return err
		}
	}
	if _, err := s.mover().Move(ctx, database.Order{}, s.seen); err != nil {
		return err
	}
	steps := movedSteps
	if s.ByItself {
		steps = []string{history.DatabaseLooked, history.DatabasePromoted, history.DatabaseWritten, history.DatabaseTried}
	}
	if err := s.order(steps...); err != nil {
		return err
	}
	s.Hosts = [2]string{after, before}
	if err := s.add(ctx, 3); err != nil {
		return err
	}
	return s.nothingLost(ctx)
}

// awaitPrimary waits until the manager has promoted the host, unasked.
func (s *Subject) awaitPrimary(ctx context.Context, host string) error {
	return await(ctx, host+" is promoted by its own manager", func() error {
		status, err := s.Driver.Status(ctx)
		if err == nil && (status.Primary() == nil || status.Primary().Host != host) {
			err = errors.New(status.String())
		}
		return err
	})
}

// awaitCaughtUp waits until the standby has what the primary was last seen to have written.
func (s *Subject) awaitCaughtUp(ctx context.Context) error {
	if err := s.awaitPair(ctx, s.Hosts[0]); err != nil {
		return err
	}
	return await(ctx, "the standby has everything", func() error {
		status, err := s.Driver.Status(ctx)
		if err != nil {
			return err
		}
		if m := status.Member(s.Hosts[1]); m == nil || m.Position < s.seen.Position {
			return fmt.Errorf("%s, and %X is wanted", status, s.seen.Position)
		}
		return nil
	})
}

// checkBack boots the lost host and tries to write there, from its first breath until it answers, and then some more.
func checkBack(ctx context.Context, s *Subject) error {
	old := s.Hosts[1]
	if err := s.Boot(ctx, old); err != nil {
		return err
	}
	refused := 0
	err := await(ctx, "the old primary answers", func() error {
		err := s.Driver.Write(ctx, old)
		if errors.Is(err, database.ErrReadOnly) {
			refused++
		}
		if err != nil && refused < tries {
			return err
		}
		return nil
	})
	switch {
	case err != nil:
		return err
	case refused < tries:
		return errors.New("the old primary accepts writes")
	}
	return s.nothingLost(ctx)
}
