package guard

import (
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

func TestReleaseIsOnlySwitchedBackWhenTheAnswerCannotMove(t *testing.T) {
	sickIdle := func(s *scene) { s.release("green-2", Release{Name: "r1", Detail: "502"}) }
	rows := []row{
		{name: "idle is healthy", want: "green is healthy"},
		{name: "idle is sick", change: sickIdle},
		{name: "idle has no release", change: func(s *scene) { s.release("green-1", Release{}) }},
		{name: "the release itself is sick", change: func(s *scene) { sickIdle(s); s.release("blue-1", Release{Name: "r2", Detail: "500"}) }},
		{name: "frozen", change: func(s *scene) { sickIdle(s); s.plan.Freeze = []string{"2026-03-01"} }},
		{name: "locked by another", change: func(s *scene) {
			sickIdle(s)
			s.add(moment, "ci", &history.Inspected{Host: "blue-1", Release: "r1", Locked: &history.Reservation{Owner: "ada@ci", Until: moment.Add(time.Hour)}})
		}, want: "locked by ada@ci"},
		{name: "attack on the answered side", change: func(s *scene) { sickIdle(s); s.inForce("blue-1", "g", "nothing") }, want: "blue-1 is under attack"},
		{name: "attack found on the answered side", change: func(s *scene) {
			sickIdle(s)
			s.release("blue-1", Release{Name: "r1", InForce: []string{"g"}})
		}, want: "blue-1 is under attack: g"},
		{name: "not looked at", change: func(s *scene) {
			sickIdle(s)
			s.release("blue-1", Release{Name: "r1", At: moment.Add(-inspectionAge - time.Second)})
		}, want: "is not known"},
		{name: "look failed", change: func(s *scene) { sickIdle(s); s.release("blue-1", Release{Error: "refused"}) }, want: "could not be looked at"},
		{name: "answer elsewhere", change: func(s *scene) {
			s.answer("ns-1", "10.0.0.2")
			s.answer("ns-2", "10.0.0.2")
		}, want: "the plan was made for blue"},
	}
	twins := []twin{
		{"overlooks attacks", "attack on", blindToAttacks},
		{"takes any release for attacked by nobody", "attack found", seesReleases(func(r *Release) { r.InForce = nil })},
		{"believes failed looks", "look failed", seesReleases(func(r *Release) { r.Error = "" })},
		{"believes old looks", "not looked at", seesReleases(func(r *Release) { r.At = moment })},
		{"never sees a healthy idle side", "idle is healthy", seesReleases(func(r *Release) { r.Healthy = false })},
	}
	checkTable(t, rows, twins, func(w *World) string {
		w.plan.Steps = []drill.Step{{Kind: drill.StepRollback, Environment: "blue", Live: "blue", LiveAfter: "blue"}}
		permit := Admit(w, 0, moment)
		if !permit.Granted && permit.Cure == "" {
			t.Errorf("refused without a cure: %s", permit.Reason)
		}
		if permit.Granted {
			return ""
		}
		return permit.Reason
	})
}
