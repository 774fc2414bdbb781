package schedule

import (
	"testing"
	"time"
)

func TestACadenceIsKeptDueAndOverdue(t *testing.T) {
	t.Parallel()
	const day = 24 * time.Hour
	since := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	last := since.Add(100 * day)
	for _, row := range []struct {
		last, now time.Time
		state     string
		text      string
	}{
		{last, last, CadenceKept, "the next drill of db is due in 28 days"},
		{last, last.Add(28*day - 1), CadenceKept, "the next drill of db is due in 0 seconds"},
		{last, last.Add(28 * day), CadenceDue, "no drill of db for 28 days: due"},
		{last, last.Add(29 * day), CadenceDue, "no drill of db for 29 days: due"},
		{last, last.Add(35*day - 1), CadenceDue, "no drill of db for 34 days: due"},
		{last, last.Add(35 * day), CadenceOverdue, "no drill of db for 35 days: overdue"},
		{time.Time{}, since.Add(27 * day), CadenceKept, "the next drill of db is due in 24 hours"},
		{time.Time{}, since.Add(28 * day), CadenceDue, "no drill of db yet, and one every 28 days is wanted: due"},
		{time.Time{}, since.Add(36 * day), CadenceOverdue, "no drill of db yet, and one every 28 days is wanted: overdue"},
	} {
		c := KeepCadence(28*day, row.last, since, row.now)
		if text := c.Say("db", row.now); c.State != row.state || text != row.text {
			t.Errorf("%+v: %s, %q", row, c.State, text)
		}
	}
}
