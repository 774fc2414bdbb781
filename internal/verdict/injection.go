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
	for _, host := range planned.Hosts {
		sheet := hostSheet(rec, rec.steps[step], host, planned.Attack)
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

func hostSheet(rec *record, span span, host drill.Host, order drill.Order) HostImpact {
	sheet := HostImpact{Host: host.Name, Attack: order.Attack, OneWay: order.OneWay}
	attack := rec.attackOn(host.Name, span)
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
	return append(checks, d.ranItsLength()...)
}

// shortMax is how much shorter than planned an attack may have been in force: setting it up takes a part of its length.
const shortMax = 2 * time.Second

// ranItsLength notices an attack that ended before its time although nothing had been decided. It does not outweigh what the
// expectations found until then.
func (d *drillCase) ranItsLength() []Check {
	const name = "ran to its end"
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
		if lasted := sheet.Reverted.Sub(sheet.InForce); lasted < d.drill.Attack.Length.Duration()-shortMax {
			why := fmt.Sprintf("The attack on %s was in force for %s of %s planned", sheet.Host, secs(lasted), secs(d.drill.Attack.Length.Duration()))
			return []Check{inconclusive(GroupRun, name, why+because(sheet.Why), sheet.facts.attack.reverted.seq)}
		}
	}
	return nil
}

func (d *drillCase) inForceOn(sheet *HostImpact) Check {
	name := "in force on " + sheet.Host
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
	case attack.planned.fact.Attack != d.drill.Attack.Attack:
		return inconclusive(GroupInjection, name, fmt.Sprintf("The plan is %s, but %s was started.", d.drill.Attack.Attack, attack.planned.fact.Attack), attack.planned.seq)
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
