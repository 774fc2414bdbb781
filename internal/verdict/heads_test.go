package verdict

import (
	"testing"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// The head of a report sums up what clients saw and what the kernel dropped, in all directions.
func TestTheHeadOfAReportIsTheSumOfItsParts(t *testing.T) {
	d := edge(nil, samplesOf("client", 0, 10, badFrom(2, 5))...)
	got := totals(d.rec, &Verdict{
		Checks: []Check{passed(GroupRun, "a", ""), failed(GroupRun, "b", "")},
		Steps: []StepVerdict{
			{Kind: drill.StepDrill, Checks: []Check{inconclusive(GroupRun, "c", "")}, Impact: &Impact{Hosts: []HostImpact{{Egress: 5, Ingress: 3, Forward: 1}, {Egress: 100}}}},
			{Kind: drill.StepPromote, Checks: []Check{passed(GroupRun, "d", "")}},
		},
	})
	got.Events = 0
	want := Totals{Steps: 2, Drills: 1, Checks: 4, Passed: 2, Failed: 1, Inconclusive: 1, Samples: 10, FailedSample: 3, Available: 70, Dropped: 109}
	if got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// What bit a container was dropped on its way through the host; what was sent out has bitten whatever came back.
func TestDroppedPacketsCountInEachDirection(t *testing.T) {
	for name, row := range map[string]struct {
		egress, ingress, forward uint64
		direction                string
		packets                  float64
		want                     history.Outcome
	}{
		"out":                             {4, 0, 0, "egress", 4, history.Passed},
		"out and in":                      {4, 3, 0, "egress", 7, history.Passed},
		"in, and not out":                 {0, 3, 0, "egress", 3, history.Inconclusive},
		"through":                         {0, 0, 2, "egress", 2, history.Passed},
		"as many out as through":          {4, 0, 4, "egress", 8, history.Passed},
		"as many in as through":           {0, 4, 4, "ingress", 8, history.Passed},
		"all three":                       {5, 3, 1, "egress", 9, history.Passed},
		"nothing":                         {0, 0, 0, "egress", 0, history.Inconclusive},
		"out, where in alone was cut":     {4, 0, 0, "ingress", 4, history.Inconclusive},
		"through, where in alone was cut": {0, 0, 4, "ingress", 4, history.Passed},
	} {
		sheet := HostImpact{Host: "b1", Targets: 1, Egress: row.egress, Ingress: row.ingress, Forward: row.forward, facts: hostFacts{attack: &attackFacts{
			hits:    []seen[*history.AttackHits]{{seq: 3}, {seq: 4}},
			targets: []seen[*history.AttackTarget]{{fact: &history.AttackTarget{Verb: "drop", Direction: row.direction}}},
		}}}
		if got := hitPackets(&sheet); got.Outcome != row.want || got.Measured.Value != row.packets || len(got.Evidence) != 1 || got.Evidence[0] != 4 {
			t.Errorf("%s: %s, %v packets, evidence %d: %s", name, got.Outcome, got.Measured.Value, got.Evidence, got.Explanation)
		}
	}
}

// A share that is just reached is reached.
func TestAvailabilityThatIsJustReachedIsReached(t *testing.T) {
	for wanted, want := range map[float64]history.Outcome{70: history.Passed, 70.001: history.Failed, 69.999: history.Passed} {
		d := edge(nil, samplesOf("client", -30, 60, badFrom(20, 47))...)
		if got := d.available(GroupObjective, "availability", wanted); got.Outcome != want || got.Measured.Value != 70 {
			t.Errorf("70 %% where %v %% are wanted: %s %+v %s", wanted, got.Outcome, got.Measured, got.Explanation)
		}
	}
}
