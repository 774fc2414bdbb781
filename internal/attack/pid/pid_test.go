package pid

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/cgroups"
	"firedrill/internal/attack/hoard"
	"firedrill/internal/attack/procs"
	"firedrill/internal/attack/worker"
	"firedrill/internal/attack/worker/workertest"
	"firedrill/internal/drill"
)

// envBug is what attacktest hands to the processes that it starts.
const envBug = "FIREDRILL_ATTACKTEST_CHILD"

func TestMain(m *testing.M) {
	if code, ours := worker.Main(os.Args, map[string]worker.Job{Name: Job}); ours {
		os.Exit(code)
	}
	if code, hidden := attack.Reexec([]attack.Kind{makeKind(os.Getenv(envBug), nil)}); hidden {
		os.Exit(code)
	}
	at.ChildMain(makeKind)
	os.Exit(m.Run())
}

func makeKind(bug string, mark func(string)) attack.Kind {
	return Kind{worker: worker.Hooks{Step: mark, Bug: strings.TrimPrefix(bug, "-")},
		hooks: hooks{mark: mark, late: bug == "late", forgetful: bug == "forgetful", boast: bug == "boast", open: bug == "open"}}
}

// cohort is a control group with a process in it.
type cohort struct {
	group   cgroups.Group
	sleeper *exec.Cmd
}

// limitBefore is what the limit is before an attack; it is not the kernel's default, so that what is put back can be told from that.
const limitBefore = "61"

// group makes a cohort on this machine, below the hierarchy that controls numbers of processes.
func group(t *testing.T) cohort {
	t.Helper()
	at.Require(t)
	top := hierarchy(t)
	directory, err := os.MkdirTemp(top, "firedrill-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := at.Await(func() error { return os.Remove(directory) }); err != nil {
			t.Error(err)
		}
	})
	found, err := cgroups.Find("/", cgroups.PIDs, directory)
	if err != nil {
		t.Fatal(err)
	}
	c := cohort{group: found}
	if err := found.Write(fileMax, limitBefore); err != nil {
		t.Fatal(err)
	}
	c.sleeper = exec.Command("sleep", "600")
	if err := c.sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.sleeper.Process.Kill(); _ = c.sleeper.Wait() })
	if err := found.Write("cgroup.procs", strconv.Itoa(c.sleeper.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	return c
}

// hierarchy finds where groups that count processes can be made.
func hierarchy(t *testing.T) string {
	t.Helper()
	for _, top := range []string{"/sys/fs/cgroup/pids", "/sys/fs/cgroup"} {
		if _, err := os.Stat(filepath.Join(top, "cgroup.procs")); err == nil {
			return top
		}
	}
	t.Fatal("no hierarchy of cgroups is mounted at /sys/fs/cgroup")
	return ""
}

// full checks from outside that nothing can be started in the group.
func (c cohort) full() error {
	err := startIn(c.group)
	if !errors.Is(err, unix.EAGAIN) {
		return fmt.Errorf("a start in the group says %v, want EAGAIN", err)
	}
	return nil
}

// clear waits until the limit is what it was, a process can be started, and no journal is left.
func (c cohort) clear(limit time.Duration) error { return at.Settled(limit, c.asBefore) }

func (c cohort) asBefore() error {
	if limit, err := c.group.Read(fileMax); err != nil || limit != limitBefore {
		return errors.Join(fmt.Errorf("%s is %s, want %s", fileMax, limit, limitBefore), err)
	}
	if err := startIn(c.group); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("a start in the group says %w, want that the program does not exist", err)
	}
	return nil
}

func (c cohort) subject(limit time.Duration) at.Subject {
	return at.Subject{
		Args:    []string{"--cgroup=" + c.group.Name},
		Felt:    func(*at.World) error { return c.full() },
		Clear:   func(*at.World) error { return c.clear(limit) },
		Guarded: true,
	}
}

func TestNarrowedGroupHoldsTheContract(t *testing.T) {
	t.Parallel()
	at.RunAlone(t, func(t *testing.T) at.Subject { return group(t).subject(at.Patience()) }, nil)
}

func TestContractCatchesBugsOfTheNarrowedGroup(t *testing.T) {
	t.Parallel()
	if !at.Alone(t) {
		return
	}
	for bug, check := range map[string]func(*at.World, at.Subject, string) error{
		"late": at.LeavesNothingWhenKilledAnywhere, "open": at.RevertsOnTerm, "boast": at.RevertsAtDeadline,
	} {
		s := group(t).subject(at.Moment)
		if bug == "boast" {
			s.Felt = func(*at.World) error { return nil }
		}
		at.Catches(t, check, s, bug)
	}
}

// asked checks that undo leaves what another attack holds to that one.
func (c cohort) asked(kind Kind) error {
	if err := c.group.Write(fileMax, "1"); err != nil {
		return err
	}
	change := attack.Change{Undo: []byte(fmt.Sprintf(`{"directory":%q,"was":%q}`, c.group.Directory, limitBefore))}
	if err := kind.Undo(context.Background(), change, []attack.Change{change}); err != nil {
		return err
	}
	if limit, err := c.group.Read(fileMax); err != nil || limit != "1" {
		return fmt.Errorf("the limit is %s (%w), and another attack holds it at 1", limit, err)
	}
	if err := kind.Undo(context.Background(), change, nil); err != nil {
		return err
	}
	return c.asBefore()
}

func TestTheLastAttackPutsTheLimitBack(t *testing.T) {
	t.Parallel()
	if !at.Alone(t) {
		return
	}
	c := group(t)
	if err := c.asked(Kind{}); err != nil {
		t.Error(err)
	}
	err := c.asked(Kind{hooks: hooks{forgetful: true}})
	if err == nil {
		t.Error("the planted bug of forgetting others was not caught")
	}
	t.Logf("caught: %v", err)
}

func TestPlacesThatBecomeFreeAreTakenToo(t *testing.T) {
	t.Parallel()
	if !at.Alone(t) {
		return
	}
	c := group(t)
	sleeper := exec.Command("sleep", "600")
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() })
	if err := c.group.Write("cgroup.procs", strconv.Itoa(sleeper.Process.Pid)); err != nil {
		t.Fatal(err)
	}
	a, err := at.NewWorld(t).Start(at.Spec{Args: []string{"--length=60", "--cgroup=" + c.group.Name}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	if _, err := a.AwaitInForce(); err != nil {
		t.Fatal(err, a.Stderr())
	}
	if limit, err := c.group.Read(fileMax); err != nil || limit != "2" {
		t.Errorf("the limit is %s (%v), want 2", limit, err)
	}
	_ = sleeper.Process.Kill()
	_ = sleeper.Wait()
	if err := at.Await(func() error {
		limit, err := c.group.Read(fileMax)
		if err == nil && limit != "1" {
			err = fmt.Errorf("the limit is %s, want 1", limit)
		}
		return errors.Join(err, c.full())
	}); err != nil {
		t.Error(err)
	}
	// Somebody raises it.
	if err := c.group.Write(fileMax, "max"); err != nil {
		t.Fatal(err)
	}
	if err := at.Await(c.full); err != nil {
		t.Error(err)
	}
	_ = a.Signal(unix.SIGTERM)
	if code, account := a.Wait(); code != 143 || account == nil || !account.Bit || !strings.Contains(strings.Join(account.Evidence, "; "), "lowered again") {
		t.Errorf("exit code %d, account %+v", code, account)
	}
	if err := c.clear(at.Patience()); err != nil {
		t.Error(err)
	}
}

// threadsHeld is small: many tests run at the same time.
const threadsHeld = 300

func threadSubject(*testing.T) at.Subject {
	return at.Subject{
		Args: []string{fmt.Sprintf("--amount=%d", threadsHeld)},
		Felt: func(w *at.World) error {
			return workertest.Await(w, Name, func(pid int) error {
				tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
				if err == nil && (len(tasks) < threadsHeld || len(tasks) > threadsHeld+runtimeOwn) {
					err = fmt.Errorf("process %d has %d threads, want %d and what the runtime needs", pid, len(tasks), threadsHeld)
				}
				return err
			})
		},
		Clear: func(w *at.World) error { return workertest.AwaitNone(w, Name) },
	}
}

// That the kernel ends a worker whatever becomes of us is tried at length by cpu, memory, disk and io. Here are the checks that depend on
// what a worker holds.
func TestThreadsHoldTheContract(t *testing.T) {
	for name, check := range map[string]func(*at.World, at.Subject, string) error{
		"RevertsAtDeadline": at.RevertsAtDeadline, "EndsAtDeadlineWhileStopped": at.EndsAtDeadlineWhileStopped,
		"FrozenAltogether": workertest.FrozenAltogether(Name), "KilledOutright": workertest.KilledOutright,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := check(at.NewWorld(t), threadSubject(t), ""); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("catches "+hoard.BugFew, func(t *testing.T) {
		t.Parallel()
		easy := threadSubject(t)
		easy.Felt = func(*at.World) error { return nil }
		at.Catches(t, at.RevertsAtDeadline, easy, hoard.BugFew)
	})
}

func plan(flags attack.Values, facts attack.Facts) (attack.Plan, error) {
	order, err := Kind{}.Order(flags)
	if err != nil {
		return attack.Plan{}, err
	}
	facts.GUID, facts.Host = at.GUID, "blue"
	return order.Plan(facts)
}

func inGroup(who ...procs.Process) attack.Facts {
	facts := attack.Facts{Group: attack.Group{Group: cgroups.Group{Name: "/a", Directory: "/sys/fs/cgroup/a"}, Tasks: 3}}
	for _, p := range who {
		facts.Group.Processes = append(facts.Group.Processes, p.PID)
	}
	facts.Processes = append(who, procs.Process{ID: procs.ID{PID: 1}, Name: "init", Protected: "it is process 1"})
	return facts
}

func TestControlIsNeverInANarrowedGroup(t *testing.T) {
	api := procs.Process{ID: procs.ID{PID: 7}, Name: "api"}
	sshd := procs.Process{ID: procs.ID{PID: 8}, Name: "sshd", Protected: "it is sshd", Consent: true}
	flags := attack.Values{"cgroup": {"/a"}}
	if got, err := plan(flags, inGroup(api)); err != nil || got.Remains() != attack.RemainsUntilStart {
		t.Errorf("%v, %v", got, err)
	}
	for _, facts := range []attack.Facts{inGroup(api, sshd), inGroup()} {
		facts.Consent = true
		if got, err := plan(flags, facts); drill.KindOf(err) != drill.Refused || drill.HintOf(err) == "" {
			t.Errorf("%v, %v; want it refused with a cure", got, err)
		}
	}
}

func TestReserveIsNeverTaken(t *testing.T) {
	for _, test := range []struct {
		amount string
		room   attack.Room
		fits   bool
	}{
		{"388", attack.Room{Used: 100, Max: 1000}, true}, // 512 are kept at least
		{"389", attack.Room{Used: 100, Max: 1000}, false},
		{"94000", attack.Room{Used: 1000, Max: 100000}, true},
		{"94001", attack.Room{Used: 1000, Max: 100000}, false},
		{"1", attack.Room{Used: 100, Max: 200}, false},
	} {
		_, err := plan(attack.Values{"amount": {test.amount}}, attack.Facts{Room: test.room})
		if fits := err == nil; fits != test.fits || err != nil && drill.KindOf(err) != drill.Refused {
			t.Errorf("%s of %+v: got %v, want it admitted: %t", test.amount, test.room, err, test.fits)
		}
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for _, flags := range []attack.Values{{}, {"amount": {"0"}}, {"amount": {"x"}}, {"amount": {"4194305"}}, {"cgroup": {"/a"}, "amount": {"1"}}, {"cgroup": {"/a"}, "free": {"-1"}},
		{"amount": {"1"}, "free": {"1"}}, {"cgroup": {"/a"}, "length": {"0"}}, {"cgroup": {"/a"}, "group": {"x"}}} {
		if _, err := plan(flags, inGroup(procs.Process{ID: procs.ID{PID: 7}})); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%v: %v, want invalid", flags, err)
		}
	}
}

func TestPidIsDescribedAndDeterministic(t *testing.T) {
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
	if err := at.Deterministic(Kind{}, attack.Values{"cgroup": {"/a"}}, inGroup(procs.Process{ID: procs.ID{PID: 7}})); err != nil {
		t.Error(err)
	}
	if err := at.Deterministic(Kind{}, attack.Values{"amount": {"10"}}, attack.Facts{Room: attack.Room{Max: 100000}}); err != nil {
		t.Error(err)
	}
}
