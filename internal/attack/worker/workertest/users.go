package workertest

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	at "firedrill/internal/attack/attacktest"
)

// envUnprivileged says that this test binary runs in a user namespace.
const envUnprivileged = "FIREDRILL_WORKERTEST_UNPRIVILEGED"

// InUserNamespace runs the tests that match in a user namespace with networks and mounts of its own: as on a host of a lab, root there has
// no rights outside. At least so many tests must pass.
func InUserNamespace(t *testing.T, match string, atLeast int) {
	t.Helper()
	if os.Getenv(envUnprivileged) != "" {
		return
	}
	at.Require(t)
	inner := exec.Command("/proc/self/exe", "-test.v", "-test.parallel=4", "-test.run", match)
	inner.Env = append(os.Environ(), envUnprivileged+"=1", envPrivate+"=1", "FIREDRILL_REQUIRE=kernel")
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	inner.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, UidMappings: ids, GidMappings: ids}
	if out, err := inner.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	} else if passed := strings.Count(string(out), "--- PASS"); passed < atLeast {
		t.Errorf("only %d tests passed, want %d:\n%s", passed, atLeast, out)
	}
}
