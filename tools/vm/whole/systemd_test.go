//go:build vm

package whole

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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
