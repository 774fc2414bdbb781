package database

import (
	"cmp"
	"fmt"
	"slices"

	"firedrill/internal/drill"
)

// Order is what an operator or an alarm asks for.
type Order struct {
	To        string // "": the standby that is furthest
	Planned   bool   // the primary is well and steps down for it: nothing may be lost, so AllowLoss means nothing
	AllowLoss bool   // also when how far the standby is behind is unknown, or more than the policy allows
	Unfenced  bool   // also when the old primary cannot be fenced: a human has seen that it is dead
}

// Policy is what a promotion must keep to.
type Policy struct {
	LagMax uint64 // bytes that a standby may be behind the last position that was seen of the primary
}

// Seen is what was last known of the primary while it was well.
type Seen struct {
	Host     string `json:"host"`
	Timeline uint64 `json:"timeline"`
	Position uint64 `json:"position"`
	Armed    bool   `json:"armed"`
}

// Remember brings seen up to a status: what a primary says of itself, and nothing when there is none or more than one.
func (s Seen) Remember(status Status) Seen {
	if p := status.Primary(); p != nil && p.Timeline >= s.Timeline {
		return Seen{Host: p.Host, Timeline: p.Timeline, Position: p.Position, Armed: p.Armed}
	}
	return s
}

// Move is an order made concrete.
type Move struct {
	From     string `json:"from"` // old primary; it may be down
	To       string `json:"to"`
	Planned  bool   `json:"planned,omitempty"`
	Unfenced bool   `json:"unfenced,omitempty"`
	Armed    bool   `json:"armed,omitempty"` // From was seen armed: it cannot come back as a primary
	Why      string `json:"why"`             // that To was chosen
}

// Choose decides whether the order may be carried out, and on which standby. It is pure; any doubt is a refusal, of kind Refused.
func Choose(status Status, order Order, policy Policy, seen Seen) (Move, error) {
	refuse := func(hint, format string, args ...any) (Move, error) {
		return Move{}, &drill.Error{Op: "promote", Kind: drill.Refused, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	if status.Paused {
		return refuse("Resume it first, with its own tools (Patroni: patronictl resume).", "its own manager is paused: it keeps its hands off, and neither demotes nor promotes")
	}
	primaries := 0
	for _, m := range status.Members {
		if m.Role == Primary {
			primaries++
		}
	}
	primary := status.Primary()
	switch {
	case primaries > 1:
		return refuse("Stop the wrong one now: firedrill database fence HOST", "%d servers take writes: %s", primaries, status)
	case primary == nil && order.Planned:
		return refuse("firedrill database promote does it without a primary.", "there is no primary that could step down: %s", status)
	case primary != nil && status.Managed && !order.Planned:
		return refuse("To move it all the same: firedrill database switch", "%s is the primary, and its own manager promotes another one when it is lost", primary.Host)
	}
	move := Move{From: seen.Host, Planned: order.Planned, Unfenced: order.Unfenced, Armed: seen.Armed}
	newest := max(seen.Timeline, 0)
	if primary != nil {
		move.From, move.Armed, newest = primary.Host, primary.Armed, max(newest, primary.Timeline)
		seen = seen.Remember(status)
	}
	to, err := candidate(status, order)
	if err != nil {
		return Move{}, err
	}
	if move.From == "" {
		move.From = onlyOther(status, to.Host)
	}
	move.To = to.Host
	for _, m := range status.Members {
		newest = max(newest, m.Timeline)
	}
	switch {
	case to.Timeline < newest:
		return refuse("Rebuild it: firedrill database rebuild "+to.Host, "%s is on timeline %d, and %d was seen: it is a branch that was left", to.Host, to.Timeline, newest)
	case order.Planned && !to.Streaming:
		return refuse("See: firedrill database status", "%s does not follow the primary at the moment", to.Host)
	}
	move.Why, err = behind(*to, order, policy, seen)
	return move, err
}

// Stale returns the primaries that another one has been promoted past: their timeline is older than that of another primary. They were not
// reached when that happened, and what they acknowledge now is lost.
func Stale(status Status) []string {
	var newest uint64
	for _, m := range status.Members {
		if m.Role == Primary {
			newest = max(newest, m.Timeline)
		}
	}
	var stale []string
	for _, m := range status.Members {
		if m.Role == Primary && m.Timeline > 0 && m.Timeline < newest {
			stale = append(stale, m.Host)
		}
	}
	return stale
}

// candidate returns the standby that is asked for, or the one that is furthest; of equals the first.
func candidate(status Status, order Order) (*Member, error) {
	if order.To != "" {
		m := status.Member(order.To)
		switch {
		case m == nil:
			return nil, unknownHost("promote", order.To, status)
		case m.Barred:
			return nil, &drill.Error{Op: "promote", Kind: drill.Refused, Host: m.Host, Err: fmt.Errorf("is never promoted by its own manager: %s", m.Detail), Hint: "Take another one: firedrill database status"}
		case m.Role != Standby:
			return nil, &drill.Error{Op: "promote", Kind: drill.Refused, Host: m.Host, Err: fmt.Errorf("is %s, and only a standby can be promoted", m.Role), Hint: "See: firedrill database status"}
		}
		return m, nil
	}
	var all []*Member
	for i := range status.Members {
		if status.Members[i].Role == Standby && !status.Members[i].Barred {
			all = append(all, &status.Members[i])
		}
	}
	if len(all) == 0 {
		return nil, &drill.Error{Op: "promote", Kind: drill.Refused, Err: fmt.Errorf("there is no standby: %s", status), Hint: "Start or rebuild one: firedrill database rebuild HOST"}
	}
	slices.SortStableFunc(all, func(a, b *Member) int {
		return cmp.Or(cmp.Compare(b.Timeline, a.Timeline), cmp.Compare(b.Position, a.Position))
	})
	return all[0], nil
}

// behind holds the standby against the last position of the primary.
func behind(to Member, order Order, policy Policy, seen Seen) (string, error) {
	if order.Planned {
		return to.Host + " gets everything before it is promoted", nil
	}
	lag, known := uint64(0), seen.Timeline > 0 && seen.Timeline == to.Timeline
	if known && seen.Position > to.Position {
		lag = seen.Position - to.Position
	}
	text := fmt.Sprintf("%s is at %X, %d bytes behind what was last seen of %s", to.Host, to.Position, lag, seen.Host)
	if !known {
		text = "how far " + to.Host + " is behind is not known: the primary was not seen on its timeline"
	}
	if (!known || lag > policy.LagMax) && !order.AllowLoss {
		return "", &drill.Error{
			Op: "promote", Kind: drill.Refused, Err: fmt.Errorf("%s; %d are allowed", text, policy.LagMax),
			Hint: "Acknowledged writes may be lost. If that is better than waiting: firedrill database promote --allow-loss",
		}
	}
	return text, nil
}

// onlyOther returns the other host when there are just two.
func onlyOther(status Status, host string) string {
	if len(status.Members) != 2 {
		return ""
	}
	for _, m := range status.Members {
		if m.Host != host {
			return m.Host
		}
	}
	return ""
}

func hosts(status Status) []string {
	var all []string
	for _, m := range status.Members {
		all = append(all, m.Host)
	}
	return all
}
