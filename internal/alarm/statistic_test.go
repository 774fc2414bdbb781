package alarm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"firedrill/internal/drill"
)

func distributionOf(values ...float64) *distribution {
	d := &distribution{}
	for _, v := range values {
		d.add(v, 1)
	}
	return d
}

func upTo(n int) []float64 {
	var all []float64
	for i := 1; i <= n; i++ {
		all = append(all, float64(i))
	}
	return all
}

// statisticRows are values that can be worked out by hand.
var statisticRows = []struct {
	name   string
	values []float64
	want   float64
}{
	{"p50", upTo(100), 50}, {"p95", upTo(100), 95}, {"p99.9", upTo(1000), 999}, {"p100", upTo(7), 7}, {"p0", upTo(7), 1}, {"p90", []float64{5}, 5},
	{"p99", append(upTo(99), 0), 98}, {"P99", upTo(100), 99},
	{"tm90", upTo(10), 5}, {"TM(:90%)", upTo(10), 5}, {"TM(10%:90%)", upTo(10), 5.5}, {"IQM", upTo(8), 4.5}, {"TM(2:4)", upTo(10), 3.5},
	{"tc90", upTo(10), 9}, {"TC(3:)", upTo(10), 7}, {"ts90", upTo(10), 45}, {"TS(80%:)", upTo(10), 19},
	{"wm80", upTo(10), (1 + 2 + 3 + 4 + 5 + 6 + 7 + 8 + 8 + 8) / 10.}, {"WM(10%:100%)", upTo(10), 5.5},
	{"PR(:3)", upTo(10), 30}, {"PR(3:5)", upTo(10), 20}, {"PR(8:)", upTo(10), 20}, {"TM(100:200)", upTo(10), 0},
	{"tm99", []float64{1}, 1},
}

// wrongStatistics returns what an implementation computes wrongly.
func wrongStatistics(of func(name string, d *distribution) float64) (wrong []string) {
	for _, row := range statisticRows {
		if got := of(row.name, distributionOf(row.values...)); math.Abs(got-row.want) > 1e-9 {
			wrong = append(wrong, fmt.Sprintf("%s of %v: %g, want %g", row.name, row.values, got, row.want))
		}
	}
	return wrong
}

func TestExtendedStatistics(t *testing.T) {
	for _, wrong := range wrongStatistics(func(name string, d *distribution) float64 {
		e, err := parseExtended(name)
		if err != nil {
			t.Fatal(err)
		}
		return e.of(d)
	}) {
		t.Error(wrong)
	}
}

// The twins: one that takes a rank too low, one that takes every trimmed mean for the mean, one that forgets weights at the bounds.
func TestStatisticTableCatchesBrokenTwins(t *testing.T) {
	for name, change := range map[string]func(e *extended){
		"takes percentiles one percent lower": func(e *extended) {
			if e.verb == "p" {
				e.to.at = max(0, e.to.at-1)
			}
		},
		"does not trim": func(e *extended) {
			if e.verb != "p" && e.verb != "PR" {
				e.from, e.to = bound{open: true}, bound{open: true}
			}
		},
		"takes trimming for pulling in": func(e *extended) {
			if e.verb == "TM" {
				e.verb = "WM"
			}
		},
	} {
		broken := func(name string, d *distribution) float64 {
			e, _ := parseExtended(name)
			change(e)
			return e.of(d)
		}
		if len(wrongStatistics(broken)) == 0 {
			t.Errorf("a statistic that %s passes", name)
		}
	}
}

func TestStatisticNames(t *testing.T) {
	for _, good := range []string{"Average", "average", "Sum", "SampleCount", "p99", "p99.99", "TM(5%:95%)", "tm90", "IQM", "PR(0.1:2)", "WM(:95%)"} {
		if _, err := ParseStatistic(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "p", "p101", "pNaN", "tm", "TM(:)", "TM(10%:5)", "TM(90%:10%)", "PR(1%:2%)", "PR90", "median", "TM(1:2", "p-1"} {
		if _, err := ParseStatistic(bad); err == nil {
			t.Errorf("%q is taken for a statistic", bad)
		}
	}
}

func TestManyValuesCostLittleAndStayNear(t *testing.T) {
	d, random := &distribution{}, rand.New(rand.NewPCG(1, 2))
	var all []float64
	for range 50_000 {
		v := math.Exp(random.NormFloat64())
		all = append(all, v)
		d.add(v, 1)
	}
	slices.Sort(all)
	if len(d.weights) > distinctMax {
		t.Errorf("%d values are kept", len(d.weights))
	}
	for _, p := range []float64{1, 50, 90, 99, 99.9} {
		exact := all[int(math.Ceil(p/100*float64(len(all))))-1]
		if got := (&extended{verb: "p", to: bound{percent: true, at: p}}).of(d); math.Abs(got-exact) > exact*.006 {
			t.Errorf("p%g: %g, exactly %g", p, got, exact)
		}
	}
}

func latencyRule(t *testing.T, lowSamples string) Rule {
	return mustCompile(t, drill.Alarm{
		Name: "slow", Metric: "latency", Statistic: "p90", Is: "> 1", LowSamples: lowSamples,
		Period: drill.Seconds(time.Minute), Datapoints: drill.Datapoints{M: 2, N: 3}, Missing: "missing",
	}, drill.Metric{Name: "latency", HTTP: "http://x", Value: drill.ValueLatency})
}

// p90 needs 10/(1-0.9) = 100 samples; 'f' is a slow datapoint of too few, 'F' a quick one of too few.
func TestPercentilesOfFewSamples(t *testing.T) {
	for _, row := range []struct {
		drawing  string
		evaluate State
		ignore   State // keep: as before
	}{
		{"X X 0 0 0", OK, OK}, {"0 0 0 X X", Raised, Raised}, {"0 0 0 f f", Raised, keep}, {"0 0 X f X", Raised, Raised},
		{"0 0 0 0 f", OK, OK}, {"0 0 X 0 f", Raised, keep}, {"X X X F F", OK, keep}, {"0 0 F F F", OK, keep},
	} {
		for _, treatment := range []string{"", "evaluate", "ignore"} {
			rule := latencyRule(t, treatment)
			for _, before := range states {
				want := row.evaluate
				if treatment == "ignore" {
					want = row.ignore
				}
				if want == keep {
					want = before
				}
				if got := Evaluate(rule, before, fewSamples(row.drawing)).State; got != want {
					t.Errorf("%q low_samples %q from %s: %s, want %s", row.drawing, treatment, before, got, want)
				}
			}
		}
	}
}

func fewSamples(drawing string) []Datapoint {
	var window []Datapoint
	for i, slot := range slices.DeleteFunc([]rune(drawing), func(r rune) bool { return r == ' ' }) {
		p := Datapoint{Start: articleDay(0, 0).Add(time.Duration(i) * time.Minute), values: &distribution{}}
		value, count := 2., 100
		if slot == '0' || slot == 'F' {
			value = .5
		}
		if slot == 'f' || slot == 'F' {
			count = 99
		}
		for range count {
			p = p.add(value)
		}
		window = append(window, p)
	}
	return window
}
