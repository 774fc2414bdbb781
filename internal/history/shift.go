package history

import "time"

// Shift moves every time in the event by delta: that is how an event of a host whose clock is off is brought to our clock. The event
// given is not changed.
func Shift(event Event, delta time.Duration) Event {
	if delta == 0 {
		return event
	}
	event.At = event.At.Add(delta)
	moved := func(t *time.Time) *time.Time {
		if t == nil {
			return nil
		}
		later := t.Add(delta)
		return &later
	}
	switch fact := event.Fact.(type) {
	case *Sample:
		copied := *fact
		copied.Scheduled = fact.Scheduled.Add(delta)
		event.Fact = &copied
	case *Datapoint:
		copied := *fact
		copied.Start = fact.Start.Add(delta)
		event.Fact = &copied
	case *AttackInForce:
		copied := *fact
		copied.Until = fact.Until.Add(delta)
		event.Fact = &copied
	case *AttackAccount:
		copied := *fact
		copied.InForceAt, copied.FirstHit = moved(fact.InForceAt), moved(fact.FirstHit)
		copied.LastHit, copied.EndedAt = moved(fact.LastHit), moved(fact.EndedAt)
		event.Fact = &copied
	}
	return event
}
