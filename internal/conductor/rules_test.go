package conductor

import (
	"cmp"
	"fmt"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/guard"
	"firedrill/internal/history"
)

// rules are what must hold after every input, whatever happens. They know nothing of how the core works: they look at inputs and
// commands, and ask the guard themselves.
type rules struct {
	plan        drill.Plan
	broken      error
	running     map[int]Task
	stopped     map[int]bool
	known       map[int]bool
	finished    *history.RunFinished
	interrupted bool

	step       int // begun last, -1 before the first
	closed     bool
	steady     bool // the check of the present step said so
	permitted  bool
	worked     bool // the step has done what it does
	promoted   bool // the answer was seen to have moved
	drained    bool // the wait for the old environment was written down
	outcome    history.Outcome
	lookedBack bool           // after the failed gate
	unsteady   time.Time      // when it was last seen that all was not well
	attacks    map[string]int // of this step, by host
	calledOff  bool           // an attack of this step was
	ordered    time.Time      // when the present attack was started
	inForce    time.Time      // and when its impact began
	unseen     map[int]Task   // attacks that ended, and nobody has looked since whether anything is left
}

func newRules(plan drill.Plan) rules {
	return rules{plan: plan, running: map[int]Task{}, stopped: map[int]bool{}, known: map[int]bool{}, unseen: map[int]Task{}, step: -1, closed: true}
}

func (r *rules) demand(holds bool, format string, args ...any) {
	if !holds && r.broken == nil {
		r.broken = fmt.Errorf(format, args...)
	}
}

// before takes an input in.
func (r *rules) before(now time.Time, in Input) {
	r.interrupted = r.interrupted || in.Interrupt && r.finished == nil
	if in.Event != nil {
		if _, begins := in.Event.Fact.(*history.AttackInForce); begins && r.runs(TaskAttack) && r.inForce.IsZero() {
			r.inForce = now
		}
	}
	if in.Ended == nil {
		return
	}
	task, running := r.running[in.Ended.ID]
	if !running {
		return
	}
	delete(r.running, in.Ended.ID)
	switch {
	case task.Kind == TaskAttack && !task.Order.OneWay:
		r.unseen[task.ID] = task
	case task.Kind == TaskInspect:
		r.lookedAt(task)
	}
}

// lookedAt takes a look as done when it was not called off and began after the attack had ended.
func (r *rules) lookedAt(look Task) {
	if r.stopped[look.ID] {
		return
	}
	for id, attack := range r.unseen {
		for _, host := range look.Hosts {
			if host.Name == attack.Hosts[0].Name && look.ID > id {
				delete(r.unseen, id)
			}
		}
	}
}

func (r *rules) runs(kind TaskKind) bool {
	for _, task := range r.running {
		if task.Kind == kind {
			return true
		}
	}
	return false
}

// after checks what was commanded.
func (r *rules) after(now time.Time, commands []Command, world *guard.World) {
	r.watchSteady(now, world)
	for _, command := range commands {
		fields := 0
		for _, set := range []bool{command.Start != nil, command.Stop != nil, command.Record != nil, command.Finish != nil} {
			if set {
				fields++
			}
		}
		r.demand(fields == 1, "a command with %d fields", fields)
		switch {
		case command.Start != nil:
			r.started(now, *command.Start, world)
		case command.Stop != nil:
			_, running := r.running[command.Stop.ID]
			r.demand(running, "stopped task %d, which does not run", command.Stop.ID)
			r.demand(!r.stopped[command.Stop.ID], "stopped task %d twice", command.Stop.ID)
			r.demand(command.Stop.Why != "", "stopped task %d without a reason", command.Stop.ID)
			r.stopped[command.Stop.ID] = true
			r.calledOff = r.calledOff || r.running[command.Stop.ID].Kind == TaskAttack
		case command.Record != nil:
			r.recorded(now, command.Record)
		case command.Finish != nil:
			r.finish(*command.Finish)
		}
	}
	r.mustHaveStopped(now, world)
}

// watchSteady remembers when all was last not well, for the drill that is about to begin.
func (r *rules) watchSteady(now time.Time, world *guard.World) {
	if r.step < 0 || r.plan.Steps[r.step].Drill == nil {
		return
	}
	step := r.plan.Steps[r.step]
	if ok, _ := guard.Steady(world, step.Live, now, step.Drill.SteadyFor.Duration()); !ok {
		r.unsteady = now
	}
}

func (r *rules) started(now time.Time, task Task, world *guard.World) {
	r.demand(r.finished == nil, "started %s after the end", task)
	r.demand(!r.known[task.ID], "started two tasks %d", task.ID)
	r.demand(task.Step == r.step && r.closed == task.Back && (!task.Back || r.outcome == history.Failed), "started %s outside of its step", task)
	r.known[task.ID] = true
	r.running[task.ID] = task
	if task.Kind != TaskInspect {
		r.demand(!r.interrupted, "started %s after the interrupt", task)
	}
	if task.Back {
		r.startedBack(now, task, world)
		return
	}
	step := r.plan.Steps[r.step]
	switch task.Kind {
	case TaskAttack:
		if r.attacks[task.Hosts[0].Name]++; r.attacks[task.Hosts[0].Name] > 1 {
			r.startedNext(now, task, step, world)
			return
		}
		r.demand(r.steady, "attacked without a check of the steady state")
		r.demand(now.Sub(r.unsteady) >= step.Drill.SteadyFor.Duration(), "attacked %s after all was not well", now.Sub(r.unsteady))
		r.ordered, r.inForce = now, time.Time{}
		fallthrough
	case TaskDeploy, TaskPromote, TaskRollback:
		r.demand(r.permitted, "started %s without a permit", task)
		r.demand(guard.Admit(world, r.step, now).Granted, "started %s although the guard refuses", task)
		for _, other := range r.running {
			r.demand(other.Kind != TaskDeploy && other.Kind != TaskPromote && other.Kind != TaskRollback || other.ID == task.ID, "started %s beside %s", task, other)
		}
		r.worked = true
	case TaskDrain:
		r.demand(world.Live() != task.Environment, "waits for requests on %s, which is answered", task.Environment)
	case TaskInspect, TaskLedger, TaskJudge:
	}
}

// startedNext checks the second and later attacks of a drill on a host.
func (r *rules) startedNext(now time.Time, task Task, step drill.Step, world *guard.World) {
	r.demand(len(step.Drill.Orders()) >= r.attacks[task.Hosts[0].Name], "attacked %s once more than planned", task.Hosts[0].Name)
	r.demand(!r.calledOff, "attacked again after an attack was called off")
	if step.Drill.Together {
		r.demand(now.Equal(r.ordered), "attacked later although the attacks belong together")
		return
	}
	for id, other := range r.running {
		next := other.Order.Attack == task.Order.Attack && other.Hosts[0].Name != task.Hosts[0].Name
		r.demand(other.Kind != TaskAttack || id == task.ID || next, "the next attack began beside the one before")
	}
	r.demand(world.Attacked(task.Hosts) == "", "the next attack began although the one before is in force")
	stop, why, _ := guard.MustStop(world, r.step, cmp.Or(r.inForce, r.ordered), now)
	r.demand(!stop, "attacked again although %s", why)
}

// startedBack checks what is done after a gate has failed: only after a new look, only what the guard admits, never beside an attack.
func (r *rules) startedBack(now time.Time, task Task, world *guard.World) {
	r.nothingOpen("the way back began")
	switch task.Kind {
	case TaskPromote, TaskRollback:
		permit := guard.AdmitBack(world, task.Environment, task.Kind == TaskRollback, now)
		r.demand(permit.Granted, "went back although the guard refuses: %s", permit.Reason)
		r.demand(r.lookedBack, "went back without a look")
		r.lookedBack = false
	case TaskInspect:
		r.lookedBack = true
	case TaskDrain:
	default:
		r.demand(false, "%s is no way back", task)
	}
}

func (r *rules) recorded(now time.Time, record history.Fact) {
	switch fact := record.(type) {
	case *history.StepStarted:
		r.demand(r.closed && fact.Step == r.step+1, "step %d began after step %d, which was closed: %t", fact.Step, r.step, r.closed)
		r.nothingOpen("the next step began")
		r.step, r.closed, r.steady, r.permitted, r.worked, r.unsteady = fact.Step, false, false, false, false, now
		r.drained, r.promoted, r.attacks, r.calledOff = false, false, map[string]int{}, false
	case *history.StepFinished:
		r.demand(!r.closed && fact.Step == r.step, "step %d was closed in step %d", fact.Step, r.step)
		r.demand(fact.Outcome != history.Passed || r.worked, "step %d passed and nothing was done", fact.Step)
		r.nothingOpen("the step was closed")
		r.closed, r.outcome = true, fact.Outcome
		wants := r.promoted && r.plan.Failover[0].Drain != nil && *r.plan.Failover[0].Drain > 0
		r.demand(fact.Outcome != history.Passed || !wants || r.drained, "step %d passed and the old environment was not waited for", fact.Step)
	case *history.Promote:
		r.promoted = fact.From != fact.To
	case *history.Drained:
		r.drained = true
	case *history.Check:
		r.steady = r.steady || fact.Name == history.PhaseSteadyBefore && fact.OK
	case *history.Permit:
		r.permitted = fact.Granted
	}
}

// nothingOpen demands that every attack has ended and that somebody has looked at what it left.
func (r *rules) nothingOpen(when string) {
	r.demand(!r.runs(TaskAttack), "%s while an attack was running", when)
	r.demand(len(r.unseen) == 0, "%s before anybody looked at what the attack left", when)
}

func (r *rules) finish(finish history.RunFinished) {
	r.demand(r.finished == nil, "finished twice")
	r.finished = &finish
	r.nothingOpen("the run ended")
	if r.interrupted {
		r.demand(len(r.running) == 0, "the interrupted run ended with %d tasks running", len(r.running))
		r.demand(finish.Outcome == history.Interrupted, "the interrupted run ended as %s", finish.Outcome)
	}
	r.demand(finish.Outcome != history.Passed || r.closed && r.step == len(r.plan.Steps)-1, "the run passed in step %d of %d", r.step, len(r.plan.Steps))
	for id := range r.running {
		r.demand(r.stopped[id], "the run ended and task %d was not asked to", id)
	}
}

// mustHaveStopped demands that an attack which can be called off is, at the first input after which the guard says so.
func (r *rules) mustHaveStopped(now time.Time, world *guard.World) {
	if !r.runs(TaskAttack) || r.plan.Steps[r.step].Drill.Attack.OneWay && !r.inForce.IsZero() {
		return
	}
	stop, why, _ := guard.MustStop(world, r.step, cmp.Or(r.inForce, r.ordered), now)
	for id, task := range r.running {
		if task.Kind == TaskAttack && stop {
			r.demand(r.stopped[id], "%s, and the attack goes on", why)
		}
	}
}
