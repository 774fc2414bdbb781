package guard

import (
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// begun is when the impact of these tests began.
var begun = moment.Add(-30 * time.Second)

// stopReason returns condition and detail, or "" when the attack may go on.
func stopReason(t *testing.T, step int) func(*World) string {
	return func(w *World) string {
		stop, condition, detail := MustStop(w, step, begun, moment)
		if stop != (condition != "") || stop != (detail != "") {
			t.Errorf("stop=%t with condition %q and detail %q", stop, condition, detail)
		}
		return strings.TrimSpace(condition + " " + detail)
	}
}

func TestAttackStopsWhenTheOtherEnvironmentIsInDoubt(t *testing.T) {
	rows := append(doubtful("blue-1"), watchRows...)
	for i := range rows {
		rows[i].want = "the last healthy environment is in danger " + rows[i].want
		if strings.Contains(rows[i].want, "not seen up") {
			rows[i].want = "not seen up"
		}
	}
	rows = append(rows, fineRows...)
	rows = append(rows, []row{
		{"fine: what is attacked has its alarm raised", func(s *scene) { s.alarm("green-1-db", history.AlarmRaised) }, ""},
		{"fine: what is attacked is under attack", func(s *scene) { s.inForce("green-1", "g1", "nothing") }, ""},
		{"fine: what is attacked is down", func(s *scene) { s.host("green-1", false) }, ""},
		{"fine: the answer moves", func(s *scene) { s.answer("ns-1", "10.0.0.2") }, ""},
	}...)
	twins := []twin{
		{"ignores alarms", "blue-1 has an alarm", deafToAlarms},
		{"ignores whether hosts are up", "blue-1 is down", blindToHosts},
		{"ignores attacks", "blue-1 is under", blindToAttacks},
		{"does not need the watch", "watch", func(w *World) { needsNoWatch(w); deafToAlarms(w); blindToHosts(w) }},
		{"looks at what is attacked instead", "fine: what is attacked", func(w *World) { w.plan.Steps[drillGreen].Environment = "blue" }},
	}
	checkTable(t, rows, twins, stopReason(t, drillGreen))
}

func TestAttackStopsWhenClientsAreUnservedBeyondTheObjective(t *testing.T) {
	const condition = "clients unserved for longer than the recovery time objective"
	failing := func(ago, span time.Duration) func(*scene) {
		return func(s *scene) { s.without(noSamples); s.served(ago, span, false) }
	}
	rows := []row{
		{"unserved for longer than allowed", failing(0, 11*time.Second), condition + " client for 11s of 10s allowed"},
		{"unserved and then silent", failing(8*time.Second, 3*time.Second), condition + " client for 11s"},
		{"unserved for longer than samples are kept", func(s *scene) {
			s.plan.Clients[0].Every = drill.Seconds(time.Millisecond / 2)
			failing(0, 11*time.Second)(s)
		}, condition + " client for 11s"},
		{"unserved since before the impact and longer than samples are kept", func(s *scene) {
			s.plan.Clients[0].Every = drill.Seconds(time.Millisecond / 2)
			failing(0, 35*time.Second)(s)
		}, condition + " client for 30s"},
		{"fine: just as long as allowed", failing(0, 10*time.Second), ""},
		{"fine: served again", func(s *scene) { failing(time.Second, 20*time.Second)(s); s.sample(moment.Add(-time.Second), true) }, ""},
		{"fine: served in between", func(s *scene) {
			failing(8*time.Second, 12*time.Second)(s)
			s.sample(moment.Add(-8*time.Second), true)
			s.served(0, 7*time.Second, false)
		}, ""},
		{"fine: served in between, longer ago than samples are kept", func(s *scene) {
			s.plan.Clients[0].Every = drill.Seconds(time.Millisecond / 2)
			failing(9*time.Second, 5*time.Second)(s)
			s.sample(moment.Add(-9*time.Second), true)
			s.served(0, 9*time.Second-time.Millisecond/2, false)
		}, ""},
		{"fine: failures before the impact only", func(s *scene) { s.without(noSamples); s.served(31*time.Second, 10*time.Second, false) }, ""},
		{"fine: no objective is stated", func(s *scene) { s.plan.Objectives.RTO = 0; failing(0, 20*time.Second)(s) }, ""},
	}
	twins := []twin{
		{"ignores clients", "unserved", needsNoSamples},
		{"has no limit", "unserved", func(w *World) { w.plan.Objectives.RTO = 0 }},
		{"forgets what it does not keep", "unserved for longer than samples are kept", func(w *World) { clear(w.failing) }},
		{"forgets good samples", "fine: served in between", func(w *World) {
			for i := range w.samples["client"] {
				w.samples["client"][i].OK = false
			}
		}},
		{"stops only after an hour", "unserved", func(w *World) { w.plan.Objectives.RTO = drill.Seconds(time.Hour) }},
	}
	checkTable(t, rows, twins, stopReason(t, drillGreen))
	checkTable(t, rows, nil, stopReason(t, drillBlue))
}

func TestRollbackReadyOnlyWhenTheIdleEnvironmentCouldServeAlone(t *testing.T) {
	rows := append(append(unfit("green-2"), watchRows...), fineRows...)
	rows = append(rows, row{"fine: what is answered is not healthy", func(s *scene) { s.release("blue-1", Release{}) }, ""})
	twins := []twin{
		{"ignores alarms", "green-2 has an alarm", deafToAlarms},
		{"ignores attacks", "green-2 is under", blindToAttacks},
		{"takes an old look for a new one", "green-2 was looked at too long ago", seesReleases(func(r *Release) { r.At = moment })},
		{"needs no health", "green-2 is not healthy", seesReleases(func(r *Release) { r.Healthy = true })},
		{"looks at what is answered instead", "green-2", func(w *World) { w.plan.Failover[0].Secondary = "blue"; w.plan.Failover[0].Primary = "blue" }},
	}
	decide := func(w *World) string {
		live := "blue"
		if w.plan.Failover[0].Secondary == "blue" { // the twin that looks at the wrong one
			live, w.plan.Failover[0].Secondary = "green", "green"
		}
		ok, detail := RollbackReady(w, live, moment)
		if !ok {
			return detail
		}
		if !strings.Contains(detail, "is healthy and runs") {
			t.Errorf("detail %q", detail)
		}
		return ""
	}
	checkTable(t, rows, twins, decide)
}

func TestNothingInForceIsSaidOnlyOfHostsThatWereLookedAt(t *testing.T) {
	for _, row := range []struct {
		name      string
		change    func(*scene)
		ok, known bool
		want      string
	}{
		{"nothing", nil, true, true, "looked at 2 hosts"},
		{"something", func(s *scene) { s.release("green-2", Release{InForce: []string{"blackhole g1"}}) }, false, true, "green-2: blackhole g1"},
		{"a failed look", func(s *scene) { s.release("green-2", Release{Error: "no route to host"}) }, false, false, "green-2: no route to host"},
		{"a look before the end", func(s *scene) { s.release("green-2", Release{At: moment.Add(-2 * time.Second)}) }, false, false, "green-2 was not looked at"},
		{"no look", func(s *scene) {
			s.without(func(fact history.Fact) bool {
				seen, is := fact.(*history.Inspected)
				return is && seen.Host == "green-2"
			})
		}, false, false, "green-2 was not looked at"},
	} {
		s := allWell()
		if row.change != nil {
			row.change(s)
		}
		hosts := s.plan.Steps[drillGreen].Drill.Hosts
		decide := func(since time.Time, blind func(*World)) (bool, string, bool) {
			w := s.world()
			blind(w)
			return NothingInForce(w, hosts, since)
		}
		ok, detail, known := decide(moment.Add(-time.Second), func(*World) {})
		if ok != row.ok || known != row.known || detail != row.want {
			t.Errorf("%s: ok=%t known=%t %q", row.name, ok, known, detail)
		}
		// The planted bug takes whatever was seen at any time for a fresh look without a fault.
		ok, _, known = decide(time.Time{}, seesReleases(func(r *Release) { r.Error, r.InForce = "", nil }))
		if fooled := ok != row.ok || known != row.known; fooled != (row.name != "nothing" && row.name != "no look") {
			t.Errorf("%s: a decider that asks neither when nor what is told apart: %t", row.name, fooled)
		}
	}
}
