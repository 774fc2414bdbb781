package memory

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/worker"
)

// BenchmarkHold prints how many percent of what was asked are held, how long that takes, and how long until it is free again.
func BenchmarkHold(b *testing.B) {
	var held float64
	var apply, back time.Duration
	for range b.N {
		var facts attack.Facts
		order := Order{Length: time.Minute, Amount: 256 * mega}
		if err := order.Survey(context.Background(), &facts); err != nil {
			b.Fatal(err)
		}
		facts.GUID = at.GUID
		plan, err := order.Plan(facts)
		if err != nil {
			b.Fatal(err)
		}
		step := plan.Steps[0]
		began := time.Now()
		if err := step.Apply(context.Background(), began.Add(time.Minute)); err != nil {
			b.Fatal(err)
		}
		apply = time.Since(began)
		began = time.Now()
		if err := step.Revert(context.Background()); err != nil {
			b.Fatal(err)
		}
		back = time.Since(began)
		evidence, ok := step.(attack.Evidencing)
		if !ok {
			b.Fatal("the step gives no evidence")
		}
		if bit, figures := evidence.Evidence(); !bit {
			b.Fatal(figures)
		}
		held = 100 * float64(leastOf(step)) / (256 * mega)
	}
	b.ReportMetric(held, "percent-held")
	b.ReportMetric(float64(apply.Milliseconds()), "ms-hold")
	b.ReportMetric(float64(back.Milliseconds()), "ms-revert")
}

func leastOf(step attack.Step) uint64 {
	return step.(*worker.Step).Meter.(*meter).least
}

// BenchmarkLate prints by how much a gigabyte is held beyond the deadline when both the attack and its worker are stopped, so that only the
// kernel can end it; less than nothing is early.
func BenchmarkLate(b *testing.B) {
	const length = 15 * time.Second
	for range b.N {
		var facts attack.Facts
		order := Order{Length: length, Amount: giga}
		if err := order.Survey(context.Background(), &facts); err != nil {
			b.Fatal(err)
		}
		facts.GUID = at.GUID
		plan, err := order.Plan(facts)
		if err != nil {
			b.Fatal(err)
		}
		step := plan.Steps[0]
		deadline := time.Now().Add(length)
		if err := step.Apply(context.Background(), deadline); err != nil {
			b.Fatal(err)
		}
		pid := workerOf(b)
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			b.Fatal(err)
		}
		<-time.After(time.Until(deadline) - 500*time.Millisecond)
		// It is waited for by the step, so that its number is free at once when it has ended.
		for unix.Kill(pid, 0) == nil {
			<-time.After(time.Millisecond)
		}
		b.ReportMetric(float64(time.Since(deadline).Microseconds())/1000, "ms-late")
		if err := step.Revert(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
}

func workerOf(b *testing.B) int {
	b.Helper()
	lines, err := worker.Residue(Name)
	if err != nil {
		b.Fatal(err)
	}
	for _, line := range lines {
		var pid int
		if _, err := fmt.Sscanf(line, "worker process %d", &pid); err == nil && strings.Contains(line, at.GUID) {
			return pid
		}
	}
	b.Fatalf("no worker among %q", lines)
	return 0
}
