package verdict

import (
	"fmt"
	"slices"
	"time"

	"firedrill/internal/history"
)

// t0 is the moment from which everything is measured: in force on the first host.
func (d *drillCase) t0() (time.Time, bool) { return d.impact.From, !d.impact.From.IsZero() }

// impactEnd is the moment until which the disaster is known to have lasted. For one-way kinds it is the end of what was watched,
// because a host that comes back quickly is no excuse for an alarm that never fired.
func (d *drillCase) impactEnd() time.Time {
	if d.drill.Attack.OneWay || d.impact.To.IsZero() {
		return d.span.to
	}
	return d.impact.To
}

// steadyBefore asks whether all was well before anything was broken. Without that nothing seen afterwards can be blamed on the attack.
func (d *drillCase) steadyBefore() []Check {
	at, ok := d.t0()
	if !ok {
		at = d.phaseAt(history.PhaseAttack)
	}
	if at.IsZero() {
		at = d.span.to
	}
	checks := []Check{d.alarmsBefore(at), d.answersBefore(at), d.clientsBefore(at)}
	checks = append(checks, d.probesBefore(at)...)
	for _, check := range d.conductorChecks(true) {
		if check.Outcome != history.Passed {
			check.Outcome = history.Inconclusive // nothing was broken yet, so nothing can have failed
		}
		check.Group, check.NotReverted = GroupSteady, false
		checks = append(checks, check)
	}
	return append(checks, d.phasesSeen())
}

func (d *drillCase) phaseAt(name string) time.Time {
	for _, phase := range d.rec.phases {
		if phase.fact.Step == d.step && phase.fact.Phase == name {
			return phase.at
		}
	}
	return time.Time{}
}

const phasesName = "phases in order"

// phasesSeen demands the phases of a drill, in their order.
func (d *drillCase) phasesSeen() Check {
	wanted := []string{history.PhaseSteadyBefore, history.PhaseAttack, history.PhaseRevert, history.PhaseSteadyAfter}
	if d.drill.Attack.OneWay {
		wanted = slices.DeleteFunc(wanted, func(phase string) bool { return phase == history.PhaseRevert })
	}
	var seqs []int64
	next := 0
	for _, phase := range d.rec.phases {
		if phase.fact.Step == d.step && next < len(wanted) && phase.fact.Phase == wanted[next] {
			seqs = append(seqs, phase.seq)
			next++
		}
	}
	if next < len(wanted) {
		return inconclusive(GroupRun, phasesName, fmt.Sprintf("The drill never came to the phase %q.", wanted[next]), seqs...)
	}
	return passed(GroupRun, phasesName, "Watched before, attacked, reverted, watched after.", seqs...)
}

func (d *drillCase) alarmsBefore(at time.Time) Check {
	const name = "alarms OK before"
	var seqs []int64
	var silent, raised []string
	for _, alarm := range d.rec.plan.Alarms {
		if alarm.Disabled {
			continue
		}
		last, ok := lastBefore(d.rec.alarms[alarm.Name], at)
		switch {
		case !ok:
			silent = append(silent, alarm.Name)
			continue
		case last.fact.To != history.AlarmOK:
			raised = append(raised, alarm.Name+" was "+last.fact.To)
		}
		seqs = append(seqs, last.seq)
	}
	switch {
	case d.rec.watchLost(at, at):
		return inconclusive(GroupSteady, name, "The watch was not heard when the attack began.", seqs...)
	case len(raised) > 0:
		return inconclusive(GroupSteady, name, "Not all was well before the attack: "+list(raised)+".", seqs...)
	case len(silent) > 0:
		return inconclusive(GroupSteady, name, "Nothing was heard of these alarms before the attack: "+list(silent)+".", seqs...)
	case len(seqs) == 0:
		return inconclusive(GroupSteady, name, "The plan has no alarm, so nobody was watching.")
	}
	return passed(GroupSteady, name, fmt.Sprintf("%s OK when the attack began.", isAre(len(seqs), "alarm")), seqs...)
}

func isAre(n int, word string) string {
	if n == 1 {
		return "1 " + word + " was"
	}
	return plural(n, word) + " were"
}

func (d *drillCase) answersBefore(at time.Time) Check {
	const name = "answer before"
	places := d.rec.places()
	if len(places) == 0 {
		return inconclusive(GroupSteady, name, "No name server was asked, so nobody knows where clients were sent.")
	}
	var seqs []int64
	var wrong []string
	for _, place := range places {
		last, ok := lastBefore(d.rec.answers[place], at)
		if !ok {
			wrong = append(wrong, place.server+" was not asked for "+place.name)
			continue
		}
		seqs = append(seqs, last.seq)
		if got := d.rec.environmentOf(last.fact); got != d.planned.Live {
			wrong = append(wrong, fmt.Sprintf("%s answered %s", place.server, orNothing(got)))
		}
	}
	if len(wrong) > 0 {
		return inconclusive(GroupSteady, name, fmt.Sprintf("Clients were to be sent to %s, but %s.", d.planned.Live, list(wrong)), seqs...)
	}
	who := "Every name server"
	if places[0].served() {
		who = "Every place that was asked"
	}
	return passed(GroupSteady, name, fmt.Sprintf("%s sent clients to %s.", who, d.planned.Live), seqs...)
}

func orNothing(environment string) string {
	if environment == "" {
		return "nothing usable"
	}
	return environment
}

// clientsBefore looks at the samples that ended before the attack: one that was under way when it began tells of the attack.
func (d *drillCase) clientsBefore(at time.Time) Check {
	const name = "clients served before"
	if len(d.rec.clients()) == 0 {
		return inconclusive(GroupSteady, name, "No client was measured.")
	}
	from := at.Add(-d.drill.SteadyFor.Duration())
	if d.drill.SteadyFor <= 0 || from.Before(d.span.from) {
		from = d.span.from
	}
	count, bad, first := 0, []int64(nil), nanoseconds(from)
	for _, client := range d.rec.clients() {
		own := 0
		for _, sample := range d.rec.samples[client] {
			if sample.at < first || sample.hole || sample.at > nanoseconds(at) || sample.scheduled().Add(sample.lag+sample.took).After(at) {
				continue
			}
			own++
			if !sample.ok {
				bad = append(bad, sample.seq)
			}
		}
		if own == 0 {
			return inconclusive(GroupSteady, name, fmt.Sprintf("Client %s was silent before the attack.", client))
		}
		count += own
	}
	if len(bad) > 0 {
		return inconclusive(GroupSteady, name, fmt.Sprintf("%d of %d requests failed before the attack.", len(bad), count), bad...)
	}
	return passed(GroupSteady, name, fmt.Sprintf("%s served in the %s before the attack.", allWere(count), secs(at.Sub(from))))
}

func allWere(n int) string {
	if n == 1 {
		return "The only request was"
	}
	return fmt.Sprintf("All %d requests were", n)
}

// brokenOff says that somebody ended the run in the middle of this step.
func (d *drillCase) brokenOff() bool {
	return d.rec.end != nil && d.rec.end.fact.Outcome == history.Interrupted && !d.rec.steps[d.step].finished
}

// steadyAfter asks when all was well again for good: the last moment after the revert at which an alarm was not OK, a name server
// answered wrongly or a client failed. All must then stay well until the end of what was watched.
func (d *drillCase) steadyAfter(name string, allowed time.Duration) Check {
	reverted := d.impact.To
	if reverted.IsZero() {
		return inconclusive(GroupExpectation, name, "The end of the impact is not known, so nothing can be measured from it.")
	}
	well := &recovery{from: reverted, at: reverted}
	d.alarmsAfter(well)
	d.answersAfter(well)
	d.clientsAfter(well)
	if len(well.silent) > 0 {
		return inconclusive(GroupExpectation, name, "It cannot be told: "+list(well.silent)+".", well.seqs...)
	}
	if len(well.bad) > 0 && d.brokenOff() {
		return inconclusive(GroupExpectation, name, "The run was interrupted before it could be told; then not all was well: "+list(well.bad)+".", well.seqs...)
	}
	if len(well.bad) > 0 {
		return failed(GroupExpectation, name, "At the end not all was well: "+list(well.bad)+".", well.seqs...)
	}
	took := well.at.Sub(reverted)
	outcome, why := history.Passed, fmt.Sprintf("All was well %s after the revert and stayed so.", secs(took))
	if allowed > 0 && took > allowed {
		outcome, why = history.Failed, fmt.Sprintf("All was well only %s after the revert; %s is allowed.", secs(took), secs(allowed))
	} else if held := d.watchedUntil().Sub(well.at); held < d.drill.SteadyFor.Duration()/2 {
		// Half, because whoever ends the watching counts from when the last word reached it, not from when it was true.
		outcome, why = history.Inconclusive, fmt.Sprintf("All was well for only %s before watching ended; %s is needed.", secs(held), secs(d.drill.SteadyFor.Duration()))
	}
	result := check(outcome, GroupExpectation, name, why, well.seqs)
	result.Measured = quantity(took)
	if allowed > 0 {
		result.Allowed = quantity(allowed)
	}
	return result
}

// watchedUntil is when the drill was over. The step ends after it, by the time that it takes to judge it, which is no time of watching.
func (d *drillCase) watchedUntil() time.Time {
	if done := d.phaseAt(history.PhaseDone); !done.IsZero() {
		return done
	}
	return d.span.to
}

// recovery gathers the last moment at which something was not well.
type recovery struct {
	from, at    time.Time
	seqs        []int64
	bad, silent []string
}

func (r *recovery) later(at time.Time, seq int64) {
	if at.After(r.at) {
		r.at = at
	}
	r.seqs = append(r.seqs, seq)
}

func (d *drillCase) alarmsAfter(well *recovery) {
	if d.rec.watchLost(d.span.to, d.span.to) {
		well.silent = append(well.silent, "the watch was not heard at the end")
	}
	for _, alarm := range d.rec.plan.Alarms {
		if alarm.Disabled {
			continue
		}
		last, ok := lastBefore(d.rec.alarms[alarm.Name], d.span.to)
		switch {
		case !ok:
			well.silent = append(well.silent, "nothing was heard of "+alarm.Name)
		case last.fact.To == history.AlarmInsufficient:
			well.silent = append(well.silent, alarm.Name+" has too little data")
		case last.fact.To != history.AlarmOK:
			well.bad = append(well.bad, alarm.Name+" is "+last.fact.To)
			well.seqs = append(well.seqs, last.seq)
		case last.at.After(well.from):
			well.later(last.at, last.seq)
		}
	}
}

func (d *drillCase) answersAfter(well *recovery) {
	places := d.rec.places()
	if len(places) == 0 {
		well.silent = append(well.silent, "no name server was asked")
	}
	for _, place := range places {
		last, fresh := d.lastAnswer(place)
		if !fresh {
			well.silent = append(well.silent, place.server+" was not asked after the revert")
			continue
		}
		after := within(d.rec.answers[place], well.from, d.span.to)
		if got := d.rec.environmentOf(last.fact); got != d.planned.LiveAfter {
			well.bad = append(well.bad, fmt.Sprintf("%s answers %s instead of %s", place.server, orNothing(got), d.planned.LiveAfter))
			well.seqs = append(well.seqs, last.seq)
			continue
		}
		for i := len(after) - 1; i >= 0 && d.rec.environmentOf(after[i].fact) == d.planned.LiveAfter; i-- {
			last = after[i]
		}
		if len(after) > 0 && last.seq != after[0].seq {
			well.later(last.at, last.seq)
		}
	}
}

// unseenAfter says that all that was seen after the revert was well, and that a client, or something else that must be seen, was lost meanwhile, or could not look
// in time just before the moment when it was asked: then nobody knows whether all was well, which is not to say that it was not.
func (d *drillCase) unseenAfter(asked time.Time) bool {
	reverted := d.impact.To
	if reverted.IsZero() {
		return false
	}
	well := &recovery{from: reverted, at: reverted}
	d.alarmsAfter(well)
	d.answersAfter(well)
	d.clientsAfter(well)
	for _, client := range d.rec.clients() {
		measured, _ := d.rec.measure(client, reverted, d.span.to)
		late := slices.ContainsFunc(d.rec.samplesIn(client, asked.Add(-d.asksBack(client)), asked), func(s sample) bool { return s.hole })
		if measured.Void != "" || late {
			well.silent = append(well.silent, client)
		}
	}
	return len(well.silent) > 0 && len(well.bad) == 0
}

// asksBack is how far back the samples of a client decide whether all is steady: each question looks as far back as it must be steady, a few samples at least, and as
// a sample may take to be known; and it was steady for too short a time since the last question that found it was not.
func (d *drillCase) asksBack(client string) time.Duration {
	back := max(d.drill.SteadyFor.Duration(), 5*d.rec.every(client)) + d.drill.SteadyFor.Duration()
	for _, known := range d.rec.plan.Clients {
		if known.Name == client {
			back += known.Timeout.Duration()
		}
	}
	return back + 2*time.Second // they come over a network
}

func (d *drillCase) clientsAfter(well *recovery) {
	clients := d.rec.clients()
	if len(clients) == 0 {
		well.silent = append(well.silent, "no client was measured")
	}
	for _, client := range clients {
		count := 0
		var last, latest *sample
		samples := d.rec.samplesIn(client, well.from, d.span.to)
		for i := range samples {
			if samples[i].hole {
				continue
			}
			count++
			latest = &samples[i]
			if !samples[i].ok {
				last = &samples[i]
			}
		}
		if latest != nil && !latest.ok {
			well.bad, well.seqs = append(well.bad, client+" is not served"), append(well.seqs, latest.seq)
			continue
		}
		if count == 0 {
			well.silent = append(well.silent, "client "+client+" was silent after the revert")
		}
		if last != nil {
			well.later(last.scheduled().Add(d.rec.every(client)), last.seq)
		}
	}
}
