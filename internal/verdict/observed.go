package verdict

import (
	"fmt"
	"slices"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// readAll says whether a log file was being read from from to to without a break, and where the proof stands.
func (d *drillCase) readAll(file logFile, from, to time.Time) (seq int64, all bool) {
	before, ok := lastBefore(d.rec.followed[file], from)
	if !ok || !before.fact.Up {
		return before.seq, false
	}
	broken := slices.ContainsFunc(within(d.rec.followed[file], from, to), func(f seen[*history.Followed]) bool { return !f.fact.Up })
	return before.seq, !broken
}

// lineWritten asks for a line in a log file in time. Without somebody who read the file all the time its silence proves nothing.
func (d *drillCase) lineWritten(name string, e drill.Expectation) Check {
	began, _ := d.t0()
	file, allowed := logFile{e.Host, e.File}, e.Within.Duration()
	for _, line := range within(d.rec.lines[file], began, d.span.to) {
		if line.fact.Pattern != e.Line {
			continue
		}
		took := line.at.Sub(began)
		result := passed(GroupExpectation, name, fmt.Sprintf("Written after %s: %s", secs(took), line.fact.Text), line.seq)
		if took > allowed {
			result = failed(GroupExpectation, name, fmt.Sprintf("Written only after %s; %s are allowed.", secs(took), secs(allowed)), line.seq)
		}
		result.Measured, result.Allowed = quantity(took), quantity(allowed)
		return result
	}
	seq, all := d.readAll(file, began, began.Add(min(allowed, d.span.to.Sub(began))))
	result := failed(GroupExpectation, name, fmt.Sprintf("Not written; %s were allowed.", secs(allowed)), seq)
	switch lasted := d.impactEnd().Sub(began); {
	case !all:
		result = inconclusive(GroupExpectation, name, fmt.Sprintf("%s on %s was not read all the time, so its silence proves nothing.", e.File, e.Host))
	case lasted < allowed:
		result = inconclusive(GroupExpectation, name, fmt.Sprintf("Not written, but the attack lasted only %s of the %s that are allowed.", secs(lasted), secs(allowed)), seq)
	}
	result.Allowed = quantity(allowed)
	return result
}

// noLine asks that a line is never written from T0 to the end.
func (d *drillCase) noLine(name string, e drill.Expectation) Check {
	began, _ := d.t0()
	file := logFile{e.Host, e.File}
	for _, line := range within(d.rec.lines[file], began, d.span.to) {
		if line.fact.Pattern == e.Line {
			return failed(GroupExpectation, name, fmt.Sprintf("Written %s after the attack was in force: %s", secs(line.at.Sub(began)), line.fact.Text), line.seq)
		}
	}
	seq, all := d.readAll(file, began, d.span.to)
	if !all {
		return inconclusive(GroupExpectation, name, fmt.Sprintf("%s on %s was not read all the time, so its silence proves nothing.", e.File, e.Host))
	}
	return passed(GroupExpectation, name, "It was read all the time, and no such line came.", seq)
}

// probeEvery is how often a probe is run.
func (rec *record) probeEvery(name string) time.Duration {
	for _, probe := range rec.plan.Probes {
		if probe.Name == name {
			return probe.Every.Duration()
		}
	}
	return time.Second
}

// probed returns the samples of a probe that were scheduled from from to to, without those that are our own fault, and says whether they
// leave a gap in which nobody looked.
func (rec *record) probed(name string, from, to time.Time) (samples []sample, gap bool) {
	every := rec.probeEvery(name)
	most := every + max(every, edgeMax)
	last := from
	for _, sample := range rec.probes[name] {
		at := sample.scheduled()
		if at.Before(from) || at.After(to) || sample.hole {
			continue
		}
		gap = gap || at.Sub(last) > most
		last = at
		samples = append(samples, sample)
	}
	for _, probe := range rec.plan.Probes {
		if probe.Name == name {
			most += probe.Timeout.Duration() // the last one may be under way still
		}
	}
	return samples, gap || to.Sub(last) > most
}

func failedProbe(s sample) bool { return !s.ok }

// firstFailure is the position in the samples of a probe of the first failure from T0 to to, or -1.
func (d *drillCase) firstFailure(name string, to time.Time) int {
	return slices.IndexFunc(d.rec.probes[name], func(s sample) bool {
		return failedProbe(s) && !s.hole && !s.scheduled().Before(d.impact.From) && !s.scheduled().After(to)
	})
}

// goodInARow is how many good samples end a failure, as for clients.
const goodInARow = 3

// probeBack returns when a probe first failed after T0, and when it was good again for good; zero where that is not known.
func (d *drillCase) probeBack(name string, to time.Time) (failed, back time.Time) {
	samples, _ := d.rec.probed(name, d.impact.From, to)
	row := 0
	for _, sample := range samples {
		if failedProbe(sample) {
			if failed.IsZero() {
				failed = sample.scheduled()
			}
			back, row = time.Time{}, 0
			continue
		}
		if row++; row == 1 {
			back = sample.scheduled()
		}
	}
	if row < goodInARow {
		back = time.Time{}
	}
	return failed, back
}

func (d *drillCase) probeFails(name string, e drill.Expectation) Check {
	began, _ := d.t0()
	allowed, every := e.Within.Duration(), d.rec.probeEvery(e.Probe)
	result := inconclusive(GroupExpectation, name, e.Probe+" was silent.")
	samples, gap := d.rec.probed(e.Probe, began, began.Add(min(allowed, d.span.to.Sub(began))))
	if i := d.firstFailure(e.Probe, d.span.to); i >= 0 {
		sample := d.rec.probes[e.Probe][i]
		took := sample.scheduled().Sub(began)
		result = passed(GroupExpectation, name, fmt.Sprintf("Failed after %s (±%s)%s", secs(took), secs(every), because(d.rec.words.texts[sample.detail])), sample.seq)
		if took > allowed {
			result = failed(GroupExpectation, name, fmt.Sprintf("Failed only after %s; %s are allowed.", secs(took), secs(allowed)), sample.seq)
		}
		result.Measured = bounded(took, every)
	} else if len(samples) > 0 {
		last := samples[len(samples)-1]
		result = failed(GroupExpectation, name, fmt.Sprintf("It was good all the time; %s were allowed for it to fail.", secs(allowed)), last.seq)
		if lasted := d.impactEnd().Sub(began); gap || lasted < allowed {
			result = inconclusive(GroupExpectation, name, fmt.Sprintf("It did not fail, but was not looked at under attack for the whole %s that are allowed.", secs(allowed)), last.seq)
		}
	}
	result.Allowed = quantity(allowed)
	return result
}

func (d *drillCase) probeRecovers(name string, e drill.Expectation) Check {
	began, _ := d.t0()
	allowed, every := e.Within.Duration(), d.rec.probeEvery(e.Probe)
	samples, gap := d.rec.probed(e.Probe, began, d.span.to)
	if len(samples) == 0 {
		return inconclusive(GroupExpectation, name, e.Probe+" was silent.")
	}
	out, back := d.probeBack(e.Probe, d.span.to)
	last := samples[len(samples)-1]
	result := passed(GroupExpectation, name, "It never failed.", last.seq)
	switch {
	case gap:
		result = inconclusive(GroupExpectation, name, "It was not looked at all the time.", last.seq)
	case out.IsZero():
	case back.IsZero() && d.span.to.Sub(began) <= allowed:
		result = inconclusive(GroupExpectation, name, fmt.Sprintf("It had not recovered when watching ended, before the %s that are allowed.", secs(allowed)), last.seq)
	case back.IsZero():
		result = failed(GroupExpectation, name, "It did not recover.", last.seq)
	case back.Sub(began) > allowed:
		result = failed(GroupExpectation, name, fmt.Sprintf("Good again only after %s; %s are allowed.", secs(back.Sub(began)), secs(allowed)), last.seq)
	case back.Sub(began)+every > allowed:
		result = inconclusive(GroupExpectation, name, fmt.Sprintf("%s ±%s is too close to the %s that are allowed to tell.", secs(back.Sub(began)), secs(every), secs(allowed)), last.seq)
	default:
		result = passed(GroupExpectation, name, fmt.Sprintf("Good again after %s (±%s).", secs(back.Sub(began)), secs(every)), last.seq)
	}
	if !back.IsZero() && !out.IsZero() {
		result.Measured = bounded(back.Sub(began), every)
	}
	result.Allowed = quantity(allowed)
	return result
}

func (d *drillCase) probeStaysGood(name string, e drill.Expectation) Check {
	began, _ := d.t0()
	samples, gap := d.rec.probed(e.Probe, began, d.span.to)
	if i := slices.IndexFunc(samples, failedProbe); i >= 0 {
		bad := samples[i]
		return failed(GroupExpectation, name, fmt.Sprintf("It failed %s after the attack was in force%s", secs(bad.scheduled().Sub(began)), because(d.rec.words.texts[bad.detail])), bad.seq)
	}
	if len(samples) == 0 || gap {
		return inconclusive(GroupExpectation, name, "It was not looked at all the time, so its silence proves nothing.")
	}
	return passed(GroupExpectation, name, fmt.Sprintf("Good %s.", times(len(samples))), samples[0].seq, samples[len(samples)-1].seq)
}

// probesBefore asks of the user's probes what is asked of clients: all good before the attack. A probe that fails anyway shows nothing.
func (d *drillCase) probesBefore(at time.Time) []Check {
	var checks []Check
	for _, probe := range d.rec.plan.Probes {
		name := "probe " + probe.Name + " good before"
		window := max(d.drill.SteadyFor.Duration(), 2*probe.Every.Duration())
		samples, _ := d.rec.probed(probe.Name, at.Add(-window-probe.Timeout.Duration()), at.Add(-probe.Timeout.Duration()))
		switch i := slices.IndexFunc(samples, failedProbe); {
		case len(samples) == 0:
			checks = append(checks, inconclusive(GroupSteady, name, "Nothing was heard of it before the attack."))
		case i >= 0:
			checks = append(checks, inconclusive(GroupSteady, name, "It failed before the attack"+because(d.rec.words.texts[samples[i].detail]), samples[i].seq))
		default:
			checks = append(checks, passed(GroupSteady, name, "It was good when the attack began.", samples[len(samples)-1].seq))
		}
	}
	return checks
}
