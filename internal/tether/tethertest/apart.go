package tethertest

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"firedrill/internal/tether"
)

// Apart runs a test once more in a mount namespace of its own, where it may mount what it likes, and reports whether this is there: where not, the test
// has been run, and returns. It needs root; without, the test is skipped, or fails where FIREDRILL_REQUIRE names the kernel.
func Apart(t *testing.T) bool {
	t.Helper()
	const variable = "FIREDRILL_TEST_APART"
	if os.Getenv(variable) == t.Name() {
		if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatal(err)
		}
		return true
	}
	if os.Geteuid() != 0 {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "kernel") {
			t.Fatal("root is required, for a file system of its own")
		}
		t.Skip("only root may mount a file system")
	}
	command := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	command.Env = append(os.Environ(), variable+"="+t.Name())
	command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if out, err := tether.CombinedOutput(command); err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}
