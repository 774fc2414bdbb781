package verdict

import (
	"math"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// sample is what is kept of a history.Sample. A log has a million of them: this is a fifth of their size.
type sample struct {
	at                     int64 // when it was scheduled, in nanoseconds since 1970
	seq                    int64
	lag, took              time.Duration
	cause, detail, address uint32 // words
	ok                     bool
	hole                   bool // our own fault: it tells nothing about the service
}

func (s sample) scheduled() time.Time { return time.Unix(0, s.at).UTC() }

// words keeps each text once.
type words struct {
	texts   []string
	numbers map[string]uint32
}

func (w *words) number(text string) uint32 {
	if number, known := w.numbers[text]; known {
		return number
	}
	number := uint32(len(w.texts))
	w.texts = append(w.texts, text)
	w.numbers[text] = number
	return number
}

// The first and the last moment that nanoseconds can tell: a log that says otherwise is not of our time.
var (
	earliest = time.Unix(0, math.MinInt64)
	latest   = time.Unix(0, math.MaxInt64)
)

func nanoseconds(t time.Time) int64 {
	switch {
	case t.Before(earliest):
		return math.MinInt64
	case t.After(latest):
		return math.MaxInt64
	}
	return t.UnixNano()
}

func (rec *record) compact(seq int64, fact *history.Sample) sample {
	return sample{
		at: nanoseconds(fact.Scheduled), seq: seq, lag: fact.Lag.Duration(), took: fact.Took.Duration(),
		cause: rec.words.number(fact.Cause), detail: rec.words.number(fact.Detail), address: rec.words.number(fact.Address),
		ok: fact.OK, hole: fact.Cause == history.CauseProber,
	}
}

// try is the part of a sample that outages are measured from.
func (rec *record) try(s *sample) history.Try {
	return history.Try{At: s.at, Lag: s.lag, Took: s.took, OK: s.ok, Cause: rec.words.texts[s.cause]}
}

// Reading judges a log while it is read, and keeps of it only what the questions need: a million events in less than 200 MiB.
type Reading struct {
	rec    *record
	broken any // what filing an event panicked with
}

// NewReading begins with the plan that the log is judged by.
func NewReading(plan drill.Plan) *Reading { return &Reading{rec: emptyRecord(plan)} }

// Add takes the next event in. A history.Sample may be used again by the caller afterwards; every other fact must stay as it is.
func (r *Reading) Add(event history.Event) {
	defer func() {
		if caught := recover(); caught != nil && r.broken == nil {
			r.broken = caught
		}
	}()
	r.rec.add(event)
}

// Judge is the function Judge of the events that were added. It is called once, after the last.
func (r *Reading) Judge(earlier ...Earlier) Verdict {
	return judge(r.rec.plan, func() *record {
		if r.broken != nil {
			panic(r.broken)
		}
		r.rec.close()
		return r.rec
	}, earlier)
}
