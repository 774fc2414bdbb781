package alarm

import (
	"strconv"
	"syscall"
	"testing"
	"time"
)

// BenchmarkEvaluations feeds and evaluates alarms on one core, as a watch does at periods of 10 s with one sample a period, and prints how
// many alarms it could carry so. The goal is a million. By the clock it says so of an idle machine alone; of-processor counts what we used of it,
// the collector of garbage included.
func BenchmarkEvaluations(b *testing.B) {
	for _, alarms := range []int{100_000, 1_000_000} {
		b.Run(strconv.Itoa(alarms), func(b *testing.B) { evaluations(b, alarms) })
	}
}

// processor is the time that this process has used of all processors.
func processor(b *testing.B) time.Duration {
	b.Helper()
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

func evaluations(b *testing.B, alarms int) {
	b.Helper()
	rule := connectivity(2, 3, MissingIsMissing)
	rule.Period = 10 * time.Second
	begin := articleDay(0, 0)
	all, series := make([]Alarm, alarms), make([]*Series, alarms)
	for i := range all {
		all[i], series[i] = New(rule, begin), NewSeries(rule, begin)
	}
	now, changes := begin, 0
	used := processor(b)
	for b.Loop() {
		now = now.Add(rule.Period)
		for i := range all {
			value := 1.
			if (i+int(now.Unix()/10))%100 < 3 { // three datapoints of a hundred breach, in a row
				value = 0
			}
			series[i].Add(now, now.Add(-5*time.Second), value)
			var change *Change
			if all[i], change = Step(all[i], now, series[i].Window(now)); change != nil {
				changes++
			}
		}
	}
	used = processor(b) - used
	each := b.Elapsed().Seconds() / float64(b.N) / float64(alarms)
	b.ReportMetric(rule.Period.Seconds()/(used.Seconds()/float64(b.N)/float64(alarms))/1e6, "million-alarms-at-10s-of-processor")
	b.ReportMetric(1/each, "evaluations/s")
	b.ReportMetric(rule.Period.Seconds()/each/1e6, "million-alarms-at-10s")
	if changes == 0 && b.N > 100 {
		b.Error("nothing ever changed")
	}
}
