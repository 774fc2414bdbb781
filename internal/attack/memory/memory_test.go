package memory

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/worker"
	"firedrill/internal/attack/worker/workertest"
	"firedrill/internal/drill"
)

func TestMain(m *testing.M) {
	if code, ours := worker.Main(os.Args, map[string]worker.Job{Name: Job}); ours {
		os.Exit(code)
	}
	at.ChildMain(func(bug string, step func(string)) attack.Kind {
		return Kind{hooks: worker.Hooks{Step: step, Bug: strings.TrimPrefix(bug, "-")}}
	})
	os.Exit(m.Run())
}

// amount is small: many tests run at the same time.
const amount = 64

func subject(*testing.T) at.Subject {
	return at.Subject{
		Args:  []string{fmt.Sprintf("--megabytes=%d", amount)},
		Felt:  func(w *at.World) error { return workertest.Await(w, Name, holds) },
		Clear: func(w *at.World) error { return workertest.AwaitNone(w, Name) },
	}
}

// holds checks from outside that the worker has the amount in memory, and is the first that the kernel would kill for memory.
func holds(pid int) error {
	resident, err := anonymous(pid)
	if err != nil {
		return err
	}
	if resident < amount*mega || resident > (amount+16)*mega {
		return fmt.Errorf("process %d has %s in memory, want %d and what the runtime needs", pid, megabytes(resident), amount)
	}
	score, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid))
	if err == nil && strings.TrimSpace(string(score)) != "1000" {
		err = fmt.Errorf("the score of process %d is %s, want 1000", pid, score)
	}
	return err
}

func TestMemoryHoldsTheContract(t *testing.T) { workertest.Contract(t, subject) }

func TestWorkerEndsAlone(t *testing.T) { workertest.Run(t, subject, Name) }

func TestWorksInAUserNamespace(t *testing.T) {
	workertest.InUserNamespace(t, "^(TestMemoryHoldsTheContract|TestWorkerEndsAlone)$/^(RevertsAtDeadline|EndsAtDeadlineWhileStopped|KilledOutright|FrozenAltogether)$", 4)
}

func TestContractCatchesPlantedBugs(t *testing.T) {
	workertest.CatchesPlantedBugs(t, subject, Name)
	t.Run("never bites", func(t *testing.T) {
		t.Parallel()
		easy := subject(t)
		easy.Felt = func(*at.World) error { return nil }
		at.Catches(t, at.RevertsAtDeadline, easy, bugSmall)
	})
}

func plan(flags attack.Values, available uint64) (attack.Plan, error) {
	order, err := Kind{}.Order(flags)
	if err != nil {
		return attack.Plan{}, err
	}
	return order.Plan(attack.Facts{GUID: at.GUID, Host: "green", Memory: available})
}

func TestPlanSaysAmountAndReserve(t *testing.T) {
	for _, test := range []struct {
		flags attack.Values
		want  string
	}{
		{nil, "hold 512.0 MB of memory, of 10240.0 MB available; keep 512.0 MB free"},
		{attack.Values{"megabytes": {"100"}}, "hold 100.0 MB of memory, of 10240.0 MB available; keep 512.0 MB free"},
		{attack.Values{"gigabytes": {"1.5"}, "reserve": {"10"}}, "hold 1536.0 MB of memory, of 10240.0 MB available; keep 10.0 MB free"},
		{attack.Values{"percent": {"20"}}, "hold 2048.0 MB of memory, of 10240.0 MB available; keep 512.0 MB free"},
	} {
		got, err := plan(test.flags, 10*giga)
		if err != nil || strings.Join(got.Lines(), "\n") != test.want || got.Remains() != attack.RemainsNothing {
			t.Errorf("%v: plan says %q (%v) and leaves %s, want %q and nothing", test.flags, got.Lines(), err, got.Remains(), test.want)
		}
	}
	if err := at.Deterministic(Kind{}, nil, attack.Facts{Memory: 10 * giga}); err != nil {
		t.Error(err)
	}
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
}

func TestReserveIsNeverTaken(t *testing.T) {
	for _, test := range []struct {
		flags     attack.Values
		available uint64
		fits      bool
	}{
		{attack.Values{"megabytes": {"936"}}, 1000 * mega, true}, // 64 are kept at least
		{attack.Values{"megabytes": {"937"}}, 1000 * mega, false},
		{attack.Values{"percent": {"95"}}, 10 * giga, true},
		{attack.Values{"percent": {"96"}}, 10 * giga, false},
		{attack.Values{"megabytes": {"990"}, "reserve": {"10"}}, 1000 * mega, true},
		{attack.Values{"megabytes": {"991"}, "reserve": {"10"}}, 1000 * mega, false},
		{attack.Values{"megabytes": {"1"}}, 10 * mega, false},
		{attack.Values{"gigabytes": {"1000000"}}, 10 * giga, false},
	} {
		_, err := plan(test.flags, test.available)
		if fits := err == nil; fits != test.fits || (err != nil && drill.KindOf(err) != drill.Refused) {
			t.Errorf("%v of %s: got %v, want it admitted: %t", test.flags, megabytes(test.available), err, test.fits)
		}
	}
}

// What was available at the start may be gone when the worker takes it.
func TestWorkerRefusesWhatWouldTakeTheReserve(t *testing.T) {
	planned, err := plan(attack.Values{"megabytes": {"64"}, "reserve": {"4000000000"}}, 1<<60)
	if err != nil {
		t.Fatal(err)
	}
	step := planned.Steps[0]
	deadline := time.Now().Add(time.Minute)
	if err := step.Apply(context.Background(), deadline); drill.KindOf(err) != drill.Refused || drill.HintOf(err) == "" {
		t.Errorf("got %v, want it refused with a cure", err)
	}
	for range 2 {
		if err := step.Revert(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for _, flags := range []attack.Values{{"megabytes": {"0"}}, {"megabytes": {"1.5"}}, {"megabytes": {"-1"}}, {"gigabytes": {"0"}}, {"gigabytes": {"NaN"}},
		{"gigabytes": {"+Inf"}}, {"percent": {"0"}}, {"percent": {"101"}}, {"reserve": {"x"}}, {"length": {"0"}}, {"kilobytes": {"1"}},
		{"megabytes": {"1"}, "gigabytes": {"1"}}, {"percent": {"1"}, "gigabytes": {"1"}}} {
		if _, err := plan(flags, 10*giga); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%v: got %v, want it refused as invalid", flags, err)
		}
	}
}

// tree writes files below a root of its own.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const (
	meminfo = "MemTotal: 2097152 kB\nMemFree: 1 kB\nMemAvailable: 1048576 kB\n"
	mountV2 = "30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
	mountV1 = "29 20 0:25 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n30 20 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
)

func TestAvailableIsTheLeastOfHostAndGroups(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  uint64
	}{
		"no groups": {map[string]string{}, giga},
		"version 2, limit above": {map[string]string{"proc/self/cgroup": "0::/a/b\n", "proc/self/mountinfo": mountV2,
			"sys/fs/cgroup/a/memory.max": "500\n", "sys/fs/cgroup/a/memory.current": "300\n", "sys/fs/cgroup/a/memory.stat": "anon 1\ninactive_file 50\n",
			"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/b/memory.current": "100\n"}, 250},
		"version 2, high below max": {map[string]string{"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": mountV2,
			"sys/fs/cgroup/a/memory.max": "500\n", "sys/fs/cgroup/a/memory.high": "400\n", "sys/fs/cgroup/a/memory.current": "300\n"}, 100},
		"version 2, above its limit": {map[string]string{"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": mountV2,
			"sys/fs/cgroup/a/memory.high": "200\n", "sys/fs/cgroup/a/memory.current": "300\n"}, 0},
		"version 2, limit beyond the host": {map[string]string{"proc/self/cgroup": "0::/a\n", "proc/self/mountinfo": mountV2,
			"sys/fs/cgroup/a/memory.max": "9999999999\n", "sys/fs/cgroup/a/memory.current": "300\n"}, giga},
		"version 1": {map[string]string{"proc/self/cgroup": "3:cpu:/x\n4:memory:/a\n0::/\n", "proc/self/mountinfo": mountV1,
			"sys/fs/cgroup/memory/a/memory.limit_in_bytes": "500\n", "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "300\n",
			"sys/fs/cgroup/memory/a/memory.stat": "inactive_file 1\ntotal_inactive_file 100\n"}, 300},
		"version 1, part of the hierarchy": {map[string]string{"proc/self/cgroup": "4:memory:/docker/x\n",
			"proc/self/mountinfo":                        "30 20 0:26 /docker/x /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "500\n", "sys/fs/cgroup/memory/memory.usage_in_bytes": "300\n"}, 200},
		"torn files": {map[string]string{"proc/self/cgroup": "x\n0::/../..\n4:memory\n", "proc/self/mountinfo": "1 2 3\n" + mountV2}, giga},
	} {
		t.Run(name, func(t *testing.T) {
			test.files["proc/meminfo"] = meminfo
			if got, err := available(tree(t, test.files)); err != nil || got != test.want {
				t.Errorf("got %d, %v; want %d", got, err, test.want)
			}
		})
	}
}

func TestAvailableIsAnErrorWhenTheHostDoesNotSay(t *testing.T) {
	for _, files := range []map[string]string{{}, {"proc/meminfo": "MemTotal: 5 kB\n"}, {"proc/meminfo": "MemAvailable: x kB\n"}} {
		if got, err := available(tree(t, files)); err == nil {
			t.Errorf("%v: got %d, want an error", files, got)
		}
	}
}
