package guard

import (
	"fmt"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// stopWhen says which of the conditions that the user wrote for this drill holds, or "". A condition of which nothing is heard any more
// holds too: what cannot be watched does not bound the damage.
func (w *World) stopWhen(step drill.Step, since, now time.Time) (condition, detail string) {
	if step.Drill == nil {
		return "", ""
	}
	for _, stop := range step.Drill.StopWhen {
		if detail := w.holds(stop, since, now); detail != "" {
			return stop.Text, detail
		}
	}
	return "", ""
}

func (w *World) holds(stop drill.StopWhen, since, now time.Time) string {
	switch stop.Kind {
	case drill.StopAlarm:
		return w.alarmHolds(stop.Alarm)
	case drill.StopProbe:
		for _, probe := range w.plan.Probes {
			if probe.Name == stop.Probe {
				return w.failsFor(drill.Client{Name: probe.Name, Every: probe.Every, Timeout: probe.Timeout}, stop.For.Duration(), since, now)
			}
		}
		return "there is no probe " + stop.Probe
	case drill.StopClients:
		for _, client := range w.plan.Clients {
			if detail := w.failsFor(client, stop.For.Duration(), since, now); detail != "" {
				return detail
			}
		}
	case drill.StopAvailable:
		for _, client := range w.plan.Clients {
			if detail := w.availableBelow(client, stop, since, now); detail != "" {
				return detail
			}
		}
	case drill.StopLine:
		if at, seen := w.lines[logLine{stop.Host, stop.File, stop.Line}]; seen && !at.Before(since) {
			return "it was written"
		}
		if !w.followed[logLine{host: stop.Host, file: stop.File}] {
			return stop.File + " on " + stop.Host + " cannot be read"
		}
	default:
		return "this version cannot watch " + stop.Kind
	}
	return ""
}

// alarmHolds asks for OK: an alarm without data watches nothing.
func (w *World) alarmHolds(name string) string {
	switch state := w.alarms[name]; state {
	case history.AlarmOK:
		return ""
	case "":
		return name + " is not heard of"
	default:
		return name + " is " + state
	}
}

// failsFor says that a client or probe has had only failures for a while, or has fallen silent.
func (w *World) failsFor(client drill.Client, allowed time.Duration, since, now time.Time) string {
	if out := w.unservedSince(client.Name, since); !out.IsZero() && now.Sub(out) >= allowed {
		return fmt.Sprintf("%s for %s", client.Name, now.Sub(out).Round(100*time.Millisecond))
	}
	return w.silent(client, since, now)
}

// silent says that nothing was heard of a client or probe for longer than it may be quiet.
func (w *World) silent(client drill.Client, since, now time.Time) string {
	quiet := now.Sub(w.heardOf(client.Name, since)) - client.Timeout.Duration()
	if quiet <= max(unmeasuredAfter*client.Every.Duration(), measuredAfter) {
		return ""
	}
	return fmt.Sprintf("nothing was heard of %s for %s", client.Name, quiet.Round(100*time.Millisecond))
}

// availableBelow holds the share of good samples of the window against what is allowed. A window that has not passed yet since the impact
// began decides only when the rest of it could not mend the share.
func (w *World) availableBelow(client drill.Client, stop drill.StopWhen, since, now time.Time) string {
	from := now.Add(-stop.For.Duration())
	if from.Before(since) {
		from = since
	}
	failed := 0
	samples := w.samples[client.Name]
	for i := len(samples) - 1; i >= 0 && samples[i].Scheduled.After(from); i-- {
		if bad(samples[i]) {
			failed++
		}
	}
	whole := max(1, int(stop.For.Duration()/client.Every.Duration()))
	if share := 100 * float64(whole-min(failed, whole)) / float64(whole); share < stop.Value {
		return fmt.Sprintf("%s: %d of the %d tries of %s failed", client.Name, failed, whole, stop.For)
	}
	return w.silent(client, since, now)
}
