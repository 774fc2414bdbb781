package simulation

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"firedrill/internal/conductor"
	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// noticeMax is how long the end of the last healthy environment may go unnoticed: a heartbeat of three periods, messages that are late, and
// the way to the conductor.
const noticeMax = 15 * time.Second

// truth is what has really happened, which no decider is told. It holds the invariants:
//
//	no impact outlives its deadline
//	one environment is always untouched, and when its hosts die, the damage to the other is called off
//	a spare is never hit
//	nothing is passed that did not happen, or that only a part of the evidence speaks for
//	of attacks there is one at a time: no step's begins before those of the step before have ended
type truth struct {
	w      *world
	steps  map[int]*happened
	downAt map[string]time.Time // since when a host is down
	step   int
	passes int // verdicts that were looked into
}

// happened is what a step really did.
type happened struct {
	impacts map[string][]*impact // by host
	off     map[string]bool      // hosts that were taken down
	raised  map[string]bool      // alarms
	led     map[string]bool      // environments that every name server led to
}

func newTruth(w *world) truth {
	return truth{w: w, steps: map[int]*happened{}, downAt: map[string]time.Time{}, step: -1}
}

func (t *truth) of(step int) *happened {
	if t.steps[step] == nil {
		t.steps[step] = &happened{impacts: map[string][]*impact{}, off: map[string]bool{}, raised: map[string]bool{}, led: map[string]bool{}}
	}
	return t.steps[step]
}

func (t *truth) recorded(fact history.Fact) {
	if started, is := fact.(*history.StepStarted); is {
		t.step = started.Step
	}
}

func (t *truth) started(task *task) {
	if task.Kind != conductor.TaskAttack {
		return
	}
	for _, other := range t.w.tasks {
		if other.Kind == conductor.TaskAttack && other.Step != task.Step {
			t.w.fail("permits: an attack of step %d began beside one of step %d", task.Step, other.Step)
		}
	}
}

func (t *truth) ended(*task) {}

func (t *truth) applied(task *task, i *impact) {
	if h := task.Hosts[0].Name; i == nil {
		t.of(task.Step).off[h] = true
	} else {
		t.of(task.Step).impacts[h] = append(t.of(task.Step).impacts[h], i)
	}
}

// look is asked after every event.
func (t *truth) look() {
	w := t.w
	hit := ""
	for _, h := range w.hosts {
		switch at, known := t.downAt[h.name]; {
		case h.up && known:
			delete(t.downAt, h.name)
		case !h.up && !known:
			t.downAt[h.name] = w.now
		default:
			_ = at
		}
		for _, i := range h.active() {
			if i.foreign {
				continue
			}
			if over := w.now.Sub(i.applied.Add(i.length)); over >= 0 {
				w.fail("deadline: %s is in force on %s, %s after its deadline", i.guid, h.name, over)
			}
			if hit != "" && hit != h.environment {
				w.fail("untouched: %s and %s are hit at the same time", hit, h.environment)
			}
			hit = h.environment
			if at := slices.IndexFunc(i.hits, func(a netip.Addr) bool { return slices.Contains(w.names("control.test"), a) }); at >= 0 {
				w.fail("spare: %s hits %s, which is the watch", i.guid, i.hits[at])
			}
		}
	}
	if hit != "" {
		t.endangered(hit)
	}
	if t.step < 0 {
		return
	}
	step := t.of(t.step)
	for _, known := range w.watch.rules {
		if known.alarm.State == "ALARM" {
			step.raised[known.alarm.Rule.Name] = true
		}
	}
	led := ""
	for i, s := range w.servers {
		environment := w.host(t.hostAt(s.served[0])).environment
		if i > 0 && environment != led {
			return
		}
		led = environment
	}
	step.led[led] = true
}

func (t *truth) hostAt(address netip.Addr) string {
	for _, h := range t.w.hosts {
		if t.w.address(h.name) == address {
			return h.name
		}
	}
	return ""
}

// endangered demands that damage is called off when a host of the other environment has been down for long.
func (t *truth) endangered(hit string) {
	w := t.w
	for _, h := range w.hosts {
		since, down := t.downAt[h.name]
		if h.environment == hit || !down || w.now.Sub(since) < noticeMax {
			continue
		}
		for _, running := range w.tasks {
			if running.Kind == conductor.TaskAttack && !running.stopped && !running.Order.OneWay && w.hits(running) {
				w.fail("untouched: %s is down for %s, and the attack on %s goes on", h.name, w.now.Sub(since), hit)
			}
		}
	}
}

// hits says whether an attack has been in force for long enough to be called off.
func (w *world) hits(running *task) bool {
	return slices.ContainsFunc(w.host(running.Hosts[0].Name).active(), func(i *impact) bool { return i.guid == running.GUID && w.now.Sub(i.applied) > 2*time.Second })
}

// stepJudged holds a verdict of a step against what has happened.
func (t *truth) stepJudged(step int, judged verdict.StepVerdict, log []history.Event) {
	planned := t.w.plan.Steps[step].Drill
	if judged.Outcome != history.Passed || planned == nil {
		return
	}
	if why := t.lie(step, planned); why != "" {
		t.w.fail("passed: %s passed, and %s", t.w.plan.Steps[step].Name, why)
		return
	}
	if t.passes++; t.passes > 1 { // once a run: judging is dear
		return
	}
	judge := t.w.bug.judge
	if judge == nil {
		judge = verdict.JudgeStep
	}
	ended := t.w.now
	for _, event := range log {
		if phase, is := event.Fact.(*history.Phase); is && phase.Step == step && phase.Phase == history.PhaseRevert {
			ended = event.At
		}
	}
	for _, part := range decisive(planned, ended) {
		rest := slices.DeleteFunc(slices.Clone(log), func(e history.Event) bool { return part.is(e, step) })
		if len(rest) == len(log) {
			t.w.fail("passed: %s passed without %s", t.w.plan.Steps[step].Name, part.name)
		} else if judge(t.w.plan, rest, step).Outcome == history.Passed {
			t.w.fail("passed: %s passes without %s", t.w.plan.Steps[step].Name, part.name)
		}
	}
}

// lie says what a drill that passed did not do, or "".
func (t *truth) lie(step int, planned *drill.PlannedDrill) string {
	did := t.of(step)
	for _, order := range planned.Orders() {
		for _, known := range planned.Hosts {
			if order.OneWay {
				if !did.off[known.Name] {
					return known.Name + " was not taken down"
				}
				continue
			}
			if len(did.impacts[known.Name]) != len(planned.Orders()) {
				return fmt.Sprintf("%d of %d attacks were in force on %s", len(did.impacts[known.Name]), len(planned.Orders()), known.Name)
			}
			for _, i := range did.impacts[known.Name] {
				if i.toothless {
					return i.guid + " did not bite"
				}
				if slices.Contains(t.w.host(known.Name).active(), i) {
					return i.guid + " is still in force"
				}
			}
		}
	}
	for _, e := range planned.Expectations {
		switch {
		case e.Kind == drill.ExpectAlarm && !did.raised[e.Alarm]:
			return e.Alarm + " was not raised"
		case e.Kind == drill.ExpectMoves && !did.led[e.Environment]:
			return "the answer did not move to " + e.Environment
		}
	}
	return ""
}

// part is evidence without which a drill must not pass.
type part struct {
	name string
	is   func(e history.Event, step int) bool
}

// decisive lists it for a drill; ended is when its phase of the revert began.
func decisive(planned *drill.PlannedDrill, ended time.Time) []part {
	first := planned.Hosts[0].Name
	of := func(e history.Event, guid string, step int) bool {
		return strings.HasPrefix(guid, fmt.Sprintf("%d-%s", step, first))
	}
	parts := []part{
		{"the plan of an attack", func(e history.Event, step int) bool {
			fact, is := e.Fact.(*history.AttackPlanned)
			return is && of(e, fact.GUID, step)
		}},
		{"the moment when it came into force", func(e history.Event, step int) bool {
			fact, is := e.Fact.(*history.AttackInForce)
			return is && of(e, fact.GUID, step)
		}},
		{"any word of the watch", func(e history.Event, _ int) bool { return e.Source == "watch" }},
		{"any answer of a name server", func(e history.Event, _ int) bool { _, is := e.Fact.(*history.Answer); return is }},
		{"any sample of a client", func(e history.Event, _ int) bool { _, is := e.Fact.(*history.Sample); return is }},
		{"the phase of the attack", func(e history.Event, step int) bool {
			fact, is := e.Fact.(*history.Phase)
			return is && fact.Step == step && fact.Phase == history.PhaseAttack
		}},
		{"the look at what there is to go back to", func(e history.Event, step int) bool {
			fact, is := e.Fact.(*history.Check)
			return is && fact.Step == step && fact.Name == "rollback ready"
		}},
		{"the permit", func(e history.Event, step int) bool {
			fact, is := e.Fact.(*history.Permit)
			return is && fact.Step == step
		}},
	}
	if planned.Attack.OneWay {
		return parts
	}
	return append(parts,
		part{"the revert", func(e history.Event, step int) bool {
			fact, is := e.Fact.(*history.AttackReverted)
			return is && of(e, fact.GUID, step)
		}},
		part{"the account", func(e history.Event, step int) bool {
			fact, is := e.Fact.(*history.AttackAccount)
			return is && of(e, fact.GUID, step)
		}},
		part{"what was hit", func(e history.Event, step int) bool {
			fact, is := e.Fact.(*history.AttackHits)
			return is && of(e, fact.GUID, step)
		}},
		part{"its canaries", func(e history.Event, step int) bool {
			fact, is := e.Fact.(*history.AttackCanary)
			return is && of(e, fact.GUID, step)
		}},
		part{"any look at the host afterwards", func(e history.Event, step int) bool {
			look, is := e.Fact.(*history.Inspected)
			return is && look.Host == first && e.At.After(ended)
		}},
	)
}

// judged holds the verdict of the whole run against what has happened.
func (t *truth) judged() {
	w := t.w
	for _, h := range w.hosts {
		for _, i := range h.active() {
			if !i.foreign && w.verdict.Outcome == history.Passed {
				w.fail("passed: the run passed, and %s is in force on %s", i.guid, h.name)
			}
		}
	}
	if w.verdict.Outcome != history.Passed {
		if w.temper.name == "kind" && w.bug.name == "" {
			w.fail("a kind world did not pass: %s", w.verdict.Reason)
		}
		return
	}
	if w.observed != history.Passed {
		w.fail("passed: the verdict is passed, and the run ended as %s", w.observed)
	}
	for i, step := range w.plan.Steps {
		if step.Drill != nil {
			if why := t.lie(i, step.Drill); why != "" {
				w.fail("passed: the run passed, and in %s %s", step.Name, why)
			}
		}
	}
}
