package verdict

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"firedrill/internal/history"
)

// reverted asks for each host whether the impact is proven to be gone. Evidence that it is still there, or no word at all from a host
// that stayed up, calls for a human; a host that went away is only unproven.
func (d *drillCase) reverted() []Check {
	var checks []Check
	for i := range d.impact.Hosts {
		sheet := &d.impact.Hosts[i]
		switch attack := sheet.facts.attack; {
		case attack == nil:
			checks = append(checks, inconclusive(GroupRevert, "reverted on "+sheet.place(), "No attack on this host is in the log, so nothing tells that nothing remains."))
		case attack.inForce == nil && attack.reverted == nil && len(attack.hits) == 0:
			checks = append(checks, inconclusive(GroupRevert, "reverted on "+sheet.place(), "The attack never came into force as far as the log tells."))
		case sheet.OneWay:
			checks = append(checks, d.cameBack(sheet))
		default:
			checks = append(checks, d.revertedOn(sheet))
		}
	}
	return checks
}

func (d *drillCase) revertedOn(sheet *HostImpact) Check {
	name := "reverted on " + sheet.place()
	attack := sheet.facts.attack
	var seqs []int64
	if attack.reverted != nil {
		seqs = append(seqs, attack.reverted.seq)
		if residue := attack.reverted.fact.Residue; len(residue) > 0 {
			return stillThere(name, "It left behind: "+strings.Join(residue, ", ")+".", seqs)
		}
	}
	if attack.account != nil {
		seqs = append(seqs, attack.account.seq)
		if !attack.account.fact.Reverted {
			return stillThere(name, "By its own account the attack could not take everything back.", seqs)
		}
	}
	if look, ok := d.lookedAfter(sheet); ok && len(look.fact.InForce) > 0 {
		return stillThere(name, "A later look at the host found in force: "+list(look.fact.InForce)+".", append(seqs, look.seq))
	}
	if attack.reverted == nil && attack.account == nil {
		return d.noWord(sheet, name)
	}
	if attack.reverted == nil || attack.account == nil {
		return inconclusive(GroupRevert, name, "Only a part of the proof that nothing remains is in the log.", seqs...)
	}
	if _, ok := d.lookedAfter(sheet); !ok {
		return inconclusive(GroupRevert, name, "Nobody else looked at the host afterwards: that nothing remains is the attack's own word alone.", seqs...)
	}
	return d.throughAgain(sheet, name, seqs)
}

func stillThere(name, why string, seqs []int64) Check {
	bad := failed(GroupRevert, name, why, seqs...)
	bad.NotReverted = true
	return bad
}

// lookedAfter returns the last look at the host after the attack ended, or, when its end is not known, after its deadline.
func (d *drillCase) lookedAfter(sheet *HostImpact) (seen[*history.Inspected], bool) {
	from := sheet.Reverted
	if from.IsZero() {
		from = sheet.Until
	}
	looks := within(d.rec.inspected[sheet.Host], from, d.span.to)
	for i := len(looks) - 1; i >= 0; i-- {
		if looks[i].fact.Error == "" {
			return looks[i], true
		}
	}
	return seen[*history.Inspected]{}, false
}

// noWord is for an attack that was in force and never said that it ended.
func (d *drillCase) noWord(sheet *HostImpact, name string) Check {
	attack := sheet.facts.attack
	if look, ok := d.lookedAfter(sheet); ok {
		return inconclusive(GroupRevert, name, "The attack gave no account of its end; a later look at the host found nothing in force.", look.seq)
	}
	for _, entry := range d.rec.hosts[sheet.Host] {
		if entry.at.After(sheet.InForce) && !entry.fact.Up {
			return inconclusive(GroupRevert, name, "The host went away while the attack was in force, and nothing tells what remains.", entry.seq)
		}
	}
	if !d.span.finished {
		return inconclusive(GroupRevert, name, "The log ends before the attack does; the deadline on the host ends it at the latest.")
	}
	var seqs []int64
	if attack.inForce != nil {
		seqs = append(seqs, attack.inForce.seq)
	}
	return stillThere(name, "The attack was in force and nobody saw it end.", seqs)
}

// throughAgain holds the last tries of every canary against the claim that nothing remains.
func (d *drillCase) throughAgain(sheet *HostImpact, name string, seqs []int64) Check {
	table := sheet.facts.attack.canaryTable()
	targets := slices.Clone(sheet.order.Canaries)
	for _, tries := range table {
		if !slices.Contains(targets, tries.target) {
			targets = append(targets, tries.target)
		}
	}
	for _, target := range targets {
		again := false
		for _, tries := range table {
			// An established flow may have been given up meanwhile by one of its ends; a new one must come through.
			if tries.target != target || tries.flow != "new" || len(tries.after) == 0 {
				continue
			}
			last := d.lastThrough(sheet, tries.after[len(tries.after)-1], target)
			seqs = append(seqs, last.seq)
			if !last.fact.Through {
				return stillThere(name, fmt.Sprintf("The canary %s was still cut off after the revert.", target), seqs)
			}
			again = true
		}
		if !again {
			return inconclusive(GroupRevert, name, fmt.Sprintf("The canary %s was not tried after the revert.", target), seqs...)
		}
	}
	why := "Looked for again and nothing was left"
	if len(targets) > 0 {
		why += fmt.Sprintf("; %s through again", isAre(len(targets), "canary"))
	}
	why = strings.Replace(why, "canarys", "canaries", 1)
	if sheet.Why != "" {
		why += " (ended: " + sheet.Why + ")"
	}
	result := passed(GroupRevert, name, why+".", seqs...)
	return d.onTime(sheet, result)
}

// lastThrough is the try that tells whether a target is reached again. Of attacks that were in force together the one that ends first finds
// the target still cut off by the others: what they found when they had ended counts.
func (d *drillCase) lastThrough(sheet *HostImpact, own seen[*history.AttackCanary], target string) seen[*history.AttackCanary] {
	last := own
	for i := range d.impact.Hosts {
		other := &d.impact.Hosts[i]
		if !d.drill.Together || other.Host != sheet.Host || other.facts.attack == nil || !own.at.Before(other.Reverted) {
			continue
		}
		for _, tries := range other.facts.attack.canaryTable() {
			if tries.target == target && tries.flow == "new" && len(tries.after) > 0 && tries.after[len(tries.after)-1].at.After(last.at) {
				last = tries.after[len(tries.after)-1]
			}
		}
	}
	return last
}

// overdueMax is how much later than its deadline an attack may say that it was taken back: looking for what is left takes time.
const overdueMax = 5 * time.Second

func (d *drillCase) onTime(sheet *HostImpact, result Check) Check {
	late := sheet.Reverted.Sub(sheet.Until)
	if sheet.Until.IsZero() || late <= overdueMax {
		return result
	}
	result.Outcome = history.Failed
	result.Explanation = fmt.Sprintf("It was taken back, but %s after its deadline.", secs(late))
	return result
}

// cameBack is the end of a one-way attack: there is nothing to take back but the host itself.
func (d *drillCase) cameBack(sheet *HostImpact) Check {
	name := sheet.Host + " is back"
	if sheet.facts.up != nil {
		seqs := []int64{sheet.facts.up.seq}
		for _, entry := range within(d.rec.hosts[sheet.Host], sheet.UpAt, d.span.to) {
			seqs = append(seqs, entry.seq)
			if !entry.fact.Up {
				return stillThere(name, "The host came back and went away again.", seqs)
			}
		}
		return passed(GroupRevert, name, fmt.Sprintf("Up again %s after the attack.", secs(sheet.UpAt.Sub(sheet.InForce))), seqs...)
	}
	last, ok := lastBefore(d.rec.hosts[sheet.Host], d.span.to)
	if ok && !last.fact.Up && d.span.finished {
		return stillThere(name, "The host went down and was not seen again.", []int64{last.seq})
	}
	return inconclusive(GroupRevert, name, "Nobody saw the host come back.")
}
