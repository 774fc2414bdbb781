package verdict_test

import (
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

const onActive = 3 // the step of the story in which an environment that is answered loses what it needs

// beside puts a client that keeps its connections beside the one of the story: it sees what that sees, and fails for so much longer.
func beside(longer time.Duration, expectations ...drill.Expectation) (drill.Plan, []history.Event) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	kept := plan.Clients[0]
	first := kept.Name
	kept.Name, kept.Keep, kept.Ledger = "kept", true, ""
	plan.Clients = append(plan.Clients, kept)
	planned := *plan.Steps[onActive].Drill
	planned.Expectations = append(planned.Expectations[:len(planned.Expectations):len(planned.Expectations)], expectations...)
	plan.Steps[onActive].Drill = &planned
	var both []history.Event
	var failed time.Time
	for _, event := range log {
		event.Seq = 0
		both = append(both, event)
		switch fact := event.Fact.(type) {
		case *history.RunStarted:
			fact.Plan = plan
		case *history.Sample:
			if fact.Probe != first && fact.Host != first {
				continue
			}
			if !fact.OK {
				failed = fact.Scheduled
			}
			copied := *fact
			copied.Probe, copied.Host = "kept", "kept"
			if !failed.IsZero() && fact.Scheduled.Sub(failed) < longer {
				copied.OK, copied.Cause = false, history.CauseTimeout
			}
			both = append(both, history.New(event.At, "kept", &copied))
		}
	}
	return plan, both
}

func recovers(kind string, within time.Duration) drill.Expectation {
	return drill.Expectation{Kind: drill.ExpectRecover, Text: kind + " recover", Clients: kind, Within: drill.Seconds(within)}
}

func TestEachKindOfClientIsHeldToItsOwnExpectation(t *testing.T) {
	plan, log := beside(0)
	step := verdict.Judge(plan, log).Steps[onActive]
	if len(step.Recoveries) != 2 || step.Recoveries[0].Connections != drill.ClientsNew || step.Recoveries[1].Connections != drill.ClientsKept || step.Recoveries[0].Seconds != step.Recoveries[1].Seconds || step.Recoveries[0].Failed == 0 {
		t.Fatalf("of two clients that see the same: %+v", step.Recoveries)
	}
	took := time.Duration(step.Recoveries[0].Seconds * float64(time.Second))
	allowed := took + 3*time.Second
	none := drill.Expectation{Kind: drill.ExpectNoFailure, Text: "none", Clients: drill.ClientsKept}
	for name, row := range map[string]struct {
		longer time.Duration
		expect drill.Expectation
		want   history.Outcome
	}{
		"new connections in time":              {6 * time.Second, recovers(drill.ClientsNew, allowed), history.Passed},
		"kept connections too late":            {6 * time.Second, recovers(drill.ClientsKept, allowed), history.Failed},
		"kept connections that are given time": {6 * time.Second, recovers(drill.ClientsKept, allowed+9*time.Second), history.Passed},
		"all, of which one is too late":        {6 * time.Second, recovers("", allowed), history.Failed},
		"kept connections that fail":           {0, none, history.Failed},
	} {
		plan, log := beside(row.longer, row.expect)
		step := verdict.Judge(plan, log).Steps[onActive]
		found := false
		for _, check := range step.Checks {
			if check.Group == verdict.GroupExpectation && check.Name == row.expect.Text {
				if found = true; check.Outcome != row.want {
					t.Errorf("%s: %s: %s", name, check.Outcome, check.Explanation)
				}
			}
		}
		if !found {
			t.Errorf("%s: no check", name)
		}
		if row.longer > 0 && step.Recoveries[1].Seconds-step.Recoveries[0].Seconds < 5 {
			t.Errorf("%s: %+v", name, step.Recoveries)
		}
	}
}

// A client of a kind that was lost says nothing, whatever those of the other kind say.
func TestALostKindOfClientProvesNothing(t *testing.T) {
	plan, log := beside(0, recovers(drill.ClientsKept, time.Minute))
	var heard []history.Event
	for _, event := range log {
		if _, sample := event.Fact.(*history.Sample); !sample || event.Source != "kept" {
			heard = append(heard, event)
		}
	}
	step := verdict.Judge(plan, heard).Steps[onActive]
	if step.Outcome != history.Inconclusive || step.Recoveries[1].Void == "" {
		t.Errorf("%s, %+v", step.Reason, step.Recoveries)
	}
}

// Not to know whether all was well again, because a client was lost, is not to know that it was not.
func TestAClientThatIsLostAfterTheRevertIsNoFailure(t *testing.T) {
	unsteady := func(lost func(history.Event, time.Time) bool) verdict.StepVerdict {
		plan, log := beside(0)
		var reverted time.Time
		var heard []history.Event
		for _, event := range log {
			switch fact := event.Fact.(type) {
			case *history.AttackReverted:
				reverted = event.At
			case *history.StepStarted:
				reverted = time.Time{}
			case *history.Check:
				if fact.Step == onActive && fact.Name == history.PhaseSteadyAfter {
					copied := *fact
					copied.OK, copied.Detail = false, "kept gave 0 samples where 20 belong"
					event.Fact = &copied
				}
			}
			if reverted.IsZero() || !lost(event, reverted) {
				heard = append(heard, event)
			}
		}
		return verdict.Judge(plan, heard).Steps[onActive]
	}
	// One that was sent too late is our own fault.
	late := func(event history.Event, _ time.Time) bool {
		if fact, sample := event.Fact.(*history.Sample); sample && event.Source == "kept" {
			fact.OK, fact.Cause = false, history.CauseProber
		}
		return false
	}
	ofKept := func(event history.Event) bool {
		_, sample := event.Fact.(*history.Sample)
		return sample && event.Source == "kept"
	}
	for name, row := range map[string]struct {
		lost func(history.Event, time.Time) bool
		want history.Outcome
	}{
		"from the revert on": {func(event history.Event, _ time.Time) bool { return ofKept(event) }, history.Inconclusive},
		"a second later":     {func(event history.Event, at time.Time) bool { return ofKept(event) && event.At.Sub(at) > time.Second }, history.Inconclusive},
		"not, but late":      {late, history.Inconclusive},
		"never":              {func(history.Event, time.Time) bool { return false }, history.Failed},
	} {
		if step := unsteady(row.lost); step.Outcome != row.want {
			t.Errorf("lost %s: %s: %s", name, step.Outcome, step.Reason)
		}
	}
}
