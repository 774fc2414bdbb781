//go:build vm

package whole

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/tools/vm/guest"
)

// unsynced is a file that was written a moment before the machine goes down: it is there afterwards only if somebody synced.
func unsynced(t *testing.T) string { return filepath.Join(guest.State, "unsynced-"+t.Name()) }

// bootID tells one life of the kernel from another.
func bootID(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	must(t, err)
	return string(text)
}

// cameBack checks that the host went down as it was ordered, and that this is another boot than the one that wrote the file, which is whole.
func cameBack(t *testing.T, went string) {
	t.Helper()
	if line, err := os.ReadFile("/proc/cmdline"); err != nil || !strings.Contains(string(line), guest.OptionWent+went) {
		t.Errorf("the host did not go down by %s: %s", went, line)
	}
	text, err := os.ReadFile(unsynced(t))
	must(t, err)
	if string(text) == bootID(t) {
		t.Error("the kernel is the one that ran before")
	}
	if len(text) != len(bootID(t)) {
		t.Errorf("what was written before the end is torn: %q", text)
	}
}

func loseHost(t *testing.T, args ...string) {
	t.Helper()
	p := start(t, append([]string{"attack", "shutdown", "--yes", "--delay=1s"}, args...)...)
	must(t, os.WriteFile(unsynced(t), []byte(bootID(t)), 0o644))
	code, _ := p.wait()
	t.Logf("the attack ended with %d: %s", code, p.stderr.String())
	goesDown(t)
}

func TestHostRestarts(t *testing.T) {
	if stage(t) == 0 {
		loseHost(t, "--reboot")
	}
	cameBack(t, guest.WentRestart)
}

func TestHostIsSwitchedOff(t *testing.T) {
	if stage(t) == 0 {
		loseHost(t)
	}
	cameBack(t, guest.WentOff)
}

// The planted bug: a host that goes down without a sync loses the file by which the tests above tell.
func TestCrashLosesWhatWasNotSynced(t *testing.T) {
	if stage(t) == 0 {
		must(t, os.WriteFile(unsynced(t), []byte(bootID(t)), 0o644))
		must(t, unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
		goesDown(t)
	}
	if text, err := os.ReadFile(unsynced(t)); err == nil && len(text) > 0 {
		t.Errorf("the file is there: %q", text)
	}
}

// The host restarts in the middle of attacks that the kernel does not take back. A restart ends their impact by itself, so the next start
// must find the journals, drop them, and not take anything back twice: not from the clock, nor from a process that has the number now.
func TestHostThatRestartsInTheMiddleIsCleanAtTheNextStart(t *testing.T) {
	if stage(t) == 0 {
		victim := exec.Command("sleep", "600")
		must(t, victim.Start())
		inForce(t, "time_travel", "--offset=86400", "--length=600")
		inForce(t, "pause", "--process=sleep", "--length=600")
		unix.Sync()
		must(t, unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART))
		goesDown(t)
	}
	if err := noJournal(); err == nil {
		t.Fatal("no journal outlived the restart: nothing is proven")
	}
	base := skew(t)
	said, err := exec.Command("/vm/firedrill", "status").CombinedOutput()
	if err != nil {
		t.Errorf("status: %v", err)
	}
	t.Logf("status said: %s", said)
	must(t, noJournal(), off(t, base, 0, exact))
	if hardware, err := exec.Command("hwclock", "--get", "--utc").CombinedOutput(); err == nil {
		at, err := time.Parse("2006-01-02 15:04:05.999999-07:00", strings.TrimSpace(string(hardware)))
		if away := time.Until(at).Abs(); err != nil || away > time.Hour {
			t.Errorf("the clock is %s from that of the hardware (%v)", away, err)
		}
	}
}
