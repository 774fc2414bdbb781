package alarm

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
)

func absence(t testing.TB) Rule {
	return mustCompile(t, drill.Alarm{
		Name: "blue-dead", Host: "blue", Metric: "status-check", Absent: drill.Seconds(2 * time.Second),
	}, drill.Metric{Name: "status-check", Heartbeat: true})
}

// playAbsence beats every 250 ms but for the seconds in silences, and returns "SECONDS STATE" for each change.
func playAbsence(rule Rule, step func(Alarm, time.Time, *Series) (Alarm, *Change), length time.Duration, silent func(time.Duration) bool) []string {
	begin := articleDay(0, 0)
	a, series := New(rule, begin), NewSeries(rule, begin)
	var moves []string
	for at := time.Duration(0); at < length; at += 50 * time.Millisecond {
		now := begin.Add(at)
		if at%(250*time.Millisecond) == 0 && !silent(at) {
			series.Add(now, now, 1)
		}
		var change *Change
		if a, change = step(a, now, series); change != nil {
			moves = append(moves, fmt.Sprintf("%.2f %s", at.Seconds(), change.To))
		}
	}
	return moves
}

func between(from, to float64) func(time.Duration) bool {
	return func(at time.Duration) bool { return at.Seconds() >= from && at.Seconds() < to }
}

func TestAbsenceIsToldWithinItsLimit(t *testing.T) {
	for _, row := range []struct {
		name   string
		silent func(time.Duration) bool
		want   string
	}{
		// The last beat is at 9.75; 2 s and the transport's 0.25 s later it is raised: 2.00 s after the first beat that is missing.
		{"dies at 10", between(10, 100), "0.00 OK, 12.00 ALARM"},
		{"dies and comes back", between(10, 20), "0.00 OK, 12.00 ALARM, 22.00 OK"},
		{"is late by less", between(10, 11.9), "0.00 OK"},
		{"never came", between(0, 100), "15.25 ALARM"},
		{"one beat in an outage", func(at time.Duration) bool { return between(10, 20)(at) && at != 15*time.Second }, "0.00 OK, 12.00 ALARM, 22.00 OK"},
	} {
		if got := strings.Join(playAbsence(absence(t), StepAbsence, 30*time.Second, row.silent), ", "); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
	}
}

// The twins: one that waits for whole periods, one that clears with the first beat.
func TestAbsenceTableCatchesBrokenTwins(t *testing.T) {
	slow := func(a Alarm, now time.Time, s *Series) (Alarm, *Change) {
		return StepAbsence(a, now.Truncate(time.Second).Add(-time.Second), s)
	}
	hasty := func(a Alarm, now time.Time, s *Series) (Alarm, *Change) {
		if s.run.After(s.born) {
			s.run = s.run.Add(-s.rule.Absent)
		}
		return StepAbsence(a, now, s)
	}
	for name, twin := range map[string]func(Alarm, time.Time, *Series) (Alarm, *Change){"slow": slow, "hasty": hasty} {
		got := strings.Join(playAbsence(absence(t), twin, 30*time.Second, between(10, 20)), ", ")
		if got == "0.00 OK, 12.00 ALARM, 22.00 OK" {
			t.Errorf("the %s twin passes", name)
		}
	}
}

func TestAbsenceSaysWhy(t *testing.T) {
	begin := articleDay(21, 0)
	rule := absence(t)
	a, series := New(rule, begin), NewSeries(rule, begin)
	series.Add(begin, begin, 1)
	a, _ = StepAbsence(a, begin, series)
	_, change := StepAbsence(a, begin.Add(2250*time.Millisecond), series)
	want := "Absence: no datapoint was received for 2.25 s, more than the 2.0 s allowed; the last one at 25/11/18 21:00:00.000."
	if change == nil || change.Reason != want || !strings.Contains(string(change.ReasonData), `"lastDatapoint":"2018-11-25T21:00:00.000+0000"`) {
		t.Errorf("%+v, want %q", change, want)
	}
}
