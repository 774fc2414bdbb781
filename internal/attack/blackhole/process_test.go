package blackhole

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	at "firedrill/internal/attack/attacktest"
)

// gathered is where processes of a group are put.
func gathered(t *testing.T, group string) string { return unified(t) + group + "/firedrill-" + at.GUID }

// processes are two agents in one control group, of which the first one is hit.
func processes(t *testing.T, w *at.World) (agent, other *at.Agent, group string, groupOf func() string) {
	t.Helper()
	group, enter := newCgroup(t)
	agent, other = at.StartAgent(t, w.Host, nil, enter), at.StartAgent(t, w.Host, nil, enter)
	return agent, other, group, func() string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", agent.PID))
		must(t, err)
		return string(text)
	}
}

func TestProcessScopeHitsTheProcessAlone(t *testing.T) {
	for _, bug := range []string{"", "whole host", "no replies", "forget held"} {
		t.Run("with "+bug, func(t *testing.T) {
			t.Parallel()
			if !at.Alone(t) {
				return
			}
			w := at.NewWorld(t)
			agent, other, _, groupOf := processes(t, w)
			before := groupOf()
			err := hitsTheAgentAlone(w, agent, other, bug, fmt.Sprint("--process=", agent.PID))
			if (err == nil) != (bug == "") {
				t.Errorf("with the bug %q: %v", bug, err)
			}
			// The attack was killed: its guardian puts the process back.
			must(t, at.Await(func() error {
				if now := groupOf(); now != before {
					return fmt.Errorf("the process was in %q and is in %q", before, now)
				}
				return nil
			}))
		})
	}
}

// leavesProcessWhereItWas: in every way in which an attack can end, the process is in the group in which it was, and ours is gone.
func leavesProcessWhereItWas(t *testing.T, check func(*at.World, at.Subject, string) error, bug string) error {
	w := at.NewWorld(t)
	agent, _, group, groupOf := processes(t, w)
	before := groupOf()
	back := func() error {
		if now := groupOf(); now != before {
			return fmt.Errorf("the process was in %q and is in %q", before, now)
		}
		if _, err := os.Stat(gathered(t, group)); !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("its group is left: %v", err)
		}
		return nil
	}
	err := check(w, at.Subject{
		Args:  []string{fmt.Sprint("--process=", agent.PID), "--ipaddress=" + at.Target4.String()},
		Felt:  func(*at.World) error { return agent.Ask("cut 10.9.0.2") },
		Clear: func(*at.World) error { return agent.Ask("through 10.9.0.2") },
	}, bug)
	if bug == "" {
		return errors.Join(err, at.Await(back))
	}
	err = errors.Join(err, back())
	if text, left := os.ReadFile(gathered(t, group) + "/cgroup.procs"); left == nil { // or the test could not clean up
		for pid := range strings.FieldsSeq(string(text)) {
			must(t, os.WriteFile(unified(t)+group+"/cgroup.procs", []byte(pid), 0o644))
		}
		must(t, at.Await(func() error { return os.Remove(gathered(t, group)) }))
	}
	return err
}

func TestAttackOnAProcessHoldsTheContract(t *testing.T) {
	for _, check := range at.Contract() {
		switch check.Name {
		case "RevertsOnTerm", "RevertsAtDeadline", "LeavesNothingWhenKilledAnywhere", "HaltEndsStopped":
		case "EndsAtDeadlineWhileStopped":
			check.Run = frozen
		default:
			continue // nothing that differs from an attack on the host; and two at the same time are refused
		}
		t.Run(check.Name, func(t *testing.T) {
			t.Parallel()
			if at.Alone(t) {
				must(t, leavesProcessWhereItWas(t, check.Run, ""))
			}
		})
	}
}

// frozen: at the deadline the kernel has ended the impact; then the guardian ends the frozen worker, and puts the process back.
func frozen(w *at.World, s at.Subject, bug string) error {
	a, err := w.Start(at.Spec{Bug: bug, Args: append([]string{"--length=3", "--guid=" + at.GUID}, s.Args...)})
	if err != nil {
		return err
	}
	defer a.Stop()
	if _, err := a.AwaitInForce(); err != nil {
		return err
	}
	if err := errors.Join(s.Felt(w), a.Signal(unix.SIGSTOP)); err != nil {
		return err
	}
	return at.Await(func() error { return s.Clear(w) })
}

func TestProcessThatIsLeftElsewhereIsCaught(t *testing.T) {
	t.Parallel()
	if !at.Alone(t) {
		return
	}
	if err := leavesProcessWhereItWas(t, at.RevertsOnTerm, "scatter"); err == nil {
		t.Error("the planted bug was not caught")
	}
}

func TestSecondAttackOnAProcessIsRefused(t *testing.T) {
	t.Parallel()
	if !at.Alone(t) {
		return
	}
	w := at.NewWorld(t)
	agent, _, _, _ := processes(t, w)
	scope := fmt.Sprint("--process=", agent.PID)
	a, err := w.Start(at.Spec{Args: []string{"--length=60", "--guid=" + at.GUID, scope}})
	must(t, err)
	t.Cleanup(a.Stop)
	_, err = a.AwaitInForce()
	must(t, err)
	b, err := w.Start(at.Spec{Args: []string{"--length=60", "--guid=" + at.OtherGUID, scope}})
	must(t, err)
	t.Cleanup(b.Stop)
	if code, account := b.Wait(); code == 0 || account == nil || !account.Reverted || !strings.Contains(b.Stderr(), "another attack holds") {
		t.Errorf("exit code %d, account %+v, %s", code, account, b.Stderr())
	}
	must(t, agent.Ask("cut 10.9.0.2"), a.Signal(unix.SIGTERM))
	a.Wait()
	must(t, agent.Ask("through 10.9.0.2"))
}
