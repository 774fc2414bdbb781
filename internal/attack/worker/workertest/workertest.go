package workertest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	at "firedrill/internal/attack/attacktest"
)

// Pids returns the live workers of a job in a world's attacked host. A zombie is not alive: what it held is free.
func Pids(w *at.World, job string) ([]int, error) {
	var ours string
	if err := w.Host.Do(func() (err error) {
		ours, err = os.Readlink("/proc/thread-self/ns/net")
		return err
	}); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		theirs, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		if theirs == ours && strings.HasPrefix(string(line), "firedrill-worker\x00"+job+"\x00") {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// Await waits until there is a worker and check is nil for each.
func Await(w *at.World, job string, check func(pid int) error) error {
	return at.Await(func() error {
		pids, err := Pids(w, job)
		if err != nil {
			return err
		}
		if len(pids) == 0 {
			return errors.New("there is no worker")
		}
		for _, pid := range pids {
			if err := check(pid); err != nil {
				return err
			}
		}
		return nil
	})
}

// AwaitNone waits until there is no worker.
func AwaitNone(w *at.World, job string) error {
	return at.Await(func() error {
		pids, err := Pids(w, job)
		if err == nil && len(pids) > 0 {
			err = fmt.Errorf("workers are alive: %v", pids)
		}
		return err
	})
}

// window is how long a share is measured.
const window = 500 * time.Millisecond

// Share measures how much of a core a process takes, in percent, by /proc/PID/stat.
func Share(pid int) (float64, error) {
	before, err := Ticks(pid)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	<-time.After(window)
	after, err := Ticks(pid)
	if err != nil {
		return 0, err
	}
	return float64(after-before) * 1000 / float64(time.Since(began).Milliseconds()), nil
}

// Ticks is the processor time of a process in ticks of 10 ms.
func Ticks(pid int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(text[strings.LastIndex(string(text), ")")+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	return user + system, errors.Join(err1, err2)
}

// The planted bugs that every worker knows.
const (
	Outlives   = "outlives us"
	NoDeadline = "no deadline"
	Keeps      = "keeps the worker"
	Awake      = "awake only"
)

// short are the checks of the contract that are run in a hurry (go test -short): those that only a kernel can keep.
var short = []string{"RevertsAtDeadline", "EndsAtDeadlineWhileStopped"}

// Contract runs the contract of attacktest, each check with a subject of its own.
func Contract(t *testing.T, subject func(*testing.T) at.Subject) {
	except := at.Except{}
	for _, check := range at.Contract() {
		if testing.Short() && !slices.Contains(short, check.Name) {
			except[check.Name] = "in a hurry"
		}
	}
	at.RunEach(t, subject, except)
}

// Run holds the guarantees of this package.
func Run(t *testing.T, subject func(*testing.T) at.Subject, job string) {
	for name, check := range map[string]func(*at.World, at.Subject, string) error{
		"FrozenAltogether": FrozenAltogether(job), "KilledOutright": KilledOutright, "WorkerKilled": WorkerKilled(job), "NeverReady": NeverReady,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := check(at.NewWorld(t), subject(t), ""); err != nil {
				t.Error(err)
			}
		})
	}
}

// CatchesPlantedBugs plants the bugs that every worker knows.
func CatchesPlantedBugs(t *testing.T, subject func(*testing.T) at.Subject, job string) {
	if testing.Short() {
		return // each waits until the patience of the tests is over
	}
	for _, planted := range []struct {
		bug   string
		check func(*at.World, at.Subject, string) error
	}{
		{Outlives, KilledOutright}, {NoDeadline, FrozenAltogether(job)}, {NoDeadline, at.EndsAtDeadlineWhileStopped}, {Keeps, at.RevertsOnTerm}, {Awake, FrozenAltogether(job)},
	} {
		t.Run(planted.bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, planted.check, subject(t), planted.bug)
		})
	}
}

// begin starts an attack and waits until it is felt.
func begin(w *at.World, s at.Subject, bug string, length int) (*at.Attack, error) {
	a, err := w.Start(at.Spec{Bug: bug, Args: append([]string{fmt.Sprintf("--length=%d", length), "--guid=" + at.GUID}, s.Args...)})
	if err != nil {
		return nil, err
	}
	if _, err = a.AwaitInForce(); err == nil {
		err = s.Felt(w)
	}
	if err != nil {
		a.Stop()
	}
	return a, err
}

// KilledOutright: SIGKILL of the attack ends the impact long before the deadline.
func KilledOutright(w *at.World, s at.Subject, bug string) error {
	a, err := begin(w, s, bug, 60)
	if err != nil {
		return err
	}
	a.Stop()
	return s.Clear(w)
}

// countsSleep checks that the kernel's timer of a worker runs on while the host is asleep: one that is put to sleep must not be attacked
// again when it wakes up after the deadline.
func countsSleep(pid int) error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/timers", pid))
	if errors.Is(err, os.ErrNotExist) {
		return nil // this kernel does not tell
	}
	if err == nil && !strings.Contains(string(text), fmt.Sprintf("ClockID: %d\n", unix.CLOCK_BOOTTIME)) {
		err = fmt.Errorf("its timers are %q, want one of the clock %d, which counts the time asleep", text, unix.CLOCK_BOOTTIME)
	}
	return err
}

// FrozenAltogether: the attack and its worker are both stopped, and the impact ends at the deadline all the same; time asleep counts.
func FrozenAltogether(job string) func(*at.World, at.Subject, string) error {
	return func(w *at.World, s at.Subject, bug string) error {
		a, err := begin(w, s, bug, 3)
		if err != nil {
			return err
		}
		defer a.Stop()
		pids, err := Pids(w, job)
		if err != nil || len(pids) == 0 {
			return fmt.Errorf("workers %v: %w", pids, errors.Join(err, errors.New("there is none to freeze")))
		}
		for _, pid := range pids {
			if err := countsSleep(pid); err != nil {
				return err
			}
		}
		if err := a.Signal(unix.SIGSTOP); err != nil {
			return err
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
				return err
			}
		}
		if err := s.Clear(w); err != nil {
			return fmt.Errorf("all are stopped, and: %w", err)
		}
		if state, err := a.State(); err != nil || state != "T" {
			return fmt.Errorf("the attack is in state %q (%v), want T for stopped: nothing is proven", state, err)
		}
		return nil
	}
}

// WorkerKilled: when the worker is killed, as the OOM killer does, the attack ends, says so, and does not pass.
func WorkerKilled(job string) func(*at.World, at.Subject, string) error {
	return func(w *at.World, s at.Subject, bug string) error {
		a, err := begin(w, s, bug, 60)
		if err != nil {
			return err
		}
		defer a.Stop()
		pids, err := Pids(w, job)
		if err != nil {
			return err
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil {
				return err
			}
		}
		code, account := a.Wait()
		if code == 0 || account == nil || !account.Reverted || !strings.Contains(a.Stderr(), "ended before the deadline") {
			return fmt.Errorf("exit code %d, account %+v, said %q; want a failure that says that the worker ended", code, account, a.Stderr())
		}
		return s.Clear(w)
	}
}

// NeverReady: a deadline that is over before the worker is ready leaves nothing, and does not pass. That the attack itself is slow is
// at.DeadlineBeforeReady.
func NeverReady(w *at.World, s at.Subject, _ string) error {
	a, err := w.Start(at.Spec{Bug: Slow, Args: append([]string{"--length=1", "--guid=" + at.GUID}, s.Args...)})
	if err != nil {
		return err
	}
	defer a.Stop()
	code, account := a.Wait()
	if code == 0 || account == nil || !account.Reverted || account.Bit {
		return fmt.Errorf("exit code %d and account %+v, want neither bit nor passed", code, account)
	}
	return s.Clear(w)
}

// Slow plants a worker that takes longer to set up than the attack is to last.
const Slow = "slow set-up"
