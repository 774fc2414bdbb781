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
	measured := edge(nil, log...).recoversWithin(GroupObjective, "RTO", time.Minute, "").Measured
	if measured.Value != 10 || measured.Bound <= 0 {
		t.Fatalf("%+v", measured)
	}
	just := 10 + measured.Bound
	for allowed, want := range map[float64]history.Outcome{9.999: history.Failed, 10: history.Inconclusive, just - .001: history.Inconclusive, just: history.Passed} {
		if got := edge(nil, log...).recoversWithin(GroupObjective, "RTO", seconds(allowed).Duration(), ""); got.Outcome != want {
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
		unproven := edge(row.change, samplesOf("client", -30, 60, alwaysGood)...)
		unproven.proven = false
		if got := unproven.objectives(); len(got) != len(names) || row.want == "RTO" && got[0].Outcome != history.Inconclusive {
			t.Errorf("%s, of an attack that is not proven: %+v", name, got)
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
	if got := edge(nil, log...).recoversWithin(GroupObjective, "RTO", time.Minute, ""); got.Outcome != history.Passed || got.Measured.Value != 30 {
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

// Each spare is asked for by itself, by its name or its address: that another one was spared is no excuse.
func TestEachSpareIsKeptByItself(t *testing.T) {
	target := func(verb, name, address string) seen[*history.AttackTarget] {
		return seen[*history.AttackTarget]{seq: 5, fact: &history.AttackTarget{Verb: verb, Name: name, Address: address, Direction: "egress"}}
	}
	for name, row := range map[string]struct {
		targets []seen[*history.AttackTarget]
		want    history.Outcome
	}{
		"by its name":                {[]seen[*history.AttackTarget]{target("spare", "watch", "10.0.0.9"), target("drop", "db", "10.0.0.5")}, history.Passed},
		"by its address":             {[]seen[*history.AttackTarget]{target("spare", "", "watch"), target("drop", "db", "10.0.0.5")}, history.Passed},
		"another one":                {[]seen[*history.AttackTarget]{target("spare", "log", "10.0.0.8"), target("drop", "db", "10.0.0.5")}, history.Inconclusive},
		"none":                       {[]seen[*history.AttackTarget]{target("drop", "db", "10.0.0.5")}, history.Inconclusive},
		"hit by its name":            {[]seen[*history.AttackTarget]{target("spare", "log", "10.0.0.8"), target("drop", "watch", "10.0.0.9")}, history.Failed},
		"hit by its address":         {[]seen[*history.AttackTarget]{target("spare", "log", "10.0.0.8"), target("drop", "", "watch")}, history.Failed},
		"spared where both lie":      {[]seen[*history.AttackTarget]{target("spare", "watch", "10.0.0.9"), target("drop", "watch", "10.0.0.9")}, history.Passed},
		"another is hit, and it not": {[]seen[*history.AttackTarget]{target("spare", "watch", "10.0.0.9"), target("drop", "db", "10.0.0.9")}, history.Passed},
	} {
		if got := spareKept("watch spared", "watch", &attackFacts{targets: row.targets}); got.Outcome != row.want {
			t.Errorf("%s: %s %s", name, got.Outcome, got.Explanation)
		}
	}
}

// A drill whose file does not ask for a steady state afterwards is asked for it all the same, and one that asks is asked once.
func TestNoDrillIsSparedTheSteadyStateAfterwards(t *testing.T) {
	for _, kinds := range [][]string{nil, {drill.ExpectStays}, {drill.ExpectSteadyAfter}, {drill.ExpectStays, drill.ExpectSteadyAfter}} {
		d, asked := edge(nil), 0
		for _, kind := range kinds {
			d.drill.Expectations = append(d.drill.Expectations, drill.Expectation{Kind: kind, Text: kind, Within: seconds(10)})
		}
		for _, check := range d.expectations() {
			if strings.HasPrefix(check.Name, "steady state") {
				asked++
			}
		}
		if asked != 1 {
			t.Errorf("with %q it is asked %d times", kinds, asked)
		}
	}
}

// A look that was the only one is one.
func TestOneLookAtEachHostIsEnough(t *testing.T) {
	look := func(host, revision string) history.Event {
		return told(1, &history.Inspected{Host: host, Revision: revision})
	}
	for want, log := range map[history.Outcome][]history.Event{
		history.Passed: {look("b1", "abc"), look("g1", "abc")}, history.Failed: {look("b1", "abc"), look("g1", "def")}, history.Inconclusive: {look("b1", "abc")},
	} {
		if got := edge(nil, log...).sameRelease("same"); got.Outcome != want {
			t.Errorf("want %s: %s %s", want, got.Outcome, got.Explanation)
		}
	}
}

// What is just in time is in time, and what lies just outside of a span is not of it.
func TestMomentsAtTheEdgeOfASpan(t *testing.T) {
	base := &history.Database{Database: "books", Host: "b1", Accepted: true}
	for at, want := range map[float64]history.Outcome{10: history.Passed, 10.001: history.Failed} {
		d := edge(nil, told(-5, base), told(at, &history.Database{Database: "books", Host: "g1", Accepted: true}))
		if got := d.databaseFailsOver("fails over", drill.Expectation{Database: "books", Within: seconds(10)}); got.Outcome != want {
			t.Errorf("taken over after %v s: %s %s", at, got.Outcome, got.Explanation)
		}
	}
	for allowed, want := range map[float64]history.Outcome{30: history.Failed, 30.001: history.Inconclusive} {
		d := edge(nil, told(-5, base))
		if got := d.databaseFailsOver("fails over", drill.Expectation{Database: "books", Within: seconds(allowed)}); got.Outcome != want {
			t.Errorf("nobody takes over in 30 s of %v: %s %s", allowed, got.Outcome, got.Explanation)
		}
		d = edge(nil, samplesOf("orders", -30, 60, alwaysGood)...)
		if got := d.expectation(drill.Expectation{Kind: drill.ExpectProbeFails, Probe: "orders", Within: seconds(allowed)}); got.Outcome != want {
			t.Errorf("good for all of 30 s of %v: %s %s", allowed, got.Outcome, got.Explanation)
		}
	}
	d := edge(nil, samplesOf("client", 0, 10, alwaysGood)...)
	if got := d.rec.samplesIn("client", after(2), after(5)); len(got) != 4 {
		t.Errorf("%d samples from 2 to 5", len(got))
	}
	// A name server that was asked in the moment in which the step began was asked in it.
	for at, want := range map[float64]history.Outcome{-30: history.Passed, -30.001: history.Inconclusive} {
		d := edge(nil, answered(at, "10.0.0.2"))
		for place := range d.rec.answers {
			if got := promotedOn(d.rec, d.span, place, "green", time.Time{}); got.Outcome != want {
				t.Errorf("asked at %v: %s %s", at, got.Outcome, got.Explanation)
			}
		}
	}
	// A refusal that comes after a step is of another one.
	d = edge(nil, history.New(after(70), "b1", &history.AttackRefused{Attack: "blackhole", Reason: "later"}))
	d.span.last--
	if got := d.inForceOn(&HostImpact{Host: "b1", Attack: "blackhole"}); strings.Contains(got.Explanation, "later") {
		t.Errorf("%s", got.Explanation)
	}
	// What failed just before the attack was in force may have been under way: it costs budget, and what failed before that does not.
	level := drill.ServiceLevel{Target: 99, Window: drill.Seconds(30 * 24 * time.Hour), Drill: 1}
	for from, want := range map[float64]float64{-1: 1, -2: 1, 0: 0} {
		if got := edge(nil, samplesOf("client", -30, 60, badFrom(from, 0))...).errorBudget(level); got.Measured.Value != want {
			t.Errorf("failures from %v to 0 cost %v s, want %v", from, got.Measured.Value, want)
		}
	}
}
