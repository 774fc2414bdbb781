package attack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
)

// The test binary, started again with these variables, is a worker or a later start of firedrill.
const (
	envWork   = "FIREDRILL_GUARDIANTEST_WORK"    // "attack" or "recover"
	envBug    = "FIREDRILL_GUARDIANTEST_BUG"     // planted
	envDie    = "FIREDRILL_GUARDIANTEST_DIE"     // the worker, or the later start, kills itself at this mark
	envSlow   = "FIREDRILL_GUARDIANTEST_SLOW"    // the worker takes back slowly
	envDieTwo = "FIREDRILL_GUARDIANTEST_DIE_TOO" // the guardian does
)

func TestMain(m *testing.M) {
	kinds := []attack.Kind{litter{bug: os.Getenv(envBug)}}
	if os.Args[0] == attack.GuardianName {
		os.Exit(attack.GuardianWith(kinds, dieAt(envDieTwo), os.Getenv(envBug)))
	}
	ctx := context.Background()
	var err error
	switch os.Getenv(envWork) {
	case "attack":
		mark := dieAt(envDie)
		i := attack.Invocation{Kind: litter{bug: os.Getenv(envBug), mark: mark}, Flags: attack.Values{"length": os.Args[1:2]}, GUID: at.GUID, JSON: true, In: os.Stdin, Out: os.Stdout}
		i.DieAt(mark)
		_, err = attack.Start(ctx, i)
	case "recover":
		_, err = attack.RecoverWith(ctx, kinds, dieAt(envDie))
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(10 + int(drill.KindOf(err)))
	}
	os.Exit(0)
}

func dieAt(variable string) func(string) {
	var mark, number int
	if _, err := fmt.Sscan(os.Getenv(variable), &number); err != nil {
		return func(string) {}
	}
	return func(string) {
		if mark++; mark == number {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {} // the signal is on its way
		}
	}
}

// litter is a kind whose impact is two files that lie around: the simplest change that no kernel takes back.
type litter struct {
	bug  string
	mark func(string)
}

// littered are the files.
var littered = []string{filepath.Join(at.StateRoot, "litter-1"), filepath.Join(at.StateRoot, "litter-2")}

func (litter) Describe() drill.AttackKind {
	return drill.AttackKind{Name: "litter", Summary: "Leave files", Remains: string(attack.RemainsUntilStart), Flags: []drill.AttackFlag{attack.LengthFlag()}}
}

func (l litter) Order(flags attack.Values) (attack.Order, error) {
	length, err := flags.Length()
	return litterOrder{litter: l, length: length}, err
}

func (litter) Undo(_ context.Context, change attack.Change, _ []attack.Change) error {
	var path string
	if err := json.Unmarshal(change.Undo, &path); err != nil {
		return err
	}
	if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

type litterOrder struct {
	litter
	length time.Duration
}

func (litterOrder) Names() []string { return nil }
func (o litterOrder) Plan(facts attack.Facts) (attack.Plan, error) {
	return attack.Plan{GUID: facts.GUID, Attack: "litter", Host: facts.Host, Length: o.length, Steps: []attack.Step{&litterStep{litter: o.litter}}}, nil
}

type litterStep struct {
	litter
	journal *attack.Journal
}

func (*litterStep) Lines() []string            { return []string{"leave files"} }
func (*litterStep) Remains() attack.Remains    { return attack.RemainsUntilStart }
func (s *litterStep) Keep(j *attack.Journal)   { s.journal = j }
func (*litterStep) Evidence() (bool, []string) { return true, nil }

func (s *litterStep) Revert(ctx context.Context) error {
	if slow := os.Getenv(envSlow); slow != "" {
		<-time.After(tidying)
	}
	return s.journal.Undo(ctx, s.litter)
}

func (s *litterStep) Apply(ctx context.Context, _ time.Time) error {
	for _, path := range littered {
		record := func() error {
			return s.journal.Record(ctx, func([]attack.Change) ([]attack.Change, error) {
				undo, err := json.Marshal(path)
				return []attack.Change{{What: path + " lies around", Survives: true, Undo: undo}}, err
			})
		}
		change := func() error {
			s.mark("change")
			return os.WriteFile(path, nil, 0o600)
		}
		steps := []func() error{record, change}
		if s.bug == "late" {
			steps = []func() error{change, record}
		}
		for _, step := range steps {
			if err := step(); err != nil {
				return err
			}
		}
	}
	return nil
}

// start starts this binary as something else, on the host of its own.
func start(work string, env ...string) (*exec.Cmd, *bytes.Buffer) {
	length := "60"
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, "LENGTH="); ok {
			length = value
		}
	}
	cmd := exec.Command("/proc/self/exe", length)
	cmd.Env = append(append(os.Environ(), envWork+"="+work, "GORACE=atexit_sleep_ms=0"), env...)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		panic(fmt.Sprintf("start %s: %v", work, err))
	}
	return cmd, &said
}

func run(work string, env ...string) (code int, said string) {
	cmd, text := start(work, env...)
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), text.String()
}

// dirty says what lies around: impact, or a journal.
func dirty(journals bool) error {
	patterns := []string{filepath.Join(at.StateRoot, "litter-*")}
	if journals {
		patterns = append(patterns, filepath.Join(attack.JournalRoot, "*.*"))
	}
	for _, pattern := range patterns {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return fmt.Errorf("%v is there", found)
		}
	}
	return nil
}

// inForce waits until both files lie around.
func inForce() error {
	return at.Await(func() error {
		for _, path := range littered {
			if _, err := os.Stat(path); err != nil {
				return err
			}
		}
		return nil
	})
}

// guardianOf returns who guards the attack.
func guardianOf() (procs.ID, error) {
	all, err := procs.List()
	for _, p := range all {
		if strings.HasPrefix(p.Command, attack.GuardianName) {
			return p.ID, err
		}
	}
	return procs.ID{}, errors.Join(errors.New("there is no guardian"), err)
}

// patience bounds how long a worker or guardian is waited for; a planted bug needs no more than a moment to show.
const (
	patience = 15 * time.Second
	moment   = 2500 * time.Millisecond
)

// await polls until check says nil.
func await(patience time.Duration, check func() error) error {
	deadline := time.Now().Add(patience)
	for {
		err := check()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-time.After(2 * time.Millisecond)
	}
}

const killed = -1 // exit code of a process that a signal ended

// killedAnywhere: the worker is killed before each durable effect in turn; its guardian takes back what is there.
func killedAnywhere(bug string, patience time.Duration) error {
	for mark := 1; ; mark++ {
		code, said := run("attack", envBug+"="+bug, fmt.Sprintf("%s=%d", envDie, mark), "LENGTH=1")
		if err := await(patience, func() error { return dirty(false) }); err != nil {
			return fmt.Errorf("killed at mark %d: %w", mark, err)
		}
		// One that was killed before its guardian stood leaves a journal that holds nothing.
		if after, said := run("recover"); after != 0 || dirty(true) != nil {
			return fmt.Errorf("killed at mark %d: recover: exit code %d, %v, %s", mark, after, dirty(true), said)
		}
		if code != killed {
			if code != 0 || mark < 12 {
				return fmt.Errorf("ended with %d after %d marks, want 0 after 12 and more: %s", code, mark-1, said)
			}
			return nil
		}
	}
}

// stoppedPastDeadline: the worker is frozen and never goes on; the impact ends all the same.
func stoppedPastDeadline(bug string, patience time.Duration) error {
	cmd, _ := start("attack", envBug+"="+bug, "LENGTH=1")
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if err := errors.Join(inForce(), cmd.Process.Signal(unix.SIGSTOP)); err != nil {
		return err
	}
	if err := await(patience, func() error { return dirty(true) }); err != nil {
		return err
	}
	if p, err := procs.Stat(cmd.Process.Pid); err == nil && !p.Stopped() && !p.Ended() {
		return fmt.Errorf("the worker is in state %c: it was not frozen to the end, and nothing is proven", p.State)
	}
	return nil
}

// tidying is longer than a guardian waits for a worker that does nothing.
const tidying = 2500 * time.Millisecond

// takesItsTime: what takes long to take back is taken back by the worker, which gives account, and not by its guardian.
func takesItsTime(bug string, _ time.Duration) error {
	code, said := run("attack", envBug+"="+bug, envSlow+"=1", "LENGTH=1")
	if code != 0 {
		return fmt.Errorf("exit code %d, want 0: %s", code, said)
	}
	return dirty(true)
}

func TestGuardianLetsTheWorkerFinishWhatItBegan(t *testing.T) {
	if at.Alone(t) {
		if err := takesItsTime("", patience); err != nil {
			t.Error(err)
		}
	}
}

func TestGuardianUndoesWhereverTheWorkerIsKilled(t *testing.T) {
	if at.Alone(t) {
		if err := killedAnywhere("", patience); err != nil {
			t.Error(err)
		}
	}
}

func TestGuardianUndoesForAFrozenWorker(t *testing.T) {
	if at.Alone(t) {
		if err := stoppedPastDeadline("", patience); err != nil {
			t.Error(err)
		}
	}
}

// The planted bugs: the same checks must find them.
func TestGuardianChecksCatchPlantedBugs(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	for bug, check := range map[string]func(string, time.Duration) error{"late": killedAnywhere, "blind": stoppedPastDeadline, "deaf": takesItsTime} {
		err := check(bug, moment)
		if err == nil {
			t.Errorf("the planted bug %q was not caught", bug)
		}
		t.Logf("%s: caught: %v", bug, err)
		for _, path := range littered {
			_ = os.Remove(path)
		}
	}
}
