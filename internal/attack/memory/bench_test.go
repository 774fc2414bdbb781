package memory

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/worker"
)

// BenchmarkHold prints how many percent of what was asked are held, how long that takes, and how long until it is free again.
func BenchmarkHold(b *testing.B) {
	var held float64
	var apply, back time.Duration
	for range b.N {
		var facts attack.Facts
		order := Order{Length: time.Minute, Amount: 256 * mega}
		if err := order.Survey(context.Background(), &facts); err != nil {
			b.Fatal(err)
		}
		facts.GUID = at.GUID
		plan, err := order.Plan(facts)
		if err != nil {
			b.Fatal(err)
		}
		step := plan.Steps[0]
		began := time.Now()
		if err := step.Apply(context.Background(), began.Add(time.Minute)); err != nil {
			b.Fatal(err)
		}
		apply = time.Since(began)
		began = time.Now()
		if err := step.Revert(context.Background()); err != nil {
			b.Fatal(err)
		}
		back = time.Since(began)
		evidence, ok := step.(attack.Evidencing)
		if !ok {
			b.Fatal("the step gives no evidence")
		}
		if bit, figures := evidence.Evidence(); !bit {
			b.Fatal(figures)
		}
		held = 100 * float64(leastOf(step)) / (256 * mega)
	}
	b.ReportMetric(held, "percent-held")
	b.ReportMetric(float64(apply.Milliseconds()), "ms-hold")
	b.ReportMetric(float64(back.Milliseconds()), "ms-revert")
}

func leastOf(step attack.Step) uint64 {
	return step.(*worker.Step).Meter.(*meter).least
}

const (
	lateLength  = 12 * time.Second // enough to hold a gigabyte on a busy host; the kernel ends it early by a quarter of that at most
	lateSamples = 3
)

// BenchmarkIdle prints what it costs to keep memory that is held. What it holds is the worker's, and no overhead.
func BenchmarkIdle(b *testing.B) {
	at.Idle(b, at.NewWorld(b), "--megabytes=16")
}

// BenchmarkLate prints by how much a gigabyte is held beyond the deadline when both the attack and its worker are stopped, so that only the
// kernel can end it: the median and the worst of some tries, less than nothing is early. stress-ng, which nobody stops, stands beside it.
func BenchmarkLate(b *testing.B) {
	for range b.N {
		var ours, theirs []float64
		for range lateSamples {
			ours = append(ours, frozenLate(b))
			if path, err := exec.LookPath("stress-ng"); err == nil {
				theirs = append(theirs, peerLate(b, path))
			}
		}
		slices.Sort(ours)
		slices.Sort(theirs)
		b.ReportMetric(0, "ns/op") // of no meaning here
		b.ReportMetric(ours[lateSamples/2], "ms-late")
		b.ReportMetric(ours[lateSamples-1], "ms-late-worst")
		if len(theirs) > 0 {
			b.ReportMetric(theirs[lateSamples/2], "ms-late-stress-ng")
		}
	}
}

// frozenLate returns how late one attack was over, in milliseconds.
func frozenLate(b *testing.B) float64 {
	b.Helper()
	var facts attack.Facts
	order := Order{Length: lateLength, Amount: giga}
	if err := order.Survey(context.Background(), &facts); err != nil {
		b.Fatal(err)
	}
	facts.GUID = at.GUID
	plan, err := order.Plan(facts)
	if err != nil {
		b.Fatal(err)
	}
	step := plan.Steps[0]
	deadline := time.Now().Add(lateLength)
	if err := step.Apply(context.Background(), deadline); err != nil {
		b.Fatal(err)
	}
	pid := workerOf(b)
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		b.Fatal(err)
	}
	ended, err := awaitEnd(pid)
	if err != nil {
		b.Fatal(err)
	}
	late := ended.Sub(deadline)
	if err := step.Revert(context.Background()); err != nil {
		b.Fatal(err)
	}
	return float64(late.Microseconds()) / 1000
}

// awaitEnd waits until all threads of a process have ended, and with them what they held, on a thread that nobody holds up: a busy machine
// must not count as late.
func awaitEnd(pid int) (time.Time, error) {
	ended := make(chan error)
	var at time.Time
	go func() {
		runtime.LockOSThread() // with its goroutine the thread ends, and its priority
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
		err := pollEnd(pid)
		at = time.Now()
		ended <- err
	}()
	err := <-ended
	return at, err
}

func pollEnd(pid int) error {
	handle, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return err
	}
	defer unix.Close(handle)
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(handle), Events: unix.POLLIN}}, -1)
		if n > 0 || err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// peerLate is the same of stress-ng, which ends itself.
func peerLate(b *testing.B, path string) float64 {
	b.Helper()
	cmd := exec.Command("nice", "-n", "-20", path, "--quiet", "--vm", "1", "--vm-bytes", "1g", "--vm-hang", "0", "--timeout", fmt.Sprintf("%ds", int(lateLength.Seconds())))
	began := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("stress-ng: %v: %s", err, out)
	}
	return float64((time.Since(began) - lateLength).Microseconds()) / 1000
}

func workerOf(b *testing.B) int {
	b.Helper()
	lines, err := worker.Residue(Name)
	if err != nil {
		b.Fatal(err)
	}
	for _, line := range lines {
		var pid int
		if _, err := fmt.Sscanf(line, "worker process %d", &pid); err == nil && strings.Contains(line, at.GUID) {
			return pid
		}
	}
	b.Fatalf("no worker among %q", lines)
	return 0
}
