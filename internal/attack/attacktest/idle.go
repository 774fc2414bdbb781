package attacktest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const (
	settled    = 12 * time.Second // until an attack that hits nothing looks once a second
	watched    = 2 * time.Second  // one sample
	watchedFor = 5                // samples
)

// Idle prints what an attack costs that is in force and has nothing to do: the median of the processor time that it and its child, guardian or
// worker, take of a second, beside a shell that sleeps for a second again and again; and what each holds of memory, as the kernel counts it
// (resident), and without what it shares with other processes of this program (own).
func Idle(b *testing.B, w *World, args ...string) {
	b.Helper()
	a, err := w.Start(Spec{Args: append([]string{"--length=600"}, args...)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(a.Stop)
	if _, err := a.AwaitInForce(); err != nil {
		b.Fatal(err)
	}
	peer := exec.Command("sh", "-c", "while :; do sleep 1; done")
	if err := peer.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = peer.Process.Kill(); _ = peer.Wait() })
	family := append([]int{a.PID}, children(b, a.PID)...)
	<-time.After(settled)
	for range b.N {
		ours, theirs := idle(b, family...), idle(b, peer.Process.Pid)
		b.ReportMetric(ours, "cpu-ms/s")
		b.ReportMetric(theirs, "cpu-ms/s-sleeping-shell")
		if theirs > 0 {
			b.ReportMetric(ours/theirs, "x-sleeping-shell")
		}
	}
	b.ReportMetric(0, "ns/op") // of no meaning here
	for i, pid := range family {
		if i > 0 {
			b.ReportMetric(idle(b, pid), "cpu-ms/s-child")
		}
		suffix := ""
		if i > 0 {
			suffix = "-child"
		}
		b.ReportMetric(resident(b, pid), "MiB-resident"+suffix)
		b.ReportMetric(private(b, pid), "MiB-own"+suffix)
	}
}

// idle is the median of the milliseconds of processor time that processes, and those that they have reaped, take of a second.
func idle(b *testing.B, pids ...int) float64 {
	b.Helper()
	var samples []float64
	for range watchedFor {
		before, began := processor(b, pids), time.Now()
		<-time.After(watched)
		samples = append(samples, float64((processor(b, pids)-before).Microseconds())/1000/time.Since(began).Seconds())
	}
	slices.Sort(samples)
	return samples[len(samples)/2]
}

// processor is the time for which the threads of processes were on a processor: to the nanosecond, where /proc/PID/stat has hundredths of a
// second.
func processor(b *testing.B, pids []int) (sum time.Duration) {
	b.Helper()
	for _, pid := range pids {
		paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
		if err == nil && len(paths) == 0 {
			err = errors.New("no threads")
		}
		if err != nil {
			b.Fatal(err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				continue // a thread that has ended
			}
			var on int64
			if _, err := fmt.Sscan(string(text), &on); err != nil {
				b.Fatal(err)
			}
			sum += time.Duration(on)
		}
	}
	return sum
}

func children(b *testing.B, parent int) (pids []int) {
	b.Helper()
	found, err := filepath.Glob("/proc/" + strconv.Itoa(parent) + "/task/*/children")
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range found {
		text, _ := os.ReadFile(path)
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

func resident(b *testing.B, pid int) float64 { return mebibytes(b, pid, "status", "VmRSS:") }

func private(b *testing.B, pid int) float64 {
	return mebibytes(b, pid, "smaps_rollup", "Private_Dirty:") + mebibytes(b, pid, "smaps_rollup", "Private_Clean:")
}

func mebibytes(b *testing.B, pid int, file, field string) float64 {
	b.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + file)
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == field {
			kilobytes, _ := strconv.ParseFloat(fields[1], 64)
			return kilobytes / 1024
		}
	}
	b.Fatalf("%s says nothing of %s", file, field)
	return 0
}
