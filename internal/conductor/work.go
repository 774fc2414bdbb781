package conductor

import (
	"cmp"
	"fmt"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/guard"
	"firedrill/internal/history"
)

func (s *State) inspected(now time.Time) {
	if s.running(TaskInspect) > 0 {
		return
	}
	step := s.current()
	barred := guard.Barred(s.world, s.index, now)
	if step.Kind == drill.StepDrill && !barred {
		s.record(&history.Phase{Step: s.index, Phase: history.PhaseSteadyBefore})
		for _, client := range s.plan.Clients {
			if client.Ledger != "" {
				s.start(Task{Kind: TaskLedger, Client: client})
			}
		}
		s.enter(now, phaseSteadyBefore)
		return
	}
	// The watch may not have spoken yet at the very begin of a run; a refusal is only final after a while, but for one that waits for nothing.
	permit := guard.Admit(s.world, s.index, now)
	if !permit.Granted && !barred && now.Sub(s.since) < answerMax {
		return
	}
	s.record(&permit)
	switch {
	case !permit.Granted:
		s.finishStep(now, history.Refused, permit.Reason)
		return
	case step.Kind == drill.StepPromote && step.Begun && s.world.Live() == step.Environment:
		s.record(&history.Check{Step: s.index, Name: step.Kind, OK: true, Detail: permit.Reason})
		s.enter(now, phaseAnswer)
		return
	}
	s.start(Task{Kind: workOf[step.Kind], Environment: step.Environment})
	s.enter(now, phaseWork)
}

// workOf is what a step that is no drill does.
var workOf = map[string]TaskKind{drill.StepDeploy: TaskDeploy, drill.StepPromote: TaskPromote, drill.StepRollback: TaskRollback}

// working says that something that changes environments is under way.
func (s *State) working() bool {
	return s.running(TaskDeploy)+s.running(TaskPromote)+s.running(TaskRollback) > 0
}

func (s *State) worked(now time.Time) {
	if s.working() {
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
	if !seen {
		s.judge(now)
		return
	}
	s.record(&history.Promote{Name: s.plan.Failover[0].Name, From: s.current().Live, To: to})
	s.startDrain(now, s.current().Live, phaseDrain)
}

// quietLooks is how often in a row nothing must be seen on a host. Short requests one after the other leave gaps.
const quietLooks = 3

// drainState is the wait for the requests on an environment from which the answer has moved away.
type drainState struct {
	environment string
	moved       time.Time     // when the answer was seen to have moved
	ttl         time.Duration // for so long clients may still come
	most        time.Duration // after the TTL
	quiet       map[string]int
	last        map[string]history.Drain
}

func (d *drainState) look(now time.Time, look history.Drain) {
	if d.quiet == nil || look.Environment != d.environment {
		return
	}
	d.last[look.Host] = look
	switch {
	case look.Error != "" || look.Open > 0:
		d.quiet[look.Host] = 0
	case now.Sub(d.moved) >= d.ttl:
		d.quiet[look.Host]++
	}
}

// startDrain waits, in the given phase, for what an environment still serves. A service file that wants none gets none.
func (s *State) startDrain(now time.Time, environment string, in phase) {
	failover := s.plan.Failover[0]
	s.drain = drainState{environment: environment, moved: now}
	if failover.TTL != nil {
		s.drain.ttl = failover.TTL.Duration()
	}
	if failover.Drain != nil && *failover.Drain > 0 && environment != s.world.Live() {
		s.drain.most, s.drain.quiet, s.drain.last = failover.Drain.Duration(), map[string]int{}, map[string]history.Drain{}
		s.start(Task{Kind: TaskDrain, Environment: environment, Hosts: s.hostsOf(environment), Back: in == phaseBackDrain})
	}
	s.enter(now, in)
}

// drained says that the wait is over, and writes down how it ended.
func (s *State) drained(now time.Time) bool {
	d := &s.drain
	if d.quiet == nil { // not wanted, or written down already
		return s.running(TaskDrain) == 0
	}
	waited, ended, open := now.Sub(d.moved), true, ""
	for _, host := range s.hostsOf(d.environment) {
		if d.quiet[host.Name] >= quietLooks {
			continue
		}
		ended = false
		look, looked := d.last[host.Name]
		switch {
		case !looked:
			open = host.Name + " was not looked at"
		case look.Error != "":
			open = host.Name + " could not be looked at: " + look.Error
		default:
			open = fmt.Sprintf("%d connections to %s were still open", look.Open, host.Name)
		}
	}
	if !ended && waited < d.ttl+d.most {
		return false
	}
	detail := fmt.Sprintf("no request was left on %s", d.environment)
	if !ended {
		detail = fmt.Sprintf("%s: longer than the TTL of %s and drain: %s", open, d.ttl, d.most)
	}
	s.record(&history.Drained{Step: s.index, Environment: d.environment, Ended: ended, Waited: drill.Seconds(waited), Detail: detail})
	d.quiet = nil
	s.stop("the environment is drained, or was waited for long enough", func(task Task) bool { return task.Kind == TaskDrain })
	return s.running(TaskDrain) == 0
}
