package verdict_test

import (
	"strings"
	"testing"

	"firedrill/internal/history"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

// A second client that keeps its connections is told beside the first.
func TestRecoveryIsToldOfEachClient(t *testing.T) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	second := plan.Clients[0]
	first := second.Name
	second.Name, second.Keep = "kept", true
	plan.Clients = append(plan.Clients, second)
	var both []history.Event
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
			copied := *fact
			copied.Probe, copied.Host, copied.OK, copied.Cause = "kept", "kept", true, ""
			both = append(both, history.New(event.At, "kept", &copied))
		}
	}
	said := ""
	for _, check := range verdict.Judge(plan, both).Steps[3].Checks {
		if check.Name == "RTO" {
			said = check.Explanation
		}
	}
	if !strings.Contains(said, "kept (keep-alive) saw no failure") || !strings.Contains(said, first+" after ") {
		t.Errorf("RTO says %q", said)
	}
}
