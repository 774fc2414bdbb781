package conductor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/guard"
	"firedrill/internal/history"
)

// fakeCrew is a small world: two hosts, one alarm each, one name server, one client. Its zero value is healthy with blue answered.
// It moves the answer when the answered host is attacked, as a good failover does.
type fakeCrew struct {
	mu       sync.Mutex // guards the fields below
	live     string
	attacked string
	emit     func(history.Event)

	unsteady     bool   // blue's alarm is raised all the time
	otherFails   bool   // the environment that is not attacked fails during an attack
	leaks        bool   // planted bug: does not revert when it is stopped
	stays        bool   // the answer does not move when the answered host is attacked
	deaf         bool   // the name servers do not follow what is decided
	decided      string // the last order to move the answer
	rolledBack   string
	promotes     int
	clings       bool // a client of the old environment never lets go
	deployErr    error
	attackStarts int
}

func twoHosts() drill.Plan {
	ttl := drill.Seconds(time.Second)
	host := func(name, address string) []drill.Host {
		return []drill.Host{{Name: name, Address: netip.MustParseAddr(address)}}
	}
	return drill.Plan{
		Service: "shop", Endpoint: "http://shop.test/", Live: "blue", Objectives: drill.Objectives{RTO: drill.Seconds(10 * time.Second)},
		Environments: []drill.Environment{{Name: "blue", Hosts: host("blue-1", "10.0.0.1")}, {Name: "green", Hosts: host("green-1", "10.0.0.2")}},
		Clients:      []drill.Client{{Name: "client", Every: drill.Seconds(100 * time.Millisecond), Timeout: drill.Seconds(time.Second), Ledger: "/ledger"}},
		Alarms:       []drill.Alarm{{Name: "blue-1-db", Host: "blue-1", Environment: "blue"}, {Name: "green-1-db", Host: "green-1", Environment: "green"}},
		Failover:     []drill.Failover{{Name: "shop.test", Primary: "blue", Secondary: "green", TTL: &ttl, Failback: "manual"}},
		Deploy:       &drill.Deploy{Directory: "/srv/shop"},
	}
}

func drillStep(plan drill.Plan, environment, live, after string) drill.Step {
	var hosts []drill.Host
	for _, e := range plan.Environments {
		if e.Name == environment {
			hosts = e.Hosts
		}
	}
	return drill.Step{Kind: drill.StepDrill, Name: "drill cut on " + environment, Environment: environment, Live: live, LiveAfter: after, Drill: &drill.PlannedDrill{
		Name: "cut", Hosts: hosts, Attack: drill.Order{Attack: "blackhole", Length: drill.Seconds(20 * time.Second)},
		SteadyFor: drill.Seconds(2 * time.Second), SteadyWithin: drill.Seconds(20 * time.Second),
	}}
}

func (c *fakeCrew) Inspect(context.Context, drill.Host) history.Inspected { panic("replaced below") }

func (c *fakeCrew) Observe(ctx context.Context, emit func(history.Event)) error {
	c.mu.Lock()
	c.emit = emit
	c.mu.Unlock()
	alarmed := func(host, attacked string) bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return host == attacked || (c.unsteady && host == "blue-1") || (c.otherFails && attacked != "" && host != attacked)
	}
	addresses := map[string]string{"blue": "10.0.0.1", "green": "10.0.0.2"}
	emit(history.New(time.Now(), "watch", &history.Host{Host: guard.WatchHost, Up: true}))
	clock := time.NewTicker(100 * time.Millisecond)
	defer clock.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-clock.C:
			c.mu.Lock()
			if c.attacked != "" && c.attacked == c.live+"-1" && !c.otherFails && !c.stays {
				c.live = map[string]string{"blue": "green", "green": "blue"}[c.live]
			}
			live, attacked := c.live, c.attacked
			c.mu.Unlock()
			emit(history.New(now, "ci", &history.Answer{Name: "shop.test", Server: "10.0.0.53", Addresses: []string{addresses[live]}}))
			for _, host := range []string{"blue-1", "green-1"} {
				state := history.AlarmOK
				if alarmed(host, attacked) {
					state = history.AlarmRaised
				}
				emit(history.New(now, "watch", &history.Host{Host: host, Up: true}))
				emit(history.New(now, "watch", &history.Alarm{Name: host + "-db", To: state}))
			}
			emit(history.New(now, "client", &history.Sample{Probe: "client", Scheduled: now, OK: attacked != live+"-1"}))
		}
	}
}

func (c *fakeCrew) Deploy(context.Context, drill.Environment, func(history.Event)) error {
	return c.deployErr
}

func (c *fakeCrew) Rollback(_ context.Context, environment drill.Environment, _ func(history.Event)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.rolledBack = environment.Name
	return nil
}

func (c *fakeCrew) Promote(_ context.Context, to string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.decided = to; !c.deaf {
		c.live = to
	}
	c.promotes++
	return nil
}

func (c *fakeCrew) Attack(ctx context.Context, host drill.Host, order drill.Order, guid string, emit func(history.Event)) error {
	c.mu.Lock()
	c.attackStarts++
	c.attacked = host.Name
	c.mu.Unlock()
	emit(history.New(time.Now(), host.Name, &history.AttackInForce{GUID: guid, Until: time.Now().Add(order.Length.Duration())}))
	select {
	case <-ctx.Done():
		if c.leaks {
			return nil
		}
	case <-time.After(order.Length.Duration()):
	}
	c.mu.Lock()
	c.attacked = ""
	c.mu.Unlock()
	emit(history.New(time.Now(), host.Name, &history.AttackReverted{GUID: guid, Why: "deadline"}))
	emit(history.New(time.Now(), host.Name, &history.AttackAccount{GUID: guid, Bit: true, Reverted: true}))
	return nil
}

// Drain finds one request on the old environment, twice, and then none.
func (c *fakeCrew) Drain(ctx context.Context, environment drill.Environment, emit func(history.Event)) error {
	clock := time.NewTicker(250 * time.Millisecond)
	defer clock.Stop()
	for looks := 0; ; looks++ {
		select {
		case <-ctx.Done():
			return nil
		case now := <-clock.C:
			for _, host := range environment.Hosts {
				look := &history.Drain{Environment: environment.Name, Host: host.Name}
				if looks < 2 || c.clings {
					look.Open = 1
				}
				emit(history.New(now, "ci", look))
			}
		}
	}
}

func (c *fakeCrew) Ledger(ctx context.Context, _ drill.Client, emit func(history.Event)) error {
	<-ctx.Done()
	emit(history.New(time.Now(), "client", &history.Ledger{Sent: 10, Acked: 10}))
	return nil
}

// inspector gives every host a healthy release; it is apart so that Inspect needs no lock of the crew.
type inspector struct{ *fakeCrew }

func (i inspector) Inspect(_ context.Context, host drill.Host) history.Inspected {
	return history.Inspected{Host: host.Name, Release: "r1", Revision: "abc", Healthy: true}
}

func runFake(t *testing.T, crew *fakeCrew, plan drill.Plan, interruptAfter time.Duration) []history.Event {
	t.Helper()
	return runFakeUntil(t, crew, plan, interruptAfter, func(int) history.Outcome { return history.Passed })
}

// runFakeJudged runs a plan whose steps are judged by judge.
func runFakeJudged(t *testing.T, crew *fakeCrew, plan drill.Plan, judge func(step int) history.Outcome) []history.Event {
	t.Helper()
	return runFakeUntil(t, crew, plan, 0, judge)
}

func runFakeUntil(t *testing.T, crew *fakeCrew, plan drill.Plan, interruptAfter time.Duration, judge func(step int) history.Outcome) []history.Event {
	t.Helper()
	if crew.live == "" {
		crew.live = plan.Live
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if interruptAfter > 0 {
		defer time.AfterFunc(interruptAfter, cancel).Stop()
	}
	log, err := Run(ctx, Options{
		Plan: plan, Crew: inspector{crew}, Log: history.NewWriter(io.Discard), Source: "ci",
		GUID:    func(step int, host string) string { return fmt.Sprintf("%d-%s", step, host) },
		Judge:   func(_ drill.Plan, _ []history.Event, step int) (history.Outcome, string) { return judge(step), "" },
		Decided: func(drill.Plan, []history.Event, int, time.Time) bool { return false },
	})
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// leftInForce returns the attacks that began and were not reverted before the log ends.
func leftInForce(log []history.Event) []string {
	open := map[string]bool{}
	for _, event := range log {
		switch fact := event.Fact.(type) {
		case *history.AttackInForce:
			open[fact.GUID] = true
		case *history.AttackReverted:
			delete(open, fact.GUID)
		}
	}
	var left []string
	for guid := range open {
		left = append(left, guid)
	}
	return left
}

func outcome(t *testing.T, log []history.Event) history.RunFinished {
	t.Helper()
	finished, ok := log[len(log)-1].Fact.(*history.RunFinished)
	if !ok {
		t.Fatalf("the last event is %s, not the end of the run", log[len(log)-1].Fact.Kind())
	}
	return *finished
}

func TestPipelineRunsItsStepsInOrderAndLeavesNothingInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := twoHosts()
		plan.Steps = []drill.Step{
			{Kind: drill.StepDeploy, Name: "deploy to green", Environment: "green", Live: "blue", LiveAfter: "blue"},
			drillStep(plan, "green", "blue", "blue"),
			{Kind: drill.StepPromote, Name: "promote green", Environment: "green", Live: "blue", LiveAfter: "green"},
			drillStep(plan, "green", "green", "blue"),
		}
		log := runFake(t, &fakeCrew{}, plan, 0)
		if got := outcome(t, log); got.Outcome != history.Passed {
			t.Fatalf("outcome %s: %s", got.Outcome, got.Reason)
		}
		if left := leftInForce(log); len(left) > 0 {
			t.Errorf("left in force: %v", left)
		}
		checkOrder(t, log)
	})
}

// checkOrder demands that no attack begins without a steady state and a permit in the same step, and none outlives its step.
func checkOrder(t *testing.T, log []history.Event) {
	t.Helper()
	steady, permitted, open := false, false, 0
	for _, event := range log {
		switch fact := event.Fact.(type) {
		case *history.StepStarted:
			steady, permitted = false, false
			if open > 0 {
				t.Errorf("step %d began with %d attacks in force", fact.Step, open)
			}
		case *history.Check:
			steady = steady || (fact.Name == history.PhaseSteadyBefore && fact.OK)
		case *history.Permit:
			permitted = fact.Granted
		case *history.AttackInForce:
			open++
			if !steady || !permitted {
				t.Errorf("attack %s began with steady=%t permitted=%t", fact.GUID, steady, permitted)
			}
		case *history.AttackReverted:
			open--
		}
	}
}

func TestNoAttackWithoutASteadyState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := twoHosts()
		plan.Steps = []drill.Step{drillStep(plan, "green", "blue", "blue")}
		crew := &fakeCrew{unsteady: true}
		log := runFake(t, crew, plan, 0)
		if crew.attackStarts != 0 {
			t.Error("attacked although an alarm was raised before")
		}
		checkOrder(t, log)
	})
}

func TestAttackStopsWhenTheLastHealthyEnvironmentIsInDanger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := twoHosts()
		plan.Steps = []drill.Step{drillStep(plan, "green", "blue", "blue")}
		log := runFake(t, &fakeCrew{otherFails: true}, plan, 0)
		var began, ended time.Time
		stopped := false
		for _, event := range log {
			switch event.Fact.(type) {
			case *history.AttackInForce:
				began = event.At
			case *history.AttackReverted:
				ended = event.At
			case *history.Stop:
				stopped = true
			}
		}
		// Time is simulated here: the attack would last 20 s, and the stop must come within a second of the danger.
		if !stopped || ended.Sub(began) > time.Second {
			t.Errorf("stopped=%t, reverted %s after it began", stopped, ended.Sub(began))
		}
	})
}

// Interrupted at any instant, the run ends with nothing in force; the planted bug is a crew that does not revert.
func TestInterruptRevertsBeforeTheRunEnds(t *testing.T) {
	for _, leaks := range []bool{false, true} {
		caught := false
		for after := 50 * time.Millisecond; after < 40*time.Second; after += 1300 * time.Millisecond {
			synctest.Test(t, func(t *testing.T) {
				plan := twoHosts()
				plan.Steps = []drill.Step{drillStep(plan, "green", "blue", "blue")}
				log := runFake(t, &fakeCrew{leaks: leaks}, plan, after)
				left := leftInForce(log)
				caught = caught || len(left) > 0
				if !leaks && len(left) > 0 {
					t.Errorf("interrupted after %s: left in force %v", after, left)
				}
			})
		}
		if leaks && !caught {
			t.Error("the check cannot tell a crew that leaves its impact in force")
		}
	}
}

func TestRefusedAndFailedStepsEndTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := twoHosts()
		plan.Steps = []drill.Step{{Kind: drill.StepDeploy, Name: "deploy to blue", Environment: "blue", Live: "blue", LiveAfter: "blue"}}
		if got := outcome(t, runFake(t, &fakeCrew{}, plan, 0)); got.Outcome != history.Refused || !strings.Contains(got.Reason, "blue is answered now") {
			t.Errorf("deploying to the answered environment ended %s: %s", got.Outcome, got.Reason)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		plan := twoHosts()
		plan.Steps = []drill.Step{{Kind: drill.StepDeploy, Name: "deploy to green", Environment: "green", Live: "blue", LiveAfter: "blue"}}
		log := runFake(t, &fakeCrew{deployErr: errors.New("no space left on device")}, plan, 0)
		for _, event := range log {
			if check, ok := event.Fact.(*history.Check); ok && check.Name == drill.StepDeploy {
				if check.OK || !strings.Contains(check.Detail, "no space left") {
					t.Errorf("check %+v", check)
				}
				return
			}
		}
		t.Error("a failed deployment left no trace in the log")
	})
}

type fullDisk struct{ left int }

func (f *fullDisk) Write(p []byte) (int, error) {
	f.left--
	if f.left < 0 {
		return 0, errors.New("no space left on device")
	}
	return len(p), nil
}

func TestRunEndsWhenTheLogCannotBeWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		plan := twoHosts()
		plan.Steps = []drill.Step{drillStep(plan, "green", "blue", "blue")}
		crew := &fakeCrew{live: "blue"}
		log, err := Run(t.Context(), Options{
			Plan: plan, Crew: inspector{crew}, Log: history.NewWriter(&fullDisk{left: 300}), Source: "ci",
			GUID:    func(step int, host string) string { return host },
			Judge:   func(drill.Plan, []history.Event, int) (history.Outcome, string) { return history.Passed, "" },
			Decided: func(drill.Plan, []history.Event, int, time.Time) bool { return false },
		})
		if err == nil {
			t.Error("no error although the log has a hole")
		}
		if left := leftInForce(log); len(left) > 0 {
			t.Errorf("left in force: %v", left)
		}
	})
}
