package report

import (
	"strings"
	"testing"

	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

func undecided(name, why string, evidence ...int64) verdict.Check {
	return verdict.Check{Name: name, Outcome: history.Inconclusive, Explanation: why, Evidence: evidence}
}

// What one cause left undecided is told once, and hides nothing that has a cause of its own.
func TestTextTellsACauseOnce(t *testing.T) {
	const never = "The attack never was in force, so nothing can be measured from it."
	for name, test := range map[string]struct {
		step verdict.StepVerdict
		want string
	}{
		"one cause for several": {
			verdict.StepVerdict{Ran: true, Checks: []verdict.Check{
				undecided("steady before", "client failed.", 5), undecided("alarm a", never), {Name: "held", Outcome: history.Passed}, undecided("clients recover", never),
				{Name: "reverted", Outcome: history.Failed, Explanation: "It left a table behind."}, undecided("ledger", "Nobody read it."),
			}},
			"✗  step 1  reverted\n     It left a table behind.\n" +
				"  ?  step 1  steady before      #5\n     client failed.\n" +
				"  ?  step 1  2 checks\n     " + never + " It is about: alarm a · clients recover\n" +
				"  ?  step 1  ledger\n     Nobody read it.\n",
		},
		"the same words from other events": {
			verdict.StepVerdict{Ran: true, Checks: []verdict.Check{undecided("canary a", "It got through.", 7), undecided("canary b", "It got through.", 8)}},
			"?  step 1  canary a      #7\n     It got through.\n  ?  step 1  canary b      #8\n     It got through.\n",
		},
		"the same failure twice": {
			verdict.StepVerdict{Ran: true, Checks: []verdict.Check{
				{Name: "a", Outcome: history.Failed, Explanation: "Too late."}, {Name: "b", Outcome: history.Failed, Explanation: "Too late."}}},
			"✗  step 1  a\n     Too late.\n  ✗  step 1  b\n     Too late.\n",
		},
		"refused": {
			verdict.StepVerdict{Ran: true, Refused: true, Checks: []verdict.Check{
				undecided("alarm a", never), {Name: "reverted", Outcome: history.Failed, Explanation: "It left a table behind."}, undecided(verdict.Admitted, "A safeguard refused it: frozen.")}},
			"✗  step 1  reverted\n     It left a table behind.\n  ?  step 1  admitted\n     A safeguard refused it: frozen.\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			var text strings.Builder
			if err := writeTextProblems(&text, Input{Verdict: verdict.Verdict{Steps: []verdict.StepVerdict{test.step}}}, func(_, text string) string { return text }); err != nil {
				t.Fatal(err)
			}
			if want := "\n  What did not hold\n  " + test.want; text.String() != want {
				t.Errorf("got\n%s\nwant\n%s", text.String(), want)
			}
		})
	}
}
