package verdict

import (
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// sheeted is a case whose proof sheets are given: one for each attack, in force from and until these seconds.
func sheeted(change func(*drill.PlannedDrill), spans ...[2]float64) *drillCase {
	d := edge(nil)
	change(d.drill)
	for i, at := range spans {
		sheet := HostImpact{Host: "b1", Number: i, Attack: "cpu", InForce: after(at[0]), Reverted: after(at[1]), order: drill.Order{Attack: "cpu", Length: seconds(30)}, several: len(spans) > 1,
			facts: hostFacts{attack: &attackFacts{inForce: &seen[*history.AttackInForce]{seq: int64(10*i + 1)}, reverted: &seen[*history.AttackReverted]{seq: int64(10*i + 2)}}}}
		d.impact.Hosts = append(d.impact.Hosts, sheet)
	}
	return d
}

func outcomes(checks []Check) (history.Outcome, string) {
	if len(checks) == 0 {
		return "", ""
	}
	return checks[0].Outcome, checks[0].Explanation
}

func TestSeveralAttacksAsOrdered(t *testing.T) {
	one := func(*drill.PlannedDrill) {}
	sequence := func(p *drill.PlannedDrill) { p.More = []drill.Order{{Attack: "cpu"}} }
	together := func(p *drill.PlannedDrill) { sequence(p); p.Together = true }
	for name, row := range map[string]struct {
		d    *drillCase
		want history.Outcome
		says string
	}{
		"one alone":                      {sheeted(one, [2]float64{0, 30}), "", ""},
		"one after the other":            {sheeted(sequence, [2]float64{0, 10}, [2]float64{11, 20}), history.Passed, "when the one before had been taken back"},
		"the second at the very end":     {sheeted(sequence, [2]float64{0, 10}, [2]float64{10, 20}), history.Passed, ""},
		"the second before the end":      {sheeted(sequence, [2]float64{0, 10}, [2]float64{9.9, 20}), history.Inconclusive, "The attack on b1 (2: cpu) began before that on b1 (1: cpu) was taken back"},
		"together":                       {sheeted(together, [2]float64{0, 10}, [2]float64{4, 20}), history.Passed, "in force together for 6.00 s"},
		"together, the second is inside": {sheeted(together, [2]float64{0, 10}, [2]float64{4, 7}), history.Passed, "in force together for 3.00 s"},
		"together, begun the other way":  {sheeted(together, [2]float64{4, 20}, [2]float64{0, 10}), history.Passed, "in force together for 6.00 s"},
		"never together":                 {sheeted(together, [2]float64{0, 10}, [2]float64{10, 20}), history.Inconclusive, "never were in force at the same time"},
	} {
		if got, why := outcomes(row.d.asOrdered()); got != row.want || !strings.Contains(why, row.says) {
			t.Errorf("%s: %s: %s", name, got, why)
		}
	}
	unknown := sheeted(sequence, [2]float64{0, 10}, [2]float64{11, 20})
	unknown.impact.Hosts[1].Reverted = time.Time{}
	if got, why := outcomes(unknown.asOrdered()); got != history.Inconclusive || !strings.Contains(why, "known to have begun and ended") {
		t.Errorf("the end of one is not known: %s: %s", got, why)
	}
}

func TestAttacksRunTheirLength(t *testing.T) {
	same := func(*drill.PlannedDrill) {}
	stopped := func(step int) *drillCase {
		d := sheeted(same, [2]float64{0, 30})
		d.rec.stops = []seen[*history.Stop]{{seq: 9, fact: &history.Stop{Step: step, Condition: "clients fail", Detail: "client"}}}
		return d
	}
	open := sheeted(same, [2]float64{0, 5})
	open.impact.Hosts[0].Reverted = time.Time{}
	why := sheeted(same, [2]float64{0, 27.9})
	why.impact.Hosts[0].Why = "told to"
	for name, row := range map[string]struct {
		d    *drillCase
		want history.Outcome
		says string
	}{
		"all of it":                {sheeted(same, [2]float64{0, 30}), "", ""},
		"setting up took two":      {sheeted(same, [2]float64{0, 28}), "", ""},
		"a moment less":            {why, history.Inconclusive, "for 27.90 s of 30.00 s planned: told to."},
		"the second of two":        {sheeted(same, [2]float64{0, 30}, [2]float64{0, 20}), history.Inconclusive, "b1 (2: cpu)"},
		"its end is not known":     {open, "", ""},
		"until decided":            {sheeted(func(p *drill.PlannedDrill) { p.UntilDecided = true }, [2]float64{0, 5}), "", ""},
		"a host that goes down":    {sheeted(func(p *drill.PlannedDrill) { p.Attack.OneWay = true }, [2]float64{0, 5}), "", ""},
		"stopped":                  {stopped(0), history.Inconclusive, "stopped early: clients fail: client."},
		"stopped, in another step": {stopped(1), "", ""},
	} {
		if got, said := outcomes(row.d.ranItsLength()); got != row.want || !strings.Contains(said, row.says) {
			t.Errorf("%s: %s: %s", name, got, said)
		}
	}
	// What stopped an attack is told before that it did not bite: it had no time to.
	judged := StepVerdict{Checks: []Check{inconclusive(GroupRun, ranName, "It was stopped early."), inconclusive(GroupBite, "bit", "Nothing was hit.")}}
	if weigh(&judged); judged.Reason != "It was stopped early." || judged.Outcome != history.Inconclusive {
		t.Errorf("%+v", judged)
	}
	judged.Checks = judged.Checks[1:]
	if weigh(&judged); judged.Reason != "The attack is not proven to have bitten: Nothing was hit." {
		t.Errorf("%+v", judged)
	}
}

func TestTheKindOfAnAttackSaysWhatMustBite(t *testing.T) {
	sheet := func(attack string, oneWay bool) HostImpact {
		return HostImpact{Host: "b1", Attack: attack, OneWay: oneWay, Targets: 1, Egress: 3, order: drill.Order{}, facts: hostFacts{attack: &attackFacts{
			inForce: &seen[*history.AttackInForce]{}, hits: []seen[*history.AttackHits]{{seq: 4, fact: &history.AttackHits{Egress: 3}}},
			targets: []seen[*history.AttackTarget]{{fact: &history.AttackTarget{Verb: "drop", Direction: "egress", Address: "10.0.0.9"}}},
		}}}
	}
	for attack, want := range map[string]string{
		"blackhole": "packets dropped on b1, canary on b1", "dns": "packets dropped on b1, canary on b1", "latency": "packets dropped on b1, felt on b1", "packet_loss": "packets dropped on b1, felt on b1",
		"cpu": "felt on b1", "shutdown": "b1 went down",
	} {
		d := edge(nil)
		d.impact.Hosts = []HostImpact{sheet(attack, attack == "shutdown")}
		var names []string
		for _, check := range d.bit() {
			names = append(names, check.Name)
		}
		if got := strings.Join(names, ", "); got != want {
			t.Errorf("%s: %s, want %s", attack, got, want)
		}
	}
	d := edge(nil)
	d.impact.Hosts = []HostImpact{{Host: "b1"}}
	if got, why := outcomes(d.bit()); got != history.Inconclusive || !strings.Contains(why, "nothing bit") {
		t.Errorf("%s: %s", got, why)
	}
	// A canary that the plan does not name is asked as well.
	try := func(flow, when string, through bool) seen[*history.AttackCanary] {
		return seen[*history.AttackCanary]{fact: &history.AttackCanary{Target: "db", Flow: flow, When: when, Through: through}}
	}
	tried := sheet("blackhole", false)
	tried.facts.attack.canaries = []seen[*history.AttackCanary]{try("new", canaryBefore, true), try("new", canaryInForce, false), try("established", canaryInForce, false), try("new", canaryAfter, true)}
	if got := d.canariesCut(&tried); len(got) != 1 || got[0].Outcome != history.Passed || !strings.Contains(got[0].Explanation, "held off 2 times") {
		t.Errorf("%+v", got)
	}
	if got := tried.facts.attack.canaryLines(); len(got) != 2 || got[0].Before != "through 1 of 1" || got[0].InForce != "through 0 of 1" || got[1].Before != "" {
		t.Errorf("%+v", got)
	}
	d.impact.Hosts = []HostImpact{tried}
	if got := d.throughAgain(&tried, "gone", nil); got.Outcome != history.Passed || !strings.Contains(got.Explanation, "1 canary was through again") {
		t.Errorf("%+v", got)
	}
	// Of attacks in force together the one that ends first still finds the target cut off; what came later counts.
	d.drill.Together = true
	first, second := tried, tried
	first.facts.attack, second.facts.attack = &attackFacts{canaries: []seen[*history.AttackCanary]{{at: after(10), fact: &history.AttackCanary{Target: "db", Flow: "new", When: canaryAfter}}}}, &attackFacts{canaries: []seen[*history.AttackCanary]{{at: after(21), fact: &history.AttackCanary{Target: "db", Flow: "new", When: canaryAfter, Through: true}}}}
	first.Reverted, second.Reverted = after(10), after(20)
	d.impact.Hosts = []HostImpact{first, second}
	if got := d.throughAgain(&first, "gone", nil); got.Outcome != history.Passed {
		t.Errorf("together: %+v", got)
	}
	d.drill.Together = false
	if got := d.throughAgain(&first, "gone", nil); got.Outcome != history.Failed || !got.NotReverted {
		t.Errorf("one after the other: %+v", got)
	}
}

func TestProbesAtTheirBorders(t *testing.T) {
	back := func(s float64) drill.Expectation {
		return drill.Expectation{Kind: drill.ExpectProbeBack, Probe: "orders", Within: seconds(s)}
	}
	fails := func(s float64) drill.Expectation {
		return drill.Expectation{Kind: drill.ExpectProbeFails, Probe: "orders", Within: seconds(s)}
	}
	good := drill.Expectation{Kind: drill.ExpectProbeGood, Probe: "orders"}
	line := func(s float64) drill.Expectation {
		return drill.Expectation{Kind: drill.ExpectLine, Host: "b1", File: "/log", Line: "refused", Within: seconds(s)}
	}
	gap := append(samplesOf("orders", -30, 20, alwaysGood), samplesOf("orders", 30, 60, alwaysGood)...)
	checkEdges(t, []edgeRow{
		{"never failed", nil, samplesOf("orders", -30, 60, alwaysGood), back(10), history.Passed, "It never failed"},
		{"recovers", nil, samplesOf("orders", -30, 60, badFrom(2, 8)), back(9), history.Passed, "Good again after 8.00 s"},
		{"too close to tell", nil, samplesOf("orders", -30, 60, badFrom(2, 8)), back(8.5), history.Inconclusive, "too close"},
		{"too late", nil, samplesOf("orders", -30, 60, badFrom(2, 8)), back(7.9), history.Failed, "only after 8.00 s"},
		{"not back", nil, samplesOf("orders", -30, 60, badFrom(2, 99)), back(10), history.Failed, "did not recover"},
		{"good for too short a time at the end", nil, samplesOf("orders", -30, 60, badFrom(2, 58)), back(10), history.Failed, "did not recover"},
		{"not back, watched for less than is allowed", nil, samplesOf("orders", -30, 60, badFrom(2, 99)), back(60), history.Inconclusive, "before the 60.00 s"},
		{"a gap", nil, gap, back(10), history.Inconclusive, "not looked at all the time"},
		{"silent", nil, nil, back(10), history.Inconclusive, "orders was silent"},
		{"good all the time", nil, samplesOf("orders", -30, 60, alwaysGood), good, history.Passed, "Good 60 times"},
		{"good, with a gap", nil, gap, good, history.Inconclusive, "silence proves nothing"},
		{"one failure", nil, samplesOf("orders", -30, 60, badFrom(7, 8)), good, history.Failed, "failed 7.00 s after"},
		{"a failure before is not of the attack", nil, samplesOf("orders", -30, 60, badFrom(-7, -6)), good, history.Passed, "Good"},
		{"fails in time", nil, samplesOf("orders", -30, 60, badFrom(5, 8)), fails(5), history.Passed, "Failed after 5.00 s"},
		{"fails too late", nil, samplesOf("orders", -30, 60, badFrom(6, 8)), fails(5), history.Failed, "only after 6.00 s"},
		{"does not fail", nil, samplesOf("orders", -30, 60, alwaysGood), fails(5), history.Failed, "good all the time"},
		{"does not fail in a short attack", nil, samplesOf("orders", -30, 60, alwaysGood), fails(31), history.Inconclusive, "not looked at under attack"},
		{"a line", nil, []history.Event{told(-20, &history.Followed{Host: "b1", File: "/log", Up: true}), told(5, &history.Line{Host: "b1", File: "/log", Pattern: "refused", Text: "t"})}, line(5), history.Passed, "5.00 s"},
		{"a line too late", nil, []history.Event{told(-20, &history.Followed{Host: "b1", File: "/log", Up: true}), told(5.1, &history.Line{Host: "b1", File: "/log", Pattern: "refused", Text: "t"})}, line(5), history.Failed, "5.10 s"},
	})
	rec := edge(nil).rec
	if rec.probeEvery("nobody") != time.Second || rec.probeEvery("orders") != time.Second {
		t.Error("another interval")
	}
	hole := edge(nil, told(5, &history.Sample{Probe: "orders", Scheduled: after(5), Cause: history.CauseProber}))
	if samples, _ := hole.rec.probed("orders", after(0), after(30)); len(samples) != 0 || hole.firstFailure("orders", after(30)) != -1 {
		t.Error("our own fault counts as a failure of the probe")
	}
}

func TestSteadinessAtItsBorders(t *testing.T) {
	ok, bad, none := history.AlarmOK, history.AlarmRaised, history.AlarmInsufficient
	const blue, green = "10.0.0.1", "10.0.0.2"
	well := func(more ...history.Event) []history.Event {
		log := []history.Event{alarmed(-9, "own", ok), alarmed(-9, "theirs", ok), answered(-9, blue), answered(8, green), answered(58, green)}
		return append(append(log, samplesOf("client", -30, 60, alwaysGood)...), more...)
	}
	without := func(log []history.Event, drop func(history.Fact) bool) (kept []history.Event) {
		for _, event := range log {
			if !drop(event.Fact) {
				kept = append(kept, event)
			}
		}
		return kept
	}
	noAlarm := func(f history.Fact) bool { _, is := f.(*history.Alarm); return is }
	noAnswer := func(f history.Fact) bool { _, is := f.(*history.Answer); return is }
	noSample := func(f history.Fact) bool { _, is := f.(*history.Sample); return is }
	steady := func(s float64) drill.Expectation {
		return drill.Expectation{Kind: drill.ExpectSteadyAfter, Within: seconds(s)}
	}
	held := func(s float64) func(*drill.Plan) {
		return func(p *drill.Plan) { p.Steps[0].Drill.SteadyFor = seconds(s) }
	}
	checkEdges(t, []edgeRow{
		{"all well", nil, well(), steady(10), history.Passed, "All was well 0.00 s after the revert"},
		{"an alarm cleared in time", nil, well(alarmed(5, "own", bad), alarmed(40, "own", ok)), steady(10), history.Passed, "well 10.00 s after"},
		{"an alarm cleared too late", nil, well(alarmed(5, "own", bad), alarmed(40.1, "own", ok)), steady(10), history.Failed, "only 10.10 s after"},
		{"as late as it likes", nil, well(alarmed(5, "own", bad), alarmed(50, "own", ok)), steady(0), history.Passed, "well 20.00 s after"},
		{"an alarm that stays", nil, well(alarmed(5, "own", bad)), steady(10), history.Failed, "own is ALARM"},
		{"an alarm without data", nil, well(alarmed(5, "own", none)), steady(10), history.Inconclusive, "own has too little data"},
		{"an alarm that is not heard", nil, without(well(), noAlarm), steady(10), history.Inconclusive, "nothing was heard of own"},
		{"the watch is lost at the end", nil, well(told(59, &history.Host{Host: watchHost})), steady(10), history.Inconclusive, "the watch was not heard at the end"},
		{"the wrong answer", nil, well(answered(59, blue)), steady(10), history.Failed, "answers blue instead of green"},
		{"no answer", nil, without(well(), noAnswer), steady(10), history.Inconclusive, "was not asked after the revert"},
		{"no name", func(p *drill.Plan) { p.Failover = nil }, well(), steady(10), history.Inconclusive, "no name server was asked"},
		{"an answer that came right", nil, well(answered(33, blue), answered(36, green)), steady(10), history.Passed, "well 6.00 s after"},
		{"clients not served", nil, append(without(well(), noSample), samplesOf("client", -30, 60, badFrom(50, 99))...), steady(10), history.Failed, "client is not served"},
		{"clients served again", nil, append(without(well(), noSample), samplesOf("client", -30, 60, badFrom(31, 35))...), steady(10), history.Passed, "well 5.00 s after"},
		{"clients silent", nil, append(without(well(), noSample), samplesOf("client", -30, 20, alwaysGood)...), steady(10), history.Inconclusive, "client client was silent after the revert"},
		{"no clients", func(p *drill.Plan) { p.Clients = nil }, without(well(), noSample), steady(10), history.Inconclusive, "no client was measured"},
		{"well for long enough", held(20), well(alarmed(5, "own", bad), alarmed(50, "own", ok)), steady(0), history.Passed, "well 20.00 s"},
		{"well for too short", held(20.1), well(alarmed(5, "own", bad), alarmed(50, "own", ok)), steady(0), history.Inconclusive, "for only 10.00 s before watching ended; 20.10 s is needed"},
		{"well for too short before the drill was over", held(20), well(alarmed(5, "own", bad), alarmed(50, "own", ok), told(59.9, &history.Phase{Phase: history.PhaseDone})), steady(0), history.Inconclusive, "for only 9.90 s before watching ended"},
	})
	before := func(change func(*drill.Plan), log []history.Event) *drillCase { return edge(change, log...) }
	for name, row := range map[string]struct {
		got  Check
		want history.Outcome
		says string
	}{
		"alarms":                      {before(nil, well()).alarmsBefore(after(0)), history.Passed, "2 alarms were OK"},
		"one alarm":                   {before(func(p *drill.Plan) { p.Alarms = p.Alarms[:1] }, well()).alarmsBefore(after(0)), history.Passed, "1 alarm was OK"},
		"alarms, one raised":          {before(nil, well(alarmed(-1, "own", bad))).alarmsBefore(after(0)), history.Inconclusive, "own was ALARM"},
		"alarms, one silent":          {before(nil, without(well(), noAlarm)).alarmsBefore(after(0)), history.Inconclusive, "own, theirs"},
		"alarms, none planned":        {before(func(p *drill.Plan) { p.Alarms = nil }, well()).alarmsBefore(after(0)), history.Inconclusive, "nobody was watching"},
		"alarms, none but disabled":   {before(func(p *drill.Plan) { p.Alarms = p.Alarms[2:] }, well()).alarmsBefore(after(0)), history.Inconclusive, "nobody was watching"},
		"alarms, the watch is lost":   {before(nil, well(told(-1, &history.Host{Host: watchHost}))).alarmsBefore(after(0)), history.Inconclusive, "The watch was not heard"},
		"answers":                     {before(nil, well()).answersBefore(after(0)), history.Passed, "Every name server sent clients to blue"},
		"answers elsewhere":           {before(nil, well(answered(-1, green))).answersBefore(after(0)), history.Inconclusive, "ns:53 answered green"},
		"answers nowhere":             {before(nil, well(answered(-1, ""))).answersBefore(after(0)), history.Inconclusive, "nothing usable"},
		"answers, nobody asked":       {before(nil, without(well(), noAnswer)).answersBefore(after(0)), history.Inconclusive, "was not asked for shop.test"},
		"answers, no name":            {before(func(p *drill.Plan) { p.Failover = nil }, well()).answersBefore(after(0)), history.Inconclusive, "No name server was asked"},
		"answers of a load balancer":  {before(func(p *drill.Plan) { p.Failover[0].Servers = []string{"http://lb"} }, well(told(-1, &history.Answer{Name: "shop.test", Server: "http://lb", Environment: "blue"}))).answersBefore(after(0)), history.Passed, "Every place that was asked"},
		"clients":                     {before(nil, well()).clientsBefore(after(0)), history.Passed, "All 30 requests were served in the 30.00 s"},
		"clients, of a span":          {before(held(3), well()).clientsBefore(after(0)), history.Passed, "All 3 requests were served in the 3.00 s"},
		"clients, one request":        {before(held(1), well()).clientsBefore(after(0)), history.Passed, "The only request was served"},
		"clients, one failed":         {before(held(3), append(without(well(), noSample), samplesOf("client", -30, 60, badFrom(-2, -1))...)).clientsBefore(after(0)), history.Inconclusive, "1 of 3 requests failed"},
		"clients, failed long before": {before(held(3), append(without(well(), noSample), samplesOf("client", -30, 60, badFrom(-9, -8))...)).clientsBefore(after(0)), history.Passed, "All 3 requests"},
		"clients, silent":             {before(nil, without(well(), noSample)).clientsBefore(after(0)), history.Inconclusive, "Client client was silent"},
		"clients, none":               {before(func(p *drill.Plan) { p.Clients = nil }, nil).clientsBefore(after(0)), history.Inconclusive, "No client was measured"},
	} {
		if row.got.Outcome != row.want || !strings.Contains(row.got.Explanation, row.says) || row.got.Group != GroupSteady {
			t.Errorf("%s: %s: %s", name, row.got.Outcome, row.got.Explanation)
		}
	}
	interrupted := edge(nil, well(alarmed(5, "own", bad), told(60, &history.RunFinished{Outcome: history.Interrupted}))...)
	if got := interrupted.steadyAfter("s", time.Minute); got.Outcome != history.Inconclusive || !strings.Contains(got.Explanation, "interrupted before it could be told") {
		t.Errorf("%+v", got)
	}
	endless := edge(nil, well()...)
	endless.impact.To = time.Time{}
	for _, got := range []Check{endless.steadyAfter("s", 0), endless.answerMovesBack("b", drill.Expectation{})} {
		if got.Outcome != history.Inconclusive || !strings.Contains(got.Explanation, "end of the impact is not known") {
			t.Errorf("%+v", got)
		}
	}
}

func TestWhatFollowsAMoveAtItsBorders(t *testing.T) {
	const blue, green = "10.0.0.1", "10.0.0.2"
	back := func(s float64) drill.Expectation {
		return drill.Expectation{Kind: drill.ExpectMovesBack, Environment: "blue", Within: seconds(s)}
	}
	quick := func(share, s float64) drill.Expectation {
		return drill.Expectation{Kind: drill.ExpectLatency, Value: share, Within: seconds(s)}
	}
	away := []history.Event{answered(-5, blue), answered(5, green)}
	with := func(more ...history.Event) []history.Event {
		return append(append([]history.Event(nil), away...), more...)
	}
	checkEdges(t, []edgeRow{
		{"back in time", nil, with(answered(40, blue), answered(58, blue)), back(10), history.Passed, "again 10.00 s after the revert"},
		{"back too late", nil, with(answered(40.1, blue), answered(58, blue)), back(10), history.Failed, "only 10.10 s"},
		{"not back", nil, with(answered(58, green)), back(10), history.Failed, "answers green at the end"},
		{"in trouble at the end", nil, with(answered(40, blue), answered(58, "")), back(10), history.Failed, "nothing usable"},
		{"silent at the end", nil, with(answered(40, blue)), back(10), history.Inconclusive, "not asked at the end"},
		{"never away", nil, []history.Event{answered(-5, blue), answered(5, blue), answered(58, blue)}, back(10), history.Failed, "never moved away"},
		{"no name", func(p *drill.Plan) { p.Failover = nil }, nil, back(10), history.Inconclusive, "nothing that could move"},
		{"quick enough", nil, samplesOf("client", -30, 60, alwaysGood), quick(100, .01), history.Passed, "60 of 60 requests were answered within 0.01 s"},
		{"too slow", nil, samplesOf("client", -30, 60, alwaysGood), quick(1, .009), history.Failed, "0 of 60"},
		{"just as many", nil, samplesOf("client", -30, 60, badFrom(0, 6)), quick(90, 1), history.Passed, "54 of 60"},
		{"one less", nil, samplesOf("client", -30, 60, badFrom(0, 7)), quick(90, 1), history.Failed, "53 of 60"},
		{"not measured to the end", nil, samplesOf("client", -30, 20, alwaysGood), quick(90, 1), history.Inconclusive, "measure nothing"},
		{"by nobody", nil, nil, quick(90, 1), history.Inconclusive, "No client was measured"},
		{"while interrupted", nil, append(samplesOf("client", -30, 60, badFrom(0, 30)), told(60, &history.RunFinished{Outcome: history.Interrupted})), quick(90, 1), history.Inconclusive, "30 of 60"},
	})
	// An error between is no move, and neither is what is said after the last word that counts.
	d := edge(nil, answered(-5, blue), answered(5, green), answered(6, ""), answered(7, green), answered(50, green))
	if environment, since := d.ledTo(after(20)); environment != "green" || !since.Equal(after(7)) {
		t.Errorf("led to %s since %s", environment, since.Sub(edgeBegan))
	}
	if environment, _ := d.ledTo(after(-6)); environment != "" {
		t.Errorf("before the first word it led to %s", environment)
	}
	both := edge(func(p *drill.Plan) { p.Failover[0].Servers = []string{"ns", "other"} }, answered(-5, blue), told(-5, &history.Answer{Name: "shop.test", Server: "other", Environment: "green"}))
	if environment, _ := both.ledTo(after(0)); environment != "" {
		t.Errorf("two that disagree led to %s", environment)
	}
	if got := placesWord(both.rec.places()); got != "All 2 name servers" {
		t.Errorf("%s", got)
	}
	if got := placesWord([]answerPlace{{"a", "http://lb"}}); got != "http://lb" {
		t.Errorf("%s", got)
	}
	for address, want := range map[string]string{"10.0.0.1": "blue", "10.0.0.2:80": "green", "10.0.0.20": "", "": "", "[10.0.0.1]:80": "blue"} {
		if got := d.rec.environmentAt(address); got != want {
			t.Errorf("%s belongs to %q", address, got)
		}
	}
	if d.ttl() != 0 {
		t.Error("a TTL that nobody planned")
	}
	// Whose samples are whose: by the name, by the source, and of one alone whatever it is called.
	two := drill.Plan{Clients: []drill.Client{{Name: "a"}, {Name: "b"}}}
	one := drill.Plan{Clients: []drill.Client{{Name: "a"}}}
	for name, row := range map[string]struct {
		plan          drill.Plan
		source, probe string
		host, want    string
		is            bool
	}{
		"by the probe": {two, "x", "b", "", "b", true}, "by the host": {two, "x", "y", "a", "a", true}, "by the source": {two, "b", "client", "", "b", true}, "by nothing": {two, "x", "client", "", "x", true},
		"one alone": {one, "x", "client", "", "a", true}, "no client": {two, "a", "heartbeat", "", "", false},
	} {
		if got, is := clientOf(row.plan, row.source, &history.Sample{Probe: row.probe, Host: row.host}); got != row.want || is != row.is {
			t.Errorf("%s: %q, %t", name, got, is)
		}
	}
	if got := didDo(1, "drill", "bit") + didDo(2, "drill", "bit") + didDo(3, "drill", "bit"); got != "The drill bitBoth drills bitAll 3 drills bit" {
		t.Errorf("%s", got)
	}
}
