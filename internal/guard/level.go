package guard

import (
	"fmt"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// unmeasuredAfter is how many samples of a client may be missing before an attack that spends an error budget is stopped: what is not
// measured is not bounded.
const unmeasuredAfter = 3

// measuredAfter is how long a client may be silent whatever its interval: a busy scheduler is no lost client.
const measuredAfter = 2 * time.Second

// overspent says why an attack costs more of the error budget than a drill may, or "". Without a service level objective nothing is asked.
func (w *World) overspent(since, now time.Time) (condition, detail string) {
	level := w.plan.Objectives.Level
	if level == nil {
		return "", ""
	}
	for _, client := range w.plan.Clients {
		if silent := now.Sub(w.heardOf(client.Name, since)) - client.Timeout.Duration(); silent > max(unmeasuredAfter*client.Every.Duration(), measuredAfter) {
			return "clients are not measured", fmt.Sprintf("nothing was heard of %s for %s", client.Name, silent.Round(100*time.Millisecond))
		}
		if spent := w.failedSince(client, since); spent > level.DrillBudget() {
			return "the drill's error budget is spent", fmt.Sprintf("%s was unserved for %s of %s that one drill may cost", client.Name, spent.Round(100*time.Millisecond), level.DrillBudget().Round(time.Millisecond))
		}
		for _, burn := range level.Burn {
			long, short := w.burnRate(client, now, burn.Long.Duration()), w.burnRate(client, now, burn.Short.Duration())
			if long > burn.Rate && short > burn.Rate {
				return "the error budget burns too fast", fmt.Sprintf("%s at %.3g over %s and %.3g over %s; %g is the most", client.Name, long, burn.Long, short, burn.Short, burn.Rate)
			}
		}
	}
	return "", ""
}

// heardOf returns when the newest sample of a client was due; since when there is none after it.
func (w *World) heardOf(client string, since time.Time) time.Time {
	samples := w.samples[client]
	if len(samples) == 0 || samples[len(samples)-1].Scheduled.Before(since) {
		return since
	}
	return samples[len(samples)-1].Scheduled
}

// failedSince is how long a client was not served: each failed sample stands for its interval.
func (w *World) failedSince(client drill.Client, since time.Time) time.Duration {
	spent := time.Duration(0)
	samples := w.samples[client.Name]
	for i := len(samples) - 1; i >= 0 && !samples[i].Scheduled.Before(since); i-- {
		if bad(samples[i]) {
			spent += client.Every.Duration()
		}
	}
	return spent
}

// burnRate is how many times faster than the objective allows the budget is spent over the last window. Samples that may be under way
// still are not waited for; a window that is half empty has no rate, as nothing is known of it.
func (w *World) burnRate(client drill.Client, now time.Time, window time.Duration) float64 {
	failed, seen := 0, 0
	samples := w.samples[client.Name]
	for i := len(samples) - 1; i >= 0 && samples[i].Scheduled.After(now.Add(-window-client.Timeout.Duration())); i-- {
		if samples[i].Cause == history.CauseProber {
			continue
		}
		// A failure is known after its timeout, a good answer at once: both of the same time are looked at.
		if samples[i].Scheduled.After(now.Add(-client.Timeout.Duration())) && samples[i].OK {
			continue
		}
		seen++
		if bad(samples[i]) {
			failed++
		}
	}
	if seen == 0 || time.Duration(seen)*client.Every.Duration() < window/2 {
		return 0
	}
	return float64(failed) / float64(seen) * 100 / (100 - float64(w.plan.Objectives.Level.Target))
}

func bad(sample history.Sample) bool { return !sample.OK && sample.Cause != history.CauseProber }
