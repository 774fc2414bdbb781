package lab

import (
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// ordinaryUID is nobody's: the machine need not know a user to run as one.
const ordinaryUID = 54321

// TestOrdinaryUserGetsTheSameLab runs all tests of this package again without root.
func TestOrdinaryUserGetsTheSameLab(t *testing.T) {
	if os.Geteuid() != 0 {
		return // this is that run, or one that never had root: the other tests are the proof
	}
	if testing.Short() {
		t.Skip("twice the time")
	}
	// go test keeps its binary where only its user may go.
	dir, err := os.MkdirTemp("", "firedrill-lab-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	home := filepath.Join(dir, "home")
	binary := filepath.Join(dir, "lab.test")
	for _, step := range []error{os.Chmod(dir, 0o755), os.Mkdir(home, 0o700), os.Chown(home, ordinaryUID, ordinaryUID), copyProgram(binary)} {
		if step != nil {
			t.Fatal(step)
		}
	}
	cmd := exec.CommandContext(t.Context(), binary, "-test.v", "-test.count=1")
	cmd.Dir = home
	cmd.Env = append(os.Environ(), "HOME="+home, "TMPDIR="+home)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: ordinaryUID, Gid: ordinaryUID}}
	out, err := cmd.CombinedOutput()
	passed := strings.Count(string(out), "\n--- PASS") + strings.Count(string(out), "\n    --- PASS")
	if skipped := strings.Count(string(out), "--- SKIP"); skipped > 0 && strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "kernel") {
		t.Errorf("%d tests were skipped", skipped)
	}
	if err != nil {
		t.Fatalf("as an ordinary user: %v\n%s", err, out)
	}
	t.Logf("%d tests passed as an ordinary user", passed)
}

func copyProgram(to string) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	source, err := os.Open(exe)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		_ = target.Close()
		return err
	}
	return target.Close()
}
