package alarm

import (
	"math"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
)

// What lies at the borders of rules that other tests play through.

func TestAbsenceIsLookedForInTime(t *testing.T) {
	rule := absence(t) // 2 s, and 250 ms for the transport
	begin := articleDay(0, 0)
	for _, row := range []struct {
		name        string
		last, after time.Duration // of the last beat; how long after it we ask. A negative last: there was none
		want        time.Duration // after we ask
	}{
		{"no beat yet", -1, time.Hour, absenceEvery},
		{"far from due", 0, time.Second, absenceEvery},
		{"due before the next look", 0, 2100 * time.Millisecond, 150 * time.Millisecond},
		{"due at the next look", 0, 2 * time.Second, absenceEvery},
		{"due now", 0, 2250 * time.Millisecond, absenceEvery},
		{"due a moment ago", 0, 2250*time.Millisecond + 1, absenceEvery},
		{"due in a moment", 0, 2250*time.Millisecond - 1, 1},
	} {
		series := NewSeries(rule, begin)
		if row.last >= 0 && !series.Add(begin.Add(row.last), begin.Add(row.last), 1) {
			t.Fatal("the beat is refused")
		}
		now := begin.Add(max(row.last, 0) + row.after)
		if got := NextAbsence(rule, series, now).Sub(now); got != row.want {
			t.Errorf("%s: looked again after %s, want %s", row.name, got, row.want)
		}
	}
}

func TestAbsenceWaitsForTheFirstAndKeepsWhenDisabled(t *testing.T) {
	rule := absence(t)
	begin := articleDay(0, 0)
	a, series := New(rule, begin), NewSeries(rule, begin)
	a, change := StepAbsence(a, begin.Add(firstDataAllowance), series)
	if change != nil || a.Detail != "waiting for the first sample" {
		t.Errorf("before the first beat: %+v, %q", change, a.Detail)
	}
	a, change = StepAbsence(a, begin.Add(firstDataAllowance+rule.Grace), series)
	if change == nil || change.To != Raised || a.Detail != "" || strings.Contains(string(change.ReasonData), "lastDatapoint") || !strings.Contains(change.Reason, "there never was one") {
		t.Errorf("when none came: %+v, %q", change, a.Detail)
	}
	rule.Disabled = true
	off := New(rule, begin)
	off.State, off.Detail = OK, ""
	if off, change = StepAbsence(off, begin.Add(time.Hour), series); change != nil || off.State != OK || off.Detail != disabledDetail {
		t.Errorf("disabled: %+v, %s %q", change, off.State, off.Detail)
	}
}

// Beats that have come again for long enough clear an alarm only while they still come: at the very moment at which the silence is too long
// again it stays.
func TestAbsenceDoesNotClearIntoSilence(t *testing.T) {
	rule := absence(t)
	begin := articleDay(0, 0)
	for late, want := range map[time.Duration]State{-1: OK, 0: Raised} {
		a, series := New(rule, begin), NewSeries(rule, begin)
		a.State = Raised
		for at := time.Duration(0); at <= 3*time.Second; at += time.Second {
			series.Add(begin.Add(at), begin.Add(at), 1)
		}
		if a, _ = StepAbsence(a, begin.Add(3*time.Second+rule.Absent+rule.Grace+late), series); a.State != want {
			t.Errorf("%s from the end of what is allowed it is %s, want %s", late, a.State, want)
		}
	}
}

func TestBeatsOfAnotherTimeSayNothing(t *testing.T) {
	rule := absence(t)
	now := articleDay(1, 0)
	for late, taken := range map[time.Duration]bool{
		0: true, -2 * time.Second: true, -2*time.Second - 1: false, 4 * time.Second: true, 4*time.Second + 1: false,
	} {
		if got := NewSeries(rule, now).Add(now, now.Add(-late), 1); got != taken {
			t.Errorf("a beat that is %s late: taken %t, want %t", late, got, taken)
		}
	}
	series := NewSeries(rule, now)
	for _, at := range []time.Duration{0, time.Second, 500 * time.Millisecond} { // the last one comes out of order
		series.Add(now.Add(time.Second), now.Add(at), 1)
	}
	if !series.last.Equal(now.Add(time.Second)) || !series.run.Equal(now) || len(series.Window(now)) != 0 {
		t.Errorf("last %s, run from %s, window %v", series.last, series.run, series.Window(now))
	}
	series.Add(now.Add(3*time.Second), now.Add(3*time.Second), 1) // exactly as long as is allowed: no gap
	if !series.run.Equal(now) {
		t.Errorf("a pause as long as is allowed begins a new run at %s", series.run)
	}
	series.Add(now.Add(6*time.Second), now.Add(5*time.Second+1), 1)
	if !series.run.Equal(now.Add(5*time.Second + 1)) {
		t.Errorf("after a gap the run begins at %s", series.run)
	}
}

func TestOddSamplesAreRefused(t *testing.T) {
	rule := connectivity(1, 1, MissingIsMissing)
	now := articleDay(10, 0)
	for _, row := range []struct {
		value, weight float64
		taken         bool
	}{
		{1, 1, true}, {-1, 0.5, true}, {0, math.SmallestNonzeroFloat64, true}, {math.NaN(), 1, false}, {math.Inf(1), 1, false}, {math.Inf(-1), 1, false},
		{1, 0, false}, {1, -1, false}, {1, math.NaN(), false}, {1, math.Inf(1), false},
	} {
		if got := NewSeries(rule, now).AddWeighted(now, now, row.value, row.weight); got != row.taken {
			t.Errorf("value %g, weight %g: taken %t, want %t", row.value, row.weight, got, row.taken)
		}
	}
	series := NewSeries(rule, now)
	series.AddWeighted(now, now, 4, 1)
	series.AddWeighted(now, now, 1, 3)
	window := series.Window(now.Add(time.Minute + rule.Grace))
	if got := window[len(window)-1]; got.Value(Average) != 1.75 || got.Value(SampleCount) != 4 || got.Value(Sum) != 7 || got.Value("p99") != 0 {
		t.Errorf("one sample for three: %+v", got)
	}
	for _, statistic := range simple {
		if got := (Datapoint{}).Value(statistic); got != 0 {
			t.Errorf("%s of nothing is %g", statistic, got)
		}
	}
}

// Before 1970 periods are numbered downwards all the same.
func TestPeriodsAreNumberedOnBothSidesOfTheEpoch(t *testing.T) {
	for at, want := range map[time.Duration]int64{0: 0, 59 * time.Second: 0, time.Minute: 1, -1: -1, -time.Minute: -1, -time.Minute - 1: -2} {
		if got := indexOf(time.Unix(0, int64(at)), time.Minute); got != want {
			t.Errorf("%s from the epoch is period %d, want %d", at, got, want)
		}
	}
	rule := Rule{Period: time.Minute, N: 3, M: 1, Operator: Less, Statistic: Average, Missing: MissingIsMissing}
	begin := time.Unix(0, 0).Add(-10 * time.Minute)
	series := NewSeries(rule, begin)
	for i := range 20 {
		at := begin.Add(time.Duration(i) * time.Minute)
		if !series.Add(at, at, float64(i)) {
			t.Fatalf("the sample at %s is refused", at)
		}
		for back, point := range series.Window(at.Add(time.Minute)) {
			if age := rule.Range() - 1 - back; age <= i && (point.Missing() || point.Value(Average) != float64(i-age)) {
				t.Fatalf("at %s the period %d before is %+v", at, age, point)
			}
		}
	}
}

func TestPeriodsAreThoseOfTheWindow(t *testing.T) {
	rule := connectivity(1, 3, MissingIsMissing)
	rule.Grace = 5 * time.Second
	for _, now := range []time.Time{articleDay(10, 4), articleDay(10, 4).Add(5*time.Second - 1), articleDay(10, 4).Add(5 * time.Second), time.Unix(-90, 0)} {
		starts, window := rule.Periods(now), NewSeries(rule, now).Window(now)
		if len(starts) != rule.N+rangeBeyond || len(window) != len(starts) {
			t.Fatalf("%d periods and a window of %d, want %d", len(starts), len(window), rule.N+rangeBeyond)
		}
		for i := range starts {
			if !starts[i].Equal(window[i].Start) {
				t.Errorf("at %s period %d begins at %s, in the window at %s", now, i, starts[i], window[i].Start)
			}
		}
	}
	if got := rule.Periods(articleDay(10, 4).Add(5 * time.Second)); !got[len(got)-1].Equal(articleDay(10, 3)) {
		t.Errorf("the newest complete period begins at %s", got[len(got)-1])
	}
}

func TestExpressionsOfStatesThatNobodyIsIn(t *testing.T) {
	states := map[string]State{"a": OK, "b": Insufficient}
	for text, want := range map[string]struct {
		holds   bool
		because string
	}{
		"ALARM(a) OR ALARM(b)":                          {false, ""},
		"OK(a) OR ALARM(b) OR INSUFFICIENT_DATA(b)":     {true, "a b"},
		"OK(a) OR OK(a)":                                {true, "a"},
		"NOT OK(a)":                                     {false, "a"},
		"AT_LEAST(1, OK, (a, b)) OR FALSE":              {true, "a"},
		"AT_LEAST(2, OK, (a, b)) AND TRUE":              {false, "a"},
		"AT_LEAST(50%, INSUFFICIENT_DATA, (a, b))":      {true, "b"},
		"AT_LEAST(51%, INSUFFICIENT_DATA, (a, b))":      {false, "b"},
		"AT_LEAST(1%, INSUFFICIENT_DATA, (a, b))":       {true, "b"},
		"TRUE AND FALSE OR NOT (OK(b) OR ALARM(a))":     {true, ""},
		`ALARM("a") OR INSUFFICIENT_DATA("b") AND TRUE`: {true, "b"},
	} {
		expression, err := ParseExpression(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(expression.Because(states), " "); expression.Holds(states) != want.holds || got != want.because {
			t.Errorf("%s: %t because of %q, want %t because of %q", text, expression.Holds(states), got, want.holds, want.because)
		}
	}
	for text, want := range map[string]string{
		"TRUE OR":                     "column 8",
		"TRUE OR x":                   "column 9",
		"TRUE AND x":                  "column 10",
		"(x":                          "column 2",
		"AT_LEAST 1":                  "column 10",
		"AT_LEAST(1 ALARM":            "column 12",
		"AT_LEAST(1, ALARM (a))":      "column 19",
		"AT_LEAST(1, ALARM, a)":       "column 20",
		"AT_LEAST(1, ALARM, (a,":      "column 23",
		"AT_LEAST(1, ALARM, (a, b":    `write ")"`,
		"AT_LEAST(1, ALARM, (a, b)":   `write ")"`,
		"AT_LEAST(x, ALARM, (a, b))":  "column 10",
		"AT_LEAST(3, ALARM, (a, b))":  "write 1 to 2",
		"AT_LEAST(x%, ALARM, (a, b))": "no share",
		"ALARM(a":                     `write ")"`,
		"ALARM((":                     "the name of an alarm",
		`OK("`:                        "column 4: the quote is not closed",

		strings.Repeat("NOT ", nestingMax) + "TRUE": "column 257: more than 64 parts",
	} {
		if _, err := ParseExpression(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	// The most parts and the deepest nesting that there may be, and one more.
	for text, good := range map[string]bool{
		strings.Repeat("NOT ", nestingMax-1) + "TRUE": true, strings.Repeat("NOT ", nestingMax) + "TRUE": false,
		strings.Repeat("TRUE OR ", elementsMax-1) + "TRUE": true, strings.Repeat("TRUE AND ", elementsMax) + "TRUE": false,
		"AT_LEAST(1, OK, (a" + strings.Repeat(", a", elementsMax-2) + "))": true, "AT_LEAST(1, OK, (a" + strings.Repeat(", a", elementsMax-1) + "))": false,
	} {
		if _, err := ParseExpression(text); (err == nil) != good {
			t.Errorf("%.30s... of %d bytes: %v", text, len(text), err)
		}
	}
	c := composite(t, "gone", "ALARM(nobody) OR OK(a)")
	if _, change := StepComposite(c, start, states); change == nil || !strings.Contains(change.Reason, "nobody is not there, a is OK") || string(change.ReasonData) != `{"triggeringAlarms":[{"name":"a","state":"OK"}]}` {
		t.Errorf("a child that is not there: %+v", change)
	}
}

func TestReasonsTellHowMissingDataWasTreated(t *testing.T) {
	for _, row := range []struct {
		missing Missing
		drawing string
		before  State
		want    string
	}{
		{MissingIsNotBreaching, "- - - - -", Raised, "Threshold Crossed: no datapoints were received for 3 periods and 3 missing datapoints were treated as [NonBreaching]."},
		{MissingIsBreaching, "- - - - -", OK, "Threshold Crossed: no datapoints were received for 3 periods and 3 missing datapoints were treated as [Breaching]."},
		{MissingIsBreaching, "- - - - X", OK, "Threshold Crossed: 1 datapoint was received for 3 periods and 2 missing datapoints were treated as [Breaching]."},
		{MissingIsMissing, "- - - - -", OK, "Insufficient Data: 3 datapoints were unknown."},
		{MissingIsMissing, "- X - - -", OK, "was less than the threshold (1.0) (minimum 2 datapoints for OK -> ALARM transition). No datapoint came after, and the oldest is at least 2 periods old."},
	} {
		a := New(connectivity(2, 3, row.missing), articleDay(0, 0))
		a.State = row.before
		if _, change := Step(a, articleDay(10, 5), windowOf(t, row.drawing)); change == nil || !strings.Contains(change.Reason, row.want) {
			t.Errorf("%s, %q: %+v\nwant %s", row.missing, row.drawing, change, row.want)
		}
	}
	for _, row := range []struct {
		rule    Rule
		window  []Datapoint
		want    string
		keeping State
	}{
		{connectivity(2, 3, MissingIsIgnored), windowOf(t, "- - - - -"), "no datapoints in the last 5 periods; missing data is ignored, so the state stays OK", OK},
		{connectivity(2, 3, MissingIsIgnored), windowOf(t, "- - - - X"), "only 1 breaching datapoint in the last 5 periods, too few to decide; the state stays ALARM", Raised},
		{latencyRule(t, "ignore"), fewSamples("0 0 0 f f"), "p90 of fewer than 100.0 samples is not gone by; the state stays OK", OK},
	} {
		a := New(row.rule, articleDay(0, 0))
		a.State = row.keeping
		if a, change := Step(a, articleDay(10, 5), row.window); change != nil || a.Detail != row.want {
			t.Errorf("%+v, %q, want %q", change, a.Detail, row.want)
		}
	}
	if oldestAge(windowOf(t, "- - -")) != 0 || oldestAge(windowOf(t, "- X -")) != 2 {
		t.Error("the oldest datapoint has another age")
	}
	for value, want := range map[float64]string{-1e7: "-1.0E7", 9999999: "9999999.0", 0.001: "0.001", 0.00099: "9.9E-4", -2.5e-5: "-2.5E-5", 1.25e300: "1.25E300", math.Inf(1): "+INF.0"} {
		if got := number(value); got != want && !math.IsInf(value, 0) {
			t.Errorf("%g prints %s, want %s", value, got, want)
		}
	}
}

func TestRulesSayWhatIsWrongWithThem(t *testing.T) {
	for _, row := range []struct {
		alarm drill.Alarm
		want  string
	}{
		{drill.Alarm{Statistic: "median", Is: "> 1"}, "statistic: "},
		{drill.Alarm{Statistic: "p99", Is: "1"}, "is: "},
		{drill.Alarm{Statistic: "p99", Is: "> 1", Average: "> 1"}, "more than once"},
		{drill.Alarm{Statistic: "p99", Is: "> 1", LowSamples: "drop"}, "low_samples"},
		{drill.Alarm{Average: "> 1e999"}, "not a comparison"},
		{drill.Alarm{Average: "> -Inf"}, "not a comparison"},
		{drill.Alarm{Average: "> 1", Period: drill.Seconds(time.Hour), Datapoints: drill.Datapoints{M: 1, N: 169}}, "168h"},
		{drill.Alarm{Average: "> 1", Period: drill.Seconds(time.Hour), Datapoints: drill.Datapoints{M: 1, N: 168}}, ""},
		{drill.Alarm{Average: "> 1", Datapoints: drill.Datapoints{M: 1, N: 1440}}, ""},
		{drill.Alarm{Average: "> 1", Datapoints: drill.Datapoints{M: -1, N: 2}}, "M of N"},
		{drill.Alarm{Average: "> 1", Period: drill.Seconds(time.Second)}, ""},
		{drill.Alarm{Statistic: "p99", Is: ">= 2", LowSamples: "ignore"}, ""},
		{drill.Alarm{Absent: drill.Seconds(time.Second), Average: "nothing that is read"}, ""},
	} {
		_, err := Compile(row.alarm, drill.Metric{Every: drill.Seconds(time.Second)})
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%+v: %v, want %q", row.alarm, err, row.want)
		}
	}
	for metric, grace := range map[*drill.Metric]time.Duration{
		{Timeout: drill.Seconds(3 * time.Second), Every: drill.Seconds(10 * time.Second)}: 3 * time.Second,
		{Every: drill.Seconds(4 * time.Second)}:                                           2 * time.Second,
		{}:                                                                                500 * time.Millisecond,
		{Heartbeat: true, Every: drill.Seconds(4 * time.Second)}: 0,
	} {
		rule, err := Compile(drill.Alarm{Average: "> 1"}, *metric)
		if err != nil || rule.Grace != transportGrace+grace {
			t.Errorf("%+v: a grace of %s, want %s (%v)", metric, rule.Grace, transportGrace+grace, err)
		}
	}
	for operator, want := range map[Operator][3]bool{Less: {true, false, false}, LessOrEqual: {true, true, false}, Greater: {false, false, true}, GreaterOrEqual: {false, true, true}, "=": {}} {
		for i, value := range []float64{1, 2, 3} {
			rule := Rule{Statistic: Average, Operator: operator, Threshold: 2}
			if got := rule.Breaches(Datapoint{}.add(value)); got != want[i] {
				t.Errorf("%g %s 2: %t", value, operator, got)
			}
		}
	}
	rule := mustCompile(t, drill.Alarm{Name: "a", Statistic: "p50", Is: "> 1"}, drill.Metric{})
	rule.SetStatistic(Sum)
	if got := rule.Value(Datapoint{}.add(2).add(3)); got != 5 || rule.extended != nil {
		t.Errorf("the sum is %g", got)
	}
}

func TestEvaluationsAreDueAtTheirCadence(t *testing.T) {
	at := articleDay(10, 0).Add(17 * time.Second)
	for _, row := range []struct {
		rule Rule
		want string
	}{
		{Rule{Period: 90 * time.Second, N: 1}, "10:00:20.000"}, // ten divides it
		{Rule{Period: 61 * time.Second, N: 1}, ""},             // nothing does
		{Rule{Period: 15 * time.Second, N: 1}, ""},             // nor here
		{Rule{Period: 20 * time.Second, N: 1}, "10:00:20.000"},
		{Rule{Period: time.Hour, N: 24}, "10:01:00.000"}, // a day exactly
		{Rule{Period: time.Hour, N: 25}, "11:00:00.000"},
		{Rule{Period: 2 * time.Minute, N: 1}, "10:01:00.000"},
		{Rule{Period: time.Second, N: 1}, "10:00:18.000"},
	} {
		if got := row.rule.Next(at).Format("15:04:05.000"); got != row.want && row.want != "" {
			t.Errorf("every %s: next at %s, want %s", row.rule.Period, got, row.want)
		}
		if next := row.rule.Next(at); !next.After(at) || next.Sub(at) > row.rule.cadence() || row.rule.Next(next.Add(-1)) != next || !row.rule.Next(next).After(next) {
			t.Errorf("every %s: after %s comes %s", row.rule.Period, at, next)
		}
	}
}

func TestStatisticsAtTheirBounds(t *testing.T) {
	for _, row := range []struct {
		name   string
		values []float64
		want   float64
	}{
		{"p50", nil, 0}, {"PR(1:2)", nil, 0}, {"TM(1:2)", nil, 0},
		{"PR(3:)", []float64{3, 4}, 50}, {"PR(:3)", []float64{3, 4}, 50}, {"PR(3:4)", []float64{3, 4, 5}, 100. / 3},
		{"TC(3:4)", []float64{3, 4, 5}, 1}, {"TS(3:5)", []float64{3, 4, 5}, 9}, {"TM(3:5)", []float64{3, 4, 5}, 4.5},
		{"WM(2:4)", []float64{1, 3, 9}, 3}, {"WM(2:)", []float64{1, 3, 9}, 14. / 3}, {"WM(:4)", []float64{1, 3, 9}, 8. / 3},
		{"TC(25%:)", []float64{1, 2}, 1.5}, {"TS(25%:)", []float64{1, 2}, 2.5}, {"TM(25%:75%)", []float64{1, 2}, 1.5}, {"TC(:25%)", []float64{1, 2}, .5},
		{"p0", []float64{2, 1}, 1}, {"p50", []float64{2, 1}, 1}, {"p50.1", []float64{2, 1}, 2}, {"p100", []float64{2, 1}, 2},
	} {
		e, err := parseExtended(row.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.of(distributionOf(row.values...)); math.Abs(got-row.want) > 1e-9 {
			t.Errorf("%s of %v is %g, want %g", row.name, row.values, got, row.want)
		}
		if row.values == nil && e.of(nil) != 0 {
			t.Errorf("%s of no distribution is %g", row.name, e.of(nil))
		}
	}
	for name, want := range map[string]float64{"p99": 1000, "p90": 100, "p50": 20, "p49": 1000. / 49, "p10": 100, "p0": math.Inf(1), "p100": math.Inf(1), "tm99": 0, "PR(1:2)": 0} {
		e, err := parseExtended(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.least(); math.Abs(got-want) > 1e-9 && !(math.IsInf(got, 1) && math.IsInf(want, 1)) {
			t.Errorf("%s needs %g samples, want %g", name, got, want)
		}
	}
	if (*extended)(nil).least() != 0 {
		t.Error("a simple statistic needs samples")
	}
	for _, bad := range []string{"TM(a:b)", "TM(1:x)", "TM(1:NaN)", "TM(Inf:)", "TM(1%:101%)", "TM(-1%:)", "TM(3:3)", "TM(:", "TM:3)", "TM(1)", "tm-1", "T", "PR(:)", "WM(5%:5)"} {
		if _, err := ParseStatistic(bad); err == nil {
			t.Errorf("%q is taken for a statistic", bad)
		}
	}
	for value, want := range map[float64]float64{0: 0, 1234: 1230, -1235.5: -1240, 0.00123456: 0.00123, math.MaxFloat64: math.MaxFloat64, math.SmallestNonzeroFloat64: math.SmallestNonzeroFloat64} {
		if got := rounded(value); math.Abs(got-want) > math.Abs(want)*.006 {
			t.Errorf("%g is rounded to %g, want %g", value, got, want)
		}
	}
	// Many values that are the same are one; too many different ones are rounded, and those that come later too.
	d := &distribution{}
	for i := range distinctMax {
		d.add(1000+float64(i), 1)
	}
	if d.coarse || len(d.weights) != distinctMax {
		t.Errorf("%d values, coarse %t", len(d.weights), d.coarse)
	}
	d.add(0.5, 1)
	d.add(1000.25, 2)
	if _, total := d.sorted(); !d.coarse || total != distinctMax+3 || d.weights[1000.25] != 0 {
		t.Errorf("coarse %t, total %g", d.coarse, total)
	}
}
