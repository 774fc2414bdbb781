package attack_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
)

// exit codes of run for errors of a kind.
func exitOf(kind drill.ErrorKind) int { return 10 + int(kind) }

// bothKilled leaves an attack behind whose worker and guardian are both dead, with its impact in force.
func bothKilled() error {
	cmd, said := start("attack")
	if err := inForce(); err != nil {
		return errors.Join(err, errors.New(said.String()))
	}
	guardian, err := guardianOf()
	if err != nil {
		return err
	}
	// Both are stopped first: else the one that is killed last would notice the death of the other.
	for _, pid := range []int{guardian.PID, cmd.Process.Pid} {
		if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
			return err
		}
	}
	for _, pid := range []int{guardian.PID, cmd.Process.Pid} {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			return err
		}
	}
	_ = cmd.Wait()
	return await(patience, func() error {
		if _, err := procs.Find(guardian); !errors.Is(err, procs.ErrGone) {
			return errors.New("the guardian is there")
		}
		return nil
	})
}

// journalText is the only journal.
func journalText() (path string, text []byte, err error) {
	found, _ := filepath.Glob(filepath.Join(attack.JournalRoot, "*.journal"))
	if len(found) != 1 {
		return "", nil, fmt.Errorf("journals: %v, want one", found)
	}
	text, err = os.ReadFile(found[0])
	return found[0], text, err
}

func TestNextStartUndoesWhenBothWereKilled(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	if err := bothKilled(); err != nil {
		t.Fatal(err)
	}
	if dirty(false) == nil {
		t.Fatal("nothing is in force: nothing is proven")
	}
	// The next start is an attack, with the very same GUID: it takes back first, and works.
	if code, said := run("attack", "LENGTH=1"); code != 0 {
		t.Errorf("the next attack ended with %d: %s", code, said)
	}
	if err := dirty(true); err != nil {
		t.Error(err)
	}
	if err := attack.UndoTwice(context.Background(), litter{}); err != nil {
		t.Errorf("once more: %v", err)
	}
}

// A later start may be killed too, anywhere, again and again.
func TestRecoveryMayBeKilledAnywhere(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	if err := bothKilled(); err != nil {
		t.Fatal(err)
	}
	path, text, err := journalText()
	if err != nil {
		t.Fatal(err)
	}
	for mark := 1; ; mark++ {
		if err := errors.Join(os.WriteFile(path, text, 0o600), os.WriteFile(littered[0], nil, 0o600), os.WriteFile(littered[1], nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		code, said := run("recover", fmt.Sprintf("%s=%d", envDie, mark))
		if code != killed {
			if code != 0 || mark < 6 {
				t.Errorf("ended with %d after %d marks: %s", code, mark-1, said)
			}
			break
		}
		if code, said := run("recover"); code != 0 || dirty(true) != nil {
			t.Errorf("killed at mark %d, then: exit code %d, %v, %s", mark, code, dirty(true), said)
		}
	}
	if err := dirty(true); err != nil {
		t.Error(err)
	}
}

// The worker is killed, and its guardian too, at each of its own marks: the next start finishes.
func TestNextStartFinishesWhatTheGuardianBegan(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	for mark := 1; mark < 12; mark++ {
		cmd, said := start("attack", fmt.Sprintf("%s=%d", envDieTwo, mark))
		err := await(patience, func() error {
			if p, err := procs.Stat(cmd.Process.Pid); err != nil || p.Ended() {
				return nil // it refused to go on without a guardian
			}
			return inForceNow()
		})
		if err != nil {
			t.Fatalf("mark %d: %v: %s", mark, err, said)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err := await(patience, func() error {
			if _, err := guardianOf(); err == nil {
				return errors.New("the guardian is at work")
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if code, said := run("recover"); code != 0 || dirty(true) != nil {
			t.Errorf("guardian killed at mark %d, then: exit code %d, %v, %s", mark, code, dirty(true), said)
		}
	}
}

func inForceNow() error {
	for _, path := range littered {
		if _, err := os.Stat(path); err != nil {
			return err
		}
	}
	return nil
}

func TestWorkerEndsWithItsGuardian(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	cmd, said := start("attack")
	if err := inForce(); err != nil {
		t.Fatal(err, said)
	}
	guardian, err := guardianOf()
	if err != nil {
		t.Fatal(err)
	}
	if err := procs.Signal(guardian, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitOf(drill.Unproven) || !strings.Contains(said.String(), "guardian") {
		t.Errorf("ended with %d: %s", code, said)
	}
	if err := dirty(true); err != nil {
		t.Error(err)
	}
}

// A terminal that hangs up, or Ctrl-C in it, reaches a whole process group: the guardian stands it, in a session of its own.
func TestGuardianStandsSignalsToTheWholeGroup(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	for _, signal := range []unix.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT} {
		cmd, said := start("attack")
		if err := inForce(); err != nil {
			t.Fatal(err, said)
		}
		guardian, err := guardianOf()
		if err != nil {
			t.Fatal(err)
		}
		if session, err := unix.Getsid(guardian.PID); err != nil || session != guardian.PID {
			t.Errorf("the guardian is in session %d (%v), want its own, %d", session, err, guardian.PID)
		}
		if err := procs.Signal(guardian, signal); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if err := await(patience, func() error { return dirty(true) }); err != nil {
			t.Errorf("%v: %v", signal, err)
		}
	}
}

// Guardian and worker are both frozen, past the deadline and more: the next start kills them and takes back.
func TestNextStartUndoesWhenBothAreFrozen(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	cmd, said := start("attack", "LENGTH=1")
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if err := inForce(); err != nil {
		t.Fatal(err, said)
	}
	guardian, err := guardianOf()
	if err == nil {
		err = errors.Join(procs.Signal(guardian, unix.SIGSTOP), cmd.Process.Signal(unix.SIGSTOP))
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := await(patience, func() error {
		if code, said := run("recover"); code != 0 {
			return fmt.Errorf("exit code %d: %s", code, said)
		}
		return dirty(true)
	}); err != nil {
		t.Error(err)
	}
}

// A journal may be torn at any byte by a power cut: its changes were made only if their lines are whole.
func TestJournalTornAtEveryByteIsUnderstood(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	if err := bothKilled(); err != nil {
		t.Fatal(err)
	}
	path, text, err := journalText()
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	if len(lines) != 5 { // header, guardian, two changes, and what follows the last line: nothing
		t.Fatalf("%d lines in %s", len(lines)-1, text)
	}
	first, second := len(text)-len(lines[3]), len(text)
	for size := 0; size <= len(text); size++ {
		if err := os.WriteFile(path, text[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		for i, end := range []int{first, second} {
			_ = os.Remove(littered[i])
			if size >= end {
				if err := os.WriteFile(littered[i], nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := attack.Recover(context.Background(), []attack.Kind{litter{}}); err != nil {
			t.Fatalf("torn at %d: %v", size, err)
		}
		if err := dirty(true); err != nil {
			t.Fatalf("torn at %d: %v", size, err)
		}
	}
}

// A journal that was altered is never taken for whole: either all of it is undone, or somebody is called.
func TestAlteredJournalIsNeverBelieved(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	if err := bothKilled(); err != nil {
		t.Fatal(err)
	}
	path, text, err := journalText()
	if err != nil {
		t.Fatal(err)
	}
	for at := range text {
		altered := bytes.Clone(text)
		altered[at] ^= 1
		if err := errors.Join(os.WriteFile(path, altered, 0o600), os.WriteFile(littered[0], nil, 0o600), os.WriteFile(littered[1], nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		_, err := attack.Recover(context.Background(), []attack.Kind{litter{}})
		// The last line alone may be taken for torn: a power cut can leave that.
		last := at >= len(text)-len(bytes.SplitAfter(text, []byte("\n"))[3])
		if err == nil && dirty(true) != nil && !last {
			t.Fatalf("byte %d altered: no error, and %v", at, dirty(true))
		}
		_ = os.Remove(path)
	}
}

func TestAttackRefusesWhenItCannotWriteDown(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	refused := func(what string) {
		t.Helper()
		if code, said := run("attack", "LENGTH=1"); code != exitOf(drill.Refused) || dirty(false) != nil {
			t.Errorf("%s: exit code %d, %v: %s", what, code, dirty(false), said)
		}
	}
	// The journal has a disk of its own, so that the impact would have room.
	if err := errors.Join(os.MkdirAll(attack.JournalRoot, 0o700), unix.Mount("journal", attack.JournalRoot, "tmpfs", 0, "mode=700,size=64k")); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(attack.JournalRoot, "filler")
	if err := os.WriteFile(filler, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk does not fill up: %v", err)
	}
	refused("full disk")
	// Room for a journal, and none for its changes.
	if err := os.Truncate(filler, 56<<10); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("journal", attack.JournalRoot, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	refused("read-only disk")
	if err := unix.Unmount(attack.JournalRoot, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(attack.JournalRoot, 0o777); err != nil {
		t.Fatal(err)
	}
	if code, said := run("attack", "LENGTH=1"); code == 0 || dirty(false) != nil {
		t.Errorf("a directory that anybody can write: exit code %d, %v: %s", code, dirty(false), said)
	}
}

// A host that is held up must not be changed past the deadline: what is not written down by then is not changed.
func TestNothingIsWrittenDownPastTheDeadline(t *testing.T) {
	for name, early := range map[string]bool{"before the look": true, "during the look": false} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			j, path, err := attack.NewJournal(directory)
			if err != nil {
				t.Fatal(err)
			}
			before, _ := os.ReadFile(path)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if early {
				cancel()
			}
			err = j.Record(ctx, func([]attack.Change) ([]attack.Change, error) {
				cancel() // it took long to look
				return []attack.Change{{What: "a change"}}, nil
			})
			after, _ := os.ReadFile(path)
			if !errors.Is(err, context.Canceled) || len(before) == 0 || string(after) != string(before) {
				t.Errorf("%v, and the journal says\n%s\nit said\n%s", err, after, before)
			}
		})
	}
}

// What a restart undoes is not undone again; what survives one is; and what this build does not know, it says.
func TestJournalOfAnotherBootOrBuild(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	if err := bothKilled(); err != nil {
		t.Fatal(err)
	}
	if _, err := attack.Recover(context.Background(), nil); drill.KindOf(err) != drill.NotReverted || !strings.Contains(err.Error(), "litter") {
		t.Errorf("a build that does not know the kind says %v", err)
	}
	if dirty(false) == nil {
		t.Fatal("nothing is in force any more")
	}
	path, text, err := journalText()
	if err != nil {
		t.Fatal(err)
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		t.Fatal(err)
	}
	other := bytes.ReplaceAll(text, bytes.TrimSpace(boot), []byte("00000000-0000-0000-0000-000000000000"))
	resealed, err := attack.Reseal(other)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, resealed, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := attack.Recover(context.Background(), []attack.Kind{litter{}}); err != nil {
		t.Error(err)
	}
	if err := dirty(true); err != nil {
		t.Errorf("files survive a restart: %v", err)
	}
	// The same, for what does not survive: the kind is not asked, so the files stay.
	resealed, err = attack.Reseal(bytes.ReplaceAll(other, []byte(`"survives":true`), []byte(`"survives":false`)))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path, resealed, 0o600), os.WriteFile(littered[0], nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := attack.Recover(context.Background(), []attack.Kind{litter{}}); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(littered[0]); err != nil {
		t.Errorf("a change of an earlier boot was undone in this one: %v", err)
	}
}

func FuzzParseJournal(f *testing.F) {
	f.Add([]byte(`{"sum":"00000000","entry":{}}` + "\n"))
	f.Add([]byte("\n\n"))
	f.Add([]byte(`{"sum":"20a70fee","entry":{"header":{"version":1}}}` + "\n{\"sum\":"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if whole := attack.WholeOf(text); whole < 0 || whole > int64(len(text)) {
			t.Errorf("%d bytes of %d are whole", whole, len(text))
		}
	})
}
