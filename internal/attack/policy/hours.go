//go:build !attackpart

package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

const (
	// Hours are looked at minute by minute, in the words of the wall clock, so that a change to summer time needs no rule of its own.
	tick = time.Minute
	// spanMax bounds that look. No attack waits or lasts for longer than a day.
	spanMax = 48 * time.Hour
	// searchMax bounds the search for the next time that is admitted, which is only a hint.
	searchMax = 8 * 24 * time.Hour
)

// Window is a span of the wall clock on some days of the week. One that ends before it begins goes over midnight, and belongs to the day
// on which it begins.
type Window struct {
	text       string
	days       [7]bool // by time.Weekday
	begin, end int     // minutes of the day; end 1440 is midnight
}

// String is the window as it was written.
func (w Window) String() string { return w.text }

// holds reports whether the wall clock at t stands within the window: the begin is part of it, the end is not.
func (w Window) holds(t time.Time) bool {
	minute, day := t.Hour()*60+t.Minute(), t.Weekday()
	if w.begin < w.end {
		return w.days[day] && w.begin <= minute && minute < w.end
	}
	yesterday := (day + 6) % 7
	return w.days[day] && minute >= w.begin || w.days[yesterday] && minute < w.end
}

// Freeze is a span of days, both of them included.
type Freeze struct{ first, last string } // as 2026-12-18: dates in this form sort as text

// String is the freeze as files write it.
func (f Freeze) String() string {
	if f.first == f.last {
		return f.first
	}
	return f.first + ".." + f.last
}

func (f Freeze) holds(t time.Time) bool {
	date := t.Format(time.DateOnly)
	return f.first <= date && date <= f.last
}

// timed reports whether there is a rule that depends on the clock.
func (p *Policy) timed() bool { return len(p.Hours)+len(p.Freezes) > 0 }

func (p *Policy) firstTimed() int {
	if len(p.Hours) > 0 {
		return p.Hours[0].Line
	}
	return p.Freezes[0].Line
}

// admitTime holds every minute of the impact against hours and freezes.
func (p *Policy) admitTime(o Order, now time.Time) error {
	if !p.timed() {
		return nil
	}
	// A second shift of the clock finds it shifted too.
	if slices.Contains(o.Running, ClockKind) || slices.Contains(o.Running, Silent) {
		return p.refuse(o, p.firstTimed(), "wait until it has ended; see: firedrill status", "an attack that runs here may have shifted the clock, so nobody knows whether it is the time for another")
	}
	if o.Delay+o.Length > spanMax {
		return p.refuse(o, p.firstTimed(), "ask for less", "%s ahead is too far to look for hours and freezes", o.Delay+o.Length)
	}
	begin := now.Add(o.Delay).In(p.TimeZone.Value.location)
	at, line, why := p.firstBad(begin, begin.Add(o.Length))
	if why == "" {
		return nil
	}
	cure := "ask the owner of this host for other hours"
	if next, found := p.nextGood(begin, o.Length); found {
		cure = "the next time that would do begins at " + clock(next)
	}
	return p.refuse(o, line, cure, "at %s %s", clock(at), why)
}

func clock(t time.Time) string { return t.Format("Mon 2006-01-02 15:04 MST") }

// firstBad returns the first instant from begin, up to but without end, that a rule forbids. An impact without a length is an instant.
func (p *Policy) firstBad(begin, end time.Time) (at time.Time, line int, why string) {
	for t := begin; t.Equal(begin) || t.Before(end); t = t.Truncate(tick).Add(tick) {
		if line, why := p.badAt(t); why != "" {
			return t, line, why
		}
	}
	return time.Time{}, 0, ""
}

// badAt returns the rule that forbids an instant, or "".
func (p *Policy) badAt(t time.Time) (line int, why string) {
	for _, item := range p.Freezes {
		if item.Value.holds(t) {
			return item.Line, fmt.Sprintf("nothing is attacked: freeze %s", item.Value)
		}
	}
	if len(p.Hours) == 0 || slices.ContainsFunc(p.Hours, func(item rule[Window]) bool { return item.Value.holds(t) }) {
		return 0, ""
	}
	var hours []string
	for _, item := range p.Hours {
		hours = append(hours, item.Value.String())
	}
	return p.Hours[0].Line, "it is outside of the hours " + strings.Join(hours, "; ")
}

// nextGood looks for the first whole minute from which length fits.
func (p *Policy) nextGood(from time.Time, length time.Duration) (time.Time, bool) {
	for t := from.Truncate(tick).Add(tick); t.Before(from.Add(searchMax)); {
		bad, _, why := p.firstBad(t, t.Add(length))
		if why == "" {
			return t, true
		}
		t = bad.Truncate(tick).Add(tick)
	}
	return time.Time{}, false
}
