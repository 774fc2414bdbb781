package report

import (
	"testing"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// A page that says healthy and nothing else would hide that some hosts still run the release before.
func TestHeadlineNamesTheHostsThatADeploymentLeftOut(t *testing.T) {
	step := verdict.StepVerdict{Kind: drill.StepDeploy, Outcome: history.Passed, Revision: "0123456789abcdef", Checks: []verdict.Check{{Name: "green-1"}, {Name: verdict.LeftOut + "green-2"}, {Name: verdict.LeftOut + "green-3"}}}
	if got, want := headline(drill.Plan{}, step), "healthy with 0123456789ab, but not green-2, green-3"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
