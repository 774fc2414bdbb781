package report

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// journal is a run in the form of the Chaos Toolkit's journal.json, for what reads those. It says less than the log: the log stays the proof.
type journal struct {
	Version      string       `json:"chaoslib-version"`
	Platform     string       `json:"platform"`
	Node         string       `json:"node"`
	Experiment   experiment   `json:"experiment"`
	Start        string       `json:"start"`
	Status       string       `json:"status"` // completed, failed, aborted or interrupted
	Deviated     bool         `json:"deviated"`
	SteadyStates steadyStates `json:"steady_states"`
	Run          []activity   `json:"run"`
	Rollbacks    []activity   `json:"rollbacks"`
	End          string       `json:"end"`
	Duration     float64      `json:"duration"` // seconds
}

type experiment struct {
	Version     string       `json:"version"`
	Title       string       `json:"title"`
	Description string       `json:"description"`
	Tags        []string     `json:"tags"`
	Hypothesis  *hypothesis  `json:"steady-state-hypothesis,omitempty"`
	Method      []activityOf `json:"method"`
	Rollbacks   []activityOf `json:"rollbacks"`
}

type hypothesis struct {
	Title  string       `json:"title"`
	Probes []activityOf `json:"probes"`
}

type steadyStates struct {
	Before steadyState   `json:"before"`
	After  steadyState   `json:"after"`
	During []steadyState `json:"during"`
}

type steadyState struct {
	Met    bool       `json:"steady_state_met"`
	Probes []activity `json:"probes"`
}

// activity is one thing that was done or looked at, with what came of it.
type activity struct {
	Activity  activityOf `json:"activity"`
	Output    string     `json:"output"`
	Status    string     `json:"status"` // succeeded or failed
	Start     string     `json:"start"`
	End       string     `json:"end"`
	Duration  float64    `json:"duration"`
	Tolerance *bool      `json:"tolerance_met,omitempty"`
}

type activityOf struct {
	Type      string   `json:"type"` // action or probe
	Name      string   `json:"name"`
	Tolerance *bool    `json:"tolerance,omitempty"`
	Provider  provider `json:"provider"`
}

type provider struct {
	Type      string   `json:"type"`
	Path      string   `json:"path"`
	Arguments []string `json:"arguments"`
}

// writeChaosToolkit writes the journal. Nothing that is not proven succeeds in it, and a run that is not passed is not completed.
func writeChaosToolkit(w io.Writer, in Input) error {
	v := in.Verdict
	j := journal{
		Version: "firedrill", Start: moment(v.Started), End: moment(v.Finished), Duration: lasted(v.Started, v.Finished),
		Status: journalStatus(v), Deviated: v.Outcome == history.Failed, Run: []activity{}, Rollbacks: []activity{},
		SteadyStates: steadyStates{Before: steadyState{Met: true, Probes: []activity{}}, After: steadyState{Met: true, Probes: []activity{}}, During: []steadyState{}},
		Experiment:   experiment{Version: "1.0.0", Title: title(in), Description: v.Reason, Tags: []string{v.Service, runWord(v)}, Method: []activityOf{}, Rollbacks: []activityOf{}},
	}
	err := in.each(func(event history.Event) error {
		if started, is := event.Fact.(*history.RunStarted); is {
			j.Version, j.Node, j.Platform = started.Tool, started.Host, started.Kernel
			return errEnough
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, step := range v.Steps {
		if step.Ran {
			j.add(in, step)
		}
	}
	j.Experiment.Hypothesis = &hypothesis{Title: "Steady before and afterwards", Probes: []activityOf{}}
	for _, state := range []steadyState{j.SteadyStates.Before, j.SteadyStates.After} {
		for _, probe := range state.Probes {
			j.Experiment.Hypothesis.Probes = append(j.Experiment.Hypothesis.Probes, probe.Activity)
		}
	}
	for _, done := range j.Run {
		j.Experiment.Method = append(j.Experiment.Method, done.Activity)
	}
	for _, done := range j.Rollbacks {
		j.Experiment.Rollbacks = append(j.Experiment.Rollbacks, done.Activity)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(j)
}

func title(in Input) string {
	var names []string
	for _, step := range in.Plan.Steps {
		names = append(names, step.Name)
	}
	return in.Verdict.Service + ": " + strings.Join(names, ", ")
}

func journalStatus(v verdict.Verdict) string {
	switch {
	case v.Interrupted:
		return "interrupted"
	case v.Outcome == history.Passed:
		return "completed"
	case v.Outcome == history.Failed:
		return "failed"
	}
	return "aborted"
}

func moment(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000000") }

func lasted(from, to time.Time) float64 {
	if from.IsZero() || to.Before(from) {
		return 0
	}
	return to.Sub(from).Seconds()
}

// add puts one step into the journal: its attacks as actions, its checks as probes, the reverts as rollbacks.
func (j *journal) add(in Input, step verdict.StepVerdict) {
	if step.Impact == nil {
		done := doing(step.Name, []string{step.Kind, step.Environment}, step.Outcome, step.Reason, step.Started, step.Finished)
		j.Run = append(j.Run, done)
		return
	}
	planned := in.Plan.Steps[step.Step].Drill
	for i, host := range step.Impact.Hosts {
		arguments := []string{"attack", host.Attack}
		if planned != nil && host.Number < len(planned.Orders()) {
			arguments = append(arguments, planned.Orders()[host.Number].Args...)
		}
		name := fmt.Sprintf("%s on %s (%s)", host.Attack, host.Host, step.Name)
		bit, why := outcomeOf(step.Checks, verdict.GroupInjection, verdict.GroupBite)
		j.Run = append(j.Run, doing(name, arguments, bit, why, host.InForce, ended(step.Impact.Hosts[i], step)))
		if !host.OneWay {
			back, why := outcomeOf(step.Checks, verdict.GroupRevert)
			j.Rollbacks = append(j.Rollbacks, doing("take back "+name, []string{"halt"}, back, why, host.Reverted, host.Reverted))
		}
	}
	for _, check := range step.Checks {
		switch check.Group {
		case verdict.GroupSteady:
			j.SteadyStates.Before.look(step, check)
		case verdict.GroupExpectation, verdict.GroupObjective, verdict.GroupReadiness:
			j.SteadyStates.After.look(step, check)
		}
	}
}

func ended(host verdict.HostImpact, step verdict.StepVerdict) time.Time {
	for _, at := range []time.Time{host.Reverted, host.UpAt} {
		if !at.IsZero() {
			return at
		}
	}
	return step.Finished
}

// outcomeOf is the worst of the checks of some groups, with its explanation; without any it is not known.
func outcomeOf(checks []verdict.Check, groups ...verdict.Group) (history.Outcome, string) {
	outcome, why := history.Inconclusive, "nothing tells"
	for _, check := range worstFirst(checks) {
		for _, group := range groups {
			if check.Group == group {
				return check.Outcome, check.Explanation
			}
		}
	}
	return outcome, why
}

func doing(name string, arguments []string, outcome history.Outcome, why string, from, to time.Time) activity {
	done := activity{
		Activity: activityOf{Type: "action", Name: name, Provider: provider{Type: "process", Path: "firedrill", Arguments: arguments}},
		Output:   why, Status: "failed", Start: moment(from), End: moment(to), Duration: lasted(from, to),
	}
	if outcome == history.Passed {
		done.Status = "succeeded"
	}
	return done
}

// look adds a check as a probe with a tolerance.
func (s *steadyState) look(step verdict.StepVerdict, check verdict.Check) {
	met, wanted := check.Outcome == history.Passed, true
	probe := doing(fmt.Sprintf("%s (%s)", check.Name, step.Name), []string{"judge"}, check.Outcome, check.Explanation, step.Started, step.Finished)
	probe.Activity.Type, probe.Activity.Tolerance, probe.Tolerance = "probe", &wanted, &met
	s.Probes = append(s.Probes, probe)
	s.Met = s.Met && met
}
