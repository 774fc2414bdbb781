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

// TaskKind says what a task does.
type TaskKind int

// The kinds of tasks that the crew carries out.
const (
	TaskInspect  TaskKind = iota // look at Hosts: release, health, what is in force
	TaskDeploy                   // publish to Environment
	TaskPromote                  // move the answer to Environment
	TaskRollback                 // switch Environment to its release before
	TaskAttack                   // run Order on Host until it ends or is stopped
	TaskLedger                   // write and count acknowledged writes until stopped
	TaskJudge                    // judge the step from the log
)

var taskNames = [...]string{"inspect", "deploy", "promote", "roll back", "attack", "ledger", "judge"}

// Task is one piece of work. Tasks run side by side; each ends with exactly one Ended input.
type Task struct {
	ID          int
	Kind        TaskKind
	Step        int
	Environment string
	Hosts       []drill.Host // inspect: which; attack: exactly one
	Order       drill.Order
	GUID        string
	Client      drill.Client // ledger
}

// String names the task for people: "attack on bookstore-api-green".
func (t Task) String() string {
	where := t.Environment
	if len(t.Hosts) == 1 {
		where = t.Hosts[0].Name
	}
	if where == "" {
		return taskNames[t.Kind]
	}
	return taskNames[t.Kind] + " on " + where
}

// Ended is the end of a task. For TaskJudge it carries the outcome.
type Ended struct {
	ID      int
	Err     error
	Outcome history.Outcome
	Reason  string
}

// Input is one thing that happened. With all fields empty it says only that time went on.
type Input struct {
	Event     *history.Event // seen and already in the log
	Ended     *Ended
	Decided   bool // every expectation of the drill is decided
	Interrupt bool // the operator or the CI server wants an end
}

// Command is one thing to do, in order. Exactly one field is set.
type Command struct {
	Start  *Task
	Stop   *Stop
	Record history.Fact
	Finish *history.RunFinished // the last command of a run
}

// Stop asks for the end of a task; an attack reverts first.
type Stop struct {
	ID  int
	Why string
}

type phase int

const (
	phaseIdle phase = iota
	phaseInspect
	phaseWork   // deploy or promote
	phaseAnswer // a promotion waits for every name server
	phaseSteadyBefore
	phaseAttack
	phaseOneWay // the host is going down: wait until all is decided
	phaseVerify // look whether anything is left in force
	phaseSteadyAfter
	phaseInspectAfter
	phaseCount // the ledger reads back
	phaseJudge
	phaseStopping // interrupted: every task is ending
	phaseLastLook // interrupted: whether the attack left anything
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
	inForceAt   time.Time
	unseen      bool         // an attack of this step was started, and nobody has looked since whether anything is left of it
	tasks       map[int]Task // running
	nextID      int
	stopped     map[int]bool
	outcomes    []history.Outcome
	reason      string
	interrupted bool
	workErr     error
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
	if _, begins := event.Fact.(*history.AttackInForce); begins && s.phase == phaseAttack && s.inForceAt.IsZero() {
		s.inForceAt = now
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
	case TaskAttack, TaskInspect, TaskLedger:
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
	case phaseJudge, phaseOver:
	}
}

func (s *State) nextStep(now time.Time) {
	s.index++
	s.workErr, s.inForceAt, s.unseen = nil, time.Time{}, false
	if s.index >= len(s.plan.Steps) {
		s.finish(now, history.Passed, "")
		return
	}
	s.record(&history.StepStarted{Step: s.index, Name: s.current().Name})
	s.start(Task{Kind: TaskInspect, Hosts: s.pairHosts()})
	s.enter(now, phaseInspect)
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

func (s *State) inspected(now time.Time) {
	if s.running(TaskInspect) > 0 {
		return
	}
	step := s.current()
	if step.Kind == drill.StepDrill {
		s.record(&history.Phase{Step: s.index, Phase: history.PhaseSteadyBefore})
		for _, client := range s.plan.Clients {
			if client.Ledger != "" {
				s.start(Task{Kind: TaskLedger, Client: client})
			}
		}
		s.enter(now, phaseSteadyBefore)
		return
	}
	// The watch may not have spoken yet at the very begin of a run; a refusal is only final after a while.
	permit := guard.Admit(s.world, s.index, now)
	if !permit.Granted && now.Sub(s.since) < answerMax {
		return
	}
	s.record(&permit)
	if !permit.Granted {
		s.finishStep(now, history.Refused, permit.Reason)
		return
	}
	kind := TaskDeploy
	if step.Kind == drill.StepPromote {
		kind = TaskPromote
	}
	if step.Kind == drill.StepRollback {
		kind = TaskRollback
	}
	s.start(Task{Kind: kind, Environment: step.Environment})
	s.enter(now, phaseWork)
}

func (s *State) worked(now time.Time) {
	if s.running(TaskDeploy)+s.running(TaskPromote)+s.running(TaskRollback) > 0 {
		return
	}
	step := s.current()
	if s.workErr != nil {
		s.record(&history.Check{Step: s.index, Name: step.Kind, Detail: s.workErr.Error()})
		s.judge(now)
		return
	}
	s.record(&history.Check{Step: s.index, Name: step.Kind, OK: true})
	if step.Kind == drill.StepPromote {
		s.enter(now, phaseAnswer)
		return
	}
	s.judge(now)
}

func (s *State) promoted(now time.Time) {
	to := s.current().Environment
	seen := s.world.Live() == to
	if !seen && now.Sub(s.since) < answerMax {
		return
	}
	s.record(&history.Check{Step: s.index, Name: "answer on every name server", OK: seen, Detail: "leads to " + cmp.Or(s.world.Live(), "nothing certain")})
	if seen {
		s.record(&history.Promote{Name: s.plan.Failover[0].Name, From: s.current().Live, To: to})
	}
	s.judge(now)
}

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
	s.finish(now, history.Interrupted, "interrupted; every impact was taken back before the end, or the log says which was not")
}

func (s *State) finishStep(now time.Time, outcome history.Outcome, reason string) {
	if s.phase == phaseStopping || s.phase == phaseOver {
		return
	}
	s.record(&history.StepFinished{Step: s.index, Name: s.current().Name, Outcome: outcome, Reason: reason})
	s.outcomes = append(s.outcomes, outcome)
	if outcome != history.Passed {
		s.finish(now, outcome, fmt.Sprintf("%s: %s", s.current().Name, reason))
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
