package watch

import "time"

const (
	// clockWindow is how long the fastest delivery counts; clocks drift by milliseconds in that time.
	clockWindow = 30 * time.Second
	// clockJump is how far a host's clock must go back between two events to be believed to have been set. Less is put down to events
	// that overtook each other.
	clockJump = 5 * time.Second
)

// clock translates the times of one connection into ours. Nothing is measured by asking: of all differences between arrival and sending,
// the smallest is the one with the least delay in it, so it is the offset plus the fastest delivery.
type clock struct {
	began             time.Time // of the current half of the window
	current, previous time.Duration
	haveCurrent       bool
	havePrevious      bool
	lastSent          time.Time
}

// see takes note of an event that was sent at one time by its host's clock and arrived at another by ours.
func (c *clock) see(sent, arrived time.Time) {
	if sent.Before(c.lastSent.Add(-clockJump)) {
		*c = clock{} // the clock was set back: all that was learned is wrong
	}
	c.lastSent = sent
	difference := arrived.Sub(sent)
	if c.haveCurrent && arrived.Sub(c.began) >= clockWindow {
		c.previous, c.havePrevious, c.haveCurrent = c.current, true, false
	}
	if !c.haveCurrent {
		c.began, c.current, c.haveCurrent = arrived, difference, true
		return
	}
	c.current = min(c.current, difference)
}

// ours returns a time of the host's clock by our clock. Before the first event it is returned as it is.
func (c *clock) ours(t time.Time) time.Time {
	switch {
	case !c.haveCurrent:
		return t
	case c.havePrevious:
		return t.Add(min(c.current, c.previous))
	}
	return t.Add(c.current)
}
