package verdict

import (
	"fmt"
	"slices"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// expectations answers each expectation of the plan, and the one that no drill may lack: that all is well again afterwards.
func (d *drillCase) expectations() []Check {
	var checks []Check
	steady := false
	for _, expectation := range d.drill.Expectations {
		checks = append(checks, d.expectation(expectation))
		if expectation.Kind == drill.ExpectMoves {
			checks = append(checks, d.clientsFollow()...)
		}
		steady = steady || expectation.Kind == drill.ExpectSteadyAfter
	}
	checks = append(checks, d.sparesKept()...)
	if !steady {
		checks = append(checks, d.steadyAfter("steady state after the revert", d.drill.SteadyWithin.Duration()))
	}
	return checks
}

func (d *drillCase) expectation(e drill.Expectation) Check {
	name := e.Text
	if name == "" {
		name = e.Kind
	}
	if _, known := d.t0(); !known && e.Kind != drill.ExpectNoLoss {
		return inconclusive(GroupExpectation, name, "The attack never was in force, so nothing can be measured from it.")
	}
	switch e.Kind {
	case drill.ExpectAlarm:
		return d.alarmRaised(name, e)
	case drill.ExpectAlarmOK:
		return d.alarmStays(name, e.Alarm)
	case drill.ExpectNoOther:
		return d.noOther(name)
	case drill.ExpectMoves:
		return d.answerMoves(name, e)
	case drill.ExpectStays:
		return d.answerStays(name, e)
	case drill.ExpectRecover:
		return d.recoversWithin(GroupExpectation, name, e.Within.Duration(), e.Clients)
	case drill.ExpectNoFailure:
		return d.noFailure(name, e.Clients)
	case drill.ExpectAvailable:
		return d.available(GroupExpectation, name, e.Value)
	case drill.ExpectSteadyAfter:
		return d.steadyAfter(name, e.Within.Duration())
	case drill.ExpectNoLoss:
		return d.noLoss(GroupExpectation, name, e.Within.Duration())
	case drill.ExpectDatabase:
		return d.databaseFailsOver(name, e)
	case drill.ExpectFenced:
		return d.oldPrimaryFenced(name, e)
	case drill.ExpectNoDouble, drill.ExpectNoStale, drill.ExpectInDoubt:
		return d.ledgerHolds(name, e)
	case drill.ExpectSameRelease:
		return d.sameRelease(name)
	case drill.ExpectLatency:
		return d.answeredWithin(name, e.Value, e.Within.Duration())
	case drill.ExpectMovesBack:
		return d.answerMovesBack(name, e)
	case drill.ExpectLine:
		return d.lineWritten(name, e)
	case drill.ExpectNoLine:
		return d.noLine(name, e)
	case drill.ExpectProbeFails:
		return d.probeFails(name, e)
	case drill.ExpectProbeBack:
		return d.probeRecovers(name, e)
	case drill.ExpectProbeGood:
		return d.probeStaysGood(name, e)
	}
	return inconclusive(GroupExpectation, name, fmt.Sprintf("This version does not know an expectation of kind %q.", e.Kind))
}

// alarmRaised asks for OK before, ALARM within the time allowed, and OK again after the revert.
func (d *drillCase) alarmRaised(name string, e drill.Expectation) Check {
	began, _ := d.t0()
	changes := d.rec.alarms[e.Alarm]
	before, ok := lastBefore(changes, began)
	if !ok {
		return inconclusive(GroupExpectation, name, "Nothing was heard of "+e.Alarm+" before the attack, so nobody knows whether it was watching.")
	}
	if before.fact.To != history.AlarmOK {
		return inconclusive(GroupExpectation, name, fmt.Sprintf("%s was %s already when the attack began.", e.Alarm, before.fact.To), before.seq)
	}
	after := within(changes, began, d.span.to)
	i := slices.IndexFunc(after, func(a seen[*history.Alarm]) bool { return a.fact.To == history.AlarmRaised })
	allowed := e.Within.Duration()
	if i < 0 {
		result := failed(GroupExpectation, name, fmt.Sprintf("%s was not raised; %s were allowed.", e.Alarm, secs(allowed)), before.seq)
		if d.impactEnd().Sub(began) < allowed {
			result = inconclusive(GroupExpectation, name, fmt.Sprintf("%s was not raised, but the attack lasted only %s of the %s that are allowed.", e.Alarm, secs(d.impactEnd().Sub(began)), secs(allowed)), before.seq)
		}
		if d.rec.watchLost(began, d.span.to) {
			result = inconclusive(GroupExpectation, name, e.Alarm+" was not heard, but neither was the watch all the time.", before.seq)
		}
		if lost, silent := d.sourceSilent(e.Alarm, after); silent {
			result = inconclusive(GroupExpectation, name, fmt.Sprintf("%s was not raised, but its source fell silent: %s", e.Alarm, sentence(lost.fact.Reason)), before.seq, lost.seq)
		}
		result.Allowed = quantity(allowed)
		return result
	}
	raised := after[i]
	result := d.clearedAgain(name, raised, after[i+1:], before.seq)
	if took := raised.at.Sub(began); took > allowed {
		result = failed(GroupExpectation, name, fmt.Sprintf("%s was raised only after %s; %s are allowed.", e.Alarm, secs(took), secs(allowed)), before.seq, raised.seq)
	}
	result.Measured, result.Allowed = quantity(raised.at.Sub(began)), quantity(allowed)
	if raised.fact.Origin != "" {
		result.Explanation += fmt.Sprintf(" Seen in %s, which was asked %s before.", raised.fact.Origin, secs(raised.fact.Bound.Duration()))
	}
	return result
}

// sourceSilent returns when the system that an alarm lives in stopped telling of it. An alarm of our own that has no data while the disaster
// lasts is one that does not work; of another's we only know that we do not know.
func (d *drillCase) sourceSilent(alarm string, changes []seen[*history.Alarm]) (lost seen[*history.Alarm], silent bool) {
	i := slices.IndexFunc(d.rec.plan.Alarms, func(a drill.Alarm) bool { return a.Name == alarm })
	if i < 0 || d.rec.plan.Alarms[i].Source == nil {
		return lost, false
	}
	for _, change := range changes {
		if change.fact.To == history.AlarmInsufficient {
			return change, true
		}
	}
	return lost, false
}

// clearedAgain asks for the way back: an alarm that stays would hide the next disaster.
func (d *drillCase) clearedAgain(name string, raised seen[*history.Alarm], later []seen[*history.Alarm], before int64) Check {
	took := raised.at.Sub(d.impact.From)
	state := history.AlarmRaised
	if len(later) > 0 {
		last := later[len(later)-1]
		if state = last.fact.To; state == history.AlarmOK {
			return passed(GroupExpectation, name, fmt.Sprintf("Raised after %s, cleared %s later.", secs(took), secs(last.at.Sub(raised.at))), before, raised.seq, last.seq)
		}
	}
	if d.impact.To.IsZero() || d.phaseAt(history.PhaseSteadyAfter).IsZero() || d.brokenOff() || state == history.AlarmInsufficient {
		return inconclusive(GroupExpectation, name, fmt.Sprintf("%s was raised after %s, but is not known to have cleared: it was %s at the end.", raised.fact.Name, secs(took), state), before, raised.seq)
	}
	return failed(GroupExpectation, name, fmt.Sprintf("%s was raised after %s, but did not clear after the revert.", raised.fact.Name, secs(took)), before, raised.seq)
}

// alarmStays asks for OK at T0 and no change of state until the end.
func (d *drillCase) alarmStays(name, alarm string) Check {
	began, _ := d.t0()
	before, ok := lastBefore(d.rec.alarms[alarm], began)
	if !ok {
		return inconclusive(GroupExpectation, name, "Nothing was heard of this alarm, so its silence proves nothing.")
	}
	if before.fact.To != history.AlarmOK {
		return inconclusive(GroupExpectation, name, fmt.Sprintf("The alarm was %s already when the attack began.", before.fact.To), before.seq)
	}
	for _, change := range within(d.rec.alarms[alarm], began, d.span.to) {
		switch change.fact.To {
		case history.AlarmRaised:
			return failed(GroupExpectation, name, fmt.Sprintf("%s was raised %s after the attack was in force.", alarm, secs(change.at.Sub(began))), before.seq, change.seq)
		case history.AlarmInsufficient:
			return inconclusive(GroupExpectation, name, "The alarm lost its data, so its silence proves nothing.", before.seq, change.seq)
		}
	}
	if d.rec.watchLost(began, d.span.to) {
		return inconclusive(GroupExpectation, name, "The watch was not heard all the time, so the silence proves nothing.", before.seq)
	}
	return passed(GroupExpectation, name, "It was OK before and stayed OK.", before.seq)
}

// noOther asks that none but the expected alarms was raised.
func (d *drillCase) noOther(name string) Check {
	began, _ := d.t0()
	var expected []string
	for _, e := range d.drill.Expectations {
		if e.Kind == drill.ExpectAlarm {
			expected = append(expected, e.Alarm)
		}
	}
	var names, silent, raised []string
	for alarm := range d.rec.alarms {
		names = append(names, alarm)
	}
	for _, alarm := range d.rec.plan.Alarms {
		if !alarm.Disabled && (!slices.Contains(names, alarm.Name) || !slices.Contains(expected, alarm.Name) && d.unheard(alarm, began)) {
			silent = append(silent, alarm.Name)
		}
	}
	slices.Sort(names)
	var seqs []int64
	others := 0
	for _, alarm := range names {
		if slices.Contains(expected, alarm) {
			continue
		}
		others++
		for _, change := range within(d.rec.alarms[alarm], began, d.span.to) {
			if change.fact.To == history.AlarmRaised {
				raised, seqs = append(raised, alarm), append(seqs, change.seq)
			}
		}
	}
	switch {
	case len(raised) > 0:
		return failed(GroupExpectation, name, "Raised although nothing was done to it: "+list(slices.Compact(raised))+".", seqs...)
	case d.rec.watchLost(began, d.span.to):
		return inconclusive(GroupExpectation, name, "The watch was not heard all the time, so the silence proves nothing.")
	case len(silent) > 0:
		return inconclusive(GroupExpectation, name, "Nothing was heard of "+list(silent)+", or not all the time, so the silence proves nothing.")
	case len(names) == 0:
		return inconclusive(GroupExpectation, name, "No alarm was heard at all, so the silence proves nothing.")
	}
	return passed(GroupExpectation, name, fmt.Sprintf("%s stayed quiet.", plural(others, "other alarm")))
}

// unheard says that the system that an alarm lives in did not tell of it all the time.
func (d *drillCase) unheard(alarm drill.Alarm, began time.Time) bool {
	if alarm.Source == nil {
		return false
	}
	changes := d.rec.alarms[alarm.Name]
	before, known := lastBefore(changes, began)
	_, silent := d.sourceSilent(alarm.Name, within(changes, began, d.span.to))
	return !known || before.fact.To == history.AlarmInsufficient || silent
}

// answerStale is how old the last word of a name server may be to stand for what it says now: a name server is asked several times a
// second, and an unchanged answer is written again every 5 s.
const answerStale = 12 * time.Second

// lastAnswer returns what a name server said last in this step; fresh is false when that is too long ago.
func (d *drillCase) lastAnswer(place answerPlace) (last seen[*history.Answer], fresh bool) {
	last, ok := lastBefore(d.rec.answers[place], d.span.to)
	return last, ok && d.span.to.Sub(last.at) <= answerStale
}

// answerMoves asks every name server: elsewhere before, moved in time, and still there at the end.
func (d *drillCase) answerMoves(name string, e drill.Expectation) Check {
	began, _ := d.t0()
	allowed := e.Within.Duration()
	places := d.rec.places()
	if len(places) == 0 {
		return inconclusive(GroupExpectation, name, "The plan names nothing that could move.")
	}
	var slow time.Duration
	var seqs []int64
	for _, place := range places {
		before, ok := lastBefore(d.rec.answers[place], began)
		if !ok || d.rec.environmentOf(before.fact) != d.planned.Live {
			return inconclusive(GroupExpectation, name, fmt.Sprintf("%s is not known to have sent clients to %s before, so no move can be told.", place.server, d.planned.Live), seqs...)
		}
		moved, ok := d.movedTo(place, e.Environment)
		if !ok {
			return d.notMoved(name, place, e, before.seq)
		}
		seqs = append(seqs, before.seq, moved.seq)
		slow = max(slow, moved.at.Sub(began))
		last, fresh := d.lastAnswer(place)
		wanted := d.movedWanted(e)
		switch got := d.rec.environmentOf(last.fact); {
		case got != wanted:
			return failed(GroupExpectation, name, fmt.Sprintf("%s moved to %s, but answers %s at the end.", place.server, e.Environment, orNothing(got)), append(seqs, last.seq)...)
		case d.wavered(place, moved.at, e).fact != nil:
			again := d.wavered(place, moved.at, e)
			why := fmt.Sprintf("%s moved to %s and %s later answered %s again: clients are sent back and forth.", place.server, e.Environment, secs(again.at.Sub(moved.at)), orNothing(d.rec.environmentOf(again.fact)))
			return failed(GroupExpectation, name, why, append(seqs, again.seq)...)
		case !fresh:
			return inconclusive(GroupExpectation, name, fmt.Sprintf("%s moved, but was not asked again at the end.", place.server), seqs...)
		}
	}
	outcome, why := history.Passed, fmt.Sprintf("%s moved to %s after %s.", placesWord(places), e.Environment, secs(slow))
	if slow > allowed {
		outcome, why = history.Failed, fmt.Sprintf("%s moved to %s only after %s; %s are allowed.", placesWord(places), e.Environment, secs(slow), secs(allowed))
	}
	result := check(outcome, GroupExpectation, name, why, seqs)
	result.Measured, result.Allowed = quantity(slow), quantity(allowed)
	return result
}

// placesWord says who was asked: name servers, or those who show in another way where a name leads.
func placesWord(places []answerPlace) string {
	one, many := "The name server", "name servers"
	if places[0].served() {
		one, many = places[0].server, "places that were asked"
	}
	if len(places) == 1 {
		return one
	}
	return fmt.Sprintf("All %d %s", len(places), many)
}

func (d *drillCase) movedTo(place answerPlace, environment string) (seen[*history.Answer], bool) {
	for _, answer := range within(d.rec.answers[place], d.impact.From, d.span.to) {
		if d.rec.environmentOf(answer.fact) == environment {
			return answer, true
		}
	}
	return seen[*history.Answer]{}, false
}

func (d *drillCase) notMoved(name string, place answerPlace, e drill.Expectation, before int64) Check {
	allowed := e.Within.Duration()
	result := failed(GroupExpectation, name, fmt.Sprintf("%s never answered %s.", place.server, e.Environment), before)
	if lasted := d.impactEnd().Sub(d.impact.From); lasted < allowed {
		result = inconclusive(GroupExpectation, name, fmt.Sprintf("%s did not answer %s, but the attack lasted only %s of the %s that are allowed.", place.server, e.Environment, secs(lasted), secs(allowed)), before)
	}
	result.Allowed = quantity(allowed)
	return result
}

// answerStays asks every name server: the same before, all the time and at the end.
func (d *drillCase) answerStays(name string, e drill.Expectation) Check {
	began, _ := d.t0()
	environment := e.Environment
	if environment == "" {
		environment = d.planned.Live
	}
	places := d.rec.places()
	if len(places) == 0 {
		return inconclusive(GroupExpectation, name, "No name server was asked.")
	}
	var seqs []int64
	for _, place := range places {
		before, ok := lastBefore(d.rec.answers[place], began)
		if !ok || d.rec.environmentOf(before.fact) != environment {
			return inconclusive(GroupExpectation, name, fmt.Sprintf("%s is not known to have sent clients to %s before.", place.server, environment))
		}
		for _, answer := range within(d.rec.answers[place], began, d.span.to) {
			got := d.rec.environmentOf(answer.fact)
			if answer.fact.Error == "" && got != environment {
				return failed(GroupExpectation, name, fmt.Sprintf("%s answered %s %s after the attack was in force.", place.server, orNothing(got), secs(answer.at.Sub(began))), before.seq, answer.seq)
			}
		}
		last, fresh := d.lastAnswer(place)
		if !fresh || d.rec.environmentOf(last.fact) != environment {
			return inconclusive(GroupExpectation, name, fmt.Sprintf("What %s said at the end is not known.", place.server), before.seq)
		}
		seqs = append(seqs, before.seq, last.seq)
	}
	return passed(GroupExpectation, name, fmt.Sprintf("%s answered %s all the time.", placesWord(places), environment), seqs...)
}

// noLoss holds the read-back of the ledger against what may be lost.
func (d *drillCase) noLoss(group Group, name string, allowed time.Duration) Check {
	found := false
	var total history.Ledger
	var seqs []int64
	for _, entry := range d.rec.ledgers {
		if entry.fact.Step != d.step {
			continue
		}
		found = true
		seqs = append(seqs, entry.seq)
		if entry.fact.Unread != "" {
			return inconclusive(group, name, "The ledger was not read back"+because(entry.fact.Unread), entry.seq)
		}
		total.Acked += entry.fact.Acked
		total.Lost += entry.fact.Lost
		total.InDoubt += entry.fact.InDoubt
		total.Span = max(total.Span, entry.fact.Span)
	}
	switch {
	case !found:
		return inconclusive(group, name, "No ledger was read back, so nothing is known of the data.")
	case total.Acked == 0:
		return inconclusive(group, name, "No write was acknowledged, so nothing could be lost.", seqs...)
	}
	span := total.Span.Duration()
	outcome, why := history.Passed, fmt.Sprintf("All %d acknowledged writes were found again.", total.Acked)
	if total.Lost > 0 {
		why = fmt.Sprintf("%d of %d acknowledged writes are lost, over %s.", total.Lost, total.Acked, secs(span))
		if allowed == 0 || span > allowed {
			outcome = history.Failed
		}
	}
	result := check(outcome, group, name, why, seqs)
	result.Measured, result.Allowed = quantity(span), quantity(allowed)
	return result
}
