package verdict

import (
	"fmt"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Earlier is the log of a run that another one went on with, read and verified: what it proved is believed only from there.
type Earlier struct {
	Head string // hash of its last line
	Log  []history.Event
}

// judgeProven holds a step that was not repeated against the log of the run that is said to have proved it.
func judgeProven(rec *record, proven drill.ProvenStep, earlier []Earlier) Check {
	name := "proven before: " + proven.Name
	var evidence []int64
	if rec.run != nil {
		evidence = []int64{rec.run.seq}
	}
	doubt := func(format string, args ...any) Check {
		return inconclusive(GroupRun, name, fmt.Sprintf(format, args...), evidence...)
	}
	for _, one := range earlier {
		if one.Head != proven.Log {
			continue
		}
		if why := provenBy(one, rec.plan.Service, proven); why != "" {
			return doubt("Run %s is said to have proved it, and its log does not: %s", proven.Run, why)
		}
		return passed(GroupRun, name, fmt.Sprintf("Run %s proved it, by its log that ends with %s. It was not repeated.", proven.Run, short(proven.Log)), evidence...)
	}
	return doubt("Run %s is said to have proved it, and its log, which ends with %s, is not here.", proven.Run, short(proven.Log))
}

// provenBy says why the log does not prove the step, or "".
func provenBy(earlier Earlier, service string, proven drill.ProvenStep) string {
	var started *history.RunStarted
	passed := map[int]bool{}
	for _, event := range earlier.Log {
		switch fact := event.Fact.(type) {
		case *history.RunStarted:
			if started == nil {
				started = fact
			}
		case *history.StepFinished:
			passed[fact.Step] = fact.Outcome == history.Passed
		}
	}
	if started == nil || started.Run != proven.Run || started.Plan.Service != service {
		return "it is the log of another run."
	}
	for i, step := range started.Plan.Steps {
		if step.Kind != proven.Kind || step.Name != proven.Name || step.Environment != proven.Environment || step.Live != proven.Live || step.LiveAfter != proven.LiveAfter {
			continue
		}
		judged := JudgeStep(started.Plan, earlier.Log, i)
		switch {
		case !passed[i] || judged.Outcome != history.Passed:
			return fmt.Sprintf("there it is %s: %s", judged.Outcome, sentence(judged.Reason))
		case step.Drill != nil && step.Drill.Name != proven.Drilled:
			return "there it is another drill."
		}
		for _, host := range proven.Hosts {
			if host.Revision != judged.Revision {
				return fmt.Sprintf("there %s was deployed, and %s is said to run on %s.", short(judged.Revision), short(host.Revision), host.Host)
			}
		}
		return ""
	}
	return "it knows no such step."
}
