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
	if consecutive <= 0 {
		consecutive = Consecutive
	}
	if interval <= 0 {
		return Measured{Void: "the interval of the samples is not known"}
	}
	var measured Measured
	seen := make([]Sample, 0, len(samples))
	for _, s := range samples {
		measured.LagMax = max(measured.LagMax, s.Lag)
		if s.Cause == CauseProber {
			measured.Holes++
			continue
		}
		seen = append(seen, s)
	}
	if len(seen) == 0 {
		measured.Void = "there are no samples"
		return measured
	}
	slices.SortStableFunc(seen, func(a, b Sample) int { return a.Scheduled.Compare(b.Scheduled) })
	measured.Void = voidReason(seen, interval)

	walk := outageWalk{samples: seen, interval: interval, consecutive: consecutive}
	for i := range seen {
		if seen[i].OK {
			measured.Good++
		} else {
			measured.Bad++
		}
		walk.step(i)
	}
	measured.Outages = walk.finish()
	return measured
}

// voidReason returns why these samples, in the order of their schedule, measure nothing.
func voidReason(samples []Sample, interval time.Duration) string {
	tolerated := max(interval, lateMin)
	for i, s := range samples {
		if lag := s.Lag.Duration(); lag > tolerated {
			return fmt.Sprintf("the prober stalled: the sample of %s was sent %v late", clock(s.Scheduled), lag.Round(time.Millisecond))
		}
		if i == 0 {
			continue
		}
		if gap := s.Scheduled.Sub(samples[i-1].Scheduled); gap-interval > tolerated {
			return fmt.Sprintf("the prober did not look for %v before %s", gap.Round(time.Millisecond), clock(s.Scheduled))
		}
	}
	return ""
}

func clock(t time.Time) string { return t.UTC().Format("15:04:05.000") }

// outageWalk goes over ordered samples once.
type outageWalk struct {
	samples     []Sample
	interval    time.Duration
	consecutive int

	found   []Outage
	open    bool
	current Outage
	edge    time.Duration // how long nobody looked before the start of current
	lag     time.Duration // how late its first sample was sent
	good    int           // good samples in a row since the last bad one
}

func (w *outageWalk) step(i int) {
	s := w.samples[i]
	switch {
	case !s.OK && !w.open:
		w.open = true
		w.current = Outage{Start: s.Scheduled, Failed: 1, Cause: s.Cause}
		w.edge, w.lag = w.before(i), s.Lag.Duration()
		w.good = 0
	case !s.OK:
		w.current.Failed++
		w.good = 0
	case w.open:
		w.good++
		if w.good == w.consecutive {
			w.end(i - w.consecutive + 1)
		}
	}
}

// before returns how long nobody looked before sample i.
func (w *outageWalk) before(i int) time.Duration {
	if i == 0 {
		return w.interval
	}
	return max(w.interval, w.samples[i].Scheduled.Sub(w.samples[i-1].Scheduled))
}

// end closes the current outage at sample i, the first good one.
func (w *outageWalk) end(i int) {
	first := w.samples[i]
	w.current.End = first.Scheduled
	w.current.Length = drill.Seconds(first.Scheduled.Sub(w.current.Start))
	// The true start lies after the sample before it, and at the latest when the first bad one was really sent; the true end after the
	// last bad sample, and at the latest when the first good one was answered. So the length is short by at most the one sum, or long
	// by at most the other.
	short := w.edge + first.Lag.Duration() + first.Took.Duration()
	long := w.before(i) + w.lag
	w.current.Error = drill.Seconds(max(short, long))
	w.found = append(w.found, w.current)
	w.open, w.good = false, 0
}

func (w *outageWalk) finish() []Outage {
	if w.open {
		last := w.samples[len(w.samples)-1]
		w.current.Open = true
		w.current.End = last.Scheduled
		w.current.Length = drill.Seconds(last.Scheduled.Sub(w.current.Start))
		w.current.Error = drill.Seconds(w.edge + w.lag)
		w.found = append(w.found, w.current)
	}
	return w.found
}
