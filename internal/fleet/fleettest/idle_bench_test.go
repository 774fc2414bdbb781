package fleettest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"firedrill/internal/fleet"
	"firedrill/internal/fleet/agent"
	"firedrill/internal/tether"
)

const (
	idleSettle = 20 * time.Second // the start is over, and what it needed is given back
	idleLook   = 60 * time.Second
)

// BenchmarkIdleAgent prints what the agent needs, as it is shipped, of a host on which nothing happens, beside a process that only hears a subject of NATS
// and a shell that sleeps: resident MiB, and percent of one core.
func BenchmarkIdleAgent(b *testing.B) {
	directory := b.TempDir()
	program, hear := filepath.Join(directory, "firedrill"), filepath.Join(directory, "hear")
	for _, build := range [][]string{{"run", "firedrill/tools/build", "-o", program}, {"build", "-ldflags=-s -w", "-o", hear, "./testdata/hear"}} {
		if out, err := exec.Command("go", build...).CombinedOutput(); err != nil { //nolint:noctx // it ends
			b.Fatalf("%v\n%s", err, out)
		}
	}
	c := newCrowd(b, 0)
	var text string
	if err := c.admin.Call(b.Context(), "token", fleet.TokenRequest{Uses: 1}, &text); err != nil {
		b.Fatal(err)
	}
	token, err := fleet.ParseToken(text)
	if err != nil {
		b.Fatal(err)
	}
	state := filepath.Join(directory, "state")
	if _, err := agent.Join(b.Context(), state, c.admin.Credentials().Address, token, agent.Identity{Name: "idle"}); err != nil {
		b.Fatal(err)
	}
	engine, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoSigs: true})
	if err != nil {
		b.Fatal(err)
	}
	engine.Start()
	defer engine.Shutdown()
	if !engine.ReadyForConnections(patience) {
		b.Fatal("the engine of the peer is not ready")
	}
	all := map[string]*exec.Cmd{"agent": exec.Command(program, "agent", "--state", state), "nats_sub": exec.Command(hear, engine.ClientURL()), "sh": exec.Command("sh", "-c", "sleep 600; :")} //nolint:noctx // ended below
	for _, command := range all {
		command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		ended, err := tether.Start(command)
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = command.Process.Kill(); _ = ended() }()
	}
	for range b.N {
		<-time.After(idleSettle)
		before := map[string]time.Duration{}
		for name, command := range all {
			before[name] = cpuOf(b, command.Process.Pid)
		}
		<-time.After(idleLook)
		for name, command := range all {
			b.ReportMetric(100*(cpuOf(b, command.Process.Pid)-before[name]).Seconds()/idleLook.Seconds(), name+"_percent_of_core")
			b.ReportMetric(residentOf(b, command.Process.Pid), name+"_MiB")
		}
	}
	b.ReportMetric(0, "ns/op")
}

func cpuOf(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // a tick is 1/100 s in every kernel of Debian
}

func residentOf(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		b.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(text))[1])
	if err != nil {
		b.Fatal(err)
	}
	return float64(pages*os.Getpagesize()) / (1 << 20)
}
