package alarm

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/drill"
)

func mustCompile(t testing.TB, a drill.Alarm, metric drill.Metric) Rule {
	t.Helper()
	rule, err := Compile(a, metric)
	if err != nil {
		t.Fatal(err)
	}
	return rule
}

// run evaluates the rule at each of its instants in (from, to], feeding each sample when it arrives, and returns the changes.
func run(rule Rule, from, to time.Time, samples []arrival) []Change {
	return runWith(rule, from, to, samples, Step)
}

type arrival struct {
	at, due time.Time
	value   float64
}

type stepper func(Alarm, time.Time, []Datapoint) (Alarm, *Change)

func runWith(rule Rule, from, to time.Time, samples []arrival, step stepper) []Change {
	var changes []Change
	a, series := New(rule, from), NewSeries(rule, from)
	for now := rule.Next(from); !now.After(to); now = rule.Next(now) {
		for len(samples) > 0 && !samples[0].at.After(now) {
			series.Add(samples[0].at, samples[0].due, samples[0].value)
			samples = samples[1:]
		}
		var change *Change
		if a, change = step(a, now, series.Window(now)); change != nil {
			changes = append(changes, *change)
		}
	}
	return changes
}

// transition is the part of a change that tables compare.
type transition struct {
	At   string
	From State
	To   State
}

func transitions(changes []Change) []transition {
	var all []transition
	for _, change := range changes {
		all = append(all, transition{change.At.Format("15:04:05.000"), change.From, change.To})
	}
	return all
}

// articleDay is 25 November 2018, when the article's alarm was seen to fire.
func articleDay(hour, minute int) time.Time {
	return time.Date(2018, 11, 25, hour, minute, 0, 0, time.UTC)
}

func articleRule(t testing.TB) Rule {
	rule := mustCompile(t, drill.Alarm{
		Name: "bookstore-api-green-db-connectivity-failed", Metric: "db-connectivity", Average: "< 1",
		Datapoints: drill.Datapoints{M: 2, N: 2},
	}, drill.Metric{Connect: "db"})
	rule.Grace = 9620 * time.Millisecond // the evaluator that the article watched ran at this second of the minute
	return rule
}

func articleSamples() []arrival {
	var samples []arrival
	for i, value := range []float64{1, 1, 1, .25, 0, 0, 0, .8, 1, 1} {
		due := articleDay(21, 15+i)
		samples = append(samples, arrival{due.Add(30 * time.Second), due, value})
	}
	return samples
}

func TestArticleAlarmRaisesAndClearsWhenItDid(t *testing.T) {
	got := run(articleRule(t), articleDay(21, 16), articleDay(21, 25), articleSamples())
	want := []transition{
		{"21:16:09.620", Insufficient, OK},
		{"21:20:09.620", OK, Raised},
		{"21:24:09.620", Raised, OK},
	}
	if diff := cmp.Diff(want, transitions(got)); diff != "" {
		t.Fatal(diff)
	}
	reasons := []string{
		"Threshold Crossed: 2 out of the last 2 datapoints [0.0 (25/11/18 21:19:00), 0.25 (25/11/18 21:18:00)] were less than the threshold (1.0) " +
			"(minimum 2 datapoints for OK -> ALARM transition).",
		"Threshold Crossed: 1 out of the last 2 datapoints [1.0 (25/11/18 21:23:00)] was not less than the threshold (1.0) " +
			"(minimum 1 datapoint for ALARM -> OK transition).",
	}
	for i, want := range reasons {
		if got := got[i+1].Reason; got != want {
			t.Errorf("reason %d:\n got %s\nwant %s", i, got, want)
		}
	}
}

func TestReasonDataHasCloudWatchShape(t *testing.T) {
	changes := run(articleRule(t), articleDay(21, 16), articleDay(21, 21), articleSamples())
	want := `{"version":"1.0","queryDate":"2018-11-25T21:20:09.620+0000","startDate":"2018-11-25T21:18:00.000+0000",` +
		`"statistic":"Average","period":60,"recentDatapoints":[0.25,0],"threshold":1,"evaluatedDatapoints":[` +
		`{"timestamp":"2018-11-25T21:19:00.000+0000","sampleCount":1,"value":0},` +
		`{"timestamp":"2018-11-25T21:18:00.000+0000","sampleCount":1,"value":0.25}]}`
	if diff := cmp.Diff(want, string(changes[1].ReasonData)); diff != "" {
		t.Fatal(diff)
	}
	var any map[string]json.RawMessage
	if err := json.Unmarshal(changes[0].ReasonData, &any); err != nil {
		t.Fatal(err)
	}
}

func TestReasonsForMissingDataAreWordedAsCloudWatchDoes(t *testing.T) {
	for _, row := range []struct {
		m, n    int
		missing Missing
		before  State
		drawing string
		want    string
	}{
		{1, 1, MissingIsBreaching, OK, "- - -", "Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint was treated as [Breaching]."},
		{3, 3, MissingIsBreaching, OK, "- - - - -", "Threshold Crossed: no datapoints were received for 3 periods and 3 missing datapoints were treated as [Breaching]."},
		{2, 3, MissingIsBreaching, OK, "- - - X -", "Threshold Crossed: 1 datapoint was received for 3 periods and 2 missing datapoints were treated as [Breaching]."},
		{2, 2, MissingIsNotBreaching, Raised, "- - - -", "Threshold Crossed: no datapoints were received for 2 periods and 2 missing datapoints were treated as [NonBreaching]."},
		{1, 1, MissingIsMissing, OK, "- - -", "Insufficient Data: 1 datapoint was unknown."},
		{2, 2, MissingIsMissing, Raised, "- - - -", "Insufficient Data: 2 datapoints were unknown."},
	} {
		a := New(connectivity(row.m, row.n, row.missing), articleDay(21, 0))
		a.State = row.before
		_, change := Step(a, articleDay(21, 10), windowOf(t, row.drawing))
		if change == nil {
			t.Errorf("%+v: no change", row)
		} else if change.Reason != row.want {
			t.Errorf("%+v:\n got %s\nwant %s", row, change.Reason, row.want)
		}
	}
}

// An alarm whose metric stops judges by what it last knew until that has left the range: R = N+2 periods.
func TestStoppedMetricIsNoticedAfterTheWholeRange(t *testing.T) {
	for _, missing := range []Missing{MissingIsBreaching, MissingIsMissing} {
		for n := 1; n <= 4; n++ {
			rule := connectivity(n, n, missing)
			var samples []arrival
			begin := articleDay(10, 0)
			for i := range 10 {
				due := begin.Add(time.Duration(i) * time.Minute)
				samples = append(samples, arrival{due, due, goodValue})
			}
			changes := run(rule, begin.Add(5*time.Minute), begin.Add(time.Hour), samples)
			last := changes[len(changes)-1]
			periods := int(last.At.Sub(begin.Add(10*time.Minute)) / time.Minute)
			want := map[Missing]State{MissingIsBreaching: Raised, MissingIsMissing: Insufficient}[missing]
			if periods != n+2 || last.To != want {
				t.Errorf("%s, %d of %d: %s after %d periods, want %s after %d", missing, n, n, last.To, periods, want, n+2)
			}
		}
	}
}

func TestValueZeroIsData(t *testing.T) {
	rule := mustCompile(t, drill.Alarm{Name: "a", Minimum: ">= 0", Period: drill.Seconds(time.Second)}, drill.Metric{})
	at := articleDay(10, 0)
	series := NewSeries(rule, at)
	series.Add(at, at, 0)
	now := rule.Next(at.Add(time.Second))
	a, change := Step(New(rule, at), now, series.Window(now))
	if a.State != Raised || change == nil {
		t.Fatalf("state %s after the value 0, want %s", a.State, Raised)
	}
}

func TestLateDatapointCountsWhileItsPeriodIsInRange(t *testing.T) {
	rule := connectivity(2, 2, MissingIsIgnored)
	begin := articleDay(10, 0)
	at := func(minute, second int) time.Time {
		return begin.Add(time.Duration(minute)*time.Minute + time.Duration(second)*time.Second)
	}
	samples := []arrival{
		{at(0, 1), at(0, 0), 1}, {at(1, 1), at(1, 0), 1},
		{at(3, 1), at(3, 0), 0},
		{at(5, 30), at(2, 0), 0}, // 2.5 minutes late
	}
	got := transitions(run(rule, begin.Add(time.Minute), at(7, 0), samples))
	want := []transition{{"10:02:00.000", Insufficient, OK}, {"10:06:00.000", OK, Raised}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestSampleOutOfReachIsRefused(t *testing.T) {
	rule := connectivity(2, 2, MissingIsMissing)
	now := articleDay(10, 0)
	series := NewSeries(rule, now)
	for _, row := range []struct {
		at   time.Time
		want bool
	}{
		{now, true}, {now.Add(-4 * time.Minute), true}, {now.Add(time.Minute), true},
		{now.Add(-24 * time.Hour), false}, {now.Add(24 * time.Hour), false},
	} {
		if got := series.Add(now, row.at, 1); got != row.want {
			t.Errorf("Add at %s: %t, want %t", row.at, got, row.want)
		}
	}
}

func TestSeriesStaysSmallAndForgets(t *testing.T) {
	rule := connectivity(3, 3, MissingIsMissing)
	begin := articleDay(0, 0)
	series := NewSeries(rule, begin)
	size := len(series.ring)
	for i := range 1000 {
		at := begin.Add(time.Duration(i) * time.Minute)
		if i%3 == 0 { // what is left out must not show what lay there a round before
			series.Add(at, at, 1)
		}
		for _, p := range series.Window(at) {
			if (indexOf(p.Start, rule.Period)-indexOf(begin, rule.Period))%3 != 0 && !p.Missing() {
				t.Fatalf("at %s the period of %s holds samples, and none was sent", at, p.Start)
			}
		}
	}
	if len(series.ring) != size {
		t.Errorf("%d periods are held, %d in the beginning", len(series.ring), size)
	}
}

func statusCheck(t testing.TB) Rule {
	return mustCompile(t, drill.Alarm{
		Name: "green-StatusCheckFailed", Host: "green", Metric: "status-check", Missing: "breaching",
		Period: drill.Seconds(time.Second), Datapoints: drill.Datapoints{M: 3, N: 3},
	}, drill.Metric{Name: "status-check", Heartbeat: true})
}

// beats are four a second from one time until another, each arriving 2 ms after it was due.
func beats(from, to time.Time) []arrival {
	var all []arrival
	for at := from; at.Before(to); at = at.Add(250 * time.Millisecond) {
		all = append(all, arrival{at.Add(2 * time.Millisecond), at, 0})
	}
	return all
}

func TestSilentHostIsNoticedAfterThreePeriodsWhereverItDies(t *testing.T) {
	rule, begin := statusCheck(t), articleDay(12, 0)
	for offset := time.Duration(0); offset < time.Second; offset += 50 * time.Millisecond {
		death := begin.Add(time.Minute + offset)
		changes := run(rule, begin, death.Add(time.Minute), beats(begin.Add(700*time.Millisecond), death))
		if len(changes) != 2 || changes[0].To != OK || changes[1].To != Raised {
			t.Fatalf("death %s into a period: %v", offset, transitions(changes))
		}
		// Two whole periods at least, or a single lost beat would do; never the N+2 periods of a metric that merely stops.
		if took := changes[1].At.Sub(death); took <= 2*time.Second || took > 4500*time.Millisecond {
			t.Errorf("death %s into a period: raised after %s", offset, took)
		}
	}
}

func TestReturningHostClearsItsAlarm(t *testing.T) {
	rule, begin := statusCheck(t), articleDay(12, 0)
	samples := append(beats(begin, begin.Add(time.Minute)), beats(begin.Add(90*time.Second), begin.Add(2*time.Minute))...)
	got := transitions(run(rule, begin, begin.Add(110*time.Second), samples))
	want := []transition{
		{"12:00:01.250", Insufficient, OK}, {"12:01:03.250", OK, Raised}, {"12:01:31.250", Raised, OK},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestHeartbeatWithoutSilenceAsDataIsTooSlow(t *testing.T) {
	// The twin: the same alarm with absence judged as any metric that stops. It must not pass for prompt.
	rule, begin := statusCheck(t), articleDay(12, 0)
	rule.Heartbeat = false
	changes := run(rule, begin, begin.Add(2*time.Minute), beats(begin, begin.Add(time.Minute)))
	if took := changes[len(changes)-1].At.Sub(begin.Add(time.Minute)); took <= 4500*time.Millisecond {
		t.Fatalf("raised after %s; the comparison proves nothing", took)
	}
}

func TestNewWatchDoesNotTakeHostsForDead(t *testing.T) {
	rule, begin := statusCheck(t), articleDay(12, 0)
	first := begin.Add(8 * time.Second)
	got := transitions(run(rule, begin, begin.Add(30*time.Second), beats(first, begin.Add(time.Minute))))
	if diff := cmp.Diff([]transition{{"12:00:09.250", Insufficient, OK}}, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestMissingDataBeforeTheFirstDoesNotRaise(t *testing.T) {
	begin := articleDay(12, 0)
	heartbeat := statusCheck(t)
	heartbeat.M = 1 // a single missing period would be enough
	connect := connectivity(1, 3, MissingIsBreaching)
	connect.Period = time.Second
	for name, rule := range map[string]Rule{"heartbeat": heartbeat, "connectivity": connect} {
		var samples []arrival
		for at := begin.Add(5 * time.Second); at.Before(begin.Add(time.Minute)); at = at.Add(250 * time.Millisecond) {
			samples = append(samples, arrival{at, at, goodValue})
		}
		changes := run(rule, begin, begin.Add(50*time.Second), samples)
		if len(changes) != 1 || changes[0].To != OK {
			t.Errorf("%s: %v, want only the change to OK", name, transitions(changes))
		}
		// The same without the allowance: the first evaluation raises, which is what CloudWatch does to a new alarm.
		if outcome := Evaluate(rule, Insufficient, make([]Datapoint, rule.Range())); outcome.State != Raised {
			t.Errorf("%s: %s without the allowance: the test proves nothing", name, outcome.State)
		}
	}
}

func TestHostThatNeverBeatsIsRaisedInTheEnd(t *testing.T) {
	rule, begin := statusCheck(t), articleDay(12, 0)
	got := run(rule, begin, begin.Add(time.Minute), nil)
	if len(got) != 1 || got[0].To != Raised {
		t.Fatalf("changes %v, want one to %s", transitions(got), Raised)
	}
	if wait := got[0].At.Sub(begin); wait < firstDataAllowance {
		t.Fatalf("raised after %s, before the allowance of %s was over", wait, firstDataAllowance)
	}
}

func TestDisabledAlarmKeepsItsStateAndSaysSo(t *testing.T) {
	rule := connectivity(1, 1, MissingIsBreaching)
	rule.Disabled = true
	for _, before := range states {
		a := New(rule, articleDay(10, 0))
		a.State = before
		after, change := Step(a, articleDay(10, 1), windowOf(t, "X X X"))
		if change != nil || after.State != before {
			t.Errorf("from %s: now %s, change %v", before, after.State, change)
		}
		if !strings.Contains(after.Detail, "disabled") {
			t.Errorf("from %s: detail %q does not say that it is disabled", before, after.Detail)
		}
	}
}

func TestKeptStateIsExplained(t *testing.T) {
	a := New(connectivity(2, 2, MissingIsMissing), articleDay(10, 0))
	a.State = OK
	after, change := Step(a, articleDay(10, 5), windowOf(t, "- - - X"))
	if change != nil || !strings.Contains(after.Detail, "stays OK") {
		t.Fatalf("change %v, detail %q", change, after.Detail)
	}
}

// dayOutage is a day of 1 s samples of which 240 s fail.
func dayOutage() (rule Rule, begin, end time.Time, samples []arrival) {
	rule = Rule{
		Name: "db", Statistic: Average, Operator: Less, Threshold: 1, Period: 5 * time.Second, M: 2, N: 2,
		Missing: MissingIsMissing, Grace: 750 * time.Millisecond,
	}
	begin = articleDay(0, 0)
	end = begin.Add(24 * time.Hour)
	cut, healed := begin.Add(10*time.Hour+2*time.Second), begin.Add(10*time.Hour+242*time.Second)
	for at := begin; at.Before(end); at = at.Add(time.Second) {
		value, took := float64(goodValue), 2*time.Millisecond
		if !at.Before(cut) && at.Before(healed) {
			value, took = breachingValue, 500*time.Millisecond
		}
		samples = append(samples, arrival{at.Add(took), at, value})
	}
	return rule, begin, end, samples
}

func TestDayWithOneOutageHasOneAlarm(t *testing.T) {
	rule, begin, end, samples := dayOutage()
	got := transitions(run(rule, begin, end, samples))
	want := []transition{
		{"00:00:05.750", Insufficient, OK}, {"10:00:10.750", OK, Raised}, {"10:04:10.750", Raised, OK},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

func TestNextFollowsThePublishedCadence(t *testing.T) {
	begin := articleDay(10, 0)
	for _, row := range []struct {
		period time.Duration
		n      int
		want   string
	}{
		{time.Second, 1, "10:00:01.250"},
		{5 * time.Second, 2, "10:00:05.250"},
		{10 * time.Second, 1, "10:00:10.250"},
		{30 * time.Second, 1, "10:00:10.250"},
		{time.Minute, 1, "10:01:00.250"},
		{5 * time.Minute, 3, "10:01:00.250"},
		{time.Hour, 48, "11:00:00.250"},
	} {
		rule := Rule{Period: row.period, N: row.n, M: 1, Grace: transportGrace}
		if got := rule.Next(begin.Add(transportGrace)).Format("15:04:05.000"); got != row.want {
			t.Errorf("period %s: next at %s, want %s", row.period, got, row.want)
		}
	}
}

func TestWindowHoldsOnlyCompletePeriods(t *testing.T) {
	rule := connectivity(1, 1, MissingIsMissing)
	rule.Grace = 5 * time.Second
	begin := articleDay(10, 0)
	series := NewSeries(rule, begin)
	for i := range 5 {
		at := begin.Add(time.Duration(i) * time.Minute)
		series.Add(at, at, 1)
	}
	for _, row := range []struct {
		now  time.Time
		want string
	}{
		{articleDay(10, 4).Add(4 * time.Second), "10:02"},
		{articleDay(10, 4).Add(5 * time.Second), "10:03"},
	} {
		window := series.Window(row.now)
		if got := window[len(window)-1].Start.Format("15:04"); got != row.want || len(window) != rule.Range() {
			t.Errorf("at %s: newest period %s of %d, want %s of %d", row.now, got, len(window), row.want, rule.Range())
		}
	}
}

func TestStatisticsAggregateOnePeriod(t *testing.T) {
	var point Datapoint
	for _, value := range []float64{2, -1, 5} {
		point = point.add(value)
	}
	for statistic, want := range map[Statistic]float64{Average: 2, Minimum: -1, Maximum: 5, Sum: 6, SampleCount: 3} {
		if got := point.Value(statistic); got != want {
			t.Errorf("%s = %g, want %g", statistic, got, want)
		}
	}
}

func TestNumbersPrintAsInCloudWatch(t *testing.T) {
	for value, want := range map[float64]string{0: "0.0", .25: "0.25", 1: "1.0", -3: "-3.0", 1e7: "1.0E7", 1.5e-5: "1.5E-5", 0.0666851903306472: "0.0666851903306472"} {
		if got := number(value); got != want {
			t.Errorf("%g prints %s, want %s", value, got, want)
		}
	}
}

func TestCompileNamesTheMistakeAndTheCure(t *testing.T) {
	two := drill.Datapoints{M: 2, N: 2}
	for _, row := range []struct {
		alarm  drill.Alarm
		metric drill.Metric
		want   string
	}{
		{drill.Alarm{Average: "= 1"}, drill.Metric{}, "not a comparison"},
		{drill.Alarm{Average: "< x"}, drill.Metric{}, "not a comparison"},
		{drill.Alarm{Average: "< NaN"}, drill.Metric{}, "not a comparison"},
		{drill.Alarm{}, drill.Metric{}, "compares nothing"},
		{drill.Alarm{Average: "< 1", Maximum: "> 1"}, drill.Metric{}, "more than once"},
		{drill.Alarm{Average: "< 1", Missing: "zero"}, drill.Metric{}, "notBreaching"},
		{drill.Alarm{Average: "< 1", Period: drill.Seconds(500 * time.Millisecond)}, drill.Metric{}, "1s or more"},
		{drill.Alarm{Average: "< 1", Period: drill.Seconds(1500 * time.Millisecond)}, drill.Metric{}, "whole number"},
		{drill.Alarm{Average: "< 1", Datapoints: drill.Datapoints{M: 3, N: 2}}, drill.Metric{}, "M of N"},
		{drill.Alarm{Average: "< 1", Datapoints: drill.Datapoints{M: 1, N: 1441}}, drill.Metric{}, "24h"},
		{drill.Alarm{Average: "< 1", Datapoints: two}, drill.Metric{}, ""},
		{drill.Alarm{Missing: "breaching"}, drill.Metric{}, ""},
		{drill.Alarm{}, drill.Metric{Heartbeat: true}, ""},
	} {
		_, err := Compile(row.alarm, row.metric)
		switch {
		case row.want == "" && err != nil:
			t.Errorf("%+v: %v", row.alarm, err)
		case row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)):
			t.Errorf("%+v: error %v, want one with %q", row.alarm, err, row.want)
		}
	}
}

func TestCompileTakesDefaults(t *testing.T) {
	got := mustCompile(t, drill.Alarm{Name: "a", Metric: "m", Average: "<1"}, drill.Metric{Timeout: drill.Seconds(time.Second)})
	want := Rule{
		Name: "a", Metric: "m", Statistic: Average, Operator: Less, Threshold: 1, Period: time.Minute, M: 1, N: 1,
		Missing: MissingIsMissing, Grace: transportGrace + time.Second,
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Rule{})); diff != "" {
		t.Fatal(diff)
	}
}

func FuzzParseComparison(f *testing.F) {
	for _, seed := range []string{"< 1", "<= 1", ">0.5", ">= -3e2", "=1", "", "<", "< <1", "< NaN", "< Inf"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		operator, threshold, err := ParseComparison(text)
		if err != nil {
			return
		}
		again, same, err := ParseComparison(string(operator) + " " + number(threshold))
		if err != nil || again != operator || same != threshold {
			t.Fatalf("%q reads as %s %g, printed and read again as %s %g, %v", text, operator, threshold, again, same, err)
		}
	})
}

func BenchmarkDayOfEvaluation(b *testing.B) {
	rule, begin, end, samples := dayOutage()
	for b.Loop() {
		run(rule, begin, end, samples)
	}
}
