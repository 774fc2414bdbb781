package conductor

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/guard"
	"firedrill/internal/history"
)

// playsFixed is how many plays each run of the tests repeats; as many again have new seeds.
const playsFixed = 420

func realCore(plan drill.Plan) core {
	return NewState(plan, func(step int, host string) string { return fmt.Sprintf("%d-%s", step, host) })
}

// seeds are those that are always played and some new ones, or with SEED only that one.
func seeds(t *testing.T) []uint64 {
	t.Helper()
	if text, given := os.LookupEnv("SEED"); given {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return []uint64{seed}
	}
	var all []uint64
	fresh := uint64(time.Now().UnixNano())
	for i := range uint64(playsFixed) {
		all = append(all, i, fresh+i)
	}
	return all
}

// Whatever is heard, in whatever order, the run keeps its rules and comes to an end.
func TestRunKeepsItsRulesWhateverHappens(t *testing.T) {
	attacks := map[string]int{}
	ends := map[history.Outcome]int{}
	all := seeds(t)
	for _, seed := range all {
		p := newPlay(seed, realCore)
		if err := p.run(); err != nil {
			t.Errorf("SEED=%d (%s world): %v", seed, p.temper.name, err)
			continue
		}
		ends[p.rules.finished.Outcome]++
		for _, step := range p.plan.Steps[:p.rules.step+1] {
			if step.Drill != nil && p.rules.worked {
				attacks[step.Drill.Attack.Attack]++
			}
		}
	}
	t.Logf("ends %v, attacks %v", ends, attacks)
	if len(all) > 1 && (attacks["blackhole"] == 0 || attacks["shutdown"] == 0 || len(ends) < 4) {
		t.Errorf("the plays did not get far: ends %v, attacks %v", ends, attacks)
	}
}

// settingUp plays until the attack of a drill on green is started, which then never comes into force.
func settingUp(t *testing.T, order drill.Order) *play {
	t.Helper()
	p := newPlay(0, realCore)
	p.plan = twoHosts()
	step := drillStep(p.plan, "green", "blue", "blue")
	step.Drill.Attack = order
	p.plan.Steps = []drill.Step{step}
	p.live, p.core, p.rules = "blue", realCore(p.plan), newRules(p.plan)
	for until := p.now.Add(time.Minute); !p.rules.runs(TaskAttack); p.goFor(p.moment) {
		if p.now.After(until) || p.rules.broken != nil {
			t.Fatalf("the attack was not started: %v", p.rules.broken)
		}
	}
	for id, work := range p.due {
		if work.task.Kind == TaskAttack {
			work.inForce, work.end = time.Time{}, time.Time{}
			p.due[id] = work
		}
	}
	return p
}

// goFor lets time go on in a world without trouble.
func (p *play) goFor(span time.Duration) {
	for until := p.now.Add(span); p.now.Before(until); {
		p.now = p.now.Add(p.moment)
		p.goOn()
		p.tell()
		p.input(Input{})
	}
}

func (p *play) attackStopped() bool {
	for id, task := range p.rules.running {
		if task.Kind == TaskAttack {
			return p.rules.stopped[id]
		}
	}
	return true
}

func TestAnAttackMayTakeItsOwnDelayAndNotMuchMore(t *testing.T) {
	for _, order := range []drill.Order{
		{Attack: "blackhole", Length: drill.Seconds(time.Minute)}, {Attack: "shutdown", OneWay: true, Delay: drill.Seconds(time.Minute)},
	} {
		p := settingUp(t, order)
		p.goFor(order.Delay.Duration() + setUpMax - 2*time.Second)
		if p.attackStopped() {
			t.Errorf("%s was called off before its delay was over", order.Attack)
		}
		p.goFor(4 * time.Second)
		if !p.attackStopped() {
			t.Errorf("%s goes on although it never came into force", order.Attack)
		}
	}
}

// Whatever is not in force yet can be called off, a shutdown too.
func TestDangerCallsAnAttackOffBeforeItBegins(t *testing.T) {
	for _, order := range []drill.Order{
		{Attack: "blackhole", Length: drill.Seconds(time.Minute)}, {Attack: "shutdown", OneWay: true, Delay: drill.Seconds(time.Minute)},
	} {
		p := settingUp(t, order)
		p.goFor(5 * time.Second)
		if p.attackStopped() {
			t.Errorf("%s was called off without danger", order.Attack)
		}
		p.event("watch", &history.Alarm{Name: "blue-1-db", To: history.AlarmRaised})
		if !p.attackStopped() {
			t.Errorf("%s goes on although blue would be the only one left and its alarm is raised", order.Attack)
		}
	}
}

// planted is a core with a bug: it changes what the real one hears, knows or commands.
type planted struct {
	*State
	frozen  bool // time does not go on
	forgets func(*State)
	twists  func(*planted, []Command) []Command

	first time.Time
	ended int // the task that ended last
}

func (p *planted) Step(now time.Time, in Input) []Command {
	if p.first.IsZero() {
		p.first = now
	}
	if in.Ended != nil {
		p.ended = in.Ended.ID
	}
	if p.frozen {
		now = p.first
	}
	if p.forgets != nil {
		p.forgets(p.State)
	}
	commands := p.State.Step(now, in)
	if p.twists != nil {
		commands = p.twists(p, commands)
	}
	return commands
}

func finishes(commands []Command) bool {
	return slices.ContainsFunc(commands, func(c Command) bool { return c.Finish != nil })
}

func without(commands []Command, drop func(Command) bool) []Command {
	return slices.DeleteFunc(slices.Clone(commands), drop)
}

// The planted bugs, each with the kind of world in which it shows and the words of the rule that finds it.
var plantedBugs = []struct {
	name, temper, found string
	bug                 planted
}{
	{"finishes twice", "kind", "finished twice", planted{twists: func(_ *planted, commands []Command) []Command {
		if finishes(commands) {
			return append(commands, commands[len(commands)-1])
		}
		return commands
	}}},
	{"starts after the end", "kind", "after the end", planted{twists: func(p *planted, commands []Command) []Command {
		if finishes(commands) {
			return append(commands, Command{Start: &Task{ID: 1000, Kind: TaskInspect, Step: p.index}})
		}
		return commands
	}}},
	{"stops what has ended", "kind", "which does not run", planted{twists: func(p *planted, commands []Command) []Command {
		if p.ended > 0 {
			return append(commands, Command{Stop: &Stop{ID: p.ended, Why: "again"}})
		}
		return commands
	}}},
	{"attacks before all was well for long enough", "rough", "after all was not well", planted{forgets: func(s *State) {
		s.steadySince = time.Unix(0, 0)
	}}},
	{"attacks without asking for a permit", "kind", "without a permit", planted{twists: func(_ *planted, commands []Command) []Command {
		return without(commands, func(c Command) bool { _, is := c.Record.(*history.Permit); return is })
	}}},
	{"attacks although it is refused", "wild", "although the guard refuses", planted{twists: func(p *planted, commands []Command) []Command {
		for i, command := range commands {
			permit, is := command.Record.(*history.Permit)
			if is && !permit.Granted {
				granted := Command{Record: &history.Permit{Step: permit.Step, Granted: true}}
				return append(append(commands[:i:i], granted), Command{Start: &Task{ID: 1000, Kind: TaskPromote, Step: p.index}})
			}
		}
		return commands
	}}},
	{"does not stop an attack that endangers the rest", "wild", "the attack goes on", planted{twists: func(_ *planted, commands []Command) []Command {
		return without(commands, func(c Command) bool { return c.Stop != nil })
	}}},
	{"does not wait when interrupted", "kind, interrupted", "tasks running", planted{twists: func(p *planted, commands []Command) []Command {
		if p.phase == phaseStopping && !finishes(commands) {
			return append(commands, Command{Finish: &history.RunFinished{Outcome: history.Interrupted}})
		}
		return commands
	}}},
	{"does not look again when interrupted", "kind, interrupted", "before anybody looked", planted{forgets: func(s *State) { s.unseen = false }}},
	{"looks again at no host", "kind", "before anybody looked", planted{twists: func(p *planted, commands []Command) []Command {
		for i := range commands {
			if (p.phase == phaseVerify || p.phase == phaseInspectAfter) && commands[i].Start != nil {
				commands[i].Start.Hosts = nil
			}
		}
		return commands
	}}},
	{"goes back although it is refused", "wild", "went back although the guard refuses", planted{twists: func(p *planted, commands []Command) []Command {
		if p.phase != phaseBackLook || len(p.backs) == 0 {
			return commands
		}
		way := p.backs[0]
		if guard.AdmitBack(p.world, way.environment, way.release, p.since).Granted {
			return commands
		}
		kind := map[bool]TaskKind{true: TaskRollback, false: TaskPromote}[way.release]
		return append(commands, Command{Start: &Task{ID: 1000, Kind: kind, Step: p.index, Environment: way.environment, Back: true}})
	}}},
	{"does not wait for the old environment", "kind", "was not waited for", planted{twists: func(_ *planted, commands []Command) []Command {
		return without(commands, func(c Command) bool { _, is := c.Record.(*history.Drained); return is })
	}}},
	{"starts the next attack beside the one before", "kind", "beside the one before", planted{twists: func(p *planted, commands []Command) []Command {
		for _, command := range commands {
			if command.Start != nil && command.Start.Kind == TaskAttack && p.current().Drill.InSequence() && p.attack == 0 {
				next := *command.Start
				next.ID, next.Order = 1000, p.current().Drill.More[0]
				return append(commands, Command{Start: &next})
			}
		}
		return commands
	}}},
	{"goes on to the next attack after one was called off", "rough", "called off", planted{forgets: func(s *State) { s.calledOff = false }}},
	{"takes no notice of time", "silent", "not over after", planted{frozen: true}},
	{"passes without having done anything", "kind", "nothing was done", planted{twists: func(p *planted, commands []Command) []Command {
		if p.phase != phaseInspect {
			return commands
		}
		return append(commands, Command{Record: &history.StepFinished{Step: p.index, Outcome: history.Passed}})
	}}},
}

func TestPlantedBugsBreakTheRules(t *testing.T) {
	for _, plantedBug := range plantedBugs {
		found, last := false, error(nil)
		for seed := uint64(0); seed < 60*uint64(len(tempers)) && !found; seed++ {
			if tempers[seed%uint64(len(tempers))].name != plantedBug.temper {
				continue
			}
			p := newPlay(seed, func(plan drill.Plan) core {
				bug := plantedBug.bug
				bug.State = realCore(plan).(*State)
				return &bug
			})
			if err := p.run(); err != nil {
				last = err
				found = strings.Contains(err.Error(), plantedBug.found)
			}
		}
		if !found {
			t.Errorf("a core that %s is not caught; last found: %v", plantedBug.name, last)
		}
	}
}
