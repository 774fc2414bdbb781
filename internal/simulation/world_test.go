package simulation

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"firedrill/internal/attack/kinds"
	"firedrill/internal/conductor"
	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/guard"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// service is what is played: two environments of two hosts, a dependency, alarms, two name servers.
const service = `
service: shop
endpoint: http://shop.test/
objectives: {rto: 60s}
environments:
  blue:
    hosts: [{name: blue-1, address: 10.0.0.1}, {name: blue-2, address: 10.0.0.2}]
  green:
    hosts: [{name: green-1, address: 10.0.0.3}, {name: green-2, address: 10.0.0.4}]
dependencies: {db: {address: "db.test:5432", critical: always}}
clients: {client: {every: 500ms, timeout: 1s}}
watch: {url: "http://control.test:7070"}
metrics:
  db: {from: each host, connect: db, every: 1s, timeout: 500ms}
  status: {from: each host, heartbeat: true, every: 1s}
alarms:
  "{host}-db": {metric: db, average: "< 1", period: 2s, datapoints: 2 of 2}
  "{host}-status": {metric: status, maximum: ">= 1", missing: breaching, period: 1s, datapoints: 3 of 3}
failover:
  shop.test: {servers: ["ns-1.test", "ns-2.test"], primary: blue, secondary: green, unhealthy_when: ["{host}-db", "{host}-status"]}
drills:
  cut:
    attack: {blackhole: {hostnames: [db], length: 30s}}
    expect:
      - alarm "{host}-db" within 20s
      - answer moves to the other environment within 40s
      - clients recover within 60s
      - steady state within 60s of the revert
  long:
    until: decided
    attack: {blackhole: {hostnames: [db], length: 90s}}
    stop_when: ["clients fail for 50s"]
    expect: ['alarm "{host}-db" within 30s', 'answer moves to the other environment within 50s']
  some:
    hosts: 1
    attacks: [{blackhole: {hostnames: [db], length: 20s}}, {latency: {hostnames: [db], ms: 300, length: 20s}}]
    together: true
    expect: ['alarm "{host}-db" within 20s', 'answer stays']
  again:
    hosts: 50%
    attacks: [{blackhole: {hostnames: [db], length: 15s}}, {blackhole: {hostnames: [db], length: 15s}}]
    expect: ['alarm "{host}-db" within 20s', 'answer stays']
  off:
    hosts: 1
    attack: {shutdown: {delay: 2s, reboot: "true"}}
    expect: ['alarm "{host}-status" within 30s', 'answer stays', 'steady state within 60s of the revert']
`

// pipelines are what the runs do. What a drill on the active environment moves, the next step finds moved.
var pipelines = [][]string{
	{"drill cut on idle", "drill cut on active"},
	{"drill long on idle", "drill cut on idle"},
	{"drill some on idle", "promote", "drill long on active"},
	{"drill again on active", "drill cut on idle"},
	{"drill off on idle", "drill off on active", "drill cut on idle"},
	{"promote", "drill cut on idle", "promote"},
}

// temper is how a world treats those in it: chances by the message, the attack or the second.
type temper struct {
	name                     string
	lost, doubled, late      float64 // of messages
	crash, blind             float64 // a second: a host goes down; the conductor loses the watch
	cutOff, frozen, stubborn float64 // an attack: its connection breaks; it is stopped; it never ends by itself
	residue, toothless       float64
	betrayal                 float64 // an attack: a host of the other environment dies meanwhile
	slowDNS, stranger        float64 // a question; a run: somebody else attacks, too
	interrupt                bool
}

var tempers = []temper{
	{name: "kind"},
	{name: "lossy", lost: 0.01, doubled: 0.03, late: 0.05, slowDNS: 0.05},
	{name: "deadly", betrayal: 0.3, crash: 0.002, cutOff: 0.2, frozen: 0.2, stubborn: 0.2, late: 0.02},
	{name: "lying", residue: 0.3, toothless: 0.3, lost: 0.005, doubled: 0.02},
	{name: "crowded", betrayal: 0.3, stranger: 1, blind: 0.01, slowDNS: 0.2, stubborn: 0.2, late: 0.05},
	{name: "wild", betrayal: 0.2, lost: 0.03, doubled: 0.1, late: 0.2, crash: 0.002, blind: 0.01, cutOff: 0.3, frozen: 0.3, stubborn: 0.3, residue: 0.2, toothless: 0.2, slowDNS: 0.2, stranger: 0.5, interrupt: true},
}

// core is the conductor's: the real one, or one with a planted bug.
type core interface { // *conductor.State, or a twin
	Step(now time.Time, in conductor.Input) []conductor.Command
	World() *guard.World
	Observing() (int, bool)
	Over() bool
}

// bug is a planted one. Nil fields are the real thing.
type bug struct {
	name      string
	invariant string // that must find it
	core      func(drill.Plan, func(int, string) string) core
	judge     func(drill.Plan, []history.Event, int) verdict.StepVerdict
	compile   func(drill.Plan) drill.Plan
	pastEnd   bool // hosts renew the lease of an impact past its deadline
}

// happening is something that is going to be done at a moment; of two at the same moment the one that was planned first.
type happening struct {
	at    time.Time
	order int
	do    func()
}

type queue []happening

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	if !q[i].at.Equal(q[j].at) {
		return q[i].at.Before(q[j].at)
	}
	return q[i].order < q[j].order
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(happening)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// world is one run with all that is around it.
type world struct {
	seed    uint64
	random  *rand.Rand
	temper  temper
	bug     bug
	service drill.Service
	plan    drill.Plan
	now     time.Time
	queue   queue
	order   int
	events  int // that happened

	core     core
	log      []history.Event
	hosts    []*host
	watch    *watch
	servers  []*nameServer
	client   client
	tasks    map[int]*task
	finish   *history.RunFinished
	over     bool
	ticks    int
	heard    time.Time // when the last message of the watch arrives: they keep their order
	linked   bool      // the watch is heard
	truth    truth
	broken   error
	verdict  verdict.Verdict
	observed history.Outcome
}

// begin is when every run begins.
var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// runMax is how long a run may be. The longest that ends by itself is far below.
const runMax = time.Hour

func newWorld(seed uint64, planted bug) *world {
	w := &world{seed: seed, random: rand.New(rand.NewPCG(seed, 1)), temper: tempers[seed%uint64(len(tempers))], bug: planted, now: begin, tasks: map[int]*task{}, linked: true}
	parsed, err := drill.ParseService([]byte(service), "firedrill.yaml")
	if err != nil {
		panic(err)
	}
	w.service = parsed
	pipeline := pipelines[w.random.IntN(len(pipelines))]
	if w.plan, err = drill.Compile(parsed, drill.Facts{Live: "blue", Kinds: kinds.Describe(), Seed: int64(seed) + 1}, pipeline); err != nil {
		panic(err)
	}
	if planted.compile != nil {
		w.plan = planted.compile(w.plan)
	}
	guid := func(step int, name string) string { return fmt.Sprintf("%d-%s", step, name) }
	w.core = conductor.NewState(w.plan, guid)
	if planted.core != nil {
		w.core = planted.core(w.plan, guid)
	}
	for _, environment := range w.plan.Environments {
		for _, known := range environment.Hosts {
			w.hosts = append(w.hosts, newHost(w, environment.Name, known))
		}
	}
	policy, err := failover.Compile(w.plan.Failover[0], w.plan.Environments)
	if err != nil {
		panic(err)
	}
	w.watch = newWatch(w, policy)
	for _, name := range w.plan.Failover[0].Servers {
		w.servers = append(w.servers, &nameServer{w: w, name: name, served: w.watch.state.Addresses})
	}
	w.truth = newTruth(w)
	return w
}

func (w *world) chance(of float64) bool { return of > 0 && w.random.Float64() < of }

// between is a moment from least to most after now.
func (w *world) between(least, most time.Duration) time.Time {
	return w.now.Add(least + time.Duration(w.random.Int64N(int64(most-least)+1)))
}

func (w *world) after(least, most time.Duration, do func()) { w.at(w.between(least, most), do) }

func (w *world) at(moment time.Time, do func()) {
	w.order++
	heap.Push(&w.queue, happening{at: moment, order: w.order, do: do})
}

// every does something again and again, until the run is over.
func (w *world) every(interval time.Duration, do func()) {
	var again func()
	again = func() {
		do()
		if !w.over {
			w.at(w.now.Add(interval), again)
		}
	}
	w.after(0, interval, again)
}

// message carries something to somebody else: late, twice, or never.
func (w *world) message(deliver func()) {
	if w.chance(w.temper.lost) {
		return
	}
	delay := func() time.Time {
		if w.chance(w.temper.late) {
			return w.between(0, 4*time.Second)
		}
		return w.between(time.Millisecond, 50*time.Millisecond)
	}
	w.at(delay(), deliver)
	if w.chance(w.temper.doubled) {
		w.at(delay(), deliver)
	}
}

// run plays until the run has ended, or something has happened that must not. It returns how many events happened.
func (w *world) run(eventsMax int) int {
	w.record(history.New(w.now, "ci", &history.RunStarted{Run: fmt.Sprint(w.seed), Plan: w.plan, Tool: "simulation", Host: "ci"}))
	for _, h := range w.hosts {
		w.record(history.New(w.now, "ci", &history.Clock{Host: h.name, Offset: 0, Error: drill.Seconds(skewMax)}))
	}
	w.tellWatch()
	for _, h := range w.hosts {
		h.live()
	}
	w.watch.live()
	for _, s := range w.servers {
		s.live()
	}
	w.client.live(w)
	w.every(500*time.Millisecond, w.tick)
	if w.chance(w.temper.stranger) {
		w.after(5*time.Second, 2*time.Minute, w.stranger)
	}
	if w.temper.interrupt && w.chance(0.5) {
		w.after(10*time.Second, 4*time.Minute, func() { w.input(conductor.Input{Interrupt: true}) })
	}
	for len(w.queue) > 0 && w.broken == nil && !w.over && w.events < eventsMax {
		next := heap.Pop(&w.queue).(happening)
		w.now = next.at
		next.do()
		w.events++
		w.truth.look()
		if w.now.Sub(begin) > runMax {
			w.fail("the run never ends")
		}
	}
	return w.events
}

func (w *world) fail(format string, args ...any) {
	if w.bug.name != "" && !strings.HasPrefix(format, w.bug.invariant+": ") {
		return // a planted bug must be found by the one that is meant for it
	}
	if w.broken == nil {
		w.broken = fmt.Errorf("%s after %s, seed %d (%s): "+format, append([]any{w.plan.Steps[0].Name, w.now.Sub(begin).Round(time.Millisecond), w.seed, w.temper.name}, args...)...)
	}
}

func (w *world) tick() {
	if w.finish != nil {
		return
	}
	w.ticks++
	decided := false
	if step, yes := w.core.Observing(); yes && w.ticks%8 == 0 {
		decided = verdict.Decided(w.plan, w.log, step, w.now)
	}
	w.input(conductor.Input{Decided: decided})
}

// hear is an event that reaches the conductor.
func (w *world) hear(event history.Event) {
	if w.over {
		return
	}
	if answer, is := event.Fact.(*history.Answer); is && answer.Environment == "" && len(answer.Addresses) > 0 {
		answer.Environment = guard.EnvironmentOf(w.plan, answer.Addresses[0])
	}
	event = w.record(event)
	if w.finish == nil {
		w.input(conductor.Input{Event: &event})
	}
}

func (w *world) record(event history.Event) history.Event {
	event.Seq = int64(len(w.log)) + 1
	w.log = append(w.log, event)
	return event
}

// input is what the conductor's loop does: it gives an input to the core, and carries out what the core answers.
func (w *world) input(in conductor.Input) {
	if w.finish != nil && in.Ended == nil {
		return
	}
	for _, command := range w.core.Step(w.now, in) {
		switch {
		case command.Record != nil:
			event := w.record(history.New(w.now, "ci", command.Record))
			w.core.World().Fold(event)
			w.truth.recorded(command.Record)
		case command.Start != nil:
			w.start(*command.Start)
		case command.Stop != nil:
			if t := w.tasks[command.Stop.ID]; t != nil {
				t.stopped = true
				w.message(t.stop)
				w.after(time.Second, 2*time.Second, t.stop) // whoever closes a connection closes it until it is closed
			}
		case command.Finish != nil:
			w.finish = command.Finish
		}
	}
	w.end()
}

// end closes the log when the run is over and no task is left.
func (w *world) end() {
	if w.finish == nil || len(w.tasks) > 0 || w.over {
		return
	}
	w.over = true
	w.record(history.New(w.now, "ci", w.finish))
	w.observed = w.finish.Outcome
	w.verdict = verdict.Judge(w.plan, w.log)
	w.truth.judged()
}
