package conductor

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/guard"
	"firedrill/internal/history"
)

// wayBack is one thing to take back after a gate has failed.
type wayBack struct {
	release     bool   // switch the release of Environment; else move the answer to it
	environment string // that the answer moves to, or whose release is switched
	from        string // answer: the environment that is left
}

func (b wayBack) name() string {
	if b.release {
		return "back to the release before on " + b.environment
	}
	return "answer back to " + b.environment
}

// waysBack says what a failed gate takes back: first the answer, to the environment that still runs what was good before, then the
// release that did not prove itself. Where both environments were deployed to there is no such environment. A deployment takes itself
// back, and a drill on its own changed nothing.
func (s *State) waysBack() []wayBack {
	step := s.current()
	if step.Kind != drill.StepDrill && step.Kind != drill.StepPromote {
		return nil
	}
	promoted, from := "", ""
	var deployed []string
	note := func(kind, environment, live string) {
		switch kind {
		case drill.StepDeploy:
			if !slices.Contains(deployed, environment) {
				deployed = append(deployed, environment)
			}
		case drill.StepPromote:
			promoted, from = environment, live
		}
	}
	for _, proven := range s.plan.Proven {
		note(proven.Kind, proven.Environment, proven.Live)
	}
	for _, done := range s.plan.Steps[:s.index+1] {
		note(done.Kind, done.Environment, done.Live)
	}
	var ways []wayBack
	if len(deployed) > 1 || len(deployed) == 1 && promoted != "" && promoted != deployed[0] {
		return nil
	}
	// An answer that was ordered to move and is not seen to have moved may still do so: the order is taken back too.
	ordered := step.Kind == drill.StepPromote && s.workErr == nil
	if promoted != "" && (s.world.Live() != from || ordered) {
		ways = append(ways, wayBack{environment: from, from: promoted})
	}
	if len(deployed) == 1 {
		ways = append(ways, wayBack{release: true, environment: deployed[0]})
	}
	return ways
}

// goBack begins to take back what the failed gate was about; false when there is nothing.
func (s *State) goBack(now time.Time, reason string) bool {
	if s.backs = s.waysBack(); len(s.backs) == 0 {
		return false
	}
	s.ending = &history.RunFinished{Outcome: history.Failed, Reason: reason}
	s.nextBack(now)
	return true
}

func (s *State) nextBack(now time.Time) {
	if len(s.backs) == 0 {
		s.finish(now, s.ending.Outcome, s.ending.Reason)
		return
	}
	s.start(Task{Kind: TaskInspect, Hosts: s.pairHosts(), Back: true})
	s.enter(now, phaseBackLook)
}

// backDone writes down how one way back ended, and goes on with the next; a release is not switched under clients that could not be moved.
func (s *State) backDone(now time.Time, ok bool, detail string) {
	way := s.backs[0]
	s.record(&history.Check{Step: s.index, Name: way.name(), OK: ok, Detail: detail})
	s.backs = s.backs[1:]
	if !ok {
		s.backs = nil
	}
	s.nextBack(now)
}

func (s *State) backStep(now time.Time) {
	way := s.backs[0]
	switch s.phase {
	case phaseBackLook:
		if s.running(TaskInspect) > 0 {
			return
		}
		permit := guard.AdmitBack(s.world, way.environment, way.release, now)
		if !permit.Granted && now.Sub(s.since) < answerMax { // alarms take a moment to clear after a revert
			return
		}
		if !permit.Granted {
			s.backDone(now, false, fmt.Sprintf("not gone back: %s; %s", permit.Reason, permit.Cure))
			return
		}
		kind := TaskPromote
		if way.release {
			kind = TaskRollback
		}
		s.workErr = nil
		s.start(Task{Kind: kind, Environment: way.environment, Back: true})
		s.enter(now, phaseBackWork)
	case phaseBackWork:
		switch {
		case s.working():
		case s.workErr != nil:
			s.backDone(now, false, s.workErr.Error())
		case way.release:
			s.backDone(now, true, "switched, restarted and healthy")
		default:
			s.enter(now, phaseBackAnswer)
		}
	case phaseBackAnswer:
		seen := s.world.Live() == way.environment
		switch {
		case !seen && now.Sub(s.since) < answerMax:
		case !seen:
			s.backDone(now, false, "the answer leads to "+cmp.Or(s.world.Live(), "nothing certain"))
		default:
			s.startDrain(now, way.from, phaseBackDrain)
		}
	case phaseBackDrain:
		if s.drained(now) {
			s.backDone(now, true, "seen on every name server")
		}
	}
}
