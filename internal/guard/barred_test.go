package guard

import (
	"testing"
	"time"

	"firedrill/internal/history"
)

func TestNothingIsAdmittedInAFreezeOrUnderAnothersLock(t *testing.T) {
	frozen := func(texts ...string) func(*scene) { return func(s *scene) { s.plan.Freeze = texts } }
	locked := func(host string, own bool, until time.Duration) func(*scene) {
		return func(s *scene) {
			s.add(moment, "ci", &history.Inspected{Host: host, Release: "r1", Healthy: true, Locked: &history.Reservation{
				Owner: "ada@ci", Reason: "migration", Since: moment.Add(-time.Hour), Until: moment.Add(until), Own: own,
			}})
		}
	}
	rows := []row{
		{name: "nothing in the way"},
		{name: "frozen today", change: frozen("2026-03-01"), want: "frozen until 2026-03-02T00:00:00Z"},
		{name: "frozen in another span", change: frozen("2026-02-01..2026-02-28", "2026-02-28..2026-03-02 Europe/Berlin"), want: "frozen until"},
		{name: "frozen tomorrow", change: frozen("2026-03-02..2026-03-09")},
		{name: "frozen yesterday", change: frozen("2026-02-27..2026-02-28")},
		{name: "freeze that nobody can read", change: frozen("soon"), want: "cannot be read"},
		{name: "locked by another", change: locked("green-2", false, time.Minute), want: "green-2 is locked by ada@ci until 2026-03-01T12:01:00Z: migration"},
		{name: "locked by another on the answered side", change: locked("blue-1", false, time.Minute), want: "blue-1 is locked"},
		{name: "locked by ourselves", change: locked("green-2", true, time.Minute)},
		{name: "lock that has ended", change: locked("green-2", false, -time.Second)},
		{name: "lock that ends now", change: locked("green-2", false, 0)},
	}
	twins := []twin{
		{"has no calendar", "frozen", func(w *World) { w.plan.Freeze = nil }},
		{"overlooks locks", "locked by another", seesReleases(func(r *Release) { r.Locked = nil })},
		{"honours its own lock", "locked by ourselves", seesReleases(func(r *Release) {
			if r.Locked != nil {
				r.Locked.Own = false
			}
		})},
	}
	for _, step := range []int{deployGreen, drillGreen, drillBlue, promoteGreen} {
		checkTable(t, rows, twins, func(w *World) string {
			permit := Admit(w, step, moment)
			if !permit.Granted && permit.Cure == "" {
				t.Errorf("step %d: refused without a cure: %s", step, permit.Reason)
			}
			if permit.Granted {
				return ""
			}
			return permit.Reason
		})
	}
}
