package shutdown

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
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
	switch bug {
	case "record":
		return Kind{down: func(restart bool) error { return fmt.Errorf("recorded restart=%t", restart) }}
	case "survive":
		return Kind{down: func(bool) error { return nil }}
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
