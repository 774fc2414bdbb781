//go:build !attackpart

package drill

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	cron "github.com/netresearch/go-cron"
)

// Cron is a moment that comes again: the five fields of cron in a time zone. The zero value never comes.
//
// On the day on which clocks go forward, a moment inside the hour that is left out comes as much later as the clock was moved. On the
// day on which they go back, a moment that a clock on the wall shows twice comes once, at the first of the two.
type Cron struct {
	text string
	zone *time.Location
	when cron.Schedule
}

// cronFieldsMax is far above what a person writes; the library's fields are small, but a list may be long.
const cronFieldsMax = 256

// ParseCron reads "0 10 * * TUE" or "0 10 * * TUE Europe/Berlin". Without a time zone of its own it is in zone. As in crontab(5), a day
// matches when the day of the month or the day of the week does, if both are restricted.
func ParseCron(text string, zone *time.Location) (Cron, error) {
	if len(text) > cronFieldsMax {
		return Cron{}, fmt.Errorf("longer than %d characters", cronFieldsMax)
	}
	fields := strings.Fields(text)
	const want = 5
	if len(fields) == want+1 {
		own, err := loadZone(fields[want])
		if err != nil {
			return Cron{}, err
		}
		zone, fields = own, fields[:want]
	}
	if len(fields) != want {
		return Cron{}, fmt.Errorf("%q is not cron; write minute, hour, day, month, weekday, and a time zone if need be, such as 0 10 * * TUE Europe/Berlin", text)
	}
	parser, err := cron.TryNewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.DowOrDom)
	if err != nil {
		return Cron{}, err
	}
	when, err := parser.Parse(strings.Join(fields, " "))
	if err != nil {
		return Cron{}, fmt.Errorf("%q is not cron: %w", text, err)
	}
	return Cron{text: strings.Join(fields, " "), zone: zone, when: when}, nil
}

// loadZone reads the name of a time zone. "Local" is refused: what it means depends on the host.
func loadZone(name string) (*time.Location, error) {
	if name == "UTC" {
		return time.UTC, nil
	}
	if !strings.Contains(name, "/") {
		return nil, fmt.Errorf("%q is not a time zone; write one such as UTC or Europe/Berlin", name)
	}
	zone, err := time.LoadLocation(name)
	if err != nil {
		return nil, fmt.Errorf("%q is not a time zone; write one such as UTC or Europe/Berlin", name)
	}
	return zone, nil
}

// String is the text with the time zone.
func (c Cron) String() string {
	if c.when == nil {
		return "never"
	}
	return c.text + " " + c.zone.String()
}

// Zone is the time zone that the fields are read in.
func (c Cron) Zone() *time.Location { return c.zone }

// Next returns the first moment after a time, or the zero time when none comes within years.
func (c Cron) Next(after time.Time) time.Time {
	if c.when == nil {
		return time.Time{}
	}
	after = after.In(c.zone)
	from := after
	if leap := leptOver(after); !leap.IsZero() {
		// The library puts a moment off that was left out only when it walks over the leap itself.
		const walk = 3 * time.Hour // longer than any clock was ever put forward
		from = leap.Add(-walk)
	}
	for {
		next := c.when.Next(from)
		if next.IsZero() {
			return next
		}
		until := shownAgainUntil(next)
		switch {
		case !until.IsZero():
			from = until.Add(-time.Nanosecond)
		case !next.After(after):
			from = next
		default:
			return next
		}
	}
}

// leptOver returns when clocks were put forward, if that is not longer ago than what they left out.
func leptOver(moment time.Time) time.Time {
	start, shift := lastChange(moment)
	if start.IsZero() || shift <= 0 || moment.Sub(start) >= shift {
		return time.Time{}
	}
	return start
}

// lastChange returns when clocks were moved last, and by how much forward. It is the zero time when they never were.
func lastChange(moment time.Time) (start time.Time, forward time.Duration) {
	start, _ = moment.ZoneBounds()
	if start.IsZero() {
		return start, 0
	}
	_, offset := moment.Zone()
	_, before := start.Add(-time.Nanosecond).Zone()
	return start, time.Duration(offset-before) * time.Second
}

// shownAgainUntil tells whether clocks on the wall have shown this moment before, because they were put back, and until when that goes on.
// It is the zero time when they have not.
func shownAgainUntil(moment time.Time) time.Time {
	start, forward := lastChange(moment)
	if start.IsZero() {
		return time.Time{}
	}
	until := start.Add(-forward)
	if !moment.Before(until) {
		return time.Time{}
	}
	return until
}

// Window is a span of the day, on some days of the week, in a time zone. The zero value is always open.
type Window struct {
	text     string
	days     [7]bool // on which it opens; from time.Sunday
	from, to int     // minutes of the day; to <= from ends on the day after
	zone     *time.Location
}

var weekdays = [7]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}

const minutesOfDay = 24 * 60

// ParseWindow reads "Mon-Fri 09:00-15:00 Europe/Berlin". Days may be a list ("Mon,Wed-Fri") or left out; the time zone is UTC when it is
// left out; a span over midnight belongs to the day on which it begins. An empty text is a window that is always open.
func ParseWindow(text string) (Window, error) {
	fields := strings.Fields(text)
	if len(fields) == 0 {
		return Window{}, nil
	}
	w := Window{text: strings.Join(fields, " "), zone: time.UTC}
	wrong := fmt.Errorf("%q is not a window; write one such as Mon-Fri 09:00-15:00 Europe/Berlin", text)
	if strings.Contains(fields[0], ":") {
		w.days = [7]bool{true, true, true, true, true, true, true}
	} else {
		if err := w.parseDays(fields[0]); err != nil {
			return Window{}, err
		}
		fields = fields[1:]
	}
	if len(fields) == 0 || len(fields) > 2 {
		return Window{}, wrong
	}
	from, to, ok := strings.Cut(fields[0], "-")
	var errFrom, errTo error
	w.from, errFrom = parseClock(from)
	w.to, errTo = parseClock(to)
	if !ok || errFrom != nil || errTo != nil || w.from == w.to || w.from == minutesOfDay {
		return Window{}, wrong
	}
	if len(fields) == 2 {
		zone, err := loadZone(fields[1])
		if err != nil {
			return Window{}, err
		}
		w.zone = zone
	}
	return w, nil
}

func (w *Window) parseDays(text string) error {
	for part := range strings.SplitSeq(strings.ToLower(text), ",") {
		first, last, span := strings.Cut(part, "-")
		if !span {
			last = first
		}
		i, j := slices.Index(weekdays[:], first), slices.Index(weekdays[:], last)
		if i < 0 || j < 0 {
			return fmt.Errorf("%q are not days; write some such as Mon-Fri or Tue,Thu", text)
		}
		for ; i != j; i = (i + 1) % len(weekdays) {
			w.days[i] = true
		}
		w.days[j] = true
	}
	return nil
}

// parseClock reads "09:00" as minutes of the day, up to 24:00.
func parseClock(text string) (int, error) {
	hour, minute, ok := strings.Cut(text, ":")
	h, errHour := strconv.ParseUint(hour, 10, 8)
	m, errMinute := strconv.ParseUint(minute, 10, 8)
	if !ok || errHour != nil || errMinute != nil || len(minute) != 2 || m > 59 || h*60+m > minutesOfDay {
		return 0, fmt.Errorf("%q is not a time of the day", text)
	}
	return int(h*60 + m), nil
}

// String is the text as it was written.
func (w Window) String() string { return w.text }

// Always says that the window never closes.
func (w Window) Always() bool { return w.zone == nil }

// Zone is the time zone of the window, UTC for one that is always open.
func (w Window) Zone() *time.Location {
	if w.zone == nil {
		return time.UTC
	}
	return w.zone
}

// Contains says whether the window is open at a time: by what a clock on the wall of its time zone shows, so that a day of 23 or 25 hours
// has its window when people are there.
func (w Window) Contains(at time.Time) bool {
	if w.Always() {
		return true
	}
	at = at.In(w.zone)
	minute, day := at.Hour()*60+at.Minute(), int(at.Weekday())
	if w.from < w.to {
		return w.days[day] && minute >= w.from && minute < w.to
	}
	return (w.days[day] && minute >= w.from) || (w.days[(day+6)%7] && minute < w.to)
}

// change returns the first full minute after a time at which the window is open or closed as asked. It looks for eight days, which is
// longer than any window of the week stays as it is; then it returns the zero time.
func (w Window) change(after time.Time, open bool) time.Time {
	const week = 8 * minutesOfDay
	at := after.Truncate(time.Minute)
	for range week {
		at = at.Add(time.Minute)
		if w.Contains(at) == open {
			return at
		}
	}
	return time.Time{}
}

// Opens returns when a closed window opens next, and now for an open one.
func (w Window) Opens(now time.Time) time.Time {
	if w.Contains(now) {
		return now
	}
	return w.change(now, true)
}

// Closes returns when an open window closes next; the zero time when it does not.
func (w Window) Closes(now time.Time) time.Time {
	if w.Always() || !w.Contains(now) {
		return time.Time{}
	}
	return w.change(now, false)
}

// Freeze is a span of dates in which nothing is deployed and nothing is broken, both dates included.
type Freeze struct {
	text        string
	first, last time.Time // midnights in UTC: they stand for dates alone
	zone        *time.Location
}

// freezeMax keeps a slip of the pen from switching drills off for good.
const freezeMax = 366 * 24 * time.Hour

// ParseFreeze reads "2026-12-24", "2026-12-18..2027-01-04" or either with a time zone behind it. Without one the dates are those of zone.
func ParseFreeze(text string, zone *time.Location) (Freeze, error) {
	wrong := fmt.Errorf("%q is not a span of dates; write one such as 2026-12-18..2027-01-04", text)
	fields := strings.Fields(text)
	if len(fields) == 0 || len(fields) > 2 {
		return Freeze{}, wrong
	}
	if len(fields) == 2 {
		own, err := loadZone(fields[1])
		if err != nil {
			return Freeze{}, err
		}
		zone = own
	}
	from, to, span := strings.Cut(fields[0], "..")
	if !span {
		to = from
	}
	first, errFirst := time.Parse(time.DateOnly, from)
	last, errLast := time.Parse(time.DateOnly, to)
	switch {
	case errFirst != nil || errLast != nil:
		return Freeze{}, wrong
	case last.Before(first):
		return Freeze{}, fmt.Errorf("%q ends before it begins", text)
	case last.Sub(first) > freezeMax:
		return Freeze{}, errors.New("a freeze of more than a year is none; take the entry out of the file")
	}
	return Freeze{text: strings.Join(fields, " "), first: first, last: last, zone: zone}, nil
}

// String is the text as it was written.
func (f Freeze) String() string { return f.text }

// Contains says whether the time is on one of the dates.
func (f Freeze) Contains(at time.Time) bool {
	if f.zone == nil {
		return false
	}
	year, month, day := at.In(f.zone).Date()
	date := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	return !date.Before(f.first) && !date.After(f.last)
}

// Ends returns the first instant after the freeze.
func (f Freeze) Ends() time.Time {
	year, month, day := f.last.AddDate(0, 0, 1).Date()
	return time.Date(year, month, day, 0, 0, 0, 0, f.zone)
}
