package stage

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// How long evidence holds.
const (
	day         = 24 * time.Hour
	cadence     = 35 * day // every four to five weeks
	yearly      = 365 * day
	quarterly   = 90 * day
	publishedIn = 7 * day
	intervals   = 3 // how many gaps between runs must have kept the cadence
)

// found is what looking for one item gave.
type found struct {
	met     bool
	text    string
	at      time.Time
	expires time.Time
	next    string // in place of the item's own
}

func missing(format string, args ...any) found { return found{text: fmt.Sprintf(format, args...)} }

func since(at time.Time, life time.Duration, format string, args ...any) found {
	return found{met: true, text: fmt.Sprintf(format, args...), at: at, expires: at.Add(life)}
}

// check is one item of the checklist.
type check struct {
	id, title string
	look      func(*Evidence) found
	next      func(*Evidence) string
}

func command(text string) func(*Evidence) string { return func(*Evidence) string { return text } }

var checklist = []check{
	{"1.1", "A playbook for the loss of the platform", (*Evidence).disasterBook, command("firedrill playbook new, then name it in the service file as playbook:")},
	{"1.2", "A playbook for each critical dependency", (*Evidence).dependencyBooks, command("firedrill playbook check")},
	{"1.3", "For each dependency that is not critical, from when on it is", (*Evidence).thresholds, command("add critical_when: alarm \"NAME\" for 10m to the dependency in the service file")},
	{"1.4", "One place, agreed by dev, test, ops and a stakeholder", (*Evidence).agreed, command("firedrill playbook approve FILE --role ROLE")},
	{"1.5", "People have followed the playbook for the loss of the platform", (*Evidence).rehearsed, command("firedrill playbook run FILE")},
	{"2.1", "Losing each critical dependency was drilled outside of production", (*Evidence).drilledBelow, drillNext},
	{"2.2", "The results are published", (*Evidence).published, command("firedrill run DRILL writes page and attestation beside the log; keep the three together")},
	{"2.3", "Each critical dependency has an alarm that moves the answer", (*Evidence).path, command("add the alarm to unhealthy_when: of the failover name")},
	{"3.1", "Every critical dependency is drilled every five weeks", (*Evidence).cadence, command("add the drill to schedule: with cron: \"0 10 1 * *\", and run firedrill schedule")},
	{"3.2", "Results can be compared over time", (*Evidence).trend, drillNext},
	{"3.3", "One exercise in production", (*Evidence).inProduction, command("firedrill run DRILL -f the service file with tier: production")},
	{"4.1", "Drills outside of production run by themselves", (*Evidence).automaticBelow, command("firedrill pipeline in the CI server, or firedrill schedule --unleash")},
	{"4.2", "Half of the playbook for the loss of the platform runs by itself", (*Evidence).semiAutomatic, command("firedrill playbook drill FILE")},
	{"4.3", "An attack was stopped early and taken back, and every revert is proven", (*Evidence).safety, command("firedrill run DRILL, then Ctrl-C or firedrill halt while the attack is in force")},
	{"5.1", "Deployments pass through drills in the CI server", (*Evidence).gate, command("firedrill pipeline in the CI server")},
	{"5.2", "The gate has failed once, and taken a deployment back", (*Evidence).gateFails, command("deploy a release that does not fail over: firedrill pipeline --revision BAD")},
	{"5.3", "Drills in production run by themselves", (*Evidence).automaticProduction, command("firedrill schedule --unleash with the service file of production")},
	{"5.4", "Failover and the way back in production run by themselves", (*Evidence).automaticFailover, command("schedule a drill that expects the answer to move and to move back, or firedrill playbook drill FILE")},
	{"5.5", "Objectives are met", (*Evidence).objectives, command("firedrill report --compare OLD NEW")},
	{"5.6", "There was somewhere to go back to in every drill", (*Evidence).rollbackReady, drillNext},
}

// drillNext names a drill that would help: the first of the file.
func drillNext(e *Evidence) string {
	if len(e.Service.Drills) > 0 {
		return "firedrill run " + e.Service.Drills[0].Name
	}
	return "firedrill drills add lose-dependency"
}

func (e *Evidence) critical() []drill.Dependency {
	return slices.DeleteFunc(slices.Clone(e.Service.Dependencies), func(d drill.Dependency) bool { return d.Critical == "" })
}

func (e *Evidence) book(of string) (Book, bool) {
	i := slices.IndexFunc(e.Books, func(b Book) bool { return b.For == of })
	if i < 0 {
		return Book{}, false
	}
	return e.Books[i], true
}

func (e *Evidence) wholeBook(of string) found {
	book, is := e.book(of)
	switch {
	case !is:
		return missing("no playbook for %s", of)
	case book.Problem != "":
		return missing("%s: %s", book.File, book.Problem)
	}
	return found{met: true, text: book.File + " is whole"}
}

func (e *Evidence) disasterBook() found { return e.wholeBook(e.Disaster) }

// each asks one question of every critical dependency. What expires first expires all.
func (e *Evidence) each(ask func(drill.Dependency) found) found {
	all := found{met: true}
	var texts []string
	for _, dependency := range e.critical() {
		one := ask(dependency)
		if !one.met {
			return missing("%s: %s", dependency.Name, one.text)
		}
		texts = append(texts, dependency.Name+": "+one.text)
		if all.at.IsZero() || one.at.Before(all.at) {
			all.at = one.at
		}
		if !one.expires.IsZero() && (all.expires.IsZero() || one.expires.Before(all.expires)) {
			all.expires = one.expires
		}
	}
	if len(texts) == 0 {
		return missing("the service file names no critical dependency")
	}
	all.text = strings.Join(texts, "; ")
	return all
}

func (e *Evidence) dependencyBooks() found {
	return e.each(func(d drill.Dependency) found { return e.wholeBook(d.Name) })
}

func (e *Evidence) thresholds() found {
	if len(e.Service.Dependencies) == 0 {
		return missing("the service file names no dependency")
	}
	for _, dependency := range e.Service.Dependencies {
		if dependency.Critical == "" && dependency.CriticalWhen == "" {
			return missing("%s is not critical, and nothing says from when on it is", dependency.Name)
		}
	}
	return found{met: true, text: "said of every dependency"}
}

func (e *Evidence) agreed() found {
	if len(e.Books) == 0 {
		return missing("no playbook")
	}
	all := found{met: true, text: fmt.Sprintf("every role agrees to %d playbooks as they are", len(e.Books))}
	for _, book := range e.Books {
		if len(book.Missing) > 0 {
			return missing("%s: %s still to agree to this text, or again after a year", book.File, strings.Join(book.Missing, ", "))
		}
		if all.at.IsZero() || book.AgreedAt.Before(all.at) {
			all.at = book.AgreedAt
		}
		if all.expires.IsZero() || book.Expires.Before(all.expires) {
			all.expires = book.Expires
		}
	}
	return all
}

// lastRehearsal is the newest one that fits.
func (e *Evidence) lastRehearsal(fits func(Rehearsal) bool) (Rehearsal, bool) {
	for i := len(e.Rehearsals) - 1; i >= 0; i-- {
		if fits(e.Rehearsals[i]) {
			return e.Rehearsals[i], true
		}
	}
	return Rehearsal{}, false
}

func (e *Evidence) rehearsed() found {
	last, is := e.lastRehearsal(func(r Rehearsal) bool { return r.For == e.Disaster && r.Outcome == history.Passed })
	if !is {
		return missing("nobody has followed it to its end yet")
	}
	return since(last.At, yearly, "%s, %s", last.Name, last.At.UTC().Format(time.DateOnly))
}

// proof is a drill on one dependency that passed, or with failedToo one whose attack bit at least.
type proof struct {
	run  *Run
	step *verdict.StepVerdict
	at   time.Time
}

// drillsOf are the drills that took a dependency away, oldest first.
func (e *Evidence) drillsOf(dependency drill.Dependency, fits func(*Run) bool) []proof {
	var all []proof
	for i := range e.Runs {
		run := &e.Runs[i]
		if !fits(run) {
			continue
		}
		for j := range run.Verdict.Steps {
			step := &run.Verdict.Steps[j]
			if step.Step < len(run.Plan.Steps) && step.Outcome == history.Passed && aims(run.Plan.Steps[step.Step].Drill, dependency) {
				all = append(all, proof{run, step, step.Finished})
			}
		}
	}
	return all
}

// hostnameFlag names hosts that an attack cuts off.
const hostnameFlag = "--hostname="

// aims says that a drill takes a dependency away: it is a canary, or named among what is hit.
func aims(planned *drill.PlannedDrill, dependency drill.Dependency) bool {
	if planned == nil {
		return false
	}
	host, _, _ := net.SplitHostPort(dependency.Address)
	for _, order := range planned.Orders() {
		if slices.Contains(order.Canaries, dependency.Address) {
			return true
		}
		for _, arg := range order.Args {
			if list, is := strings.CutPrefix(arg, hostnameFlag); is && slices.Contains(strings.Split(list, ","), host) {
				return true
			}
		}
	}
	return false
}

func below(run *Run) bool        { return run.Plan.Tier != "" && run.Plan.Tier != Production }
func inProduction(run *Run) bool { return run.Plan.Tier == Production }
func automatic(run *Run) bool {
	return run.Trigger == history.TriggerPipeline || run.Trigger == history.TriggerSchedule
}

// drilled looks for a drill on each critical dependency in the runs that fit. where says in words which those are.
func (e *Evidence) drilled(life time.Duration, fits func(*Run) bool, where string) found {
	return e.each(func(d drill.Dependency) found {
		all := e.drillsOf(d, fits)
		if len(all) == 0 {
			return missing("no drill on it passed in a run %s", where)
		}
		last := all[len(all)-1]
		if book, is := e.book(d.Name); is && book.AgreedAt.After(last.at) {
			return missing("its playbook was changed after the last drill that passed (%s)", last.run.Name)
		}
		return since(last.at, life, "%s in %s", last.step.Name, last.run.Name)
	})
}

func (e *Evidence) drilledBelow() found {
	got := e.drilled(yearly, below, belowWords)
	if !got.met && e.Service.Tier == "" {
		got.next = "write tier: staging into the service file of that place, then " + drillNext(e)
	}
	return got
}

// How the runs are named that an item counts.
const (
	belowWords = "outside of production (with another tier: in the service file)"
	byItself   = "by a pipeline or a schedule, "
)

func (e *Evidence) automaticBelow() found {
	return e.drilled(cadence, func(r *Run) bool { return below(r) && automatic(r) }, byItself+belowWords)
}
func (e *Evidence) automaticProduction() found {
	return e.drilled(cadence, func(r *Run) bool { return inProduction(r) && automatic(r) }, byItself+"with tier: "+Production)
}

func (e *Evidence) published() found {
	for i := len(e.Runs) - 1; i >= 0; i-- {
		run := &e.Runs[i]
		if !slices.ContainsFunc(run.Plan.Steps, func(s drill.Step) bool { return s.Drill != nil }) {
			continue
		}
		if !run.Published {
			return missing("%s, the newest run, lacks a page or an attestation that its files match", run.Name)
		}
		return since(run.Verdict.Finished, yearly, "%s: its page and its log are as they were attested", run.Name)
	}
	return missing("no run with a drill")
}

// path asks the service file alone.
func (e *Evidence) path() found {
	if len(e.Service.Failover) == 0 {
		return missing("the service file has no failover")
	}
	return e.each(func(d drill.Dependency) found {
		for _, metric := range e.Service.Metrics {
			if metric.Connect != d.Name && metric.Connect != d.Address {
				continue
			}
			for _, alarm := range e.Service.Alarms {
				if alarm.Metric == metric.Name && slices.Contains(e.Service.Failover[0].UnhealthyWhen, alarm.Name) {
					return found{met: true, text: alarm.Name}
				}
			}
		}
		return missing("no alarm on it is in unhealthy_when")
	})
}

func (e *Evidence) cadence() found {
	return e.each(func(d drill.Dependency) found {
		all := e.drillsOf(d, func(*Run) bool { return true })
		if len(all) <= intervals {
			return missing("%d drills passed; %d are needed to show a cadence", len(all), intervals+1)
		}
		all = all[len(all)-intervals-1:]
		for i := 1; i < len(all); i++ {
			if gap := all[i].at.Sub(all[i-1].at); gap > cadence {
				return missing("%.0f days passed between %s and %s; %.0f are allowed", gap.Hours()/24, all[i-1].run.Name, all[i].run.Name, cadence.Hours()/24)
			}
		}
		last := all[len(all)-1]
		return since(last.at, cadence, "the last %d in time, the newest in %s", len(all), last.run.Name)
	})
}

func (e *Evidence) trend() found {
	if len(e.Service.Drills) == 0 {
		return missing("the service file has no drill")
	}
	for _, written := range e.Service.Drills {
		count := 0
		for _, run := range e.Runs {
			for i, step := range run.Verdict.Steps {
				if i < len(run.Plan.Steps) && run.Plan.Steps[i].Drill != nil && run.Plan.Steps[i].Drill.Name == written.Name && step.Ran {
					count++
				}
			}
		}
		if count < 2 {
			open := missing("%s ran %s; two runs make a trend", written.Name, []string{"never", "once"}[count])
			open.next = "firedrill run " + written.Name
			return open
		}
	}
	return found{met: true, text: fmt.Sprintf("%d drills ran at least twice each", len(e.Service.Drills))}
}

func (e *Evidence) inProduction() found {
	for i := len(e.Runs) - 1; i >= 0; i-- {
		run := &e.Runs[i]
		if !inProduction(run) {
			continue
		}
		for _, step := range run.Verdict.Steps {
			if step.Kind == drill.StepDrill && step.Ran && (step.Outcome == history.Passed || step.Outcome == history.Failed) {
				return since(step.Finished, yearly, "%s in %s: %s", step.Name, run.Name, step.Outcome)
			}
		}
	}
	if last, is := e.lastRehearsal(func(r Rehearsal) bool { return r.Tier == Production && r.Outcome != history.Inconclusive }); is {
		return since(last.At, yearly, "%s: %s", last.Name, last.Outcome)
	}
	return missing("no drill and no rehearsal with tier: production")
}

func (e *Evidence) semiAutomatic() found {
	book, is := e.book(e.Disaster)
	if !is || book.Steps == 0 {
		return missing("no playbook for %s", e.Disaster)
	}
	if 2*book.Executable < book.Steps {
		return missing("%d of %d steps of %s run by themselves; half of them must", book.Executable, book.Steps, book.File)
	}
	last, is := e.lastRehearsal(func(r Rehearsal) bool {
		return r.For == e.Disaster && r.Automatic && r.Outcome == history.Passed && r.Asked <= book.Confirm
	})
	if !is {
		return missing("no run of it by itself passed with at most %d confirmations", book.Confirm)
	}
	return since(last.At, yearly, "%s, asked %d times", last.Name, last.Asked)
}

func (e *Evidence) safety() found {
	var last *Run
	for i := range e.Runs {
		run := &e.Runs[i]
		if e.Now.Sub(run.Verdict.Finished) < quarterly && run.Verdict.NotReverted {
			return missing("%s: the impact is not proven to be gone", run.Name)
		}
		if run.Stopped {
			last = run
		}
	}
	if last == nil {
		return missing("no attack was ever ended before its time")
	}
	return since(last.Verdict.Finished, quarterly, "%s was stopped early, and its impact taken back", last.Name)
}

// kinds are what kinds of steps a run did.
func (r *Run) did(kind string) bool {
	return slices.ContainsFunc(r.Verdict.Steps, func(s verdict.StepVerdict) bool { return s.Kind == kind && s.Ran })
}

func (e *Evidence) gate() found {
	var last *Run
	for i := range e.Runs {
		run := &e.Runs[i]
		if !run.did(drill.StepDeploy) || e.Now.Sub(run.Verdict.Finished) > cadence {
			continue
		}
		if !run.did(drill.StepDrill) && run.Verdict.Outcome == history.Passed {
			return missing("%s deployed without a drill", run.Name)
		}
		if run.Trigger == history.TriggerPipeline && run.Verdict.Outcome == history.Passed {
			last = run
		}
	}
	if last == nil {
		return missing("no run by a CI server deployed and passed its drills in %.0f days", cadence.Hours()/24)
	}
	return since(last.Verdict.Finished, cadence, "%s deployed %.12s and passed", last.Name, last.Verdict.Revision)
}

func (e *Evidence) gateFails() found {
	for i := len(e.Runs) - 1; i >= 0; i-- {
		run := &e.Runs[i]
		if run.Verdict.Outcome == history.Failed && run.WentBack {
			return since(run.Verdict.Finished, yearly, "%s failed, and the release went back", run.Name)
		}
	}
	return missing("no drill has stopped a deployment yet: nobody knows that it can")
}

func (e *Evidence) automaticFailover() found {
	for i := len(e.Runs) - 1; i >= 0; i-- {
		run := &e.Runs[i]
		if !inProduction(run) || !automatic(run) || run.Verdict.Outcome != history.Passed {
			continue
		}
		moved, back := false, false
		for _, step := range run.Plan.Steps {
			if step.Drill == nil {
				back = back || moved && step.Kind == drill.StepPromote
				continue
			}
			moves := slices.ContainsFunc(step.Drill.Expectations, func(x drill.Expectation) bool { return x.Kind == drill.ExpectMoves })
			returns := slices.ContainsFunc(step.Drill.Expectations, func(x drill.Expectation) bool { return x.Kind == drill.ExpectMovesBack })
			back = back || moves && (returns || moved)
			moved = moved || moves
		}
		if moved && back {
			return since(run.Verdict.Finished, cadence, "%s: away and back", run.Name)
		}
	}
	last, is := e.lastRehearsal(func(r Rehearsal) bool {
		return r.For == e.Disaster && r.Tier == Production && r.Automatic && r.Asked == 0 && r.Resumed && r.Outcome == history.Passed
	})
	if !is {
		return missing("no run by itself in production moved the answer away and back")
	}
	return since(last.At, cadence, "%s", last.Name)
}

func (e *Evidence) objectives() found {
	if e.Service.Objectives.RTO == 0 || e.Service.Objectives.RPO == nil {
		return missing("the service file states no rto or no rpo in objectives:")
	}
	var last *Run
	for i := range e.Runs {
		if e.Runs[i].did(drill.StepDrill) {
			last = &e.Runs[i]
		}
	}
	if last == nil {
		return missing("no drill has measured anything")
	}
	v := last.Verdict
	switch {
	case v.RTO == nil:
		return missing("%s measured no recovery time", last.Name)
	case v.RTO.Open || v.RTO.Seconds+v.RTO.Bound > e.Service.Objectives.RTO.Duration().Seconds():
		return missing("%s: recovery took %.2f s ±%.2f of %s", last.Name, v.RTO.Seconds, v.RTO.Bound, e.Service.Objectives.RTO)
	case v.Totals.Unmeasured != "":
		return missing("%s did not measure %s", last.Name, v.Totals.Unmeasured)
	case v.Outcome != history.Passed:
		return missing("%s: %s", last.Name, v.Outcome)
	}
	return since(v.Finished, cadence, "%s: recovery %.2f s ±%.2f of %s", last.Name, v.RTO.Seconds, v.RTO.Bound, e.Service.Objectives.RTO)
}

func (e *Evidence) rollbackReady() found {
	seen := found{text: "no drill in the last five weeks"}
	for _, run := range e.Runs {
		if e.Now.Sub(run.Verdict.Finished) > cadence {
			continue
		}
		for _, step := range run.Verdict.Steps {
			if step.Kind != drill.StepDrill || !step.Ran {
				continue
			}
			ready := slices.ContainsFunc(step.Checks, func(c verdict.Check) bool { return c.Group == verdict.GroupReadiness && c.Outcome == history.Passed })
			failed := slices.ContainsFunc(step.Checks, func(c verdict.Check) bool { return c.Group == verdict.GroupReadiness && c.Outcome != history.Passed })
			if failed || !ready {
				return missing("%s in %s: it is not proven that there was", step.Name, run.Name)
			}
			seen = since(step.Finished, cadence, "in every drill up to %s", run.Name)
		}
	}
	return seen
}

// HoldsAtMost reports whether no evidence holds for longer than a time.
func HoldsAtMost(life time.Duration) bool {
	return max(cadence, yearly, quarterly, publishedIn, (intervals+1)*cadence) <= life
}
