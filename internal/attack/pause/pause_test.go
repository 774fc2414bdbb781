package pause

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
)

// envBug is what attacktest hands to the processes that it starts.
const envBug = "FIREDRILL_ATTACKTEST_CHILD"

func TestMain(m *testing.M) {
	if path, ok := os.LookupEnv(envCounter); ok {
		os.Exit(counter(path))
	}
	if code, hidden := attack.Reexec([]attack.Kind{makeKind(os.Getenv(envBug), nil)}); hidden {
		os.Exit(code)
	}
	at.ChildMain(makeKind)
	os.Exit(m.Run())
}

func makeKind(bug string, mark func(string)) attack.Kind {
	return Kind{hooks: hooks{mark: mark, trustPID: bug == "trust pid", forgetful: bug == "forgetful", late: bug == "late"}}
}

// victim starts a process that only waits.
func victim(t *testing.T) procs.Process {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	p, err := procs.Stat(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func stopped(id procs.ID) error {
	p, err := procs.Find(id)
	if err == nil && !p.Stopped() {
		err = fmt.Errorf("%s is in state %c, want stopped", p, p.State)
	}
	return err
}

func goesOn(id procs.ID) error {
	p, err := procs.Find(id)
	if err == nil && p.Stopped() {
		err = fmt.Errorf("%s is stopped", p)
	}
	return err
}

func subject(id procs.ID, limit time.Duration) at.Subject {
	return at.Subject{
		Args:    []string{"--process=" + strconv.Itoa(id.PID)},
		Felt:    func(*at.World) error { return stopped(id) },
		Clear:   func(*at.World) error { return at.Settled(limit, func() error { return goesOn(id) }) },
		Guarded: true,
	}
}

func TestPauseHoldsTheContract(t *testing.T) {
	at.RunAlone(t, func(t *testing.T) at.Subject { return subject(victim(t).ID, at.Patience()) }, nil)
}

// inForce starts an attack on the process and waits until it is stopped.
func inForce(w *at.World, id procs.ID, length int, guid, bug string) (*at.Attack, error) {
	a, err := w.Start(at.Spec{Bug: bug, Args: []string{fmt.Sprintf("--length=%d", length), "--guid=" + guid, "--process=" + strconv.Itoa(id.PID)}})
	if err != nil {
		return nil, err
	}
	if _, err := a.AwaitInForce(); err != nil {
		a.Stop()
		return nil, fmt.Errorf("%w: %s", err, a.Stderr())
	}
	return a, stopped(id)
}

// The planted bug: a worker that stops first and writes afterwards leaves a stopped process when it dies in between.
func TestContractCatchesTheLateJournal(t *testing.T) {
	if at.Alone(t) {
		at.Catches(t, at.LeavesNothingWhenKilledAnywhere, subject(victim(t).ID, at.Moment), "late")
	}
}

// The planted bug: an attack that does not ask others lets the process go on under them.
func TestContractCatchesForgettingOthers(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	for _, check := range at.Contract() {
		if check.Name == "OverlapFirstEndsFirst" {
			at.Catches(t, check.Run, subject(victim(t).ID, at.Patience()), "forgetful")
		}
	}
}

func TestStoppedByOthersIsLeftAlone(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	p := victim(t)
	if err := procs.Signal(p.ID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := at.Await(func() error { return stopped(p.ID) }); err != nil {
		t.Fatal(err)
	}
	a, err := at.NewWorld(t).Start(at.Spec{Args: []string{"--length=4", "--process=" + strconv.Itoa(p.PID)}})
	if err != nil {
		t.Fatal(err)
	}
	code, account := a.Wait()
	if code == 0 || account == nil || account.Bit {
		t.Errorf("exit code %d, account %+v: want a refusal", code, account)
	}
	if err := stopped(p.ID); err != nil {
		t.Error(err)
	}
}

func TestNewcomersAreStoppedToo(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	first := victim(t)
	a, err := at.NewWorld(t).Start(at.Spec{Args: []string{"--length=60", "--process=sleep", "--exact=true"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	if err := at.Await(func() error { return stopped(first.ID) }); err != nil {
		t.Fatal(err)
	}
	second := victim(t)
	if err := at.Await(func() error { return stopped(second.ID) }); err != nil {
		t.Error(err)
	}
	// Somebody lets the first one go on.
	if err := procs.Signal(first.ID, unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := at.Await(func() error { return stopped(first.ID) }); err != nil {
		t.Error(err)
	}
	if err := a.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code, account := a.Wait(); code != 143 || account == nil || !account.Bit || !account.Reverted {
		t.Errorf("exit code %d, account %+v", code, account)
	}
	if err := at.Settled(at.Patience(), func() error { return errors.Join(goesOn(first.ID), goesOn(second.ID)) }); err != nil {
		t.Error(err)
	}
}

// reused checks that undo leaves a process alone that only has the number of the one that was stopped.
func reused(kind Kind, id procs.ID) error {
	earlier := id
	earlier.Start--
	change := attack.Change{Undo: []byte(fmt.Sprintf(`{"pid":%d,"start":%d}`, earlier.PID, earlier.Start))}
	if err := kind.Undo(context.Background(), change, nil); err != nil {
		return err
	}
	deadline := time.Now().Add(100 * time.Millisecond) // for a signal to be seen
	for time.Now().Before(deadline) {
		if err := stopped(id); err != nil {
			return err
		}
	}
	return nil
}

func TestUndoKnowsAReusedNumber(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	p := victim(t)
	if err := procs.Signal(p.ID, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if err := at.Await(func() error { return stopped(p.ID) }); err != nil {
		t.Fatal(err)
	}
	if err := reused(Kind{}, p.ID); err != nil {
		t.Error(err)
	}
	err := reused(Kind{hooks: hooks{trustPID: true}}, p.ID)
	if err == nil {
		t.Error("the planted bug of trusting the number was not caught")
	}
	t.Logf("caught: %v", err)
}

func TestPauseIsDescribedAndDeterministic(t *testing.T) {
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
	facts := attack.Facts{GUID: at.GUID, Host: "blue", Processes: []procs.Process{
		{ID: procs.ID{PID: 7, Start: 1}, Name: "gunicorn", Command: "gunicorn"},
		{ID: procs.ID{PID: 9, Start: 2}, Name: "sshd", Command: "sshd: gunicorn", Protected: "it is sshd"},
	}}
	if err := at.Deterministic(Kind{}, attack.Values{"process": {"gunicorn"}}, facts); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"nobody", "sshd"} {
		order, err := Kind{}.Order(attack.Values{"process": {name}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := order.Plan(facts); drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "match") {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
}
