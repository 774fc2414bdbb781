package verdict

import (
	"slices"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// What is asked just before a drill begins looks back as far as its question does, and no further.
func TestHowFarBackASteadyStateIsAsked(t *testing.T) {
	hole := func(at float64) history.Event {
		return told(at, &history.Sample{Probe: "client", Scheduled: after(at), Cause: history.CauseProber})
	}
	change := func(p *drill.Plan) {
		p.Steps[0].Drill.SteadyFor = seconds(3)
		p.Clients = append(p.Clients, drill.Client{Name: "slow", Every: seconds(1), Timeout: seconds(20)})
	}
	well := []history.Event{alarmed(-1, "own", history.AlarmOK), alarmed(-1, "theirs", history.AlarmOK), answered(35, "10.0.0.2"), answered(59, "10.0.0.2")}
	log := func(more ...history.Event) []history.Event {
		all := append(slices.Clone(well), samplesOf("client", -30, 60, alwaysGood)...)
		return append(append(all, samplesOf("slow", -30, 60, alwaysGood)...), more...)
	}
	// max(3 s, 5 samples) and 3 s, 1 s that a sample may take, 2 s for the network.
	if back := edge(change, log()...).asksBack("client"); back != 11*time.Second {
		t.Errorf("it looks %s back, want 11 s", back)
	}
	for name, row := range map[string]struct {
		more []history.Event
		want bool
	}{
		"nothing missed": {nil, false}, "missed just before": {[]history.Event{hole(49.5)}, true}, "missed long before": {[]history.Event{hole(48.5)}, false},
		"missed afterwards": {[]history.Event{hole(60.5)}, false},
	} {
		d := edge(change, log(row.more...)...)
		if unseen := d.unseenAfter(after(60)); unseen != row.want {
			t.Errorf("%s: unseen %t, want %t", name, unseen, row.want)
		}
	}
}

func TestEachProbeHasItsOwnPace(t *testing.T) {
	slow := func(p *drill.Plan) {
		p.Probes = append(p.Probes, drill.Probe{Name: "stock", Every: seconds(5), Timeout: seconds(3)}, drill.Probe{Name: "rare", Every: seconds(60), Timeout: seconds(30)})
	}
	d := edge(slow)
	for name, want := range map[string]time.Duration{"orders": time.Second, "stock": 5 * time.Second, "rare": time.Minute, "nobody's": time.Second} {
		if every := d.rec.probeEvery(name); every != want {
			t.Errorf("%s is run every %s, want %s", name, every, want)
		}
	}
	at := func(moments ...float64) (log []history.Event) {
		for _, moment := range moments {
			log = append(log, told(moment, &history.Sample{Probe: "stock", Scheduled: after(moment), OK: true}))
		}
		return log
	}
	// Two intervals between samples are the most; at the end also what the last one may take.
	for name, row := range map[string]struct {
		log  []history.Event
		to   float64
		want bool
	}{
		"all the time": {at(0, 5, 10), 15, false}, "two intervals between": {at(0, 10), 12, false}, "a little more": {at(0, 10.1), 12, true},
		"the last under way": {at(0, 5), 18, false}, "the last too long ago": {at(0, 5), 18.1, true},
	} {
		if _, gap := edge(slow, row.log...).rec.probed("stock", after(0), after(row.to)); gap != row.want {
			t.Errorf("%s: gap %t, want %t", name, gap, row.want)
		}
	}
	// What was under way when the attack began tells of the attack: it is one time-out before it that a probe must have been good.
	for at, want := range map[float64]history.Outcome{-0.5: history.Passed, -1.5: history.Inconclusive} {
		checks := edge(nil, samplesOf("orders", -30.5, 0, func(moment float64) bool { return moment != at })...).probesBefore(after(0))
		if len(checks) != 1 || checks[0].Outcome != want {
			t.Errorf("failed at %g: %+v, want %s", at, checks, want)
		}
	}
}

func TestAPromotionIsMeasuredFromTheFirstOfTheLastAnswers(t *testing.T) {
	d := edge(nil, answered(1, "10.0.0.1"), answered(5, "10.0.0.2"), answered(9, "10.0.0.2"))
	whole := edge(nil, answered(5, "10.0.0.2"), answered(9, "10.0.0.2"))
	for name, d := range map[string]*drillCase{"after another answer": d, "from the first on": whole} {
		got := promotedOn(d.rec, d.span, d.rec.places()[0], "green", after(3))
		if got.Outcome != history.Passed || got.Measured == nil || got.Measured.Value != 2 {
			t.Errorf("%s: %+v, want 2 s", name, got)
		}
	}
}

func TestWhatIsSeenOfAHostAfterwards(t *testing.T) {
	look := func(at float64, fault string) history.Event {
		return told(at, &history.Inspected{Host: "b1", Healthy: true, Error: fault})
	}
	sheet := func() *HostImpact {
		s := &HostImpact{Host: "b1", InForce: after(0), Until: after(30), Reverted: after(30), Why: "deadline"}
		s.facts.attack = &attackFacts{}
		return s
	}
	for name, row := range map[string]struct {
		log  []history.Event
		seen bool
	}{
		"one look": {[]history.Event{look(31, "")}, true}, "a look, and one that failed": {[]history.Event{look(31, ""), look(32, "gone"), look(33, "gone")}, true},
		"none that worked": {[]history.Event{look(31, "gone"), look(32, "gone")}, false}, "before the end": {[]history.Event{look(29, "")}, false},
	} {
		if _, seen := edge(nil, row.log...).lookedAfter(sheet()); seen != row.seen {
			t.Errorf("%s: seen %t, want %t", name, seen, row.seen)
		}
	}
	d := edge(nil)
	d.span.finished = true
	if got := d.noWord(sheet(), "x"); !got.NotReverted || len(got.Evidence) != 0 {
		t.Errorf("of an attack that nobody saw end: %+v", got)
	}
	inForce := sheet()
	inForce.facts.attack.inForce = &seen[*history.AttackInForce]{at: after(0), seq: 7, fact: &history.AttackInForce{}}
	if got := d.noWord(inForce, "x"); !got.NotReverted || !slices.Equal(got.Evidence, []int64{7}) {
		t.Errorf("of an attack that was in force and that nobody saw end: %+v", got)
	}
	untold := sheet()
	untold.Why = ""
	for why, sheet := range map[string]*HostImpact{"nothing was left (ended: deadline).": sheet(), "nothing was left.": untold} {
		if got := d.throughAgain(sheet, "x", nil); got.Outcome != history.Passed || !strings.HasSuffix(got.Explanation, why) || strings.Contains(got.Explanation, "canar") {
			t.Errorf("%s %q, want %q at its end", got.Outcome, got.Explanation, why)
		}
	}
}

func TestTheFirstAttackOnAHostIsThePlannedOne(t *testing.T) {
	planned := func(host string) *seen[*history.AttackPlanned] {
		return &seen[*history.AttackPlanned]{fact: &history.AttackPlanned{Host: host}}
	}
	rec := edge(nil).rec
	rec.attacks = map[string]*attackFacts{
		"before": {guid: "before", position: 1, source: "b1"}, "first": {guid: "first", position: 2, source: "b1"}, "second": {guid: "second", position: 5, source: "ci", planned: planned("b1")},
		"other": {guid: "other", position: 3, source: "g1"}, "others": {guid: "others", position: 3, source: "g1", planned: planned("g1")}, "next": {guid: "next", position: 9, source: "b1"},
	}
	for range 50 { // they come in any order
		if got := rec.attackOn("b1", span{first: 2, last: 9}); got == nil || got.guid != "first" {
			t.Fatalf("%+v, want the first in the step", got)
		}
		if got := rec.attackOn("b1", span{first: 3, last: 9}); got == nil || got.guid != "second" {
			t.Fatalf("%+v, want the one that was planned for the host", got)
		}
	}
	if got := rec.attackOn("b1", span{first: 6, last: 9}); got != nil {
		t.Errorf("%+v, want none: the next step's is not ours", got)
	}
}

func TestWhatIsNotAllowedIsNotTold(t *testing.T) {
	d := edge(nil, append(samplesOf("client", -30, 60, alwaysGood), alarmed(-1, "own", history.AlarmOK), alarmed(-1, "theirs", history.AlarmOK), answered(59, "10.0.0.2"))...)
	if got := d.steadyAfter("x", 0); got.Outcome != history.Passed || got.Allowed != nil || got.Measured == nil {
		t.Errorf("without a limit: %+v", got)
	}
	if got := d.steadyAfter("x", time.Second); got.Outcome != history.Passed || got.Allowed == nil || got.Allowed.Value != 1 {
		t.Errorf("with a limit of a second: %+v", got)
	}
}

func TestListsOfNamesAreShort(t *testing.T) {
	for want, names := range map[string][]string{"a, b, c, d": {"a", "b", "c", "d"}, "a, b, c, d and 1 more": {"a", "b", "c", "d", "e"}, "a": {"a"}, "a, b, c, d and 3 more": {"a", "b", "c", "d", "e", "f", "g"}} {
		if got := list(names); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
