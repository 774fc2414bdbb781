package conductor

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// broken is a run of the whole pipeline that was broken off after some of its steps.
func broken(steps int, more ...history.Fact) Earlier {
	plan := wholePipeline()
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	facts := []history.Fact{&history.RunStarted{Run: "first", Plan: plan}}
	for i := range steps {
		facts = append(facts, &history.StepStarted{Step: i})
		if plan.Steps[i].Kind == drill.StepDeploy {
			facts = append(facts, &history.Deploy{Host: "green-1", Stage: history.DeployHealthy, Revision: "abc"})
		}
		facts = append(facts, &history.StepFinished{Step: i, Outcome: history.Passed})
	}
	earlier := Earlier{Plan: plan, Head: "f00d", Proven: func(int) bool { return true }}
	for _, fact := range append(facts, more...) {
		at = at.Add(time.Second)
		earlier.Log = append(earlier.Log, history.New(at, "ci", fact))
	}
	return earlier
}

func soonAfter(earlier Earlier) time.Time { return earlier.Log[len(earlier.Log)-1].At.Add(time.Minute) }

func names(plan drill.Plan) (proven, steps string) {
	for _, step := range plan.Proven {
		proven += step.Name + ", "
	}
	for _, step := range plan.Steps {
		steps += step.Name + ", "
	}
	return proven, steps
}

func TestResumeGoesOnAtTheFirstStepThatIsNotProven(t *testing.T) {
	interrupted := &history.RunFinished{Outcome: history.Interrupted}
	begun := &history.StepStarted{Step: 2}
	for name, test := range map[string]struct {
		earlier       Earlier
		live          string
		proven, steps string
		refused       string
	}{
		"before anything":           {broken(0), "blue", "", "deploy to green, drill cut on green, promote green, drill cut on green, ", ""},
		"after the deployment":      {broken(1, interrupted), "blue", "deploy to green, ", "drill cut on green, promote green, drill cut on green, ", ""},
		"in the promotion, before":  {broken(2, begun), "blue", "deploy to green, drill cut on green, ", "promote green, drill cut on green, ", ""},
		"in the promotion, after":   {broken(2, begun), "green", "deploy to green, drill cut on green, ", "promote green, drill cut on green, ", ""},
		"the answer has moved":      {broken(3, interrupted), "blue", "", "", "firedrill rollback green"},
		"every step is proven":      {broken(4), "blue", "", "", "every step of it is proven"},
		"a gate said no":            {broken(1, &history.StepFinished{Step: 1, Outcome: history.Failed}), "blue", "", "", "a gate that said no"},
		"the run failed":            {broken(1, &history.RunFinished{Outcome: history.Failed}), "blue", "", "", "a gate that said no"},
		"refused by a safeguard":    {broken(1, &history.StepFinished{Step: 1, Outcome: history.Refused}), "blue", "deploy to green, ", "drill cut on green, promote green, drill cut on green, ", ""},
		"inconclusive is not proof": {broken(1, &history.StepFinished{Step: 1, Outcome: history.Inconclusive}), "blue", "deploy to green, ", "drill cut on green, promote green, drill cut on green, ", ""},
	} {
		plan, err := Resume(test.earlier, test.live, soonAfter(test.earlier))
		if test.refused != "" {
			if text := errorText(err); drill.KindOf(err) != drill.Refused || !strings.Contains(text, test.refused) {
				t.Errorf("%s: %q", name, text)
			}
			continue
		}
		if proven, steps := names(plan); err != nil || proven != test.proven || steps != test.steps || !plan.Steps[0].Begun {
			t.Errorf("%s: proven %q, then %q, begun %t (%v)", name, proven, steps, plan.Steps[0].Begun, err)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error() + " " + drill.HintOf(err)
}

// The log's own word is not enough: a step counts only when judging it again says so.
func TestResumeBelievesNoStepThatJudgesOtherwise(t *testing.T) {
	earlier := broken(3)
	earlier.Proven = func(step int) bool { return step != 1 }
	plan, err := Resume(earlier, "blue", soonAfter(earlier))
	if _, steps := names(plan); err != nil || !strings.HasPrefix(steps, "drill cut on green, promote green, ") {
		t.Errorf("%q %v", steps, err)
	}
}

func TestResumeRefusesWhatIsOldAndPinsTheCommit(t *testing.T) {
	earlier := broken(1)
	if _, err := Resume(earlier, "blue", soonAfter(earlier).Add(resumeMax)); drill.KindOf(err) != drill.Refused {
		t.Errorf("%v", err)
	}
	plan, err := Resume(earlier, "blue", soonAfter(earlier))
	if err != nil || plan.Deploy.Source.Revision != "abc" || plan.Proven[0].Hosts[0] != (drill.HostRelease{Host: "green-1", Revision: "abc"}) {
		t.Errorf("%+v %v", plan.Proven, err)
	}
	if earlier.Plan.Deploy.Source.Revision != "" {
		t.Error("the earlier plan was changed")
	}
	again := Earlier{Plan: plan, Head: "beef", Log: []history.Event{history.New(soonAfter(earlier), "ci", &history.RunStarted{Run: "second", Plan: plan})}, Proven: earlier.Proven}
	next, err := Resume(again, "blue", soonAfter(again))
	if err != nil || len(next.Proven) != 1 || next.Proven[0].Run != "first" || len(next.Steps) != len(plan.Steps) {
		t.Errorf("going on a second time: %+v %v", next.Proven, err)
	}
}

// A resumed run does not order a promotion that has happened, and starts nothing on hosts that run something else than was proven.
func TestResumedRunLooksAtTheWorldAgain(t *testing.T) {
	for name, test := range map[string]struct {
		live, revision string
		promotes       int
		want           history.Outcome
	}{
		"the answer has moved already": {"green", "abc", 0, history.Passed},
		"it has not":                   {"blue", "abc", 1, history.Passed},
		"another release runs":         {"blue", "def", 0, history.Refused},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				earlier := broken(2, &history.StepStarted{Step: 2})
				earlier.Plan.Environments = twoHosts().Environments
				for i := range earlier.Log {
					if deployed, is := earlier.Log[i].Fact.(*history.Deploy); is {
						deployed.Revision = test.revision
					}
				}
				plan, err := Resume(earlier, test.live, soonAfter(earlier))
				if err != nil {
					t.Fatal(err)
				}
				plan.Steps = plan.Steps[:1]
				crew := &fakeCrew{live: test.live}
				log := runFake(t, crew, plan, 0)
				if got := outcome(t, log); got.Outcome != test.want || crew.promotes != test.promotes {
					t.Errorf("%+v with %d promotions", got, crew.promotes)
				}
				if test.want == history.Passed && len(drains(log)) != 1 {
					t.Error("the old environment was not waited for")
				}
			})
		})
	}
}

// The planted bug: a crew that promotes whatever is answered is seen by the same count.
func TestTwoPromotionsAreCounted(t *testing.T) {
	crew := &fakeCrew{}
	if err := errors.Join(crew.Promote(t.Context(), "green"), crew.Promote(t.Context(), "green")); err != nil || crew.promotes != 2 {
		t.Errorf("%d %v", crew.promotes, err)
	}
}
