package control

import (
	"context"
	"fmt"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/history"
)

// begunFor counts how often a drill of the schedule is begun for one moment, when a server ends in the middle of it again and again.
func begunFor(t *testing.T, relentless bool) int {
	t.Helper()
	c, conductor := stageOf(t, false)
	defer shut(t, c)
	c.options.Relentless = relentless
	ctx := context.Background()
	otto := fleet.Member{Name: "otto", Role: fleet.RoleOperator}
	moment := time.Now().UTC().Truncate(time.Minute).Add(2 * time.Minute)
	for _, asked := range []struct {
		call string
		with any
	}{
		{"schedule", fleet.ScheduleRequest{Name: "daily", Cron: fmt.Sprintf("%d %d * * * UTC", moment.Minute(), moment.Hour()), CatchUp: drill.Seconds(time.Hour), Drill: &fleet.DrillRequest{Service: "shop", Drill: "cut"}}},
		{"unleash", "daily"},
	} {
		if _, err := c.Call(ctx, otto, asked.call, encode(asked.with)); err != nil {
			t.Fatal(err)
		}
	}
	c.carryOutDue(ctx, moment.Add(time.Second))
	c.due.Wait()
	if conductor.count() != 1 {
		t.Fatalf("%d drills at its moment: %+v", conductor.count(), c.Scheduled(moment))
	}
	broken := conductor.jobs[0].Drill
	if broken.Entry == "" || !broken.Moment.Equal(moment) {
		t.Fatalf("the drill does not say what it was begun for: %+v", broken)
	}
	again := func(broken fleet.DrillRun, at time.Time) {
		c.beginAgain(ctx, broken, at)
		c.due.Wait()
	}
	// Not what a person began, and not when it is too late.
	byHand := broken
	byHand.Trigger = history.TriggerPerson
	again(byHand, moment.Add(time.Minute))
	again(broken, moment.Add(2*time.Hour))
	if conductor.count() != 1 {
		t.Errorf("it was begun again: %d", conductor.count())
	}
	for at := time.Minute; at < 4*time.Minute; at += time.Minute {
		again(conductor.jobs[conductor.count()-1].Drill, moment.Add(at))
	}
	return conductor.count()
}

func TestADrillThatWasBrokenOffIsBegunOnceMore(t *testing.T) {
	t.Parallel()
	if times := begunFor(t, false); times != 2 {
		t.Errorf("it was begun %d times", times)
	}
}

func TestAScheduleThatBeginsAgainAndAgainIsCaught(t *testing.T) {
	t.Parallel()
	if times := begunFor(t, true); times <= 2 {
		t.Error("the planted bug is not noticed")
	}
}
