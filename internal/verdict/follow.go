package verdict

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// What follows an answer that has moved: that it does not waver, comes back when it is to come back, lives no longer than planned, and
// that clients go where it leads.

// movedWanted is the environment that must be answered at the end of a drill in which the answer moves: where it moved to, or with
// automatic failback where it came from.
func (d *drillCase) movedWanted(e drill.Expectation) string {
	if d.planned.LiveAfter == d.planned.Live && d.failsBack() {
		return d.planned.Live
	}
	return e.Environment
}

func (d *drillCase) failsBack() bool {
	return slices.ContainsFunc(d.rec.plan.Failover, func(f drill.Failover) bool { return f.Failback == "auto" })
}

// wavered returns the first answer after the move that leads elsewhere although nothing allows it; the zero value when there is none.
// Automatic failback may lead back once the impact is over, and then not away again.
func (d *drillCase) wavered(place answerPlace, moved time.Time, e drill.Expectation) seen[*history.Answer] {
	back := false
	for _, answer := range within(d.rec.answers[place], moved, d.span.to) {
		got := d.rec.environmentOf(answer.fact)
		if answer.fact.Error != "" || got == "" {
			continue
		}
		switch away := got != e.Environment; {
		case away && !back && d.failsBack() && got == d.planned.Live && answer.at.After(d.impactEnd()):
			back = true
		case away != back:
			return answer
		}
	}
	return seen[*history.Answer]{}
}

// answerMovesBack asks every name server for the way back after the impact, in time and for good.
func (d *drillCase) answerMovesBack(name string, e drill.Expectation) Check {
	if d.impact.To.IsZero() {
		return inconclusive(GroupExpectation, name, "The end of the impact is not known, so nothing can be measured from it.")
	}
	places := d.rec.places()
	if len(places) == 0 {
		return inconclusive(GroupExpectation, name, "The plan names nothing that could move.")
	}
	var slow time.Duration
	var seqs []int64
	for _, place := range places {
		last, fresh := d.lastAnswer(place)
		switch got := d.rec.environmentOf(last.fact); {
		case !fresh:
			return inconclusive(GroupExpectation, name, place.server+" was not asked at the end.", seqs...)
		case got != e.Environment:
			return failed(GroupExpectation, name, fmt.Sprintf("%s answers %s at the end.", place.server, orNothing(got)), append(seqs, last.seq)...)
		}
		away := false
		for _, answer := range within(d.rec.answers[place], d.impact.From, d.span.to) {
			got := d.rec.environmentOf(answer.fact)
			if got == e.Environment && away {
				slow, seqs = max(slow, answer.at.Sub(d.impact.To)), append(seqs, answer.seq)
			}
			away = got != e.Environment
		}
		if len(seqs) == 0 {
			return failed(GroupExpectation, name, place.server+" never moved away, so it cannot have come back.", last.seq)
		}
	}
	allowed := e.Within.Duration()
	outcome, why := history.Passed, fmt.Sprintf("%s led to %s again %s after the revert.", placesWord(places), e.Environment, secs(slow))
	if slow > allowed {
		outcome, why = history.Failed, fmt.Sprintf("%s led to %s again only %s after the revert; %s are allowed.", placesWord(places), e.Environment, secs(slow), secs(allowed))
	}
	result := check(outcome, GroupExpectation, name, why, seqs)
	result.Measured, result.Allowed = quantity(slow), quantity(allowed)
	return result
}

// followGrace is how long after a move and its TTL a client may still come from where it was.
const followGrace = 2 * time.Second

// clientsFollow asks where the good answers of the clients came from at the end. A client that is served by the environment that was left,
// once that is whole again, has not followed: the next disaster takes it along. It may be a real client that holds on to an address, or
// one that answers from a cache. Addresses of neither environment (a proxy's) tell nothing and make no check.
func (d *drillCase) clientsFollow() []Check {
	var checks []Check
	for _, client := range d.rec.clients() {
		name := client + " follows the answer"
		samples := d.rec.samplesIn(client, d.span.from, d.span.to)
		i := lastIndex(samples, func(s sample) bool { return s.ok && d.rec.environmentAt(d.rec.words.texts[s.address]) != "" })
		if i < 0 {
			continue
		}
		led, since := d.ledTo(samples[i].scheduled())
		if led == "" || samples[i].scheduled().Sub(since) < d.ttl()+followGrace {
			continue // it had no time to follow
		}
		if got := d.rec.environmentAt(d.rec.words.texts[samples[i].address]); got != led {
			checks = append(checks, failed(GroupExpectation, name, fmt.Sprintf("At the end it was served by %s, but the answer leads to %s since %s.", got, led, secs(samples[i].scheduled().Sub(since))), samples[i].seq))
			continue
		}
		checks = append(checks, passed(GroupExpectation, name, fmt.Sprintf("At the end it was served by %s.", led), samples[i].seq))
	}
	return checks
}

func lastIndex[T any](all []T, fits func(T) bool) int {
	for i := len(all) - 1; i >= 0; i-- {
		if fits(all[i]) {
			return i
		}
	}
	return -1
}

// ledTo returns where all name servers led at a moment, and since when all of them did; "" when they did not agree.
func (d *drillCase) ledTo(at time.Time) (environment string, since time.Time) {
	for _, place := range d.rec.places() {
		answers := d.rec.answers[place]
		last, ok := lastBefore(answers, at)
		if !ok {
			return "", time.Time{}
		}
		got := d.rec.environmentOf(last.fact)
		began := last.at
		for i := len(answers) - 1; i >= 0; i-- {
			if answers[i].at.After(last.at) {
				continue
			}
			if d.rec.environmentOf(answers[i].fact) != got {
				break
			}
			began = answers[i].at
		}
		if environment != "" && got != environment {
			return "", time.Time{}
		}
		environment = got
		if began.After(since) {
			since = began
		}
	}
	return environment, since
}

// environmentAt returns the environment that an address, with or without a port, belongs to, or "".
func (rec *record) environmentAt(address string) string {
	for _, environment := range rec.plan.Environments {
		for _, host := range environment.Hosts {
			plain := host.Address.String()
			if address == plain || strings.HasPrefix(address, plain+":") || strings.HasPrefix(address, "["+plain+"]:") {
				return environment.Name
			}
		}
	}
	return ""
}

func (d *drillCase) ttl() time.Duration {
	for _, failover := range d.rec.plan.Failover {
		if failover.TTL != nil {
			return failover.TTL.Duration()
		}
	}
	return 0
}

// answersLive holds the longest TTL that each name server gave with its answers against the file's. Clients may keep an answer for so long,
// whatever the failover does.
func (d *drillCase) answersLive() []Check {
	var checks []Check
	for _, failover := range d.rec.plan.Failover {
		if failover.TTL == nil {
			continue
		}
		allowed := failover.TTL.Duration()
		for _, place := range d.rec.places() {
			longest, seq, heard := time.Duration(0), int64(0), false
			for _, answer := range within(d.rec.answers[place], d.span.from, d.span.to) {
				if place.name != failover.Name || answer.fact.TTL == nil {
					continue
				}
				heard = true
				if ttl := answer.fact.TTL.Duration(); ttl >= longest {
					longest, seq = ttl, answer.seq
				}
			}
			if !heard {
				continue
			}
			name := "TTL of " + failover.Name + " on " + place.server
			result := passed(GroupObjective, name, fmt.Sprintf("Clients may keep an answer for %s, as planned.", secs(longest)), seq)
			if longest > allowed {
				result = failed(GroupObjective, name, fmt.Sprintf("Clients may keep an answer for %s; the plan says %s, and counts on it.", secs(longest), secs(allowed)), seq)
			}
			result.Measured, result.Allowed = quantity(longest), quantity(allowed)
			checks = append(checks, result)
		}
	}
	return checks
}

// sparesKept holds what was hit against what the plan says must never be hit.
func (d *drillCase) sparesKept() []Check {
	var checks []Check
	for i := range d.impact.Hosts {
		sheet := &d.impact.Hosts[i]
		attack := sheet.facts.attack
		if attack == nil || attack.inForce == nil {
			continue // said elsewhere
		}
		for _, spare := range spares(sheet.order.Args) {
			checks = append(checks, spareKept(fmt.Sprintf("%s spared on %s", spare, sheet.place()), spare, attack))
		}
	}
	return checks
}

func spareKept(name, spare string, attack *attackFacts) Check {
	addresses := map[string]int64{} // spared, by direction and address
	for _, target := range attack.targets {
		if target.fact.Verb == "spare" && (target.fact.Name == spare || target.fact.Address == spare) {
			addresses[target.fact.Direction+target.fact.Address] = target.seq
		}
	}
	for _, target := range attack.targets {
		if target.fact.Verb != "drop" {
			continue
		}
		_, both := addresses[target.fact.Direction+target.fact.Address]
		if named := target.fact.Name == spare || target.fact.Address == spare; named && !both {
			return failed(GroupExpectation, name, fmt.Sprintf("%s is to be spared and was hit, at %s.", spare, target.fact.Address), target.seq)
		}
	}
	if len(addresses) == 0 {
		return inconclusive(GroupExpectation, name, "The attack does not say that it spared "+spare+".")
	}
	var seqs []int64
	for _, seq := range addresses {
		seqs = append(seqs, seq)
	}
	return passed(GroupExpectation, name, "It was never hit.", seqs...)
}

// spares returns what the arguments of an attack say must never be hit.
func spares(args []string) []string {
	var all []string
	for _, arg := range args {
		for _, flag := range []string{"--hostname=", "--ipaddress="} {
			list, ok := strings.CutPrefix(arg, flag)
			if !ok {
				continue
			}
			for _, item := range strings.Split(list, ",") {
				if spare, is := strings.CutPrefix(item, "^"); is && !slices.Contains(all, spare) {
					all = append(all, spare)
				}
			}
		}
	}
	return all
}

// sameRelease asks that both environments ran the same revision at the last look: an answer that moves must not bring back an old release.
func (d *drillCase) sameRelease(name string) Check {
	revisions := map[string][]string{}
	var seqs []int64
	for _, environment := range d.rec.plan.Environments {
		for _, host := range environment.Hosts {
			looks := within(d.rec.inspected[host.Name], d.span.from, d.span.to)
			i := lastIndex(looks, func(look seen[*history.Inspected]) bool { return look.fact.Error == "" && look.fact.Revision != "" })
			if i < 0 {
				return inconclusive(GroupExpectation, name, "What "+host.Name+" runs is not known.", seqs...)
			}
			seqs = append(seqs, looks[i].seq)
			revisions[looks[i].fact.Revision] = append(revisions[looks[i].fact.Revision], host.Name)
		}
	}
	if len(revisions) > 1 {
		var parts []string
		for revision, hosts := range revisions {
			parts = append(parts, fmt.Sprintf("%s on %s", short(revision), list(hosts)))
		}
		slices.Sort(parts)
		return failed(GroupExpectation, name, "They run "+list(parts)+".", seqs...)
	}
	return passed(GroupExpectation, name, "Every host runs the same revision.", seqs...)
}

// answeredWithin asks that a share of all requests since the begin of the impact was answered, and in time. A failed one was not.
func (d *drillCase) answeredWithin(name string, wanted float64, allowed time.Duration) Check {
	began, _ := d.t0()
	quick, count, void := 0, 0, ""
	for _, client := range d.rec.clients() {
		if measured, _ := d.rec.measure(client, began, d.span.to); measured.Void != "" {
			void = fmt.Sprintf("The samples of %s measure nothing: %s.", client, measured.Void)
		}
		for _, sample := range d.rec.samplesIn(client, began, d.span.to) {
			if sample.hole {
				continue
			}
			count++
			if sample.ok && sample.took <= allowed {
				quick++
			}
		}
	}
	if count == 0 {
		return inconclusive(GroupExpectation, name, "No client was measured.")
	}
	got := share(quick, count)
	outcome, why := history.Passed, fmt.Sprintf("%d of %d requests were answered within %s.", quick, count, secs(allowed))
	switch {
	case got < wanted && !d.brokenOff():
		outcome = history.Failed
	case got < wanted:
		outcome = history.Inconclusive
	case void != "":
		outcome, why = history.Inconclusive, void
	}
	result := check(outcome, GroupExpectation, name, why, nil)
	result.Measured, result.Allowed, result.AtLeast = &Quantity{Value: got, Unit: UnitPercent}, &Quantity{Value: wanted, Unit: UnitPercent}, true
	return result
}
