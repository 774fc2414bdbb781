package conductor

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

func wholePipeline() drill.Plan {
	plan := twoHosts()
	drain := drill.Seconds(10 * time.Second)
	plan.Failover[0].Drain = &drain
	plan.Steps = []drill.Step{
		{Kind: drill.StepDeploy, Name: "deploy to green", Environment: "green", Live: "blue", LiveAfter: "blue"},
		drillStep(plan, "green", "blue", "blue"),
		{Kind: drill.StepPromote, Name: "promote green", Environment: "green", Live: "blue", LiveAfter: "green"},
		drillStep(plan, "green", "green", "blue"),
	}
	return plan
}

func checks(log []history.Event) map[string]history.Check {
	all := map[string]history.Check{}
	for _, event := range log {
		if check, is := event.Fact.(*history.Check); is {
			all[check.Name] = *check
		}
	}
	return all
}

func drains(log []history.Event) []history.Drained {
	var all []history.Drained
	for _, event := range log {
		if drained, is := event.Fact.(*history.Drained); is {
			all = append(all, *drained)
		}
	}
	return all
}

// A promotion waits until nothing is left on the old environment; a client that never lets go holds it up for the TTL and the drain time.
func TestPromotionWaitsForTheOldEnvironmentWithinItsBound(t *testing.T) {
	for _, clings := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			plan := wholePipeline()
			plan.Steps = plan.Steps[2:3]
			log := runFake(t, &fakeCrew{clings: clings}, plan, 0)
			got := drains(log)
			if len(got) != 1 || got[0].Environment != "blue" || got[0].Ended == clings {
				t.Fatalf("clings=%t: %+v", clings, got)
			}
			// Time is simulated here.
			if least := time.Second; got[0].Waited.Duration() < least || clings && got[0].Waited.Duration() < 11*time.Second {
				t.Errorf("clings=%t: waited %s", clings, got[0].Waited)
			}
			if got := outcome(t, log); got.Outcome != history.Passed {
				t.Errorf("clings=%t: %+v", clings, got)
			}
		})
	}
}

// A failed gate takes itself back: the answer to the environment that runs what was good before, then the release.
func TestFailedDrillGoesBackByItself(t *testing.T) {
	for name, test := range map[string]struct {
		fails string
		moves bool // the failover works, so that the answer has left green when the drill ends
		want  []string
	}{
		"while it is idle, the release goes back":                     {"drill cut on green", false, []string{"back to the release before on green"}},
		"after the promotion, the answer goes back first":             {"drill cut on green#2", false, []string{"answer back to blue", "back to the release before on green"}},
		"when the answer has moved already, only the release is left": {"drill cut on green#2", true, []string{"back to the release before on green"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plan := wholePipeline()
				plan.Steps[3].Name = "drill cut on green#2"
				crew := &fakeCrew{stays: !test.moves}
				log := runFakeJudged(t, crew, plan, func(step int) history.Outcome {
					if plan.Steps[step].Name == test.fails {
						return history.Failed
					}
					return history.Passed
				})
				if got := outcome(t, log); got.Outcome != history.Failed || !strings.Contains(got.Reason, test.fails) {
					t.Errorf("%+v", got)
				}
				found := checks(log)
				for _, want := range test.want {
					if check, is := found[want]; !is || !check.OK {
						t.Errorf("%s: %+v", want, check)
					}
				}
				for _, way := range []string{"answer back to blue", "back to the release before on green"} {
					if _, is := found[way]; is != strings.Contains(strings.Join(test.want, "|"), way) {
						t.Errorf("%s was done: %t", way, is)
					}
				}
				if crew.live != "blue" || crew.rolledBack != "green" {
					t.Errorf("%s is answered, and %q was rolled back", crew.live, crew.rolledBack)
				}
			})
		})
	}
}

// A promotion that no name server follows is taken back where it was ordered, or the answer moves when they hear again.
func TestPromotionThatNobodyFollowsIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := wholePipeline()
		crew := &fakeCrew{deaf: true}
		log := runFakeJudged(t, crew, plan, func(step int) history.Outcome {
			if plan.Steps[step].Kind == drill.StepPromote {
				return history.Failed
			}
			return history.Passed
		})
		if got := outcome(t, log); got.Outcome != history.Failed || crew.decided != "blue" || crew.promotes != 2 || crew.rolledBack != "green" {
			t.Errorf("%+v, decided %q after %d orders, rolled back %q", got, crew.decided, crew.promotes, crew.rolledBack)
		}
	})
}

// What is not a gate's no changes nothing: a drill on its own, a refusal, missing proof.
func TestNothingGoesBackWithoutAFailedGate(t *testing.T) {
	for name, test := range map[string]struct {
		steps   int
		outcome history.Outcome
	}{"a drill on its own": {1, history.Failed}, "inconclusive": {0, history.Inconclusive}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				plan := wholePipeline()
				if test.steps > 0 {
					plan.Steps = plan.Steps[1:2]
				}
				crew := &fakeCrew{}
				log := runFakeJudged(t, crew, plan, func(step int) history.Outcome {
					if plan.Steps[step].Kind == drill.StepDrill {
						return test.outcome
					}
					return history.Passed
				})
				if got := outcome(t, log); got.Outcome != test.outcome || crew.rolledBack != "" {
					t.Errorf("%+v, rolled back %q", got, crew.rolledBack)
				}
			})
		})
	}
}

// The other environment is not well: nothing moves there, nothing else is switched, and the log says what a person has to do.
func TestGoingBackIsRefusedWithItsCureWhenThereIsNowhereToGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := wholePipeline()
		plan.Steps = plan.Steps[:2]
		crew := &fakeCrew{}
		log := runFakeJudged(t, crew, plan, func(step int) history.Outcome {
			if step == 1 {
				crew.mu.Lock()
				crew.unsteady = true
				crew.mu.Unlock()
				<-time.After(time.Second) // simulated: until the alarm is heard
				return history.Failed
			}
			return history.Passed
		})
		check := checks(log)["back to the release before on green"]
		if check.OK || !strings.Contains(check.Detail, "blue-1-db is ALARM") || !strings.Contains(check.Detail, "firedrill deploy green") || crew.rolledBack != "" {
			t.Errorf("%+v, rolled back %q", check, crew.rolledBack)
		}
	})
}
