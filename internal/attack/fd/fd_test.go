package fd

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
	"firedrill/internal/attack/hoard"
	"firedrill/internal/attack/procs"
	"firedrill/internal/attack/worker"
	"firedrill/internal/attack/worker/workertest"
	"firedrill/internal/drill"
)

const (
	// envBug is what attacktest hands to the processes that it starts.
	envBug = "FIREDRILL_ATTACKTEST_CHILD"
	// envVictim makes this test binary a process that opens a file again and again, and tells in the file named here whether it could.
	envVictim = "FIREDRILL_FD_TEST_VICTIM"
)

func TestMain(m *testing.M) {
	if path, ok := os.LookupEnv(envVictim); ok {
		os.Exit(opener(path))
	}
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
		hooks: hooks{mark: mark, late: bug == "late", forgetful: bug == "forgetful", boast: bug == "boast", childless: bug == "childless"}}
}

// opener is the process under attack.
func opener(path string) int {
	state, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return 1
	}
	for {
		said := "n"
		if fd, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
			_ = unix.Close(fd)
			said = "y"
		}
		if _, err := state.WriteAt([]byte(said), 0); err != nil {
			return 1
		}
		<-time.After(2 * time.Millisecond)
	}
}

// victim is a process that opens files.
type victim struct {
	procs.Process
	state string
	was   uint64
}

func newVictim(t *testing.T) victim {
	t.Helper()
	at.Require(t)
	v := victim{state: filepath.Join(t.TempDir(), "state")}
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), envVictim+"="+v.state)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	if err := at.Await(v.opens); err != nil {
		t.Fatal(err)
	}
	var err error
	if v.Process, err = procs.Stat(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	now, err := limits(v.ID)
	if err != nil {
		t.Fatal(err)
	}
	// Not what it was born with, so that what is put back can be told from that.
	v.was = now.Cur - 3
	if err := setSoft(v.ID, v.was); err != nil {
		t.Fatal(err)
	}
	return v
}

func (v victim) says(want string) error {
	text, err := os.ReadFile(v.state)
	if err == nil && string(text) != want {
		err = fmt.Errorf("whether %s can open a file: %q, want %q", v.Process, text, want)
	}
	return err
}

func (v victim) opens() error { return v.says("y") }

// clear waits until it can open files, its limit is what it was, and no journal is left.
func (v victim) clear(limit time.Duration) error {
	return at.Settled(limit, func() error {
		if err := v.opens(); err != nil {
			return err
		}
		now, err := limits(v.ID)
		if err == nil && now.Cur != v.was {
			err = fmt.Errorf("the limit is %d, want %d", now.Cur, v.was)
		}
		return err
	})
}

func (v victim) full() error { return at.Await(func() error { return v.says("n") }) }

func (v victim) subject(limit time.Duration) at.Subject {
	return at.Subject{
		Args:    []string{fmt.Sprintf("--process=%d", v.PID)},
		Felt:    func(*at.World) error { return v.full() },
		Clear:   func(*at.World) error { return v.clear(limit) },
		Guarded: true,
	}
}

func TestNarrowedProcessHoldsTheContract(t *testing.T) {
	t.Parallel()
	at.RunAlone(t, func(t *testing.T) at.Subject { return newVictim(t).subject(at.Patience()) }, nil)
}

// inForce starts an attack and waits until it is felt.
func (v victim) inForce(t *testing.T, bug string, args ...string) *at.Attack {
	t.Helper()
	a, err := at.NewWorld(t).Start(at.Spec{Bug: bug, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	if _, err := a.AwaitInForce(); err != nil {
		t.Fatal(err, a.Stderr())
	}
	if err := v.full(); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestContractCatchesBugsOfTheNarrowedProcess(t *testing.T) {
	t.Parallel()
	if !at.Alone(t) {
		return
	}
	for bug, check := range map[string]func(*at.World, at.Subject, string) error{"late": at.LeavesNothingWhenKilledAnywhere, "boast": at.RevertsAtDeadline} {
		s := newVictim(t).subject(at.Moment)
		if bug == "boast" {
			s.Felt = func(*at.World) error { return nil }
		}
		at.Catches(t, check, s, bug)
	}
}

// asked checks that undo leaves what another attack holds to that one.
func asked(kind Kind, v victim) error {
	if err := setSoft(v.ID, 4); err != nil {
		return err
	}
	change := attack.Change{Undo: []byte(fmt.Sprintf(`{"id":{"pid":%d,"start":%d},"was":%d,"since":%d}`, v.PID, v.Start, v.was, uint64(1)<<60))}
	if err := kind.Undo(context.Background(), change, []attack.Change{change}); err != nil {
		return err
	}
	if now, err := limits(v.ID); err != nil || now.Cur != 4 {
		return fmt.Errorf("the limit is %d (%w), and another attack holds it at 4", now.Cur, err)
	}
	if err := kind.Undo(context.Background(), change, nil); err != nil {
		return err
	}
	if now, err := limits(v.ID); err != nil || now.Cur != v.was {
		return fmt.Errorf("the limit is %d (%w), want %d", now.Cur, err, v.was)
	}
	return nil
}

func TestTheLastAttackPutsTheLimitBack(t *testing.T) {
	t.Parallel()
	v := newVictim(t)
	if err := asked(Kind{}, v); err != nil {
		t.Error(err)
	}
	err := asked(Kind{hooks: hooks{forgetful: true}}, v)
	if err == nil {
		t.Error("the planted bug of forgetting others was not caught")
	}
	t.Logf("caught: %v", err)
}

// inherits checks that a child which inherited the limit is put right too, though nobody wrote it down. A child that is started from the
// narrowed process cannot be had here without descriptors, so it is one that was narrowed and is in the same session.
func inherits(t *testing.T, kind Kind) error {
	t.Helper()
	v := newVictim(t)
	since, err := ticks()
	if err != nil {
		t.Fatal(err)
	}
	session, err := unix.Getsid(v.PID)
	if err != nil {
		t.Fatal(err)
	}
	now, err := limits(v.ID)
	if err != nil {
		t.Fatal(err)
	}
	child := newVictim(t)
	stranger := newVictim(t)
	if err := errors.Join(setSoft(v.ID, 5), setSoft(child.ID, 5), setSoft(stranger.ID, v.was+1)); err != nil {
		t.Fatal(err)
	}
	change := attack.Change{Undo: []byte(fmt.Sprintf(`{"id":{"pid":%d,"start":%d},"was":%d,"hard":%d,"session":%d,"since":%d}`, v.PID, v.Start, v.was, now.Max, session, since))}
	if err := kind.Undo(context.Background(), change, nil); err != nil {
		return err
	}
	for _, want := range []struct {
		victim
		limit uint64
	}{{v, v.was}, {child, v.was}, {stranger, v.was + 1}} {
		if now, err := limits(want.ID); err != nil || now.Cur != want.limit {
			return fmt.Errorf("the limit of %s is %d (%w), want %d", want.Process, now.Cur, err, want.limit)
		}
	}
	return nil
}

func TestChildrenDoNotKeepTheLimit(t *testing.T) {
	t.Parallel()
	if !at.Alone(t) {
		return
	}
	if err := inherits(t, Kind{}); err != nil {
		t.Error(err)
	}
	err := inherits(t, Kind{hooks: hooks{childless: true}})
	if err == nil {
		t.Error("the planted bug of forgetting children was not caught")
	}
	t.Logf("caught: %v", err)
}

func TestDescriptorsThatBecomeFreeAreTakenToo(t *testing.T) {
	t.Parallel()
	if !at.Alone(t) {
		return
	}
	v := newVictim(t)
	a := v.inForce(t, "", "--length=60", fmt.Sprintf("--process=%d", v.PID))
	// Somebody raises it.
	if err := errors.Join(setSoft(v.ID, v.was), at.Await(v.opens), v.full()); err != nil {
		t.Error(err)
	}
	_ = a.Signal(unix.SIGTERM)
	if code, account := a.Wait(); code != 143 || account == nil || !account.Bit || !strings.Contains(strings.Join(account.Evidence, "; "), "lowered again") {
		t.Errorf("exit code %d, account %+v", code, account)
	}
	if err := v.clear(at.Patience()); err != nil {
		t.Error(err)
	}
}

func TestAGroupIsNarrowedAsAWhole(t *testing.T) {
	t.Parallel()
	if !at.Alone(t) {
		return
	}
	first, second, other := newVictim(t), newVictim(t), newVictim(t)
	top := "/sys/fs/cgroup/pids"
	if _, err := os.Stat(top); err != nil {
		top = "/sys/fs/cgroup"
	}
	directory, err := os.MkdirTemp(top, "firedrill-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.Remove(directory) })
	for _, v := range []victim{first, second} {
		if err := os.WriteFile(filepath.Join(directory, "cgroup.procs"), []byte(strconv.Itoa(v.PID)), 0); err != nil {
			t.Fatal(err)
		}
	}
	a := first.inForce(t, "", "--length=60", "--cgroup="+directory)
	if err := errors.Join(second.full(), other.opens()); err != nil {
		t.Error(err)
	}
	_ = a.Signal(unix.SIGTERM)
	a.Wait()
	for _, v := range []victim{first, second} {
		if err := v.clear(at.Patience()); err != nil {
			t.Error(err)
		}
		if err := os.WriteFile(filepath.Join(filepath.Dir(directory), "cgroup.procs"), []byte(strconv.Itoa(v.PID)), 0); err != nil {
			t.Error(err)
		}
	}
}

func TestLowestLeavesWhatIsAskedFree(t *testing.T) {
	for _, test := range []struct {
		open []int
		free int
		want uint64
	}{
		{nil, 0, 0}, {nil, 2, 2}, {[]int{0, 1, 2}, 0, 3}, {[]int{0, 1, 2}, 2, 5}, {[]int{0, 1, 2, 7}, 0, 3}, {[]int{0, 1, 2, 7}, 3, 6}, {[]int{0, 1, 2, 7}, 4, 8},
		{[]int{0, 1, 2, 7}, 5, 9}, {[]int{1}, 0, 0}, {[]int{1}, 1, 2},
	} {
		got := lowest(test.open, test.free)
		// The oracle counts.
		free := 0
		for number := range int(got) {
			taken := false
			for _, open := range test.open {
				taken = taken || open == number
			}
			if !taken {
				free++
			}
		}
		if free != test.free {
			t.Errorf("%v: below %d are %d free, want %d", test.open, got, free, test.free)
		}
	}
}

// filesHeld is small against what a machine has.
const filesHeld = 5000

func fileSubject(*testing.T) at.Subject {
	return at.Subject{
		Args: []string{fmt.Sprintf("--amount=%d", filesHeld)},
		Felt: func(w *at.World) error {
			return workertest.Await(w, Name, func(pid int) error {
				open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
				if err == nil && (len(open) < filesHeld || len(open) > filesHeld+runtimeOwn) {
					err = fmt.Errorf("process %d has %d files, want %d and what the runtime needs", pid, len(open), filesHeld)
				}
				return err
			})
		},
		Clear: func(w *at.World) error { return workertest.AwaitNone(w, Name) },
	}
}

// That the kernel ends a worker whatever becomes of us is tried at length by cpu, memory, disk and io. Here are the checks that depend on
// what a worker holds.
func TestOpenFilesHoldTheContract(t *testing.T) {
	for name, check := range map[string]func(*at.World, at.Subject, string) error{
		"RevertsAtDeadline": at.RevertsAtDeadline, "EndsAtDeadlineWhileStopped": at.EndsAtDeadlineWhileStopped,
		"FrozenAltogether": workertest.FrozenAltogether(Name), "KilledOutright": workertest.KilledOutright,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := check(at.NewWorld(t), fileSubject(t), ""); err != nil {
				t.Error(err)
			}
		})
	}
	t.Run("catches "+hoard.BugFew, func(t *testing.T) {
		t.Parallel()
		easy := fileSubject(t)
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

func TestReserveIsNeverTaken(t *testing.T) {
	for _, test := range []struct {
		amount string
		room   attack.Room
		fits   bool
	}{
		{"1708", attack.Room{Used: 100, Max: 10000}, true}, // 8192 are kept at least
		{"1709", attack.Room{Used: 100, Max: 10000}, false},
		{"949000", attack.Room{Used: 1000, Max: 1000000}, true},
		{"949001", attack.Room{Used: 1000, Max: 1000000}, false},
		{"1000000", attack.Room{Used: 1000, Max: 1<<63 - 1}, true},
		{"1", attack.Room{Used: 100, Max: 200}, false},
	} {
		_, err := plan(attack.Values{"amount": {test.amount}}, attack.Facts{Room: test.room})
		if fits := err == nil; fits != test.fits || err != nil && drill.KindOf(err) != drill.Refused {
			t.Errorf("%s of %+v: got %v, want it admitted: %t", test.amount, test.room, err, test.fits)
		}
	}
}

func TestControlIsNeverNarrowed(t *testing.T) {
	facts := attack.Facts{Consent: true, Group: attack.Group{Processes: []int{7, 8}}, Processes: []procs.Process{
		{ID: procs.ID{PID: 7}, Name: "api"}, {ID: procs.ID{PID: 8}, Name: "sshd", Protected: "it is sshd", Consent: true},
	}}
	for _, flags := range []attack.Values{{"process": {"sshd"}}, {"cgroup": {"/a"}}} {
		if got, err := plan(flags, facts); drill.KindOf(err) != drill.Refused || drill.HintOf(err) == "" {
			t.Errorf("%v: %v, %v; want it refused with a cure", flags, got, err)
		}
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for _, flags := range []attack.Values{{}, {"amount": {"0"}}, {"amount": {"x"}}, {"amount": {"2000000"}}, {"process": {"a"}, "amount": {"1"}}, {"process": {"a"}, "cgroup": {"/a"}},
		{"process": {"a"}, "free": {"-1"}}, {"amount": {"1"}, "free": {"1"}}, {"process": {"a"}, "length": {"0"}}, {"process": {"("}}, {"process": {"a"}, "limit": {"1"}}} {
		if _, err := plan(flags, attack.Facts{}); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%v: %v, want invalid", flags, err)
		}
	}
}

func TestFdIsDescribedAndDeterministic(t *testing.T) {
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
	facts := attack.Facts{Processes: []procs.Process{{ID: procs.ID{PID: 7, Start: 1}, Name: "api"}}, Room: attack.Room{Max: 100000}}
	for _, flags := range []attack.Values{{"process": {"api"}, "free": {"2"}}, {"amount": {"10"}}} {
		if err := at.Deterministic(Kind{}, flags, facts); err != nil {
			t.Error(err)
		}
	}
}
