package remotetest

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"firedrill/internal/deploy/remote"
)

// BenchmarkAttackOverSSH measures what a 20-second attack over SSH costs beyond its length, in ms: the command alone, as a CI server's log
// tells it, and all of it with the connection and the binary that is pushed. The article's log shows 396 ms for the command alone, with a
// program that was installed before. The attack here is one of two seconds: the length does not come in. The peer is ssh(1), with the program
// installed on the host.
func BenchmarkAttackOverSSH(b *testing.B) {
	if os.Geteuid() != 0 {
		b.Skip("needs root, for a network of its own")
	}
	binary := filepath.Join(b.TempDir(), "firedrill")
	build := exec.Command("go", "run", "firedrill/tools/build", "-o", binary)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v: %s", err, out)
	}
	a := OpenSSH(b, Wish{Apart: true, Home: b.TempDir()})
	const length = 2 * time.Second
	attack := []string{"attack", "blackhole", "-l", "2", "-h", "127.0.0.9"}
	_, port, _ := net.SplitHostPort(a.Host.SSH.Address)
	spans := map[string][]time.Duration{}
	order := []string{}
	note := func(name string, took time.Duration) {
		if spans[name] == nil {
			order = append(order, name)
		}
		spans[name] = append(spans[name], took)
	}
	for b.Loop() {
		spent := processorTime(b)
		began := time.Now()
		client, err := remote.Dial(b.Context(), a.Host, a.Options)
		if err != nil {
			b.Fatal(err)
		}
		dialled := time.Now()
		pushed, err := client.Push(b.Context(), remote.PushOptions{Path: binary})
		if err != nil {
			b.Fatal(err)
		}
		held := time.Now()
		again, err := client.Push(b.Context(), remote.PushOptions{Path: binary})
		if err != nil {
			b.Fatal(err)
		}
		if again.Travelled() {
			b.Fatal("the same bytes travelled again")
		}
		note("push-of-the-same", time.Since(held))
		if err := again.Close(); err != nil {
			b.Fatal(err)
		}
		started := time.Now()
		var out bytes.Buffer
		process, err := pushed.Start(b.Context(), remote.Invocation{Args: attack, Stdout: &out, Stderr: &out})
		if err != nil {
			b.Fatal(err)
		}
		if exit, err := process.Wait(); err != nil || !slices.Contains([]int{0, 3}, exit.Code) {
			b.Fatalf("%+v, %v: %s", exit, err, out.String())
		}
		ran := time.Now()
		if err := pushed.Close(); err != nil {
			b.Fatal(err)
		}
		if err := client.Close(); err != nil {
			b.Fatal(err)
		}
		closed := time.Now()
		note("dial", dialled.Sub(began))
		note("push", held.Sub(dialled))
		note("command", ran.Sub(started)-length)
		note("close", closed.Sub(ran))
		note("all", held.Sub(began)+closed.Sub(started)-length)

		note("processor-of-both-sides", processorTime(b)-spent)

		client = a.Dial(b)
		installed, err := client.Run(b.Context(), remote.Command{Line: remote.Quote(append([]string{binary}, attack...)...)})
		if err != nil {
			b.Fatal(err)
		}
		note("installed-command", installed.Took-length)
		peer := exec.Command("ssh", append([]string{"-F", "none", "-p", port, "-i", a.Host.SSH.Identity, "-o", "UserKnownHostsFile=" + a.Host.SSH.KnownHosts,
			"-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", a.Host.SSH.User + "@127.0.0.1", binary}, attack...)...)
		began = time.Now()
		if out, err := peer.CombinedOutput(); err != nil && peer.ProcessState.ExitCode() != 3 {
			b.Fatalf("ssh: %v: %s", err, out)
		}
		note("ssh-installed-all", time.Since(began)-length)
	}
	for _, name := range order {
		all := spans[name]
		slices.Sort(all)
		b.ReportMetric(float64(all[len(all)/2].Microseconds())/1000, name+"-ms")
	}
	b.ReportMetric(0, "ns/op")
}

// processorTime is what we and everything that we started and that has ended have used. Unlike the rest it says the same on a busy machine.
func processorTime(b *testing.B) time.Duration {
	b.Helper()
	var total time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var usage syscall.Rusage
		if err := syscall.Getrusage(who, &usage); err != nil {
			b.Fatal(err)
		}
		total += time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
	}
	return total
}
