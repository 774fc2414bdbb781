package verdict

import (
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Each row is a story of a pair, told from the impact on; a bug in one rule changes one row.
func TestDatabaseExpectations(t *testing.T) {
	began := time.Date(2026, 11, 29, 3, 0, 0, 0, time.UTC)
	at := func(s float64, fact history.Fact) history.Event {
		return history.New(began.Add(time.Duration(s*float64(time.Second))), "ci", fact)
	}
	server := func(host string, accepted, refused bool) *history.Database {
		return &history.Database{Database: "books", Host: host, Accepted: accepted, Refused: refused}
	}
	before := []history.Event{at(-5, server("db-a", true, false)), at(-5, server("db-b", false, true))}
	moved := append(append([]history.Event(nil), before...), at(1, server("db-a", false, false)), at(2, &history.DatabaseStep{Database: "books", Step: history.DatabasePromoted, Host: "db-b"}), at(3, server("db-b", true, false)))
	for _, c := range []struct {
		name          string
		log           []history.Event
		moves, fenced history.Outcome
		says          string
	}{
		{"moves, and the old one is back as a standby", append(append([]history.Event(nil), moved...), at(20, server("db-a", false, true))), history.Passed, history.Passed, "2.00 s promoted db-b"},
		{"the old one never answers again", moved, history.Passed, history.Inconclusive, "after 3.00 s"},
		{"two servers take writes", append(append([]history.Event(nil), moved...), at(20, server("db-a", true, false))), history.Passed, history.Failed, "after 3.00 s"},
		{"the mover saw two servers take writes", append(append([]history.Event(nil), moved...), at(20, server("db-a", false, true)), at(4, &history.DatabaseStep{Database: "books", Step: history.DatabaseSplit, Host: "db-a"})), history.Passed, history.Failed, "after 3.00 s"},
		{"nobody takes over", append(append([]history.Event(nil), before...), at(1, server("db-a", false, false))), history.Failed, history.Inconclusive, "No other server"},
		{"too late", append(append([]history.Event(nil), before...), at(11, server("db-b", true, false))), history.Failed, history.Inconclusive, "only after 11.00 s"},
		{"not the primary before", []history.Event{at(-5, server("db-a", false, true)), at(3, server("db-b", true, false))}, history.Inconclusive, history.Inconclusive, "not known to have taken writes"},
		{"two primaries before", []history.Event{at(-5, server("db-a", true, false)), at(-4, server("db-b", true, false))}, history.Inconclusive, history.Inconclusive, "took writes before"},
	} {
		d := &drillCase{
			rec: newRecord(drill.Plan{}, c.log), drill: &drill.PlannedDrill{Hosts: []drill.Host{{Name: "db-a"}}, Database: "books"},
			span: span{started: true, from: began.Add(-time.Minute), to: began.Add(time.Minute)}, impact: &Impact{From: began, To: began.Add(30 * time.Second)},
		}
		moves := d.databaseFailsOver("fails over", drill.Expectation{Database: "books", Within: drill.Seconds(10 * time.Second)})
		fenced := d.oldPrimaryFenced("fenced", drill.Expectation{Database: "books"})
		if moves.Outcome != c.moves || fenced.Outcome != c.fenced || !strings.Contains(moves.Explanation, c.says) {
			t.Errorf("%s: %s (%s), %s (%s)", c.name, moves.Outcome, moves.Explanation, fenced.Outcome, fenced.Explanation)
		}
	}
}
