package pause

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/worker/workertest"
)

// BenchmarkIdle prints what an attack costs that is in force and has nothing to do: the memory of its own (what it does not share with other
// processes of this program) of the attack and of its guardian, and the processor time that both take of a second.
func BenchmarkIdle(b *testing.B) {
	const watched = 5 * time.Second
	c := newCohort(b)
	a, err := at.NewWorld(b).Start(at.Spec{Args: []string{"--length=60", "--cgroup=" + c.group.Name}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(a.Stop)
	if _, err := a.AwaitInForce(); err != nil {
		b.Fatal(err)
	}
	guardian := childOf(b, a.PID)
	for range b.N {
		before := ticks(b, a.PID) + ticks(b, guardian)
		<-time.After(watched)
		b.ReportMetric(float64((ticks(b, a.PID)+ticks(b, guardian)-before)*10)/watched.Seconds(), "cpu-ms/s")
	}
	b.ReportMetric(resident(b, a.PID), "MiB-resident")
	b.ReportMetric(resident(b, guardian), "MiB-resident-guardian")
	b.ReportMetric(private(b, a.PID), "MiB-own")
	b.ReportMetric(private(b, guardian), "MiB-own-guardian")
}

func ticks(b *testing.B, pid int) int {
	b.Helper()
	used, err := workertest.Ticks(pid)
	if err != nil {
		b.Fatal(err)
	}
	return used
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
