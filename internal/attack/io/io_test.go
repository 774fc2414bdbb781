package io

import (
	"errors"
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
	if code, inside := workertest.PrivateMounts(); !inside {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// of makes a subject for a mode, on a volume of its own.
func of(mode Mode) func(t *testing.T) at.Subject {
	return func(t *testing.T) at.Subject {
		directory := workertest.Tmpfs(t, 16)
		before, err := worker.Volume(directory)
		if err != nil {
			t.Fatal(err)
		}
		return at.Subject{
			Args: []string{"--dir=" + directory, "--mode=" + string(mode), "--workers=2", "--block-size=8", "--block-count=16"},
			Felt: func(w *at.World) error {
				return workertest.Await(w, Name, func(pid int) error { return moves(pid, mode) })
			},
			Clear: func(w *at.World) error {
				if err := workertest.AwaitNone(w, Name); err != nil {
					return err
				}
				return at.Await(func() error { return asBefore(directory, before) })
			},
		}
	}
}

// moves checks from outside that the worker reads and writes what its mode says, and nothing else.
func moves(pid int, mode Mode) error {
	first, err := countersOf(pid)
	if err != nil {
		return err
	}
	<-time.After(50 * time.Millisecond)
	last, err := countersOf(pid)
	if err != nil {
		return err
	}
	reads, writes := last.readCalls > first.readCalls, last.writeCalls > first.writeCalls
	if reads != (mode != Write) || writes != (mode != Read) {
		return fmt.Errorf("process %d reads: %t, writes: %t; its mode is %s", pid, reads, writes, mode)
	}
	return nil
}

func asBefore(directory string, before attack.Volume) error {
	now, err := worker.Volume(directory)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(directory)
	if err == nil && (now != before || len(entries) > 0) {
		err = fmt.Errorf("the volume is %+v and holds %v; it was %+v and empty", now, entries, before)
	}
	return err
}

func TestIOHoldsTheContract(t *testing.T) { workertest.Contract(t, of(ReadWrite)) }

func TestWorkerEndsAlone(t *testing.T) { workertest.Run(t, of(ReadWrite), Name) }

func TestWorksInAUserNamespace(t *testing.T) {
	workertest.InUserNamespace(t, "^(TestIOHoldsTheContract|TestWorkerEndsAlone)$/^(RevertsAtDeadline|EndsAtDeadlineWhileStopped|KilledOutright|FrozenAltogether)$", 4)
}

func TestContractCatchesPlantedBugs(t *testing.T) {
	workertest.CatchesPlantedBugs(t, of(ReadWrite), Name)
	t.Run(bugIdle, func(t *testing.T) {
		t.Parallel()
		easy := of(ReadWrite)(t)
		easy.Felt = func(*at.World) error { return nil }
		at.Catches(t, at.RevertsAtDeadline, easy, bugIdle)
	})
}

func TestEveryModeDoesWhatItSays(t *testing.T) {
	for _, mode := range []Mode{Read, Write} {
		for name, bug := range map[string]string{"past the cache": "", "through the cache": onlyCached} {
			t.Run(string(mode)+" "+name, func(t *testing.T) {
				t.Parallel()
				if err := at.RevertsAtDeadline(at.NewWorld(t), of(mode)(t), bug); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

func plan(flags attack.Values, available uint64) (attack.Plan, error) {
	order, err := Kind{}.Order(flags)
	if err != nil {
		return attack.Plan{}, err
	}
	return order.Plan(attack.Facts{GUID: at.GUID, Host: "green", Volume: attack.Volume{Directory: "/var", Block: 4096, Available: available}})
}

func TestPlanSaysWhatIsMoved(t *testing.T) {
	for _, test := range []struct {
		flags attack.Values
		want  string
	}{
		{nil, "write and read 1 x 4 KB over and over on the volume of /var, 1 at the same time"},
		{attack.Values{"mode": {"r"}, "workers": {"3"}, "block-size": {"64"}, "block-count": {"10"}}, "read 10 x 64 KB over and over on the volume of /var, 3 at the same time"},
	} {
		got, err := plan(test.flags, 100*mega)
		if err != nil || strings.Join(got.Lines(), "\n") != test.want || got.Remains() != attack.RemainsNothing {
			t.Errorf("%v: plan says %q (%v) and leaves %s, want %q and nothing", test.flags, got.Lines(), err, got.Remains(), test.want)
		}
	}
	if err := errors.Join(at.Deterministic(Kind{}, nil, attack.Facts{Volume: attack.Volume{Available: mega}}), at.Described(Kind{}.Describe())); err != nil {
		t.Error(err)
	}
}

func TestFilesThatWouldFillTheVolumeAreRefused(t *testing.T) {
	for count, want := range map[string]bool{"12800": true, "12900": false} { // of 4 KB: 50 MB and a little more
		_, err := plan(attack.Values{"block-count": {count}}, 100*mega)
		if admitted := err == nil; admitted != want || (err != nil && drill.KindOf(err) != drill.Refused) {
			t.Errorf("%s blocks of 100 MB: got %v, want it admitted: %t", count, err, want)
		}
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for _, flags := range []attack.Values{{"mode": {"x"}}, {"mode": {""}}, {"workers": {"0"}}, {"block-size": {"0"}}, {"block-size": {"4k"}}, {"block-count": {"-1"}},
		{"block-count": {"99999999999"}}, {"length": {"0"}}, {"size": {"1"}}} {
		if _, err := plan(flags, 100*mega); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%v: got %v, want it refused as invalid", flags, err)
		}
	}
}

func TestCountersAreReadWholeOrNotAtAll(t *testing.T) {
	const text = "rchar: 10\nwchar: 20\nsyscr: 1\nsyscw: 2\nread_bytes: 4096\nwrite_bytes: 8192\ncancelled_write_bytes: 0\n"
	want := counters{readCalls: 1, writeCalls: 2, readBytes: 10, writeBytes: 20, fromStorage: 4096, toStorage: 8192}
	if got, err := parseCounters(text); err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	for _, torn := range []string{"", text[:40], strings.Replace(text, "8192", "x", 1)} {
		if got, err := parseCounters(torn); err == nil {
			t.Errorf("%q: got %+v, want an error", torn, got)
		}
	}
}
