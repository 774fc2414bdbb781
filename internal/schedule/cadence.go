package schedule

import (
	"fmt"
	"math"
	"time"
)

// States of a cadence.
const (
	CadenceKept    = "kept"
	CadenceDue     = "due"
	CadenceOverdue = "overdue"
)

// overduePart is the part of a cadence by which a drill may be late before it is overdue.
const overduePart = 4

// Cadence is how often something is wanted, and how that stands.
type Cadence struct {
	Wanted  time.Duration
	Last    time.Time // that counted; the zero time: never
	Due     time.Time // when the next one is due
	Overdue time.Time // when it is overdue: a quarter of the cadence later
	State   string
}

// KeepCadence says how a cadence stands: since is from when on it was wanted. It is a pure function.
func KeepCadence(wanted time.Duration, last, since, now time.Time) Cadence {
	from := last
	if from.IsZero() {
		from = since
	}
	c := Cadence{Wanted: wanted, Last: last, Due: from.Add(wanted), Overdue: from.Add(wanted + wanted/overduePart), State: CadenceKept}
	switch {
	case !now.Before(c.Overdue):
		c.State = CadenceOverdue
	case !now.Before(c.Due):
		c.State = CadenceDue
	}
	return c
}

// Say is a cadence in words, as "no drill of db for 29 days: due".
func (c Cadence) Say(what string, now time.Time) string {
	if c.State == CadenceKept {
		return fmt.Sprintf("the next drill of %s is due in %s", what, days(c.Due.Sub(now)))
	}
	if c.Last.IsZero() {
		return fmt.Sprintf("no drill of %s yet, and one every %s is wanted: %s", what, days(c.Wanted), c.State)
	}
	return fmt.Sprintf("no drill of %s for %s: %s", what, days(now.Sub(c.Last)), c.State)
}

// days is a duration as people say it.
func days(d time.Duration) string {
	const day = 24 * time.Hour
	say := func(count float64, one string) string {
		if count == 1 {
			return "1 " + one
		}
		return fmt.Sprintf("%.0f %ss", count, one)
	}
	switch {
	case d >= 2*day:
		return say(math.Floor(d.Hours()/24), "day")
	case d >= 2*time.Hour:
		return say(math.Floor(d.Hours()), "hour")
	case d >= 2*time.Minute:
		return say(math.Floor(d.Minutes()), "minute")
	}
	return say(math.Max(0, math.Floor(d.Seconds())), "second")
}
