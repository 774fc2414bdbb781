package cli

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/hostfacts"
	"firedrill/internal/attack/kinds"
)

func readDiagnosis(t *testing.T, text string) diagnosis {
	t.Helper()
	var found diagnosis
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return found
}

// blocked returns the kinds that are not said to run, and reports those that come without a reason.
func blocked(t *testing.T, all []kindHere) (names []string) {
	t.Helper()
	if len(all) != len(kinds.All()) {
		t.Errorf("%d kinds, want %d", len(all), len(kinds.All()))
	}
	for _, kind := range all {
		if kind.Here.State == hostfacts.Yes {
			continue
		}
		names = append(names, kind.Name)
		if kind.Here.Reason == "" || kind.Needs == nil {
			t.Errorf("%s: %+v", kind.Name, kind.Here)
		}
	}
	return names
}

func TestDoctorExitsWithZeroOnlyWhenEveryAttackCanRun(t *testing.T) {
	code, out, errOut := runCommand(newDoctorCommand, "--json")
	found := readDiagnosis(t, out)
	want := exitPassed
	if names := blocked(t, found.Attacks); len(names) > 0 {
		want = exitRefused
	}
	if code != want {
		t.Errorf("exit code %d, want %d\n%s%s", code, want, out, errOut)
	}
	code, page, _ := runCommand(newDoctorCommand)
	if code != want {
		t.Errorf("without --json the exit code is %d", code)
	}
	for _, fact := range found.Facts {
		if !strings.Contains(page, string(fact.Need)) || !strings.Contains(page, fact.For) {
			t.Errorf("the page lacks %s: %s", fact.Need, fact.For)
		}
	}
}

func TestDoctorTellsAnOrdinaryUserWhatCannotRunAndTheCure(t *testing.T) {
	attacktest.Require(t) // it gives up root
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestCommandOfAnotherTest$", "--", "--json")
	cmd.Env = append(os.Environ(), envCommand+"=doctor")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534, NoSetGroups: true}}
	out, err := cmd.Output()
	if cmd.ProcessState == nil {
		attacktest.Missing(t, "kernel", "an ordinary user who may start this binary where it lies: %v", err)
	}
	names := blocked(t, readDiagnosis(t, string(out)).Attacks)
	if code := cmd.ProcessState.ExitCode(); code != exitRefused || !strings.Contains(strings.Join(names, " "), "blackhole") || !strings.Contains(string(out), "sudo") {
		t.Errorf("exit code %d, not %v\n%s", code, names, out)
	}
}

func TestTheListSaysOfEachKindWhetherItCanRunHere(t *testing.T) {
	code, out, _ := runCommand(newWholeAttackCommand, "list", "--json")
	var listed []kindHere
	if err := json.Unmarshal([]byte(out), &listed); err != nil || code != 0 {
		t.Fatalf("exit code %d, %v: %s", code, err, out)
	}
	blocked(t, listed)
	for _, kind := range listed {
		if kind.Name == "blackhole" && !strings.Contains(strings.Join(kind.Needs, " "), "nf_tables") {
			t.Errorf("%+v", kind)
		}
	}
}
