package control

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/permits"
)

const downRun = "01900000-0000-7000-8000-0000000d0e0f"

// tookDown is a control plane whose run has taken web1 of the shop down; it is past its deadline, and so is its permit.
func tookDown(t *testing.T, change func(*Options)) *Control {
	t.Helper()
	c := openWith(t, filepath.Join(t.TempDir(), "fleet"), func(o *Options) {
		o.TakesDown = func(kind string) bool { return kind == "shutdown" }
		o.Margin = time.Minute
		change(o)
	})
	t.Cleanup(func() { shut(t, c) })
	web1 := fleet.Member{Key: "U" + strings.Repeat("A", 55), Name: "web1", Role: fleet.RoleAgent, Tags: map[string]string{"service": "shop"}}
	if err := c.members.add(t.Context(), web1); err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour)
	run := fleet.Run{ID: downRun, By: "otto", Kind: "shutdown", Services: []string{"shop"}, Groups: []string{"fronts"}, Issued: past, Start: past, Deadline: past.Add(time.Minute), State: fleet.RunRunning,
		Hosts: []fleet.RunHost{{Key: web1.Key, Name: "web1", Order: "o1", State: fleet.HostAccepted, Code: -1}}}
	run.Term, _ = c.lead.holds()
	if err := c.permits.Take(t.Context(), permits.Names(run.Services, run.Groups), permits.Permit{Run: run.ID, By: run.By, Until: run.Deadline.Add(c.options.Margin)}, past); err != nil {
		t.Fatal(err)
	}
	if err := c.runs.put(t.Context(), run); err != nil {
		t.Fatal(err)
	}
	return c
}

// free reports whether another run would have the permits of a service or a group.
func free(t *testing.T, c *Control, names ...string) (bool, error) {
	t.Helper()
	err := c.takePermits(t.Context(), names, permits.Permit{Run: "another", By: "olga", Until: time.Now().Add(time.Minute)}, time.Now())
	for _, name := range names {
		if given := c.permits.Yield(t.Context(), name, "another"); given != nil {
			t.Fatal(given)
		}
	}
	return err == nil, err
}

// A host that was taken down is waited for past its deadline, and until it is back nothing of its service or group is attacked.
func TestAHostThatWasTakenDownIsWaitedFor(t *testing.T) {
	t.Parallel()
	for _, presuming := range []bool{false, true} {
		c := tookDown(t, func(o *Options) { o.Presuming = presuming })
		ctx := context.Background()
		for range 2 {
			c.follow(ctx, time.Now())
		}
		run, _ := c.runs.get(downRun)
		if run.Done() != presuming {
			t.Errorf("presuming %v: the run is %s, its host %+v", presuming, run.State, run.Hosts[0])
		}
		for _, names := range [][]string{permits.Names([]string{"shop"}, nil), permits.Names([]string{"other"}, []string{"fronts"})} {
			got, err := free(t, c, names...)
			if got != presuming || !presuming && (drill.KindOf(err) != drill.Refused || !strings.Contains(drill.HintOf(err), "firedrill fleet stop "+downRun)) {
				t.Errorf("presuming %v: permits %q are free: %v, %v", presuming, names, got, err)
			}
		}
		if got, err := free(t, c, "elsewhere"); !got {
			t.Errorf("a service that has nothing to do with it: %v", err)
		}
		if presuming {
			continue
		}
		if n := audited(t, c, "not back by "); n != 1 || audited(t, c, ": web1") != 1 || !strings.Contains(run.Hosts[0].Reason, "kept from other attacks until its agent is back") {
			t.Errorf("it is said %d times, and of the host: %s", n, run.Hosts[0].Reason)
		}
		// Its agent is back, and gives account.
		c.change(downRun, func(r *fleet.Run) {
			h := &r.Hosts[0]
			h.State, h.Reverted, h.Reason = fleet.HostEnded, true, "the agent or its host went down while it was under way"
		})
		c.follow(ctx, time.Now())
		if run, _ := c.runs.get(downRun); !run.Done() {
			t.Errorf("its host is back, and the run is %s", run.State)
		}
		if got, err := free(t, c, permits.Names([]string{"shop"}, []string{"fronts"})...); !got {
			t.Errorf("its host is back, and the permits are held: %v", err)
		}
	}
}

// Who knows that a host will not come back says so: by ending the run, or by putting the host out.
func TestAHostThatWillNotComeBackIsGivenUpByAPerson(t *testing.T) {
	t.Parallel()
	for name, give := range map[string]struct {
		up   func(c *Control) error
		says string
	}{
		"stopped": {func(c *Control) error { _, err := c.Stop(fleet.Member{Name: "olga"}, downRun); return err }, "is not waited for: stopped by olga"},
		"put out": {func(c *Control) error {
			_, err := c.revoke(context.Background(), fleet.Member{Name: "olga"}, "web1")
			return err
		}, "was put out of the fleet"},
	} {
		c := tookDown(t, func(*Options) {})
		c.follow(context.Background(), time.Now())
		if err := give.up(c); err != nil {
			t.Fatal(err)
		}
		c.follow(context.Background(), time.Now())
		run, _ := c.runs.get(downRun)
		if got, err := free(t, c, "shop"); !got || !run.Done() || run.Hosts[0].State != fleet.HostLost || !strings.Contains(run.Hosts[0].Reason, give.says) {
			t.Errorf("%s: %s, host %+v, permit %v", name, run.State, run.Hosts[0], err)
		}
	}
}

func TestHostsAreTakenDownWithConsentAlone(t *testing.T) {
	t.Parallel()
	for _, unasked := range []bool{false, true} {
		c := tookDown(t, func(o *Options) { o.Unasked = unasked })
		otto := fleet.Member{Name: "otto", Role: fleet.RoleOperator}
		ask := func(request fleet.AttackRequest) error {
			_, err := c.Call(context.Background(), otto, "attack", encode(request))
			return err
		}
		request := fleet.AttackRequest{Kind: "shutdown", Selector: fleet.Selector{All: true}}
		withoutIt := func(err error) bool { return err != nil && strings.Contains(err.Error(), "cannot power them on") }
		if err := ask(request); withoutIt(err) == unasked || drill.KindOf(err) != drill.Refused || !unasked && !strings.Contains(drill.HintOf(err), "--yes") {
			t.Errorf("unasked %v: %v", unasked, err)
		}
		request.DryRun = true
		if err := ask(request); withoutIt(err) {
			t.Errorf("a dry run takes nothing down: %v", err)
		}
		put := func() error {
			_, err := c.Call(context.Background(), otto, "schedule", encode(fleet.ScheduleRequest{Name: "weekly", Cron: "0 10 * * TUE", Request: request}))
			return err
		}
		if err := put(); withoutIt(err) == unasked {
			t.Errorf("unasked %v, on the schedule: %v", unasked, err)
		}
		request.DryRun, request.Consent = false, true
		if err := put(); err != nil {
			t.Errorf("on the schedule, with consent: %v", err)
		}
		if err := ask(request); withoutIt(err) {
			t.Errorf("with consent: %v", err)
		}
		request.Consent, request.Kind = false, "cpu"
		if err := ask(request); withoutIt(err) {
			t.Errorf("another kind: %v", err)
		}
	}
}
