package pause

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

	at "firedrill/internal/attack/attacktest"
)

const (
	watched    = 2 * time.Second // one sample
	watchedFor = 5               // samples
)

// BenchmarkIdle prints what an attack costs that is in force and has nothing to do: the median of the processor time that the attack and its
// guardian take of a second, beside a shell that sleeps for a second again and again; and what each holds of memory, as the kernel counts it
// (resident), and without what it shares with other processes of this program (own).
func BenchmarkIdle(b *testing.B) {
	c := newCohort(b)
	a, err := at.NewWorld(b).Start(at.Spec{Args: []string{"--length=120", "--cgroup=" + c.group.Name}})
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
	guardian := childOf(b, a.PID)
	<-time.After(watched) // what an attack does when it begins is over
	for range b.N {
		ours, theirs := idle(b, a.PID, guardian), idle(b, peer.Process.Pid)
		b.ReportMetric(ours, "cpu-ms/s")
		b.ReportMetric(theirs, "cpu-ms/s-sleeping-shell")
		if theirs > 0 {
			b.ReportMetric(ours/theirs, "x-sleeping-shell")
		}
	}
	b.ReportMetric(0, "ns/op") // of no meaning here
	b.ReportMetric(resident(b, a.PID), "MiB-resident")
	b.ReportMetric(resident(b, guardian), "MiB-resident-guardian")
	b.ReportMetric(private(b, a.PID), "MiB-own")
	b.ReportMetric(private(b, guardian), "MiB-own-guardian")
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

func childOf(b *testing.B, parent int) int {
	b.Helper()
	found, err := filepath.Glob("/proc/" + strconv.Itoa(parent) + "/task/*/children")
	if err != nil {
		b.Fatal(err)
	}
	for _, path := range found {
		text, err := os.ReadFile(path)
		if fields := strings.Fields(string(text)); err == nil && len(fields) > 0 {
			pid, _ := strconv.Atoi(fields[0])
			return pid
		}
	}
	b.Fatalf("process %d has no child", parent)
	return 0
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
