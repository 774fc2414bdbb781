package memory

import (
	"context"
	"testing"
	"time"

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
