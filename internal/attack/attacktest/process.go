package attacktest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/containers"
	"firedrill/internal/history"
)

// The test binary, started again with these variables, is an attack.
const (
	envChild  = "FIREDRILL_ATTACKTEST_CHILD"  // the bug that is planted, or "-"
	envDieAt  = "FIREDRILL_DIE_AT"            // die at the mark of this number
	envHoldAt = "FIREDRILL_HOLD_AT"           // wait at the mark of this number, so many nanoseconds
	envResolv = "FIREDRILL_ATTACKTEST_RESOLV" // file to use as /etc/resolv.conf
)

// StaysOutside is the bug of an attack on a container that does not enter the container's network.
const StaysOutside = "stays outside"

// FirstPodAlone is the bug of an attack on pods that hits only the first of them.
const FirstPodAlone = "first pod alone"

// GatesOpen is the bug of an attack on pods whose parts begin without waiting for each other.
const GatesOpen = "gates open"

// PartsStay is the bug of an attack on pods that does not end its parts.
const PartsStay = "parts stay"

// Making makes the kind with a planted bug ("-" for none); step is to be called before each durable effect.
type Making func(bug string, step func(name string)) attack.Kind

// ChildMain does the work of a child and never returns, or returns at once when this process is not one. Call it first in TestMain.
func ChildMain(makeKind Making) {
	bug, isChild := os.LookupEnv(envChild)
	if !isChild {
		return
	}
	if os.Getenv(envAgent) != "" {
		os.Exit(agent())
	}
	os.Exit(child(makeKind, bug))
}

func child(makeKind Making, bug string) int {
	if path := os.Getenv(envResolv); path != "" {
		if err := bindResolv(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 99
		}
	}
	if len(os.Args) == 2 && os.Args[1] == "halt" {
		return halt(makeKind(bug, func(string) {}))
	}
	invocation := attack.Invocation{Kind: makeKind(bug, onMark()), Flags: attack.Values{}, JSON: true, In: os.Stdin, Out: os.Stdout}
	invocation.StayOutside = bug == StaysOutside
	invocation.FirstPodAlone, invocation.GatesOpen, invocation.PartsStay = bug == FirstPodAlone, bug == GatesOpen, bug == PartsStay
	revertOnly := false
	for _, arg := range os.Args[1:] {
		name, value, _ := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if arg == argRevertOnly {
			revertOnly = true
			continue
		}
		switch name {
		case "guid":
			invocation.GUID = value
		case "canary":
			invocation.Canaries = append(invocation.Canaries, value)
		case "lines":
			invocation.JSON = false
		case "yes":
			invocation.Yes = true
		case "dry-run":
			invocation.DryRun = true
		default:
			invocation.Flags[name] = append(invocation.Flags[name], value)
		}
	}
	if revertOnly {
		if err := revertUnapplied(context.Background(), invocation); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	_, err := attack.Start(context.Background(), invocation)
	var stopped *attack.Stopped
	switch {
	case err == nil:
		return 0
	case errors.As(err, &stopped):
		return stopped.Code
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// halt does what the command does: it ends attacks, and sweeps up after those that an old kernel does not take back by itself.
func halt(kind attack.Kind) int {
	ctx := context.Background()
	ended, err := attack.HaltAll(ctx)
	if sweeper, ok := kind.(attack.Sweeper); ok {
		_, swept := sweeper.Sweep(ctx, attack.Alive)
		err = errors.Join(err, swept)
	}
	for _, e := range ended {
		fmt.Println(e.GUID, e.How)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 5
	}
	return 0
}

// bindResolv gives this process a resolver configuration of its own; it has a mount namespace of its own already.
func bindResolv(path string) error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount(path, "/etc/resolv.conf", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind resolv.conf: %w", err)
	}
	return nil
}

// argRevertOnly makes a child plan, and revert twice what it never applied.
const argRevertOnly = "--revert-only"

func revertUnapplied(ctx context.Context, invocation attack.Invocation) error {
	plan, err := invocation.Prepare(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for range 2 {
		for _, step := range slices.Backward(plan.Steps) {
			errs = append(errs, step.Revert(ctx))
			if verified, ok := step.(attack.Verified); ok {
				left, err := verified.Residue(ctx)
				errs = append(errs, err)
				if len(left) > 0 {
					errs = append(errs, fmt.Errorf("it says that this is left: %v", left))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// onMark is what a child does before each durable effect: nothing, or what the test wants at the mark of a number.
func onMark() func(string) {
	var mark, die, hold int
	var wait time.Duration
	_, _ = fmt.Sscan(os.Getenv(envDieAt), &die)
	_, _ = fmt.Sscan(os.Getenv(envHoldAt), &hold, (*int64)(&wait))
	return func(string) {
		mark++
		if mark == die {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {} // the signal is on its way
		}
		if mark == hold {
			<-time.After(wait)
		}
	}
}

// Spec says how to start an attack.
type Spec struct {
	Bug    string // planted; empty for none
	DieAt  int    // SIGKILL itself at the mark of this number, from 1; 0 for never
	HoldAt int    // stand still at the mark of this number, from 1, for HoldFor; 0 for never
	Resolv string // resolver configuration
	SSH    string // SSH_CONNECTION
	Engine string // the socket of a container runtime
	Args   []string

	HoldFor time.Duration
}

// Attack is an attack in a process of its own, on the attacked host.
type Attack struct {
	PID    int
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.Closer
	silent chan struct{} // closed when its standard output has ended
	stderr strings.Builder

	mu     sync.Mutex // guards the fields below
	events []history.Event
	lines  []string
}

// Start starts an attack. End it with Stop.
func (w *World) Start(spec Spec) (*Attack, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	bug := spec.Bug
	if bug == "" {
		bug = "-"
	}
	a := &Attack{cmd: exec.Command(self, spec.Args...)}
	a.cmd.Env = append(os.Environ(), envChild+"="+bug, envResolv+"="+spec.Resolv, "GORACE=atexit_sleep_ms=0", "SSH_CONNECTION="+spec.SSH)
	if spec.Engine != "" {
		a.cmd.Env = append(a.cmd.Env, "DOCKER_HOST=unix://"+spec.Engine)
	}
	if w.Pods != "" {
		a.cmd.Env = append(a.cmd.Env, containers.EndpointVariable+"=unix://"+w.Pods)
	}
	if spec.DieAt > 0 {
		a.cmd.Env = append(a.cmd.Env, fmt.Sprintf("%s=%d", envDieAt, spec.DieAt))
	}
	if spec.HoldAt > 0 {
		a.cmd.Env = append(a.cmd.Env, fmt.Sprintf("%s=%d %d", envHoldAt, spec.HoldAt, spec.HoldFor))
	}
	a.cmd.SysProcAttr = &syscall.SysProcAttr{}
	if spec.Resolv != "" {
		a.cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
	}
	a.cmd.Stderr = &a.stderr
	stdout, err := a.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	a.stdout = stdout
	if a.stdin, err = a.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := w.Host.Do(a.cmd.Start); err != nil {
		return nil, fmt.Errorf("start attack: %w", err)
	}
	a.PID = a.cmd.Process.Pid
	a.silent = make(chan struct{})
	go func() {
		defer close(a.silent)
		a.read(stdout)
	}()
	return a, nil
}

func (a *Attack) read(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var event history.Event
		err := json.Unmarshal(lines.Bytes(), &event)
		a.mu.Lock()
		if err == nil {
			a.events = append(a.events, event)
		} else {
			a.lines = append(a.lines, lines.Text())
		}
		a.mu.Unlock()
	}
}

// Events returns what the attack has said so far.
func (a *Attack) Events() []history.Event {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]history.Event(nil), a.events...)
}

// Lines returns what the attack has printed that is no event.
func (a *Attack) Lines() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.lines...)
}

// errMissing says that an event has not come yet.
var errMissing = errors.New("no such event yet")

// AwaitFact waits for the first event that holds a T for which match is true.
func AwaitFact[T history.Fact](a *Attack, match func(T) bool) (T, error) {
	var found T
	err := Await(func() error {
		// Not by what /proc says: a process that executes itself on another thread looks dead there for a moment.
		over := a.over()
		for _, event := range a.Events() {
			if fact, ok := event.Fact.(T); ok && match(fact) {
				found = fact
				return nil
			}
		}
		if over {
			return nil
		}
		return errMissing
	})
	if err == nil && any(found) == any(*new(T)) {
		a.Wait()
		err = fmt.Errorf("the attack ended without %T; after %d events; it said: %s", found, len(a.Events()), a.Stderr())
	}
	return found, err
}

// over reports whether the attack will say no more, and all that it said is read.
func (a *Attack) over() bool {
	select {
	case <-a.silent:
		return true
	default:
		return false
	}
}

// State is the letter that the kernel gives the process: T for stopped, Z for ended.
func (a *Attack) State() (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", a.PID))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return rest[:1], nil
}

// AwaitInForce waits until the impact is in force.
func (a *Attack) AwaitInForce() (*history.AttackInForce, error) {
	return AwaitFact(a, func(*history.AttackInForce) bool { return true })
}

// Signal sends a signal. One that stops the attack has stopped it on return: until each thread is, the attack may still answer.
func (a *Attack) Signal(signal unix.Signal) error {
	if err := a.cmd.Process.Signal(signal); err != nil || signal != unix.SIGSTOP {
		return err
	}
	return Await(func() error {
		states, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", a.cmd.Process.Pid))
		for _, name := range states {
			text, err := os.ReadFile(name)
			if err != nil {
				continue // a thread may have ended
			}
			if _, after, _ := strings.Cut(string(text), ") "); !strings.HasPrefix(after, "T") {
				return fmt.Errorf("not stopped yet: %s", text)
			}
		}
		return nil
	})
}

// CloseStdin ends the attack's standard input.
func (a *Attack) CloseStdin() error { return a.stdin.Close() }

// CloseStdout takes the reader of the attack's standard output away.
func (a *Attack) CloseStdout() { _ = a.stdout.Close() }

// Halt runs halt on the attacked host and returns what it printed.
func (w *World) Halt() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	cmd := exec.Command(self, "halt")
	cmd.Env = append(os.Environ(), envChild+"=-")
	var out []byte
	err = w.Host.Do(func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		return "", fmt.Errorf("halt: %w: %s", err, out)
	}
	return string(out), nil
}

// Wait waits for the end and returns the exit code, 128 and more for a signal, and the account, if there is one.
func (a *Attack) Wait() (int, *history.AttackAccount) {
	<-a.silent
	_ = a.cmd.Wait()
	code := a.cmd.ProcessState.ExitCode()
	if status, ok := a.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		code = 128 + int(status.Signal())
	}
	for _, event := range a.Events() {
		if account, ok := event.Fact.(*history.AttackAccount); ok {
			return code, account
		}
	}
	return code, nil
}

// Stderr is what the attack said to people; call it after Wait.
func (a *Attack) Stderr() string { return a.stderr.String() }

// Stop kills the attack if it still runs, and waits for it.
func (a *Attack) Stop() {
	_ = a.cmd.Process.Kill()
	if a.cmd.ProcessState == nil {
		a.Wait()
	}
}
