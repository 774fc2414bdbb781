package verdicttest

import (
	"math/rand/v2"
	"slices"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Twist is what goes wrong in a story.
type Twist string

// The twists. All but NoTwist must end other than passed.
const (
	NoTwist     Twist = ""
	DeadAlarm   Twist = "alarm"   // the database alarm of green never fires
	FrozenDNS   Twist = "dns"     // the answer never moves
	DeadStandby Twist = "standby" // blue is broken when it is needed
	Toothless   Twist = "attack"  // the blackhole drops nothing
	Residue     Twist = "residue" // the first attack leaves a rule behind
	Cut         Twist = "cut"     // the log stops in the middle of the second drill
)

const (
	release  = "20261120T101500Z-4f2a9c1"
	revision = "4f2a9c1d7be03a56c88e1f0b92d4737a5b6c01de"
	previous = "20261113T093011Z-9b01e77"
)

// Start is when every story begins.
var storyStart = time.Date(2026, time.November, 20, 10, 15, 0, 0, time.UTC)

// Start returns the moment at which every story begins.
func Start() time.Time { return storyStart }

// story is the world while it is told. Time is in seconds since the begin; events may be told out of order and are sorted at the end.
type story struct {
	plan    drill.Plan
	twist   Twist
	events  []history.Event
	random  *rand.Rand
	now     float64
	step    int
	boots   int
	samples []broken
	moves   []move
}

// broken is a span in which an environment does not serve.
type broken struct {
	environment string
	from, to    float64
	cause       string
}

// move is a change of the answer, as the name server gives it.
type move struct {
	at float64
	to string
}

// Bookstore tells the story of Plan with a twist. Events carry sequence numbers from 1.
func Bookstore(twist Twist) (drill.Plan, []history.Event) {
	s := &story{plan: Plan(), twist: twist, random: rand.New(rand.NewPCG(2018, 5)), moves: []move{{at: -1, to: "blue"}}}
	s.open()
	ok := true
	for i, step := range s.plan.Steps {
		s.step = i
		if !ok {
			break
		}
		s.say(s.now, "ci", &history.StepStarted{Step: i, Name: step.Name})
		s.now += 0.05
		outcome, reason := history.Passed, ""
		switch step.Kind {
		case drill.StepDeploy:
			s.deploy(step)
		case drill.StepPromote:
			s.promote(step)
		default:
			outcome, reason = s.drill(step)
		}
		s.say(s.now, "ci", &history.StepFinished{Step: i, Name: step.Name, Outcome: outcome, Reason: reason})
		s.now += 0.1
		ok = outcome == history.Passed
		if !ok {
			s.say(s.now, "ci", &history.RunFinished{Outcome: outcome, Reason: step.Name + ": " + reason})
		}
	}
	if ok {
		s.say(s.now, "ci", &history.RunFinished{Outcome: history.Passed})
	}
	return s.plan, s.close()
}

func at(seconds float64) time.Time {
	return storyStart.Add(time.Duration(seconds*1e6) * time.Microsecond)
}

func (s *story) say(when float64, source string, fact history.Fact) {
	s.events = append(s.events, history.New(at(when), source, fact))
}

func (s *story) open() {
	s.say(0, "ci", &history.RunStarted{Run: "01939f4e-6a10-7c3b-9e52-0d7d5b1c4e88", Plan: s.plan, Tool: "firedrill 0.1.0", Host: "ci", Kernel: "Linux 6.18.2", Operator: "gabe"})
	for i, host := range []string{blueHost, greenHost, "client", "control"} {
		s.say(0.05, "ci", &history.Clock{Host: host, Offset: sec(0.0004 * float64(i+1)), Error: sec(0.0011)})
	}
	s.say(0.08, "ci", &history.Host{Host: "watch", Up: true})
	s.say(0.1, "watch", &history.Host{Host: blueHost, Up: true, BootID: bootID(0)})
	s.say(0.1, "watch", &history.Host{Host: greenHost, Up: true, BootID: "c41d9d8e-52a7-4a6b-8a34-7a3c52b7f0aa"})
	for _, alarm := range s.plan.Alarms {
		s.say(0.12, "watch", &history.Alarm{Name: alarm.Name, Host: alarm.Host, To: history.AlarmOK})
	}
	s.say(0.12, "watch", &history.Answer{Name: zone, Addresses: []string{"10.77.1.10"}, Environment: "blue", Serial: 1, Decided: true, Reason: "primary is healthy"})
	s.now = 0.4
}

func bootID(boot int) string {
	return []string{"7e0b6f0c-91d5-4c0e-b1c7-5d2f86a9c013", "b93f41aa-0c6e-4d17-9f58-61e7d3a0b224"}[min(boot, 1)]
}

func (s *story) deploy(step drill.Step) {
	host := s.environment(step.Environment).Hosts[0].Name
	s.permit()
	stages := []struct {
		stage string
		after float64
	}{{history.DeployFetched, 0.4}, {history.DeployPublish, 0.9}, {history.DeploySwitched, 0.1}, {history.DeployRestart, 0.5}, {history.DeployHealthy, 1.1}}
	for _, stage := range stages {
		s.now += stage.after
		fact := &history.Deploy{Environment: step.Environment, Host: host, Stage: stage.stage, Release: release, Revision: revision, Previous: previous}
		if stage.stage == history.DeployPublish {
			fact.Files, fact.Bytes = 20, 48211
		}
		s.say(s.now, "ci", fact)
	}
	s.now += 0.05
	s.say(s.now, "ci", &history.Check{Step: s.step, Name: "deploy", OK: true})
}

func (s *story) permit() {
	s.say(s.now, "ci", &history.Permit{Step: s.step, Granted: true, Reason: "the other environment is healthy, not under attack and runs " + previous})
	s.now += 0.05
}

func (s *story) environment(name string) drill.Environment {
	for _, environment := range s.plan.Environments {
		if environment.Name == name {
			return environment
		}
	}
	return drill.Environment{}
}

func (s *story) promote(step drill.Step) {
	s.permit()
	s.decide(s.now+0.04, step.Environment, "ordered: promote "+step.Environment)
	s.now += 0.3
	s.say(s.now, "ci", &history.Check{Step: s.step, Name: "answer on every name server", OK: true, Detail: "leads to " + step.Environment})
	s.say(s.now, "ci", &history.Promote{Name: zone, From: step.Live, To: step.Environment})
	s.now += 1.5
}

// decide lets the watch decide and the name server follow 80 ms later.
func (s *story) decide(when float64, to, reason string) {
	s.say(when, "watch", &history.Answer{
		Name: zone, Addresses: []string{s.environment(to).Hosts[0].Address.String()}, Environment: to, Serial: uint64(len(s.moves) + 1), Decided: true, Reason: reason,
	})
	s.moves = append(s.moves, move{at: when + 0.08, to: to})
}

func (s *story) live(when float64) string {
	to := "blue"
	for _, m := range s.moves {
		if m.at <= when {
			to = m.to
		}
	}
	return to
}

func (s *story) phase(name string) { s.say(s.now, "ci", &history.Phase{Step: s.step, Phase: name}) }

func (s *story) inspect(hosts ...string) {
	for _, host := range hosts {
		name, commit := previous, "9b01e77c02d24cf6a2f4c7b0d6e85d0a41c3f7b2"
		if host == greenHost {
			name, commit = release, revision
		}
		s.say(s.now, "ci", &history.Inspected{Host: host, Release: name, Revision: commit, Healthy: true})
	}
	s.now += 0.05
}

// drill tells a whole drill and returns how the conductor judged it.
func (s *story) drill(step drill.Step) (history.Outcome, string) {
	s.inspect(blueHost, greenHost)
	s.phase(history.PhaseSteadyBefore)
	s.now += 3.2
	s.say(s.now, "ci", &history.Check{Step: s.step, Name: history.PhaseSteadyBefore, OK: true, Detail: "for 3s"})
	s.permit()
	s.phase(history.PhaseAttack)
	s.now += 0.35
	var reverted float64
	if step.Drill.Attack.OneWay {
		reverted = s.shutdown()
	} else {
		reverted = s.blackhole(step)
		s.now = reverted + 0.12
		s.phase(history.PhaseRevert)
		s.inspect(greenHost)
	}
	s.now = max(s.now, reverted) + 0.1
	s.phase(history.PhaseSteadyAfter)
	s.now = reverted + 6.9
	s.say(s.now, "ci", &history.Check{Step: s.step, Name: history.PhaseSteadyAfter, OK: true, Detail: "for 3s"})
	s.inspect(blueHost, greenHost)
	s.say(s.now, "ci", &history.Check{Step: s.step, Name: "rollback ready", OK: true, Detail: "The other environment is healthy and runs " + previous})
	s.now += 0.2
	sent := 310 + s.step
	s.say(s.now, "client", &history.Ledger{Step: s.step, Sent: sent, Acked: sent - 6*s.step, InDoubt: 6 * s.step})
	s.now += 0.05
	s.phase(history.PhaseDone)
	s.now += 0.05
	return s.judged(step)
}

// judged is the conductor's own word. It makes no verdict better.
func (s *story) judged(step drill.Step) (history.Outcome, string) {
	active := step.Live == step.Environment
	switch {
	case s.twist == DeadAlarm, s.twist == FrozenDNS && active, s.twist == DeadStandby && active:
		return history.Failed, "an expectation did not hold"
	case s.twist == Toothless:
		return history.Inconclusive, "the attack is not proven to have bitten"
	case s.twist == Residue:
		return history.Failed, "impact may still be in force"
	}
	return history.Passed, ""
}

// close adds what goes on all the time, puts everything in order and numbers it.
func (s *story) close() []history.Event {
	end := s.now
	if s.twist == Cut {
		end = 33.5
	}
	s.witness(end)
	s.client(end)
	s.events = slices.DeleteFunc(s.events, func(e history.Event) bool { return s.twist == Cut && e.At.After(at(end)) })
	slices.SortStableFunc(s.events, func(a, b history.Event) int { return a.At.Compare(b.At) })
	for i := range s.events {
		s.events[i].Seq = int64(i) + 1
	}
	return s.events
}

// witness asks the name server: it tells every change, and an unchanged answer every 5 s.
func (s *story) witness(end float64) {
	last, told, ttl := "", -10.0, sec(1)
	for when := 0.15; when < end; when += 0.1 {
		to := s.live(when)
		if to == last && when-told < 5 {
			continue
		}
		last, told = to, when
		s.say(when, "ci", &history.Answer{Name: zone, Server: server + ":53", Addresses: []string{s.environment(to).Hosts[0].Address.String()}, Environment: to, TTL: &ttl})
	}
}

// client asks for a book ten times a second. It keeps an answer for its TTL of 1 s, so it follows a move late.
func (s *story) client(end float64) {
	resolved, until := "", -1.0
	for i := 0; ; i++ {
		when := 0.2 + 0.1*float64(i)
		if when > end-0.05 {
			return
		}
		if when >= until {
			resolved, until = s.live(when), when+1
		}
		sample := &history.Sample{
			Probe: "client", Host: "", Scheduled: at(when), Lag: sec(0.0003 + 0.0006*s.random.Float64()), Took: sec(0.004 + 0.006*s.random.Float64()*s.random.Float64()),
			OK: true, Status: 200, Address: s.environment(resolved).Hosts[0].Address.String() + ":80",
		}
		for _, span := range s.samples {
			if span.environment == resolved && when >= span.from && when < span.to {
				sample.OK, sample.Cause, sample.Status, sample.Took = false, span.cause, 0, sec(1)
				if span.cause == history.CauseStatus {
					sample.Status, sample.Took = 503, sec(0.5+0.02*s.random.Float64())
				}
			}
		}
		s.say(when+sample.Lag.Duration().Seconds()+sample.Took.Duration().Seconds(), "client", sample)
	}
}
