package shutdown

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/history"
)

// envInit makes this test binary the init of a host of its own, which starts an attack with the arguments given.
const envInit = "FIREDRILL_SHUTDOWN_TEST_INIT"

func TestMain(m *testing.M) {
	if _, ok := os.LookupEnv(envInit); ok {
		os.Exit(initOfHost())
	}
	at.ChildMain(makeKind)
	os.Exit(m.Run())
}

// initialPIDNamespace is the fixed inode number of the machine's own PID namespace.
const initialPIDNamespace = "pid:[4026531836]"

func makeKind(bug string, _ func(string)) attack.Kind {
	if place, ok := strings.CutPrefix(bug, witnessed); ok {
		return Kind{late: lateInTests, down: func(bool) error { return os.WriteFile(place, nil, 0o600) }}
	}
	if place, ok := strings.CutPrefix(bug, patient+witnessed); ok {
		return Kind{down: func(bool) error { return os.WriteFile(place, nil, 0o600) }}
	}
	switch bug {
	case "record":
		return Kind{down: func(restart bool) error { return fmt.Errorf("recorded restart=%t", restart) }}
	case "survive":
		return Kind{down: func(bool) error { return nil }}
	}
	if len(os.Args) == 2 && os.Args[1] == "halt" {
		return Kind{down: func(bool) error { return errors.New("halt takes nothing down") }}
	}
	if ns, err := os.Readlink("/proc/self/ns/pid"); err != nil || ns == initialPIDNamespace || os.Getppid() != 1 {
		panic("the real shutdown must not run outside of a PID namespace")
	}
	return Kind{}
}

// initOfHost is process 1: it mounts its own /proc, starts the attack, and then only waits to be ended.
func initOfHost() int {
	if os.Getpid() != 1 {
		return 90
	}
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""), unix.Mount("proc", "/proc", "proc", 0, "")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 91
	}
	child := exec.Command("/proc/self/exe", os.Args[1:]...)
	child.Env = append(os.Environ(), "FIREDRILL_ATTACKTEST_CHILD=-")
	for i, entry := range child.Env {
		if strings.HasPrefix(entry, envInit+"=") {
			child.Env = append(child.Env[:i], child.Env[i+1:]...)
			break
		}
	}
	child.Stdout, child.Stderr = os.Stdout, os.Stderr
	err := child.Run()
	fmt.Fprintln(os.Stderr, "the attack returned:", err)
	return 92
}

// lose starts a host that shuts itself down, and returns how its init ended and what the attack said.
func lose(t *testing.T, args ...string) (syscall.WaitStatus, []history.Event) {
	t.Helper()
	at.Require(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	host := exec.Command(self, args...)
	host.Env = append(os.Environ(), envInit+"=1")
	host.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC}
	var stderr strings.Builder
	host.Stderr = &stderr
	stdout, err := host.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := host.Start(); err != nil {
		t.Fatal(err)
	}
	var events []history.Event
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		var event history.Event
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Errorf("not an event: %s", lines.Text())
		}
		events = append(events, event)
	}
	_ = host.Wait()
	if t.Failed() || !host.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
		t.Logf("stderr: %s", stderr.String())
	}
	return host.ProcessState.Sys().(syscall.WaitStatus), events
}

func TestShutdownTakesTheWholeHostDown(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		want syscall.Signal // with which the kernel ends a PID namespace's init
	}{
		"power off": {[]string{"--delay=10ms"}, syscall.SIGINT},
		"restart":   {[]string{"--delay=10ms", "--reboot=true"}, syscall.SIGHUP},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			status, events := lose(t, test.args...)
			if !status.Signaled() || status.Signal() != test.want {
				t.Errorf("the host's init ended with %v (exit %d), want %v", status.Signal(), status.ExitStatus(), test.want)
			}
			if len(events) != 2 {
				t.Fatalf("%d events, want planned and in force", len(events))
			}
			if _, ok := events[1].Fact.(*history.AttackInForce); !ok {
				t.Errorf("last event is %v, want attack.in_force, written before the host went down", events[1].Fact.Kind())
			}
		})
	}
}

func TestShutdownIsCalledOffDuringTheDelay(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	a, err := w.Start(at.Spec{Bug: "survive", Args: []string{"--delay=1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	if _, err := at.AwaitFact(a, func(*history.AttackPlanned) bool { return true }); err != nil {
		t.Fatal(err)
	}
	if err := a.Signal(unix.SIGINT); err != nil {
		t.Fatal(err)
	}
	code, account := a.Wait()
	if code != 130 || account == nil || !account.Reverted || account.InForceAt != nil {
		t.Errorf("exit code %d, account %+v: want 130 and nothing in force", code, account)
	}
}

const (
	witnessed   = "witness " // the file that follows is made instead of taking the host down
	patient     = "patient " // planted: it goes off however late it is
	lateInTests = 200 * time.Millisecond
)

// Whatever ends the one who ordered it calls a shutdown off, and who asks for it is told.
func TestShutdownIsCalledOffByWhateverEndsWhoOrderedIt(t *testing.T) {
	for name, end := range map[string]func(w *at.World, a *at.Attack) error{
		"SIGTERM": func(_ *at.World, a *at.Attack) error { return a.Signal(unix.SIGTERM) },
		"SIGHUP":  func(_ *at.World, a *at.Attack) error { return a.Signal(unix.SIGHUP) },
		"SIGKILL": func(_ *at.World, a *at.Attack) error { return a.Signal(unix.SIGKILL) },
		"no input": func(_ *at.World, a *at.Attack) error {
			// An input that ends right after the start is no lifeline.
			<-time.After(3 * time.Second)
			return a.CloseStdin()
		},
		"no reader": func(_ *at.World, a *at.Attack) error { a.CloseStdout(); return nil },
		"halt":      func(w *at.World, _ *at.Attack) error { _, err := w.Halt(); return err },
		"halt while it is frozen": func(w *at.World, a *at.Attack) error {
			if err := a.Signal(unix.SIGSTOP); err != nil {
				return err
			}
			_, err := w.Halt()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, place := at.NewWorld(t), filepath.Join(t.TempDir(), "down")
			a := pending(t, w, witnessed+place, "--delay=1")
			if err := end(w, a); err != nil {
				t.Fatal(err)
			}
			if code, _ := a.Wait(); code == 0 {
				t.Error("it exits with 0")
			}
			if _, err := os.Stat(place); err == nil {
				t.Error("the host went down")
			}
		})
	}
}

// pending starts a shutdown and waits until its delay has begun.
func pending(t *testing.T, w *at.World, bug string, args ...string) *at.Attack {
	t.Helper()
	a, err := w.Start(at.Spec{Bug: bug, Args: append([]string{"--guid=" + at.GUID}, args...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	if _, err := at.AwaitFact(a, func(*history.AttackPlanned) bool { return true }); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestTheSameShutdownIsNotPendingTwice(t *testing.T) {
	t.Parallel()
	w, place := at.NewWorld(t), filepath.Join(t.TempDir(), "down")
	pending(t, w, witnessed+place, "--delay=1")
	second, err := w.Start(at.Spec{Bug: witnessed + place, Args: []string{"--guid=" + at.GUID, "--delay=1"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(second.Stop)
	if code, _ := second.Wait(); code == 0 || !strings.Contains(second.Stderr(), at.GUID) {
		t.Errorf("exit code %d: %s; want it refused", code, second.Stderr())
	}
}

func TestDryRunOfAShutdownTakesNothingDown(t *testing.T) {
	t.Parallel()
	w, place := at.NewWorld(t), filepath.Join(t.TempDir(), "down")
	a, err := w.Start(at.Spec{Bug: witnessed + place, Args: []string{"--delay=0s", "--dry-run"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	code, _ := a.Wait()
	if _, err := os.Stat(place); code != 0 || err == nil {
		t.Errorf("exit code %d, the host went down: %t", code, err == nil)
	}
}

// goesDownLate freezes a shutdown until its time is over, and reports whether the host goes down when it goes on.
func goesDownLate(t *testing.T, bug string) bool {
	t.Helper()
	w, place := at.NewWorld(t), filepath.Join(t.TempDir(), "down")
	a := pending(t, w, bug+witnessed+place, "--delay=300ms")
	if err := a.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	<-time.After(300*time.Millisecond + 2*lateInTests)
	if err := a.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if bug == "" {
		if code, account := a.Wait(); code == 0 || account == nil || !account.Reverted || !strings.Contains(a.Stderr(), "is not begun so late") {
			t.Errorf("exit code %d, account %+v, %s", code, account, a.Stderr())
		}
	}
	err := at.Within(at.Moment, func() error { _, err := os.Stat(place); return err })
	return err == nil
}

// A shutdown that was frozen, with its host or alone, must not go off hours later, when nobody expects it any more.
func TestFrozenShutdownDoesNotGoOffLate(t *testing.T) {
	t.Parallel()
	if goesDownLate(t, "") {
		t.Error("the host went down late")
	}
	if !goesDownLate(t, patient) {
		t.Error("the planted bug of patience was not caught")
	}
}

// systemd ends every process before the host goes down, and waits 90 seconds for one that does not end at SIGTERM: the attack that gave the
// order must not be that one.
func TestWhoOrdersTheHostDownDoesNotHoldItUp(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	a, err := w.Start(at.Spec{Bug: "survive", Args: []string{"--delay=10ms"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	if _, err := at.AwaitFact(a, func(account *history.AttackAccount) bool { return account.Bit }); err != nil {
		t.Fatal(err)
	}
	if err := a.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code, _ := a.Wait(); code != 0 {
		t.Errorf("exit code %d: %s; want 0, at the signal", code, a.Stderr())
	}
}

func TestShutdownPrintsTheLinesOfTheArticle(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	a, err := w.Start(at.Spec{Bug: "record", Args: []string{"--lines", "--delay=1", "--guid=22cdba53-f9fd-11e8-8292-024230fbb3f0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	want := []string{
		"Setting up shutdown firedrill with guid '22cdba53-f9fd-11e8-8292-024230fbb3f0' after 1 minute",
		"Setup successfully completed",
		"Running shutdown firedrill with guid '22cdba53-f9fd-11e8-8292-024230fbb3f0' after 1 minute",
		"Reverting impact!", // called off
	}
	if err := at.Await(func() error {
		if len(a.Lines()) < 3 {
			return errors.New("not running yet")
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := a.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	a.Wait()
	if got := strings.Join(a.Lines(), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestDelayIsMinutesOrADuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"1": time.Minute, "5": 5 * time.Minute, "500ms": 500 * time.Millisecond, "2s": 2 * time.Second, "0s": 0} {
		if got, err := parseDelay(text); err != nil || got != want {
			t.Errorf("%q is %v (%v), want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"0", "-1", "-3s", "1.5", "soon", "", "1441", "25h"} {
		if got, err := parseDelay(text); err == nil {
			t.Errorf("%q is %v, want an error", text, got)
		}
	}
}

func TestShutdownIsDescribedAndDeterministic(t *testing.T) {
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
	if err := at.Deterministic(Kind{}, attack.Values{"reboot": {"true"}}, attack.Facts{GUID: at.GUID, Host: "blue", Systemd: true}); err != nil {
		t.Error(err)
	}
}
