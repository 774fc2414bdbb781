//go:build vm

package whole

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// doctor says what firedrill doctor found of a need, and the whole of its words.
func doctor(t *testing.T, need string) (state, words string) {
	t.Helper()
	out, _ := exec.Command("/vm/firedrill", "doctor", "--json").Output() // it exits with 4 where something is missing
	var found struct {
		Facts []struct{ Need, State string }
	}
	must(t, json.Unmarshal(out, &found))
	for _, fact := range found.Facts {
		if fact.Need == need {
			return fact.State, string(out)
		}
	}
	return "not mentioned", string(out)
}

// What each kernel has, by the beginning of its release; "" is for all.
var has = map[string]map[string]string{
	"":     {"netem": "yes", "prio": "yes", "cgroup_v2": "yes", "nf_tables": "yes", "nf_tables_random": "yes", "nf_tables_limit": "yes", "sys_time": "yes", "journal": "yes"},
	"5.10": {"nf_tables_owner": "no"},
	"6.1":  {"nf_tables_owner": "yes"},
}

func TestDoctorKnowsThisKernel(t *testing.T) {
	var name unix.Utsname
	must(t, unix.Uname(&name))
	release := unix.ByteSliceToString(name.Release[:])
	for kernel, needs := range has {
		if !strings.HasPrefix(release, kernel) {
			continue
		}
		for need, want := range needs {
			if got, said := doctor(t, need); got != want {
				t.Errorf("on %s doctor says %q of %s, want %q: %s", release, got, need, want, said)
			}
		}
	}
}

func TestDoctorKnowsSystemd(t *testing.T) {
	for _, need := range []string{"systemd", "logind"} {
		if got, said := doctor(t, need); got != "yes" {
			t.Errorf("doctor says %q of %s: %s", got, need, said)
		}
	}
}
