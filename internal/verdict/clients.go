package verdict

import (
	"fmt"
	"slices"
	"sort"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// samplesIn returns the samples of a client that were scheduled from from to to.
func (rec *record) samplesIn(client string, from, to time.Time) []sample {
	all, first, last := rec.samples[client], nanoseconds(from), nanoseconds(to)
	low := sort.Search(len(all), func(i int) bool { return all[i].at >= first })
	high := sort.Search(len(all), func(i int) bool { return all[i].at > last })
	return all[low:max(low, high)]
}

// measure gives the samples of one client in a span to history.OutagesOf and puts names and evidence to what it finds.
func (rec *record) measure(client string, from, to time.Time) (history.Measured, []Outage) {
	samples := rec.samplesIn(client, from, to)
	measured := history.OutagesOf(len(samples), func(i int) history.Try { return rec.try(&samples[i]) }, rec.every(client), 0)
	if measured.Void == "" {
		measured.Void = rec.edges(client, samples, from, to)
	}
	var outages []Outage
	for _, found := range measured.Outages {
		outage := Outage{
			Client: client, From: found.Start, To: found.End, Open: found.Open, Seconds: found.Length.Duration().Seconds(),
			Bound: found.Error.Duration().Seconds(), Failed: found.Failed, Cause: found.Cause, Void: measured.Void,
		}
		outage.Seqs = append(seqsAt(samples, found.Start), seqsAt(samples, found.End)...)
		outages = append(outages, outage)
	}
	return measured, outages
}

// seqsAt are the samples that were scheduled for a moment.
func seqsAt(samples []sample, at time.Time) []int64 {
	wanted := nanoseconds(at)
	var seqs []int64
	for i := sort.Search(len(samples), func(i int) bool { return samples[i].at >= wanted }); i < len(samples) && samples[i].at == wanted; i++ {
		seqs = append(seqs, samples[i].seq)
	}
	return seqs
}

// edgeMax is how far from the begin and the end of a span the first and the last sample of a client may lie beside its interval and its
// time-out: what history.Outages allows between two samples.
const edgeMax = time.Second

// edges says why samples do not cover a span: a client that falls silent the moment the attack begins has no gap between two samples, and
// saw no failure either.
func (rec *record) edges(client string, samples []sample, from, to time.Time) string {
	var first, last time.Time
	for i := range samples {
		if !samples[i].hole {
			first = samples[i].scheduled()
			break
		}
	}
	if i := lastIndex(samples, func(s sample) bool { return !s.hole }); i >= 0 {
		last = samples[i].scheduled()
	}
	if first.IsZero() {
		return "" // nothing at all is said in words of its own
	}
	every := rec.every(client)
	allowed := every + max(every, edgeMax)
	if gap := first.Sub(from); gap > allowed {
		return fmt.Sprintf("it did not look for the first %s", secs(gap))
	}
	for _, known := range rec.plan.Clients {
		if known.Name == client {
			allowed += known.Timeout.Duration() // the last one may be under way still
		}
	}
	if gap := to.Sub(last); gap > allowed {
		return fmt.Sprintf("it did not look for the last %s", secs(gap))
	}
	return ""
}

// clientsOf sums up what clients saw during a step; nil when nobody sampled.
func clientsOf(rec *record, span span) *Clients {
	sum := &Clients{}
	for _, client := range rec.clients() {
		measured, outages := rec.measure(client, span.from, span.to)
		sum.Samples += measured.Good + measured.Bad
		sum.Failed += measured.Bad
		sum.Outages = append(sum.Outages, outages...)
		for _, sample := range rec.samplesIn(client, span.from, span.to) {
			if sample.hole || sample.lag > rec.every(client) {
				sum.Late++
			}
		}
	}
	if sum.Samples == 0 && sum.Late == 0 {
		return nil
	}
	sum.Available = share(sum.Samples-sum.Failed, sum.Samples)
	return sum
}

// recovered is what one client tells of a disaster.
type recovered struct {
	client string
	took   time.Duration // from T0 to the first good answer for good; 0 when none failed
	bound  time.Duration
	outage time.Duration // how long it saw failures
	open   bool          // it was not served again
	void   string
	from   time.Time
	to     time.Time
	seqs   []int64
	bad    int
	count  int
}

// recovery measures one client from T0 on. The end that counts is that of the last outage that began while the impact was in force:
// a service that comes back and fails again has not recovered.
func (d *drillCase) recovery(client string) recovered {
	began, _ := d.t0()
	got := recovered{client: client, from: began, to: began}
	// One interval before T0, because a sample that was under way then may have been hit.
	measured, outages := d.rec.measure(client, began.Add(-d.rec.every(client)), d.span.to)
	got.void, got.bad, got.count = measured.Void, measured.Bad, measured.Good+measured.Bad
	for _, outage := range outages {
		if outage.From.After(d.impactEnd()) && !d.drill.Attack.OneWay {
			continue
		}
		got.to, got.open = outage.To, outage.Open
		got.outage += outage.To.Sub(outage.From)
		got.took = outage.To.Sub(began)
		got.bound = time.Duration(outage.Bound*float64(time.Second)) + d.clockBound(client)
		got.seqs = append(got.seqs, outage.Seqs...)
	}
	return got
}

// clockBound is how far the clocks of a client and of the attacked hosts may be apart after correction.
func (d *drillCase) clockBound(client string) time.Duration {
	bound := d.rec.clocks[client]
	var hosts time.Duration
	for _, host := range d.drill.Hosts {
		hosts = max(hosts, d.rec.clocks[host.Name])
	}
	return bound + hosts
}

// recoveries measures every client, or those of one kind; ok is false when there is nothing to measure from.
func (d *drillCase) recoveries(kind string) (all []recovered, ok bool) {
	if _, known := d.t0(); !known {
		return nil, false
	}
	for _, client := range d.rec.clientsOf(kind) {
		all = append(all, d.recovery(client))
	}
	return all, len(all) > 0
}

// slowest returns the one that decides: not served again, then void, then the longest.
func slowest(all []recovered) recovered {
	return slices.MaxFunc(all, func(a, b recovered) int {
		rank := func(r recovered) time.Duration {
			switch {
			case r.open:
				return 1 << 62
			case r.void != "" || r.count == 0:
				return 1 << 61
			}
			return r.took + r.bound
		}
		return int(max(-1, min(1, rank(a)-rank(b))))
	})
}

// recoversWithin judges the slowest client against allowed. The true value must be within what is allowed, error and all; when only
// the error decides, nothing is proven.
func (d *drillCase) recoversWithin(group Group, name string, allowed time.Duration, kind string) Check {
	all, ok := d.recoveries(kind)
	if !ok {
		return inconclusive(group, name, "No client was measured from the begin of an attack.")
	}
	worst := slowest(all)
	outcome, why := history.Passed, fmt.Sprintf("%s was served again %s after the attack was in force (±%s).", worst.client, secs(worst.took), secs(worst.bound))
	switch {
	case worst.count == 0:
		return inconclusive(group, name, fmt.Sprintf("%s was silent.", worst.client))
	case worst.open && d.span.to.Sub(worst.from) <= allowed:
		return inconclusive(group, name, fmt.Sprintf("%s was not served again, but watching ended before the %s that are allowed.", worst.client, secs(allowed)), worst.seqs...)
	case worst.open:
		outcome, why = history.Failed, fmt.Sprintf("%s was not served again.", worst.client)
	case worst.void != "":
		return inconclusive(group, name, fmt.Sprintf("The samples of %s measure nothing: %s.", worst.client, worst.void), worst.seqs...)
	case worst.bad == 0:
		why = fmt.Sprintf("No request failed: %s.", okOf(worst.count))
	case worst.took > allowed:
		outcome, why = history.Failed, fmt.Sprintf("%s was served again only %s after the attack was in force; %s is allowed.", worst.client, secs(worst.took), secs(allowed))
	case worst.took+worst.bound > allowed:
		outcome, why = history.Inconclusive, fmt.Sprintf("%s ±%s is too close to the %s that are allowed to tell.", secs(worst.took), secs(worst.bound), secs(allowed))
	}
	result := check(outcome, group, name, why+d.eachClient(all), worst.seqs)
	result.Measured, result.Allowed = bounded(worst.took, worst.bound), quantity(allowed)
	return result
}

// eachClient says of several clients when each was served again, and which of them keep their connections: those fail over differently.
func (d *drillCase) eachClient(all []recovered) string {
	if len(all) < 2 {
		return ""
	}
	var said []string
	for _, one := range all {
		name := one.client
		if d.rec.connections(one.client) == drill.ClientsKept {
			name += " (keep-alive)"
		}
		switch {
		case one.void != "" || one.count == 0:
			said = append(said, name+" was not measured")
		case one.open:
			said = append(said, name+" was not served again")
		case one.bad == 0:
			said = append(said, name+" saw no failure")
		default:
			said = append(said, fmt.Sprintf("%s after %s ±%s", name, secs(one.took), secs(one.bound)))
		}
	}
	return " Of each client: " + list(said) + "."
}

func okOf(count int) string { return fmt.Sprintf("%d of %d were answered", count, count) }

// rto is the figure of this drill.
func (d *drillCase) rto() *Figure {
	all, ok := d.recoveries("")
	if !ok || !d.proven {
		return nil // what was measured was not a recovery from this disaster
	}
	worst := slowest(all)
	if worst.void != "" && !worst.open || worst.count == 0 {
		return nil
	}
	return &Figure{
		Step: d.step, Client: worst.client, Seconds: worst.took.Seconds(), Bound: worst.bound.Seconds(), Open: worst.open,
		Allowed: d.rec.plan.Objectives.RTO.Duration().Seconds(), From: worst.from, To: worst.to, Outage: worst.outage.Seconds(), Evidence: worst.seqs,
	}
}

// clientRecoveries are what each client, of several, tells of the disaster. Of one alone the figure of the drill says it.
func (d *drillCase) clientRecoveries() []ClientRecovery {
	all, ok := d.recoveries("")
	if !ok || len(all) < 2 {
		return nil
	}
	var told []ClientRecovery
	for _, one := range all {
		said := ClientRecovery{
			Client: one.client, Connections: d.rec.connections(one.client), Requests: one.count, Failed: one.bad,
			Seconds: one.took.Seconds(), Bound: one.bound.Seconds(), Outage: one.outage.Seconds(), Open: one.open, Void: one.void, Evidence: one.seqs,
		}
		if one.count == 0 && said.Void == "" {
			said.Void = "it was silent"
		}
		told = append(told, said)
	}
	return told
}

// noFailure asks that not one request failed from T0 to the end.
func (d *drillCase) noFailure(name, kind string) Check {
	began, known := d.t0()
	clients := d.rec.clientsOf(kind)
	if !known || len(clients) == 0 {
		return inconclusive(GroupExpectation, name, "No client was measured from the begin of an attack.")
	}
	var seqs []int64
	count, bad, silent, void := 0, 0, "", ""
	for _, client := range clients {
		measured, _ := d.rec.measure(client, began, d.span.to)
		if measured.Good+measured.Bad == 0 {
			silent = client
		}
		if measured.Void != "" {
			void = client + ": " + measured.Void
		}
		count, bad = count+measured.Good+measured.Bad, bad+measured.Bad
		for _, sample := range d.rec.samplesIn(client, began, d.span.to) {
			if !sample.ok && !sample.hole {
				seqs = append(seqs, sample.seq)
			}
		}
	}
	outcome, why := history.Passed, fmt.Sprintf("%s.", okOf(count))
	switch {
	case bad > 0:
		outcome, why = history.Failed, fmt.Sprintf("%d of %d requests failed.", bad, count)
	case silent != "":
		return inconclusive(GroupExpectation, name, fmt.Sprintf("Client %s was silent.", silent))
	case void != "":
		return inconclusive(GroupExpectation, name, fmt.Sprintf("The samples measure nothing: %s.", void))
	}
	result := check(outcome, GroupExpectation, name, why, seqs)
	result.Measured, result.Allowed = &Quantity{Value: float64(bad), Unit: "failures"}, &Quantity{Unit: "failures"}
	return result
}

// available asks for a share of good samples over the whole drill.
func (d *drillCase) available(group Group, name string, wanted float64) Check {
	good, count, void := 0, 0, ""
	for _, client := range d.rec.clients() {
		measured, _ := d.rec.measure(client, d.span.from, d.span.to)
		good, count = good+measured.Good, count+measured.Good+measured.Bad
		if measured.Void != "" {
			void = fmt.Sprintf("The samples of %s measure nothing: %s.", client, measured.Void)
		}
	}
	if count == 0 {
		return inconclusive(group, name, "No client was measured.")
	}
	got := share(good, count)
	outcome, why := history.Passed, fmt.Sprintf("%d of %d requests were answered.", good, count)
	switch {
	case got < wanted && d.phaseAt(history.PhaseSteadyAfter).IsZero():
		// The good part of a drill is its end; a share of less than the whole is no share.
		outcome, why = history.Inconclusive, "The drill was cut off, so this is not the share of all of it: "+why
	case got < wanted:
		outcome = history.Failed
	case void != "":
		outcome, why = history.Inconclusive, void
	}
	result := check(outcome, group, name, why, nil)
	result.Measured, result.Allowed, result.AtLeast = &Quantity{Value: got, Unit: UnitPercent}, &Quantity{Value: wanted, Unit: UnitPercent}, true
	return result
}

// objectives holds what was measured against what the service promises.
func (d *drillCase) objectives() []Check {
	var checks []Check
	promise := d.rec.plan.Objectives
	switch {
	case promise.RTO > 0 && !d.proven:
		checks = append(checks, inconclusive(GroupObjective, "RTO", "The attack is not proven to have bitten, so nothing had to recover."))
	case promise.RTO > 0:
		checks = append(checks, d.recoversWithin(GroupObjective, "RTO", promise.RTO.Duration(), ""))
	}
	if promise.Availability > 0 {
		checks = append(checks, d.available(GroupObjective, "availability", float64(promise.Availability)))
	}
	if promise.Level != nil {
		checks = append(checks, d.errorBudget(*promise.Level))
	}
	checks = append(checks, d.answersLive()...)
	writes := slices.ContainsFunc(d.rec.plan.Clients, func(c drill.Client) bool { return c.Ledger != "" })
	if promise.RPO != nil && (writes || len(d.rec.ledgers) > 0) {
		checks = append(checks, d.noLoss(GroupObjective, "RPO", promise.RPO.Duration()))
	}
	return checks
}
