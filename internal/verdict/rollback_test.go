package verdict

import (
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict/verdicttest"
)

func TestRollbackPassesOnlyWhenEveryHostIsSeenHealthyAgain(t *testing.T) {
	plan := verdicttest.Plan()
	environment := plan.Environments[0]
	plan.Steps = []drill.Step{{Kind: drill.StepRollback, Name: "roll back", Environment: environment.Name, Live: environment.Name, LiveAfter: environment.Name}}
	restored := func(host string) []history.Fact {
		return []history.Fact{
			&history.Deploy{Host: host, Stage: history.DeployHealthy, Release: "r1"},
			&history.Deploy{Host: host, Stage: history.DeployRestored, Release: "r1", Revision: "0123456789abcdef"},
		}
	}
	var whole []history.Fact
	for _, host := range environment.Hosts {
		whole = append(whole, restored(host.Name)...)
	}
	first := environment.Hosts[0].Name
	for name, test := range map[string]struct {
		facts []history.Fact
		want  history.Outcome
	}{
		"every host went back":  {whole, history.Passed},
		"nothing was told":      {nil, history.Inconclusive},
		"never healthy":         {whole[1:], history.Inconclusive},
		"one host failed after": {append(append([]history.Fact{}, whole...), &history.Deploy{Host: first, Stage: history.DeployFailed, Detail: "502"}), history.Failed},
		"the crew says it failed": {append(append([]history.Fact{}, whole...),
			&history.Check{Step: 0, Name: drill.StepRollback, Detail: "lost"}), history.Failed},
	} {
		at := verdicttest.Start()
		var log []history.Event
		say := func(fact history.Fact) {
			at = at.Add(10 * time.Millisecond)
			event := history.New(at, "ci", fact)
			event.Seq = int64(len(log) + 1)
			log = append(log, event)
		}
		say(&history.RunStarted{Run: "r", Plan: plan})
		say(&history.StepStarted{Step: 0, Name: "roll back"})
		for _, fact := range test.facts {
			say(fact)
		}
		if got := JudgeStep(plan, log, 0); got.Outcome != test.want {
			t.Errorf("%s: %s (%s), want %s", name, got.Outcome, got.Reason, test.want)
		}
	}
}
