package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
)

func TestMain(m *testing.M) {
	Reexec()
	if len(os.Args) > 2 && os.Args[1] == "tool" {
		os.Exit(tool(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

// tool is what hosts find as "firedrill" in these tests: programs that the machine may lack.
func tool(name string, args []string) int {
	switch name {
	case "hold":
		return hold(args)
	case "forbidden":
		if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0o644); err != nil {
			fmt.Println(err)
			return 1
		}
		_, err := Up(context.Background(), threeHosts(), Options{})
		fmt.Println(drill.KindOf(err), err, drill.HintOf(err))
		return 0
	case "connect":
		c, err := net.DialTimeout("tcp", args[0], 10*time.Second)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		_ = c.Close()
		return 0
	case "pipe":
		c, err := net.Dial("tcp", args[0])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		go func() { _, _ = io.Copy(c, os.Stdin); _ = c.Close() }()
		_, _ = io.Copy(os.Stdout, c)
		return 0
	case "reboot", "poweroff":
		// Only where PID 1 is an init of a lab: never on a machine.
		text, err := os.ReadFile("/proc/1/cmdline")
		if err != nil || !strings.HasPrefix(string(text), nameInit) {
			fmt.Println("not on a lab host")
			return 1
		}
		command := unix.LINUX_REBOOT_CMD_RESTART
		if name == "poweroff" {
			command = unix.LINUX_REBOOT_CMD_POWER_OFF
		}
		fmt.Println(unix.Reboot(command))
		return 1
	case "count-signals":
		// Prints each SIGINT; ends by SIGTERM with the number of them as exit code.
		signals := make(chan os.Signal, 16)
		signal.Notify(signals, unix.SIGINT, unix.SIGTERM)
		fmt.Println("ready")
		count := 0
		for s := range signals {
			if s == unix.SIGTERM {
				return count
			}
			count++
			fmt.Println("interrupted", count)
		}
	}
	fmt.Println("no such tool")
	return 2
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
			{Name: "ci", Address: netip.MustParseAddr("10.77.0.20"), SSH: SSHBuiltIn},
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

func contextOf(t *testing.T) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), patience)
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
