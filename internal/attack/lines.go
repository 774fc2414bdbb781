package attack

import (
	"fmt"
	"io"
	"time"

	"firedrill/internal/history"
)

// Lines prints events as the article's build log shows them, one fact a line. Jobs read these lines: they are a contract.
type Lines struct {
	w    io.Writer
	what string // "blackhole firedrill with guid '...' for 240 seconds"
	hit  string // "Dropping all"
}

// NewLines prints the lines of plan on w.
func NewLines(w io.Writer, plan Plan) *Lines {
	span := "for " + plural(plan.Length, time.Second, "second")
	switch {
	case plan.Length > 0:
	case plan.Delay%time.Minute == 0 && plan.Delay > 0:
		span = "after " + plural(plan.Delay, time.Minute, "minute")
	case plan.Delay%time.Second == 0:
		span = "after " + plural(plan.Delay, time.Second, "second")
	default:
		span = "after " + plan.Delay.String()
	}
	hit := "Dropping all"
	for _, step := range plan.Steps {
		if worded, ok := step.(Worded); ok {
			hit = worded.Wording()
		}
	}
	return &Lines{w: w, what: fmt.Sprintf("%s firedrill with guid '%s' %s", plan.Attack, plan.GUID, span), hit: hit}
}

func plural(d, unit time.Duration, word string) string {
	if d%unit != 0 {
		return fmt.Sprintf("%g %ss", float64(d)/float64(unit), word)
	}
	if d == unit {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", d/unit, word)
}

// Emit prints an event if the article has a line for it.
func (l *Lines) Emit(event history.Event) {
	switch fact := event.Fact.(type) {
	case *history.AttackPlanned:
		l.print("Setting up " + l.what)
	case *history.AttackTarget:
		verb, preposition := l.hit, "to"
		if fact.Verb == VerbSpare {
			verb = "Whitelisting all"
		}
		if fact.Direction == Ingress {
			preposition = "from"
		}
		l.print(fmt.Sprintf("%s %s traffic %s %s", verb, fact.Direction, preposition, fact.Address))
	case *history.Note:
		l.print(fact.Text)
	case *history.AttackReverted:
		l.print("Reverting impact!")
	}
}

// Ready prints that the setup is complete and the attack runs.
func (l *Lines) Ready() {
	l.print("Setup successfully completed")
	l.print("Running " + l.what)
}

// print ignores a write error: a reader that is gone ends the attack by the lifeline, not here.
func (l *Lines) print(line string) { _, _ = io.WriteString(l.w, line+"\n") }

// The words of history.AttackTarget.
const (
	VerbDrop  = "drop" // or whatever else the attack does to a target
	VerbSpare = "spare"
	Egress    = "egress"
	Ingress   = "ingress"
)

// TargetEvents says what a round of addresses means, in the order of the article's log: all egress lines, spares first, then all ingress
// lines in the same order.
func TargetEvents(guid string, hit, spare []Named) []history.AttackTarget {
	events := make([]history.AttackTarget, 0, 2*(len(hit)+len(spare)))
	for _, direction := range []string{Egress, Ingress} {
		for _, n := range spare {
			events = append(events, history.AttackTarget{GUID: guid, Address: n.String(), Name: n.Name, Verb: VerbSpare, Direction: direction})
		}
		for _, n := range hit {
			events = append(events, history.AttackTarget{GUID: guid, Address: n.String(), Name: n.Name, Verb: VerbDrop, Direction: direction})
		}
	}
	return events
}
