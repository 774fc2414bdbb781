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
	s.unseen = !step.Drill.Attack.OneWay
	s.attack = -1
	s.order(now)
	s.enter(now, phaseAttack)
}

// order starts the next attack on every host, or all of them where they belong together.
func (s *State) order(now time.Time) {
	planned := s.current().Drill
	orders := planned.Orders()
	s.attack++
	s.orderedAt, s.orderAt = now, time.Time{}
	first, last := s.attack, s.attack
	if planned.Together {
		last = len(orders) - 1
	}
	for number := first; number <= last; number++ {
		for _, host := range planned.Hosts {
			name := host.Name
			if len(orders) > 1 {
				name = fmt.Sprintf("%s#%d", host.Name, number+1)
			}
			task := Task{Kind: TaskAttack, Hosts: []drill.Host{host}, Order: orders[number], GUID: s.guid(s.index, name)}
			if len(orders) > 1 {
				s.record(&history.AttackOrdered{Step: s.index, Number: number, Host: host.Name, GUID: task.GUID})
			}
			s.start(task)
		}
	}
}

// bounds are how long the attacks under way may take to come into force, and how long they then last at most.
func (s *State) bounds() (delay, length time.Duration) {
	planned := s.current().Drill
	for number, order := range planned.Orders() {
		if planned.Together || number == s.attack {
			delay, length = max(delay, order.Delay.Duration()), max(length, order.Length.Duration())
		}
	}
	return delay, length
}

func (s *State) attacking(now time.Time, in Input) {
	order := s.current().Drill.Attack
	if s.running(TaskAttack) == 0 {
		if !s.goesOn(now) {
			s.attackEnded(now)
			return
		}
		s.order(now)
	}
	// Before a host goes down that can be called off; then it is too late.
	revocable := !order.OneWay || s.inForceAt.IsZero()
	began := cmp.Or(s.inForceAt, s.since)
	if stop, condition, detail := guard.MustStop(s.world, s.index, began, now); stop && revocable && !s.stoppedAll() {
		s.record(&history.Stop{Step: s.index, Condition: condition, Detail: detail})
		s.callOff(condition)
		return
	}
	delay, length := s.bounds()
	if s.orderAt.IsZero() {
		if now.Sub(s.orderedAt) > delay+setUpMax {
			s.callOff("not in force in time")
		}
		return
	}
	switch {
	case in.Decided && !order.OneWay:
		s.callOff("every expectation is decided")
	case !order.OneWay && now.Sub(s.orderAt) > length+tearDownMax:
		s.callOff("over its deadline")
	case order.OneWay && now.Sub(s.inForceAt) > oneWayAtMost:
		s.callOff("over its deadline")
	}
}

func (s *State) callOff(why string) {
	s.calledOff = true
	s.stop(why, isAttack)
}

// goesOn says that another attack of the drill follows on the one that has ended: nobody called it off, it was in force, nothing of it
// is left, and nothing says that the damage must end.
func (s *State) goesOn(now time.Time) bool {
	planned := s.current().Drill
	if !planned.InSequence() || s.attack+1 >= len(planned.Orders()) || s.calledOff || s.orderAt.IsZero() {
		return false
	}
	if left := s.world.Attacked(planned.Hosts); left != "" {
		s.record(&history.Stop{Step: s.index, Condition: "the attack before has left something", Detail: left})
		return false
	}
	if stop, condition, detail := guard.MustStop(s.world, s.index, cmp.Or(s.inForceAt, s.since), now); stop {
		s.record(&history.Stop{Step: s.index, Condition: condition, Detail: detail})
		return false
	}
	return true
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
