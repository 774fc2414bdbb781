package pid

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/aim"
	"firedrill/internal/attack/cgroups"
	"firedrill/internal/history"
)

// The files of the controller; both versions of cgroups call them so.
const (
	fileMax     = "pids.max"
	fileCurrent = "pids.current"
	fileEvents  = "pids.events"
)

// undo is what a record holds.
type undo struct {
	Directory string `json:"directory"`
	Was       string `json:"was"` // as the file said it: a number or max
}

// squeeze is the step that lowers the limit of a group.
type squeeze struct {
	group   cgroups.Group
	free    int
	tasks   int // when the plan was made
	hooks   hooks
	journal *attack.Journal

	mu      sync.Mutex // guards the fields below
	was     string
	limit   int // that we wrote last; -1 for none yet
	began   int // starts that the kernel had refused before
	refused int // since
	tries   int // of our own
	proven  bool
	escaped int // times that the limit was found raised
}

// Lines implements attack.Step.
func (s *squeeze) Lines() []string {
	return []string{fmt.Sprintf("lower %s of %s to what runs there, and %d more; now %d run", fileMax, s.group, s.free, s.tasks)}
}

// Remains implements attack.Step.
func (*squeeze) Remains() attack.Remains { return attack.RemainsUntilStart }

// ByHand implements attack.ByHand.
func (s *squeeze) ByHand() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("take it back with: firedrill halt; or by hand with: echo %s > %s/%s", s.was, s.group.Directory, fileMax)
}

// Keep implements attack.Recorded.
func (s *squeeze) Keep(journal *attack.Journal) { s.journal = journal }

// Apply implements attack.Step.
func (s *squeeze) Apply(ctx context.Context, _ time.Time) error {
	s.mu.Lock()
	s.limit = -1
	s.mu.Unlock()
	if s.hooks.late {
		if err := s.tighten(); err != nil {
			return err
		}
	}
	s.hooks.step("write down")
	err := s.journal.Record(ctx, func(others []attack.Change) ([]attack.Change, error) {
		was, err := s.group.Read(fileMax)
		if held, ok := holds(others, s.group.Directory); ok {
			was = held.Was
		}
		s.mu.Lock()
		s.was = was
		s.mu.Unlock()
		record, err2 := json.Marshal(undo{Directory: s.group.Directory, Was: was})
		return []attack.Change{{What: fmt.Sprintf("%s of %s is lowered, it was %s", fileMax, s.group, was), Undo: record}}, errors.Join(err, err2)
	})
	if err != nil {
		return err
	}
	s.hooks.step("narrow")
	began, err := s.group.Field(fileEvents, "max")
	if err != nil {
		return aim.ExplainGroup(Name, err)
	}
	s.mu.Lock()
	s.began = began
	s.mu.Unlock()
	if err := s.tighten(); err != nil {
		return err
	}
	return s.try()
}

// holds finds what another attack has written down about the same group.
func holds(changes []attack.Change, directory string) (undo, bool) {
	return aim.Held(changes, func(held undo) bool { return held.Directory == directory })
}

// tighten lowers the limit to what runs, and what is to stay free. It never raises one.
func (s *squeeze) tighten() error {
	current, err := s.group.Number(fileCurrent)
	if err != nil {
		return aim.ExplainGroup(Name, err)
	}
	limit, err := s.group.Number(fileMax)
	if err != nil {
		return aim.ExplainGroup(Name, err)
	}
	wanted := current + s.free
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.limit >= 0 {
		wanted = min(wanted, s.limit)
		if limit < 0 || limit > s.limit {
			s.escaped++
		}
	}
	s.limit = wanted
	if limit >= 0 && limit <= wanted || s.hooks.boast {
		return nil
	}
	return aim.ExplainGroup(Name, s.group.Write(fileMax, strconv.Itoa(wanted)))
}

// try starts a process in the group: that the kernel refuses it is the proof. It counts what was refused to others too.
func (s *squeeze) try() error {
	err := startIn(s.group)
	now, err2 := s.group.Field(fileEvents, "max")
	if err2 != nil {
		return aim.ExplainGroup(Name, err2)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if errors.Is(err, unix.EAGAIN) {
		s.proven = true
		s.tries++
	}
	s.refused = max(s.refused, now-s.began-s.tries)
	return nil
}

// nothing is a program that does not exist: the kernel decides on a new process before it looks for what that is to run.
const nothing = "/proc/self/firedrill-nothing"

// startIn tries to start a process in a group; EAGAIN means that the group is full. Nothing of it is left when startIn returns.
func startIn(group cgroups.Group) error {
	if group.V2 {
		directory, err := os.Open(group.Directory)
		if err != nil {
			return err
		}
		defer directory.Close()
		pid, err := syscall.ForkExec(nothing, []string{nothing}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(directory.Fd())}})
		return started(pid, err)
	}
	// Version 1 lets one thread of ours in, which counts as one more while it tries, and is thrown away.
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := ownGroup(group)
		if err == nil {
			err = group.Write("tasks", strconv.Itoa(unix.Gettid()))
		}
		if err != nil {
			done <- err
			return
		}
		pid, err := syscall.ForkExec(nothing, []string{nothing}, &syscall.ProcAttr{})
		err = started(pid, err)
		// Back at once: the end of the thread takes its time.
		_ = home.Write("tasks", strconv.Itoa(unix.Gettid()))
		done <- err
	}()
	return <-done
}

func started(pid int, err error) error {
	if err == nil {
		_, _ = syscall.Wait4(pid, nil, 0, nil)
	}
	return err
}

// ownGroup is the group of the calling thread in the hierarchy of another one.
func ownGroup(group cgroups.Group) (cgroups.Group, error) {
	return cgroups.Own("/", cgroups.PIDs, group)
}

// Tend implements attack.Tended.
func (s *squeeze) Tend(ctx context.Context, report func(history.Fact)) error {
	s.mu.Lock()
	report(&history.Note{Text: fmt.Sprintf("Narrowing %s to %d", s.group, s.limit)})
	s.mu.Unlock()
	// For tasks that ended since, whose places must not become free.
	return aim.Again(ctx, func(context.Context) error { return errors.Join(s.tighten(), s.try()) })
}

// Evidence implements attack.Evidencing.
func (s *squeeze) Evidence() (bit bool, sentences []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.proven {
		sentences = append(sentences, fmt.Sprintf("the kernel refused to start a process of ours in %s, %d times", s.group, s.tries))
	}
	sentences = append(sentences, fmt.Sprintf("the kernel refused %d starts of others there; the limit was %s before, and %d at the end", s.refused, s.was, s.limit))
	if s.escaped > 0 {
		sentences = append(sentences, fmt.Sprintf("%d times the limit was found raised by somebody else, and lowered again", s.escaped))
	}
	return s.proven || s.refused > 0, sentences
}

// Revert implements attack.Step.
func (s *squeeze) Revert(ctx context.Context) error {
	s.hooks.step("revert")
	return s.journal.Undo(ctx, Kind{hooks: s.hooks})
}

// Undo implements attack.Undoer.
func (k Kind) Undo(_ context.Context, change attack.Change, others []attack.Change) error {
	var held undo
	if err := json.Unmarshal(change.Undo, &held); err != nil {
		return fmt.Errorf("what the limit was: %w", err)
	}
	if _, ok := holds(others, held.Directory); ok && !k.hooks.forgetful {
		return nil // the last one puts it back
	}
	k.hooks.step("put back")
	if k.hooks.open {
		held.Was = "max"
	}
	group := cgroups.Group{Directory: held.Directory}
	if err := group.Write(fileMax, held.Was); err != nil && !group.Gone() {
		return err
	}
	return nil
}

// Residue implements attack.Verified.
func (s *squeeze) Residue(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.was == "" || s.group.Gone() {
		return nil, nil
	}
	if _, ok := holds(s.journal.Others(), s.group.Directory); ok {
		return nil, nil
	}
	now, err := s.group.Read(fileMax)
	if err == nil && now != s.was {
		return []string{fmt.Sprintf("%s of %s is %s, it was %s", fileMax, s.group, now, s.was)}, nil
	}
	return nil, err
}
