package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

func open(t *testing.T, directory string, person func(string) (fleet.Member, bool)) *Control {
	t.Helper()
	return openWith(t, directory, func(o *Options) { o.Person = person })
}

func openWith(t *testing.T, directory string, change func(*Options)) *Control {
	t.Helper()
	o := Options{Directory: directory, Listen: "127.0.0.1:0", Limits: fleet.Limits{Percent: 50}, Log: slog.New(slog.DiscardHandler), RollCall: time.Millisecond}
	change(&o)
	c, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func shut(t *testing.T, c *Control) {
	t.Helper()
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// audited counts the lines of the audit log that hold a text.
func audited(t *testing.T, c *Control, text string) int {
	t.Helper()
	page, err := c.localAudit("", 10_000, text)
	if err != nil {
		t.Fatal(err)
	}
	return len(page.Lines)
}

func TestTheScheduleBeginsEachMomentOnceAndAsWhoPutItThere(t *testing.T) {
	t.Parallel()
	directory := filepath.Join(t.TempDir(), "fleet")
	people := map[string]string{"otto": fleet.RoleOperator}
	person := func(name string) (fleet.Member, bool) {
		role, known := people[name]
		return fleet.Member{Name: name, Role: role}, known
	}
	c := open(t, directory, person)
	ctx := context.Background()
	otto, vera := fleet.Member{Name: "otto", Role: fleet.RoleOperator}, fleet.Member{Name: "vera", Role: fleet.RoleViewer}
	ask := func(by fleet.Member, name, cron string) error {
		_, err := c.Call(ctx, by, "schedule", encode(fleet.ScheduleRequest{Name: name, Cron: cron, Request: fleet.AttackRequest{Kind: "cpu", Args: []string{"-l", "1"}, Selector: fleet.Selector{All: true}}}))
		return err
	}
	for _, row := range []struct {
		by         fleet.Member
		name, cron string
		kind       drill.ErrorKind
	}{{vera, "a", "* * * * *", drill.Refused}, {otto, "a", "* * *", drill.Invalid}, {otto, "a b", "* * * * *", drill.Invalid}, {fleet.Member{Name: "karl", Role: fleet.RoleOperator, Kinds: []string{"io"}}, "a", "* * * * *", drill.Refused}} {
		if err := ask(row.by, row.name, row.cron); err == nil || drill.KindOf(err) != row.kind {
			t.Errorf("%+v: %v", row, err)
		}
	}
	if err := ask(otto, "every-minute", "* * * * *"); err != nil {
		t.Fatal(err)
	}
	view := c.Scheduled(time.Now())
	if len(view) != 1 || view[0].Next.IsZero() {
		t.Fatalf("%+v", view)
	}
	carry := func(now time.Time) fleet.ScheduledView {
		c.carryOutDue(ctx, now)
		c.due.Wait()
		return c.Scheduled(now)[0]
	}
	first := view[0].Next.Add(time.Second)
	if one := carry(first); !strings.Contains(one.Why, "no host has joined") || !one.Done.Equal(view[0].Next) {
		t.Errorf("%+v", one)
	}
	const line = "the schedule does not begin every-minute of otto"
	if carry(first); audited(t, c, line) != 1 {
		t.Errorf("one moment is begun %d times", audited(t, c, line))
	}
	shut(t, c)
	c = open(t, directory, person)
	defer func() { shut(t, c) }()
	if carry(first); audited(t, c, line) != 1 {
		t.Errorf("after a restart one moment is begun again: %d", audited(t, c, line))
	}
	for i, row := range []struct{ role, why string }{{fleet.RoleViewer, "otto, who put it there, is viewer now"}, {"", "is not known any more"}} {
		people["otto"] = row.role
		if row.role == "" {
			delete(people, "otto")
		}
		if one := carry(first.Add(time.Duration(i+1) * time.Minute)); !strings.Contains(one.Why, row.why) {
			t.Errorf("%q: %+v", row.why, one)
		}
	}
	if _, err := c.Call(ctx, vera, "unschedule", encode(view[0].ID)); err == nil {
		t.Error("a viewer takes it off")
	}
	if _, err := c.Call(ctx, otto, "unschedule", encode(view[0].ID)); err != nil {
		t.Error(err)
	}
	c.carryOutDue(ctx, first.Add(10*time.Minute))
	c.due.Wait()
	if left := c.Scheduled(time.Now()); len(left) != 0 {
		t.Errorf("%+v", left)
	}
}

func TestTheHistoryOutlivesTheServerAndIsReadByPage(t *testing.T) {
	t.Parallel()
	directory := filepath.Join(t.TempDir(), "fleet")
	c := open(t, directory, nil)
	const count = 1100 // more than a batch
	for i := range count {
		n := i*7%count + 1 // they come in any order
		record := fleet.Record{ID: fmt.Sprintf("20260101T000000Z-%06x", n), Service: "bookstore", Outcome: "passed"}
		for range 2 { // one that is known changes nothing
			if err := c.KeepRecord(t.Context(), record); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := c.KeepRecord(t.Context(), fleet.Record{ID: "../x", Service: "bookstore"}); err == nil {
		t.Error("a name that is a path is kept")
	}
	shut(t, c)
	c = open(t, directory, nil)
	defer shut(t, c)
	before, seen := "", 0
	for {
		page, all := c.Records("bookstore", before, 100)
		if all != count {
			t.Fatalf("%d records", all)
		}
		if len(page) == 0 {
			break
		}
		for _, record := range page {
			if want := fmt.Sprintf("20260101T000000Z-%06x", count-seen); record.ID != want {
				t.Fatalf("%s in the place of %s", record.ID, want)
			}
			seen++
		}
		before = page[len(page)-1].ID
	}
	if seen != count || !c.Recorded("20260101T000000Z-000001") {
		t.Error(errors.New("some are lost"), seen)
	}
}

func TestRunsAreFoundWithoutLookingAtAll(t *testing.T) {
	t.Parallel()
	c := open(t, filepath.Join(t.TempDir(), "fleet"), nil)
	defer shut(t, c)
	id := func(n int) string { return fmt.Sprintf("00000000-0000-7000-8000-%012d", n) }
	for n := range 10 {
		state := fleet.RunEnded
		if n == 3 || n == 7 {
			state = fleet.RunRunning
		}
		run := fleet.Run{ID: id(n), State: state, Kind: map[bool]string{true: "cpu", false: "io"}[n%2 == 0], Hosts: []fleet.RunHost{{Key: "K", Name: "web1", Order: fmt.Sprint("order", n)}, {Key: "L", Name: "web2", Order: fmt.Sprint("other", n)}}}
		if err := c.runs.put(t.Context(), run); err != nil {
			t.Fatal(err)
		}
	}
	names := func(runs []fleet.Run) (all string) {
		for _, run := range runs {
			all += run.ID[len(run.ID)-1:]
		}
		return all
	}
	all, count := c.Runs("", 3, nil)
	older, _ := c.Runs(all[2].ID, 4, nil)
	even, _ := c.Runs("", 10, func(r fleet.Run) bool { return r.Kind == "cpu" })
	if names(all) != "987" || names(older) != "6543" || names(even) != "86420" || count != 10 || names(c.Going()) != "37" {
		t.Errorf("%s %s %s %d %s", names(all), names(older), names(even), count, names(c.Going()))
	}
	run, at, ok := c.runs.of("K", "order5")
	_, _, stranger := c.runs.of("another", "order5")
	_, second, found := c.runs.of("L", "other5")
	_, _, foreign := c.runs.of("K", "other5")
	if !ok || run.ID != id(5) || at != 0 || stranger || !found || second != 1 || foreign {
		t.Errorf("%v %s %v %v %d %v", ok, run.ID, stranger, found, second, foreign)
	}
	ended, _ := c.runs.get(id(3))
	ended.State = fleet.RunEnded
	if err := c.runs.put(t.Context(), ended); err != nil || names(c.Going()) != "7" {
		t.Errorf("%v %s", err, names(c.Going()))
	}
	if found, err := c.runs.find("000004"); err != nil || found.ID != id(4) {
		t.Errorf("%s %v", found.ID, err)
	}
}

// BenchmarkPagesOfManyRuns is how long the newest runs take with 100,000 in the history, beside going through all as was done before.
func BenchmarkPagesOfManyRuns(b *testing.B) {
	book := &runBook{shelf: &shelf[fleet.Run]{all: map[string]onShelf[fleet.Run]{}}, active: map[string]bool{}, ordered: map[orderSum]place{}}
	for n := range 100_000 {
		run := fleet.Run{ID: fmt.Sprintf("00000000-0000-7000-8000-%012d", n), State: fleet.RunEnded, Issued: time.Unix(int64(n), 0)}
		book.shelf.all[run.ID] = onShelf[fleet.Run]{value: &run}
		book.names.insert(run.ID)
	}
	b.Run("index", func(b *testing.B) {
		for range b.N {
			book.newest("", 50, nil)
		}
	})
	b.Run("scan", func(b *testing.B) {
		for range b.N {
			book.shelf.values()
		}
	})
}
