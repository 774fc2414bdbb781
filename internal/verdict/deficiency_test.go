package verdict_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

// alter gives a copy of the good story in which change had its way with every fact of type F in a step. It fails the test when there
// was none to change.
func alter[F history.Fact](t *testing.T, step int, change func(event *history.Event, fact F) bool) (drill.Plan, []history.Event) {
	t.Helper()
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	changed := 0
	for i := range log {
		if fact, ok := log[i].Fact.(F); ok && (step < 0 || stepAt(log, log[i].At) == step) && change(&log[i], fact) {
			changed++
		}
	}
	if changed == 0 {
		t.Fatal("nothing was altered")
	}
	return plan, log
}

// With one thing wrong in a story that passes, the verdict must turn, and the check that is about that thing must say so.
func TestEachDeficiencyTurnsTheVerdict(t *testing.T) {
	const idle, promote, active, lostHost, deploy = 1, 2, 3, 4, 5
	type story func(*testing.T) (drill.Plan, []history.Event)
	inForce := func(step int, log []history.Event) time.Time {
		for _, event := range log {
			if _, ok := event.Fact.(*history.AttackInForce); ok && stepAt(log, event.At) == step {
				return event.At
			}
		}
		return time.Time{}
	}
	tests := []struct {
		name    string
		story   story
		step    int
		outcome history.Outcome
		exit    int
		check   string // a part of the name of the check that must turn
	}{
		{"an alarm was raised before", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, -1, func(_ *history.Event, a *history.Alarm) bool {
				hit := a.From == "" && strings.Contains(a.Name, "blue-db")
				if hit {
					a.To = history.AlarmRaised
				}
				return hit
			})
		}, idle, history.Inconclusive, 3, "alarms OK before"},
		{"the watch was lost", func(t *testing.T) (drill.Plan, []history.Event) {
			plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
			at := inForce(idle, log).Add(time.Second)
			return plan, append(log, history.New(at, "ci", &history.Host{Host: "watch", Up: false}))
		}, idle, history.Inconclusive, 3, "no other alarm"},
		{"a request failed before", func(t *testing.T) (drill.Plan, []history.Event) {
			begin := time.Time{}
			return alter(t, idle, func(event *history.Event, s *history.Sample) bool {
				if begin.IsZero() {
					_, log := verdicttest.Bookstore(verdicttest.NoTwist)
					begin = inForce(idle, log)
				}
				hit := s.Scheduled.Before(begin.Add(-time.Second)) && s.Scheduled.After(begin.Add(-2*time.Second))
				s.OK = s.OK && !hit
				return hit
			})
		}, idle, history.Inconclusive, 3, "clients served before"},
		{"another host was attacked", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, idle, func(event *history.Event, p *history.AttackPlanned) bool {
				p.Host, event.Source = "db-a", "db-a"
				return true
			})
		}, idle, history.Inconclusive, 3, "in force on"},
		{"another attack was started", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, idle, func(_ *history.Event, p *history.AttackPlanned) bool { p.Attack = "latency"; return true })
		}, idle, history.Inconclusive, 3, "in force on"},
		{"no packet was dropped", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, active, func(_ *history.Event, h *history.AttackHits) bool { h.Egress, h.Ingress = 0, 0; return true })
		}, active, history.Inconclusive, 3, "packets dropped"},
		{"only ingress was dropped", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, active, func(_ *history.Event, h *history.AttackHits) bool { h.Egress = 0; return true })
		}, active, history.Inconclusive, 3, "packets dropped"},
		{"nothing was a target", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, active, func(_ *history.Event, a *history.AttackTarget) bool { a.Verb = "spare"; return true })
		}, active, history.Inconclusive, 3, "packets dropped"},
		{"a new flow got through", func(t *testing.T) (drill.Plan, []history.Event) {
			once := false
			return alter(t, active, func(_ *history.Event, c *history.AttackCanary) bool {
				hit := !once && c.When == "in force" && c.Flow == "new" && strings.HasPrefix(c.Target, "db")
				once = once || hit
				c.Through = c.Through || hit
				return hit
			})
		}, active, history.Inconclusive, 3, "canary db"},
		{"an established flow got through", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, active, func(_ *history.Event, c *history.AttackCanary) bool {
				hit := c.When == "in force" && c.Flow == "established" && strings.HasPrefix(c.Target, "cdn")
				c.Through = c.Through || hit
				return hit
			})
		}, active, history.Inconclusive, 3, "canary cdn"},
		{"the canary was dead before", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, active, func(_ *history.Event, c *history.AttackCanary) bool {
				hit := c.When == "before"
				c.Through = c.Through && !hit
				return hit
			})
		}, active, history.Inconclusive, 3, "canary"},
		{"the host booted nothing new", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, lostHost, func(_ *history.Event, h *history.Host) bool {
				hit := h.Up && h.BootID != ""
				if hit {
					h.BootID = "7e0b6f0c-91d5-4c0e-b1c7-5d2f86a9c013"
				}
				return hit
			})
		}, lostHost, history.Inconclusive, 3, "went down"},
		{"the alarm was slow", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, lostHost, func(event *history.Event, a *history.Alarm) bool {
				hit := a.To == history.AlarmRaised
				if hit {
					event.At = event.At.Add(8 * time.Second)
				}
				return hit
			})
		}, lostHost, history.Failed, 1, "StatusCheckFailed"},
		{"the alarm stayed", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, idle, func(_ *history.Event, a *history.Alarm) bool {
				hit := a.To == history.AlarmOK && strings.Contains(a.Name, "db")
				if hit {
					a.To = history.AlarmRaised
				}
				return hit
			})
		}, idle, history.Failed, 1, "green-db-connectivity-failed"},
		{"an alarm of the other environment fired", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, idle, func(_ *history.Event, a *history.Alarm) bool {
				hit := strings.Contains(a.Name, "green-cdn")
				a.Name = strings.Replace(a.Name, "green-cdn", "blue-cdn", 1)
				return hit
			})
		}, idle, history.Failed, 1, "no other alarm"},
		{"the answer moved away from a healthy environment", func(t *testing.T) (drill.Plan, []history.Event) {
			plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
			at := inForce(idle, log).Add(2 * time.Second)
			return plan, append(log, history.New(at, "ci", &history.Answer{Name: "bookstore.example.test", Server: "10.77.0.53", Addresses: []string{"10.77.1.20"}}))
		}, idle, history.Failed, 1, "answer stays"},
		{"a request failed beside an idle environment", func(t *testing.T) (drill.Plan, []history.Event) {
			_, log := verdicttest.Bookstore(verdicttest.NoTwist)
			begin, once := inForce(idle, log), false
			return alter(t, idle, func(_ *history.Event, s *history.Sample) bool {
				hit := !once && s.Scheduled.After(begin.Add(3*time.Second))
				once = once || hit
				s.OK = s.OK && !hit
				return hit
			})
		}, idle, history.Failed, 1, "clients see no failure"},
		{"the answer went back and forth", func(t *testing.T) (drill.Plan, []history.Event) {
			plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
			at := inForce(active, log).Add(6 * time.Second)
			return plan, append(log,
				history.New(at, "ci", &history.Answer{Name: "bookstore.example.test", Server: "10.77.0.53", Addresses: []string{"10.77.1.20"}}),
				history.New(at.Add(time.Second), "ci", &history.Answer{Name: "bookstore.example.test", Server: "10.77.0.53", Addresses: []string{"10.77.1.10"}}))
		}, active, history.Failed, 1, "answer moves"},
		{"a client answered from its cache", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, active, func(_ *history.Event, s *history.Sample) bool {
				s.OK, s.Cause, s.Address = true, "", "10.77.1.20:80"
				return true
			})
		}, active, history.Failed, 1, "client follows the answer"},
		{"answers live ten times too long", func(t *testing.T) (drill.Plan, []history.Event) {
			ttl := drill.Seconds(10 * time.Second)
			return alter(t, active, func(_ *history.Event, a *history.Answer) bool {
				if a.TTL != nil {
					a.TTL = &ttl
				}
				return a.TTL != nil
			})
		}, active, history.Failed, 1, "TTL of"},
		{"what was to be spared was hit", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, idle, func(_ *history.Event, a *history.AttackTarget) bool {
				hit := a.Verb == "spare"
				if hit {
					a.Verb = "drop"
				}
				return hit
			})
		}, idle, history.Failed, 1, "spared on"},
		{"nothing says that it was spared", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, idle, func(event *history.Event, a *history.AttackTarget) bool {
				hit := a.Verb == "spare"
				if hit {
					event.Fact = &history.Note{}
				}
				return hit
			})
		}, idle, history.Inconclusive, 3, "spared on"},
		{"the prober stalled", func(t *testing.T) (drill.Plan, []history.Event) {
			_, log := verdicttest.Bookstore(verdicttest.NoTwist)
			begin := inForce(active, log)
			return alter(t, active, func(_ *history.Event, s *history.Sample) bool {
				hit := s.Scheduled.After(begin.Add(time.Second)) && s.Scheduled.Before(begin.Add(3*time.Second))
				if hit {
					s.OK, s.Cause = false, history.CauseProber
				}
				return hit
			})
		}, active, history.Inconclusive, 3, "clients recover"},
		{"a write was lost", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, active, func(_ *history.Event, l *history.Ledger) bool {
				l.Lost, l.Span = 1, drill.Seconds(time.Second)
				return true
			})
		}, active, history.Failed, 1, "no acknowledged write is lost"},
		{"the ledger was not read back", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, active, func(_ *history.Event, l *history.Ledger) bool { l.Unread = "the service did not answer"; return true })
		}, active, history.Inconclusive, 3, "RPO"},
		{"nothing was written", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, active, func(_ *history.Event, l *history.Ledger) bool { l.Acked = 0; return true })
		}, active, history.Inconclusive, 3, "RPO"},
		{"a rule was left", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, active, func(_ *history.Event, r *history.AttackReverted) bool { r.Residue = []string{"a table"}; return true })
		}, active, history.Failed, 5, "reverted on"},
		{"the attack says that it could not revert", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, active, func(_ *history.Event, a *history.AttackAccount) bool { a.Reverted = false; return true })
		}, active, history.Failed, 5, "reverted on"},
		{"the canary stayed cut off", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, active, func(_ *history.Event, c *history.AttackCanary) bool {
				hit := c.When == "after"
				c.Through = c.Through && !hit
				return hit
			})
		}, active, history.Failed, 5, "reverted on"},
		{"a later look found it in force", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, active, func(_ *history.Event, i *history.Inspected) bool { i.InForce = []string{"0367cfe2"}; return true })
		}, active, history.Failed, 5, "reverted on"},
		{"it was reverted long after its deadline", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, active, func(event *history.Event, f *history.AttackInForce) bool {
				f.Until = event.At.Add(time.Second)
				return true
			})
		}, active, history.Failed, 1, "reverted on"},
		{"the host came back and went away", func(t *testing.T) (drill.Plan, []history.Event) {
			plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
			for _, event := range log {
				if host, ok := event.Fact.(*history.Host); ok && host.Up && stepAt(log, event.At) == lostHost {
					return plan, append(log, history.New(event.At.Add(time.Second), "watch", &history.Host{Host: host.Host}))
				}
			}
			t.Fatal("no host came back")
			return plan, nil
		}, lostHost, history.Failed, 5, "is back"},
		{"there was nothing to go back to", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, active, func(_ *history.Event, c *history.Check) bool {
				hit := c.Name == verdict.CheckRollbackReady
				c.OK = c.OK && !hit
				return hit
			})
		}, active, history.Failed, 1, "somewhere to go back to"},
		{"it was stopped early", func(t *testing.T) (drill.Plan, []history.Event) {
			plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
			return plan, append(log, history.New(inForce(idle, log), "ci", &history.Stop{Step: idle, Condition: "the last healthy environment is in danger"}))
		}, idle, history.Inconclusive, 3, "ran to its end"},
		{"the answer of a promotion did not follow", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, promote, func(_ *history.Event, a *history.Answer) bool {
				a.Addresses, a.Environment = []string{"10.77.1.10"}, "blue"
				return !a.Decided
			})
		}, promote, history.Failed, 1, "answer of"},
		{"a deployment was rolled back", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, deploy, func(_ *history.Event, d *history.Deploy) bool {
				hit := d.Stage == history.DeployHealthy
				if hit {
					d.Stage = history.DeployRestored
				}
				return hit
			})
		}, deploy, history.Failed, 1, "deployed on"},
		{"a deployment holds no file", func(t *testing.T) (drill.Plan, []history.Event) {
			return alter(t, deploy, func(_ *history.Event, d *history.Deploy) bool { d.Files = 0; return true })
		}, deploy, history.Failed, 1, "deployed on"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			plan, log := test.story(t)
			got := verdict.Judge(plan, log)
			step := got.Steps[test.step]
			if step.Outcome != test.outcome || got.Outcome != test.outcome || got.ExitCode() != test.exit {
				t.Errorf("step %s, run %s, exit code %d; want %s and %d: %s", step.Outcome, got.Outcome, got.ExitCode(), test.outcome, test.exit, got.Reason)
			}
			turned := func(c verdict.Check) bool { return c.Outcome == test.outcome && strings.Contains(c.Name, test.check) }
			if !slices.ContainsFunc(step.Checks, turned) {
				for _, check := range step.Checks {
					t.Logf("%s: %s: %s", check.Name, check.Outcome, check.Explanation)
				}
				t.Errorf("no check %q is %s", test.check, test.outcome)
			}
		})
	}
}

// An injection that is not proven outweighs what its expectations say: they measured something else.
func TestAnUnprovenAttackIsNotAFailure(t *testing.T) {
	plan, log := alter(t, 1, func(_ *history.Event, h *history.AttackHits) bool { h.Egress, h.Ingress = 0, 0; return true })
	log = slices.DeleteFunc(log, func(e history.Event) bool {
		alarm, ok := e.Fact.(*history.Alarm)
		return ok && alarm.To == history.AlarmRaised
	})
	got := verdict.Judge(plan, log).Steps[1]
	if got.Outcome != history.Inconclusive || got.RTO != nil {
		t.Errorf("outcome %s, RTO %+v: %s", got.Outcome, got.RTO, got.Reason)
	}
}

func TestAHostThatWentAwayIsNotCalledReverted(t *testing.T) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	var gone []history.Event
	for _, event := range log {
		switch event.Fact.(type) {
		case *history.AttackReverted, *history.AttackAccount, *history.Inspected:
			if stepAt(log, event.At) == 3 {
				continue
			}
		}
		gone = append(gone, event)
	}
	if got := verdict.Judge(plan, gone); got.ExitCode() != 5 {
		t.Errorf("no word of an attack in force: exit code %d: %s", got.ExitCode(), got.Reason)
	}
	for _, event := range log {
		if _, ok := event.Fact.(*history.AttackInForce); ok && stepAt(log, event.At) == 3 {
			gone = append(gone, history.New(event.At.Add(2*time.Second), "watch", &history.Host{Host: "bookstore-api-green"}))
		}
	}
	if got := verdict.Judge(plan, gone); got.NotReverted || got.Steps[3].Outcome == history.Passed {
		t.Errorf("a host that went away: not reverted %t, step %s: %s", got.NotReverted, got.Steps[3].Outcome, got.Reason)
	}
}

// Interrupted right after the revert, before the alarms could clear: nothing has failed, and nothing is proven. A run that was not
// interrupted and ends there has failed.
func TestInterruptedDrillHasNotFailed(t *testing.T) {
	for _, outcome := range []history.Outcome{history.Interrupted, history.Failed} {
		plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
		for i, event := range log {
			// The last moment of the phase before all is well again.
			if check, is := event.Fact.(*history.Check); is && check.Name == history.PhaseSteadyAfter && check.Step == 1 {
				log = append(log[:i], history.New(event.At.Add(time.Millisecond), "ci", &history.RunFinished{Outcome: outcome}))
				break
			}
		}
		for i := len(log) - 1; i >= 0; i-- { // and one alarm had not been cleared by then
			if alarm, is := log[i].Fact.(*history.Alarm); is && alarm.To == history.AlarmOK && stepAt(log, log[i].At) == 1 && alarm.From != "" {
				log = append(log[:i], log[i+1:]...)
				break
			}
		}
		got := verdict.Judge(plan, log)
		if failed := got.Steps[1].Outcome == history.Failed; failed != (outcome == history.Failed) {
			t.Errorf("%s: step %s: %s", outcome, got.Steps[1].Outcome, got.Steps[1].Reason)
		}
		if outcome == history.Interrupted && got.ExitCode() != 130 {
			t.Errorf("exit code %d", got.ExitCode())
		}
	}
}

func TestInterruptedAndRefusedRunsSaySo(t *testing.T) {
	plan, log := alter(t, -1, func(_ *history.Event, f *history.RunFinished) bool { f.Outcome = history.Interrupted; return true })
	if got := verdict.Judge(plan, log); got.ExitCode() != 130 || got.Outcome == history.Passed {
		t.Errorf("interrupted: %s, exit code %d", got.Outcome, got.ExitCode())
	}
	plan, log = verdicttest.Bookstore(verdicttest.NoTwist)
	for i, event := range log {
		if permit, ok := event.Fact.(*history.Permit); ok && permit.Step == 1 {
			permit.Granted, permit.Reason = false, "blue has no release"
			end := history.New(event.At, "ci", &history.RunFinished{Outcome: history.Refused})
			log = append(log[:i+1], history.New(event.At, "ci", &history.StepFinished{Step: 1, Outcome: history.Refused}), end)
			break
		}
	}
	if got := verdict.Judge(plan, log); got.ExitCode() != 4 || !strings.Contains(got.Reason, "blue has no release") {
		t.Errorf("refused: %s, exit code %d: %s", got.Outcome, got.ExitCode(), got.Reason)
	}
}

// A drill that stands on a part of the evidence is never passed, whichever part is missing.
func TestADrillWithoutAPermitOrALaterLookIsNotPassed(t *testing.T) {
	for name, missing := range map[string]func(log []history.Event, event history.Event) bool{
		"permit": func(_ []history.Event, event history.Event) bool {
			permit, is := event.Fact.(*history.Permit)
			return is && permit.Step == 1
		},
		"later look": func(log []history.Event, event history.Event) bool {
			_, is := event.Fact.(*history.Inspected)
			return is && stepAt(log, event.At) == 1
		},
	} {
		plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
		if got := verdict.JudgeStep(plan, log, 1); got.Outcome != history.Passed {
			t.Fatalf("with all of it: %s: %s", got.Outcome, got.Reason)
		}
		var rest []history.Event
		for _, event := range log {
			if !missing(log, event) {
				rest = append(rest, event)
			}
		}
		if got := verdict.JudgeStep(plan, rest, 1); len(rest) == len(log) || got.Outcome != history.Inconclusive {
			t.Errorf("without its %s: %s: %s", name, got.Outcome, got.Reason)
		}
	}
}
