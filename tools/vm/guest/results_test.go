package guest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var blackhole = Run{Name: "internal/attack/blackhole"}

// told is what a machine prints that runs one suite; lines are of its tests.
func told(status string, lines ...string) string {
	all := append([]string{Boot("6.1.0"), Begin(blackhole)}, lines...)
	return strings.Join(append(all, End(blackhole, status), Done(), ""), "\r\n")
}

func read(t *testing.T, texts ...string) Results {
	t.Helper()
	var r Results
	for _, text := range texts {
		if err := r.Read(strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	r.Close()
	return r
}

func TestResultsAreWhatTheTestsSaid(t *testing.T) {
	r := read(t, told("exit status 1",
		frame+"=== RUN   TestA", frame+"    --- PASS: TestA/sub (0.10s)", frame+"--- FAIL: TestA (0.20s)", frame+"--- SKIP: TestB (0.00s)", frame+"--- PASS: TestC (0.00s)", "FAIL"))
	want := Results{
		Passed: []string{"internal/attack/blackhole TestA/sub", "internal/attack/blackhole TestC"}, Failed: []string{"internal/attack/blackhole TestA"},
		Skipped: []string{"internal/attack/blackhole TestB"}, Boots: []string{"6.1.0"}, Ended: true,
	}
	if diff := cmp.Diff([][]string{want.Passed, want.Failed, want.Skipped, want.Boots}, [][]string{r.Passed, r.Failed, r.Skipped, r.Boots}); diff != "" || !r.Ended {
		t.Error(diff)
	}
	if !strings.Contains(r.Output[blackhole.Name], "=== RUN   TestA\n") {
		t.Errorf("the output is %q", r.Output)
	}
}

// A test that runs a test prints lines that look like results; they lack the frame.
func TestResultsOfInnerTestsDoNotCount(t *testing.T) {
	r := read(t, told("", "    --- PASS: TestInner (0.00s)", "--- PASS: TestInner (0.00s)", frame+"--- PASS: TestA (0.00s)"))
	if len(r.Passed) != 1 || len(r.Failed) != 0 {
		t.Errorf("passed %v, failed %v; want TestA alone", r.Passed, r.Failed)
	}
}

// Each of these machines must not look as if all were well.
func TestSilenceIsAFailure(t *testing.T) {
	pass := frame + "--- PASS: TestA (0.00s)"
	for name, text := range map[string]string{
		"nothing":             "",
		"only came up":        Boot("6.1.0") + "\n",
		"no test":             told(""),
		"died in a run":       strings.Join([]string{Boot("6.1.0"), Begin(blackhole), pass}, "\n"),
		"no last word":        strings.TrimSuffix(told("", pass), Done()+"\r\n"),
		"test binary crashed": told("exit status 2", pass, "panic: oh"),
		"init gave up":        strings.Join([]string{Boot("6.1.0"), Broken("no disk"), Done()}, "\n"),
		"ended unbegun":       strings.Join([]string{Boot("6.1.0"), End(blackhole, ""), Done()}, "\n"),
	} {
		if r := read(t, text); len(r.Failed) == 0 {
			t.Errorf("%s: no failure: %+v", name, r)
		}
	}
}

// A run may take the machine down: it is begun again, by a machine that restarted or was switched on again.
func TestRunsGoOnAfterTheMachineWentDown(t *testing.T) {
	first := strings.Join([]string{Boot("6.1.0"), Begin(blackhole), frame + "=== RUN   TestA", ""}, "\n")
	second := told("", frame+"--- PASS: TestA (0.00s)")
	for name, texts := range map[string][]string{"restart": {first + second}, "switched on again": {first, second}} {
		if r := read(t, texts...); len(r.Failed) != 0 || len(r.Passed) != 1 || len(r.Boots) != 2 {
			t.Errorf("%s: %+v", name, r)
		}
	}
	if r := read(t, first, first); len(r.Failed) == 0 {
		t.Error("a machine that never came back is no failure")
	}
}

func FuzzResults(f *testing.F) {
	f.Add(told("", frame+"--- PASS: TestA (0.00s)"))
	f.Add(told("exit status 1", "x"))
	f.Fuzz(func(t *testing.T, text string) {
		var r Results
		_ = r.Read(strings.NewReader(text))
		r.Close()
		if len(r.Failed) == 0 && (!r.Ended || !strings.Contains(text, markDone)) {
			t.Errorf("nothing failed in %q", text)
		}
	})
}
