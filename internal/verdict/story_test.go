package verdict

import (
	"strings"
	"testing"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict/verdicttest"
)

// What a reader is told first of a run that went well, and of one that nobody measured.
func TestTheFirstWordsOfAVerdict(t *testing.T) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	run := ""
	for _, event := range log {
		if started, is := event.Fact.(*history.RunStarted); is {
			run = started.Run
		}
	}
	judged := Judge(plan, log)
	if judged.Run != run || run == "" || judged.Reason != "All 3 drills bit, every expectation was met in time, and nothing is left behind." || judged.Totals.Unmeasured != "" {
		t.Errorf("run %q: %s; not measured: %q", judged.Run, judged.Reason, judged.Totals.Unmeasured)
	}
	var unwritten []history.Event
	for _, event := range log {
		if _, is := event.Fact.(*history.Ledger); !is {
			unwritten = append(unwritten, event)
		}
	}
	if got := Judge(plan, unwritten).Totals.Unmeasured; got != "RPO (no client writes a ledger)" {
		t.Errorf("without a ledger: %q", got)
	}
	plan.Objectives.RPO = nil
	if got := Judge(plan, unwritten).Totals.Unmeasured; got != "" {
		t.Errorf("without an objective: %q", got)
	}
	promotions := Verdict{Outcome: history.Passed, Steps: []StepVerdict{{Kind: drill.StepPromote}, {Kind: drill.StepDeploy}}}
	if got := runReason(&promotions, 1); got != "Both steps went as planned. An earlier run proved 1 step before it." {
		t.Errorf("without a drill: %q", got)
	}
}

// Of several attacks each host has the one that was ordered under its number, whoever tells of it.
func TestEachOrderHasItsOwnAttack(t *testing.T) {
	for name, row := range map[string]struct {
		source  string
		planned string
		number  int
		want    string
	}{
		"the host tells":                      {"b1", "", 1, "g1"},
		"another tells of the host":           {"ci", "b1", 1, "g1"},
		"another tells of another host":       {"ci", "g1", 1, ""},
		"another tells, and there is no plan": {"ci", "", 1, ""},
		"another order":                       {"b1", "b1", 0, ""},
	} {
		log := []history.Event{told(-1, &history.AttackOrdered{Step: 0, Number: 1, Host: "b1", GUID: "g1"})}
		if row.planned != "" {
			log = append(log, history.New(after(0), row.source, &history.AttackPlanned{GUID: "g1", Host: row.planned}))
		} else {
			log = append(log, history.New(after(0), row.source, &history.AttackInForce{GUID: "g1"}))
		}
		got := ""
		if attack := edge(nil, log...).rec.orderedOn(0, row.number, "b1"); attack != nil {
			got = attack.guid
		}
		if got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}

// A word of the revert that comes within five seconds of the deadline is in time: looking for what is left takes as long.
func TestARevertIsInTimeUntilFiveSecondsAfterItsDeadline(t *testing.T) {
	for late, want := range map[float64]history.Outcome{-5: history.Passed, 0: history.Passed, 3: history.Passed, 5: history.Passed, 5.001: history.Failed} {
		sheet := HostImpact{Host: "b1", Until: after(30), Reverted: after(30 + late)}
		if got := edge(nil).onTime(&sheet, passed(GroupRevert, "reverted", "")); got.Outcome != want {
			t.Errorf("%v s late: %s %s", late, got.Outcome, got.Explanation)
		}
	}
}

// An attack of which packets were counted was in force, though the line that says so is missing: nobody may say that nothing was there.
func TestCountedPacketsAreAWordOfTheAttack(t *testing.T) {
	for hits, want := range map[int]string{0: "never came into force", 1: "reverted on b1"} {
		d := edge(nil)
		d.impact.Hosts = []HostImpact{{Host: "b1", facts: hostFacts{attack: &attackFacts{hits: make([]seen[*history.AttackHits], hits)}}}}
		for i := range d.impact.Hosts[0].facts.attack.hits {
			d.impact.Hosts[0].facts.attack.hits[i] = seen[*history.AttackHits]{seq: 4, fact: &history.AttackHits{}}
		}
		got := d.reverted()
		if said := got[0].Name + ": " + got[0].Explanation; !strings.Contains(said, want) || hits > 0 && strings.Contains(said, "never came into force") {
			t.Errorf("%d readings: %s", hits, said)
		}
	}
}

// One probe that fails in the first look after the attack has failed, and an alarm of another system is asked for by its name.
func TestTheFirstOfAListCountsToo(t *testing.T) {
	if got := edge(nil, samplesOf("orders", 0, 60, badFrom(0, 1))...).probeStaysGood("stays good", drill.Expectation{Probe: "orders"}); got.Outcome != history.Failed {
		t.Errorf("a probe that failed first: %s %s", got.Outcome, got.Explanation)
	}
	theirs := func(p *drill.Plan) {
		p.Alarms = []drill.Alarm{{Name: "theirs", Source: &drill.AlarmSource{}}, {Name: "own"}}
	}
	gone := []seen[*history.Alarm]{{fact: &history.Alarm{To: history.AlarmOK}}, {fact: &history.Alarm{To: history.AlarmInsufficient}}}
	for name, want := range map[string]bool{"theirs": true, "own": false, "nobody's": false} {
		if _, silent := edge(theirs).sourceSilent(name, gone); silent != want {
			t.Errorf("%s: silent %t", name, silent)
		}
	}
	// Where all name servers have led since their first answer.
	d := edge(nil, answered(-20, "10.0.0.1"), answered(5, "10.0.0.1"))
	if environment, since := d.ledTo(after(10)); environment != "blue" || !since.Equal(after(-20)) {
		t.Errorf("%s since %s", environment, since)
	}
	// Both ways of a canary are asked for.
	try := func(at float64, flow, when string, through bool) history.Event {
		return history.New(after(at), "b1", &history.AttackCanary{GUID: "g", Target: "db", Flow: flow, When: when, Through: through})
	}
	all := []history.Event{try(-1, "new", canaryBefore, true), try(1, "new", canaryInForce, false), try(2, "established", canaryInForce, false)}
	for name, row := range map[string]struct {
		log  []history.Event
		want history.Outcome
	}{"both": {all, history.Passed}, "new alone": {all[:2], history.Inconclusive}, "established alone": {[]history.Event{all[0], all[2]}, history.Inconclusive}} {
		rec := edge(nil, row.log...).rec
		if got := canaryCut("b1", "db", rec.attacks["g"].canaryTable()); got.Outcome != row.want {
			t.Errorf("canary on %s: %s %s", name, got.Outcome, got.Explanation)
		}
	}
	// What a monitor says of a host by the name of the metric of the demo.
	for probe, want := range map[string]int{"heartbeat": 1, "status-check": 1, "cpu": 0} {
		d := edge(nil, told(1, &history.Sample{Probe: probe, Host: "b1", Scheduled: after(1), OK: true}))
		if got := len(d.rec.heartbeats["b1"]); got != want {
			t.Errorf("%s: %d beats", probe, got)
		}
	}
}

// Where the answer is to move, clients must follow; where it is to stay, nobody has to.
func TestClientsFollowWhereTheAnswerMoves(t *testing.T) {
	from := func(at float64, address string) history.Event {
		return told(at, &history.Sample{Probe: "client", Scheduled: after(at), OK: true, Address: address})
	}
	for kind, want := range map[string]int{drill.ExpectMoves: 1, drill.ExpectStays: 0} {
		d := edge(nil, answered(-20, "10.0.0.1"), answered(3, "10.0.0.2"), answered(50, "10.0.0.2"), from(-5, "10.0.0.1"), from(40, "10.0.0.1"))
		d.drill.Expectations = []drill.Expectation{{Kind: kind, Environment: "green", Within: seconds(10)}}
		left := 0
		for _, check := range d.expectations() {
			if check.Name == "client follows the answer" && check.Outcome == history.Failed {
				left++
			}
		}
		if left != want {
			t.Errorf("%s: %d clients are said to be left behind, want %d", kind, left, want)
		}
	}
}

// What an earlier run is said to have proved is said in the first line of the log.
func TestWhatWasProvenBeforeHasItsEvidence(t *testing.T) {
	plan := edgePlan()
	proven := drill.ProvenStep{Run: "r0", Name: "deploy to green", Log: "0123456789abcdef"}
	rec := newRecord(plan, []history.Event{told(0, &history.RunStarted{Run: "r", Plan: plan})})
	if got := judgeProven(rec, proven, nil); got.Outcome != history.Inconclusive || len(got.Evidence) != 1 || got.Evidence[0] != 1 {
		t.Errorf("%+v", got)
	}
	if got := judgeProven(newRecord(plan, nil), proven, nil); got.Outcome != history.Inconclusive || len(got.Evidence) != 0 {
		t.Errorf("of a log without a begin: %+v", got)
	}
}

// Errors of measuring add up, and of two recoveries the one counts that may have been the slower.
func TestErrorsOfMeasuringAddUp(t *testing.T) {
	for _, row := range []struct {
		a, b Figure
		want bool
	}{
		{Figure{Seconds: 10}, Figure{Seconds: 9, Bound: 5}, false},
		{Figure{Seconds: 9, Bound: 5}, Figure{Seconds: 10}, true},
		{Figure{Seconds: 10, Bound: 1}, Figure{Seconds: 10, Bound: 1}, false},
		{Figure{Open: true}, Figure{Seconds: 99}, true},
		{Figure{Seconds: 99}, Figure{Open: true}, false},
	} {
		if got := worse(&row.a, &row.b); got != row.want {
			t.Errorf("%+v is worse than %+v: %t", row.a, row.b, got)
		}
	}
	log := samplesOf("client", -30, 60, badFrom(2, 10))
	alone := edge(nil, log...).recovery("client").bound
	d := edge(nil, append(log, told(-25, &history.Clock{Host: "client", Error: seconds(.25)}), told(-25, &history.Clock{Host: "b1", Error: seconds(.5)}), told(-25, &history.Clock{Host: "g1", Error: seconds(4)}))...)
	if got := d.recovery("client").bound - alone; got != seconds(.75).Duration() {
		t.Errorf("clocks that are known to 0.25 s and 0.5 s add %s", got)
	}
	if got := totals(edge(nil).rec, &Verdict{}); got.Available != 0 || got.Samples != 0 {
		t.Errorf("of no sample: %+v", got)
	}
}

// A client has two seconds after a move to follow, and from then on is asked.
func TestAClientHasTwoSecondsToFollow(t *testing.T) {
	for at, want := range map[float64]int{4: 0, 4.999: 0, 5: 1, 8: 1} {
		d := edge(nil, answered(-20, "10.0.0.1"), answered(3, "10.0.0.2"), answered(50, "10.0.0.2"), told(at, &history.Sample{Probe: "client", Scheduled: after(at), OK: true, Address: "10.0.0.1"}))
		if got := len(d.clientsFollow()); got != want {
			t.Errorf("served %v s after the move: %d checks, want %d", at-3, got, want)
		}
	}
}

// Who reads that a canary was not tried reads on which flows.
func TestACanaryNamesTheFlowsThatWereNotTried(t *testing.T) {
	try := func(at float64, flow, when string, through bool) history.Event {
		return history.New(after(at), "b1", &history.AttackCanary{GUID: "g", Target: "db", Flow: flow, When: when, Through: through})
	}
	before, fresh, kept := try(-1, "new", canaryBefore, true), try(1, "new", canaryInForce, false), try(2, "established", canaryInForce, false)
	for want, log := range map[string][]history.Event{"not tried on established flows": {before, fresh}, "not tried on new flows while": {before, kept}} {
		if got := canaryCut("b1", "db", edge(nil, log...).rec.attacks["g"].canaryTable()); !strings.Contains(got.Explanation, want) {
			t.Errorf("%s, want %q", got.Explanation, want)
		}
	}
	if got := edge(nil, samplesOf("orders", 0, 60, badFrom(0, 60))...).expectation(drill.Expectation{Kind: drill.ExpectProbeFails, Probe: "orders", Within: seconds(10)}); got.Outcome != history.Passed {
		t.Errorf("a probe that failed in its first look: %s %s", got.Outcome, got.Explanation)
	}
}

// Three good looks in a row end a failure, and a client whose interval nobody states samples ten times a second.
func TestThreeGoodLooksEndAFailure(t *testing.T) {
	for good, back := range map[float64]bool{2: false, 3: true, 4: true} {
		d := edge(nil, samplesOf("orders", 0, 10+good, badFrom(5, 10))...)
		failed, again := d.probeBack("orders", after(60))
		if !failed.Equal(after(5)) || again.IsZero() == back || back && !again.Equal(after(10)) {
			t.Errorf("%v good looks: failed at %s, back at %s", good, failed, again)
		}
	}
	silent := edge(func(p *drill.Plan) { p.Clients[0].Every = 0 })
	if got, other := silent.rec.every("client"), silent.rec.every("nobody"); got.Seconds() != .1 || other.Seconds() != .1 {
		t.Errorf("every %s and %s", got, other)
	}
}
