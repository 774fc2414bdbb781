package lab

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Reexec()
	os.Exit(m.Run())
}

// patience bounds what must happen sooner or later: far above what a busy machine needs, so that only a hang fails.
const patience = 60 * time.Second

// needNamespaces skips where the kernel refuses namespaces, unless the run is there to prove things about them.
func needNamespaces(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if !strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "kernel") && strings.Contains(err.Error(), "not permitted") {
		t.Skipf("no namespaces here: %v", err)
	}
	t.Fatal(err)
}

// threeHosts is the lab of most tests.
func threeHosts() Topology {
	return Topology{
		Name: "test", Network: netip.MustParsePrefix("10.77.0.0/16"),
		Hosts: []Host{
			{Name: "ci", Address: netip.MustParseAddr("10.77.0.20")},
			{Name: "blue", Hostname: "api-blue", Address: netip.MustParseAddr("10.77.1.10"), SSH: SSHBuiltIn, Trust: []string{"ci"}},
			{Name: "green", Hostname: "api-green", Address: netip.MustParseAddr("10.77.1.20"), SSH: SSHBuiltIn, Trust: []string{"ci", "blue"}},
		},
	}
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func mustUp(t *testing.T, topology Topology, o Options) *Lab {
	t.Helper()
	l, err := Up(testContext(t), topology, o)
	needNamespaces(t, err)
	t.Cleanup(func() {
		if err := l.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("down: %v", err)
		}
	})
	return l
}

// run runs a shell line on a host and returns its output and exit code.
func run(t *testing.T, l *Lab, host, line string) (string, int) {
	t.Helper()
	var out strings.Builder
	code, err := l.Exec(testContext(t), host, Cmd{Args: []string{"sh", "-c", line}, Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatalf("%s on %s: %v", line, host, err)
	}
	return strings.TrimSpace(out.String()), code
}

// mustRun is run for what must succeed.
func mustRun(t *testing.T, l *Lab, host, line string) string {
	t.Helper()
	out, code := run(t, l, host, line)
	if code != 0 {
		t.Fatalf("%s on %s: exit code %d: %s", line, host, code, out)
	}
	return out
}

// await polls until ok, or fails with what was awaited.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}
