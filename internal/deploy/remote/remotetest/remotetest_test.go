package remotetest

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

func TestContractOnOurOwnServer(t *testing.T) { Run(t, Serve) }

func TestContractOnOpenSSH(t *testing.T) { Run(t, OpenSSH) }

// sudoPath makes a PATH whose sudo does as told, without its environment and descriptors, or refuses.
func sudoPath(t *testing.T, allowed bool) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sudo") // others must be able to enter, which t.TempDir does not let them
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	script := "#!/bin/sh\n[ \"$1\" = -n ] || exit 9\nshift\n[ \"$1\" != -- ] || shift\nexec 8<&-\nexec env -i AS_ROOT=1 PATH=/usr/bin:/bin \"$@\"\n"
	if !allowed {
		script = "#!/bin/sh\necho sudo: a password is required >&2\nexit 1\n"
	}
	write(t, filepath.Join(dir, "sudo"), []byte(script), 0o755)
	return dir + ":/usr/bin:/bin"
}

func TestBecomeStartsThroughSudoWithTheConnectionInItsEnvironment(t *testing.T) {
	client := Serve(t, Wish{Nobody: true, Path: sudoPath(t, true)}).Dial(t)
	pushed, err := client.Push(t.Context(), remote.PushOptions{Become: "sudo"})
	if err != nil {
		t.Fatal(err)
	}
	defer pushed.Close()
	var out bytes.Buffer
	process, err := pushed.Start(t.Context(), remote.Invocation{Become: "sudo", Args: []string{programArg, "serve", "it's"}, Env: []string{"A=1"}, Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	if err := process.CloseStdin(); err != nil {
		t.Error(err)
	}
	if exit, err := process.Wait(); err != nil || exit.Code != 0 || len(strings.Fields(out.String())) != 5 {
		t.Errorf("got %+v, %v, %q; want a process id and the four fields of SSH_CONNECTION", exit, err, out.String())
	}
}

func TestSudoThatAsksForAPasswordIsRefusedBeforeTheUpload(t *testing.T) {
	client := Serve(t, Wish{Nobody: true, Path: sudoPath(t, false)}).Dial(t)
	if _, err := client.Push(t.Context(), remote.PushOptions{Become: "sudo"}); drill.KindOf(err) != drill.Refused || !strings.Contains(drill.HintOf(err), "NOPASSWD") {
		t.Errorf("got %v (%s), want Refused with the line for sudoers", err, drill.HintOf(err))
	}
}

// The kernel's round trip of a connection on this machine is short however busy the machine is; over a jump only sshd can be asked.
func TestRoundTripIsTheWaysOwn(t *testing.T) {
	client := Serve(t, Wish{}).Dial(t)
	took, err := client.RoundTrip(t.Context())
	if err != nil || took <= 0 {
		t.Errorf("%s, %v", took, err)
	}
}
