package timetravel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/drill"
)

// envBug is what attacktest hands to the processes that it starts.
const envBug = "FIREDRILL_ATTACKTEST_CHILD"

// No test ever sets the clock of the machine: every Kind here has a simulated one.
func TestMain(m *testing.M) {
	if code, hidden := attack.Reexec([]attack.Kind{makeKind(os.Getenv(envBug), nil)}); hidden {
		os.Exit(code)
	}
	at.ChildMain(makeKind)
	os.Exit(m.Run())
}

func makeKind(bug string, mark func(string)) attack.Kind {
	return Kind{hooks: hooks{clock: simulated(clockFile), mark: mark, byStep: bug == "by step", late: bug == "late"}}
}

// clockFile is the clock of a host of its own: how far it is from the machine's, in nanoseconds.
const clockFile = at.StateRoot + "/clock"

// simulated is a clock in a file, which all processes of a test see. Like the real one it stays as it was set when they die.
type simulated string

func (s simulated) skew() (time.Duration, error) {
	text, err := os.ReadFile(string(s))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	nanos, err := strconv.ParseInt(string(text), 10, 64)
	return time.Duration(nanos), err
}

func (s simulated) shift(by time.Duration) error {
	now, err := s.skew()
	if err != nil {
		return err
	}
	fresh := fmt.Sprintf("%s.%d", s, os.Getpid())
	return errors.Join(os.WriteFile(fresh, strconv.AppendInt(nil, int64(now+by), 10), 0o600), os.Rename(fresh, string(s)))
}

func (simulated) check() error { return nil }

func subject(limit time.Duration) at.Subject {
	clock := simulated(clockFile)
	return at.Subject{
		Args: []string{"--offset=-3600"},
		Felt: func(*at.World) error {
			if now, err := clock.skew(); err != nil || now > -time.Hour {
				return fmt.Errorf("the clock is off by %s (%w), want an hour back", now, errors.Join(err, errors.New("not felt")))
			}
			return nil
		},
		Clear: func(*at.World) error {
			return at.Settled(limit, func() error {
				now, err := clock.skew()
				if err == nil && now != 0 {
					err = fmt.Errorf("the clock is off by %s", now)
				}
				return err
			})
		},
		Guarded: true,
	}
}

func TestTimeTravelHoldsTheContractOnASimulatedClock(t *testing.T) {
	at.RunAlone(t, func(*testing.T) at.Subject { return subject(at.Patience()) }, nil)
}

func TestContractCatchesPlantedBugs(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	at.Catches(t, at.LeavesNothingWhenKilledAnywhere, subject(at.Moment), "late")
}

// undone checks that undoing twice, and after somebody else has corrected the clock, leaves it right.
func undone(t *testing.T, bug bool) error {
	t.Helper()
	clock := simulated(filepath.Join(t.TempDir(), "clock"))
	kind := Kind{hooks: hooks{clock: clock, byStep: bug}}
	record, err := json.Marshal(undo{Base: 0, Offset: time.Hour})
	if err != nil {
		return err
	}
	change := attack.Change{Undo: record}
	for _, start := range []time.Duration{time.Hour, 0, 3 * time.Second} { // made, not made yet, corrected by somebody
		now, err := clock.skew()
		if err == nil {
			err = clock.shift(start - now)
		}
		for range 2 {
			err = errors.Join(err, kind.Undo(context.Background(), change, nil))
		}
		if now, err2 := clock.skew(); err != nil || err2 != nil || now != 0 {
			return fmt.Errorf("from %s the clock comes back to %s: %w", start, now, errors.Join(err, err2, errors.New("not as before")))
		}
	}
	return nil
}

func TestUndoAimsAtTheTimeAndNotAtAStep(t *testing.T) {
	if err := undone(t, false); err != nil {
		t.Error(err)
	}
	err := undone(t, true)
	if err == nil {
		t.Error("the planted bug of undoing by a step was not caught")
	}
	t.Logf("caught: %v", err)
}

func TestKernelClockIsReadToTheMicrosecond(t *testing.T) {
	first, err := kernel{}.skew()
	if err != nil {
		t.Fatal(err)
	}
	second, err := kernel{}.skew()
	if err != nil {
		t.Fatal(err)
	}
	if off := second - first; max(off, -off) > exact {
		t.Errorf("two readings differ by %s: a return could not be exact", off)
	}
}

// In a user namespace the kernel refuses: that must be known before anything is written or changed.
func TestWithoutTheRightItRefuses(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	err := Kind{}.Check(context.Background())
	if drill.KindOf(err) != drill.Unsupported || drill.HintOf(err) == "" {
		t.Errorf("%v, want unsupported with a cure", err)
	}
	// The kernel itself refuses here too, so a shift of nothing is safe to ask for.
	if err := (kernel{}).shift(0); drill.KindOf(err) != drill.Unsupported {
		t.Errorf("the kernel says %v, want a refusal", err)
	}
}

func TestOffsetIsSecondsOrADurationEitherWay(t *testing.T) {
	for text, want := range map[string]time.Duration{"86400": 24 * time.Hour, "-3600": -time.Hour, "36h": 36 * time.Hour, "-1m30s": -90 * time.Second, "1": time.Second} {
		if got, err := parseOffset(text); err != nil || got != want {
			t.Errorf("%q is %v (%v), want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "0s", "500ms", "-500ms", "soon", "400000000", "-90000h"} {
		if got, err := parseOffset(text); err == nil {
			t.Errorf("%q is %v, want an error", text, got)
		}
	}
}

func TestNTPIsCutOnlyWhenAskedFor(t *testing.T) {
	for _, ntp := range []string{"false", "true"} {
		order, err := (Kind{}).Order(attack.Values{"ntp": {ntp}})
		if err != nil {
			t.Fatal(err)
		}
		plan, err := order.Plan(attack.Facts{GUID: at.GUID, Host: "blue"})
		if err != nil {
			t.Fatal(err)
		}
		if cut := strings.Contains(plan.String(), "123"); cut != (ntp == "true") {
			t.Errorf("ntp=%s: the plan is\n%s", ntp, plan)
		}
		if plan.Remains() != attack.RemainsUntilStart {
			t.Errorf("ntp=%s: %s remains", ntp, plan.Remains())
		}
	}
}

func TestTimeTravelIsDescribedAndDeterministic(t *testing.T) {
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
	if err := at.Deterministic(Kind{}, attack.Values{"offset": {"-60"}, "ntp": {"true"}}, attack.Facts{GUID: at.GUID, Host: "blue"}); err != nil {
		t.Error(err)
	}
}
