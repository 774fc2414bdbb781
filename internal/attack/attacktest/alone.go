package attacktest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"firedrill/internal/tether"
)

// envAlone names the test that runs in namespaces of its own.
const envAlone = "FIREDRILL_ATTACKTEST_ALONE"

// StateRoot is where root keeps its state. Alone puts an empty file system there.
const StateRoot = "/var/lib"

// stateSize bounds that file system, so that a test can fill it.
const stateSize = "4m"

// Alone runs the calling test on a host of its own: its test binary is process 1 there, with its own processes, network, users, mounts,
// and an empty /var/lib. It returns true on that host. On the machine it returns false, after that run, whose failure is the test's.
func Alone(t *testing.T) bool {
	t.Helper()
	return alone(t, syscall.CLONE_NEWUSER, func() error { return unix.Mount("state", StateRoot, "tmpfs", 0, "mode=755,size="+stateSize) })
}

// AloneAsRoot is Alone on a host whose root is the machine's: what starts containers needs that. Its /run is empty too.
func AloneAsRoot(t *testing.T) bool {
	t.Helper()
	Require(t)
	return alone(t, 0, func() error {
		return errors.Join(unix.Mount("state", StateRoot, "tmpfs", 0, "mode=755"), unix.Mount("run", "/run", "tmpfs", 0, "mode=755"))
	})
}

// alone runs the test in namespaces of its own, and of these besides; empty mounts there what is to be empty.
func alone(t *testing.T, besides uintptr, empty func() error) bool {
	t.Helper()
	if os.Getenv(envAlone) == t.Name() {
		if err := errors.Join(settleIn(), empty()); err != nil {
			t.Fatalf("settle in: %v", err)
		}
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	inner := exec.Command(self, "-test.v", "-test.run", "^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$")
	inner.Env = append(os.Environ(), envAlone+"="+t.Name())
	inner.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC | besides,
		Pdeathsig:  syscall.SIGKILL,
	}
	if besides&syscall.CLONE_NEWUSER != 0 {
		inner.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		inner.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	out, err := tether.CombinedOutput(inner)
	var ended *exec.ExitError
	switch {
	case errors.As(err, &ended):
		t.Fatalf("on a host of its own: %v\n%s", err, out)
	case err != nil:
		Missing(t, "kernel", "namespaces: %v", err)
	case !strings.Contains(string(out), "--- PASS: "+t.Name()):
		t.Fatalf("nothing ran on a host of its own:\n%s", out)
	}
	if testing.Verbose() {
		t.Logf("on a host of its own:\n%s", out)
	}
	return false
}

func settleIn() error {
	if os.Getpid() != 1 {
		return fmt.Errorf("process %d is not the first of a host", os.Getpid())
	}
	return errors.Join(
		unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""),
		unix.Mount("proc", "/proc", "proc", 0, ""),
		bringUp("lo"),
	)
}
