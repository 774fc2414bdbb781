package verdict

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// What lies at the borders of questions that stories ask as a whole: each row is a short log, told in seconds from the moment the impact began
// (at 0) on; it ended at 30, watching at 60.

var edgeBegan = time.Date(2026, 11, 29, 3, 0, 0, 0, time.UTC)

func after(seconds float64) time.Time {
	return edgeBegan.Add(time.Duration(seconds * float64(time.Second)))
}

func seconds(n float64) drill.Seconds { return drill.Seconds(n * float64(time.Second)) }

func told(at float64, fact history.Fact) history.Event { return history.New(after(at), "ci", fact) }

// edgePlan has two environments, a name on one server, a client that samples each second, an alarm of our own and one of another system.
func edgePlan() drill.Plan {
	host := func(name, address string) drill.Host {
		return drill.Host{Name: name, Address: netip.MustParseAddr(address)}
	}
	return drill.Plan{
		Service: "shop", Live: "blue",
		Environments: []drill.Environment{{Name: "blue", Hosts: []drill.Host{host("b1", "10.0.0.1")}}, {Name: "green", Hosts: []drill.Host{host("g1", "10.0.0.2")}}},
		Failover:     []drill.Failover{{Name: "shop.test", Servers: []string{"ns"}, Primary: "blue", Secondary: "green"}},
		Clients:      []drill.Client{{Name: "client", Every: seconds(1), Timeout: seconds(1)}},
		Probes:       []drill.Probe{{Name: "orders", Every: seconds(1), Timeout: seconds(1)}},
		Alarms:       []drill.Alarm{{Name: "own"}, {Name: "theirs", Source: &drill.AlarmSource{}}, {Name: "off", Disabled: true}},
		Steps: []drill.Step{{Kind: drill.StepDrill, Name: "drill cut on blue", Environment: "blue", Live: "blue", LiveAfter: "green", Drill: &drill.PlannedDrill{
			Name: "cut", Hosts: []drill.Host{host("b1", "10.0.0.1")}, Attack: drill.Order{Attack: "blackhole", Length: seconds(30)},
		}}},
	}
}

// edge is the case of a log. change may alter the plan first.
func edge(change func(*drill.Plan), log ...history.Event) *drillCase {
	plan := edgePlan()
	if change != nil {
		change(&plan)
	}
	log = append([]history.Event{
		told(-30, &history.StepStarted{Step: 0, Name: "drill cut on blue"}), told(-20, &history.Phase{Step: 0, Phase: history.PhaseAttack}),
		told(31, &history.Phase{Step: 0, Phase: history.PhaseSteadyAfter}),
	}, log...)
	rec := newRecord(plan, log)
	return &drillCase{
		rec: rec, planned: plan.Steps[0], drill: plan.Steps[0].Drill, proven: true,
		span: span{started: true, from: after(-30), to: after(60), last: len(log)}, impact: &Impact{From: after(0), To: after(30)},
	}
}

func samplesOf(name string, from, to float64, good func(float64) bool) (log []history.Event) {
	for at := from; at < to; at++ {
		sample := &history.Sample{Probe: name, Scheduled: after(at), OK: good(at), Took: seconds(.01)}
		if !sample.OK {
			sample.Cause = history.CauseConnect
		}
		log = append(log, told(at, sample))
	}
	return log
}

func alwaysGood(float64) bool { return true }

func badFrom(from, to float64) func(float64) bool {
	return func(at float64) bool { return at < from || at >= to }
}

func alarmed(at float64, name, to string) history.Event {
	return told(at, &history.Alarm{Name: name, To: to})
}

func answered(at float64, address string) history.Event {
	answer := &history.Answer{Name: "shop.test", Server: "ns", Addresses: []string{address}}
	if address == "" {
		answer.Addresses, answer.Error = nil, "timeout"
	}
	return told(at, answer)
}

type edgeRow struct {
	name   string
	change func(*drill.Plan)
	log    []history.Event
	expect drill.Expectation
	want   history.Outcome
	says   string
}

func checkEdges(t *testing.T, rows []edgeRow) {
	t.Helper()
	for _, row := range rows {
		row.expect.Text = "E"
		got := edge(row.change, row.log...).expectation(row.expect)
		if got.Outcome != row.want || !strings.Contains(got.Explanation, row.says) || got.Name != "E" {
			t.Errorf("%s: %s: %s\nwant %s with %q", row.name, got.Outcome, got.Explanation, row.want, row.says)
		}
	}
}

func TestAlarmsAtTheirBorders(t *testing.T) {
	raised := drill.Expectation{Kind: drill.ExpectAlarm, Alarm: "own", Within: seconds(10)}
	theirs := drill.Expectation{Kind: drill.ExpectAlarm, Alarm: "theirs", Within: seconds(10)}
	stays := drill.Expectation{Kind: drill.ExpectAlarmOK, Alarm: "own"}
	ok, bad, none := history.AlarmOK, history.AlarmRaised, history.AlarmInsufficient
	lost := told(5, &history.Host{Host: watchHost})
	checkEdges(t, []edgeRow{
		{"raised and cleared", nil, []history.Event{alarmed(-5, "own", ok), alarmed(10, "own", bad), alarmed(40, "own", ok)}, raised, history.Passed, "Raised after 10.00 s, cleared 30.00 s later"},
		{"raised a moment too late", nil, []history.Event{alarmed(-5, "own", ok), alarmed(10.01, "own", bad), alarmed(40, "own", ok)}, raised, history.Failed, "only after 10.01 s"},
		{"never heard of before", nil, []history.Event{alarmed(5, "own", bad)}, raised, history.Inconclusive, "Nothing was heard of own"},
		{"raised before", nil, []history.Event{alarmed(-5, "own", bad)}, raised, history.Inconclusive, "own was ALARM already"},
		{"not raised", nil, []history.Event{alarmed(-5, "own", ok)}, raised, history.Failed, "own was not raised; 10.00 s were allowed"},
		{"not raised, and the attack was shorter", nil, []history.Event{alarmed(-5, "own", ok)}, drill.Expectation{Kind: drill.ExpectAlarm, Alarm: "own", Within: seconds(31)}, history.Inconclusive, "lasted only 30.00 s of the 31.00 s"},
		{"not raised, and the attack was just as long", nil, []history.Event{alarmed(-5, "own", ok)}, drill.Expectation{Kind: drill.ExpectAlarm, Alarm: "own", Within: seconds(30)}, history.Failed, "was not raised"},
		{"not raised, and the watch was lost", nil, []history.Event{alarmed(-5, "own", ok), lost}, raised, history.Inconclusive, "neither was the watch"},
		{"not raised, and the watch was lost before", nil, []history.Event{alarmed(-5, "own", ok), told(-1, &history.Host{Host: watchHost})}, raised, history.Inconclusive, "neither was the watch"},
		{"not raised, and the watch was back before", nil, []history.Event{alarmed(-5, "own", ok), told(-2, &history.Host{Host: watchHost}), told(-1, &history.Host{Host: watchHost, Up: true})}, raised, history.Failed, "was not raised"},
		{"our own lost its data", nil, []history.Event{alarmed(-5, "own", ok), alarmed(5, "own", none)}, raised, history.Failed, "was not raised"},
		{"another's lost its data", nil, []history.Event{alarmed(-5, "theirs", ok), told(5, &history.Alarm{Name: "theirs", To: none, Reason: "refused"})}, theirs, history.Inconclusive, "its source fell silent: refused."},
		{"seen in another system", nil, []history.Event{alarmed(-5, "theirs", ok), told(5, &history.Alarm{Name: "theirs", To: bad, Origin: "prometheus", Bound: seconds(1.5)}), alarmed(40, "theirs", ok)}, theirs, history.Passed, "Seen in prometheus, which was asked 1.50 s before"},
		{"it never cleared", nil, []history.Event{alarmed(-5, "own", ok), alarmed(5, "own", bad)}, raised, history.Failed, "did not clear after the revert"},
		{"it cleared and came back", nil, []history.Event{alarmed(-5, "own", ok), alarmed(5, "own", bad), alarmed(40, "own", ok), alarmed(45, "own", bad)}, raised, history.Failed, "did not clear"},
		{"it has no data at the end", nil, []history.Event{alarmed(-5, "own", ok), alarmed(5, "own", bad), alarmed(40, "own", none)}, raised, history.Inconclusive, "it was INSUFFICIENT_DATA at the end"},
		{"it stays OK", nil, []history.Event{alarmed(-5, "own", ok)}, stays, history.Passed, "stayed OK"},
		{"of one that nobody has heard of", nil, nil, stays, history.Inconclusive, "its silence proves nothing"},
		{"of one that was raised before", nil, []history.Event{alarmed(-5, "own", none)}, stays, history.Inconclusive, "INSUFFICIENT_DATA already"},
		{"it does not stay OK", nil, []history.Event{alarmed(-5, "own", ok), alarmed(7, "own", bad)}, stays, history.Failed, "raised 7.00 s after"},
		{"it loses its data", nil, []history.Event{alarmed(-5, "own", ok), alarmed(7, "own", none)}, stays, history.Inconclusive, "lost its data"},
		{"the watch is lost", nil, []history.Event{alarmed(-5, "own", ok), lost}, stays, history.Inconclusive, "The watch was not heard"},
		{"only after the end", nil, []history.Event{alarmed(-5, "own", ok), alarmed(60.1, "own", bad)}, stays, history.Passed, "stayed OK"},
	})
	other := drill.Expectation{Kind: drill.ExpectNoOther}
	both := []history.Event{alarmed(-5, "own", ok), alarmed(-5, "theirs", ok)}
	with := func(more ...history.Event) []history.Event {
		return append(append([]history.Event(nil), both...), more...)
	}
	checkEdges(t, []edgeRow{
		{"all quiet", nil, both, other, history.Passed, "2 other alarms stayed quiet"},
		{"one raised", nil, with(alarmed(5, "own", bad), alarmed(6, "own", ok), alarmed(7, "own", bad)), other, history.Failed, "Raised although nothing was done to it: own."},
		{"one that is expected", func(p *drill.Plan) {
			p.Steps[0].Drill.Expectations = []drill.Expectation{{Kind: drill.ExpectAlarm, Alarm: "own"}}
		}, with(alarmed(5, "own", bad)), other, history.Passed, "1 other alarm stayed quiet"},
		{"one not heard", nil, both[:1], other, history.Inconclusive, "Nothing was heard of theirs"},
		{"another's fell silent", nil, with(alarmed(5, "theirs", none)), other, history.Inconclusive, "theirs, or not all the time"},
		{"another's was silent before", nil, []history.Event{both[0], alarmed(-5, "theirs", none)}, other, history.Inconclusive, "theirs, or not all the time"},
		{"our own has no data", nil, with(alarmed(5, "own", none)), other, history.Passed, "stayed quiet"},
		{"the watch is lost", nil, with(lost), other, history.Inconclusive, "The watch was not heard"},
		{"there is none", func(p *drill.Plan) { p.Alarms = nil }, nil, other, history.Inconclusive, "No alarm was heard at all"},
	})
}

func TestAnswersAtTheirBorders(t *testing.T) {
	const blue, green = "10.0.0.1", "10.0.0.2"
	moves := drill.Expectation{Kind: drill.ExpectMoves, Environment: "green", Within: seconds(10)}
	stays := drill.Expectation{Kind: drill.ExpectStays}
	nameless := func(p *drill.Plan) { p.Failover = nil }
	heard := func(p *drill.Plan) { p.Failover[0].Servers = nil }
	checkEdges(t, []edgeRow{
		{"moves", nil, []history.Event{answered(-5, blue), answered(10, green), answered(55, green)}, moves, history.Passed, "The name server moved to green after 10.00 s"},
		{"moves a moment too late", nil, []history.Event{answered(-5, blue), answered(10.01, green), answered(55, green)}, moves, history.Failed, "only after 10.01 s"},
		{"the plan names nothing", nameless, nil, moves, history.Inconclusive, "names nothing that could move"},
		{"not known before", nil, []history.Event{answered(5, green)}, moves, history.Inconclusive, "not known to have sent clients to blue"},
		{"elsewhere before", nil, []history.Event{answered(-5, green), answered(5, green)}, moves, history.Inconclusive, "not known to have sent clients to blue"},
		{"never moves", nil, []history.Event{answered(-5, blue), answered(55, blue)}, moves, history.Failed, "ns:53 never answered green"},
		{"never moves in a short attack", nil, []history.Event{answered(-5, blue), answered(55, blue)}, drill.Expectation{Kind: drill.ExpectMoves, Environment: "green", Within: seconds(31)}, history.Inconclusive, "lasted only 30.00 s of the 31.00 s"},
		{"moves back", nil, []history.Event{answered(-5, blue), answered(5, green), answered(55, blue)}, moves, history.Failed, "answers blue at the end"},
		{"to and fro", nil, []history.Event{answered(-5, blue), answered(5, green), answered(8, blue), answered(9, green), answered(55, green)}, moves, history.Failed, "3.00 s later answered blue again"},
		{"not asked at the end", nil, []history.Event{answered(-5, blue), answered(5, green), answered(47.9, green)}, moves, history.Inconclusive, "not asked again at the end"},
		{"asked just late enough", nil, []history.Event{answered(-5, blue), answered(5, green), answered(48, green)}, moves, history.Passed, "moved to green"},
		{"whoever was asked, where the plan names nobody", heard, []history.Event{answered(-5, blue), answered(5, green), answered(55, green)}, moves, history.Passed, "The name server moved"},
		{"nobody was asked, and the plan names nobody", heard, nil, moves, history.Inconclusive, "any name server is not known"},
		{"stays", nil, []history.Event{answered(-5, blue), answered(20, blue), answered(55, blue)}, stays, history.Passed, "answered blue all the time"},
		{"a word of trouble is no move", nil, []history.Event{answered(-5, blue), answered(20, ""), answered(55, blue)}, stays, history.Passed, "answered blue all the time"},
		{"stays elsewhere", nil, []history.Event{answered(-5, green), answered(55, green)}, drill.Expectation{Kind: drill.ExpectStays, Environment: "green"}, history.Passed, "answered green"},
		{"does not stay", nil, []history.Event{answered(-5, blue), answered(20, green), answered(55, blue)}, stays, history.Failed, "answered green 20.00 s after"},
		{"leads nowhere", nil, []history.Event{answered(-5, blue), answered(20, "10.9.9.9"), answered(55, blue)}, stays, history.Failed, "20.00 s after"},
		{"stays, not known before", nil, []history.Event{answered(20, blue)}, stays, history.Inconclusive, "not known to have sent"},
		{"stays, silent at the end", nil, []history.Event{answered(-5, blue), answered(47, blue)}, stays, history.Inconclusive, "at the end is not known"},
		{"stays, in trouble at the end", nil, []history.Event{answered(-5, blue), answered(55, "")}, stays, history.Inconclusive, "at the end is not known"},
		{"stays, and the plan names nothing", nameless, nil, stays, history.Inconclusive, "No name server was asked"},
	})
	d := edge(func(p *drill.Plan) {
		p.Failover = append(p.Failover, drill.Failover{Name: "a.test", Servers: []string{"z", "https://lb.test/x", "a:5353"}}, drill.Failover{Name: "shop.test", Servers: []string{"b"}})
	})
	var got []string
	for _, place := range d.rec.places() {
		got = append(got, fmt.Sprintf("%s@%s %t", place.name, place.server, place.served()))
	}
	if want := "a.test@a:5353 false, a.test@https://lb.test/x true, a.test@z:53 false, shop.test@b:53 false, shop.test@ns:53 false"; strings.Join(got, ", ") != want {
		t.Errorf("places are %v", got)
	}
	for _, row := range []struct{ server, want string }{{"", ""}, {"a", "a:53"}, {"a:1", "a:1"}, {"2001:db8::1", "[2001:db8::1]:53"}, {"http://x", "http://x"}} {
		if got := withPort(row.server); got != row.want {
			t.Errorf("%q is %q, want %q", row.server, got, row.want)
		}
	}
}

func TestDataAtItsBorders(t *testing.T) {
	ledger := func(l history.Ledger) []history.Event { return []history.Event{told(50, &l)} }
	loss := drill.Expectation{Kind: drill.ExpectNoLoss, Within: seconds(2)}
	none := drill.Expectation{Kind: drill.ExpectNoLoss}
	double, stale, doubt := drill.Expectation{Kind: drill.ExpectNoDouble}, drill.Expectation{Kind: drill.ExpectNoStale}, drill.Expectation{Kind: drill.ExpectInDoubt, Value: 2}
	checkEdges(t, []edgeRow{
		{"all there", nil, ledger(history.Ledger{Acked: 9}), none, history.Passed, "All 9 acknowledged writes"},
		{"nobody read", nil, nil, none, history.Inconclusive, "No ledger was read back"},
		{"read in another step", nil, ledger(history.Ledger{Step: 1, Acked: 9}), none, history.Inconclusive, "No ledger was read back"},
		{"not read back", nil, ledger(history.Ledger{Acked: 9, Unread: "refused"}), none, history.Inconclusive, "not read back: refused."},
		{"nothing acknowledged", nil, ledger(history.Ledger{}), none, history.Inconclusive, "nothing could be lost"},
		{"lost, and nothing may be", nil, ledger(history.Ledger{Acked: 9, Lost: 1}), none, history.Failed, "1 of 9"},
		{"lost within what may be", nil, ledger(history.Ledger{Acked: 9, Lost: 1, Span: seconds(2)}), loss, history.Passed, "over 2.00 s"},
		{"lost a moment more", nil, ledger(history.Ledger{Acked: 9, Lost: 1, Span: seconds(2.01)}), loss, history.Failed, "over 2.01 s"},
		{"two ledgers", nil, append(ledger(history.Ledger{Acked: 9, Lost: 1, Span: seconds(1)}), ledger(history.Ledger{Acked: 1, Lost: 1, Span: seconds(3)})...), loss, history.Failed, "2 of 10 acknowledged writes are lost, over 3.00 s"},
		{"no double", nil, ledger(history.Ledger{Acked: 9, Stale: 1, InDoubt: 9}), double, history.Passed, "0 writes are there more than once; 9"},
		{"double", nil, ledger(history.Ledger{Acked: 9, Duplicated: 1}), double, history.Failed, "1 writes are there more than once"},
		{"stale", nil, ledger(history.Ledger{Acked: 9, Stale: 2}), stale, history.Failed, "2 acknowledged writes were missed"},
		{"in doubt as many as may be", nil, ledger(history.Ledger{Acked: 9, InDoubt: 2}), doubt, history.Passed, "2 writes were never acknowledged"},
		{"in doubt one more", nil, ledger(history.Ledger{Acked: 9, InDoubt: 3}), doubt, history.Failed, "3 writes"},
		{"doubles, not read back", nil, ledger(history.Ledger{Acked: 9, Unread: "refused"}), double, history.Inconclusive, "refused"},
		{"doubles of nothing", nil, nil, double, history.Inconclusive, "No write was acknowledged"},
		{"doubles, in another step", nil, ledger(history.Ledger{Step: 2, Acked: 9, Duplicated: 1}), double, history.Inconclusive, "No write was acknowledged"},
		{"of a later version", nil, nil, drill.Expectation{Kind: "moon"}, history.Inconclusive, `kind "moon"`},
	})
	d := edge(nil)
	d.impact.From = time.Time{}
	for kind, want := range map[string]string{drill.ExpectAlarm: "never was in force", drill.ExpectNoLoss: "No ledger"} {
		if got := d.expectation(drill.Expectation{Kind: kind}); got.Outcome != history.Inconclusive || !strings.Contains(got.Explanation, want) || got.Name != kind {
			t.Errorf("%s without an attack: %+v", kind, got)
		}
	}
}

func TestClientsAtTheirBorders(t *testing.T) {
	within := func(s float64) drill.Expectation {
		return drill.Expectation{Kind: drill.ExpectRecover, Within: seconds(s)}
	}
	perfect := drill.Expectation{Kind: drill.ExpectNoFailure}
	share := func(v float64) drill.Expectation { return drill.Expectation{Kind: drill.ExpectAvailable, Value: v} }
	nobody := func(p *drill.Plan) { p.Clients = nil }
	all := samplesOf("client", -30, 60, alwaysGood)
	checkEdges(t, []edgeRow{
		{"nothing failed", nil, all, within(5), history.Passed, "No request failed"},
		{"recovers", nil, samplesOf("client", -30, 60, badFrom(2, 8)), within(10), history.Passed, "client was served again 8"},
		{"too late", nil, samplesOf("client", -30, 60, badFrom(2, 20)), within(10), history.Failed, "is allowed"},
		{"too close to tell", nil, samplesOf("client", -30, 60, badFrom(2, 10)), within(10.5), history.Inconclusive, "too close"},
		{"not served again", nil, samplesOf("client", -30, 60, badFrom(2, 99)), within(10), history.Failed, "was not served again"},
		{"not served again, watched for less than is allowed", nil, samplesOf("client", -30, 60, badFrom(2, 99)), within(60), history.Inconclusive, "before the 60.00 s that are allowed"},
		{"silent", nil, nil, within(10), history.Inconclusive, "client was silent"},
		{"there is none", nobody, nil, within(10), history.Inconclusive, "No client was measured"},
		{"a client that fell silent", nil, samplesOf("client", -30, 20, alwaysGood), within(10), history.Inconclusive, "measure nothing"},
		{"failures after the revert are not of the attack", nil, samplesOf("client", -30, 60, badFrom(40, 50)), within(10), history.Passed, ""},
		{"not one failed", nil, all, perfect, history.Passed, "were answered"},
		{"one failed", nil, samplesOf("client", -30, 60, badFrom(5, 6)), perfect, history.Failed, "1 of 60 requests failed"},
		{"nobody to see it", nobody, nil, perfect, history.Inconclusive, "No client was measured"},
		{"silent all the time", nil, nil, perfect, history.Inconclusive, "Client client was silent"},
		{"silent for the rest", nil, samplesOf("client", -30, 20, alwaysGood), perfect, history.Inconclusive, "measure nothing"},
		{"just as many", nil, samplesOf("client", -30, 60, badFrom(0, 9)), share(90), history.Passed, "81 of 90"},
		{"one less", nil, samplesOf("client", -30, 60, badFrom(0, 10)), share(90), history.Failed, "80 of 90"},
		{"a share of nothing", nil, nil, share(90), history.Inconclusive, "No client was measured"},
		{"a share of a part", nil, samplesOf("client", -30, 20, alwaysGood), share(90), history.Inconclusive, "measure nothing"},
	})
	// A drill that was cut off has no share of the whole.
	d := edge(nil, samplesOf("client", -30, 60, badFrom(0, 30))...)
	d.rec.phases = nil
	if got := d.available(GroupExpectation, "a", 90); got.Outcome != history.Inconclusive || !strings.Contains(got.Explanation, "cut off") {
		t.Errorf("%+v", got)
	}
	// The slowest decides: not served again, then not measured, then the longest.
	slow, quick, open, void := recovered{client: "slow", took: 9, count: 1}, recovered{client: "quick", took: 5, bound: 3, count: 1}, recovered{client: "open", open: true, void: "x"}, recovered{client: "void", void: "x", count: 1}
	for want, of := range map[string][]recovered{"slow": {quick, slow}, "void": {slow, void, quick}, "open": {void, open, slow}, "quick": {quick, {client: "less", took: 7, count: 1}}, "none": {slow, {client: "none"}}} {
		if got := slowest(of).client; got != want {
			t.Errorf("slowest is %s, want %s", got, want)
		}
	}
	// The evidence is the first failed sample and the first good one after it.
	out := edge(nil, samplesOf("client", -30, 60, badFrom(2, 8))...)
	if got := out.recovery("client"); len(got.seqs) < 2 || got.seqs[0] != out.rec.samples["client"][32].seq || got.seqs[len(got.seqs)-1] != out.rec.samples["client"][38].seq {
		t.Errorf("evidence is %v, the samples are %d and %d", got.seqs, out.rec.samples["client"][32].seq, out.rec.samples["client"][38].seq)
	}
	same := append(samplesOf("client", 5, 6, alwaysGood), samplesOf("client", 5, 6, alwaysGood)...)
	if got := seqsAt(edge(nil, append(same, samplesOf("client", 6, 9, alwaysGood)...)...).rec.samples["client"], after(5)); len(got) != 2 {
		t.Errorf("at one moment there are %v", got)
	}
	// Several clients are told one by one.
	two := edge(func(p *drill.Plan) {
		p.Clients = append(p.Clients, drill.Client{Name: "kept", Every: seconds(1), Timeout: seconds(1), Keep: true}, drill.Client{Name: "mute", Every: seconds(1)})
	}, append(samplesOf("client", -30, 60, badFrom(2, 8)), samplesOf("kept", -30, 60, badFrom(2, 99))...)...)
	all2, _ := two.recoveries("")
	if got := two.eachClient(all2); !strings.Contains(got, "client after 8") || !strings.Contains(got, "kept (keep-alive) was not served again") || !strings.Contains(got, "mute was not measured") {
		t.Errorf("each client: %s", got)
	}
	if two.eachClient(all2[:1]) != "" || two.rto() == nil || !two.rto().Open {
		t.Errorf("RTO %+v", two.rto())
	}
	two.proven = false
	if two.rto() != nil || edge(nil).rto() != nil {
		t.Error("a recovery time although nothing bit, or nobody measured")
	}
	if got := edge(nil).rec.every("nobody"); got != defaultEvery {
		t.Errorf("somebody samples every %s", got)
	}
	if got := edge(nil, samplesOf("client", 0, 1, alwaysGood)...).rec.clients(); len(got) != 1 {
		t.Errorf("clients are %v", got)
	}
}

func TestTheErrorBudgetOfADrill(t *testing.T) {
	level := drill.ServiceLevel{Target: 99, Window: seconds(1000), Drill: 50} // a budget of 10 s, of which a drill may cost 5 s
	two := func(p *drill.Plan) {
		p.Clients = append(p.Clients, drill.Client{Name: "other", Every: seconds(1), Timeout: seconds(1)})
	}
	for _, row := range []struct {
		name   string
		change func(*drill.Plan)
		log    []history.Event
		want   history.Outcome
		says   string
	}{
		{"nothing", nil, samplesOf("client", -30, 60, alwaysGood), history.Passed, "Unserved: client 0.00 s"},
		{"just as much", nil, samplesOf("client", -30, 60, badFrom(2, 7)), history.Passed, "client 5.00 s; that is 50 % of the budget of 10s"},
		{"a second more", nil, samplesOf("client", -30, 60, badFrom(2, 8)), history.Failed, "client 6.00 s"},
		{"the worst decides", two, append(samplesOf("client", -30, 60, badFrom(2, 3)), samplesOf("other", -30, 60, badFrom(2, 9))...), history.Failed, "client 1.00 s, other 7.00 s; that is 70 %"},
		{"one is not measured", two, samplesOf("client", -30, 60, badFrom(2, 3)), history.Inconclusive, "not measured: other"},
		{"one is not measured, the other is over", two, samplesOf("client", -30, 60, badFrom(2, 9)), history.Failed, "client 7.00 s"},
		{"nobody is there", func(p *drill.Plan) { p.Clients = nil }, nil, history.Inconclusive, "No client sampled"},
	} {
		got := edge(row.change, row.log...).errorBudget(level)
		if got.Outcome != row.want || !strings.Contains(got.Explanation, row.says) {
			t.Errorf("%s: %s: %s", row.name, got.Outcome, got.Explanation)
		}
		if row.want == history.Failed && len(got.Evidence) < 6 {
			t.Errorf("%s: evidence %v", row.name, got.Evidence)
		}
	}
	d := edge(nil)
	d.impact.From = time.Time{}
	if got := d.errorBudget(level); got.Outcome != history.Inconclusive || !strings.Contains(got.Explanation, "never was in force") {
		t.Errorf("%+v", got)
	}
	objectives := edge(func(p *drill.Plan) {
		p.Objectives = drill.Objectives{RTO: seconds(10), Availability: 50, Level: &level, RPO: new(drill.Seconds)}
	}, append(samplesOf("client", -30, 60, alwaysGood), told(50, &history.Ledger{Acked: 1}))...).objectives()
	var names []string
	for _, check := range objectives {
		names = append(names, check.Name)
	}
	if got := strings.Join(names, ", "); !strings.HasPrefix(got, "RTO, availability, error budget") || !strings.HasSuffix(got, "RPO") {
		t.Errorf("objectives are %s", got)
	}
}

// When a drill may end early: an expectation is decided by what has happened until now, or by its time.
func TestMomentsOfDecision(t *testing.T) {
	const blue, green = "10.0.0.1", "10.0.0.2"
	line := told(4, &history.Line{Host: "b1", File: "/log", Pattern: "refused"})
	orders := samplesOf("orders", -30, 60, badFrom(3, 6))
	for _, row := range []struct {
		name      string
		expect    drill.Expectation
		log       []history.Event
		now, at   float64
		timed, ok bool
	}{
		{"alarm", drill.Expectation{Kind: drill.ExpectAlarm, Alarm: "own", Within: seconds(10)}, []history.Event{alarmed(5, "own", history.AlarmRaised)}, 6, 5, true, true},
		{"alarm, not yet", drill.Expectation{Kind: drill.ExpectAlarm, Alarm: "own", Within: seconds(10)}, []history.Event{alarmed(-1, "own", history.AlarmRaised), alarmed(5, "own", history.AlarmOK)}, 10, 10, true, false},
		{"alarm, never", drill.Expectation{Kind: drill.ExpectAlarm, Alarm: "own", Within: seconds(10)}, nil, 10.1, 10, true, true},
		{"moves", drill.Expectation{Kind: drill.ExpectMoves, Environment: "green", Within: seconds(10)}, []history.Event{answered(-1, blue), answered(7, green)}, 8, 7, true, true},
		{"moves, not yet", drill.Expectation{Kind: drill.ExpectMoves, Environment: "green", Within: seconds(10)}, []history.Event{answered(-1, blue)}, 8, 10, true, false},
		{"a database", drill.Expectation{Kind: drill.ExpectDatabase, Database: "books", Within: seconds(10)}, []history.Event{told(6, &history.Database{Database: "books", Host: "db-b", Accepted: true})}, 8, 6, true, true},
		{"a database, not yet", drill.Expectation{Kind: drill.ExpectDatabase, Database: "books", Within: seconds(10)}, nil, 8, 10, true, false},
		{"a line", drill.Expectation{Kind: drill.ExpectLine, Host: "b1", File: "/log", Line: "refused", Within: seconds(10)}, []history.Event{line}, 8, 4, true, true},
		{"another line", drill.Expectation{Kind: drill.ExpectLine, Host: "b1", File: "/log", Line: "panic", Within: seconds(10)}, []history.Event{line}, 8, 10, true, false},
		{"a probe fails", drill.Expectation{Kind: drill.ExpectProbeFails, Probe: "orders", Within: seconds(10)}, orders, 8, 3, true, true},
		{"a probe does not fail yet", drill.Expectation{Kind: drill.ExpectProbeFails, Probe: "orders", Within: seconds(10)}, samplesOf("orders", -30, 60, alwaysGood), 8, 10, true, false},
		{"a probe is back", drill.Expectation{Kind: drill.ExpectProbeBack, Probe: "orders", Within: seconds(10)}, orders, 9, 6, true, true},
		{"a probe is not back", drill.Expectation{Kind: drill.ExpectProbeBack, Probe: "orders", Within: seconds(10)}, samplesOf("orders", -30, 60, badFrom(3, 99)), 9, 10, true, false},
		{"clients have not failed yet", drill.Expectation{Kind: drill.ExpectRecover, Within: seconds(10)}, samplesOf("client", -30, 60, alwaysGood), 9, 10, true, false},
		{"clients are away", drill.Expectation{Kind: drill.ExpectRecover, Within: seconds(10)}, samplesOf("client", -30, 60, badFrom(3, 99)), 9, 10, true, false},
		{"nobody asks", drill.Expectation{Kind: drill.ExpectRecover, Within: seconds(10)}, nil, 10.5, 10, true, true},
		{"no waiting decides", drill.Expectation{Kind: drill.ExpectNoFailure}, nil, 9, 0, false, false},
	} {
		d := edge(nil, row.log...)
		if strings.Contains(row.name, "nobody asks") {
			d = edge(func(p *drill.Plan) { p.Clients = nil })
		}
		d.span.to = after(row.now)
		at, timed, ok := d.decidedAt(row.expect, after(row.now))
		if timed != row.timed || ok != row.ok || timed && !at.Equal(after(row.at)) {
			t.Errorf("%s: at %s, timed %t, decided %t; want %g s, %t, %t", row.name, at.Sub(edgeBegan), timed, ok, row.at, row.timed, row.ok)
		}
	}
	recovered := edge(nil, samplesOf("client", -30, 60, badFrom(3, 8))...)
	if at, _, ok := recovered.decidedAt(drill.Expectation{Kind: drill.ExpectRecover, Within: seconds(20)}, after(30)); !ok || at.Before(after(8)) || at.After(after(8.5)) {
		t.Errorf("clients recovered at %s (%t)", at.Sub(edgeBegan), ok)
	}
	for name, decided := range map[string]bool{
		"no such step": Decided(edgePlan(), nil, 7, after(9)), "before the first": Decided(edgePlan(), nil, -1, after(9)), "not begun": Decided(edgePlan(), nil, 0, after(9)),
		"no drill": Decided(drill.Plan{Steps: []drill.Step{{Kind: drill.StepDeploy}}}, nil, 0, after(9)),
	} {
		if decided {
			t.Errorf("%s: decided", name)
		}
	}
}

func TestTheBiteOfOtherAttacks(t *testing.T) {
	sheet := func(facts *attackFacts) *HostImpact { return &HostImpact{Host: "b1", facts: hostFacts{attack: facts}} }
	account := func(bit bool, evidence ...string) *attackFacts {
		return &attackFacts{account: &seen[*history.AttackAccount]{seq: 7, fact: &history.AttackAccount{Bit: bit, Evidence: evidence}}}
	}
	for _, row := range []struct {
		facts *attackFacts
		want  history.Outcome
		says  string
	}{
		{&attackFacts{}, history.Inconclusive, "gave no account"}, {account(false, "nothing"), history.Inconclusive, "was not felt"},
		{account(true), history.Passed, "the attack was felt"}, {account(true, "load 4", "more"), history.Passed, "load 4."},
	} {
		if got := accountBit(sheet(row.facts)); got.Outcome != row.want || !strings.Contains(got.Explanation, row.says) {
			t.Errorf("%s: %s", got.Outcome, got.Explanation)
		}
	}
	// A host that goes down: seen down, and back as another boot.
	d := edge(nil, told(4, &history.Sample{Probe: "heartbeat", Host: "b1", Scheduled: after(4)}), told(70, &history.Sample{Probe: "heartbeat", Host: "g1", Scheduled: after(70)}))
	host := func(at time.Time, boot string) *seen[*history.Host] {
		return &seen[*history.Host]{at: at, seq: 3, fact: &history.Host{Host: "b1", BootID: boot}}
	}
	for name, row := range map[string]struct {
		sheet HostImpact
		want  history.Outcome
		says  string
	}{
		"told down and up":          {HostImpact{Host: "b1", InForce: after(0), DownAt: after(2), UpAt: after(9), BootBefore: "x", facts: hostFacts{down: host(after(2), ""), before: host(after(-1), "x"), up: host(after(9), "y")}}, history.Passed, "Seen down after 2.00 s, and back 7.00 s later"},
		"a heartbeat that failed":   {HostImpact{Host: "b1", InForce: after(0), UpAt: after(9), BootBefore: "x", facts: hostFacts{before: host(after(-1), "x"), up: host(after(9), "y")}}, history.Passed, "Seen down after 4.00 s"},
		"a heartbeat after the end": {HostImpact{Host: "g1", InForce: after(0)}, history.Inconclusive, "Nobody saw the host down"},
		"a heartbeat before":        {HostImpact{Host: "b1", InForce: after(4)}, history.Inconclusive, "Nobody saw the host down"},
		"the boot before not known": {HostImpact{Host: "b1", InForce: after(0), DownAt: after(2), facts: hostFacts{down: host(after(2), ""), up: host(after(9), "y")}}, history.Inconclusive, "Which boot"},
		"never back":                {HostImpact{Host: "b1", InForce: after(0), DownAt: after(2), BootBefore: "x", facts: hostFacts{down: host(after(2), ""), before: host(after(-1), "x")}}, history.Inconclusive, "not back with a new boot"},
		"a boot without a name":     {HostImpact{Host: "b1", InForce: after(0), DownAt: after(2), facts: hostFacts{down: host(after(2), ""), before: host(after(-1), "")}}, history.Inconclusive, "Which boot"},
	} {
		if got := d.wentDown(&row.sheet); got.Outcome != row.want || !strings.Contains(got.Explanation, row.says) {
			t.Errorf("%s: %s: %s", name, got.Outcome, got.Explanation)
		}
	}
	if times(1) != "once" || times(2) != "2 times" || flowWord("established") != "open already" || flowWord("new") != "new" || plural2(1, "address", "addresses") != "1 address" || titled("") != "The attack" {
		t.Error("words are others")
	}
}

func TestTheLastWordOfTheConductorCounts(t *testing.T) {
	said := func(at float64, step int, name string, ok bool, detail string) history.Event {
		return told(at, &history.Check{Step: step, Name: name, OK: ok, Detail: detail})
	}
	d := edge(nil,
		said(-3, 0, "ready", false, "not yet"), said(-1, 0, "ready", true, ""), said(0, 0, CheckNothingInForce, false, "a rule"), said(40, 0, "after", false, ""), said(41, 0, "fine", true, "all of it"),
		said(40, 1, "another step", false, ""), said(40, 0, CheckRollbackReady, false, "told elsewhere"))
	tell := func(checks []Check) string {
		var all []string
		for _, c := range checks {
			all = append(all, fmt.Sprintf("%s %s %s %t", c.Name, c.Outcome, c.Explanation, c.NotReverted))
		}
		return strings.Join(all, "; ")
	}
	if got := tell(d.conductorChecks(true)); got != "ready passed It holds. false" {
		t.Errorf("before: %s", got)
	}
	if got := tell(d.conductorChecks(false)); got != "nothing in force failed a rule. true; after failed It does not hold. false; fine passed all of it. false" {
		t.Errorf("after: %s", got)
	}
	d.impact.From = time.Time{} // never in force: all of it came before
	if got := d.conductorChecks(false); len(got) > 0 {
		t.Errorf("after an attack that never was: %s", tell(got))
	}
	// A permit that was granted later counts, and a refusal after it too.
	for want, permits := range map[string][]history.Event{
		"": {told(-3, &history.Permit{Reason: "busy"}), told(-2, &history.Permit{Granted: true})}, "busy.": {told(-3, &history.Permit{Granted: true}), told(-2, &history.Permit{Reason: "busy"}), told(-1, &history.Permit{Step: 1, Granted: true})},
	} {
		if got := edge(nil, permits...).rec.refusal(0); got != want {
			t.Errorf("refused with %q, want %q", got, want)
		}
	}
}

// A log that cannot be judged proves nothing, and breaks nobody.
func TestJudgingThatBreaksIsInconclusive(t *testing.T) {
	var nothing *history.Alarm // as no reader of logs gives it
	broken := []history.Event{history.New(after(0), "ci", nothing)}
	if got := Judge(edgePlan(), broken); got.Outcome != history.Inconclusive || got.Exit != exitInconclusive || !strings.Contains(got.Reason, "broke") {
		t.Errorf("%s, exit %d, %s", got.Outcome, got.Exit, got.Reason)
	}
	reading := NewReading(edgePlan())
	reading.Add(broken[0])
	if got := reading.Judge(); got.Outcome != history.Inconclusive || !strings.Contains(got.Reason, "broke") {
		t.Errorf("while reading: %s %s", got.Outcome, got.Reason)
	}
	if got := JudgeStep(edgePlan(), broken, 0); got.Outcome != history.Inconclusive {
		t.Errorf("a step: %+v", got)
	}
	if Decided(edgePlan(), broken, 0, after(9)) {
		t.Error("it is decided")
	}
	for _, step := range []int{-1, 1} {
		if got := JudgeStep(edgePlan(), nil, step); got.Outcome != history.Inconclusive || !strings.Contains(got.Reason, "no step") {
			t.Errorf("step %d: %+v", step, got)
		}
	}
	plan := edgePlan()
	plan.Steps = []drill.Step{{Kind: "moon", Name: "moon"}, {Kind: drill.StepDrill, Name: "nothing planned"}, {Kind: drill.StepDrill, Name: "no host", Drill: &drill.PlannedDrill{}}, {Kind: drill.StepDeploy, Name: "refused"}}
	log := []history.Event{told(0, &history.RunStarted{Run: "r", Plan: plan})}
	for i := range 3 {
		log = append(log, told(float64(i), &history.StepStarted{Step: i}), told(float64(i), &history.StepFinished{Step: i}))
	}
	log = append(log, told(5, &history.Permit{Step: 3, Reason: "frozen"}), told(5, &history.StepStarted{Step: 99}), told(5, &history.StepFinished{Step: 3}), told(6, &history.RunFinished{}), history.Event{})
	got := Judge(plan, log)
	for i, want := range []string{"kind \"moon\"", "does not say what this drill does", "names no host", "A safeguard refused it: frozen."} {
		if !strings.Contains(got.Steps[i].Reason+fmt.Sprint(got.Steps[i].Checks), want) || got.Steps[i].Outcome != history.Inconclusive {
			t.Errorf("step %d: %s", i, got.Steps[i].Reason)
		}
	}
	if !got.Refused || got.Outcome != history.Inconclusive || got.Steps[3].Ran {
		t.Errorf("%+v", got)
	}
	empty := StepVerdict{}
	if weigh(&empty); empty.Outcome != history.Inconclusive || empty.Reason != "Nothing was checked." {
		t.Errorf("%+v", empty)
	}
	if notRevertedWhy(nil) != "no evidence." || share(1, 0) != 0 || nanoseconds(time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)) >= 0 || nanoseconds(time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)) <= 0 {
		t.Error("borders of figures are others")
	}
	if !worse(&Figure{Open: true}, &Figure{Seconds: 9}) || worse(&Figure{Seconds: 9}, &Figure{Open: true}) || !worse(&Figure{Seconds: 1, Bound: 2}, &Figure{Seconds: 2, Bound: .5}) || worse(&Figure{Seconds: 1}, &Figure{Seconds: 1}) {
		t.Error("another recovery is the slower one")
	}
	many := make([]int64, 100)
	for i := range many {
		many[i] = int64(100 - i)
	}
	if got := check(history.Passed, GroupRun, "n", "w", many).Evidence; len(got) != evidenceMax || got[0] != 1 || got[len(got)-1] != 100 || got[evidenceMax/2-1] != evidenceMax/2 {
		t.Errorf("evidence is %v", got)
	}
}
