package database

import (
	"context"
	"errors"
	"fmt"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Bounds of what is tried again.
const (
	writeMax   = 30 * time.Second // until the new primary acknowledges a write
	writeAgain = 50 * time.Millisecond
	tryMax     = 3 * time.Second // of one write that must not be acknowledged
)

// Tell takes what was done, in order.
type Tell func(fact *history.DatabaseStep)

// Mover moves the primary of one database.
type Mover struct {
	Name   string
	Driver Driver
	Policy Policy
	Tell   Tell                                       // may be nil
	Lead   func(ctx context.Context, to string) error // makes the name of the database lead to a host; nil: it has none
}

func (m Mover) tell(step, host, format string, args ...any) {
	if m.Tell != nil {
		m.Tell(&history.DatabaseStep{Database: m.Name, Step: step, Host: host, Detail: fmt.Sprintf(format, args...)})
	}
}

// Move carries out an order: look, choose, fence, promote, lead the name there, write to the new primary, and try to write to the old one.
// What it did is told in that order. An error of kind Refused means that nothing was changed; any later one says how far it came.
func (m Mover) Move(ctx context.Context, order Order, seen Seen) (Move, error) {
	status, err := m.Driver.Status(ctx)
	if err != nil {
		return Move{}, err
	}
	began := time.Now()
	defer func() { m.record(ctx, began) }()
	m.tell(history.DatabaseLooked, "", "%s", status)
	if primary := status.Primary(); status.tookOver(seen) && !order.Planned && (order.To == "" || order.To == primary.Host) {
		return m.tookOver(ctx, seen.Host, *primary)
	}
	move, err := Choose(status, order, m.Policy, seen)
	if err != nil {
		m.tell(history.DatabaseRefused, order.To, "%v", err)
		return Move{}, err
	}
	m.tell(history.DatabaseChosen, move.To, "%s", move.Why)
	how, err := m.Driver.Fence(ctx, move)
	switch {
	case err != nil && order.Unfenced && !order.Planned:
		m.tell(history.DatabaseUnfenced, move.From, "not fenced, by order: %v", err)
	case err != nil:
		m.tell(history.DatabaseRefused, move.From, "not fenced: %v", err)
		return move, err
	default:
		m.tell(history.DatabaseFenced, move.From, "%s", how)
	}
	m.tell(history.DatabasePromoting, move.To, "")
	if err := m.Driver.Promote(ctx, move); err != nil {
		m.tell(history.DatabaseFailed, move.To, "%v", err)
		return move, err
	}
	m.tell(history.DatabasePromoted, move.To, "")
	if err := m.lead(ctx, move.To); err != nil {
		return move, err
	}
	return move, m.prove(ctx, move)
}

// tookOver says whether the database's own manager has put another primary in the place of the one that was seen.
func (s Status) tookOver(seen Seen) bool {
	primary := s.Primary()
	return s.Managed && primary != nil && seen.Host != "" && primary.Host != seen.Host && primary.Timeline >= seen.Timeline
}

// tookOver proves what the database's own manager has done.
func (m Mover) tookOver(ctx context.Context, from string, primary Member) (Move, error) {
	move := Move{From: from, To: primary.Host, Why: "its own manager chose it"}
	m.tell(history.DatabasePromoted, move.To, "by its own manager, on timeline %d", primary.Timeline)
	if err := m.lead(ctx, move.To); err != nil {
		return move, err
	}
	return move, m.prove(ctx, move)
}

// recordSlack is how far the clock of a database may be from ours, and how coarse: its own record of a move is still told with the move.
const recordSlack = 2 * time.Second

// record tells what the database has written down about itself since began.
func (m Mover) record(ctx context.Context, began time.Time) {
	keeps, does := m.Driver.(Historian)
	if !does || m.Tell == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tryMax)
	defer cancel()
	records, err := keeps.History(ctx)
	if err != nil {
		m.tell(history.DatabaseRecorded, "", "its history cannot be read: %v", err)
		return
	}
	for _, r := range records {
		if r.Time.After(began.Add(-recordSlack)) {
			m.tell(history.DatabaseRecorded, r.Host, "at %s: %s", r.Time.UTC().Format("15:04:05"), r.Text)
		}
	}
}

func (m Mover) lead(ctx context.Context, to string) error {
	if m.Lead == nil {
		return nil
	}
	if err := m.Lead(ctx, to); err != nil {
		m.tell(history.DatabaseFailed, to, "the name does not lead there: %v", err)
		return fmt.Errorf("%s is promoted, but the name of the database does not lead there: %w", to, err)
	}
	m.tell(history.DatabaseLed, to, "the name leads there")
	return nil
}

// prove writes to the new primary until it acknowledges, and tries the old one.
func (m Mover) prove(ctx context.Context, move Move) error {
	waiting, cancel := context.WithTimeout(ctx, writeMax)
	defer cancel()
	var err error
	for {
		if err = m.Driver.Write(waiting, move.To); err == nil {
			break
		}
		select {
		case <-waiting.Done():
			m.tell(history.DatabaseFailed, move.To, "takes no writes: %v", err)
			return &drill.Error{
				Op: "promote", Host: move.To, Kind: drill.Failed, Err: fmt.Errorf("is promoted, but acknowledged no write within %s: %w", writeMax, err),
				Hint: "See: firedrill database status. A primary that waits for a synchronous standby acknowledges nothing.",
			}
		case <-time.After(writeAgain):
		}
	}
	m.tell(history.DatabaseWritten, move.To, "a write was acknowledged")
	if move.From == "" {
		return nil
	}
	return m.TryOld(ctx, move.From)
}

// TryOld tries to write to a host that must not accept writes. What cannot be reached accepts none now; that it still accepts none when it
// is back is for another try.
func (m Mover) TryOld(ctx context.Context, host string) error {
	ctx, cancel := context.WithTimeout(ctx, tryMax)
	defer cancel()
	err := m.Driver.Write(ctx, host)
	switch {
	case err == nil:
		m.tell(history.DatabaseSplit, host, "THE OLD PRIMARY ACCEPTED A WRITE")
		return &drill.Error{
			Op: "fence", Host: host, Kind: drill.Failed, Err: errors.New("the old primary accepted a write: two servers take writes"),
			Hint: "Switch it off now: firedrill database fence " + host,
		}
	case errors.Is(err, ErrReadOnly):
		m.tell(history.DatabaseTried, host, "it answered and refused the write: %v", err)
	default:
		m.tell(history.DatabaseTried, host, "no write was acknowledged there: %v", err)
	}
	return nil
}

// Fence keeps a host from writing and tries it. The only primary is fenced with force alone: nothing takes writes then.
func (m Mover) Fence(ctx context.Context, host string, force bool) error {
	status, err := m.Driver.Status(ctx)
	if err != nil {
		return err
	}
	member := status.Member(host)
	if member == nil {
		return unknownHost("fence", host, status)
	}
	if primary := status.Primary(); primary != nil && primary.Host == host && !force {
		return &drill.Error{
			Op: "fence", Host: host, Kind: drill.Refused, Err: errors.New("it is the only primary: nothing would take writes"),
			Hint: "To move the primary: firedrill database switch. If it must stop all the same: firedrill database fence --force " + host,
		}
	}
	how, err := m.Driver.Fence(ctx, Move{From: host, Armed: member.Armed})
	if err != nil {
		m.tell(history.DatabaseFailed, host, "not fenced: %v", err)
		return err
	}
	m.tell(history.DatabaseFenced, host, "%s", how)
	return m.TryOld(ctx, host)
}

func unknownHost(op, host string, status Status) error {
	return &drill.Error{Op: op, Kind: drill.Invalid, Err: fmt.Errorf("the database has no host %q", host), Hint: drill.Suggest(host, hosts(status))}
}

// Rebuild makes a host a standby of the primary that there is, and tries it: it must refuse writes. One that follows already is left as it is.
func (m Mover) Rebuild(ctx context.Context, host string) error {
	from, err := m.Rebuildable(ctx, host)
	if err != nil {
		return err
	}
	m.tell(history.DatabaseRebuilding, host, "from %s", from)
	if err := m.Driver.Rebuild(ctx, host, from); err != nil {
		m.tell(history.DatabaseFailed, host, "rebuild: %v", err)
		return err
	}
	m.tell(history.DatabaseRebuilt, host, "follows %s", from)
	return m.TryOld(ctx, host)
}

// Rebuildable returns the primary that a host would be made a standby of, or why that is refused. It changes nothing.
func (m Mover) Rebuildable(ctx context.Context, host string) (from string, err error) {
	status, err := m.Driver.Status(ctx)
	if err != nil {
		return "", err
	}
	primary := status.Primary()
	refuse := func(format string, args ...any) (string, error) {
		return "", &drill.Error{Op: "rebuild", Host: host, Kind: drill.Refused, Err: fmt.Errorf(format, args...), Hint: "See: firedrill database status"}
	}
	switch {
	case status.Member(host) == nil:
		return "", unknownHost("rebuild", host, status)
	case primary == nil:
		return refuse("there is not one primary to follow: %s", status)
	case primary.Host == host:
		return refuse("it is the primary")
	}
	return primary.Host, nil
}
