package verdict

import (
	"slices"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// settleMin is how long a drill goes on after the last thing it waited for, so that what must not happen gets a chance to happen.
const settleMin = 2 * time.Second

// Decided says that nothing is left to wait for while the impact of a drill is in force: it is proven to bite, and every expectation
// that time decides is met, or is broken for good. What must not happen (a failure, another alarm, a move) cannot be decided by
// waiting; it is given the drill's SteadyFor, at least 2 s, after the last of the others. What comes after the revert is not waited
// for. A drill with none of the first sort is never decided.
func Decided(plan drill.Plan, log []history.Event, step int, now time.Time) (decided bool) {
	defer func() {
		if recover() != nil {
			decided = false // go on to the length that was planned
		}
	}()
	if step < 0 || step >= len(plan.Steps) || plan.Steps[step].Drill == nil {
		return false
	}
	rec := newRecord(plan, log)
	if !rec.steps[step].started {
		return false
	}
	impact := impactOf(rec, step)
	d := &drillCase{rec: rec, step: step, planned: plan.Steps[step], drill: plan.Steps[step].Drill, span: rec.steps[step], impact: &impact}
	d.span.to = now
	began, ok := d.t0()
	if !ok || now.Before(began) {
		return false
	}
	if !d.drill.Attack.OneWay && slices.ContainsFunc(d.bit(), func(c Check) bool { return c.Outcome != history.Passed }) {
		return false
	}
	last, waited := began, false
	for _, expectation := range d.drill.Expectations {
		at, timed, ok := d.decidedAt(expectation, now)
		if timed && !ok {
			return false
		}
		if timed {
			waited = true
			if at.After(last) {
				last = at
			}
		}
	}
	return waited && now.Sub(last) >= max(settleMin, d.drill.SteadyFor.Duration())
}

// decidedAt returns when an expectation was decided; timed is false for those that no waiting decides.
func (d *drillCase) decidedAt(e drill.Expectation, now time.Time) (at time.Time, timed, ok bool) {
	deadline := d.impact.From.Add(e.Within.Duration())
	expired := now.After(deadline)
	switch e.Kind {
	case drill.ExpectAlarm:
		for _, change := range within(d.rec.alarms[e.Alarm], d.impact.From, now) {
			if change.fact.To == history.AlarmRaised {
				return change.at, true, true
			}
		}
		return deadline, true, expired
	case drill.ExpectMoves:
		at = d.impact.From
		for _, place := range d.rec.places() {
			moved, found := d.movedTo(place, e.Environment)
			if !found {
				return deadline, true, expired
			}
			if moved.at.After(at) {
				at = moved.at
			}
		}
		return at, true, true
	case drill.ExpectDatabase:
		if taken, found := d.takenOver(e.Database, now); found {
			return taken.at, true, true
		}
		return deadline, true, expired
	case drill.ExpectLine:
		for _, line := range within(d.rec.lines[logFile{e.Host, e.File}], d.impact.From, now) {
			if line.fact.Pattern == e.Line {
				return line.at, true, true
			}
		}
		return deadline, true, expired
	case drill.ExpectProbeFails:
		if i := d.firstFailure(e.Probe, now); i >= 0 {
			return d.rec.probes[e.Probe][i].scheduled(), true, true
		}
		return deadline, true, expired
	case drill.ExpectProbeBack:
		failed, back := d.probeBack(e.Probe, now)
		if failed.IsZero() || back.IsZero() {
			return deadline, true, expired
		}
		return back, true, true
	case drill.ExpectRecover:
		all, known := d.recoveries(e.Clients)
		if !known {
			return deadline, true, expired
		}
		for _, one := range all {
			// Without a failure so far it may still come, until the time allowed is over.
			if one.open || one.bad == 0 {
				return deadline, true, expired
			}
			if one.to.After(at) {
				at = one.to
			}
		}
		return at, true, true
	}
	return time.Time{}, false, false
}
