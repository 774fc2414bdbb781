package prove

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// Case is one sabotage, or with nothing broken the control.
type Case struct {
	Name   string
	Breaks string            // one sentence: what is broken
	Own    bool              // touches nothing but our own instruments: may be run on a service of the user's
	Demo   bool              // also `firedrill demo --sabotage`
	On     string            // "idle" or "active": where the lab's drill runs
	Want   []history.Outcome // what the drill must be; more than one where the sabotage has two faces
	Caught []string          // parts of the names of checks, one of which must turn
	Needs  []string          // kinds of expectations without one of which the drill cannot notice

	Service func(*drill.Service) // changes what the drill believes
	Tamper  func(*Tamper)        // changes what the instruments say and do
	Log     func([]byte) []byte  // alters the log afterwards
	Plants  []Plant              // scripts for hosts of the lab
}

// Plant is a script for a host of the lab: "ci", "control", "ns", or "live" and "idle" for whoever is that. It finds in its environment
// NAME, LIVE, IDLE, LIVE_HOST, IDLE_HOST, LIVE_ADDRESS and IDLE_ADDRESS. One that changes nothing must fail: it would prove nothing.
type Plant struct {
	Host  string
	Break string // empty: nothing to do before
	While string // runs as long as the drill does, and is ended then
	Heal  string // takes it back
}

// Hands are what a sabotage may do besides changing what it sees.
type Hands struct {
	Hold   func(ctx context.Context, alarms, names []string, length time.Duration) error // has the watch hold them still; 0 lets go
	Switch func(ctx context.Context, to string) error                                    // moves the answer, whatever the alarms say
	Run    func(ctx context.Context, host drill.Host, script string) error               // runs a script on a host as root; lab only
}

// Control is the name of the case in which nothing is broken.
const Control = "control"

// Find returns the case with this name.
func Find(name string) (Case, error) {
	var names []string
	for _, c := range Cases() {
		if c.Name == name {
			return c, nil
		}
		names = append(names, c.Name)
	}
	return Case{}, &drill.Error{Op: "prove --case " + name, Kind: drill.Invalid, Err: fmt.Errorf("no such sabotage"), Hint: drill.Suggest(name, names)}
}

// Applies says why a plan cannot notice the case, or "".
func (c Case) Applies(plan drill.Plan) string {
	if len(c.Needs) == 0 {
		return ""
	}
	for _, step := range plan.Steps {
		if step.Drill == nil {
			continue
		}
		for _, e := range step.Drill.Expectations {
			if slices.Contains(c.Needs, e.Kind) {
				return ""
			}
		}
	}
	return "the drill expects none of: " + strings.Join(c.Needs, ", ")
}

// Result is what became of a case.
type Result struct {
	Case        string            `json:"case"`
	Breaks      string            `json:"breaks"`
	Run         int               `json:"run"` // from 1
	Expected    []history.Outcome `json:"expected"`
	Outcome     history.Outcome   `json:"verdict,omitempty"`
	Caught      bool              `json:"caught"`                // as declared, and by a check that was to notice
	By          string            `json:"caught_by,omitempty"`   // that check
	Explanation string            `json:"explanation,omitempty"` // what it said
	Reason      string            `json:"reason,omitempty"`      // of the verdict
	Exit        int               `json:"exit_code"`
	Seconds     float64           `json:"seconds"`
	Skipped     string            `json:"not_applicable,omitempty"` // why the drill cannot notice this at all
	Error       string            `json:"error,omitempty"`          // the case could not be run
	Log         string            `json:"log,omitempty"`
}

// Hold holds a verdict against what was declared.
func (c Case) Hold(judged verdict.Verdict) Result {
	result := Result{Case: c.Name, Breaks: c.Breaks, Expected: c.Want, Outcome: judged.Outcome, Reason: judged.Reason, Exit: judged.ExitCode()}
	declared := slices.Contains(c.Want, judged.Outcome)
	if c.Name == Control {
		result.Caught = declared
		return result
	}
	check, found := c.noticed(judged)
	if found {
		result.By, result.Explanation = check.Name, check.Explanation
	}
	result.Caught = declared && found && judged.Outcome != history.Passed
	return result
}

// noticed returns the first check that was to notice and turned.
func (c Case) noticed(judged verdict.Verdict) (verdict.Check, bool) {
	all := slices.Clone(judged.Checks)
	for _, step := range judged.Steps {
		all = append(all, step.Checks...)
	}
	for _, wanted := range c.Caught {
		for _, check := range all {
			if check.Outcome != history.Passed && strings.Contains(check.Name, wanted) {
				return check, true
			}
		}
	}
	return verdict.Check{}, false
}

// Altered is the result of a case whose log is refused: nothing that it says counts.
func (c Case) Altered(err error) Result {
	return Result{
		Case: c.Name, Breaks: c.Breaks, Expected: c.Want, Outcome: history.Inconclusive, Exit: 2, By: "hash chain of the log",
		Explanation: err.Error(), Caught: slices.Contains(c.Want, history.Inconclusive) && slices.Contains(c.Caught, "hash chain of the log"),
	}
}
