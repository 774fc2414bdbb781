package verdict

import (
	"fmt"
	"slices"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// readiness asks whether there was somewhere to go back to all the time.
func (d *drillCase) readiness() []Check {
	const name = "somewhere to go back to"
	var last *seen[*history.Check]
	for i := range d.rec.checks {
		if d.rec.checks[i].fact.Step == d.step && d.rec.checks[i].fact.Name == CheckRollbackReady {
			last = &d.rec.checks[i]
		}
	}
	checks := d.conductorChecks(false)
	switch {
	case last == nil:
		checks = append(checks, inconclusive(GroupReadiness, name, "Nobody looked whether a release was left to go back to."))
	case !last.fact.OK:
		checks = append(checks, failed(GroupReadiness, name, orText(sentence(last.fact.Detail), "No release was left to go back to."), last.seq))
	default:
		checks = append(checks, passed(GroupReadiness, name, orText(sentence(last.fact.Detail), "A healthy release was left to go back to."), last.seq))
	}
	return checks
}

// permitted notices an attack for which the log holds no leave of the guard: nobody had looked whether there was somewhere to go back to.
func (d *drillCase) permitted() []Check {
	granted := slices.ContainsFunc(d.rec.permits, func(p seen[*history.Permit]) bool { return p.fact.Step == d.step && p.fact.Granted })
	if _, attacked := d.t0(); granted || !attacked {
		return nil
	}
	return []Check{inconclusive(GroupReadiness, "permit", "No permit of the guard for this attack is in the log.")}
}

// judgeDeploy asks for the same revision, healthy, on every host of the environment.
func judgeDeploy(rec *record, step int) ([]Check, string) {
	planned := rec.plan.Steps[step]
	hosts := hostsOf(rec.plan, planned.Environment)
	if len(hosts) == 0 {
		return []Check{inconclusive(GroupDeploy, "hosts", fmt.Sprintf("The environment %s has no hosts, so nothing was deployed.", planned.Environment))}, ""
	}
	revision := ""
	var checks, lost []Check
	var without []string
	for _, host := range hosts {
		result, got := deployedOn(rec, rec.steps[step], host.Name)
		if result.Outcome == history.Failed {
			lost, without = append(lost, result), append(without, host.Name)
			continue
		}
		switch {
		case result.Outcome != history.Passed:
		case revision == "":
			revision = got
		case revision != got:
			result.Outcome = history.Failed
			result.Explanation = fmt.Sprintf("It runs %s, another host of the environment %s.", short(got), short(revision))
		}
		checks = append(checks, result)
	}
	checks = append(checks, tolerated(rec, step, lost, without, len(hosts))...)
	return append(checks, stepChecks(rec, step, GroupDeploy)...), revision
}

// LeftOut begins the name of the check of a host that a deployment which passed has not reached; its name follows.
const LeftOut = "left out: "

// tolerated weighs the hosts that do not run the release. Fewer than stop_at_failures may fail, each proven to be back on what it ran
// before or never switched; they are named, and the step passes without them. As many as that, or one that is neither, fail the step.
func tolerated(rec *record, step int, lost []Check, without []string, hosts int) []Check {
	limit := 1
	if rec.plan.Deploy != nil {
		limit = max(1, rec.plan.Deploy.StopAtFailures)
	}
	if len(lost) >= limit || len(lost) == hosts {
		return lost
	}
	for i := range lost {
		ran, went := leftAsItWas(rec, rec.steps[step], without[i])
		if !went {
			return lost
		}
		lost[i].Outcome = history.Passed
		lost[i].Name = LeftOut + without[i]
		lost[i].Explanation = fmt.Sprintf("%s It %s. %d of %d hosts failed, and stop_at_failures is %d.", lost[i].Explanation, ran, len(lost), hosts, limit)
	}
	return lost
}

// leftAsItWas says that a host on which the deployment failed was never switched, or runs what it ran before and is healthy with it.
func leftAsItWas(rec *record, span span, host string) (ran string, yes bool) {
	switched, back := false, false
	for i := range rec.deploys {
		entry := &rec.deploys[i]
		if entry.fact.Host != host || !span.holds(entry.at) {
			continue
		}
		switch entry.fact.Stage {
		case history.DeploySwitched:
			switched, back = true, false
		case history.DeployRestored:
			back = true
		}
	}
	if back {
		return "runs the release before again, healthy", true
	}
	return "was never switched", !switched
}

func hostsOf(plan drill.Plan, environment string) []drill.Host {
	for _, known := range plan.Environments {
		if known.Name == environment {
			return known.Hosts
		}
	}
	return nil
}

// deployedOn looks at the last word on one host: a release that was healthy and then rolled back is not deployed.
func deployedOn(rec *record, span span, host string) (Check, string) {
	name := "deployed on " + host
	var last *seen[*history.Deploy]
	files, published, reason := 0, false, ""
	var seqs []int64
	for i := range rec.deploys {
		entry := &rec.deploys[i]
		if entry.fact.Host != host || !span.holds(entry.at) {
			continue
		}
		last = entry
		seqs = append(seqs, entry.seq)
		switch entry.fact.Stage {
		case history.DeployPublish:
			files, published = entry.fact.Files, true
		case history.DeployFailed:
			reason = entry.fact.Detail
		}
	}
	switch {
	case last == nil:
		return inconclusive(GroupDeploy, name, "Nothing was deployed to this host as far as the log tells."), ""
	case last.fact.Stage == history.DeployFailed || last.fact.Stage == history.DeployRestored:
		return failed(GroupDeploy, name, fmt.Sprintf("The deployment ended as %s%s", last.fact.Stage, because(orText(last.fact.Detail, reason))), seqs...), ""
	case published && files == 0:
		return failed(GroupDeploy, name, "The release holds no file.", seqs...), ""
	case last.fact.Stage != history.DeployHealthy:
		return inconclusive(GroupDeploy, name, fmt.Sprintf("The deployment came as far as %s and was not seen healthy.", last.fact.Stage), seqs...), ""
	case last.fact.Revision == "":
		return inconclusive(GroupDeploy, name, "The host is healthy, but which revision it runs is not known.", seqs...), ""
	}
	why := fmt.Sprintf("Healthy with revision %s", short(last.fact.Revision))
	if published {
		why += fmt.Sprintf(", %s", plural(files, "file"))
	}
	return passed(GroupDeploy, name, why+".", seqs...), last.fact.Revision
}

// judgeRollback asks that the last word on every host of the environment is that it went back, after it was seen healthy.
func judgeRollback(rec *record, step int) ([]Check, string) {
	planned := rec.plan.Steps[step]
	hosts := hostsOf(rec.plan, planned.Environment)
	if len(hosts) == 0 {
		return []Check{inconclusive(GroupDeploy, "hosts", fmt.Sprintf("The environment %s has no hosts, so nothing was rolled back.", planned.Environment))}, ""
	}
	revision := ""
	var checks []Check
	for _, host := range hosts {
		name := "rolled back on " + host.Name
		last, healthy := history.Deploy{}, false
		var seqs []int64
		for i := range rec.deploys {
			if entry := &rec.deploys[i]; entry.fact.Host == host.Name && rec.steps[step].holds(entry.at) {
				last, seqs = *entry.fact, append(seqs, entry.seq)
				healthy = healthy || last.Stage == history.DeployHealthy
			}
		}
		switch {
		case last.Stage == history.DeployFailed:
			checks = append(checks, failed(GroupDeploy, name, "Going back failed"+because(last.Detail), seqs...))
		case last.Stage != history.DeployRestored || !healthy:
			checks = append(checks, inconclusive(GroupDeploy, name, "It was not seen to go back and to be healthy then.", seqs...))
		default:
			revision = last.Revision
			checks = append(checks, passed(GroupDeploy, name, fmt.Sprintf("Healthy with revision %s again.", short(last.Revision)), seqs...))
		}
	}
	return append(checks, stepChecks(rec, step, GroupDeploy)...), revision
}

func short(revision string) string {
	const shown = 12 // what git shows of a commit in a large repository
	if len(revision) > shown {
		return revision[:shown]
	}
	return orText(revision, "nothing")
}

// judgePromote asks every name server for the environment that was promoted.
func judgePromote(rec *record, step int) []Check {
	planned := rec.plan.Steps[step]
	span := rec.steps[step]
	switched := inconclusive(GroupPromote, "switched", "The log does not hold the order to switch.")
	at := time.Time{}
	for _, entry := range rec.promotes {
		if entry.fact.To == planned.Environment && span.holds(entry.at) {
			at = entry.at
			switched = passed(GroupPromote, "switched", fmt.Sprintf("Switched from %s to %s.", entry.fact.From, entry.fact.To), entry.seq)
		}
	}
	checks := []Check{switched}
	if at.IsZero() && rec.refusal(step) != "" {
		return checks // nothing was moved, and so nothing is asked of the name servers
	}
	places := rec.places()
	if len(places) == 0 {
		checks = append(checks, inconclusive(GroupPromote, "answer", "No name server was asked, so nobody knows where clients are sent."))
	}
	for _, place := range places {
		checks = append(checks, promotedOn(rec, span, place, planned.Environment, at))
	}
	for _, entry := range rec.drained {
		if entry.fact.Step == step {
			checks = append(checks, drained(entry))
		}
	}
	return append(checks, stepChecks(rec, step, GroupPromote)...)
}

// drained tells how the wait for requests on the old environment ended. It has a bound, so requests that are left fail nothing; whoever
// reads the report has to know of them.
func drained(entry seen[*history.Drained]) Check {
	name := "drained " + entry.fact.Environment
	why := fmt.Sprintf("After %s %s", entry.fact.Waited, sentence(entry.fact.Detail))
	if !entry.fact.Ended {
		name, why = "not drained: "+entry.fact.Environment, why+" They were left alone; what comes next may cut them."
	}
	return passed(GroupPromote, name, why, entry.seq)
}

func promotedOn(rec *record, span span, place answerPlace, environment string, at time.Time) Check {
	name := "answer of " + place.server
	answers := within(rec.answers[place], span.from.Add(-time.Nanosecond), span.to)
	if len(answers) == 0 {
		return inconclusive(GroupPromote, name, "It was not asked.")
	}
	last := answers[len(answers)-1]
	if got := rec.environmentOf(last.fact); got != environment {
		return failed(GroupPromote, name, fmt.Sprintf("%s answers %s instead of %s.", place.server, orNothing(got), environment), last.seq)
	}
	first := last
	for i := len(answers) - 1; i >= 0 && rec.environmentOf(answers[i].fact) == environment; i-- {
		first = answers[i]
	}
	result := passed(GroupPromote, name, fmt.Sprintf("%s answers %s.", place.server, environment), first.seq)
	if !at.IsZero() && first.at.After(at) {
		result.Measured = quantity(first.at.Sub(at))
	}
	return result
}

// stepChecks are the conductor's own checks of a step that is no drill: the last word of each.
func stepChecks(rec *record, step int, group Group) []Check {
	d := &drillCase{rec: rec, step: step, planned: rec.plan.Steps[step], span: rec.steps[step], impact: &Impact{}}
	checks := d.conductorChecks(true) // without an attack every check comes before it
	for i := range checks {
		checks[i].Group = group
	}
	return checks
}
