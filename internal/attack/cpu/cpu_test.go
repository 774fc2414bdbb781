package cpu

import (
	"fmt"
	"os"
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

// asked is the share that tests ask for: so little that a core has it to give while other tests run.
const asked = 20

func subject(*testing.T) at.Subject {
	return at.Subject{
		Args:  []string{"--cores=1", fmt.Sprintf("--percent=%d", asked)},
		Felt:  func(w *at.World) error { return workertest.Await(w, Name, burns) },
		Clear: func(w *at.World) error { return workertest.AwaitNone(w, Name) },
	}
}

// burns checks by the kernel's accounts, read from outside, that the worker takes a good part of what was asked.
func burns(pid int) error {
	share, err := workertest.Share(pid)
	if err != nil {
		return err
	}
	// The machine that tests run on is busy, and a window is short: only a share that is far off is wrong.
	if share < asked-15 || share > asked+15 {
		return fmt.Errorf("process %d takes %.0f %% of a core, want %d", pid, share, asked)
	}
	return nil
}

func TestCPUHoldsTheContract(t *testing.T) { workertest.Contract(t, subject) }

func TestWorkerEndsAlone(t *testing.T) { workertest.Run(t, subject, Name) }

func TestWorksInAUserNamespace(t *testing.T) {
	workertest.InUserNamespace(t, "^(TestCPUHoldsTheContract|TestWorkerEndsAlone)$/^(RevertsAtDeadline|EndsAtDeadlineWhileStopped|KilledOutright|FrozenAltogether)$", 4)
}

func TestContractCatchesPlantedBugs(t *testing.T) {
	workertest.CatchesPlantedBugs(t, subject, Name)
	t.Run("never bites", func(t *testing.T) {
		t.Parallel()
		at.Catches(t, at.RevertsAtDeadline, subject(t), bugIdle)
	})
}

func plan(t *testing.T, flags attack.Values, cores ...int) (attack.Plan, error) {
	t.Helper()
	order, err := Kind{}.Order(flags)
	if err != nil {
		return attack.Plan{}, err
	}
	return order.Plan(attack.Facts{GUID: at.GUID, Host: "green", Cores: cores})
}

func TestPlanTakesTheFirstCoresThatWeMayUse(t *testing.T) {
	got, err := plan(t, attack.Values{"cores": {"2"}, "percent": {"12.5"}}, 3, 5, 7)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"take 12.5 % of core 3", "take 12.5 % of core 5"}
	if lines := got.Lines(); strings.Join(lines, "\n") != strings.Join(want, "\n") || got.Remains() != attack.RemainsNothing {
		t.Errorf("plan says %q and leaves %s, want %q and nothing", lines, got.Remains(), want)
	}
	if err := at.Deterministic(Kind{}, attack.Values{"cores": {"2"}}, attack.Facts{Cores: []int{0, 1}}); err != nil {
		t.Error(err)
	}
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
}

func TestMoreCoresThanThereAreAreRefusedWithTheNumber(t *testing.T) {
	_, err := plan(t, attack.Values{"cores": {"3"}}, 0, 1)
	if drill.KindOf(err) != drill.Invalid || !strings.Contains(err.Error(), "2") || !strings.Contains(drill.HintOf(err), "--cores 2") {
		t.Errorf("got %v (%s), want invalid with the number 2", err, drill.HintOf(err))
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for _, flags := range []attack.Values{{"cores": {"0"}}, {"cores": {"x"}}, {"cores": {"1.5"}}, {"percent": {"0"}}, {"percent": {"101"}},
		{"percent": {"NaN"}}, {"percent": {"-5"}}, {"length": {"0"}}, {"core": {"1"}}, {"cores": {"1", "2"}}} {
		if _, err := plan(t, flags, 0, 1); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%v: got %v, want it refused as invalid", flags, err)
		}
	}
}

func TestStatTimeReadsNamesWithBrackets(t *testing.T) {
	got, err := statTime("12 (a) b) S 1 1 1 0 -1 4194560 9 0 0 0 7 5 0 0 20 0 1 0 100 0 0")
	if err != nil || got != 12*tick {
		t.Errorf("got %v, %v; want %v", got, err, 12*tick)
	}
	for _, torn := range []string{"", "12 (a", "12 (a) S 1", "12 (a) S 1 1 1 0 -1 4194560 9 0 0 0 x 5"} {
		if got, err := statTime(torn); err == nil {
			t.Errorf("%q: got %v, want an error", torn, got)
		}
	}
}

func TestBitOnlyWhenTheShareIsNearWhatWasAsked(t *testing.T) {
	for held, want := range map[int]bool{0: false, 10: false, 30: true, 50: true} {
		m := meter{asked: 50, threads: []pinned{{Core: 0, Thread: 1}}, first: []time.Duration{0}}
		m.last, m.read = []time.Duration{time.Duration(held) * time.Second / 100}, m.began.Add(time.Second)
		if bit, figures := m.Evidence(); bit != want || len(figures) != 1 {
			t.Errorf("%d %% held of 50: bit %t with %q, want %t", held, bit, figures, want)
		}
	}
	if bit, _ := (&meter{asked: 50}).Evidence(); bit {
		t.Error("without a reading it bit")
	}
}
