package guard

import (
	"net/netip"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// moment is when every decision of these tests is taken.
var moment = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// The steps of the plan: blue is answered, green is idle.
const (
	deployGreen = iota
	drillGreen
	drillBlue
	promoteGreen
	deployBlue
)

// scene is a world in which all is well, made from events so that Fold is part of what is proven. Rows of a table change it.
type scene struct {
	plan   drill.Plan
	events []history.Event
}

func shop() drill.Plan {
	host := func(name, address string) drill.Host {
		return drill.Host{Name: name, Address: netip.MustParseAddr(address)}
	}
	alarm := func(environment, host string) drill.Alarm {
		return drill.Alarm{Name: host + "-db", Host: host, Environment: environment}
	}
	plan := drill.Plan{
		Service: "shop", Live: "blue", Objectives: drill.Objectives{RTO: drill.Seconds(10 * time.Second)},
		Environments: []drill.Environment{
			{Name: "blue", Hosts: []drill.Host{host("blue-1", "10.0.0.1")}},
			{Name: "green", Hosts: []drill.Host{host("green-1", "10.0.0.2"), host("green-2", "10.0.0.3")}},
		},
		Clients:  []drill.Client{{Name: "client", Every: drill.Seconds(100 * time.Millisecond), Timeout: drill.Seconds(time.Second)}},
		Alarms:   []drill.Alarm{alarm("blue", "blue-1"), alarm("green", "green-1"), alarm("green", "green-2")},
		Failover: []drill.Failover{{Name: "shop.test", Primary: "blue", Secondary: "green", Servers: []string{"ns-1", "ns-2"}}},
		Deploy:   &drill.Deploy{Directory: "/srv/shop"},
	}
	of := func(environment string) *drill.PlannedDrill {
		for _, known := range plan.Environments {
			if known.Name == environment {
				return &drill.PlannedDrill{Name: "cut", Hosts: known.Hosts}
			}
		}
		return nil
	}
	plan.Steps = []drill.Step{
		deployGreen:  {Kind: drill.StepDeploy, Environment: "green", Live: "blue", LiveAfter: "blue"},
		drillGreen:   {Kind: drill.StepDrill, Environment: "green", Live: "blue", LiveAfter: "blue", Drill: of("green")},
		drillBlue:    {Kind: drill.StepDrill, Environment: "blue", Live: "blue", LiveAfter: "green", Drill: of("blue")},
		promoteGreen: {Kind: drill.StepPromote, Environment: "green", Live: "blue", LiveAfter: "green"},
		deployBlue:   {Kind: drill.StepDeploy, Environment: "blue", Live: "blue", LiveAfter: "blue"},
	}
	return plan
}

func allWell() *scene {
	s := &scene{plan: shop()}
	s.heard(true)
	s.answer("ns-1", "10.0.0.1")
	s.answer("ns-2", "10.0.0.1")
	for _, host := range []string{"blue-1", "green-1", "green-2"} {
		s.host(host, true)
		s.alarm(host+"-db", history.AlarmOK)
		s.release(host, Release{Name: "r1", Healthy: true})
	}
	s.served(0, 10*time.Second, true)
	return s
}

func (s *scene) add(at time.Time, source string, fact history.Fact) {
	s.events = append(s.events, history.New(at, source, fact))
}

func (s *scene) heard(up bool) {
	s.add(moment, "ci", &history.Host{Host: WatchHost, Up: up})
}

func (s *scene) host(name string, up bool) {
	s.add(moment, "watch", &history.Host{Host: name, Up: up})
}

func (s *scene) alarm(name, state string) {
	s.add(moment, "watch", &history.Alarm{Name: name, To: state})
}

func (s *scene) answer(server string, addresses ...string) {
	s.add(moment, "ci", &history.Answer{Name: "shop.test", Server: server, Addresses: addresses})
}

// release tells what a look at a host found; without At it was now.
func (s *scene) release(host string, seen Release) {
	if seen.At.IsZero() {
		seen.At = moment
	}
	s.add(seen.At, "ci", &history.Inspected{
		Host: host, Release: seen.Name, Revision: seen.Revision, Healthy: seen.Healthy, Detail: seen.Detail, InForce: seen.InForce, Error: seen.Error,
	})
}

// served gives samples of the client, at each of its moments in the span that ends so long ago.
func (s *scene) served(ago, span time.Duration, ok bool) {
	every := s.plan.Clients[0].Every.Duration()
	for at := moment.Add(-ago - span); at.Before(moment.Add(-ago)); at = at.Add(every) {
		s.sample(at, ok)
	}
}

func (s *scene) sample(scheduled time.Time, ok bool) {
	sample := &history.Sample{Probe: "client", Scheduled: scheduled, OK: ok}
	if !ok {
		sample.Cause = history.CauseConnect
	}
	s.add(scheduled, "client", sample)
}

func (s *scene) inForce(host, guid, remains string) {
	s.add(moment, host, &history.AttackPlanned{GUID: guid, Host: host, Remains: remains})
	s.add(moment, host, &history.AttackInForce{GUID: guid})
}

func (s *scene) reverted(host, guid string, residue ...string) {
	s.add(moment, host, &history.AttackReverted{GUID: guid, Residue: residue})
}

// without takes away what was said of something, as if it had never been seen.
func (s *scene) without(drop func(history.Fact) bool) {
	var kept []history.Event
	for _, event := range s.events {
		if !drop(event.Fact) {
			kept = append(kept, event)
		}
	}
	s.events = kept
}

func noSamples(fact history.Fact) bool {
	_, is := fact.(*history.Sample)
	return is
}

func (s *scene) world() *World {
	w := NewWorld(s.plan)
	for _, event := range s.events {
		w.Fold(event)
	}
	return w
}

// row is one case of a table: all is well but for the change.
type row struct {
	name   string
	change func(*scene)
	want   string // part of the reason; empty: nothing speaks against it
}

// twin is a planted bug. The rows that it must fail on are those whose names begin with caught.
type twin struct {
	name   string
	caught string
	blind  func(*World) // the fact that it does not look at is made good before the real function decides
}

// holds runs a table through a decider, which returns the reason against it, and returns the rows where it was wrong.
func holds(rows []row, decide func(*World) string) map[string]string {
	wrong := map[string]string{}
	for _, r := range rows {
		s := allWell()
		if r.change != nil {
			r.change(s)
		}
		if got := decide(s.world()); !says(got, r.want) {
			wrong[r.name] = got
		}
	}
	return wrong
}

func checkTable(t *testing.T, rows []row, twins []twin, decide func(*World) string) {
	t.Helper()
	for name, got := range holds(rows, decide) {
		t.Errorf("%s: %q", name, got)
	}
	for _, planted := range twins {
		wrong := holds(rows, func(w *World) string { planted.blind(w); return decide(w) })
		if !anyBegins(wrong, planted.caught) {
			t.Errorf("the planted bug %q is not caught by the rows %q; caught: %v", planted.name, planted.caught, wrong)
		}
	}
}
