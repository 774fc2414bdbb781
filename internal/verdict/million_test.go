package verdict_test

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"firedrill/internal/history"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

// Judging while reading says the same as judging the whole log.
func TestJudgingWhileReadingIsJudging(t *testing.T) {
	var log []history.Event
	plan := verdicttest.Crowd(20_000, func(event history.Event) { log = append(log, event) })
	reading, again := verdict.NewReading(plan), history.Sample{}
	for _, event := range log {
		if sample, is := event.Fact.(*history.Sample); is { // as history.Scan does
			again = *sample
			event.Fact = &again
		}
		reading.Add(event)
	}
	whole, read := verdict.Judge(plan, log), reading.Judge()
	if whole.Outcome != history.Passed || fmt.Sprintf("%+v", whole.Totals) != fmt.Sprintf("%+v", read.Totals) || whole.Reason != read.Reason {
		t.Errorf("whole: %s %s %+v\nread: %s %s %+v", whole.Outcome, whole.Reason, whole.Totals, read.Outcome, read.Reason, read.Totals)
	}
}

// BenchmarkJudgeAMillionEvents judges a log of a million events from a file. The figures are seconds and the most memory that Go had
// from the system; run it with -benchtime 1x in a process of its own.
func BenchmarkJudgeAMillionEvents(b *testing.B) {
	name := os.Getenv("MILLION")
	if name == "" {
		name = filepath.Join(b.TempDir(), "run.jsonl")
	}
	file, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	buffered := bufio.NewWriterSize(file, 1<<20)
	writer := history.NewWriter(buffered)
	plan := verdicttest.Crowd(1_000_000, func(event history.Event) {
		if _, err := writer.Append(event); err != nil {
			b.Fatal(err)
		}
	})
	if err := buffered.Flush(); err != nil {
		b.Fatal(err)
	}
	runtime.GC()
	for b.Loop() {
		if _, err := file.Seek(0, 0); err != nil {
			b.Fatal(err)
		}
		reading := verdict.NewReading(plan)
		if _, err := history.Scan(file, func(event history.Event) error { reading.Add(event); return nil }); err != nil {
			b.Fatal(err)
		}
		judged := reading.Judge()
		if judged.Outcome != history.Passed {
			b.Fatalf("%s %s", judged.Outcome, judged.Reason)
		}
		b.ReportMetric(float64(judged.Totals.Events), "events")
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/judge")
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	b.ReportMetric(float64(memory.Sys)/(1<<20), "MiB-with-making-the-log")
}
