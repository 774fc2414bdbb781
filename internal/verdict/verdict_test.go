package verdict_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

func TestTheWholeStoryPasses(t *testing.T) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	got := verdict.Judge(plan, log)
	if got.Outcome != history.Passed || got.ExitCode() != 0 {
		t.Errorf("outcome %s, exit code %d: %s", got.Outcome, got.ExitCode(), got.Reason)
	}
	for _, step := range got.Steps {
		for _, check := range step.Checks {
			if check.Outcome != history.Passed {
				t.Errorf("%s: %s: %s: %s", step.Name, check.Name, check.Outcome, check.Explanation)
			}
		}
	}
	if got.RTO == nil || got.RTO.Seconds <= 0 || got.RTO.Bound <= 0 {
		t.Fatalf("RTO = %+v, want a figure with its bound", got.RTO)
	}
	if idle := got.Steps[1].RTO; idle == nil || idle.Seconds != 0 {
		t.Errorf("RTO of the idle drill = %+v, want 0: no client failed", idle)
	}
}

func TestEveryTwistIsNoticed(t *testing.T) {
	tests := []struct {
		twist       verdicttest.Twist
		outcome     history.Outcome
		exit        int
		step        int    // the step that decides
		reason      string // a part of it
		notReverted bool
	}{
		{verdicttest.DeadAlarm, history.Failed, 1, 1, "not raised", false},
		{verdicttest.FrozenDNS, history.Failed, 1, 3, "never answered blue", false},
		{verdicttest.DeadStandby, history.Failed, 1, 3, "not served again", false},
		{verdicttest.Toothless, history.Inconclusive, 3, 1, "not proven to have bitten", false},
		{verdicttest.Residue, history.Failed, 5, 1, "left behind", true},
		{verdicttest.Cut, history.Inconclusive, 3, 3, "", false},
	}
	for _, test := range tests {
		t.Run(string(test.twist), func(t *testing.T) {
			got := verdict.Judge(verdicttest.Bookstore(test.twist))
			if got.Outcome != test.outcome || got.ExitCode() != test.exit || got.Exit != test.exit || got.NotReverted != test.notReverted {
				t.Errorf("outcome %s, exit code %d, not reverted %t, want %s, %d, %t: %s",
					got.Outcome, got.ExitCode(), got.NotReverted, test.outcome, test.exit, test.notReverted, got.Reason)
			}
			step := got.Steps[test.step]
			if step.Outcome != test.outcome || !strings.Contains(step.Reason, test.reason) {
				t.Errorf("step %s: %s: %q, want %s because of %q", step.Name, step.Outcome, step.Reason, test.outcome, test.reason)
			}
			if test.twist == verdicttest.DeadStandby && (got.RTO == nil || !got.RTO.Open) {
				t.Errorf("RTO %+v, want one that says that nobody was served again", got.RTO)
			}
			if !strings.HasPrefix(got.Reason, step.Name) {
				t.Errorf("the run's reason %q does not name the step %q", got.Reason, step.Name)
			}
		})
	}
}

// class names the piece of evidence that an event is, "" when no verdict may depend on it. Events of one class say the same thing.
func class(plan drill.Plan, log []history.Event, event history.Event) string {
	step := stepAt(log, event.At)
	switch fact := event.Fact.(type) {
	case *history.RunStarted, *history.RunFinished:
		return string(fact.Kind())
	case *history.StepStarted:
		return fmt.Sprintf("step %d started", fact.Step)
	case *history.StepFinished:
		return fmt.Sprintf("step %d finished", fact.Step)
	case *history.Phase:
		if fact.Phase != history.PhaseDone {
			return fmt.Sprintf("step %d phase %s", fact.Step, fact.Phase)
		}
	case *history.Check:
		if fact.Name == verdict.CheckRollbackReady {
			return fmt.Sprintf("step %d %s", fact.Step, fact.Name)
		}
	case *history.Ledger:
		return fmt.Sprintf("step %d ledger", fact.Step)
	case *history.AttackPlanned, *history.AttackInForce, *history.AttackReverted:
		return fmt.Sprintf("step %d %s", step, event.Fact.Kind())
	case *history.AttackAccount:
		if fact.Attack != "shutdown" {
			return fmt.Sprintf("step %d account", step)
		}
	case *history.AttackHits:
		return fmt.Sprintf("step %d hits", step)
	case *history.AttackTarget:
		if fact.Verb == "drop" {
			return fmt.Sprintf("step %d targets", step)
		}
	case *history.AttackCanary:
		return fmt.Sprintf("step %d canary %s %s %s", step, fact.Target, fact.Flow, fact.When)
	case *history.Alarm:
		return fmt.Sprintf("alarm %s to %s in step %d", fact.Name, lostOnly(fact.To), step)
	case *history.Answer:
		if drillStep(plan, step) && !fact.Decided {
			return fmt.Sprintf("answers in step %d", step)
		}
	case *history.Host:
		if strings.HasSuffix(fact.Host, "-blue") {
			return fmt.Sprintf("%s up=%t in step %d", fact.Host, fact.Up, step)
		}
	case *history.Sample:
		if drillStep(plan, step) {
			return fmt.Sprintf("samples in step %d", step)
		}
	case *history.Deploy:
		if fact.Stage == history.DeployHealthy {
			return fmt.Sprintf("step %d healthy", step)
		}
	case *history.Promote:
		return string(fact.Kind())
	}
	return ""
}

// lostOnly makes the way into INSUFFICIENT_DATA no evidence: without it less is wrong, not less proven.
func lostOnly(state string) string {
	if state == history.AlarmInsufficient {
		return ""
	}
	return state
}

func drillStep(plan drill.Plan, step int) bool {
	return step >= 0 && plan.Steps[step].Kind == drill.StepDrill
}

func stepAt(log []history.Event, at time.Time) int {
	step := -1
	for _, event := range log {
		if event.At.After(at) {
			break
		}
		if started, ok := event.Fact.(*history.StepStarted); ok {
			step = started.Step
		}
	}
	return step
}

// undetected removes each class of evidence from a good log, and each event that is the only one of its class, and returns what judge
// passes all the same.
func undetected(plan drill.Plan, log []history.Event, judge func(drill.Plan, []history.Event) history.Outcome) []string {
	members := map[string][]int64{}
	for _, event := range log {
		if name := class(plan, log, event); name != "" && !strings.Contains(name, " to  in step") {
			members[name] = append(members[name], event.Seq)
		}
	}
	var missed []string
	for name, seqs := range members {
		without := slices.DeleteFunc(slices.Clone(log), func(e history.Event) bool { return slices.Contains(seqs, e.Seq) })
		if judge(plan, without) == history.Passed {
			missed = append(missed, name)
		}
	}
	slices.Sort(missed)
	return missed
}

func judged(plan drill.Plan, log []history.Event) history.Outcome {
	return verdict.Judge(plan, log).Outcome
}

func TestNoEvidenceMayBeMissing(t *testing.T) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	for _, name := range undetected(plan, log, judged) {
		t.Errorf("passed without: %s", name)
	}
}

// A judge who believes what the conductor says of itself is the bug that the check above must notice.
func TestACredulousJudgeIsCaught(t *testing.T) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	credulous := func(_ drill.Plan, log []history.Event) history.Outcome {
		for _, event := range log {
			if finished, ok := event.Fact.(*history.RunFinished); ok {
				return finished.Outcome
			}
		}
		return history.Inconclusive
	}
	if missed := undetected(plan, log, credulous); len(missed) < 20 {
		t.Errorf("only %d omissions were noticed of a judge who looks at nothing", len(missed))
	}
}

func TestNoPrefixOfALogPasses(t *testing.T) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	for size := 0; size < len(log); size += 7 {
		if got := verdict.Judge(plan, log[:size]); got.Outcome == history.Passed {
			t.Fatalf("the first %d of %d events passed", size, len(log))
		}
	}
	if got := verdict.Judge(plan, log[:len(log)-1]); got.Outcome == history.Passed {
		t.Error("passed without the end of the run")
	}
}

func TestNoSingleEventTurnsABadStoryGood(t *testing.T) {
	for _, twist := range []verdicttest.Twist{verdicttest.DeadAlarm, verdicttest.Toothless, verdicttest.Residue} {
		plan, log := verdicttest.Bookstore(twist)
		random := rand.New(rand.NewPCG(7, 7))
		for range 150 {
			i := random.IntN(len(log))
			if judged(plan, slices.Delete(slices.Clone(log), i, i+1)) == history.Passed {
				t.Errorf("%s: passed without event %d (%s)", twist, i, log[i].Fact.Kind())
			}
		}
	}
}

func TestJudgeIsAFunctionOfItsArguments(t *testing.T) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	first, _ := json.Marshal(verdict.Judge(plan, log))
	second, _ := json.Marshal(verdict.Judge(plan, log))
	if diff := cmp.Diff(string(first), string(second)); diff != "" {
		t.Errorf("the same log was judged differently: %s", diff)
	}
	var decoded []history.Event
	for _, event := range log {
		line, err := json.Marshal(event)
		if err != nil {
			t.Fatal(err)
		}
		var back history.Event
		if err := json.Unmarshal(line, &back); err != nil {
			t.Fatal(err)
		}
		decoded = append(decoded, back)
	}
	third, _ := json.Marshal(verdict.Judge(decoded[0].Fact.(*history.RunStarted).Plan, decoded))
	if diff := cmp.Diff(string(first), string(third)); diff != "" {
		t.Errorf("written and read again, the log was judged differently: %s", diff)
	}
}

func TestLateReportsDoNotChangeTheVerdict(t *testing.T) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	want := verdict.Judge(plan, log)
	var late, rest []history.Event
	for _, event := range log {
		if _, ok := event.Fact.(*history.Sample); ok {
			late = append(late, event)
		} else {
			rest = append(rest, event)
		}
	}
	end := len(rest) - 1
	got := verdict.Judge(plan, slices.Concat(rest[:end], late, rest[end:]))
	if got.Outcome != want.Outcome || got.RTO == nil || got.RTO.Seconds != want.RTO.Seconds {
		t.Errorf("with samples written late: %s, RTO %+v; want %s, %+v", got.Outcome, got.RTO, want.Outcome, want.RTO)
	}
}

func TestJudgeNeverPanicsAndNeverPassesNonsense(t *testing.T) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	var sample *history.Sample // a fact that is a nil pointer breaks every reader
	nonsense := map[string][]history.Event{
		"nothing":     nil,
		"no facts":    make([]history.Event, 5),
		"nil fact":    append(slices.Clone(log[:50]), history.Event{Fact: sample}),
		"empty facts": emptyFacts(),
	}
	for name, events := range nonsense {
		if got := verdict.Judge(plan, events); got.Outcome != history.Inconclusive || got.ExitCode() != 3 {
			t.Errorf("%s: %s, exit code %d", name, got.Outcome, got.ExitCode())
		}
		if got := verdict.JudgeStep(plan, nil, 1); got.Outcome != history.Inconclusive {
			t.Errorf("%s: step %s", name, got.Outcome)
		}
		if verdict.Decided(plan, events, 1, time.Now()) {
			t.Errorf("%s: decided", name)
		}
	}
	for _, step := range []int{-1, 99} {
		if got := verdict.JudgeStep(plan, log, step); got.Outcome != history.Inconclusive {
			t.Errorf("step %d: %s", step, got.Outcome)
		}
	}
	if got := verdict.Judge(drill.Plan{}, log); got.Outcome == history.Passed {
		t.Error("a plan without steps passed")
	}
}

func emptyFacts() []history.Event {
	facts := []history.Fact{
		&history.RunStarted{}, &history.StepStarted{Step: 1}, &history.Phase{Step: 1}, &history.Permit{Step: 1, Granted: true}, &history.Stop{}, &history.Check{Step: 1},
		&history.AttackPlanned{}, &history.AttackTarget{}, &history.AttackInForce{}, &history.AttackHits{}, &history.AttackCanary{}, &history.AttackReverted{},
		&history.AttackAccount{}, &history.AttackRefused{}, &history.Sample{}, &history.Alarm{}, &history.Answer{}, &history.Host{}, &history.Deploy{},
		&history.Promote{}, &history.Ledger{}, &history.Clock{}, &history.Inspected{}, &history.Unknown{}, &history.StepFinished{Step: 1}, &history.RunFinished{},
	}
	var events []history.Event
	for i, fact := range facts {
		events = append(events, history.New(verdicttest.Start().Add(time.Duration(i)*time.Second), "", fact))
	}
	return events
}

func TestDecidedWaitsForProofAndForEveryExpectation(t *testing.T) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	for _, step := range []int{1, 3, 4} {
		began, settled := time.Time{}, time.Time{}
		for i, event := range log {
			if stepAt(log, event.At) != step {
				continue
			}
			if _, ok := event.Fact.(*history.AttackInForce); ok {
				began = event.At
			}
			if verdict.Decided(plan, log[:i+1], step, event.At) {
				settled = event.At
				break
			}
		}
		if settled.IsZero() {
			t.Errorf("step %d was never decided", step)
			continue
		}
		if settled.Sub(began) < 5*time.Second {
			t.Errorf("step %d was decided %v after the attack began, before its alarms could be raised and settle", step, settled.Sub(began))
		}
	}
	plan, log = verdicttest.Bookstore(verdicttest.Toothless)
	for i, event := range log {
		if verdict.Decided(plan, log[:i+1], 1, event.At) {
			t.Fatalf("an attack that does not bite was decided at event %d", i)
		}
	}
}

func BenchmarkJudge(b *testing.B) {
	plan, story := verdicttest.Bookstore(verdicttest.NoTwist)
	for _, size := range []int{1, 1_000, 100_000} {
		log := stretch(story, size)
		b.Run(fmt.Sprintf("events=%d", size), func(b *testing.B) {
			for b.Loop() {
				verdict.Judge(plan, log)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size), "ns/event")
		})
	}
}

// stretch makes a log of about size events: the story, with its samples repeated in between.
func stretch(story []history.Event, size int) []history.Event {
	if size <= len(story) {
		return story[:size]
	}
	var log []history.Event
	repeat := size/len(story) + 1
	for _, event := range story {
		log = append(log, event)
		if sample, ok := event.Fact.(*history.Sample); ok {
			for i := 1; i < repeat+repeat/2; i++ {
				more := *sample
				more.Scheduled = sample.Scheduled.Add(time.Duration(i) * time.Microsecond)
				log = append(log, history.New(event.At, event.Source, &more))
			}
		}
	}
	return log[:min(size, len(log))]
}
