//go:build vm

package whole

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/history"
	"firedrill/tools/vm/guest"
)

// witness is a service that writes down that it was stopped in order.
const witness = `[Unit]
Description=witness of tools/vm
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh -c 'echo stopped in order > %s'
`

func testimony(t *testing.T) string { return filepath.Join(guest.State, "witness-"+t.Name()) }

func systemctl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("systemctl", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("systemctl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func startWitness(t *testing.T) {
	t.Helper()
	must(t, os.WriteFile("/run/systemd/system/witness.service", []byte(fmt.Sprintf(witness, testimony(t))), 0o644))
	systemctl(t, "daemon-reload")
	systemctl(t, "start", "witness.service")
}

// stoppedInOrder checks that the witness was heard before the machine went down.
func stoppedInOrder(t *testing.T) {
	t.Helper()
	if text, err := os.ReadFile(testimony(t)); err != nil || string(text) != "stopped in order\n" {
		t.Errorf("the service's witness is %q (%v): it was not stopped in order", text, err)
	}
}

func TestSystemdRestartsTheHostInOrder(t *testing.T) {
	if stage(t) == 0 {
		startWitness(t)
		loseHost(t, "--reboot")
	}
	cameBack(t, guest.WentRestart)
	stoppedInOrder(t)
}

func TestSystemdSwitchesTheHostOffInOrder(t *testing.T) {
	if stage(t) == 0 {
		startWitness(t)
		loseHost(t)
	}
	cameBack(t, guest.WentOff)
	stoppedInOrder(t)
}

// The planted bug: a host that the kernel restarts, systemd or not, hears no witness.
func TestRestartByTheKernelStopsNoService(t *testing.T) {
	if stage(t) == 0 {
		startWitness(t)
		unix.Sync()
		must(t, unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
		goesDown(t)
	}
	if text, err := os.ReadFile(testimony(t)); err == nil {
		t.Errorf("the witness was heard: %s", text)
	}
}

// The host crashes in the middle of attacks. The unit that we ship takes back what they left, before anybody calls firedrill.
func TestUnitCleansUpAtTheStartAfterACrash(t *testing.T) {
	if stage(t) == 0 {
		inForce(t, "time_travel", "--offset=86400", "--length=600")
		unix.Sync()
		must(t, unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
		goesDown(t)
	}
	must(t, noJournal())
	shown := systemctl(t, "show", "--property=ConditionResult,Result,ExecMainStatus,ExecMainStartTimestampMonotonic", "firedrill-recover.service")
	for _, want := range []string{"ConditionResult=yes", "Result=success", "ExecMainStatus=0"} {
		if !strings.Contains(shown, want) {
			t.Errorf("the unit has not run well: %s", shown)
		}
	}
	if strings.Contains(shown, "ExecMainStartTimestampMonotonic=0\n") {
		t.Errorf("the unit has not run: nothing is proven: %s", shown)
	}
}

// The delay is our own, and nothing is ordered of logind before it is over: whatever ends the attack calls the shutdown off.
func TestShutdownIsCalledOffDuringTheDelay(t *testing.T) {
	systemctl(t, "start", "dbus.socket", "systemd-logind.service")
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGKILL} {
		p := start(t, "attack", "shutdown", "--yes", "--delay=15m")
		await(t, func() error {
			if _, ok := said[*history.AttackPlanned](p); !ok {
				return errors.New("there is no plan yet")
			}
			return nil
		})
		must(t, p.cmd.Process.Signal(signal))
		if code, _ := p.wait(); code == 0 {
			t.Errorf("ended by %s, it exits with 0", unix.SignalName(signal))
		}
	}
	scheduled, err := exec.Command("busctl", "get-property", "org.freedesktop.login1", "/org/freedesktop/login1", "org.freedesktop.login1.Manager", "ScheduledShutdown").CombinedOutput()
	if err != nil || !strings.HasPrefix(string(scheduled), `(st) "" `) {
		t.Errorf("logind has scheduled %s (%v)", scheduled, err)
	}
	if jobs := systemctl(t, "list-jobs", "--no-legend"); strings.Contains(jobs, "poweroff") || strings.Contains(jobs, "shutdown") {
		t.Errorf("the host goes down: %s", jobs)
	}
}

// A killed attack of a service's own is taken back although systemd, and not a shell, is above it all.
func TestAttackAsAServiceIsTakenBackWhenItsServiceIsKilled(t *testing.T) {
	base := skew(t)
	unit := "firedrill-attack-of-a-test.service"
	systemctl(t, "start", "dbus.socket")
	out, err := exec.Command("systemd-run", "--unit="+unit, "/vm/firedrill", "attack", "time_travel", "--offset=86400", "--length=600").CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-run: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = exec.Command("systemctl", "reset-failed", unit).Run() })
	await(t, func() error { return off(t, base, 24*time.Hour, near) })
	systemctl(t, "kill", "--kill-whom=main", "--signal=SIGKILL", unit)
	await(t, func() error { return off(t, base, 0, exact) })
}
