package guard

import (
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

func refusal(permit history.Permit) string {
	if permit.Granted {
		return ""
	}
	return permit.Reason
}

// blue is answered in the scene: the answer may go back to green, and green's release may be switched.
func TestWayBackIsOpenOnlyToWhatCanServe(t *testing.T) {
	locked := func(s *scene) {
		s.add(moment, "ci", &history.Inspected{Host: "green-1", Release: "r1", Healthy: true, Locked: &history.Reservation{Owner: "ada@ci", Until: moment.Add(time.Hour)}})
	}
	rows := []row{
		{name: "all is well"},
		{name: "frozen", change: func(s *scene) { s.plan.Freeze = []string{"2026-03-01"} }},
		{name: "locked by another", change: locked},
		{name: "it is sick", change: func(s *scene) { s.release("green-2", Release{Name: "r1", Detail: "502"}) }, want: "green cannot serve: green-2 is not healthy: 502"},
		{name: "its alarm is raised", change: func(s *scene) { s.alarm("green-1-db", history.AlarmRaised) }, want: "green cannot serve: green-1-db is ALARM"},
		{name: "it is under attack", change: func(s *scene) { s.inForce("green-1", "g", "nothing") }, want: "under attack"},
		{name: "nobody looked", change: func(s *scene) {
			s.release("green-1", Release{Name: "r1", Healthy: true, At: moment.Add(-inspectionAge - time.Second)})
		}, want: "is not known"},
		{name: "the name servers disagree", change: func(s *scene) { s.answer("ns-1", "10.0.0.2") }},
	}
	twins := []twin{
		{"overlooks attacks", "it is under attack", blindToAttacks},
		{"takes everything for healthy", "it is sick", seesReleases(func(r *Release) { r.Healthy = true })},
	}
	checkTable(t, rows, twins, func(w *World) string { return refusal(AdmitBack(w, "green", false, moment)) })

	rows = []row{
		{name: "all is well"},
		{name: "it is sick", change: func(s *scene) { s.release("green-2", Release{Name: "r2", Detail: "502"}) }},
		{name: "it is answered", change: func(s *scene) {
			s.answer("ns-1", "10.0.0.2")
			s.answer("ns-2", "10.0.0.2")
		}, want: "green is answered"},
		{name: "nobody knows what is answered", change: func(s *scene) { s.answer("ns-1", "10.0.0.2") }, want: "disagree"},
		{name: "the other one is sick", change: func(s *scene) { s.release("blue-1", Release{Name: "r1", Detail: "502"}) }, want: "blue serves alone meanwhile"},
		{name: "attack found on it", change: func(s *scene) { s.release("green-1", Release{Name: "r1", InForce: []string{"g"}}) }, want: "green-1 is under attack: g"},
	}
	twins = []twin{{"overlooks what is found in force", "attack found", seesReleases(func(r *Release) { r.InForce = nil })}}
	checkTable(t, rows, twins, func(w *World) string {
		permit := AdmitBack(w, "green", true, moment)
		if !permit.Granted && permit.Cure == "" {
			t.Errorf("refused without a cure: %s", permit.Reason)
		}
		return refusal(permit)
	})
}

// What an earlier run proved of a host must still run there, until this run deploys there itself.
func TestNothingStartsOnHostsThatRunSomethingElseThanWasProven(t *testing.T) {
	proven := func(revision string) func(*scene) {
		return func(s *scene) {
			s.plan.Proven = []drill.ProvenStep{{Kind: drill.StepDeploy, Name: "deploy to green", Environment: "green", Hosts: []drill.HostRelease{{Host: "green-1", Revision: revision}}}}
		}
	}
	runs := func(s *scene) { s.release("green-1", Release{Name: "r1", Revision: "abc", Healthy: true}) }
	rows := []row{
		{name: "the same runs", change: func(s *scene) { runs(s); proven("abc")(s) }},
		{name: "another runs", change: func(s *scene) { runs(s); proven("def")(s) }, want: "green-1 runs abc, and deploy to green was proven with def"},
		{name: "none runs", change: func(s *scene) { s.release("green-1", Release{Healthy: true}); proven("def")(s) }, want: "green-1 runs no release"},
	}
	twins := []twin{{"knows of no earlier run", "another runs", func(w *World) { w.plan.Proven = nil }}}
	only := func(step int) func(w *World) string {
		return func(w *World) string {
			kept := w.plan.Steps[step]
			w.plan.Steps = []drill.Step{kept}
			return refusal(Admit(w, 0, moment))
		}
	}
	checkTable(t, rows, twins, only(promoteGreen))
	checkTable(t, []row{{name: "this run deploys there", change: func(s *scene) { runs(s); proven("def")(s) }}}, nil, only(deployGreen))
}

func TestPromotionThatHappenedIsAdmittedOnceMoreAndNotMoved(t *testing.T) {
	moved := func(begun bool) func(*scene) {
		return func(s *scene) {
			s.plan.Steps[promoteGreen].Begun = begun
			s.answer("ns-1", "10.0.0.2")
			s.answer("ns-2", "10.0.0.2")
		}
	}
	checkTable(t, []row{
		{name: "begun by the run before", change: moved(true)},
		{name: "moved by someone", change: moved(false), want: "the plan was made for blue being answered, and green is"},
		{name: "begun, and it is sick", change: func(s *scene) { moved(true)(s); s.release("green-2", Release{Name: "r1", Detail: "502"}) }, want: "green is answered already, and green-2"},
	}, nil, func(w *World) string { return refusal(Admit(w, promoteGreen, moment)) })
}

// A freeze forbids a promotion, and not the one that goes back.
func TestFreezeDoesNotStandInTheWayBack(t *testing.T) {
	frozen := func(back bool) func(*scene) {
		return func(s *scene) {
			s.plan.Freeze = []string{"2026-03-01"}
			s.plan.Steps[promoteGreen].Back = back
		}
	}
	checkTable(t, []row{{name: "forward", change: frozen(false), want: "frozen until"}, {name: "back", change: frozen(true)}}, []twin{
		{"takes every step for a way back", "forward", func(w *World) { w.plan.Steps[promoteGreen].Back = true }},
	}, func(w *World) string { return refusal(Admit(w, promoteGreen, moment)) })
}

// Where a deployment went on without a host, the permit says which runs what.
func TestPermitNamesHostsThatRunAnotherRelease(t *testing.T) {
	s := allWell()
	s.release("green-2", Release{Name: "r0", Healthy: true})
	permit := Admit(s.world(), drillBlue, moment)
	if !permit.Granted || !strings.Contains(permit.Reason, "r1") || !strings.Contains(permit.Reason, "but r") || !strings.Contains(permit.Reason, "green-2") && !strings.Contains(permit.Reason, "green-1") {
		t.Errorf("%+v", permit)
	}
}
