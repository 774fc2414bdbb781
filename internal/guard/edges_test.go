package guard

import (
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// What lies at the borders of decisions that other tables play through.

func TestWaysBackLeadOnlyWhereSomethingIs(t *testing.T) {
	for environment, want := range map[string]string{"green": "", "red": "red is no environment of the failover", "": " is no environment of the failover"} {
		if permit := AdmitBack(allWell().world(), environment, false, moment); permit.Granted != (want == "") || want != "" && permit.Reason != want {
			t.Errorf("back to %q: %+v", environment, permit)
		}
	}
	// A failover whose two names are one has no other environment to stand on.
	s := allWell()
	s.plan.Failover[0].Secondary = "blue"
	if ok, detail := RollbackReady(s.world(), "blue", moment); ok {
		t.Errorf("with one environment alone there is a way back: %s", detail)
	}
	if permit := AdmitBack(s.world(), "blue", true, moment); permit.Granted {
		t.Errorf("with one environment alone its release may be switched: %+v", permit)
	}
}

func TestSteadyHasEveryAlarmAndEverySample(t *testing.T) {
	rows := []row{
		{name: "all well"},
		{name: "an alarm of the service as a whole", change: func(s *scene) {
			s.plan.Alarms = append(s.plan.Alarms, drill.Alarm{Name: "checkout"})
			s.alarm("checkout", history.AlarmRaised)
		}, want: "checkout is ALARM"},
		{name: "an alarm of the service that nobody has heard of", change: func(s *scene) {
			s.plan.Alarms = append(s.plan.Alarms, drill.Alarm{Name: "checkout"})
		}, want: "checkout is not heard of"},
		{name: "a disabled one", change: func(s *scene) {
			s.plan.Alarms = append(s.plan.Alarms, drill.Alarm{Name: "checkout", Disabled: true})
		}},
		{name: "another is answered", change: func(s *scene) { s.answer("ns-1", "10.0.0.2"); s.answer("ns-2", "10.0.0.2") }, want: "green is answered, not blue"},
		{name: "an empty answer", change: func(s *scene) { s.answer("ns-2") }, want: "answers with no address"},
	}
	checkTable(t, rows, []twin{
		{"asks hosts' alarms only", "an alarm of the service", func(w *World) { w.alarms["checkout"] = history.AlarmOK }},
		{"takes no address for the same", "an empty answer", func(w *World) { w.answers["ns-2:53"] = w.answers["ns-1:53"] }},
	}, func(w *World) string {
		_, why := Steady(w, "blue", moment, 3*time.Second)
		return why
	})
	// Half of the samples that belong into a window are enough, one less is not; those that may be under way still do not count.
	for count, want := range map[int]bool{15: true, 14: false} {
		s := allWell()
		s.without(noSamples)
		until := moment.Add(-time.Second) // the client's timeout
		for i := range count {
			s.sample(until.Add(-time.Duration(i+1)*100*time.Millisecond), true)
		}
		s.sample(until, true)
		if ok, why := Steady(s.world(), "blue", moment, 3*time.Second); ok != want {
			t.Errorf("%d samples of 30: %t %s", count, ok, why)
		}
	}
}

func TestWhatWasProvenMustStillRun(t *testing.T) {
	proven := func(change func(*scene)) func(*scene) {
		return func(s *scene) {
			s.plan.Proven = []drill.ProvenStep{{Run: "r", Name: "deploy to green", Environment: "green", Hosts: []drill.HostRelease{{Host: "green-1", Revision: "abc"}}}}
			s.release("green-1", Release{Name: "r1", Revision: "abc", Healthy: true})
			if change != nil {
				change(s)
			}
		}
	}
	rows := []row{
		{name: "it runs", change: proven(nil)},
		{name: "another revision", change: proven(func(s *scene) { s.release("green-1", Release{Name: "r2", Revision: "def", Healthy: true}) }), want: "green-1 runs def, and deploy to green was proven with abc"},
		{name: "none", change: proven(func(s *scene) { s.release("green-1", Release{Healthy: true}) }), want: "green-1 runs no release"},
		{name: "seen long ago", change: proven(func(s *scene) {
			s.release("green-1", Release{Name: "r1", Revision: "abc", Healthy: true, At: moment.Add(-inspectionAge - 1)})
		}), want: "what green-1 runs is not known, and deploy to green was proven before"},
		{name: "seen just in time", change: proven(func(s *scene) {
			s.release("green-1", Release{Name: "r1", Revision: "abc", Healthy: true, At: moment.Add(-inspectionAge)})
		})},
		{name: "the look failed", change: proven(func(s *scene) { s.release("green-1", Release{Error: "refused"}) }), want: "is not known"},
		{name: "the answer has moved since", change: proven(func(s *scene) { s.answer("ns-1", "10.0.0.2"); s.answer("ns-2", "10.0.0.2") }), want: "the plan was made for blue"},
	}
	checkTable(t, rows, []twin{
		{"believes old looks", "seen long ago", seesReleases(func(r *Release) { r.At = moment })},
		{"believes failed looks", "the look failed", seesReleases(func(r *Release) { *r = Release{Name: "r1", Revision: "abc", Healthy: true, At: moment} })},
	}, func(w *World) string {
		w.plan.Steps[0] = w.plan.Steps[drillGreen] // so that no step of this plan deploys there before
		permit := Admit(w, 0, moment)
		if strings.HasPrefix(permit.Reason, "the plan was made") && !strings.Contains(permit.Cure, "firedrill rollback blue") {
			t.Errorf("the cure of a plan that goes on is %q", permit.Cure)
		}
		if permit.Granted {
			return ""
		}
		return permit.Reason
	})
	s := allWell()
	proven(func(s *scene) { s.release("green-1", Release{Name: "r2", Revision: "def", Healthy: true}) })(s)
	if permit := Admit(s.world(), drillGreen, moment); !permit.Granted { // deployGreen comes before, and makes the proof needless
		t.Errorf("what this plan deploys again is asked of the run before: %+v", permit)
	}
}

func TestBarredIsWhatWaitingDoesNotChange(t *testing.T) {
	for name, row := range map[string]struct {
		change func(*scene)
		back   bool
		want   bool
	}{
		"nothing":              {func(*scene) {}, false, false},
		"a sick host":          {func(s *scene) { s.host("green-1", false) }, false, false},
		"a freeze":             {func(s *scene) { s.plan.Freeze = []string{"2026-03-01"} }, false, true},
		"a freeze, going back": {func(s *scene) { s.plan.Freeze = []string{"2026-03-01"} }, true, false},
	} {
		s := allWell()
		row.change(s)
		s.plan.Steps[deployGreen].Back = row.back
		if got := Barred(s.world(), deployGreen, moment); got != row.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// A drill of a database is about the alarms of both environments, so only what cannot be part of it stops it.
func TestDrillsOfDatabasesAreStoppedByWhatIsNotTheirs(t *testing.T) {
	attacked := func(change func(*scene)) func(*scene) {
		return func(s *scene) {
			s.plan.Steps[drillBlue].Drill.Database = "books"
			s.plan.Objectives.RTO = 0
			if change != nil {
				change(s)
			}
		}
	}
	checkTable(t, []row{
		{name: "nothing", change: attacked(nil)},
		{name: "alarms of the other environment", change: attacked(func(s *scene) { s.alarm("green-1-db", history.AlarmRaised) })},
		{name: "a host of the other environment is down", change: attacked(func(s *scene) { s.host("green-2", false) }), want: "green-2 is not seen up"},
		{name: "the other environment is attacked", change: attacked(func(s *scene) { s.inForce("green-1", "g", "nothing") }), want: "green-1 is under attack (g)"},
		{name: "the watch is silent", change: attacked(func(s *scene) { s.heard(false) }), want: "the watch is not heard"},
		{name: "the error budget is spent", change: attacked(func(s *scene) {
			s.plan.Objectives.Level = &drill.ServiceLevel{Target: 99.9, Window: drill.Seconds(time.Hour), Drill: 1}
			s.without(noSamples)
			s.served(0, 2*time.Second, false)
		}), want: "client was unserved for 2s"},
	}, []twin{
		{"does not look at hosts", "a host of the other", func(w *World) { w.hosts["green-2"] = true }},
		{"does not look at attacks", "the other environment is attacked", func(w *World) { clear(w.attacked) }},
		{"forgets the budget", "the error budget", func(w *World) { w.plan.Objectives.Level = nil }},
	}, func(w *World) string {
		_, _, detail := MustStop(w, drillBlue, begun, moment)
		return detail
	})
	// The condition is named as well, and facts of other databases are of no interest.
	s := allWell()
	attacked(nil)(s)
	s.plan.Steps[drillBlue].Drill.Hosts = []drill.Host{{Name: "db-a"}}
	for _, fact := range []*history.Database{
		{Database: "books", Host: "db-a", Accepted: true}, {Database: "books", Host: "db-b", Follows: true}, {Database: "other", Host: "db-c", Accepted: true}, {Database: "other", Host: "db-a"},
	} {
		s.add(moment, "ci", fact)
	}
	if permit := Admit(s.world(), drillBlue, moment); !permit.Granted {
		t.Errorf("another database stands in the way: %+v", permit)
	}
}

func TestBudgetsLookAtWhatIsMeasured(t *testing.T) {
	rule := drill.BurnRule{Rate: 10, Long: drill.Seconds(4 * time.Second), Short: drill.Seconds(time.Second)}
	w, since, now := burning(levelOf(rule), 10*time.Second, spanFails(0, 0))
	if rate := w.burnRate(w.plan.Clients[0], now, rule.Long.Duration()); rate != 0 {
		t.Errorf("nothing fails, and it burns at %g", rate)
	}
	if rate := w.burnRate(w.plan.Clients[0], now.Add(time.Hour), rule.Long.Duration()); rate != 0 {
		t.Errorf("of a window without samples it burns at %g", rate)
	}
	// A prober that was late is no failure of the service, and no sample of it.
	for i := range w.samples["c"] {
		w.samples["c"][i].OK, w.samples["c"][i].Cause = false, history.CauseProber
	}
	if rate := w.burnRate(w.plan.Clients[0], now, rule.Long.Duration()); rate != 0 {
		t.Errorf("a late prober burns the budget at %g", rate)
	}
	if spent := w.failedSince(w.plan.Clients[0], since); spent != 0 {
		t.Errorf("a late prober spends %s", spent)
	}
	// All fails: a thousand times as much as a tenth of a percent, over whole and half windows; over less nothing is known.
	w, _, now = burning(levelOf(rule), 10*time.Second, spanFails(-60, 10))
	for ago, want := range map[time.Duration]float64{0: 1000, 2 * time.Second: 1000, 4 * time.Second: 0} {
		if rate := w.burnRate(w.plan.Clients[0], now.Add(ago), rule.Long.Duration()); rate < want-1e-6 || rate > want+1e-6 {
			t.Errorf("%s after the last failure it burns at %g, want %g", ago, rate, want)
		}
	}
	// No sample since the impact began: heard last when it began.
	if at := w.heardOf("c", now.Add(time.Second)); !at.Equal(now.Add(time.Second)) {
		t.Errorf("heard last at %s", at)
	}
	if at := w.heardOf("nobody", now); !at.Equal(now) {
		t.Errorf("somebody that was never heard was heard at %s", at)
	}
	if at := w.heardOf("c", now.Add(-time.Minute)); !at.Equal(now.Add(-100 * time.Millisecond)) {
		t.Errorf("heard last at %s", at)
	}
}

func TestConditionsOfWhatIsNotThereHold(t *testing.T) {
	now, w := moment, allWell().world()
	for name, row := range map[string]struct {
		stop drill.StopWhen
		want string
	}{
		"an alarm that nobody has heard of":   {drill.StopWhen{Kind: drill.StopAlarm, Alarm: "nobody"}, "nobody is not heard of"},
		"a probe that there is not":           {drill.StopWhen{Kind: drill.StopProbe, Probe: "nobody"}, "there is no probe nobody"},
		"clients that were not heard":         {drill.StopWhen{Kind: drill.StopClients, For: drill.Seconds(time.Hour)}, "nothing was heard of client for"},
		"a share that nobody measures":        {drill.StopWhen{Kind: drill.StopAvailable, Value: 10, For: drill.Seconds(time.Second)}, "nothing was heard of client for"},
		"a share over less than one interval": {drill.StopWhen{Kind: drill.StopAvailable, Value: 50, For: drill.Seconds(time.Millisecond)}, "nothing was heard of client for"},
	} {
		if got := w.holds(row.stop, now, now.Add(time.Minute)); !strings.Contains(got, row.want) {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
	if condition, detail := w.stopWhen(drill.Step{}, now, now); condition != "" || detail != "" {
		t.Errorf("a step without a drill stops: %s %s", condition, detail)
	}
	// Failures before the impact began are not of it; of those after it each counts.
	w, since, now := burning(nil, 2*time.Second, spanFails(-60, 1))
	share := func(value float64) string {
		return w.availableBelow(w.plan.Clients[0], drill.StopWhen{Value: value, For: drill.Seconds(10 * time.Second)}, since, now)
	}
	if got := share(92); !strings.Contains(got, "9 of the 100 tries") {
		t.Errorf("91 of 100 are enough for 92 %%: %q", got)
	}
	if got := share(91); got != "" {
		t.Errorf("91 of 100 are not enough for 91 %%: %q", got)
	}
}

func TestAttackedNamesWhoIs(t *testing.T) {
	s := allWell()
	hosts := s.plan.Environments[1].Hosts
	if got := s.world().Attacked(hosts); got != "" {
		t.Errorf("nobody is attacked, and %s is", got)
	}
	s.inForce("blue-1", "a", "nothing")
	s.inForce("green-2", "c", "nothing")
	s.inForce("green-1", "b", "nothing")
	if got := s.world().Attacked(hosts); got != "green-1 (b)" {
		t.Errorf("attacked is %q", got)
	}
	s.reverted("green-1", "b")
	s.reverted("green-2", "c", "a rule")
	if got := s.world().Attacked(hosts); got != "green-2 (c)" {
		t.Errorf("after a revert attacked is %q", got)
	}
	for server, want := range map[string]string{"ns-1": "ns-1:53", "ns-1:5353": "ns-1:5353", "10.0.0.1": "10.0.0.1:53", "2001:db8::1": "[2001:db8::1]:53", "[2001:db8::1]:54": "[2001:db8::1]:54", "https://lb.test/x": "https://lb.test/x"} {
		if got := withPort(server); got != want {
			t.Errorf("%s is %s, want %s", server, got, want)
		}
	}
}
