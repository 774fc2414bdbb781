//go:build vm

package whole

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/procs"
)

// units are a service that listens by way of a socket, another that needs it, and one that nobody started. The bus and journal are systemd's own.
var units = map[string]string{
	"drill-api.service": "[Service]\nExecStart=/bin/sleep 1000\n",
	"drill-web.service": "[Unit]\nRequires=drill-api.service\nAfter=drill-api.service\n[Service]\nExecStart=/bin/sleep 1000\n",
	"drill-api.socket":  "[Socket]\nListenStream=/run/drill-api.sock\n",
	"drill-off.service": "[Unit]\nRequires=drill-api.service\n[Service]\nExecStart=/bin/sleep 1000\n",
}

// startUnits starts them and returns what says how far their states are from running, all but the last.
func startUnits(t *testing.T) (state func(want string) error) {
	t.Helper()
	for name, text := range units {
		must(t, os.WriteFile("/run/systemd/system/"+name, []byte(text), 0o644))
	}
	systemctl(t, "daemon-reload")
	systemctl(t, "start", "drill-api.socket", "drill-web.service")
	t.Cleanup(func() {
		_ = exec.Command("systemctl", "stop", "drill-api.socket", "drill-web.service", "drill-api.service").Run()
	})
	return func(want string) error {
		var errs []error
		for name := range units {
			want := want
			if name == "drill-off.service" {
				want = "inactive"
			}
			out, _ := exec.Command("systemctl", "show", "--property=ActiveState", "--value", name).Output()
			if got := string(out); got != want+"\n" {
				errs = append(errs, fmt.Errorf("%s is %s, want %s", name, got, want))
			}
		}
		return errors.Join(errs...)
	}
}

func TestServiceStopsAndComesBackWithAllThatRan(t *testing.T) {
	state := startUnits(t)
	await(t, func() error { return state("active") })
	p := inForce(t, "service", "--unit=drill-api", brief())
	must(t, state("inactive"))
	if code, account := p.wait(); code != 0 || account == nil || !account.Bit || !account.Reverted {
		t.Errorf("exit code %d, account %+v; want 0, bit and reverted", code, account)
	}
	must(t, state("active"), noJournal())
}

func TestServiceComesBackWhenTheAttackIsKilled(t *testing.T) {
	state := startUnits(t)
	p := inForce(t, "service", "--unit=drill-api", "--length=600")
	must(t, state("inactive"), p.cmd.Process.Kill())
	await(t, func() error { return errors.Join(state("active"), noJournal()) })
}

// Both of us are dead: it stays stopped, which shows that the test sees, until the next start.
func TestServiceComesBackAtTheNextStartWhenAllAreKilled(t *testing.T) {
	state := startUnits(t)
	p := inForce(t, "service", "--unit=drill-api", "--length=600")
	guarding := guardians(t)
	if len(guarding) != 1 {
		t.Fatalf("guardians: %v, want one", guarding)
	}
	must(t, procs.Signal(guarding[0], unix.SIGKILL), p.cmd.Process.Kill())
	p.wait()
	await(t, func() error {
		if left := guardians(t); len(left) > 0 {
			return fmt.Errorf("%v is there", left)
		}
		return nil
	})
	must(t, state("inactive"))
	if said, err := exec.Command("/vm/firedrill", "status").CombinedOutput(); err != nil {
		t.Errorf("status: %v: %s", err, said)
	}
	must(t, state("active"), noJournal())
}
