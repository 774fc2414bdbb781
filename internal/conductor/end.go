package conductor

import (
	"fmt"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// count lets the ledger read back what it wrote, if there is one, and then has the step judged.
func (s *State) count(now time.Time) {
	s.stop("the drill is over", func(task Task) bool { return task.Kind == TaskLedger })
	s.enter(now, phaseCount)
}

func (s *State) judge(now time.Time) {
	if s.current().Kind == drill.StepDrill {
		s.record(&history.Phase{Step: s.index, Phase: history.PhaseDone})
	}
	s.start(Task{Kind: TaskJudge})
	s.enter(now, phaseJudge)
}

// interruptedAndQuiet ends an interrupted run, but not before somebody has looked at what an attack may have left.
func (s *State) interruptedAndQuiet(now time.Time) {
	if s.unseen {
		s.start(Task{Kind: TaskInspect, Hosts: s.current().Drill.Hosts})
		s.enter(now, phaseLastLook)
		return
	}
	if s.ending != nil { // the gate had said no before
		s.finish(now, history.Interrupted, s.ending.Reason+"; interrupted on the way back")
		return
	}
	s.finish(now, history.Interrupted, "interrupted; every impact was taken back before the end, or the log says which was not")
}

func (s *State) finishStep(now time.Time, outcome history.Outcome, reason string) {
	if s.phase == phaseStopping || s.phase == phaseOver {
		return
	}
	s.record(&history.StepFinished{Step: s.index, Name: s.current().Name, Outcome: outcome, Reason: reason})
	s.outcomes = append(s.outcomes, outcome)
	if outcome != history.Passed {
		reason = fmt.Sprintf("%s: %s", s.current().Name, reason)
		if outcome == history.Failed && s.goBack(now, reason) {
			return
		}
		s.finish(now, outcome, reason)
		return
	}
	s.enter(now, phaseIdle)
}

// finish ends the run. Tasks that still run are stopped, and the loop waits for them before it writes the last line.
func (s *State) finish(now time.Time, outcome history.Outcome, reason string) {
	s.stopAll("the run is over")
	s.out = append(s.out, Command{Finish: &history.RunFinished{Outcome: outcome, Reason: reason}})
	s.enter(now, phaseOver)
}
