package prove

import (
	"bytes"
	"encoding/xml"
	"slices"
	"strings"
	"testing"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

func TestCasesAreDeclared(t *testing.T) {
	var names []string
	for _, c := range Cases() {
		if slices.Contains(names, c.Name) || c.Breaks == "" || len(c.Want) == 0 {
			t.Errorf("%q is twice, breaks nothing, or is not declared", c.Name)
		}
		names = append(names, c.Name)
		if c.Name == Control {
			continue
		}
		if slices.Contains(c.Want, history.Passed) || len(c.Caught) == 0 {
			t.Errorf("%s may pass, or nothing is to notice it", c.Name)
		}
		if c.Service == nil && c.Tamper == nil && c.Log == nil && len(c.Plants) == 0 {
			t.Errorf("%s breaks nothing", c.Name)
		}
		if c.Own && len(c.Plants) > 0 {
			t.Errorf("%s touches hosts, and is said to be safe on a service of the user's", c.Name)
		}
	}
	if len(names) < 21 || names[0] != Control {
		t.Errorf("%d cases, the first is %s; want 20 sabotages after the control", len(names), names[0])
	}
	for _, old := range []string{"alarm", "dns", "standby", "attack"} { // what demo --sabotage always had
		if c, err := Find(old); err != nil || !c.Demo {
			t.Errorf("demo --sabotage %s: %v", old, err)
		}
	}
	if _, err := Find("alarms"); drill.HintOf(err) == "" {
		t.Errorf("an unknown case: %v without a cure", err)
	}
}

func judged(outcome history.Outcome, checks ...verdict.Check) verdict.Verdict {
	return verdict.Verdict{Outcome: outcome, Reason: "because", Steps: []verdict.StepVerdict{{Checks: checks}}}
}

// A case is caught only as declared, and only by a check that was to notice.
func TestOnlyWhatWasDeclaredIsCaught(t *testing.T) {
	c := Case{Name: "x", Want: red, Caught: []string{"answer moves"}}
	turned := verdict.Check{Name: "answer moves to green within 8s", Outcome: history.Failed, Explanation: "it did not"}
	for name, row := range map[string]struct {
		judged verdict.Verdict
		caught bool
	}{
		"noticed":                   {judged(history.Failed, turned), true},
		"false green":               {judged(history.Passed, turned), false},
		"the other verdict":         {judged(history.Inconclusive, turned), false},
		"noticed by something else": {judged(history.Failed, verdict.Check{Name: "RTO", Outcome: history.Failed}), false},
		"the check passed":          {judged(history.Failed, verdict.Check{Name: turned.Name, Outcome: history.Passed}), false},
	} {
		if got := c.Hold(row.judged); got.Caught != row.caught {
			t.Errorf("%s: caught %t: %s", name, got.Caught, Row(got))
		}
	}
	control := Case{Name: Control, Want: []history.Outcome{history.Passed}}
	if !control.Hold(judged(history.Passed)).Caught || control.Hold(judged(history.Failed)).Caught {
		t.Error("the control is judged the wrong way round")
	}
}

func TestExitCodeNeedsProof(t *testing.T) {
	good := Result{Case: "alarm", Outcome: history.Failed, Caught: true, Exit: 1}
	control := Result{Case: Control, Outcome: history.Passed, Caught: true}
	for name, row := range map[string]struct {
		results []Result
		want    int
	}{
		"all caught":               {[]Result{control, good}, 0},
		"nothing run":              {nil, 3},
		"only not applicable":      {[]Result{{Case: "flap", Skipped: "x"}}, 3},
		"a false green":            {[]Result{control, good, {Case: "dns", Outcome: history.Passed}}, 1},
		"noticed otherwise":        {[]Result{control, {Case: "dns", Outcome: history.Inconclusive}}, 1},
		"the control is red":       {[]Result{{Case: Control, Outcome: history.Failed}, good}, 1},
		"one could not be run":     {[]Result{control, good, {Case: "dns", Error: "no route"}}, 3},
		"impact may remain":        {[]Result{control, {Case: "dns", Outcome: history.Failed, Exit: 5}}, 5},
		"remains, as was declared": {[]Result{control, {Case: "revert-leaves", Outcome: history.Failed, Caught: true, Exit: 5}}, 0},
	} {
		if got := ExitCode(row.results); got != row.want {
			t.Errorf("%s: %d, want %d", name, got, row.want)
		}
	}
}

func TestJUnitShowsWhatWasNotProven(t *testing.T) {
	var out bytes.Buffer
	err := JUnit(&out, []Result{
		{Case: "alarm", Run: 1, Outcome: history.Failed, Caught: true}, {Case: "dns", Run: 1, Outcome: history.Passed, Reason: "all \x01 well ]]>"},
		{Case: "flap", Run: 1, Skipped: "the drill expects none"}, {Case: "ttl", Run: 1, Error: "no route"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var read struct {
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Tests    int `xml:"tests,attr"`
	}
	if err := xml.Unmarshal(out.Bytes(), &read); err != nil || read.Tests != 4 || read.Failures != 1 || read.Errors != 2 {
		t.Errorf("%+v, %v\n%s", read, err, out.String())
	}
	if !strings.Contains(Row(Result{Case: "dns", Outcome: history.Passed}), "FALSE GREEN") {
		t.Error("a false green does not show as one")
	}
}

func TestCutLineLeavesAGap(t *testing.T) {
	if got := string(cutLine([]byte("a\nb\nc\n"))); got == "a\nb\nc\n" || strings.Count(got, "\n") != 2 {
		t.Errorf("%q", got)
	}
}
