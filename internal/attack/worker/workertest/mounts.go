package workertest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	at "firedrill/internal/attack/attacktest"
)

// envPrivate says that this test binary has a mount namespace of its own.
const envPrivate = "FIREDRILL_WORKERTEST_PRIVATE"

// PrivateMounts starts the test binary again in a mount namespace of its own and returns its exit code; inside is true when this process
// is the one inside. No volume that a test fills can then be seen by anybody else, and all are gone with the tests.
func PrivateMounts() (code int, inside bool) {
	if os.Getenv(envPrivate) != "" {
		if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
			fmt.Fprintln(os.Stderr, "make mounts private:", err)
			return 1, false
		}
		return 0, true
	}
	if os.Geteuid() != 0 {
		return 0, true // the tests that mount say what they need
	}
	again := exec.Command("/proc/self/exe", os.Args[1:]...)
	again.Env = append(os.Environ(), envPrivate+"=1")
	again.Stdin, again.Stdout, again.Stderr = os.Stdin, os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	err := again.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, false
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1), false
	}
	fmt.Fprintln(os.Stderr, "a mount namespace of our own:", err)
	return 1, false
}

// Tmpfs mounts a volume of so many megabytes, which lies in memory and ends with the test.
func Tmpfs(tb testing.TB, megabytes int) string {
	tb.Helper()
	at.Require(tb)
	if os.Getenv(envPrivate) == "" {
		tb.Fatal("this process has no mounts of its own; does TestMain call PrivateMounts?")
	}
	directory := tb.TempDir()
	if err := unix.Mount("firedrill-test", directory, "tmpfs", 0, fmt.Sprintf("size=%dm", megabytes)); err != nil {
		tb.Fatalf("mount: %v", err)
	}
	tb.Cleanup(func() {
		// Where a bug was planted a worker may still hold it.
		if err := unix.Unmount(directory, unix.MNT_DETACH); err != nil {
			tb.Errorf("unmount: %v", err)
		}
	})
	return directory
}
