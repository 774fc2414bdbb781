package verdict

import (
	"net/netip"
	"strings"
	"testing"
	"time"

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

// An objective that is just met is met; one that only the error of measuring could decide is not decided.
func TestARecoveryThatIsJustInTimeIsInTime(t *testing.T) {
	log := samplesOf("client", -30, 60, badFrom(2, 10))
	measured := edge(nil, log...).recoversWithin(GroupObjective, "RTO", time.Minute).Measured
	if measured.Value != 10 || measured.Bound <= 0 {
		t.Fatalf("%+v", measured)
	}
	just := 10 + measured.Bound
	for allowed, want := range map[float64]history.Outcome{9.999: history.Failed, 10: history.Inconclusive, just - .001: history.Inconclusive, just: history.Passed} {
		if got := edge(nil, log...).recoversWithin(GroupObjective, "RTO", seconds(allowed).Duration()); got.Outcome != want {
			t.Errorf("10 s ±%v where %v s are allowed: %s %s", measured.Bound, allowed, got.Outcome, got.Explanation)
		}
	}
}

// What nobody promised is not held against a service, and what was promised is.
func TestObjectivesAreThoseOfTheServiceFile(t *testing.T) {
	zero := seconds(0)
	for name, row := range map[string]struct {
		change func(*drill.Plan)
		want   string
	}{
		"none":                           {nil, ""},
		"a recovery time":                {func(p *drill.Plan) { p.Objectives.RTO = seconds(10) }, "RTO"},
		"no loss, and nobody writes":     {func(p *drill.Plan) { p.Objectives.RPO = &zero }, ""},
		"no loss, and the client writes": {func(p *drill.Plan) { p.Objectives.RPO, p.Clients[0].Ledger = &zero, "/ledger" }, "RPO"},
	} {
		var names []string
		for _, check := range edge(row.change, samplesOf("client", -30, 60, alwaysGood)...).objectives() {
			names = append(names, check.Name)
		}
		if got := strings.Join(names, " "); got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}

// As many failures as answers are not nothing: of the sixty samples that count, thirty failed.
func TestHalfOfAllRequestsIsNotSilence(t *testing.T) {
	log := samplesOf("client", -30, 59, badFrom(0, 30))
	level := drill.ServiceLevel{Target: 99, Window: drill.Seconds(30 * 24 * time.Hour), Drill: .01}
	if got := edge(nil, log...).errorBudget(level); strings.Contains(got.Explanation, "not measured") || got.Measured.Value != 30 {
		t.Errorf("%s %s", got.Outcome, got.Explanation)
	}
	if got := edge(nil, log...).recoversWithin(GroupObjective, "RTO", time.Minute); got.Outcome != history.Passed || got.Measured.Value != 30 {
		t.Errorf("%s %s", got.Outcome, got.Explanation)
	}
}

// A run names the revision that it brought out last.
func TestARunNamesItsRevision(t *testing.T) {
	judged := Verdict{Steps: []StepVerdict{{Revision: "abc"}, {}, {Revision: "def"}, {}}}
	if conclude(edge(nil).rec, &judged); judged.Revision != "def" {
		t.Errorf("%q", judged.Revision)
	}
}

// Of several hosts only the one that refused was not attacked; where there is one alone, who said so does not matter.
func TestARefusalIsOfTheHostThatRefused(t *testing.T) {
	for _, several := range []bool{false, true} {
		for _, source := range []string{"b1", "ci"} {
			d := edge(nil, history.New(after(-1), source, &history.AttackRefused{Attack: "blackhole", Reason: "the policy of the host"}))
			if several {
				d.drill.Hosts = append(d.drill.Hosts, drill.Host{Name: "b2"})
			}
			got := d.inForceOn(&HostImpact{Host: "b1", Attack: "blackhole"})
			if refused := strings.Contains(got.Explanation, "the policy of the host"); refused != (source == "b1" || !several) || got.Outcome != history.Inconclusive {
				t.Errorf("several hosts: %t, told by %s: %s", several, source, got.Explanation)
			}
		}
	}
}

// An attack that was in force for all of the time that is allowed leaves no excuse.
func TestALineMustComeWhileTheAttackIsInForce(t *testing.T) {
	read := func(at float64) history.Event {
		return told(at, &history.Followed{Host: "b1", File: "/l", Up: true})
	}
	for allowed, want := range map[float64]history.Outcome{29: history.Failed, 30: history.Failed, 30.001: history.Inconclusive} {
		d := edge(nil, read(-20))
		if got := d.expectation(drill.Expectation{Kind: drill.ExpectLine, Host: "b1", File: "/l", Line: "x", Within: seconds(allowed)}); got.Outcome != want {
			t.Errorf("an attack of 30 s, %v s are allowed: %s %s", allowed, got.Outcome, got.Explanation)
		}
	}
}

// An answer with addresses of one environment leads there; with addresses of two, or of nobody, it leads nowhere.
func TestAnAnswerLeadsToOneEnvironmentOrNowhere(t *testing.T) {
	d := edge(func(p *drill.Plan) {
		p.Environments[0].Hosts = append(p.Environments[0].Hosts, drill.Host{Name: "b2", Address: netip.MustParseAddr("10.0.0.3")})
	})
	for addresses, want := range map[string]string{"10.0.0.1 10.0.0.3": "blue", "10.0.0.1 10.0.0.2": "", "10.0.0.2 10.0.0.1": "", "10.0.0.2": "green", "10.0.0.1 10.9.9.9": "", "": ""} {
		if got := d.rec.environmentOf(&history.Answer{Addresses: strings.Fields(addresses)}); got != want {
			t.Errorf("%q leads to %q, want %q", addresses, got, want)
		}
	}
}

// What a log says of steps that its plan does not have is passed over, and events without a number are numbered from 1.
func TestEventsOfNoStepOfThePlanChangeNothing(t *testing.T) {
	for _, step := range []int{-1, 1, 7} {
		d := edge(nil, told(1, &history.StepStarted{Step: step}), told(2, &history.StepFinished{Step: step}), told(3, &history.Phase{Step: step, Phase: history.PhaseAttack}), told(4, &history.Permit{Step: step}))
		if len(d.rec.steps) != 1 || !d.rec.steps[0].started || d.rec.refusal(0) != "" {
			t.Errorf("step %d: %+v", step, d.rec.steps)
		}
	}
	plan := edgePlan()
	log := []history.Event{told(0, &history.RunStarted{Run: "r", Plan: plan}), told(1, &history.Note{}), told(2, &history.RunFinished{Outcome: history.Passed})}
	judged := Judge(plan, log)
	if first, last := judged.Checks[0], judged.Checks[1]; first.Outcome != history.Passed || first.Evidence[0] != 1 || last.Evidence[0] != 3 {
		t.Errorf("%+v, %+v", first, last)
	}
}

// A probe is asked about the time that came before what may still be under way.
func TestAProbeIsAskedAboutTheTimeBeforeTheAttack(t *testing.T) {
	for name, row := range map[string]struct {
		from, to float64
		good     func(float64) bool
		want     history.Outcome
	}{
		"good all the time":                {-10, 0, alwaysGood, history.Passed},
		"failed just before":               {-10, 0, badFrom(-2, -1), history.Inconclusive},
		"failed, and under way":            {-10, 0, badFrom(-.5, 1), history.Passed},
		"failed long before":               {-10, 0, badFrom(-10, -5), history.Passed},
		"silent in the last seconds":       {-30, -10, alwaysGood, history.Inconclusive},
		"one look within the last seconds": {-3, -2, alwaysGood, history.Passed},
	} {
		d := edge(nil, samplesOf("orders", row.from, row.to, row.good)...)
		if got, why := outcomes(d.probesBefore(after(0))); got != row.want {
			t.Errorf("%s: %s %s", name, got, why)
		}
	}
}
