package schedule

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	_ "time/tzdata"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/drill"
)

func at(t *testing.T, text string) time.Time {
	t.Helper()
	moment, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return moment
}

// entry reads an entry of a service file.
func entry(t *testing.T, written drill.Scheduled, shared ...string) Entry {
	t.Helper()
	entries, err := FromService(drill.Service{Name: "bookstore", Pipeline: []string{"deploy idle", "promote"}, Schedule: []drill.Scheduled{written}, Freeze: shared})
	if err != nil {
		t.Fatal(err)
	}
	return entries[0]
}

// tuesday is the schedule of the tables: Tuesdays at ten in Berlin, in office hours, not around Christmas.
var tuesday = drill.Scheduled{Drill: "lose-host", Cron: "0 10 * * TUE", Window: "Mon-Fri 09:00-15:00 Europe/Berlin", Freeze: []string{"2026-12-18..2027-01-04"}}

func with(written drill.Scheduled, change func(*drill.Scheduled)) drill.Scheduled {
	change(&written)
	return written
}

// told is a decision as a line: what is due, what is missed, when to ask again, and why an entry does not run.
func told(d Decision) string {
	var parts []string
	for _, due := range d.Due {
		parts = append(parts, "due "+due.Moment.UTC().Format(time.RFC3339))
	}
	for _, missed := range d.Missed {
		parts = append(parts, "missed "+missed.Moment.UTC().Format(time.RFC3339)+" because "+missed.Why)
	}
	for _, status := range d.Statuses {
		parts = append(parts, "why "+status.Why)
	}
	return strings.Join(append(parts, "again "+d.Next.UTC().Format(time.RFC3339)), "; ")
}

var decisions = []struct {
	name    string
	written drill.Scheduled
	now     string
	state   State
	want    string
}{
	{"before the moment", tuesday, "2026-11-24T09:59:59+01:00", State{}, "why not its time yet; again 2026-11-24T09:00:00Z"},
	{"at the moment", tuesday, "2026-11-24T10:00:00+01:00", State{}, "due 2026-11-24T09:00:00Z; why starts now; again 2026-12-01T09:00:00Z"},
	{"a little late", tuesday, "2026-11-24T10:00:59+01:00", State{}, "due 2026-11-24T09:00:00Z; why starts now; again 2026-12-01T09:00:00Z"},
	{"done already", tuesday, "2026-11-24T10:00:30+01:00", State{Done: map[string]time.Time{"drill lose-host @ 0 10 * * TUE": time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC)}},
		"why not its time yet; again 2026-12-01T09:00:00Z"},
	{"too late, never caught up", tuesday, "2026-11-24T10:05:00+01:00", State{}, "missed 2026-11-24T09:00:00Z because nothing looked at the schedule then; why not its time yet; again 2026-12-01T09:00:00Z"},
	{"late, caught up", with(tuesday, func(s *drill.Scheduled) { s.CatchUp = drill.CatchUp(2 * time.Hour) }), "2026-11-24T11:30:00+01:00", State{},
		"due 2026-11-24T09:00:00Z; why starts now; again 2026-12-01T09:00:00Z"},
	{"too late to catch up", with(tuesday, func(s *drill.Scheduled) { s.CatchUp = drill.CatchUp(2 * time.Hour) }), "2026-11-24T12:00:01+01:00", State{},
		"missed 2026-11-24T09:00:00Z because nothing looked at the schedule then; why not its time yet; again 2026-12-01T09:00:00Z"},
	{"never caught up outside of the window", with(tuesday, func(s *drill.Scheduled) { s.CatchUp = drill.CatchUp(8 * time.Hour) }), "2026-11-24T16:00:00+01:00", State{},
		"missed 2026-11-24T09:00:00Z because outside of the window Mon-Fri 09:00-15:00 Europe/Berlin; why not its time yet; again 2026-12-01T09:00:00Z"},
	{"caught up when the window opens again", with(tuesday, func(s *drill.Scheduled) { s.CatchUp = drill.CatchUp(48 * time.Hour) }), "2026-11-24T16:00:00+01:00", State{},
		"why waits: outside of the window Mon-Fri 09:00-15:00 Europe/Berlin; again 2026-11-25T08:00:00Z"},
	{"frozen", tuesday, "2026-12-22T10:00:00+01:00", State{}, "missed 2026-12-22T09:00:00Z because frozen by 2026-12-18..2027-01-04; why at 2026-12-29T10:00:00+01:00 it is frozen by 2026-12-18..2027-01-04; again 2026-12-29T09:00:00Z"},
	{"the next one is frozen", tuesday, "2026-12-16T10:00:00+01:00", State{Since: time.Date(2026, 12, 16, 0, 0, 0, 0, time.UTC)},
		"why at 2026-12-22T10:00:00+01:00 it is frozen by 2026-12-18..2027-01-04; again 2026-12-22T09:00:00Z"},
	{"another run of the service", tuesday, "2026-11-24T10:00:00+01:00", State{Running: map[string]string{"bookstore": "pipeline @ 0 9 * * *"}},
		"why waits: pipeline @ 0 9 * * * runs, and a service has one run at a time; again 2026-11-24T09:01:00Z"},
	{"a run of another service", tuesday, "2026-11-24T10:00:00+01:00", State{Running: map[string]string{"billing": "pipeline @ 0 9 * * *"}},
		"due 2026-11-24T09:00:00Z; why starts now; again 2026-12-01T09:00:00Z"},
	{"another run that took too long", tuesday, "2026-11-24T10:01:01+01:00", State{Since: time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC), Running: map[string]string{"bookstore": "pipeline @ 0 9 * * *"}},
		"missed 2026-11-24T09:00:00Z because pipeline @ 0 9 * * * runs, and a service has one run at a time; why not its time yet; again 2026-12-01T09:00:00Z"},
	{"halted", tuesday, "2026-11-24T10:00:00+01:00", State{Halted: "impact may remain"}, "why halted: impact may remain; again 2026-11-24T09:01:00Z"},
	{"a new schedule owes nothing", with(tuesday, func(s *drill.Scheduled) { s.CatchUp = drill.CatchUp(2 * time.Hour) }), "2026-11-24T11:00:00+01:00",
		State{Since: time.Date(2026, 11, 24, 9, 30, 0, 0, time.UTC)}, "why not its time yet; again 2026-12-01T09:00:00Z"},
	{"of many that were missed the newest runs", drill.Scheduled{Pipeline: true, Cron: "0 * * * *", CatchUp: drill.CatchUp(5 * time.Hour)}, "2026-11-24T10:30:00Z",
		State{Since: time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)}, "due 2026-11-24T10:00:00Z; missed 2026-11-24T05:00:00Z because nothing looked at the schedule then; why starts now; again 2026-11-24T11:00:00Z"},
	{"spring in Berlin: the window has moved with the people", tuesday, "2026-03-31T08:00:00Z", State{}, "due 2026-03-31T08:00:00Z; why starts now; again 2026-04-07T08:00:00Z"},
	{"the week before it", tuesday, "2026-03-24T09:00:00Z", State{}, "due 2026-03-24T09:00:00Z; why starts now; again 2026-03-31T08:00:00Z"},
	{"autumn in New York: the second 01:30 is no moment", drill.Scheduled{Pipeline: true, Cron: "30 1 * * * America/New_York"}, "2027-11-07T01:30:00-05:00",
		State{Done: map[string]time.Time{"pipeline @ 30 1 * * * America/New_York": time.Date(2027, 11, 7, 5, 30, 0, 0, time.UTC)}},
		"why not its time yet; again 2027-11-08T06:30:00Z"},
	{"spring in New York: what is left out comes later", drill.Scheduled{Pipeline: true, Cron: "30 2 * * * America/New_York"}, "2027-03-14T03:30:00-04:00", State{},
		"due 2027-03-14T07:30:00Z; why starts now; again 2027-03-15T06:30:00Z"},
	{"leap day", drill.Scheduled{Pipeline: true, Cron: "0 12 29 2 *"}, "2028-02-29T12:00:00Z", State{}, "due 2028-02-29T12:00:00Z; why starts now; again 2032-02-29T12:00:00Z"},
}

// check holds a decider against the table and returns what differs.
func check(t *testing.T, decide func([]Entry, time.Time, State) Decision) []string {
	t.Helper()
	var wrong []string
	for _, test := range decisions {
		state, now := test.state, at(t, test.now)
		if state.Since.IsZero() {
			state.Since = now.Add(-24 * time.Hour)
		}
		if diff := cmp.Diff(test.want, told(decide([]Entry{entry(t, test.written)}, now, state))); diff != "" {
			wrong = append(wrong, test.name+" (-want +got)\n"+diff)
		}
	}
	return wrong
}

func TestDecideSaysWhenAndWhyNot(t *testing.T) {
	for _, wrong := range check(t, Decide) {
		t.Error(wrong)
	}
}

// bugs are deciders that are wrong in one thing each.
var bugs = map[string]func([]Entry, time.Time, State) Decision{
	"forgets windows": func(entries []Entry, now time.Time, state State) Decision {
		return Decide(edited(entries, func(e *Entry) { e.Calendar.Window = drill.Window{} }), now, state)
	},
	"forgets freezes": func(entries []Entry, now time.Time, state State) Decision {
		return Decide(edited(entries, func(e *Entry) { e.Calendar.Freezes = nil }), now, state)
	},
	"catches up whatever was missed": func(entries []Entry, now time.Time, state State) Decision {
		return Decide(edited(entries, func(e *Entry) { e.CatchUp = 7 * 24 * time.Hour }), now, state)
	},
	"forgets what was done": func(entries []Entry, now time.Time, state State) Decision {
		state.Done = nil
		return Decide(entries, now, state)
	},
	"forgets what runs": func(entries []Entry, now time.Time, state State) Decision {
		state.Running = nil
		return Decide(entries, now, state)
	},
	"forgets that it was halted": func(entries []Entry, now time.Time, state State) Decision {
		state.Halted = ""
		return Decide(entries, now, state)
	},
}

func edited(entries []Entry, change func(*Entry)) []Entry {
	var all []Entry
	for _, e := range entries {
		change(&e)
		all = append(all, e)
	}
	return all
}

func TestWrongDecidersAreCaughtByTheTable(t *testing.T) {
	for name, decide := range bugs {
		if len(check(t, decide)) == 0 {
			t.Errorf("a decider that %s passes the table", name)
		}
	}
}

// broken plays a schedule through some weeks with random looks, runs and crashes, and returns the first thing that must never happen. It
// knows the rules of an entry only from its texts.
func broken(t *testing.T, seed uint64, decide func([]Entry, time.Time, State) Decision) string {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	written := []drill.Scheduled{
		with(tuesday, func(s *drill.Scheduled) {
			s.Jitter, s.CatchUp = drill.Seconds(3*time.Hour), drill.CatchUp(time.Duration(random.IntN(3))*24*time.Hour)
		}),
		{Pipeline: true, Cron: "*/30 10-11 * * * Europe/Berlin", Window: "daily", Jitter: drill.Seconds(10 * time.Minute)},
	}
	written[1].Window = "09:00-12:00 Europe/Berlin"
	entries := []Entry{entry(t, written[0]), entry(t, written[1])}
	berlin := entries[0].Calendar.Cron.Zone()
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	state := State{Since: now, Done: map[string]time.Time{}, Running: map[string]string{}}
	started := map[string]bool{}
	for now.Before(time.Date(2027, 1, 20, 0, 0, 0, 0, time.UTC)) {
		if random.IntN(4) == 0 {
			delete(state.Running, "bookstore")
		}
		decision := decide(entries, now, state)
		for _, due := range decision.Due {
			key := fmt.Sprint(due.Entry.Name, due.Moment)
			local := now.In(berlin)
			switch {
			case started[key]:
				return fmt.Sprintf("%s starts twice for %s", due.Entry.Name, due.Moment)
			case state.Running["bookstore"] != "":
				return fmt.Sprintf("%s starts beside %s", due.Entry.Name, state.Running["bookstore"])
			case due.Entry.Name == entries[0].Name && (local.Hour() < 9 || local.Hour() >= 15 || local.Weekday() == time.Saturday || local.Weekday() == time.Sunday):
				return "starts outside of its window: " + local.String()
			case due.Entry.Name == entries[0].Name && local.Format(time.DateOnly) >= "2026-12-18" && local.Format(time.DateOnly) <= "2027-01-04":
				return "starts on a frozen date: " + local.String()
			case due.Start.After(now) || due.Start.Before(due.Moment):
				return fmt.Sprintf("starts at %s for %s", due.Start, due.Moment)
			case now.Sub(due.Start) > max(due.Entry.CatchUp, time.Minute):
				return fmt.Sprintf("%s starts %s late", due.Entry.Name, now.Sub(due.Start))
			}
			started[key] = true
			state.Running["bookstore"] = due.Entry.Name
		}
		for _, dealt := range append(decision.Due, decision.Missed...) {
			if dealt.Moment.After(state.Done[dealt.Entry.Name]) {
				state.Done[dealt.Entry.Name] = dealt.Moment
			}
		}
		if !decision.Next.IsZero() && !decision.Next.After(now) {
			return fmt.Sprintf("at %s: ask again at %s", now, decision.Next)
		}
		now = now.Add(time.Duration(random.Int64N(int64(40 * time.Minute)))) // looks of its own, seldom when asked to
		if random.IntN(3) > 0 && decision.Next.After(now) && decision.Next.Sub(now) < time.Hour {
			now = decision.Next
		}
		if random.IntN(200) == 0 {
			now = now.Add(time.Duration(random.Int64N(int64(60 * time.Hour)))) // nobody looked for some days
			clear(state.Running)
		}
	}
	if len(started) == 0 {
		return "nothing ever starts"
	}
	return ""
}

func TestNothingForbiddenStartsInManyWinters(t *testing.T) {
	for seed := range uint64(25) {
		if wrong := broken(t, seed, Decide); wrong != "" {
			t.Errorf("SEED=%d: %s", seed, wrong)
		}
	}
}

func TestWrongDecidersAreCaughtInSomeWinter(t *testing.T) {
	for name, decide := range bugs {
		if name == "forgets that it was halted" { // winters have no halts; the table has
			continue
		}
		if name == "catches up whatever was missed" {
			decide = func(entries []Entry, now time.Time, state State) Decision {
				return restored(entries, bugs["catches up whatever was missed"](entries, now, state))
			}
		}
		caught := false
		for seed := uint64(0); seed < 25 && !caught; seed++ {
			caught = broken(t, seed, decide) != ""
		}
		if !caught {
			t.Errorf("a decider that %s gets through 25 winters", name)
		}
	}
}

// restored gives a decision the entries as they are written, so that the checks look at those.
func restored(entries []Entry, d Decision) Decision {
	for i := range d.Due {
		for _, e := range entries {
			if e.Name == d.Due[i].Entry.Name {
				d.Due[i].Entry = e
			}
		}
	}
	return d
}

func TestJitterIsTheSameForTheSameMomentAndStaysInTheWindow(t *testing.T) {
	e := entry(t, with(tuesday, func(s *drill.Scheduled) { s.Cron, s.Jitter = "30 14 * * TUE", drill.Seconds(4*time.Hour) }))
	moment := time.Date(2026, 11, 24, 13, 30, 0, 0, time.UTC)
	different := map[time.Duration]bool{}
	for range 50 {
		start := e.start(moment)
		if again := e.start(moment); !again.Equal(start) {
			t.Fatalf("%s, then %s", start, again)
		}
		if start.Before(moment) || !e.Calendar.Window.Contains(start) {
			t.Errorf("%s is put off to %s", moment, start)
		}
		different[start.Sub(moment)] = true
		moment = e.Calendar.Cron.Next(moment)
	}
	if len(different) < 40 {
		t.Errorf("50 moments are put off by only %d different spans", len(different))
	}
}
