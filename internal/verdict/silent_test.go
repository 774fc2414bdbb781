package verdict_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"firedrill/internal/history"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

// A client that falls silent with the attack, or before the end, saw no failure: that proves nothing. The gap has no sample on one of its
// sides within the drill, so the distance between samples does not show it.
func TestClientThatFallsSilentAtAnEdgeProvesNothing(t *testing.T) {
	const step = 3 // the drill on the active environment
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	whole := verdict.Judge(plan, log).Steps[step]
	began, ended := whole.Impact.From, whole.Finished
	for name, silent := range map[string]func(scheduled time.Time) bool{
		"from the begin of the attack": func(at time.Time) bool { return at.After(began.Add(-time.Second)) && at.Before(whole.Impact.To) },
		"until the end":                func(at time.Time) bool { return at.After(whole.Impact.To) && at.Before(ended.Add(time.Second)) },
	} {
		kept := slices.DeleteFunc(slices.Clone(log), func(e history.Event) bool {
			sample, ok := e.Fact.(*history.Sample)
			return ok && sample.Probe == "client" && silent(sample.Scheduled)
		})
		if len(kept) == len(log) {
			t.Fatalf("%s: no sample was taken out", name)
		}
		for i := range kept {
			kept[i].Seq = 0
		}
		checks := verdict.Judge(plan, kept).Steps[step].Checks
		at := slices.IndexFunc(checks, func(c verdict.Check) bool { return strings.HasPrefix(c.Name, "clients recover") })
		if at < 0 || checks[at].Outcome != history.Inconclusive {
			t.Errorf("silent %s: %+v", name, checks[max(at, 0)])
		}
	}
}
