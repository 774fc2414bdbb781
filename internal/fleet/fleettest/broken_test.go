package fleettest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

// stage has hosts join for a drill of the shop; the first one is attacked.
func (r *ring) stage() *host {
	r.t.Helper()
	green := r.join("web2", map[string]string{"service": "shop", "environment": "green"}, false)
	r.join("web1", map[string]string{"service": "shop", "environment": "blue"}, false)
	r.online()
	r.ask("putservice", fleet.PutService{Text: stageFile}, nil)
	return &host{directory: hostOf(green)}
}

// drillsOf are the drills of an entry of the schedule, the oldest first.
func (r *ring) drillsOf(entry string) []fleet.DrillRun {
	r.t.Helper()
	var all []fleet.DrillRun
	r.ask("drills", nil, &all)
	all = slices.DeleteFunc(all, func(d fleet.DrillRun) bool { return d.Entry != entry })
	slices.Reverse(all)
	return all
}

func (r *ring) drillEnded(id string) fleet.DrillRun {
	r.t.Helper()
	var run fleet.DrillRun
	r.await("the end of drill "+id, func() error {
		r.ask("drillrun", id, &run)
		if !run.Done() {
			return errors.New(run.State)
		}
		return nil
	})
	return run
}

// dueOnce puts a drill on the schedule that is due at one minute of a day, and waits until that has come and it is in force.
func (r *ring) dueOnce(h *host, since time.Time) fleet.Scheduled {
	r.t.Helper()
	var entry fleet.Scheduled
	for tried := 0; ; tried++ {
		// The minute must not come before the drill is unleashed.
		at := fast(since).UTC().Add(time.Minute).Truncate(time.Minute).Add(time.Duration(tried+1) * time.Minute)
		name := fmt.Sprintf("once-%d", tried)
		r.ask("schedule", fleet.ScheduleRequest{Name: name, Cron: fmt.Sprintf("%d %d * * * UTC", at.Minute(), at.Hour()), CatchUp: drill.Seconds(12 * time.Hour), Drill: &fleet.DrillRequest{Service: "shop", Drill: "for-long"}}, &entry)
		r.ask("unleash", name, nil)
		if fast(since).Before(at) {
			break
		}
		r.ask("unschedule", entry.ID, nil)
	}
	r.await("the drill that is due", h.inForce)
	return entry
}

// A drill of the schedule whose leader dies is safely ended by the next one, and begun once more; when that one dies too, not a third time. It takes more
// than a minute, and a machine that lets leaders keep their lease, so it belongs to the long series: make kills.
func leaderDies(t *testing.T) {
	since := time.Now()
	r := newRing(t, 3, 0, func(c *serverConfig) { c.Conducts, c.Fast = true, since })
	h := r.stage()
	entry := r.dueOnce(h, since)

	conducting := r.leader()
	first := r.drillsOf(entry.ID)[0]
	if first.Server != conducting.name {
		t.Errorf("%s leads, and %s conducts", conducting.name, first.Server)
	}
	conducting.kill()
	r.connect()
	first = r.drillEnded(first.ID)
	if first.Outcome != "inconclusive" || !strings.Contains(first.Reason, "server "+conducting.name+" ended in the middle of it; its hosts took the impact back") || first.Left {
		t.Errorf("the first one: %+v", first)
	}
	ended, err := deeds(h.directory)
	if err != nil || len(ended) < 2 || ended[0].Order != ended[1].Order || ended[1].Begins {
		t.Errorf("what the first one had in force was not taken back before the next began: %+v, %v", ended, err)
	}
	// Its moment may still be caught up: the permit is free, and it begins once more.
	r.await("the second one", func() error {
		if len(r.drillsOf(entry.ID)) < 2 {
			return errors.New("it has not begun")
		}
		return h.inForce()
	})
	conducting.start()
	// That leader dies too. Nothing begins a third time.
	again := r.leader()
	second := r.drillsOf(entry.ID)[1]
	again.kill()
	r.connect()
	if second = r.drillEnded(second.ID); second.Outcome != "inconclusive" || second.Server != again.name || second.Left {
		t.Errorf("the second one: %+v", second)
	}
	r.await("that nothing is in force", h.whole)
	again.start()
	// A person can drill again: the permit is free. Had the schedule begun it a third time, this would be refused.
	var third fleet.DrillRun
	r.await("a drill of a person", func() error {
		return r.within(2*patience, "drill", fleet.DrillRequest{Service: "shop", Drill: "busy"}, &third)
	})
	if all := r.drillsOf(entry.ID); len(all) != 2 {
		t.Errorf("the schedule has begun %d drills for one moment", len(all))
	}
	if third = r.drillEnded(third.ID); third.Left {
		t.Errorf("the drill of a person: %+v", third)
	}
	var runs []fleet.Run
	r.ask("runs", nil, &runs)
	for _, run := range runs {
		for _, one := range run.Hosts {
			if !one.Reverted || one.Lines > 0 && one.Chain != "whole" {
				t.Errorf("run %s: %+v", run.ID, one)
			}
		}
	}
	for _, wrong := range r.brokenAudit() {
		t.Error(wrong)
	}
}

// abandoned kills the one server in the middle of a drill, starts it again, and says whether the impact goes on though nobody watches it.
func abandoned(t *testing.T, planted bool) bool {
	t.Helper()
	r := newRing(t, 1, 1, func(c *serverConfig) { c.Conducts, c.Abandoning = true, planted })
	h := r.stage()
	var run fleet.DrillRun
	r.await("a drill", func() error {
		return r.within(2*patience, "drill", fleet.DrillRequest{Service: "shop", Drill: "for-long"}, &run)
	})
	r.await("the impact", h.inForce)
	r.servers[0].kill()
	r.servers[0].start()
	r.connect()
	r.await("that it is broken off", func() error {
		r.ask("drillrun", run.ID, &run)
		if run.State == fleet.DrillRunning {
			return errors.New(run.State)
		}
		return nil
	})
	if planted {
		r.ask("token", fleet.TokenRequest{Uses: 1}, nil) // it leads again
		<-time.After(3 * time.Second)                    // for longer than it takes to look at what goes on
		return h.hit()
	}
	run = r.drillEnded(run.ID)
	if run.Outcome != "inconclusive" || run.Left {
		t.Errorf("%+v", run)
	}
	return h.hit()
}

func TestWhatADrillHasInForceDoesNotOutliveItsServer(t *testing.T) {
	t.Parallel()
	if abandoned(t, false) {
		t.Error("a drill was broken off, and its impact goes on")
	}
}

func TestImpactThatOutlivesTheServerOfItsDrillIsCaught(t *testing.T) {
	t.Parallel()
	if !abandoned(t, true) {
		t.Error("the planted bug is not noticed")
	}
}
