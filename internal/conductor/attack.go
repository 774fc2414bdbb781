package conductor

import (
	"cmp"
	"fmt"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/guard"
	"firedrill/internal/history"
)

// steady keeps count of how long all has been well, and returns true when that is long enough.
func (s *State) steady(now time.Time, live string) bool {
	ok, why := guard.Steady(s.world, live, now, s.current().Drill.SteadyFor.Duration())
	if !ok {
		s.steadySince, s.unsteady = time.Time{}, why
		return false
	}
	if s.steadySince.IsZero() {
		s.steadySince = now
	}
	return now.Sub(s.steadySince) >= s.current().Drill.SteadyFor.Duration()
}

func (s *State) steadyBefore(now time.Time) {
	step := s.current()
	if !s.steady(now, step.Live) {
		if now.Sub(s.since) > step.Drill.SteadyWithin.Duration() {
			s.record(&history.Check{Step: s.index, Name: history.PhaseSteadyBefore, Detail: s.unsteady})
			s.count(now)
		}
		return
	}
	s.record(&history.Check{Step: s.index, Name: history.PhaseSteadyBefore, OK: true, Detail: fmt.Sprintf("for %s", step.Drill.SteadyFor.Duration())})
	permit := guard.Admit(s.world, s.index, now)
	s.record(&permit)
	if !permit.Granted {
		s.stop("refused", func(task Task) bool { return task.Kind == TaskLedger })
		s.finishStep(now, history.Refused, permit.Reason)
		return
	}
	s.record(&history.Phase{Step: s.index, Phase: history.PhaseAttack})
	for _, host := range step.Drill.Hosts {
		s.start(Task{Kind: TaskAttack, Hosts: []drill.Host{host}, Order: step.Drill.Attack, GUID: s.guid(s.index, host.Name)})
	}
	s.unseen = !step.Drill.Attack.OneWay
	s.enter(now, phaseAttack)
}

func (s *State) attacking(now time.Time, in Input) {
	order := s.current().Drill.Attack
	if s.running(TaskAttack) == 0 {
		s.attackEnded(now)
		return
	}
	// Before a host goes down that can be called off; then it is too late.
	revocable := !order.OneWay || s.inForceAt.IsZero()
	began := cmp.Or(s.inForceAt, s.since)
	if stop, condition, detail := guard.MustStop(s.world, s.index, began, now); stop && revocable && !s.stoppedAll() {
		s.record(&history.Stop{Step: s.index, Condition: condition, Detail: detail})
		s.stop(condition, isAttack)
		return
	}
	if s.inForceAt.IsZero() {
		if now.Sub(s.since) > order.Delay.Duration()+setUpMax {
			s.stop("not in force in time", isAttack)
		}
		return
	}
	switch {
	case in.Decided && !order.OneWay:
		s.stop("every expectation is decided", isAttack)
	case !order.OneWay && now.Sub(s.inForceAt) > order.Length.Duration()+tearDownMax:
		s.stop("over its deadline", isAttack)
	case order.OneWay && now.Sub(s.inForceAt) > oneWayAtMost:
		s.stop("over its deadline", isAttack)
	}
}

func (s *State) stoppedAll() bool {
	for id, task := range s.tasks {
		if isAttack(task) && !s.stopped[id] {
			return false
		}
	}
	return true
}

func (s *State) attackEnded(now time.Time) {
	if s.current().Drill.Attack.OneWay {
		s.enter(now, phaseOneWay)
		return
	}
	s.record(&history.Phase{Step: s.index, Phase: history.PhaseRevert})
	s.start(Task{Kind: TaskInspect, Hosts: s.current().Drill.Hosts})
	s.enter(now, phaseVerify)
}

// verified writes down whether a second look, independent of the attack's own account, found anything in force. A host that could not
// be looked at gives no check at all: then nothing is proven.
func (s *State) verified() {
	s.unseen = false
	ok, detail, known := guard.NothingInForce(s.world, s.current().Drill.Hosts, s.since)
	if !known {
		s.record(&history.Note{Text: "looking for what is left: " + detail})
		return
	}
	s.record(&history.Check{Step: s.index, Name: "nothing in force", OK: ok, Detail: detail})
}

// slowest is the longest time that any expectation after the impact allows.
func (s *State) slowest() time.Duration {
	var longest time.Duration
	for _, expectation := range s.current().Drill.Expectations {
		if expectation.Kind != drill.ExpectSteadyAfter {
			longest = max(longest, expectation.Within.Duration())
		}
	}
	return longest
}

func (s *State) toSteadyAfter(now time.Time) {
	s.record(&history.Phase{Step: s.index, Phase: history.PhaseSteadyAfter})
	s.enter(now, phaseSteadyAfter)
}

func (s *State) steadyAfter(now time.Time) {
	step := s.current()
	ok := s.steady(now, step.LiveAfter)
	if !ok && now.Sub(s.since) <= step.Drill.SteadyWithin.Duration() {
		return
	}
	check := history.Check{Step: s.index, Name: history.PhaseSteadyAfter, OK: ok, Detail: s.unsteady}
	if ok {
		check.Detail = fmt.Sprintf("for %s", step.Drill.SteadyFor.Duration())
	}
	s.record(&check)
	s.start(Task{Kind: TaskInspect, Hosts: s.pairHosts()})
	s.enter(now, phaseInspectAfter)
}

func (s *State) inspectedAfter(now time.Time) {
	if s.running(TaskInspect) > 0 {
		return
	}
	ok, detail := guard.RollbackReady(s.world, s.current().LiveAfter, now)
	s.record(&history.Check{Step: s.index, Name: "rollback ready", OK: ok, Detail: detail})
	s.count(now)
}
