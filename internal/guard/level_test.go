package guard

import (
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// burning is a world of one client that samples ten times a second and fails as fails says, up to now.
func burning(level *drill.ServiceLevel, length time.Duration, fails func(time.Duration) bool) (w *World, since, now time.Time) {
	plan := drill.Plan{Objectives: drill.Objectives{Level: level}, Clients: []drill.Client{{Name: "c", Every: drill.Seconds(100 * time.Millisecond), Timeout: drill.Seconds(time.Second)}}}
	w = NewWorld(plan)
	since = time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	for at := -time.Minute; at < length; at += 100 * time.Millisecond {
		w.Fold(history.New(since.Add(at), "c", &history.Sample{Probe: "c", Scheduled: since.Add(at), OK: !fails(at), Cause: map[bool]string{true: "timeout"}[fails(at)]}))
	}
	return w, since, since.Add(length)
}

func levelOf(burn ...drill.BurnRule) *drill.ServiceLevel {
	// 0.1 % of 30 days are 2592 s; 1 % of that are 25.92 s.
	return &drill.ServiceLevel{Target: 99.9, Window: drill.Seconds(30 * 24 * time.Hour), Drill: 1, Burn: burn}
}

func spanFails(from, to float64) func(time.Duration) bool {
	return func(at time.Duration) bool { return at.Seconds() >= from && at.Seconds() < to }
}

// stopsAsItMust returns what a judge of budgets gets wrong.
func stopsAsItMust(overspent func(w *World, since, now time.Time) (string, string)) (wrong []string) {
	rule := drill.BurnRule{Rate: 200, Long: drill.Seconds(20 * time.Second), Short: drill.Seconds(2 * time.Second)} // 200: a fifth of all fails
	for _, row := range []struct {
		name   string
		level  *drill.ServiceLevel
		length float64
		fails  func(time.Duration) bool
		silent time.Duration
		want   string
	}{
		{"no objective", nil, 30, spanFails(0, 30), 0, ""},
		{"nothing fails", levelOf(rule), 60, spanFails(0, 0), 0, ""},
		{"within the budget", levelOf(), 60, spanFails(1, 26), 0, ""},
		{"over the budget", levelOf(), 60, spanFails(1, 28), 0, "budget is spent"},
		{"failures before the attack cost nothing", levelOf(), 10, spanFails(-50, -1), 0, ""},
		{"burns", levelOf(rule), 8, spanFails(1, 8), 0, "burns too fast"},
		{"a short failure in the long window", levelOf(rule), 5, spanFails(3, 5), 0, ""},
		{"well again in the short window", levelOf(rule), 14, spanFails(1, 9), 0, ""},
		{"not measured", levelOf(), 5, spanFails(0, 0), 4 * time.Second, "not measured"},
		{"measured late", levelOf(), 5, spanFails(0, 0), 2 * time.Second, ""},
	} {
		w, since, now := burning(row.level, time.Duration(row.length*float64(time.Second)), row.fails)
		got, detail := overspent(w, since, now.Add(row.silent))
		if (got == "") != (row.want == "") || !strings.Contains(got, row.want) {
			wrong = append(wrong, row.name+": "+got+" "+detail+", want "+row.want)
		}
	}
	return wrong
}

func TestBudgetsStopAnAttack(t *testing.T) {
	for _, wrong := range stopsAsItMust((*World).overspent) {
		t.Error(wrong)
	}
}

// The twins look at one window only, forget the budget, or do not notice that nobody measures.
func TestBudgetTableCatchesBrokenGuards(t *testing.T) {
	change := func(how func(*World)) func(*World, time.Time, time.Time) (string, string) {
		return func(w *World, since, now time.Time) (string, string) {
			if w.plan.Objectives.Level != nil {
				how(w)
			}
			return w.overspent(since, now)
		}
	}
	eachBurn := func(how func(*drill.BurnRule)) func(*World) {
		return func(w *World) {
			for i := range w.plan.Objectives.Level.Burn {
				how(&w.plan.Objectives.Level.Burn[i])
			}
		}
	}
	for name, twin := range map[string]func(*World, time.Time, time.Time) (string, string){
		"looks at the short window only": change(eachBurn(func(b *drill.BurnRule) { b.Long = b.Short })),
		"looks at the long window only":  change(eachBurn(func(b *drill.BurnRule) { b.Short = b.Long })),
		"has all budget of the month":    change(func(w *World) { w.plan.Objectives.Level.Drill = 100 }),
		"counts what was before": func(w *World, since, now time.Time) (string, string) {
			return w.overspent(since.Add(-time.Minute), now)
		},
		"believes that somebody measures": func(w *World, since, now time.Time) (string, string) {
			if samples := w.samples["c"]; len(samples) > 0 {
				samples[len(samples)-1].Scheduled = now
			}
			return w.overspent(since, now)
		},
	} {
		if len(stopsAsItMust(twin)) == 0 {
			t.Errorf("a guard that %s passes", name)
		}
	}
}
