package schedule

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"time"

	"firedrill/internal/drill"
)

// Entry is something that runs by itself.
type Entry struct {
	Service  string
	Name     string // tells it from all others; what State remembers is kept under it
	Items    []string
	Calendar drill.Calendar
	Jitter   time.Duration // each start is put off by a part of this, the same part for the same moment
	CatchUp  time.Duration // how late a start may be; 0 = never caught up
}

// lateMax is how late a start may always be: a loop that wakes up a little late, or a clock that was set, must not lose a run.
const lateMax = time.Minute

// FromService makes the entries of a service file. After drill.ParseService there is no error.
func FromService(service drill.Service) ([]Entry, error) {
	var entries []Entry
	for _, written := range service.Schedule {
		calendar, err := written.Calendar(service.Freeze)
		if err != nil {
			return nil, fmt.Errorf("schedule %s: %w", written.Name(), err)
		}
		items := service.Pipeline
		if !written.Pipeline {
			items = []string{written.Item()}
		}
		entries = append(entries, Entry{
			Service: service.Name, Name: written.Name(), Items: items, Calendar: calendar,
			Jitter: written.Jitter.Duration(), CatchUp: drill.Seconds(written.CatchUp).Duration(),
		})
	}
	return entries, nil
}

// State is what was before. It is a value that a caller keeps on disk.
type State struct {
	Since   time.Time            `json:"since"`            // moments before this are nobody's business: there was no schedule yet
	Done    map[string]time.Time `json:"done,omitempty"`   // by Entry.Name: the newest moment that was started or given up
	Running map[string]string    `json:"-"`                // by service: what runs now; a run does not outlive its scheduler
	Halted  string               `json:"halted,omitempty"` // why nothing may start until a person has looked; empty: nothing is wrong
}

// Due is an entry at one of its moments.
type Due struct {
	Entry  Entry
	Moment time.Time // what cron says; State.Done keeps it
	Start  time.Time // with jitter
	Why    string    // of a missed one: why it did not run
}

// Status is what there is to say of one entry.
type Status struct {
	Entry Entry
	Next  time.Time // when it starts next, as far as is known; the zero time for never
	Why   string    // why it does not run now
}

// Decision is the answer of Decide. The caller puts the moments of Due and Missed into State.Done before it starts anything, so that a
// crash cannot run one of them again.
type Decision struct {
	Due      []Due
	Missed   []Due
	Next     time.Time // when to ask again at the latest; the zero time when nothing will change by itself
	Statuses []Status  // one for each entry, in their order
}

// Decide says which entries start now, which moments are lost, and why the others do not run. It is a pure function.
func Decide(entries []Entry, now time.Time, state State) Decision {
	d := decider{now: now, state: state, taken: map[string]string{}}
	for service, name := range state.Running {
		d.taken[service] = name
	}
	for _, entry := range entries {
		d.entry(entry)
	}
	return d.decision
}

type decider struct {
	now      time.Time
	state    State
	taken    map[string]string // by service: what runs, or starts by this decision
	decision Decision
}

func (d *decider) entry(entry Entry) {
	status := Status{Entry: entry}
	due, old := d.newest(entry)
	if old != nil {
		d.decision.Missed = append(d.decision.Missed, *old)
	}
	if due != nil {
		hindrance, ends := d.hindrance(entry)
		last := due.Start.Add(entry.late())
		switch {
		case hindrance == "":
			d.taken[entry.Service] = entry.Name
			d.decision.Due = append(d.decision.Due, *due)
			status.Why = "starts now"
		case !ends.IsZero() && ends.After(last):
			due.Why = hindrance
			d.decision.Missed = append(d.decision.Missed, *due)
		default:
			d.ask(last.Add(time.Nanosecond))
			d.ask(ends)
			status.Why = "waits: " + hindrance
		}
	}
	next := entry.nextStart(d.now)
	d.ask(next)
	upcoming, why := entry.upcoming(d.now)
	status.Next = upcoming
	if status.Why == "" {
		status.Why = why
	}
	if d.state.Halted != "" {
		status.Why = "halted: " + d.state.Halted
	}
	d.decision.Statuses = append(d.decision.Statuses, status)
}

// ask puts the next look forward to a time that is still to come.
func (d *decider) ask(at time.Time) {
	if at.After(d.now) && (d.decision.Next.IsZero() || at.Before(d.decision.Next)) {
		d.decision.Next = at
	}
}

// late is how long after its start a moment may still be run.
func (e Entry) late() time.Duration { return max(e.CatchUp, lateMax) }

// newest finds the newest moment that has come and was not dealt with, and one that came too long ago to be run. Of many moments that were
// missed only the newest is run: what a drill proves, it proves once.
func (d *decider) newest(entry Entry) (due, old *Due) {
	since := d.state.Since
	if done := d.state.Done[entry.Name]; done.After(since) {
		since = done
	}
	from := since
	if oldest := d.now.Add(-entry.late() - entry.Jitter); from.Before(oldest) {
		from = oldest.Add(-time.Nanosecond)
		// The search for a due one begins at from, so a moment before it would be lost without a word.
		if lost := lastMoment(entry.Calendar.Cron, since, from); !lost.IsZero() {
			old = &Due{Entry: entry, Moment: lost, Start: lost, Why: d.tooLate(entry)}
		}
	}
	for moment := entry.Calendar.Cron.Next(from); !moment.IsZero() && !moment.After(d.now); moment = entry.Calendar.Cron.Next(moment) {
		start := entry.start(moment)
		switch {
		case start.After(d.now):
			return due, old
		case d.now.Sub(start) > entry.late():
			old = &Due{Entry: entry, Moment: moment, Start: start, Why: d.tooLate(entry)}
		default:
			due = &Due{Entry: entry, Moment: moment, Start: start}
		}
	}
	return due, old
}

// lastMoment returns the last moment after since and not after until, or the zero time. It looks near until first: years of moments
// may lie between the two.
func lastMoment(when drill.Cron, since, until time.Time) time.Time {
	const day = 24 * time.Hour
	for _, span := range []time.Duration{day, 31 * day, 5 * 366 * day} {
		var last time.Time
		from := since
		if near := until.Add(-span); from.Before(near) {
			from = near
		}
		for moment := when.Next(from); !moment.IsZero() && !moment.After(until); moment = when.Next(moment) {
			last = moment
		}
		if !last.IsZero() || from.Equal(since) {
			return last
		}
	}
	return time.Time{}
}

func (d *decider) tooLate(entry Entry) string {
	if other, busy := d.taken[entry.Service]; busy {
		return busyText(other)
	}
	return "nothing looked at the schedule then"
}

func busyText(other string) string { return other + " runs, and a service has one run at a time" }

// hindrance says why an entry may not start now, and when that ends if it is known.
func (d *decider) hindrance(entry Entry) (why string, ends time.Time) {
	if d.state.Halted != "" {
		return "halted: " + d.state.Halted, time.Time{}
	}
	if why, ends := entry.closed(d.now); why != "" {
		return why, ends
	}
	if other, busy := d.taken[entry.Service]; busy {
		return busyText(other), time.Time{}
	}
	return "", time.Time{}
}

// closed says which freeze or window forbids a start at a time, and when it ends.
func (e Entry) closed(at time.Time) (why string, ends time.Time) {
	for _, freeze := range e.Calendar.Freezes {
		if freeze.Contains(at) {
			return fmt.Sprintf("frozen by %s", freeze), freeze.Ends()
		}
	}
	if window := e.Calendar.Window; !window.Contains(at) {
		return fmt.Sprintf("outside of the window %s", window), window.Opens(at)
	}
	return "", time.Time{}
}

// start puts a moment off by its part of the jitter: the same for the same entry and moment, whoever asks and however often. It never
// leaves the window in which the moment is.
func (e Entry) start(moment time.Time) time.Time {
	span := e.Jitter
	if closes := e.Calendar.Window.Closes(moment); !closes.IsZero() {
		span = min(span, closes.Sub(moment))
	}
	if span <= 0 {
		return moment
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(e.Service + "\x00" + e.Name)) // never fails
	part := rand.New(rand.NewPCG(hash.Sum64(), uint64(moment.Unix()))).Int64N(int64(span))
	return moment.Add(time.Duration(part).Truncate(time.Second))
}

// nextStart is when the first moment after a time starts. A moment whose jitter is not over counts.
func (e Entry) nextStart(now time.Time) time.Time {
	from := now.Add(-e.Jitter)
	for {
		moment := e.Calendar.Cron.Next(from)
		if moment.IsZero() {
			return time.Time{}
		}
		if start := e.start(moment); start.After(now) {
			return start
		}
		from = moment
	}
}

// upcomingMax bounds the look for a moment that is neither frozen nor outside of the window.
const upcomingMax = 1000

// upcoming finds the next start that nothing known forbids, and says why one before it will not be.
func (e Entry) upcoming(now time.Time) (at time.Time, why string) {
	at = now
	for range upcomingMax {
		at = e.nextStart(at)
		if at.IsZero() {
			break
		}
		hindrance, ends := e.closed(at)
		switch {
		case hindrance == "" && why == "":
			return at, "not its time yet"
		case hindrance == "":
			return at, why
		case e.CatchUp > 0 && !ends.IsZero() && !ends.After(at.Add(e.CatchUp)):
			return ends, fmt.Sprintf("at %s it is %s", at.In(e.Calendar.Cron.Zone()).Format(time.RFC3339), hindrance)
		case why == "":
			why = fmt.Sprintf("at %s it is %s", at.In(e.Calendar.Cron.Zone()).Format(time.RFC3339), hindrance)
		}
	}
	if why == "" {
		why = "never comes again"
	}
	return time.Time{}, why
}
