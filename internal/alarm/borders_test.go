package alarm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
)

// The largest sample of a period is its maximum, wherever it came, and whatever its sign.
func TestAPeriodKnowsItsLargestAndSmallestSample(t *testing.T) {
	for _, row := range []struct {
		values      []float64
		least, most float64
	}{
		{[]float64{3, 1}, 1, 3},
		{[]float64{1, 3, 2}, 1, 3},
		{[]float64{-2, -1, -3}, -3, -1},
		{[]float64{0}, 0, 0},
	} {
		point := Datapoint{}
		for _, value := range row.values {
			point = point.add(value)
		}
		if least, most := point.Value(Minimum), point.Value(Maximum); least != row.least || most != row.most {
			t.Errorf("%v: from %v to %v", row.values, least, most)
		}
	}
}

// A percentile of samples that came one by one is that of all of them.
func TestAPercentileIsOfTheSamplesOfItsPeriod(t *testing.T) {
	for text, want := range map[string]float64{"p50": 50, "p90": 90, "tm5": 1, "tc(10:20)": 10} {
		rule := mustCompile(t, drill.Alarm{Name: "slow", Metric: "m", Statistic: text, Is: ">= 1", Period: drill.Seconds(time.Minute)}, drill.Metric{Name: "m"})
		begin := articleDay(10, 0)
		series := NewSeries(rule, begin)
		for i := range 100 {
			at := begin.Add(time.Duration(i) * 500 * time.Millisecond)
			if text == "tm5" {
				series.Add(at, at, 1)
			} else {
				series.Add(at, at, float64(100-i))
			}
		}
		window := series.Window(begin.Add(time.Minute + rule.Grace))
		if got := rule.Value(window[len(window)-1]); got != want {
			t.Errorf("%s is %v, want %v", text, got, want)
		}
	}
}

// No sample that an evaluation asks for is pushed out by those that come meanwhile, however late an evaluation may be.
func TestEveryPeriodOfTheRangeIsKeptUntilItWasEvaluated(t *testing.T) {
	for _, grace := range []time.Duration{0, transportGrace, 3 * time.Second, 20 * time.Second} {
		rule := connectivity(2, 3, MissingIsMissing)
		rule.Period, rule.Grace = time.Second, grace
		begin := articleDay(10, 0)
		series := NewSeries(rule, begin)
		for i := range 120 {
			now := begin.Add(time.Duration(i)*time.Second + 900*time.Millisecond)
			if !series.Add(now, now, float64(i)) || !series.Add(now, now.Add(time.Second), float64(i+1)) {
				t.Fatalf("grace %s: sample %d is not taken", grace, i)
			}
			newest := indexOf(now.Add(-grace), time.Second) - 1 - indexOf(begin, time.Second)
			for back, point := range series.Window(now) {
				number := newest - int64(rule.Range()) + 1 + int64(back)
				if number >= 0 && (point.Missing() || point.Minimum != float64(number) || point.Maximum != float64(number)) {
					t.Fatalf("grace %s, at second %d: the period %d is %+v", grace, i, number, point)
				}
			}
		}
	}
}

// Silence counts from the first whole period after a host has had its time to come up, or from its first beat.
func TestSilenceCountsFromTheFirstPeriodThatMayBeSilent(t *testing.T) {
	rule := connectivity(1, 1, MissingIsBreaching)
	rule.Heartbeat, rule.Period, rule.Grace = true, time.Second, 0
	begin := articleDay(10, 0)
	silent := func(series *Series) (seconds []string) {
		for second := 1; second <= 20; second++ {
			window := series.Window(begin.Add(time.Duration(second) * time.Second))
			if point := window[len(window)-1]; !point.Missing() && point.Maximum == 1 {
				seconds = append(seconds, fmt.Sprint(second-1))
			}
		}
		return seconds
	}
	if got := strings.Join(silent(NewSeries(rule, begin)), " "); got != "16 17 18 19" {
		t.Errorf("without a beat silence counts in the seconds %s", got)
	}
	beaten := NewSeries(rule, begin)
	at := begin.Add(3500 * time.Millisecond)
	beaten.Add(at, at, 1)
	if got := strings.Join(silent(beaten), " "); got != "4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19" {
		t.Errorf("after a beat in second 3 silence counts in the seconds %s", got)
	}
	// Until then it says what it waits for, and its window has no datapoint.
	waiting, change := Step(New(rule, begin), begin.Add(2*time.Second), NewSeries(rule, begin).Window(begin.Add(2*time.Second)))
	if waiting.Detail != "waiting for the first heartbeat" || change != nil || waiting.State != Insufficient {
		t.Errorf("%+v, %+v", waiting, change)
	}
}

// The next evaluation is the first one after now, for each cadence and each time that a period has to become complete.
func TestTheNextEvaluationIsTheFirst(t *testing.T) {
	for _, period := range []time.Duration{time.Second, 7 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 5 * time.Minute} {
		for _, grace := range []time.Duration{0, transportGrace, 600 * time.Millisecond, 1900 * time.Millisecond, 40 * time.Second} {
			rule := Rule{Period: period, N: 1, M: 1, Grace: grace}
			cadence := min(period, time.Minute)
			if period == 30*time.Second {
				cadence = 10 * time.Second // as CloudWatch looks at alarms of high resolution
			}
			for offset := time.Duration(0); offset < 2*cadence; offset += cadence/7 + time.Millisecond {
				now := articleDay(10, 0).Add(offset)
				next := rule.Next(now)
				if wait := next.Sub(now); wait <= 0 || wait > cadence || next.Add(-grace).UnixNano()%int64(cadence) != 0 {
					t.Errorf("period %s, grace %s: after %s comes %s, each %s", period, grace, now.Format("15:04:05.000"), next.Format("15:04:05.000"), cadence)
				}
			}
		}
	}
}
