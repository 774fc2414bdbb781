package sourcetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"firedrill/internal/source"
)

// System is another system with one alarm in it.
type System struct {
	Source  source.Source // of the alarm
	Absent  source.Source // of an alarm that is not there; nil where the system cannot tell that from one that is well
	Raise   func() error  // makes the alarm be raised
	Clear   func() error  // and be well again
	Silence func() error  // the system answers no more, but its address stays

	Within time.Duration // how long the system takes for a move at most; default 30s
	Look   time.Duration // how long one look may take; default 2s
}

// Run holds a system to the contract. Silence comes last: the system is of no use afterwards.
func Run(t *testing.T, system System) {
	t.Helper()
	for _, wrong := range Check(t.Context(), system) {
		t.Error(wrong)
	}
}

// Check returns what of the contract the system breaks.
func Check(ctx context.Context, system System) (wrong []string) {
	if system.Within == 0 {
		system.Within = 30 * time.Second
	}
	if system.Look == 0 {
		system.Look = 2 * time.Second
	}
	c := &check{System: system, ctx: ctx}
	c.await("before anything was broken", false)
	began := time.Now()
	if c.order("raise", system.Raise) {
		raised := c.await("after it was raised", true)
		c.raisedWell(raised, began)
	}
	if c.order("clear", system.Clear) {
		c.await("after it cleared", false)
	}
	c.absent()
	c.silent()
	return c.wrong
}

type check struct {
	System
	ctx   context.Context
	wrong []string
}

func (c *check) fail(format string, args ...any) {
	c.wrong = append(c.wrong, fmt.Sprintf(format, args...))
}

func (c *check) order(what string, do func() error) bool {
	if err := do(); err != nil {
		c.fail("the test cannot %s the alarm: %v", what, err)
		return false
	}
	return true
}

func (c *check) look(s source.Source) (source.Reading, error) {
	ctx, cancel := context.WithTimeout(c.ctx, c.Look)
	defer cancel()
	return s.Look(ctx)
}

// await looks until the alarm is as it must be.
func (c *check) await(when string, raised bool) source.Reading {
	deadline := time.After(c.Within)
	for {
		reading, err := c.look(c.Source)
		if err == nil && !reading.Unknown && reading.Raised == raised {
			return reading
		}
		select {
		case <-c.ctx.Done():
			c.fail("%s: %v", when, c.ctx.Err())
			return reading
		case <-deadline:
			c.fail("%s: raised %t, unknown %t, %v; it must be raised %t", when, reading.Raised, reading.Unknown, err, raised)
			return reading
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// raisedWell asks for what a verdict needs beside the state.
func (c *check) raisedWell(reading source.Reading, began time.Time) {
	if reading.Reason == "" {
		c.fail("a raised alarm gives no reason")
	}
	// A minute either way is the clock of the other side; an hour is another alarm.
	if since := reading.Since; !since.IsZero() && (since.Before(began.Add(-time.Minute)) || since.After(time.Now().Add(time.Minute))) {
		c.fail("it is said to be raised since %s, and was raised after %s", since, began)
	}
	if text := c.Source.String(); text == "" {
		c.fail("the source has no name")
	}
}

func (c *check) absent() {
	if c.Absent == nil {
		return
	}
	if reading, err := c.look(c.Absent); err == nil && !reading.Unknown {
		c.fail("an alarm that is not there is taken for one that is well: %+v", reading)
	}
}

func (c *check) silent() {
	if !c.order("silence", c.Silence) {
		return
	}
	deadline := time.After(c.Within)
	for range 3 {
		reading, err := c.look(c.Source)
		if err == nil && !reading.Unknown {
			c.fail("the system is silent, and the source says raised %t", reading.Raised)
			return
		}
		select {
		case <-deadline:
			c.fail("a silent system holds up a look for longer than it may take")
			return
		default:
		}
	}
}
