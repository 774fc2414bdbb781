package control

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/history"
	"firedrill/internal/schedule"
)

const (
	shopLevel   = "objectives: {level: {target: 99.9%, window: 30d, drill_budget: 2%}}\nclients: {near: {http: /}}\n" // a budget of 2592 s
	shopCadence = "    cadence: 28d\n"
)

func drilled(ago time.Duration, outcome string, unserved time.Duration) fleet.Record {
	at := time.Now().Add(-ago)
	return fleet.Record{ID: at.UTC().Format("20060102T150405Z") + "-00000a", Service: "shop", Outcome: outcome, Started: at,
		Steps: []fleet.RecordStep{{Name: "deploy green", Kind: "deploy", Outcome: "passed"}, {Name: "drill cut on green (chosen web2)", Kind: "drill", Outcome: outcome, Unserved: secondsOf(unserved)}}}
}

func put(t *testing.T, c *Control, text string) {
	t.Helper()
	if _, err := c.Call(t.Context(), fleet.Member{Name: "otto", Role: fleet.RoleOperator}, "putservice", encode(fleet.PutService{Text: text})); err != nil {
		t.Fatal(err)
	}
}

func TestACadenceIsToldWhenItMovesAndOnce(t *testing.T) {
	t.Parallel()
	directory := filepath.Join(t.TempDir(), "fleet")
	var told []string
	deaf := false
	start := func() *Control {
		return openWith(t, directory, func(o *Options) {
			o.Tell = func(_ context.Context, news fleet.News) error {
				if deaf {
					return errors.New("nobody is there")
				}
				told = append(told, fmt.Sprintf("%s %s %s %s>%s", news.Service, news.Name, news.Text, news.From, news.To))
				return nil
			}
			o.Wanted = func() []fleet.Wanted {
				return []fleet.Wanted{{Service: "shop", Drill: "unseen", Every: secondsOf(oneDay)}, {Service: "bank", Drill: "lose-db", Every: secondsOf(1000 * oneDay), Since: time.Now()}}
			}
		})
	}
	c := start()
	put(t, c, shop+shopCadence)
	if err := c.KeepRecord(t.Context(), drilled(10*oneDay, "passed", 0)); err != nil {
		t.Fatal(err)
	}
	// What says nothing does not count, and neither does what is older.
	for i, record := range []fleet.Record{drilled(oneDay, "inconclusive", 0), drilled(20*oneDay, "failed", 0)} {
		record.ID += fmt.Sprint(i)
		if err := c.KeepRecord(t.Context(), record); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	state := func(at time.Time) string {
		for _, one := range c.Cadences(at) {
			if one.Service == "shop" && one.Drill == "cut" {
				return one.State + " " + one.Outcome
			}
		}
		return "none"
	}
	for after, want := range map[time.Duration]string{0: "kept passed", 18 * oneDay: "due passed", 25 * oneDay: "overdue passed"} {
		if got := state(now.Add(after + time.Hour)); got != want {
			t.Errorf("after %s: %s, not %s", after, got, want)
		}
	}
	if all := c.Cadences(now); len(all) != 2 || all[1].Service+all[0].Service != "shopbank" && all[0].Service+all[1].Service != "bankshop" {
		t.Errorf("a file that was put on the server outranks one beside it: %+v", all)
	}
	expect := func(at time.Time, want ...string) {
		t.Helper()
		told = nil
		c.tellCadences(t.Context(), at)
		c.tellCadences(t.Context(), at)
		if strings.Join(told, "; ") != strings.Join(want, "; ") {
			t.Errorf("told %q, not %q", told, want)
		}
	}
	expect(now)
	deaf = true
	expect(now.Add(19 * oneDay))
	deaf = false
	expect(now.Add(19*oneDay), "shop cadence-cut no drill of cut for 29 days: due INSUFFICIENT_DATA>ALARM")
	shut(t, c)
	c = start()
	expect(now.Add(19 * oneDay)) // a restart says nothing twice
	expect(now.Add(26*oneDay), "shop cadence-cut no drill of cut for 36 days: overdue ALARM>ALARM")
	if err := c.KeepRecord(t.Context(), drilled(0, "failed", 0)); err != nil {
		t.Fatal(err)
	}
	expect(now.Add(time.Hour), "shop cadence-cut the next drill of cut is due in 27 days ALARM>OK")
	put(t, c, shop+shopCadence+"# another version\n")
	if got := state(now.Add(time.Hour)); got != "kept failed" {
		t.Errorf("with another version: %s", got)
	}
	if audited(t, c, "cadence of shop: no drill of cut for 29 days: due") != 1 {
		t.Error("the audit log does not say so once")
	}
	shut(t, c)
}

func TestADrillOfTheScheduleIsSkippedWhereTheServiceIsNotFit(t *testing.T) {
	t.Parallel()
	for _, careless := range []bool{false, true} {
		c, conductor := stageOf(t, false)
		c.options.Careless = careless
		ctx := context.Background()
		otto := fleet.Member{Name: "otto", Role: fleet.RoleOperator}
		put(t, c, shopLevel+shop+shopCadence)
		for _, call := range []struct {
			name  string
			asked any
		}{{"schedule", fleet.ScheduleRequest{Name: "weekly", Cron: "* * * * *", Drill: &fleet.DrillRequest{Service: "shop", Drill: "cut"}}}, {"unleash", "weekly"}} {
			if _, err := c.Call(ctx, otto, call.name, encode(call.asked)); err != nil {
				t.Fatal(err)
			}
		}
		at := time.Now()
		due := func() fleet.ScheduledView {
			at = at.Add(time.Minute)
			c.carryOutDue(ctx, at)
			c.due.Wait()
			return c.Scheduled(at)[0]
		}
		conductor.is("alarm web1-beat is raised")
		one := due()
		if careless {
			if conductor.count() == 0 {
				t.Error("the planted bug does nothing")
			}
			shut(t, c)
			continue
		}
		skipped := func(why string, count int) {
			t.Helper()
			if conductor.count() != count {
				t.Fatalf("%d drills, not %d: %+v", conductor.count(), count, one)
			}
			run, err := c.FindDrill(one.Last)
			if err != nil || run.Outcome != fleet.OutcomeSkipped || !run.Done() || !strings.Contains(run.Reason, why) || run.Trigger != history.TriggerSchedule || !strings.Contains(one.Why, why) {
				t.Errorf("%+v, %+v, %v", one, run, err)
			}
		}
		skipped("alarm web1-beat is raised", 0)
		if records, _ := c.Records("shop", "", 10); len(records) > 0 || c.Cadences(time.Now())[0].State != schedule.CadenceKept || !c.Cadences(time.Now())[0].Last.IsZero() {
			t.Errorf("a skip counts: %+v", records)
		}
		// By hand it begins: who asks has seen how things are.
		if _, err := c.Call(ctx, otto, "runscheduled", encode("weekly")); err != nil {
			t.Error(err)
		}
		c.due.Wait()
		if conductor.is(""); conductor.count() != 1 {
			t.Errorf("by hand: %d drills", conductor.count())
		}
		if one = due(); conductor.count() != 2 {
			t.Errorf("fit again: %+v", one)
		}
		for i, cost := range []time.Duration{2000 * time.Second, 500 * time.Second} {
			if err := c.KeepRecord(ctx, drilled(time.Duration(i+1)*oneDay, "passed", cost)); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.KeepRecord(ctx, drilled(40*oneDay, "passed", 2000*time.Second)); err != nil { // out of the window
			t.Fatal(err)
		}
		if one = due(); conductor.count() != 3 {
			t.Errorf("with some of the budget left: %+v", one)
		}
		if err := c.KeepRecord(ctx, drilled(3*oneDay, "passed", 100*time.Second)); err != nil {
			t.Fatal(err)
		}
		one = due()
		skipped("the error budget is spent: drills left clients unserved for 43m20s of the 43m12s", 3)
		if audited(t, c, "drill cut of shop is skipped") != 2 {
			t.Error("the audit log does not say so")
		}
		if _, err := c.Call(ctx, otto, "leash", encode("weekly")); err != nil {
			t.Error(err)
		}
		if one = due(); one.Last != "" || !strings.Contains(one.Why, "leashed: it would be skipped: the error budget is spent") {
			t.Errorf("%+v", one)
		}
		shut(t, c)
	}
}

func secondsOf(d time.Duration) drill.Seconds { return drill.Seconds(d) }
