package verdict

import (
	"fmt"
	"slices"
	"time"

	"firedrill/internal/history"
)

// The states of a canary's try.
const (
	canaryBefore  = "before"
	canaryInForce = "in force"
	canaryAfter   = "after"
)

// The attacks that cut traffic off, so that a canary must not get through, and those that only hurt it.
var (
	cuttingAttacks = []string{"blackhole", "dns"}
	hurtingAttacks = []string{"latency", "packet_loss"}
)

// bit is the positive control: evidence from the kernel and from connections of our own that the disaster was real.
func (d *drillCase) bit() []Check {
	var checks []Check
	for i := range d.impact.Hosts {
		sheet := &d.impact.Hosts[i]
		if sheet.facts.attack == nil || sheet.facts.attack.inForce == nil {
			checks = append(checks, inconclusive(GroupBite, "bit on "+sheet.place(), "Nothing was in force, so nothing bit."))
			continue
		}
		switch {
		case sheet.OneWay:
			checks = append(checks, d.wentDown(sheet))
		case slices.Contains(cuttingAttacks, sheet.Attack):
			checks = append(checks, hitPackets(sheet))
			checks = append(checks, d.canariesCut(sheet)...)
		case slices.Contains(hurtingAttacks, sheet.Attack):
			checks = append(checks, hitPackets(sheet), accountBit(sheet))
		default:
			checks = append(checks, accountBit(sheet))
		}
	}
	return checks
}

// hitPackets reads the kernel's counters. Where egress is cut a peer has nothing to answer, so packets the other way are asked for
// only when that is the only direction.
func hitPackets(sheet *HostImpact) Check {
	name := "packets dropped on " + sheet.place()
	attack := sheet.facts.attack
	if sheet.Targets == 0 {
		return inconclusive(GroupBite, name, "No address was cut: there was no target.")
	}
	if len(attack.hits) == 0 {
		return inconclusive(GroupBite, name, "The kernel's counters were not read.")
	}
	seqs := []int64{attack.hits[len(attack.hits)-1].seq}
	egress, ingress := attack.cuts("egress"), attack.cuts("ingress")
	measured := &Quantity{Value: float64(sheet.Egress + sheet.Ingress + sheet.Forward), Unit: "packets"}
	silent := egress && sheet.Egress+sheet.Forward == 0 || !egress && ingress && sheet.Ingress+sheet.Forward == 0
	outcome, why := history.Passed, fmt.Sprintf("The kernel dropped %d packets out and %d in, to and from %s.", sheet.Egress, sheet.Ingress, plural2(sheet.Targets, "address", "addresses"))
	if silent || measured.Value == 0 {
		outcome, why = history.Inconclusive, fmt.Sprintf("The kernel dropped %d packets out and %d in: nothing was there to be hit.", sheet.Egress, sheet.Ingress)
	}
	result := check(outcome, GroupBite, name, why, seqs)
	result.Measured, result.Allowed, result.AtLeast = measured, &Quantity{Value: 1, Unit: "packets"}, true
	return result
}

func plural2(n int, single, several string) string {
	if n == 1 {
		return "1 " + single
	}
	return fmt.Sprintf("%d %s", n, several)
}

// canaryTries are the tries of one canary on one kind of flow.
type canaryTries struct {
	target, flow           string
	before, inForce, after []seen[*history.AttackCanary]
}

// canaryFlows are the kinds of flows that a cut must hold on: new connections, and those that stood before it.
var canaryFlows = []string{"new", "established"}

func (a *attackFacts) canaryTable() []canaryTries {
	var table []canaryTries
	for _, entry := range a.canaries {
		i := slices.IndexFunc(table, func(t canaryTries) bool { return t.target == entry.fact.Target && t.flow == entry.fact.Flow })
		if i < 0 {
			i = len(table)
			table = append(table, canaryTries{target: entry.fact.Target, flow: entry.fact.Flow})
		}
		switch entry.fact.When {
		case canaryBefore:
			table[i].before = append(table[i].before, entry)
		case canaryInForce:
			table[i].inForce = append(table[i].inForce, entry)
		case canaryAfter:
			table[i].after = append(table[i].after, entry)
		}
	}
	return table
}

func (a *attackFacts) canaryLines() []CanaryLine {
	var lines []CanaryLine
	for _, tries := range a.canaryTable() {
		lines = append(lines, CanaryLine{
			Target: tries.target, Flow: tries.flow,
			Before: throughOf(tries.before), InForce: throughOf(tries.inForce), After: throughOf(tries.after),
		})
	}
	return lines
}

func throughOf(tries []seen[*history.AttackCanary]) string {
	if len(tries) == 0 {
		return ""
	}
	through := 0
	for _, try := range tries {
		if try.fact.Through {
			through++
		}
	}
	return fmt.Sprintf("through %d of %d", through, len(tries))
}

// canariesCut demands of every canary, on new and on established flows: through before, never while in force.
func (d *drillCase) canariesCut(sheet *HostImpact) []Check {
	attack := sheet.facts.attack
	targets := slices.Clone(sheet.order.Canaries)
	table := attack.canaryTable()
	for _, tries := range table {
		if !slices.Contains(targets, tries.target) {
			targets = append(targets, tries.target)
		}
	}
	if len(targets) == 0 {
		return []Check{inconclusive(GroupBite, "canary on "+sheet.place(), "There was no canary, so nothing shows that the cut was felt.")}
	}
	var checks []Check
	for _, target := range targets {
		checks = append(checks, canaryCut(sheet.place(), target, table))
	}
	return checks
}

func canaryCut(host, target string, table []canaryTries) Check {
	name := fmt.Sprintf("canary %s on %s", target, host)
	var seqs []int64
	held := 0
	for _, flow := range canaryFlows {
		i := slices.IndexFunc(table, func(t canaryTries) bool { return t.target == target && t.flow == flow })
		if i < 0 {
			return inconclusive(GroupBite, name, fmt.Sprintf("The canary was not tried on %s flows.", flow), seqs...)
		}
		tries := table[i]
		// A flow that stands open in force was new before: what was through then speaks for both.
		opened := tries.before
		if j := slices.IndexFunc(table, func(t canaryTries) bool { return t.target == target && t.flow == canaryFlows[0] }); len(opened) == 0 && j >= 0 {
			opened = table[j].before
		}
		before := slices.IndexFunc(opened, func(t seen[*history.AttackCanary]) bool { return t.fact.Through })
		if before < 0 {
			return inconclusive(GroupBite, name, fmt.Sprintf("The canary was not through on %s flows before the attack, so its silence proves nothing.", flow), seqs...)
		}
		seqs = append(seqs, opened[before].seq)
		if len(tries.inForce) == 0 {
			return inconclusive(GroupBite, name, fmt.Sprintf("The canary was not tried on %s flows while the attack was in force.", flow), seqs...)
		}
		for _, try := range tries.inForce {
			seqs = append(seqs, try.seq)
			if try.fact.Through {
				return inconclusive(GroupBite, name, fmt.Sprintf("The canary got through on a flow that was %s while the attack was in force.", flowWord(flow)), try.seq)
			}
		}
		held += len(tries.inForce)
	}
	return passed(GroupBite, name, fmt.Sprintf("Through before, then held off %s, on new and on established flows.", times(held)), seqs...)
}

func flowWord(flow string) string {
	if flow == "established" {
		return "open already"
	}
	return flow
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

func accountBit(sheet *HostImpact) Check {
	name := "felt on " + sheet.place()
	account := sheet.facts.attack.account
	switch {
	case account == nil:
		return inconclusive(GroupBite, name, "The attack gave no account of itself.")
	case !account.fact.Bit:
		return inconclusive(GroupBite, name, "By its own account the attack was not felt.", account.seq)
	}
	why := "By its own account the attack was felt."
	if len(account.fact.Evidence) > 0 {
		why = sentence(account.fact.Evidence[0])
	}
	return passed(GroupBite, name, why, account.seq)
}

// wentDown is the positive control of an attack that takes the host itself: seen down from outside, and back as a new boot.
func (d *drillCase) wentDown(sheet *HostImpact) Check {
	name := sheet.Host + " went down"
	down, downSeq := d.downAt(sheet)
	if down.IsZero() {
		return inconclusive(GroupBite, name, "Nobody saw the host down.")
	}
	seqs := []int64{downSeq}
	if sheet.facts.before == nil || sheet.BootBefore == "" {
		return inconclusive(GroupBite, name, "Which boot the host ran before is not known, so a new one cannot be told.", seqs...)
	}
	seqs = append(seqs, sheet.facts.before.seq)
	if sheet.facts.up == nil {
		return inconclusive(GroupBite, name, "The host was seen down, but not back with a new boot ID.", seqs...)
	}
	seqs = append(seqs, sheet.facts.up.seq)
	return passed(GroupBite, name, fmt.Sprintf("Seen down after %s, and back %s later as a new boot.", secs(down.Sub(sheet.InForce)), secs(sheet.UpAt.Sub(down))), seqs...)
}

// downAt returns when the host was first seen down: by somebody who said so, or by a heartbeat that failed.
func (d *drillCase) downAt(sheet *HostImpact) (time.Time, int64) {
	if sheet.facts.down != nil {
		return sheet.DownAt, sheet.facts.down.seq
	}
	for _, sample := range d.rec.heartbeats[sheet.Host] {
		if at := sample.scheduled(); at.After(sheet.InForce) && !at.After(d.span.to) && !sample.ok {
			return at, sample.seq
		}
	}
	return time.Time{}, 0
}
