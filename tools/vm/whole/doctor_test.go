//go:build vm

package whole

import (
	"encoding/json"
	"errors"
	"os/exec"
	"strconv"
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
	"5.10": {"nf_tables_owner": "no", "nf_tables_cgroup": "no"},
	"6.1":  {"nf_tables_owner": "yes", "nf_tables_cgroup": "yes"},
	"6.12": {"nf_tables_owner": "yes", "nf_tables_cgroup": "yes"},
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

// Where the kernel does not tell packets apart by control group, an attack on one is refused with the true reason, and nothing is left.
func TestOldKernelRefusesScopesThatItCannotTell(t *testing.T) {
	g := newGroup(t, nil)
	victim := exec.Command("sleep", "600")
	must(t, victim.Start())
	t.Cleanup(func() { _ = victim.Process.Kill(); _ = victim.Wait() })
	for _, scope := range []string{"--cgroup=" + strings.TrimPrefix(g.directory, "/sys/fs/cgroup"), "--process=" + strconv.Itoa(victim.Process.Pid)} {
		out, err := exec.Command("/vm/firedrill", "attack", "blackhole", "--length=60", "--ipaddress=192.0.2.1", scope).CombinedOutput()
		var ended *exec.ExitError
		if !errors.As(err, &ended) || ended.ExitCode() != 4 || !strings.Contains(string(out), "Linux 5.13") {
			t.Errorf("%s: %v: %s; want exit code 4 and the kernel that can", scope, err, out)
		}
	}
	must(t, noJournal())
}
