package conductor

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/guard"
	"firedrill/internal/history"
)

// core is what is played against: State, or one with a planted bug.
type core interface {
	Step(now time.Time, in Input) []Command
	World() *guard.World
	Over() bool
}

// How long the tasks of a play take at most once they are free to end, and how long a play may be. Simulated time.
const (
	taskMax = 15 * time.Second // what the real crew keeps to when it looks at a host
	stopMax = 5 * time.Second
	playMax = 2 * time.Hour
)

// temper is what kind of world is played.
type temper struct {
	name      string
	trouble   float64 // chance at each moment that something is not as it should be
	silent    bool    // nothing is heard of it at all
	faults    float64 // chance that a task goes wrong
	interrupt bool
}

var tempers = []temper{
	{name: "kind"}, {name: "silent", silent: true}, {name: "rough", trouble: 0.004, faults: 0.1}, {name: "wild", trouble: 0.2, faults: 0.5},
	{name: "kind, interrupted", interrupt: true}, {name: "rough, interrupted", trouble: 0.004, faults: 0.1, interrupt: true},
	{name: "silent, interrupted", silent: true, interrupt: true},
}

// play is one run of the core against a small random world, with what must always hold checked after every input.
type play struct {
	random *rand.Rand
	temper temper
	core   core
	plan   drill.Plan
	now    time.Time
	rules  rules

	live   string          // what the name servers answer
	hit    map[string]bool // hosts under attack
	struck map[string]int  // by how many
	due    map[int]duty    // running tasks
	later  []time.Time     // when the answer moves away from an environment that is hit
	moment time.Duration   // how much time goes on between two inputs
}

// duty is what the world does for a running task.
type duty struct {
	task    Task
	inForce time.Time // attack: when it begins; zero when it never does or has begun
	end     time.Time // zero: only when it is stopped
}

func newPlay(seed uint64, makeCore func(drill.Plan) core) *play {
	random := rand.New(rand.NewPCG(seed, seed))
	plan := randomPlan(random)
	p := &play{
		random: random, temper: tempers[seed%uint64(len(tempers))], plan: plan, core: makeCore(plan),
		now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), live: plan.Live, hit: map[string]bool{}, struck: map[string]int{}, due: map[int]duty{},
		moment: time.Duration(100+random.IntN(900)) * time.Millisecond,
	}
	p.rules = newRules(plan)
	return p
}

// randomPlan makes plans that fit together as Compile does, and some that do not.
func randomPlan(random *rand.Rand) drill.Plan {
	plan := twoHosts()
	if random.IntN(3) == 0 {
		plan.Clients = nil
	}
	if random.IntN(4) == 0 {
		plan.Objectives.RTO = 0
	}
	if random.IntN(3) > 0 {
		drain := drill.Seconds(time.Duration(random.IntN(20)) * time.Second)
		plan.Failover[0].Drain = &drain
	}
	other := map[string]string{"blue": "green", "green": "blue"}
	live := plan.Live
	for range 1 + random.IntN(4) {
		environment := []string{live, other[live]}[random.IntN(2)]
		var step drill.Step
		switch random.IntN(6) {
		case 5:
			step = drill.Step{Kind: drill.StepRollback, Name: "rollback", Environment: live, Live: live, LiveAfter: live}
		case 0:
			step = drill.Step{Kind: drill.StepDeploy, Name: "deploy", Environment: other[live], Live: live, LiveAfter: live}
		case 1:
			step = drill.Step{Kind: drill.StepPromote, Name: "promote", Environment: other[live], Live: live, LiveAfter: other[live]}
		case 2:
			step = drillStep(plan, environment, live, other[environment])
			step.Drill.Attack = drill.Order{Attack: "shutdown", OneWay: true, Delay: drill.Seconds(time.Duration(random.IntN(90)) * time.Second)}
		default:
			step = drillStep(plan, environment, live, other[environment])
			step.Drill.UntilDecided = random.IntN(2) == 0
			for range random.IntN(3) {
				order := step.Drill.Attack
				order.Attack, order.Delay = "latency", drill.Seconds(time.Duration(random.IntN(3))*time.Second)
				step.Drill.More = append(step.Drill.More, order)
				step.Drill.Together = random.IntN(2) == 0
			}
			if random.IntN(3) == 0 {
				step.Drill.StopWhen = []drill.StopWhen{{Kind: drill.StopAlarm, Text: "alarm", Alarm: other[environment] + "-1-db"}}
			}
		}
		if random.IntN(10) == 0 { // made for another answer, as after a failover in between
			step.Live = other[step.Live]
		}
		live = step.LiveAfter
		plan.Steps = append(plan.Steps, step)
	}
	return plan
}

// run plays until the core is over and everything has ended, and returns what was broken.
func (p *play) run() error {
	begin := p.now
	p.input(Input{})
	interruptAt := begin.Add(time.Duration(p.random.IntN(90_000)) * time.Millisecond)
	for !p.core.Over() || len(p.due) > 0 {
		if p.now.Sub(begin) > playMax {
			return fmt.Errorf("not over after %s, with %d tasks running", playMax, len(p.due))
		}
		p.now = p.now.Add(p.moment)
		if p.temper.interrupt && p.now.After(interruptAt) {
			p.input(Input{Interrupt: true})
		}
		p.goOn()
		if !p.temper.silent {
			p.tell()
		}
		p.input(Input{Decided: p.chance(0.02)})
		if p.rules.broken != nil {
			return p.rules.broken
		}
	}
	return p.rules.broken
}

func (p *play) chance(of float64) bool { return p.random.Float64() < of }

func (p *play) input(in Input) {
	if p.rules.broken != nil {
		return
	}
	p.rules.before(p.now, in)
	commands := p.core.Step(p.now, in)
	p.rules.after(p.now, commands, p.core.World())
	for _, command := range commands {
		switch {
		case command.Start != nil:
			p.take(*command.Start)
		case command.Stop != nil:
			p.stopped(command.Stop.ID)
		}
	}
}

func (p *play) event(source string, fact history.Fact) {
	event := history.New(p.now, source, fact)
	p.input(Input{Event: &event})
}

func (p *play) within(span time.Duration) time.Time {
	return p.now.Add(time.Duration(p.random.Int64N(int64(span)) + 1))
}

// take begins to carry out a task.
func (p *play) take(task Task) {
	work := duty{task: task, end: p.within(taskMax)}
	switch task.Kind {
	case TaskLedger, TaskDrain:
		work.end = time.Time{}
	case TaskAttack:
		delay := p.within(5 * time.Second).Add(task.Order.Delay.Duration())
		work.inForce, work.end = delay, delay.Add(task.Order.Length.Duration()).Add(time.Second)
		if p.chance(p.temper.faults) {
			switch p.random.IntN(3) {
			case 0: // hangs before it begins
				work.inForce, work.end = time.Time{}, time.Time{}
			case 1: // hangs in force
				work.end = time.Time{}
			case 2: // breaks at once
				work.inForce, work.end = time.Time{}, p.within(time.Second)
			}
		}
	default:
	}
	p.due[task.ID] = work
}

func (p *play) stopped(id int) {
	work, running := p.due[id]
	if !running {
		return
	}
	if end := p.within(stopMax); work.end.IsZero() || end.Before(work.end) {
		work.end = end
	}
	p.due[id] = work
}

// goOn lets the tasks do what is due.
func (p *play) goOn() {
	for _, id := range slices.Sorted(maps.Keys(p.due)) {
		work := p.due[id]
		if !work.inForce.IsZero() && !work.inForce.After(p.now) {
			p.strike(work)
			work.inForce = time.Time{}
			p.due[id] = work
		}
		if !work.end.IsZero() && !work.end.After(p.now) {
			p.end(work)
		}
	}
	for len(p.later) > 0 && !p.later[0].After(p.now) {
		p.live = map[string]string{"blue": "green", "green": "blue"}[p.live]
		p.later = p.later[1:]
	}
}

func (p *play) strike(work duty) {
	host := work.task.Hosts[0].Name
	remains := "nothing"
	if work.task.Order.OneWay {
		remains = "one-way"
	}
	p.event(host, &history.AttackPlanned{GUID: work.task.GUID, Host: host, Remains: remains})
	p.event(host, &history.AttackInForce{GUID: work.task.GUID})
	p.hit[host] = true
	p.struck[host]++
	if host == p.live+"-1" && !p.chance(p.temper.faults) {
		p.later = append(p.later, p.now.Add(2*time.Second))
	}
}

func (p *play) end(work duty) {
	ended := Ended{ID: work.task.ID}
	if p.chance(p.temper.faults) {
		ended.Err = errors.New("it broke")
	}
	switch work.task.Kind {
	case TaskInspect:
		for _, host := range work.task.Hosts {
			seen := history.Inspected{Host: host.Name, Release: "r1", Healthy: true}
			if ended.Err != nil {
				seen = history.Inspected{Host: host.Name, Error: "no route to host"}
			}
			p.event("ci", &seen)
		}
	case TaskAttack:
		host := work.task.Hosts[0].Name
		if p.struck[host]--; p.struck[host] <= 0 {
			delete(p.hit, host)
		}
		if !work.task.Order.OneWay && ended.Err == nil {
			p.event(host, &history.AttackReverted{GUID: work.task.GUID})
		}
	case TaskPromote:
		if ended.Err == nil {
			p.live = work.task.Environment
		}
	case TaskLedger:
		p.event("client", &history.Ledger{Sent: 1, Acked: 1})
	case TaskJudge:
		ended.Outcome = history.Passed
		switch {
		case ended.Err != nil:
			ended.Outcome, ended.Reason = history.Failed, "it broke"
		case !p.rules.worked:
			ended.Outcome, ended.Reason = history.Inconclusive, "nothing was done"
		}
	case TaskDeploy, TaskRollback, TaskDrain:
	}
	delete(p.due, work.task.ID)
	p.input(Input{Ended: &ended})
	if p.chance(p.temper.faults) { // an end that is told twice, or of a task that never was
		p.input(Input{Ended: &Ended{ID: ended.ID + p.random.IntN(2)*1000, Outcome: history.Failed}})
	}
}

// tell gives the events of one moment.
func (p *play) tell() {
	addresses := map[string]string{"blue": "10.0.0.1", "green": "10.0.0.2"}
	answer := &history.Answer{Name: "shop.test", Server: "10.0.0.53", Addresses: []string{addresses[p.live]}}
	if p.chance(p.temper.trouble) {
		answer = &history.Answer{Name: "shop.test", Server: "10.0.0.53", Error: "i/o timeout"}
	}
	p.event("ci", &history.Host{Host: guard.WatchHost, Up: !p.chance(p.temper.trouble)})
	p.event("ci", answer)
	for _, host := range []string{"blue-1", "green-1"} {
		state := history.AlarmOK
		if p.hit[host] || p.chance(p.temper.trouble) {
			state = history.AlarmRaised
		}
		p.event("watch", &history.Host{Host: host, Up: !p.chance(p.temper.trouble)})
		p.event("watch", &history.Alarm{Name: host + "-db", To: state})
	}
	for _, id := range slices.Sorted(maps.Keys(p.due)) {
		if task := p.due[id].task; task.Kind == TaskDrain {
			for _, host := range task.Hosts {
				p.event("ci", &history.Drain{Environment: task.Environment, Host: host.Name, Open: p.random.IntN(2) * p.random.IntN(3)})
			}
		}
	}
	if p.chance(p.temper.trouble) {
		p.event("elsewhere", &history.AttackInForce{GUID: "of somebody else"})
		p.event("client", &history.Sample{Probe: "client", Scheduled: p.now, Cause: history.CauseConnect})
	}
	for at := p.now.Add(-p.moment); at.Before(p.now); at = at.Add(100 * time.Millisecond) {
		p.event("client", &history.Sample{Probe: "client", Scheduled: at, OK: !p.hit[p.live+"-1"], Cause: history.CauseConnect})
	}
}
