package guard

import (
	"testing"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// A primary is attacked only while it is the one that takes writes, and somebody could take over.
func TestDatabaseIsAttackedOnlyWithAStandbyThatFollows(t *testing.T) {
	base := func(primary, standby history.Database) func(*scene) {
		return func(s *scene) {
			s.plan.Steps[drillBlue].Drill.Database = "books"
			s.plan.Steps[drillBlue].Drill.Hosts = []drill.Host{{Name: "db-a"}}
			for _, fact := range []history.Database{primary, standby} {
				if fact.Host != "" {
					s.add(moment, "ci", &fact)
				}
			}
		}
	}
	leads := history.Database{Database: "books", Host: "db-a", Accepted: true, Role: "primary"}
	follows := history.Database{Database: "books", Host: "db-b", Refused: true, Follows: true, Role: "standby"}
	idle, both, left := follows, follows, leads
	idle.Follows, both.Accepted, left.Accepted, left.Role = false, true, false, "standby"
	rows := []row{
		{name: "a pair that is well", change: base(leads, follows)},
		{name: "nobody follows", change: base(leads, idle), want: "nothing could take over"},
		{name: "two primaries", change: base(leads, both), want: "two primaries"},
		{name: "it moved since", change: base(left, follows), want: "does not take the writes"},
		{name: "nobody has tried", change: base(history.Database{}, history.Database{}), want: "nobody has tried"},
	}
	twins := []twin{{"takes every standby for one that follows", "nobody follows", func(w *World) {
		for at, fact := range w.servers {
			fact.Follows = true
			w.servers[at] = fact
		}
	}}}
	checkTable(t, rows, twins, func(w *World) string { return refusal(Admit(w, drillBlue, moment)) })
}
