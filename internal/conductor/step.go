package conductor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/guard"
	"firedrill/internal/history"
)

// Limits of waiting. They are bounds for things that take a fraction of it when all is well.
const (
	setUpMax     = 30 * time.Second // an attack must be in force by then, after its own delay: connect, push the program, resolve names
	tearDownMax  = 20 * time.Second // and over by so much after its deadline
	decideExtra  = 15 * time.Second // a one-way attack is watched this much longer than its slowest expectation
	answerMax    = 30 * time.Second // a promotion must be seen on every name server
	oneWayAtMost = 10 * time.Minute
)

type phase int

const (
	phaseIdle phase = iota
	phaseInspect
	phaseWork   // deploy or promote
	phaseAnswer // a promotion waits for every name server
	phaseDrain  // and then for the requests on the old environment
	phaseSteadyBefore
	phaseAttack
	phaseOneWay // the host is going down: wait until all is decided
	phaseVerify // look whether anything is left in force
	phaseSteadyAfter
	phaseInspectAfter
	phaseCount // the ledger reads back
	phaseJudge
	phaseStopping   // interrupted: every task is ending
	phaseLastLook   // interrupted: whether the attack left anything
	phaseBackLook   // a gate has failed: look whether the way back is open
	phaseBackWork   // move the answer, or switch the release
	phaseBackAnswer // until every name server says so
	phaseBackDrain
	phaseOver
)

// State is the whole state of a run; make one with NewState.
type State struct {
	plan        drill.Plan
	guid        func(step int, host string) string
	world       *guard.World
	index       int // current step
	phase       phase
	since       time.Time // begin of the phase
	steadySince time.Time // zero while not steady
	unsteady    string
	inForceAt   time.Time    // of the first attack of the step
	attack      int          // number of the attack under way, of several in sequence
	orderedAt   time.Time    // when it was started
	orderAt     time.Time    // and came into force, on the first host
	calledOff   bool         // an attack of this step was asked to end
	unseen      bool         // an attack of this step was started, and nobody has looked since whether anything is left of it
	tasks       map[int]Task // running
	nextID      int
	stopped     map[int]bool
	outcomes    []history.Outcome
	reason      string
	interrupted bool
	workErr     error
	drain       drainState
	backs       []wayBack // after a failed gate: what is still to be taken back, in order
	ending      *history.RunFinished
	out         []Command
}

// NewState returns the state before the first step. guid names each attack; it must give another name for each step and host.
func NewState(plan drill.Plan, guid func(step int, host string) string) *State {
	return &State{plan: plan, guid: guid, world: guard.NewWorld(plan), index: -1, tasks: map[int]Task{}, stopped: map[int]bool{}}
}

// World is what the run knows of the moment; read only.
func (s *State) World() *guard.World { return s.world }

// Observing says that the attack of the current step is under way and its expectations may be decided.
func (s *State) Observing() (step int, yes bool) {
	if s.phase == phaseOneWay {
		return s.index, true
	}
	return s.index, s.phase == phaseAttack && !s.inForceAt.IsZero() && s.current().Drill.UntilDecided
}

// Over says that the run has ended.
func (s *State) Over() bool { return s.phase == phaseOver }

func (s *State) current() drill.Step { return s.plan.Steps[s.index] }

// Step takes one input in and returns what to do, in order. now must never go back.
func (s *State) Step(now time.Time, in Input) []Command {
	s.out = nil
	if in.Event != nil {
		s.world.Fold(*in.Event)
		s.event(now, *in.Event)
	}
	if in.Ended != nil {
		s.ended(now, *in.Ended)
	}
	if in.Interrupt && !s.interrupted && s.phase != phaseOver {
		s.interrupted = true
		s.stopAll("interrupted")
		s.enter(now, phaseStopping)
	}
	s.advance(now, in)
	return s.out
}

func (s *State) enter(now time.Time, next phase) {
	s.phase, s.since, s.steadySince, s.unsteady = next, now, time.Time{}, ""
}

func (s *State) record(fact history.Fact) { s.out = append(s.out, Command{Record: fact}) }

func (s *State) start(task Task) {
	s.nextID++
	task.ID, task.Step = s.nextID, s.index
	s.tasks[task.ID] = task
	s.out = append(s.out, Command{Start: &task})
}

// stop asks each running task that fits to end, once.
func (s *State) stop(why string, fits func(Task) bool) {
	for _, id := range slices.Sorted(maps.Keys(s.tasks)) {
		if !s.stopped[id] && fits(s.tasks[id]) {
			s.stopped[id] = true
			s.out = append(s.out, Command{Stop: &Stop{ID: id, Why: why}})
		}
	}
}

func (s *State) stopAll(why string) { s.stop(why, func(Task) bool { return true }) }

func isAttack(task Task) bool { return task.Kind == TaskAttack }

func (s *State) running(kind TaskKind) int {
	count := 0
	for _, task := range s.tasks {
		if task.Kind == kind {
			count++
		}
	}
	return count
}

func (s *State) event(now time.Time, event history.Event) {
	if _, begins := event.Fact.(*history.AttackInForce); begins && s.phase == phaseAttack {
		s.orderAt = cmp.Or(s.orderAt, now)
		s.inForceAt = cmp.Or(s.inForceAt, now)
	}
	if look, is := event.Fact.(*history.Drain); is {
		s.drain.look(now, *look)
	}
}

func (s *State) ended(now time.Time, ended Ended) {
	task, known := s.tasks[ended.ID]
	if !known {
		return
	}
	delete(s.tasks, ended.ID)
	switch task.Kind {
	case TaskJudge:
		s.finishStep(now, ended.Outcome, ended.Reason)
	case TaskDeploy, TaskPromote, TaskRollback:
		s.workErr = ended.Err
	case TaskAttack, TaskInspect, TaskLedger, TaskDrain:
		if ended.Err != nil {
			s.record(&history.Note{Text: fmt.Sprintf("%s: %v", task, ended.Err)})
		}
	}
}

// advance moves to the next phase when the present one is over. One input may end several phases.
func (s *State) advance(now time.Time, in Input) {
	for range 16 { // more phases than one step has
		before, index := s.phase, s.index
		s.phaseStep(now, in)
		if s.phase == before && s.index == index {
			return
		}
		in = Input{}
	}
}

func (s *State) phaseStep(now time.Time, in Input) {
	switch s.phase {
	case phaseIdle:
		s.nextStep(now)
	case phaseInspect:
		s.inspected(now)
	case phaseWork:
		s.worked(now)
	case phaseAnswer:
		s.promoted(now)
	case phaseDrain:
		if s.drained(now) {
			s.judge(now)
		}
	case phaseSteadyBefore:
		s.steadyBefore(now)
	case phaseAttack:
		s.attacking(now, in)
	case phaseOneWay:
		if in.Decided || now.Sub(s.since) > s.slowest()+decideExtra {
			s.toSteadyAfter(now)
		}
	case phaseVerify:
		if s.running(TaskInspect) == 0 {
			s.verified()
			s.toSteadyAfter(now)
		}
	case phaseSteadyAfter:
		s.steadyAfter(now)
	case phaseInspectAfter:
		s.inspectedAfter(now)
	case phaseCount:
		if s.running(TaskLedger) == 0 {
			s.judge(now)
		}
	case phaseStopping:
		if len(s.tasks) == 0 {
			s.interruptedAndQuiet(now)
		}
	case phaseLastLook:
		if s.running(TaskInspect) == 0 {
			s.verified()
			s.interruptedAndQuiet(now)
		}
	case phaseBackLook, phaseBackWork, phaseBackAnswer, phaseBackDrain:
		s.backStep(now)
	case phaseJudge, phaseOver:
	}
}

func (s *State) nextStep(now time.Time) {
	s.index++
	s.workErr, s.inForceAt, s.unseen = nil, time.Time{}, false
	s.attack, s.calledOff = 0, false
	if s.index >= len(s.plan.Steps) {
		s.finish(now, history.Passed, "")
		return
	}
	s.record(&history.StepStarted{Step: s.index, Name: s.current().Name})
	s.start(Task{Kind: TaskInspect, Hosts: s.pairHosts()})
	s.enter(now, phaseInspect)
}

// hostsOf are the hosts of an environment.
func (s *State) hostsOf(name string) []drill.Host {
	for _, environment := range s.plan.Environments {
		if environment.Name == name {
			return environment.Hosts
		}
	}
	return nil
}

// pairHosts are the hosts of both environments of the failover pair.
func (s *State) pairHosts() []drill.Host {
	var hosts []drill.Host
	for _, environment := range s.plan.Environments {
		if environment.Name == s.plan.Failover[0].Primary || environment.Name == s.plan.Failover[0].Secondary {
			hosts = append(hosts, environment.Hosts...)
		}
	}
	return hosts
}
