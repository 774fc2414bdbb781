package simulation

import (
	"bufio"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"firedrill/internal/conductor"
	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

var (
	seedFlag = flag.Uint64("seed", 0, "play this seed alone")
	seconds  = flag.Float64("seconds", secondsByDefault(), "for how long seeds are played that nobody has played")
)

// secondsByDefault are few for somebody who waits, and as many as FIREDRILL_SIMULATION_SECONDS says in the gate.
func secondsByDefault() float64 {
	if wanted, err := strconv.ParseFloat(os.Getenv("FIREDRILL_SIMULATION_SECONDS"), 64); err == nil {
		return wanted
	}
	return 2
}

// eventsMax bounds one run.
const eventsMax = 200_000

func play(t *testing.T, seed uint64) *world {
	t.Helper()
	playCrowd(t, seed)
	w := newWorld(seed, bug{})
	w.run(eventsMax)
	if w.broken == nil && !w.over {
		w.fail("the run has not ended after %d events", w.events)
	}
	if w.broken != nil {
		t.Errorf("%v\nagain: go test ./internal/simulation -run Fresh -seed %d\nto keep it: echo %d >> internal/simulation/testdata/seeds", w.broken, seed, seed)
	}
	return w
}

// Seeds that nobody has played yet: the clock gives the first one, and a failure prints its own.
func TestFreshSeedsBreakNothing(t *testing.T) {
	if *seedFlag != 0 {
		w := play(t, *seedFlag)
		t.Logf("seed %d: %s world, %d events, %s: %s", *seedFlag, w.temper.name, w.events, w.verdict.Outcome, w.verdict.Reason)
		return
	}
	first := uint64(time.Now().UnixNano())
	runs, events, outcomes := 0, 0, map[history.Outcome]int{}
	for end := time.Now().Add(time.Duration(*seconds * float64(time.Second))); time.Now().Before(end) && !t.Failed(); runs++ {
		w := play(t, first+uint64(runs))
		events += w.events
		outcomes[w.verdict.Outcome]++
	}
	t.Logf("%d runs from seed %d on, %d events; passed %d, failed %d, inconclusive %d", runs, first, events, outcomes[history.Passed], outcomes[history.Failed], outcomes[history.Inconclusive])
}

// Seeds that found something once.
func TestKeptSeedsBreakNothing(t *testing.T) {
	file, err := os.Open(filepath.Join("testdata", "seeds"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	count := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		count++
		play(t, seed)
	}
	if count == 0 {
		t.Error("no seed is kept")
	}
}

func TestSameSeedIsTheSameRun(t *testing.T) {
	for seed := range uint64(6) {
		one, other := newWorld(seed, bug{}), newWorld(seed, bug{})
		one.run(eventsMax)
		other.run(eventsMax)
		if one.events != other.events || len(one.log) != len(other.log) {
			t.Fatalf("seed %d: %d events and %d lines, then %d and %d", seed, one.events, len(one.log), other.events, len(other.log))
		}
		for i := range one.log {
			a, errA := one.log[i].MarshalJSON()
			b, errB := other.log[i].MarshalJSON()
			if errA != nil || errB != nil || string(a) != string(b) {
				t.Fatalf("seed %d, line %d: %s and %s (%v, %v)", seed, i, a, b, errA, errB)
			}
		}
	}
}

// blind is a core that only hears good news: nothing is in force, nothing is raised, every host is up.
type blind struct{ core }

func (b blind) Step(now time.Time, in conductor.Input) []conductor.Command {
	if in.Event == nil {
		return b.core.Step(now, in)
	}
	event := *in.Event
	switch fact := event.Fact.(type) {
	case *history.Alarm:
		good := *fact
		good.To = history.AlarmOK
		event.Fact = &good
	case *history.Host:
		event.Fact = &history.Host{Host: fact.Host, Up: true, BootID: fact.BootID}
	case *history.Inspected:
		event.Fact = &history.Inspected{Host: fact.Host, Healthy: true}
	case *history.Sample:
		good := *fact
		good.OK = true
		event.Fact = &good
	case *history.AttackReverted:
		event.Fact = &history.AttackReverted{GUID: fact.GUID}
	}
	in.Event = &event
	commands := b.core.Step(now, in)
	if fact, is := event.Fact.(*history.AttackInForce); is {
		b.core.World().Fold(history.New(now, event.Source, &history.AttackReverted{GUID: fact.GUID}))
	}
	return commands
}

// hasty is a core that takes the order to end an attack for its end.
type hasty struct{ core }

func (h hasty) Step(now time.Time, in conductor.Input) []conductor.Command {
	commands := h.core.Step(now, in)
	for i := 0; i < len(commands); i++ {
		if start := commands[i].Start; start != nil && start.Kind == conductor.TaskAttack {
			commands = append(commands, h.Step(now.Add(0), conductor.Input{Ended: &conductor.Ended{ID: start.ID}})...)
		}
	}
	return commands
}

func always(judge func(verdict.StepVerdict) verdict.StepVerdict) func(drill.Plan, []history.Event, int) verdict.StepVerdict {
	return func(plan drill.Plan, log []history.Event, step int) verdict.StepVerdict {
		return judge(verdict.JudgeStep(plan, log, step))
	}
}

// planted are bugs, each with the invariant that must find it.
var planted = []struct{ bug bug }{
	{bug{invariant: "deadline", name: "a lease that is renewed past the deadline", pastEnd: true}},
	{bug{
		invariant: "untouched", name: "a conductor that only hears good news",
		core: func(plan drill.Plan, guid func(int, string) string) core {
			return blind{conductor.NewState(plan, guid)}
		},
	}},
	{bug{invariant: "spare", name: "a plan that forgets what must not be hit", compile: func(plan drill.Plan) drill.Plan {
		for _, step := range plan.Steps {
			for _, order := range ordersOf(step) {
				for i, arg := range order.Args {
					order.Args[i] = strings.ReplaceAll(arg, "^control.test,", "")
				}
			}
		}
		return plan
	}}},
	{bug{invariant: "passed", name: "a judge that takes what nobody knows for good", judge: always(func(judged verdict.StepVerdict) verdict.StepVerdict {
		if judged.Outcome == history.Inconclusive {
			judged.Outcome = history.Passed
		}
		return judged
	})}},
	{bug{
		invariant: "permits", name: "a conductor that goes on while an attack runs",
		core: func(plan drill.Plan, guid func(int, string) string) core {
			return hasty{blind{conductor.NewState(plan, guid)}}
		},
		judge: always(func(judged verdict.StepVerdict) verdict.StepVerdict { judged.Outcome = history.Passed; return judged }),
	}},
}

func ordersOf(step drill.Step) []drill.Order {
	if step.Drill == nil {
		return nil
	}
	return step.Drill.Orders()
}

// foundWithin is how many events a planted bug may need.
const foundWithin = 10_000

func TestPlantedBugsAreFound(t *testing.T) {
	for _, p := range planted {
		left, found := foundWithin, error(nil)
		for seed := uint64(1); left > 0 && found == nil; seed++ {
			w := newWorld(seed, p.bug)
			left -= w.run(left)
			found = w.broken
		}
		if found == nil {
			t.Errorf("%s is not found within %d events", p.bug.name, foundWithin)
			continue
		}
		t.Logf("%s: found after %d events: %v", p.bug.name, foundWithin-left, found)
	}
}
