package verdict

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// hostFacts are the events about one attacked host.
type hostFacts struct {
	attack *attackFacts // nil when no attack on this host was logged
	down   *seen[*history.Host]
	up     *seen[*history.Host]
	before *seen[*history.Host]
}

// impactOf fills the proof sheet of a drill: for each host of the plan the attack that was logged for it.
func impactOf(rec *record, step int) Impact {
	var impact Impact
	planned := rec.plan.Steps[step].Drill
	ended := true
	for _, sheet := range sheetsOf(rec, step, planned) {
		impact.Hosts = append(impact.Hosts, sheet)
		if !sheet.InForce.IsZero() && (impact.From.IsZero() || sheet.InForce.Before(impact.From)) {
			impact.From = sheet.InForce
		}
		end := sheet.Reverted
		if sheet.OneWay {
			end = sheet.UpAt
		}
		ended = ended && !end.IsZero()
		if end.After(impact.To) {
			impact.To = end
		}
	}
	if !ended {
		impact.To = time.Time{}
	}
	return impact
}

// sheetsOf are the proof sheets of a drill: one for each host, and of several attacks one for each of them.
func sheetsOf(rec *record, step int, planned *drill.PlannedDrill) []HostImpact {
	var sheets []HostImpact
	orders := planned.Orders()
	for number, order := range orders {
		for _, host := range planned.Hosts {
			attack := rec.attackOn(host.Name, rec.steps[step])
			if len(orders) > 1 {
				attack = rec.orderedOn(step, number, host.Name)
			}
			sheet := hostSheet(rec, rec.steps[step], host, order, attack)
			sheet.Number, sheet.several = number, len(orders) > 1
			sheets = append(sheets, sheet)
		}
	}
	return sheets
}

// orderedOn returns the attack that the conductor started under this number. An attack that it did not start is not of this drill.
func (rec *record) orderedOn(step, number int, host string) *attackFacts {
	for _, ordered := range rec.ordered {
		if fact := ordered.fact; fact.Step == step && fact.Number == number && fact.Host == host {
			if attack := rec.attacks[fact.GUID]; attack != nil && (attack.source == host || attack.planned != nil && attack.planned.fact.Host == host) {
				return attack
			}
		}
	}
	return nil
}

func hostSheet(rec *record, span span, host drill.Host, order drill.Order, attack *attackFacts) HostImpact {
	sheet := HostImpact{Host: host.Name, Attack: order.Attack, OneWay: order.OneWay, order: order}
	sheet.facts.attack = attack
	if attack != nil {
		sheet.GUID = attack.guid
		if attack.inForce != nil {
			sheet.InForce, sheet.Until = attack.inForce.at, attack.inForce.fact.Until
		}
		if attack.reverted != nil {
			sheet.Reverted, sheet.Why, sheet.Residue = attack.reverted.at, attack.reverted.fact.Why, attack.reverted.fact.Residue
		}
		sheet.Targets = attack.cutAddresses()
		if n := len(attack.hits); n > 0 {
			last := attack.hits[n-1].fact
			sheet.Egress, sheet.Ingress, sheet.Forward = last.Egress, last.Ingress, last.Forward
		}
		sheet.Canaries = attack.canaryLines()
	}
	sheet.life(rec.hosts[host.Name], span)
	return sheet
}

// life reads from the outside view of a host whether it went down and came back.
func (sheet *HostImpact) life(seenHost []seen[*history.Host], span span) {
	from := sheet.InForce
	if from.IsZero() {
		return
	}
	for i := range seenHost {
		entry := &seenHost[i]
		switch {
		case entry.at.After(span.to):
			return
		case !entry.at.After(from) && entry.fact.Up:
			sheet.facts.before = entry
			if entry.fact.BootID != "" {
				sheet.BootBefore = entry.fact.BootID
			}
		case entry.at.After(from) && !entry.fact.Up && sheet.facts.down == nil:
			sheet.facts.down, sheet.DownAt = entry, entry.at
		case entry.at.After(from) && entry.fact.Up && entry.fact.BootID != "" && entry.fact.BootID != sheet.BootBefore && sheet.facts.up == nil:
			sheet.facts.up, sheet.UpAt, sheet.BootAfter = entry, entry.at, entry.fact.BootID
		}
	}
}

// attackOn returns the attack that was logged for host within span; of several the first, because only that one was planned.
func (rec *record) attackOn(host string, span span) *attackFacts {
	var found *attackFacts
	for _, attack := range rec.attacks {
		if attack.position < span.first || attack.position >= span.last {
			continue
		}
		if attack.source != host && (attack.planned == nil || attack.planned.fact.Host != host) {
			continue
		}
		if found == nil || attack.position < found.position {
			found = attack
		}
	}
	return found
}

func (a *attackFacts) cutAddresses() int {
	addresses := map[string]bool{}
	for _, target := range a.targets {
		if target.fact.Verb == "drop" {
			addresses[target.fact.Address] = true
		}
	}
	return len(addresses)
}

func (a *attackFacts) cuts(direction string) bool {
	return slices.ContainsFunc(a.targets, func(t seen[*history.AttackTarget]) bool {
		return t.fact.Verb == "drop" && t.fact.Direction == direction
	})
}

// inForce asks for each host of the plan whether the attack began there.
func (d *drillCase) inForce() []Check {
	if len(d.drill.Hosts) == 0 {
		return []Check{inconclusive(GroupInjection, "in force", "The plan names no host, so nothing was attacked.")}
	}
	var checks []Check
	for i := range d.impact.Hosts {
		checks = append(checks, d.inForceOn(&d.impact.Hosts[i]))
	}
	return append(append(checks, d.asOrdered()...), d.ranItsLength()...)
}

// asOrdered asks of several attacks whether they were in force at the same time, or one after the other, as the plan has it.
func (d *drillCase) asOrdered() []Check {
	if len(d.drill.More) == 0 {
		return nil
	}
	name, begun := "attacks one after the other", time.Time{}
	if d.drill.Together {
		name = "attacks together"
	}
	var seqs []int64
	end := time.Time{} // sequence: the last revert of the attacks before; together: the first revert of all
	for i := range d.impact.Hosts {
		sheet := &d.impact.Hosts[i]
		if sheet.facts.attack == nil || sheet.InForce.IsZero() || sheet.Reverted.IsZero() {
			return []Check{inconclusive(GroupInjection, name, "Not every attack is known to have begun and ended.")}
		}
		seqs = append(seqs, sheet.facts.attack.inForce.seq, sheet.facts.attack.reverted.seq)
		if begun = later(begun, sheet.InForce); end.IsZero() || sheet.Reverted.Before(end) {
			end = sheet.Reverted
		}
		for j := range d.impact.Hosts {
			after := &d.impact.Hosts[j]
			if d.drill.Together || after.Number <= sheet.Number || after.facts.attack == nil || after.InForce.IsZero() || !after.InForce.Before(sheet.Reverted) {
				continue
			}
			why := fmt.Sprintf("The attack on %s began before that on %s was taken back.", after.place(), sheet.place())
			return []Check{inconclusive(GroupInjection, name, why, after.facts.attack.inForce.seq, sheet.facts.attack.reverted.seq)}
		}
	}
	if d.drill.Together && !begun.Before(end) {
		return []Check{inconclusive(GroupInjection, name, "They never were in force at the same time.", seqs...)}
	}
	if d.drill.Together {
		return []Check{passed(GroupInjection, name, fmt.Sprintf("All were in force together for %s.", secs(end.Sub(begun))), seqs...)}
	}
	return []Check{passed(GroupInjection, name, "Each began when the one before had been taken back.", seqs...)}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// shortMax is how much shorter than planned an attack may have been in force: setting it up takes a part of its length.
const shortMax = 2 * time.Second

// ranName is the check whether an attack ran to its end.
const ranName = "ran to its end"

// ranItsLength notices an attack that ended before its time although nothing had been decided. It does not outweigh what the
// expectations found until then.
func (d *drillCase) ranItsLength() []Check {
	const name = ranName
	for _, stop := range d.rec.stops {
		if stop.fact.Step == d.step {
			return []Check{inconclusive(GroupRun, name, "It was stopped early: "+stop.fact.Condition+because(stop.fact.Detail), stop.seq)}
		}
	}
	if d.drill.UntilDecided || d.drill.Attack.OneWay {
		return nil
	}
	for i := range d.impact.Hosts {
		sheet := &d.impact.Hosts[i]
		if sheet.Reverted.IsZero() || sheet.InForce.IsZero() {
			continue
		}
		if length := sheet.order.Length.Duration(); sheet.Reverted.Sub(sheet.InForce) < length-shortMax {
			why := fmt.Sprintf("The attack on %s was in force for %s of %s planned", sheet.place(), secs(sheet.Reverted.Sub(sheet.InForce)), secs(length))
			return []Check{inconclusive(GroupRun, name, why+because(sheet.Why), sheet.facts.attack.reverted.seq)}
		}
	}
	return nil
}

func (d *drillCase) inForceOn(sheet *HostImpact) Check {
	name := "in force on " + sheet.place()
	attack := sheet.facts.attack
	for _, refusal := range d.rec.refusals {
		mine := refusal.source == sheet.Host || len(d.drill.Hosts) == 1
		if mine && refusal.position >= d.span.first && refusal.position < d.span.last {
			return inconclusive(GroupInjection, name, "The attack was refused"+because(refusal.fact.Reason), refusal.seq)
		}
	}
	switch {
	case attack == nil:
		return inconclusive(GroupInjection, name, fmt.Sprintf("No attack on %s is in the log.", sheet.Host))
	case attack.planned == nil:
		return inconclusive(GroupInjection, name, "The log does not say what the attack was going to do.")
	case attack.planned.fact.Attack != sheet.Attack:
		return inconclusive(GroupInjection, name, fmt.Sprintf("The plan is %s, but %s was started.", sheet.Attack, attack.planned.fact.Attack), attack.planned.seq)
	case attack.inForce == nil:
		return inconclusive(GroupInjection, name, "The attack was planned but never came into force.", attack.planned.seq)
	}
	seqs := []int64{attack.planned.seq, attack.inForce.seq}
	why := fmt.Sprintf("%s was in force on %s", titled(sheet.Attack), sheet.Host)
	if !sheet.OneWay && !sheet.Reverted.IsZero() {
		why += " for " + secs(sheet.Reverted.Sub(sheet.InForce))
	}
	return passed(GroupInjection, name, why+".", seqs...)
}

func titled(word string) string {
	if word == "" {
		return "The attack"
	}
	return strings.ToUpper(word[:1]) + word[1:]
}
