package verdict

import (
	"fmt"
	"slices"
	"strings"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Judge says what the run in log proved of plan. It never panics and never passes a log that lacks evidence; log may be a prefix, and
// its events may carry no sequence numbers, then their positions from 1 stand for them. A run that went on with others passes only with
// their logs.
func Judge(plan drill.Plan, log []history.Event, earlier ...Earlier) Verdict {
	return judge(plan, func() *record { return newRecord(plan, log) }, earlier)
}

func judge(plan drill.Plan, recorded func() *record, earlier []Earlier) (verdict Verdict) {
	defer func() {
		if caught := recover(); caught != nil {
			verdict = Verdict{
				Service: plan.Service, Outcome: history.Inconclusive, Exit: exitInconclusive,
				Reason: fmt.Sprintf("Judging the log broke, so nothing is proven: %v.", caught),
			}
		}
	}()
	rec := recorded()
	verdict = Verdict{Service: plan.Service, Started: rec.first, Finished: rec.last}
	if rec.run != nil {
		verdict.Run = rec.run.fact.Run
	}
	verdict.Checks = judgeRun(rec, earlier)
	for step := range plan.Steps {
		judged := judgeStep(rec, step)
		requireFinished(rec, &judged)
		requireTold(rec, &judged)
		verdict.Steps = append(verdict.Steps, judged)
	}
	conclude(rec, &verdict)
	return verdict
}

// JudgeStep says what one step proved, without asking whether the run or the step was closed in the log: a conductor asks before it
// writes that. It never panics.
func JudgeStep(plan drill.Plan, log []history.Event, step int) (judged StepVerdict) {
	if step < 0 || step >= len(plan.Steps) {
		return StepVerdict{Step: step, Outcome: history.Inconclusive, Reason: fmt.Sprintf("The plan has no step %d.", step)}
	}
	defer func() {
		if caught := recover(); caught != nil {
			judged = StepVerdict{Step: step, Outcome: history.Inconclusive, Reason: fmt.Sprintf("Judging the log broke, so nothing is proven: %v.", caught)}
		}
	}()
	return judgeStep(newRecord(plan, log), step)
}

func judgeStep(rec *record, step int) (judged StepVerdict) {
	planned := rec.plan.Steps[step]
	judged = StepVerdict{Step: step, Kind: planned.Kind, Name: planned.Name, Environment: planned.Environment}
	defer func() {
		if caught := recover(); caught != nil {
			judged.Outcome = history.Inconclusive
			judged.Reason = fmt.Sprintf("Judging this step broke, so nothing is proven: %v.", caught)
			judged.Checks = append(judged.Checks, inconclusive(GroupRun, "judged", judged.Reason))
		}
	}()
	span := rec.steps[step]
	judged.Ran, judged.Started, judged.Finished = span.started, span.from, span.to
	if !span.started {
		judged.Outcome, judged.Reason = history.Inconclusive, "It was never started."
		if refusal := rec.refusal(step); refusal != "" {
			judged.Refused, judged.Reason = true, "A safeguard refused it: "+refusal
		}
		judged.Checks = []Check{inconclusive(GroupRun, "started", judged.Reason)}
		return judged
	}
	judged.Clients = clientsOf(rec, span)
	switch planned.Kind {
	case drill.StepDeploy:
		judged.Checks, judged.Revision = judgeDeploy(rec, step)
	case drill.StepRollback:
		judged.Checks, judged.Revision = judgeRollback(rec, step)
	case drill.StepPromote:
		judged.Checks = judgePromote(rec, step)
	case drill.StepDrill:
		judgeDrill(rec, step, &judged)
	default:
		judged.Checks = []Check{inconclusive(GroupRun, "known kind", fmt.Sprintf("This version cannot judge a step of kind %q.", planned.Kind))}
	}
	refusal := rec.refusal(step)
	if refusal != "" {
		judged.Refused = true
		judged.Checks = append(judged.Checks, inconclusive(GroupRun, Admitted, "A safeguard refused it: "+refusal))
	}
	weigh(&judged)
	if refusal != "" && judged.Outcome == history.Inconclusive {
		judged.Reason = "A safeguard refused it: " + refusal
	}
	return judged
}

func judgeDrill(rec *record, step int, judged *StepVerdict) {
	planned := rec.plan.Steps[step]
	if planned.Drill == nil {
		judged.Checks = []Check{inconclusive(GroupRun, "planned", "The plan does not say what this drill does.")}
		return
	}
	impact := impactOf(rec, step)
	judged.Impact = &impact
	d := &drillCase{rec: rec, step: step, planned: planned, drill: planned.Drill, span: rec.steps[step], impact: &impact}
	add := func(checks ...Check) { judged.Checks = append(judged.Checks, checks...) }
	add(d.steadyBefore()...)
	injected := append(d.inForce(), d.bit()...)
	d.proven = !slices.ContainsFunc(injected, func(c Check) bool { return c.Outcome != history.Passed && c.Group != GroupRun })
	add(injected...)
	add(d.expectations()...)
	add(d.reverted()...)
	add(d.objectives()...)
	add(d.readiness()...)
	add(d.permitted()...)
	judged.RTO = d.rto()
	judged.Recoveries = d.clientRecoveries()
}

// drillCase is everything that the questions about one drill need.
type drillCase struct {
	rec     *record
	step    int
	planned drill.Step
	drill   *drill.PlannedDrill
	span    span
	impact  *Impact
	proven  bool // the attack was in force and bit
}

// weigh makes the outcome of a step out of its checks.
func weigh(judged *StepVerdict) {
	if len(judged.Checks) == 0 {
		judged.Outcome, judged.Reason = history.Inconclusive, "Nothing was checked."
		return
	}
	outcome := history.Passed
	var unsteady, unproven, failed, open []string
	stopped := ""
	for _, check := range judged.Checks {
		outcome = worst(outcome, check.Outcome)
		judged.NotReverted = judged.NotReverted || check.NotReverted
		if check.Name == ranName && check.Outcome != history.Passed {
			stopped = check.Explanation
		}
		switch {
		case check.Outcome == history.Passed:
		case check.Group == GroupSteady:
			unsteady = append(unsteady, check.Explanation)
		case check.Group == GroupInjection || check.Group == GroupBite:
			unproven = append(unproven, check.Explanation)
		case check.Outcome == history.Failed:
			failed = append(failed, check.Explanation)
		default:
			open = append(open, check.Explanation)
		}
	}
	switch {
	case judged.NotReverted:
		judged.Outcome, judged.Reason = history.Failed, "The impact is not proven to be gone: "+notRevertedWhy(judged.Checks)
	case len(unsteady) > 0:
		judged.Outcome, judged.Reason = history.Inconclusive, "It was not steady before, so nothing can be blamed on the attack: "+unsteady[0]
	case len(unproven) > 0 && stopped != "":
		judged.Outcome, judged.Reason = history.Inconclusive, stopped // it had no time to bite
	case len(unproven) > 0:
		judged.Outcome, judged.Reason = history.Inconclusive, "The attack is not proven to have bitten: "+unproven[0]
	case len(failed) > 0:
		judged.Outcome, judged.Reason = history.Failed, failed[0]
	case len(open) > 0:
		judged.Outcome, judged.Reason = history.Inconclusive, open[0]
	default:
		judged.Outcome, judged.Reason = outcome, fmt.Sprintf("All %d checks hold.", len(judged.Checks))
	}
}

func notRevertedWhy(checks []Check) string {
	for _, check := range checks {
		if check.NotReverted {
			return check.Explanation
		}
	}
	return "no evidence."
}

// requireFinished holds a step against the log as a whole: without its end it is not known whether all of it was seen.
func requireFinished(rec *record, judged *StepVerdict) {
	if !judged.Ran || rec.steps[judged.Step].finished {
		return
	}
	missing := inconclusive(GroupRun, "finished", "The log does not hold the end of this step.")
	judged.Checks = append(judged.Checks, missing)
	if judged.Outcome == history.Passed {
		judged.Outcome, judged.Reason = history.Inconclusive, missing.Explanation
	}
}

// requireTold holds a step against what was said when it ended. Whoever judges again knows of no event that speaks for the step and was not
// known then, but may see it in another light: later by the few milliseconds that judging took, or by the rules of another version.
func requireTold(rec *record, judged *StepVerdict) {
	told := rec.steps[judged.Step].told
	if told == nil || told.Outcome == history.Passed || judged.Outcome != history.Passed {
		return
	}
	other := inconclusive(GroupRun, "as told", fmt.Sprintf("When the step ended it was told as %q%s", told.Outcome, because(told.Reason)))
	judged.Checks = append(judged.Checks, other)
	judged.Outcome, judged.Reason = history.Inconclusive, other.Explanation
}

// judgeRun asks what concerns the run as a whole: that the log is complete, and of this plan.
func judgeRun(rec *record, earlier []Earlier) []Check {
	begun := inconclusive(GroupRun, "log begins", "The log does not say what was going to be done.")
	if rec.run != nil {
		begun = passed(GroupRun, "log begins", "The log carries the plan that it is judged by.", rec.run.seq)
		if !samePlan(rec.plan, rec.run.fact.Plan) {
			begun = inconclusive(GroupRun, "log begins", "The log is of another plan than the one it is judged by.", rec.run.seq)
		}
	}
	ended := inconclusive(GroupRun, "log ends", "The log stops without the end of the run: it was cut off.")
	if rec.end != nil {
		ended = passed(GroupRun, "log ends", "The run came to its end.", rec.end.seq)
		if rec.end.fact.Outcome == history.Interrupted {
			ended = inconclusive(GroupRun, "log ends", "The run was interrupted"+because(rec.end.fact.Reason), rec.end.seq)
		}
	}
	checks := []Check{begun, ended}
	for _, proven := range rec.plan.Proven {
		checks = append(checks, judgeProven(rec, proven, earlier))
	}
	if len(rec.plan.Steps) == 0 {
		checks = append(checks, inconclusive(GroupRun, "steps", "The plan has no steps, so nothing was proven."))
	}
	return checks
}

// conclude sums up.
func conclude(rec *record, verdict *Verdict) {
	outcome := history.Passed
	for _, check := range verdict.Checks {
		outcome = worst(outcome, check.Outcome)
	}
	for _, proven := range rec.plan.Proven {
		if proven.Kind == drill.StepDeploy && len(proven.Hosts) > 0 {
			verdict.Revision = proven.Hosts[0].Revision
		}
	}
	for _, step := range verdict.Steps {
		outcome = worst(outcome, step.Outcome)
		verdict.NotReverted = verdict.NotReverted || step.NotReverted
		verdict.Refused = verdict.Refused || step.Refused
		if step.Revision != "" {
			verdict.Revision = step.Revision
		}
		if step.RTO != nil && (verdict.RTO == nil || worse(step.RTO, verdict.RTO)) {
			verdict.RTO = step.RTO
		}
	}
	if outcome == history.Passed && rec.end.fact.Outcome != history.Passed {
		verdict.Checks = append(verdict.Checks, inconclusive(GroupRun, "as told", fmt.Sprintf("When the run ended it was told as %q%s", rec.end.fact.Outcome, because(rec.end.fact.Reason)), rec.end.seq))
		outcome = history.Inconclusive
	}
	verdict.Outcome = outcome
	verdict.Interrupted = rec.end != nil && rec.end.fact.Outcome == history.Interrupted
	verdict.Reason = runReason(verdict, len(rec.plan.Proven))
	verdict.Totals = totals(rec, verdict)
	verdict.Exit = verdict.ExitCode()
}

// worse says that a is a slower recovery than b.
func worse(a, b *Figure) bool {
	if a.Open != b.Open {
		return a.Open
	}
	return a.Seconds+a.Bound > b.Seconds+b.Bound
}

func runReason(verdict *Verdict, proven int) string {
	for _, wanted := range []history.Outcome{history.Failed, history.Inconclusive} {
		if verdict.Outcome != wanted {
			continue
		}
		// What ended the run explains the steps that never ran, so it comes before them.
		for _, ran := range []bool{true, false} {
			for _, step := range verdict.Steps {
				if step.Outcome == wanted && step.Ran == ran && (step.NotReverted || !verdict.NotReverted) {
					return step.Name + ": " + step.Reason
				}
			}
			for _, check := range verdict.Checks {
				if check.Outcome == wanted {
					return check.Explanation
				}
			}
		}
	}
	drills := 0
	for _, step := range verdict.Steps {
		if step.Kind == drill.StepDrill {
			drills++
		}
	}
	before := ""
	if proven > 0 {
		before = fmt.Sprintf(" An earlier run proved %s before it.", plural(proven, "step"))
	}
	if drills == 0 {
		return fmt.Sprintf("%s as planned.%s", didDo(len(verdict.Steps), "step", "went"), before)
	}
	return fmt.Sprintf("%s, every expectation was met in time, and nothing is left behind.%s", didDo(drills, "drill", "bit"), before)
}

func totals(rec *record, verdict *Verdict) Totals {
	sum := Totals{Steps: len(verdict.Steps), Events: rec.size}
	count := func(checks []Check) {
		for _, check := range checks {
			sum.Checks++
			switch check.Outcome {
			case history.Passed:
				sum.Passed++
			case history.Failed:
				sum.Failed++
			default:
				sum.Inconclusive++
			}
		}
	}
	count(verdict.Checks)
	for _, step := range verdict.Steps {
		count(step.Checks)
		if step.Kind == drill.StepDrill {
			sum.Drills++
		}
		if step.Impact != nil {
			for _, host := range step.Impact.Hosts {
				sum.Dropped += host.Egress + host.Ingress + host.Forward
			}
		}
	}
	for _, samples := range rec.samples {
		for _, s := range samples {
			if s.hole {
				continue
			}
			sum.Samples++
			if !s.ok {
				sum.FailedSample++
			}
		}
	}
	sum.Available = share(sum.Samples-sum.FailedSample, sum.Samples)
	var unmeasured []string
	if rec.plan.Objectives.RPO != nil && len(rec.ledgers) == 0 {
		unmeasured = append(unmeasured, "RPO (no client writes a ledger)")
	}
	sum.Unmeasured = strings.Join(unmeasured, ", ")
	return sum
}

func passed(group Group, name, why string, seqs ...int64) Check {
	return check(history.Passed, group, name, why, seqs)
}

func failed(group Group, name, why string, seqs ...int64) Check {
	return check(history.Failed, group, name, why, seqs)
}

func inconclusive(group Group, name, why string, seqs ...int64) Check {
	return check(history.Inconclusive, group, name, why, seqs)
}

// evidenceMax bounds the sequence numbers that one check lists: a reader follows a few, and a page must stay small.
const evidenceMax = 24

func check(outcome history.Outcome, group Group, name, why string, seqs []int64) Check {
	seqs = slices.Compact(slices.Sorted(slices.Values(seqs)))
	if len(seqs) > evidenceMax {
		// The first and the last say most: what began it and what ended it.
		seqs = slices.Concat(seqs[:evidenceMax/2], seqs[len(seqs)-evidenceMax/2:])
	}
	return Check{Group: group, Name: name, Outcome: outcome, Explanation: why, Evidence: seqs}
}
