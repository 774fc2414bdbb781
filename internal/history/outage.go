package history

import (
	"fmt"
	"slices"
	"time"

	"firedrill/internal/drill"
)

// CauseProber marks a sample that says nothing about the service: our own prober was at fault (it stalled, had too many tries under way
// or no file descriptor left). Such a sample is neither good nor bad; it is a hole.
const CauseProber = "prober"

// Consecutive is how many good samples in a row end an outage: one alone may be luck.
const Consecutive = 3

// lateMin is the lag or hole below which a measurement is never void, however short its interval: a busy scheduler is not a stalled one.
// What it costs in accuracy stands in the error bound.
const lateMin = time.Second

// Outage is a time during which clients were not served.
type Outage struct {
	Start  time.Time     `json:"start"`          // scheduled time of the first failed sample
	End    time.Time     `json:"end"`            // scheduled time of the first of the good samples in a row; when Open, of the last sample
	Length drill.Seconds `json:"length_seconds"` // End minus Start; when Open, at least this
	Error  drill.Seconds `json:"error_seconds"`  // the true length differs by no more than this
	Failed int           `json:"failed"`         // failed samples from Start to End
	Cause  string        `json:"cause"`          // of the first failed sample
	Open   bool          `json:"open,omitempty"` // the samples end before the outage does
}

// Measured is what samples of one probe say about outages.
type Measured struct {
	Outages []Outage      `json:"outages,omitempty"`
	Good    int           `json:"good"`
	Bad     int           `json:"bad"`
	Holes   int           `json:"holes,omitempty"` // samples that are our own fault
	LagMax  drill.Seconds `json:"lag_max_seconds"`
	Void    string        `json:"void,omitempty"` // why nothing may be concluded; empty: the figures hold
}

// Outages measures outages from the samples of one probe, sent every interval on an open loop; consecutive good samples end one
// (Consecutive if it is 0). The order of samples does not matter: each belongs to its scheduled time.
//
// The error bound of an outage is the distance to the neighbouring sample at its edges (the interval, when none is missing), plus how
// late the deciding ones were sent, plus how long the first good one took: a try may begin before the service is back and be answered
// after.
// Samples sent later than the interval, or missing for longer, void the measurement (with a grace of one second for short intervals): a
// prober that waits for slow answers does not see the time in which it did not look.
func Outages(samples []Sample, interval time.Duration, consecutive int) Measured {
	ordered := make([]*Sample, len(samples))
	for i := range samples {
		ordered[i] = &samples[i]
	}
	slices.SortStableFunc(ordered, func(a, b *Sample) int { return a.Scheduled.Compare(b.Scheduled) })
	return OutagesOf(len(ordered), func(i int) Try {
		s := ordered[i]
		return Try{At: s.Scheduled.UnixNano(), Lag: s.Lag.Duration(), Took: s.Took.Duration(), OK: s.OK, Cause: s.Cause}
	}, interval, consecutive)
}

// Try is the part of a sample that outages are measured from.
type Try struct {
	At        int64 // when it was scheduled, in nanoseconds since 1970
	Lag, Took time.Duration
	OK        bool
	Cause     string
}

func (t Try) scheduled() time.Time { return time.Unix(0, t.At).UTC() }

// OutagesOf is Outages of count tries in the order of their schedule, one at a time.
func OutagesOf(count int, at func(int) Try, interval time.Duration, consecutive int) Measured {
	if consecutive <= 0 {
		consecutive = Consecutive
	}
	if interval <= 0 {
		return Measured{Void: "the interval of the samples is not known"}
	}
	var measured Measured
	walk := outageWalk{interval: interval, consecutive: consecutive}
	for i := range count {
		try := at(i)
		measured.LagMax = max(measured.LagMax, drill.Seconds(try.Lag))
		if try.Cause == CauseProber {
			measured.Holes++
			continue
		}
		if try.OK {
			measured.Good++
		} else {
			measured.Bad++
		}
		if measured.Void == "" {
			measured.Void = walk.void(try)
		}
		walk.step(try)
	}
	if !walk.begun {
		measured.Void = "there are no samples"
		return measured
	}
	measured.Outages = walk.finish()
	return measured
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

// outageWalk goes over ordered tries once.
type outageWalk struct {
	interval    time.Duration
	consecutive int

	begun bool
	last  Try // the one before

	found   []Outage
	open    bool
	current Outage
	edge    time.Duration // how long nobody looked before the start of current
	lag     time.Duration // how late its first sample was sent

	good       int           // good samples in a row since the last bad one
	first      Try           // of them
	firstAfter time.Duration // how long nobody looked before it
}

// void returns why the tries up to this one measure nothing, or "".
func (w *outageWalk) void(try Try) string {
	tolerated := max(w.interval, lateMin)
	if try.Lag > tolerated {
		return fmt.Sprintf("the prober stalled: the sample of %s was sent %v late", clock(try.scheduled()), try.Lag.Round(time.Millisecond))
	}
	if gap := time.Duration(try.At - w.last.At); w.begun && gap-w.interval > tolerated {
		return fmt.Sprintf("the prober did not look for %v before %s", gap.Round(time.Millisecond), clock(try.scheduled()))
	}
	return ""
}

func (w *outageWalk) step(try Try) {
	switch {
	case !try.OK && !w.open:
		w.open = true
		w.current = Outage{Start: try.scheduled(), Failed: 1, Cause: try.Cause}
		w.edge, w.lag = w.before(try), try.Lag
		w.good = 0
	case !try.OK:
		w.current.Failed++
		w.good = 0
	case w.open:
		if w.good++; w.good == 1 {
			w.first, w.firstAfter = try, w.before(try)
		}
		if w.good == w.consecutive {
			w.end()
		}
	}
	w.begun, w.last = true, try
}

// before returns how long nobody looked before a try.
func (w *outageWalk) before(try Try) time.Duration {
	if !w.begun {
		return w.interval
	}
	return max(w.interval, time.Duration(try.At-w.last.At))
}

// end closes the current outage at the first of the good tries in a row.
func (w *outageWalk) end() {
	w.current.End = w.first.scheduled()
	w.current.Length = drill.Seconds(w.current.End.Sub(w.current.Start))
	// The true start lies after the sample before it, and at the latest when the first bad one was really sent; the true end after the
	// last bad sample, and at the latest when the first good one was answered. So the length is short by at most the one sum, or long
	// by at most the other.
	short := w.edge + w.first.Lag + w.first.Took
	long := w.firstAfter + w.lag
	w.current.Error = drill.Seconds(max(short, long))
	w.found = append(w.found, w.current)
	w.open, w.good = false, 0
}

func (w *outageWalk) finish() []Outage {
	if w.open {
		w.current.Open = true
		w.current.End = w.last.scheduled()
		w.current.Length = drill.Seconds(w.current.End.Sub(w.current.Start))
		w.current.Error = drill.Seconds(w.edge + w.lag)
		w.found = append(w.found, w.current)
	}
	return w.found
}
