package verdict_test

import (
	"io"
	"slices"
	"strings"
	"testing"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

// without is a log in which the facts that match are not told.
func without(log []history.Event, matches func(history.Fact) bool) []history.Event {
	return slices.DeleteFunc(slices.Clone(log), func(event history.Event) bool { return matches(event.Fact) })
}

func chained(t *testing.T, log []history.Event) verdict.Earlier {
	t.Helper()
	writer := history.NewWriter(io.Discard)
	for _, event := range log {
		if _, err := writer.Append(event); err != nil {
			t.Fatal(err)
		}
	}
	_, head := writer.Head()
	return verdict.Earlier{Head: head, Log: log}
}

// wrongEarlier are logs of an earlier run by which nothing may pass; claimed says that the plan names that very log.
func wrongEarlier(t *testing.T) map[string]struct {
	logs    []verdict.Earlier
	claimed bool
} {
	earlier, _, _, log := verdicttest.Resumed()
	type wrong = struct {
		logs    []verdict.Earlier
		claimed bool
	}
	_, toothless := verdicttest.Bookstore(verdicttest.Toothless)
	return map[string]wrong{
		"missing":              {nil, false},
		"shortened":            {[]verdict.Earlier{chained(t, earlier[:len(earlier)-1])}, false},
		"of another run":       {[]verdict.Earlier{chained(t, log)}, true},
		"of a toothless drill": {[]verdict.Earlier{chained(t, toothless)}, true},
		"without its counters": {[]verdict.Earlier{chained(t, without(earlier, func(fact history.Fact) bool { _, is := fact.(*history.AttackCanary); return is }))}, true},
		"without a step's end": {[]verdict.Earlier{chained(t, without(earlier, func(fact history.Fact) bool {
			finished, is := fact.(*history.StepFinished)
			return is && finished.Step == 1
		}))}, true},
	}
}

// passedBy counts the wrong logs by which a judge lets a resumed run pass.
func passedBy(t *testing.T, judge func(drill.Plan, []history.Event, ...verdict.Earlier) history.Outcome) (names []string) {
	t.Helper()
	for name, wrong := range wrongEarlier(t) {
		_, _, plan, log := verdicttest.Resumed()
		if wrong.claimed {
			for i := range plan.Proven {
				plan.Proven[i].Log = wrong.logs[0].Head
			}
			log[0].Fact.(*history.RunStarted).Plan = plan
		}
		if judge(plan, log, wrong.logs...) == history.Passed {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

func TestResumedRunPassesOnlyWithTheLogThatItStandsOn(t *testing.T) {
	earlier, head, plan, log := verdicttest.Resumed()
	if got := verdict.Judge(plan, log, verdict.Earlier{Head: head, Log: earlier}); got.Outcome != history.Passed {
		t.Fatalf("with its log: %s, %s", got.Outcome, got.Reason)
	}
	if got := verdict.Judge(plan, log); got.Outcome != history.Inconclusive || !strings.Contains(got.Reason, "is not here") {
		t.Errorf("without its log: %s, %s", got.Outcome, got.Reason)
	}
	if names := passedBy(t, func(plan drill.Plan, log []history.Event, earlier ...verdict.Earlier) history.Outcome {
		return verdict.Judge(plan, log, earlier...).Outcome
	}); len(names) > 0 {
		t.Errorf("it passed by a log that is %q", names)
	}
}

func TestResumedRunWithAnotherClaimIsDoubted(t *testing.T) {
	for name, claim := range map[string]func(*drill.ProvenStep){
		"revision":    func(p *drill.ProvenStep) { p.Hosts = []drill.HostRelease{{Host: "green-1", Revision: "feed"}} },
		"environment": func(p *drill.ProvenStep) { p.Environment = "blue" },
		"run":         func(p *drill.ProvenStep) { p.Run = "other" },
		"name":        func(p *drill.ProvenStep) { p.Name = "deploy to everybody" },
	} {
		earlier, head, plan, log := verdicttest.Resumed()
		claim(&plan.Proven[0])
		log[0].Fact.(*history.RunStarted).Plan = plan
		if got := verdict.Judge(plan, log, verdict.Earlier{Head: head, Log: earlier}); got.Outcome != history.Inconclusive {
			t.Errorf("another %s: %s", name, got.Outcome)
		}
	}
}

// A judge who asks for no earlier log is the bug that the tests must notice.
func TestAJudgeWhoAsksForNoEarlierLogIsCaught(t *testing.T) {
	forgetful := func(plan drill.Plan, log []history.Event, _ ...verdict.Earlier) history.Outcome {
		plan.Proven = nil
		log = slices.Clone(log)
		started := *log[0].Fact.(*history.RunStarted)
		started.Plan = plan
		log[0].Fact = &started
		return verdict.Judge(plan, log).Outcome
	}
	if names := passedBy(t, forgetful); len(names) < 5 {
		t.Errorf("only %q were noticed", names)
	}
}
