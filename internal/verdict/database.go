package verdict

import (
	"fmt"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// takenOver returns the first write after the impact that another server of a database acknowledged than the one that was attacked.
func (d *drillCase) takenOver(database string, until time.Time) (seen[*history.Database], bool) {
	for _, tried := range within(d.rec.servers[database], d.impact.From, until) {
		if tried.fact.Accepted && !d.attackedHost(tried.fact.Host) {
			return tried, true
		}
	}
	return seen[*history.Database]{}, false
}

func (d *drillCase) attackedHost(name string) bool {
	for _, host := range d.drill.Hosts {
		if host.Name == name {
			return true
		}
	}
	return false
}

// databaseFailsOver asks for a write on the attacked server before, and on another one in time.
func (d *drillCase) databaseFailsOver(name string, e drill.Expectation) Check {
	began, _ := d.t0()
	allowed := e.Within.Duration()
	before := seen[*history.Database]{}
	for _, tried := range within(d.rec.servers[e.Database], d.span.from, began) {
		if d.attackedHost(tried.fact.Host) {
			before = tried
		} else if tried.fact.Accepted {
			return inconclusive(GroupExpectation, name, tried.fact.Host+" took writes before the attack, so nothing could fail over to it.", tried.seq)
		}
	}
	if before.fact == nil || !before.fact.Accepted {
		return inconclusive(GroupExpectation, name, "The attacked server is not known to have taken writes before.")
	}
	taken, found := d.takenOver(e.Database, d.span.to)
	if !found {
		result := failed(GroupExpectation, name, fmt.Sprintf("No other server of %s acknowledged a write; %s were allowed.%s", e.Database, secs(allowed), d.movesTold(e.Database)), before.seq)
		if d.impactEnd().Sub(began) < allowed {
			result = inconclusive(GroupExpectation, name, fmt.Sprintf("No other server of %s acknowledged a write, but the attack lasted only %s of the %s that are allowed.", e.Database, secs(d.impactEnd().Sub(began)), secs(allowed)), before.seq)
		}
		result.Allowed = quantity(allowed)
		return result
	}
	took := taken.at.Sub(began)
	outcome, why := history.Passed, fmt.Sprintf("%s acknowledged a write after %s.", taken.fact.Host, secs(took))
	if took > allowed {
		outcome, why = history.Failed, fmt.Sprintf("%s acknowledged a write only after %s; %s are allowed.", taken.fact.Host, secs(took), secs(allowed))
	}
	result := check(outcome, GroupExpectation, name, why+d.movesTold(e.Database), []int64{before.seq, taken.seq})
	result.Measured, result.Allowed = quantity(took), quantity(allowed)
	return result
}

// movesTold is the order of events, as whoever moved the primary told them.
func (d *drillCase) movesTold(database string) string {
	var told []string
	for _, move := range within(d.rec.moves[database], d.impact.From, d.span.to) {
		step := strings.TrimSpace(move.fact.Step + " " + move.fact.Host)
		told = append(told, fmt.Sprintf("%s %s", secs(move.at.Sub(d.impact.From)), step))
	}
	if len(told) == 0 {
		return ""
	}
	return " In this order: " + strings.Join(told, ", ") + "."
}

// oldPrimaryFenced asks that the attacked server was tried after another one had taken over, answered, and acknowledged nothing. A server that
// was never back proves nothing.
func (d *drillCase) oldPrimaryFenced(name string, e drill.Expectation) Check {
	taken, found := d.takenOver(e.Database, d.span.to)
	if !found {
		return inconclusive(GroupExpectation, name, "No other server took over, so there is no old primary.")
	}
	for _, move := range within(d.rec.moves[e.Database], d.impact.From, d.span.to) {
		if move.fact.Step == history.DatabaseSplit {
			return failed(GroupExpectation, name, fmt.Sprintf("%s acknowledged a write after it was fenced: two servers take writes.", move.fact.Host), taken.seq, move.seq)
		}
	}
	refused := seen[*history.Database]{}
	for _, tried := range within(d.rec.servers[e.Database], taken.at, d.span.to) {
		switch {
		case !d.attackedHost(tried.fact.Host):
		case tried.fact.Accepted:
			return failed(GroupExpectation, name, fmt.Sprintf("%s acknowledged a write %s after %s had taken over: two servers take writes.", tried.fact.Host, secs(tried.at.Sub(taken.at)), taken.fact.Host), taken.seq, tried.seq)
		case tried.fact.Refused && refused.fact == nil:
			refused = tried
		}
	}
	if refused.fact == nil {
		return inconclusive(GroupExpectation, name, "The old primary never answered again in this drill, so that it would refuse a write is not shown.", taken.seq)
	}
	return passed(GroupExpectation, name, fmt.Sprintf("%s was tried all the time; it answered again %s after %s had taken over, and acknowledged nothing.", refused.fact.Host, secs(refused.at.Sub(taken.at)), taken.fact.Host), taken.seq, refused.seq)
}

// ledgerHolds reads the ledger for what is neither there nor lost.
func (d *drillCase) ledgerHolds(name string, e drill.Expectation) Check {
	var seqs []int64
	acked, count := 0, 0
	for _, entry := range d.rec.ledgers {
		if entry.fact.Step != d.step {
			continue
		}
		seqs = append(seqs, entry.seq)
		if entry.fact.Unread != "" {
			return inconclusive(GroupExpectation, name, "The ledger was not read back"+because(entry.fact.Unread), entry.seq)
		}
		acked += entry.fact.Acked
		switch e.Kind {
		case drill.ExpectNoDouble:
			count += entry.fact.Duplicated
		case drill.ExpectNoStale:
			count += entry.fact.Stale
		default:
			count += entry.fact.InDoubt
		}
	}
	what := map[string]string{
		drill.ExpectNoDouble: "writes are there more than once", drill.ExpectNoStale: "acknowledged writes were missed by a later reading", drill.ExpectInDoubt: "writes were never acknowledged",
	}[e.Kind]
	if acked == 0 {
		return inconclusive(GroupExpectation, name, "No write was acknowledged and read back, so nothing is known of the data.", seqs...)
	}
	outcome := history.Passed
	if float64(count) > e.Value {
		outcome = history.Failed
	}
	result := check(outcome, GroupExpectation, name, fmt.Sprintf("%d %s; %d were acknowledged.", count, what, acked), seqs)
	result.Measured, result.Allowed = &Quantity{Value: float64(count), Unit: "writes"}, &Quantity{Value: e.Value, Unit: "writes"}
	return result
}
