package conductor

import (
	"errors"
	"fmt"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// resumeMax is how old a run may be to be gone on with: what was proven days ago says little of now.
const resumeMax = 24 * time.Hour

// Earlier is a run as its log tells it.
type Earlier struct {
	Plan   drill.Plan
	Log    []history.Event
	Head   string              // hash of the log's last line
	Proven func(step int) bool // judged again from the log: the step passed
}

// Run is the run's name, "" when the log does not say.
func (e Earlier) Run() string {
	for _, event := range e.Log {
		if started, is := event.Fact.(*history.RunStarted); is {
			return started.Run
		}
	}
	return ""
}

// finished is the run's own last word, or nil for one that was cut off.
func (e Earlier) finished() *history.RunFinished {
	for i := len(e.Log) - 1; i >= 0; i-- {
		if finished, is := e.Log[i].Fact.(*history.RunFinished); is {
			return finished
		}
	}
	return nil
}

// Aborted says whether the run was broken off: cut off in the middle, or interrupted.
func (e Earlier) Aborted() bool {
	finished := e.finished()
	return finished == nil || finished.Outcome == history.Interrupted
}

// Next is the first step that is not proven: it did not end as passed, or judging the log again does not say so.
func (e Earlier) Next() int {
	passed := map[int]bool{}
	for _, event := range e.Log {
		if finished, is := event.Fact.(*history.StepFinished); is && finished.Outcome == history.Passed {
			passed[finished.Step] = true
		}
	}
	for i := range e.Plan.Steps {
		if !passed[i] || !e.Proven(i) {
			return i
		}
	}
	return len(e.Plan.Steps)
}

// Resume makes the plan that goes on where an earlier run was broken off. live is the environment that is answered now. What is proven is
// not done again, and nothing else is left out; whether the hosts still run what was proven is asked by the guard, when a step starts.
//
// A run that failed is not gone on with: a gate that said no is not asked until it says yes. The errors are drill.Refused, with the cure.
func Resume(earlier Earlier, live string, now time.Time) (drill.Plan, error) {
	refuse := func(hint, format string, args ...any) (drill.Plan, error) {
		return drill.Plan{}, &drill.Error{Op: "go on with run " + earlier.Run(), Kind: drill.Refused, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	const anew = "Begin anew: firedrill pipeline"
	next := earlier.Next()
	finished := earlier.finished()
	switch {
	case len(earlier.Log) == 0 || len(earlier.Plan.Steps) == 0:
		return drill.Plan{}, &drill.Error{Op: "go on with a run", Kind: drill.Refused, Err: errors.New("its log does not say what was going to be done"), Hint: anew}
	case next == len(earlier.Plan.Steps):
		return refuse(anew, "every step of it is proven")
	case finished != nil && finished.Outcome == history.Failed || earlier.failed():
		return refuse(anew+", after what failed is mended", "it failed, and a gate that said no is not asked again")
	}
	if age := now.Sub(earlier.Log[len(earlier.Log)-1].At); age > resumeMax {
		return refuse(anew, "it ended %s ago; what was proven then says little of now", age.Round(time.Hour))
	}
	plan := earlier.Plan
	plan.Live = live
	plan.Proven = append(plan.Proven[:len(plan.Proven):len(plan.Proven)], earlier.proven(next)...)
	plan.Steps = append([]drill.Step(nil), earlier.Plan.Steps[next:]...)
	first := &plan.Steps[0]
	first.Begun = true
	if moved := first.Kind == drill.StepPromote && live == first.Environment; live != first.Live && !moved {
		return refuse(fmt.Sprintf("Move it back: firedrill rollback %s. Then: firedrill pipeline --resume", first.Live),
			"%s begins with %s being answered, and %s is", first.Name, first.Live, live)
	}
	pin(&plan)
	return plan, nil
}

// failed says that a step of it failed, however the run itself ended.
func (e Earlier) failed() bool {
	for _, event := range e.Log {
		if finished, is := event.Fact.(*history.StepFinished); is && finished.Outcome == history.Failed {
			return true
		}
	}
	return false
}

func (e Earlier) proven(next int) []drill.ProvenStep {
	var all []drill.ProvenStep
	for i, step := range e.Plan.Steps[:next] {
		proven := drill.ProvenStep{
			Kind: step.Kind, Name: step.Name, Environment: step.Environment, Live: step.Live, LiveAfter: step.LiveAfter, Run: e.Run(), Log: e.Head,
		}
		switch step.Kind {
		case drill.StepDeploy, drill.StepRollback:
			proven.Hosts = e.releases(i)
		case drill.StepDrill:
			proven.Drilled = step.Drill.Name
		}
		all = append(all, proven)
	}
	return all
}

// releases are what the step left on its hosts, by the last word on each. A host that was allowed to fail is not among them.
func (e Earlier) releases(step int) []drill.HostRelease {
	within := false
	last := map[string]history.Deploy{}
	var order []string
	for _, event := range e.Log {
		switch fact := event.Fact.(type) {
		case *history.StepStarted:
			within = fact.Step == step
		case *history.StepFinished:
			within = within && fact.Step != step
		case *history.Deploy:
			if !within || fact.Host == "" {
				continue
			}
			if _, known := last[fact.Host]; !known {
				order = append(order, fact.Host)
			}
			last[fact.Host] = *fact
		}
	}
	var all []drill.HostRelease
	for _, host := range order {
		want := history.DeployHealthy
		if e.Plan.Steps[step].Kind == drill.StepRollback {
			want = history.DeployRestored
		}
		if fact := last[host]; fact.Stage == want && fact.Revision != "" {
			all = append(all, drill.HostRelease{Host: host, Revision: fact.Revision})
		}
	}
	return all
}

// pin makes what is still to be deployed the very commit that was proven: the branch may have gone on since.
func pin(plan *drill.Plan) {
	for _, proven := range plan.Proven {
		if proven.Kind == drill.StepDeploy && len(proven.Hosts) > 0 && plan.Deploy != nil {
			deploy := *plan.Deploy
			deploy.Source.Revision = proven.Hosts[0].Revision
			plan.Deploy = &deploy
		}
	}
}
