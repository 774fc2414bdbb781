package database

import (
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
)

func pair(a, b Member) Status {
	a.Host, b.Host = "db-a", "db-b"
	return Status{Members: []Member{a, b}}
}

func TestChooseTakesNoStandbyInDoubt(t *testing.T) {
	leads := Member{Role: Primary, Timeline: 3, Position: 1000}
	follows := Member{Role: Standby, Timeline: 3, Position: 900, Streaming: true}
	down := Member{Role: Down}
	behind := func(position uint64) Member { m := follows; m.Position, m.Streaming = position, false; return m }
	seen := Seen{Host: "db-a", Timeline: 3, Position: 1000, Armed: true}
	paused := pair(leads, follows)
	paused.Paused = true
	managed := pair(leads, follows)
	managed.Managed = true
	barred := pair(down, Member{Role: Standby, Timeline: 3, Position: 1000, Barred: true, Detail: "nofailover"})
	for _, c := range []struct {
		name   string
		status Status
		order  Order
		seen   Seen
		want   string // "from>to", or a part of the refusal
	}{
		{"planned", pair(leads, follows), Order{Planned: true}, Seen{}, "db-a>db-b"},
		{"planned, to a standby that does not follow", pair(leads, behind(900)), Order{Planned: true}, Seen{}, "does not follow"},
		{"planned, without a primary", pair(down, follows), Order{Planned: true}, seen, "no primary"},
		{"planned, lost rows are not allowed even by order", pair(leads, behind(1)), Order{Planned: true, AllowLoss: true}, Seen{}, "does not follow"},
		{"lost primary", pair(down, behind(1000)), Order{}, seen, "db-a>db-b"},
		{"within the policy", pair(down, behind(990)), Order{}, seen, "db-a>db-b"},
		{"further than was seen", pair(down, behind(2000)), Order{}, seen, "db-a>db-b"},
		{"too far behind", pair(down, behind(989)), Order{}, seen, "11 bytes behind"},
		{"too far behind, by order", pair(down, behind(989)), Order{AllowLoss: true}, seen, "db-a>db-b"},
		{"never seen", pair(down, behind(1000)), Order{}, Seen{}, "not known"},
		{"never seen, by order", pair(down, behind(1000)), Order{AllowLoss: true}, Seen{}, "db-a>db-b"},
		{"seen on an older timeline", pair(down, behind(1000)), Order{}, Seen{Host: "db-a", Timeline: 2, Position: 10}, "not known"},
		{"a branch that was left", pair(Member{Role: Primary, Timeline: 4}, behind(5000)), Order{To: "db-b", AllowLoss: true}, seen, "timeline 3, and 4"},
		{"nobody left", pair(down, down), Order{AllowLoss: true}, seen, "no standby"},
		{"two primaries", pair(leads, leads), Order{}, seen, "2 servers take writes"},
		{"paused", paused, Order{Planned: true}, seen, "paused"},
		{"its manager has one that is well", managed, Order{AllowLoss: true}, seen, "its own manager promotes"},
		{"its manager has one that is well, planned", managed, Order{Planned: true}, seen, "db-a>db-b"},
		{"never promoted, by name", barred, Order{To: "db-b", AllowLoss: true}, seen, "nofailover"},
		{"never promoted", barred, Order{AllowLoss: true}, seen, "no standby"},
		{"to the primary", pair(leads, follows), Order{To: "db-a", Planned: true}, seen, "only a standby"},
		{"to a host that is down", pair(leads, down), Order{To: "db-b"}, seen, "only a standby"},
		{"to nobody", pair(leads, follows), Order{To: "db-c"}, seen, "no host"},
	} {
		move, err := Choose(c.status, c.order, Policy{LagMax: 10}, c.seen)
		got := move.From + ">" + move.To
		if err != nil {
			got = err.Error()
			if drill.HintOf(err) == "" {
				t.Errorf("%s: %q says nothing of what to do", c.name, got)
			}
		}
		if got != c.want && (err == nil || !strings.Contains(got, c.want)) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

func TestChooseTakesTheFurthest(t *testing.T) {
	status := Status{Members: []Member{
		{Host: "a", Role: Down}, {Host: "b", Role: Standby, Timeline: 2, Position: 900}, {Host: "c", Role: Standby, Timeline: 3, Position: 700},
		{Host: "d", Role: Standby, Timeline: 3, Position: 800}, {Host: "e", Role: Standby, Timeline: 3, Position: 800},
	}}
	move, err := Choose(status, Order{}, Policy{LagMax: 1000}, Seen{Host: "a", Timeline: 3, Position: 900})
	if err != nil || move.To != "d" || move.From != "a" {
		t.Errorf("%+v, %v", move, err)
	}
}

func TestOnlyAllAlarmsTogetherOrderAPromotion(t *testing.T) {
	alarms := []string{"blue", "green"}
	start := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	var w Watching
	for i, c := range []struct {
		blue, green string
		due         bool
	}{
		{"ALARM", "ALARM", false}, // it was never seen well
		{"OK", "", false}, {"OK", "OK", false}, {"ALARM", "OK", false}, {"ALARM", "INSUFFICIENT_DATA", false},
		{"ALARM", "ALARM", true}, {"ALARM", "ALARM", false}, // once
		{"OK", "OK", false}, {"ALARM", "ALARM", false}, // too soon again
	} {
		var due bool
		w, due, _ = Due(w, map[string]string{"blue": c.blue, "green": c.green}, alarms, start.Add(time.Duration(i)*time.Second))
		if due != c.due {
			t.Errorf("step %d: %+v: due %v", i, c, due)
		}
	}
	if _, due, _ := Due(w, map[string]string{"blue": "ALARM", "green": "ALARM"}, alarms, start.Add(holdMin+time.Minute)); !due {
		t.Error("a later loss orders nothing")
	}
	if _, due, _ := Due(Watching{Well: true}, nil, nil, start); due {
		t.Error("no alarms order a promotion")
	}
}

func TestOnlyAPrimaryThatAnotherWasPromotedPastIsStale(t *testing.T) {
	leads := func(timeline uint64) Member { return Member{Role: Primary, Timeline: timeline} }
	for _, c := range []struct {
		status Status
		want   string
	}{
		{pair(leads(1), leads(2)), "db-a"},
		{pair(leads(2), leads(1)), "db-b"},
		{pair(leads(2), leads(2)), ""}, // which one is old is not known: a person must look
		{pair(leads(1), Member{Role: Standby, Timeline: 2}), ""},
		{pair(leads(1), Member{Role: Down, Timeline: 2}), ""},
		{pair(leads(0), leads(2)), ""}, // its timeline is not known
	} {
		if got := strings.Join(Stale(c.status), " "); got != c.want {
			t.Errorf("%s: stale is %q, want %q", c.status, got, c.want)
		}
	}
}
