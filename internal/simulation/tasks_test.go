package simulation

import (
	"errors"
	"slices"
	"time"

	"firedrill/internal/conductor"
	"firedrill/internal/failover"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// task is what the crew does for the conductor.
type task struct {
	conductor.Task
	w       *world
	stopped bool
	stop    func()
}

// start begins a task. Each ends with exactly one Ended, as the crew promises.
func (w *world) start(ordered conductor.Task) {
	t := &task{Task: ordered, w: w, stop: func() {}}
	w.tasks[ordered.ID] = t
	w.truth.started(t)
	switch ordered.Kind {
	case conductor.TaskInspect:
		t.inspect()
	case conductor.TaskPromote:
		w.after(50*time.Millisecond, time.Second, t.promote)
	case conductor.TaskAttack:
		t.attack()
	case conductor.TaskDrain:
		t.drain()
	case conductor.TaskJudge:
		log := w.log
		w.after(time.Millisecond, 10*time.Millisecond, func() {
			judge := w.bug.judge
			if judge == nil {
				judge = verdict.JudgeStep
			}
			judged := judge(w.plan, log, t.Step)
			w.truth.stepJudged(t.Step, judged, log)
			t.end(conductor.Ended{Outcome: judged.Outcome, Reason: judged.Reason})
		})
	default:
		w.after(0, time.Second, func() { t.end(conductor.Ended{Err: errors.New("nobody can do that here")}) })
	}
}

func (t *task) end(ended conductor.Ended) {
	if t.w.tasks[t.ID] != t {
		return
	}
	delete(t.w.tasks, t.ID)
	ended.ID = t.ID
	t.w.truth.ended(t)
	t.w.input(conductor.Input{Ended: &ended})
}

// inspect looks at hosts over connections of its own.
func (t *task) inspect() {
	left := len(t.Hosts)
	for _, wanted := range t.Hosts {
		h := t.w.host(wanted.Name)
		t.w.after(50*time.Millisecond, 3*time.Second, func() {
			seen := &history.Inspected{Host: h.name}
			switch {
			case !h.up || h.cut(t.w.now):
				seen.Error = "no route to host"
			default:
				seen.Healthy, seen.InForce = true, h.inForce()
			}
			t.w.hear(history.New(t.w.now, "ci", seen))
			if left--; left == 0 {
				t.end(conductor.Ended{})
			}
		})
	}
}

// promote orders the watch to switch.
func (t *task) promote() {
	watch := t.w.watch
	next, err := failover.Switch(watch.policy, watch.state, watch.unhealthy(), t.w.now, failover.Order{To: t.Environment, Reason: "promote"})
	if err == nil {
		watch.move(next)
	}
	t.end(conductor.Ended{Err: err})
}

func (t *task) drain() {
	ended := false
	t.stop = func() {
		if !ended {
			ended = true
			t.end(conductor.Ended{})
		}
	}
	var look func()
	look = func() {
		if ended {
			return
		}
		for _, h := range t.w.hosts {
			if h.environment == t.Environment {
				t.w.hear(history.New(t.w.now, "ci", &history.Drain{Environment: t.Environment, Host: h.name, Open: t.w.random.IntN(2) * t.w.random.IntN(2)}))
			}
		}
		t.w.after(time.Second, 2*time.Second, look)
	}
	look()
}

// stranger attacks a host for a while, and tells nobody.
func (w *world) stranger() {
	h := w.hosts[w.random.IntN(len(w.hosts))]
	if h.up {
		h.impacts = append(h.impacts, &impact{guid: "of-a-stranger", foreign: true, bites: true, lease: w.between(10*time.Second, time.Minute)})
	}
}

func (w *world) host(name string) *host {
	return w.hosts[slices.IndexFunc(w.hosts, func(h *host) bool { return h.name == name })]
}
