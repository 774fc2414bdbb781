package verdict

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict/verdicttest"
)

// story makes a log of one step out of facts.
func story(plan drill.Plan, facts ...history.Fact) []history.Event {
	at := verdicttest.Start()
	var log []history.Event
	for _, fact := range append([]history.Fact{&history.RunStarted{Run: "r", Plan: plan}, &history.StepStarted{Step: 0}}, facts...) {
		at = at.Add(10 * time.Millisecond)
		event := history.New(at, "ci", fact)
		event.Seq = int64(len(log) + 1)
		log = append(log, event)
	}
	return log
}

func TestPromotionTellsOfRequestsThatWereLeft(t *testing.T) {
	plan := verdicttest.Plan()
	plan.Steps = []drill.Step{{Kind: drill.StepPromote, Name: "promote green", Environment: "green", Live: "blue", LiveAfter: "green"}}
	name := plan.Failover[0].Name
	for ended, want := range map[bool]string{true: "no request was left on blue", false: "2 connections to blue-1 were still open. They were left alone"} {
		detail := "no request was left on blue"
		if !ended {
			detail = "2 connections to blue-1 were still open"
		}
		got := JudgeStep(plan, story(plan,
			&history.Promote{Name: name, From: "blue", To: "green"},
			&history.Answer{Name: name, Server: plan.Failover[0].Servers[0], Environment: "green", Addresses: []string{"10.77.1.20"}},
			&history.Drained{Step: 0, Environment: "blue", Ended: ended, Detail: detail},
		), 0)
		if text := fmt.Sprint(got.Checks); got.Outcome != history.Passed || !strings.Contains(text, want) {
			t.Errorf("ended=%t: %s %s", ended, got.Outcome, text)
		}
	}
}

func TestProvenStepsWithoutTheirLogAreNamed(t *testing.T) {
	plan := verdicttest.Plan()
	plan.Proven = []drill.ProvenStep{{Kind: drill.StepDeploy, Name: "deploy to green", Run: "0193-earlier", Log: strings.Repeat("ab", 32)}}
	got := Judge(plan, story(plan))
	found := false
	for _, check := range got.Checks {
		found = found || strings.Contains(check.Name, "deploy to green") && strings.Contains(check.Explanation, "0193-earlier") && strings.Contains(check.Explanation, "abab")
	}
	if !found {
		t.Errorf("%+v", got.Checks)
	}
}

// Fewer hosts than stop_at_failures may fail a deployment, when each is where it was; anything else fails it.
func TestDeploymentPassesWithoutTheHostsThatMayFail(t *testing.T) {
	plan := verdicttest.Plan()
	host := func(n int) drill.Host { return drill.Host{Name: fmt.Sprintf("green-%d", n)} }
	plan.Environments[1].Hosts = []drill.Host{host(1), host(2), host(3), host(4)}
	plan.Steps = []drill.Step{{Kind: drill.StepDeploy, Name: "deploy to green", Environment: "green", Live: "blue", LiveAfter: "blue"}}
	said := func(n int, stages ...string) (facts []history.Fact) {
		for _, stage := range stages {
			facts = append(facts, &history.Deploy{Host: host(n).Name, Stage: stage, Revision: "0123456789abcdef", Files: 3})
		}
		return facts
	}
	good := []string{history.DeployPublish, history.DeploySwitched, history.DeployHealthy}
	back := []string{history.DeployPublish, history.DeploySwitched, history.DeployFailed, history.DeployHealthy, history.DeployRestored}
	stuck := []string{history.DeployPublish, history.DeploySwitched, history.DeployFailed}
	never := []string{history.DeployFailed}
	for name, test := range map[string]struct {
		limit  int
		stages [4][]string
		want   history.Outcome
	}{
		"all are healthy":                            {1, [4][]string{good, good, good, good}, history.Passed},
		"one went back, none may":                    {1, [4][]string{good, good, good, back}, history.Failed},
		"one went back, one may":                     {2, [4][]string{good, good, good, back}, history.Passed},
		"one was never switched":                     {2, [4][]string{good, never, good, good}, history.Passed},
		"one is stuck":                               {2, [4][]string{good, stuck, good, good}, history.Failed},
		"two went back, one may":                     {2, [4][]string{back, good, good, back}, history.Failed},
		"two went back, two may":                     {3, [4][]string{back, good, good, back}, history.Passed},
		"one went back, and nobody knows of another": {3, [4][]string{back, good, good, {history.DeployPublish}}, history.Inconclusive},
		"all went back, whatever may":                {9, [4][]string{back, back, back, back}, history.Failed},
	} {
		plan.Deploy.StopAtFailures = test.limit
		var facts []history.Fact
		for i, stages := range test.stages {
			facts = append(facts, said(i+1, stages...)...)
		}
		facts = append(facts, &history.Check{Step: 0, Name: drill.StepDeploy, OK: true})
		got := JudgeStep(plan, story(plan, facts...), 0)
		if got.Outcome != test.want {
			t.Errorf("%s: %s (%s), want %s", name, got.Outcome, got.Reason, test.want)
		}
		left := strings.Count(fmt.Sprint(got.Checks), "left out: ")
		if test.want == history.Passed && test.limit > 1 && left == 0 {
			t.Errorf("%s: passed without a word on the hosts that do not run the release", name)
		}
	}
}
