package verdict_test

import (
	"strings"
	"testing"

	"firedrill/internal/history"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

// Judging again can take a verdict back, and never give one that was not given when the run ended.
func TestNothingPassesThatWasToldOtherwise(t *testing.T) {
	for _, outcome := range []history.Outcome{history.Failed, history.Inconclusive, history.Interrupted} {
		for name, tell := range map[string]func(history.Fact){
			"step": func(fact history.Fact) {
				if end, is := fact.(*history.StepFinished); is && end.Step == 1 {
					end.Outcome, end.Reason = outcome, "the watching was too short"
				}
			},
			"run": func(fact history.Fact) {
				if end, is := fact.(*history.RunFinished); is {
					end.Outcome, end.Reason = outcome, "the watching was too short"
				}
			},
		} {
			plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
			if got := verdict.Judge(plan, log); got.Outcome != history.Passed {
				t.Fatalf("the story is %s: %s", got.Outcome, got.Reason)
			}
			for _, event := range log {
				tell(event.Fact)
			}
			got := verdict.Judge(plan, log)
			if got.Outcome != history.Inconclusive || got.ExitCode() == 0 || !strings.Contains(got.Reason, "watching was too short") {
				t.Errorf("a %s that was told as %s is %s: %s", name, outcome, got.Outcome, got.Reason)
			}
		}
	}
}
