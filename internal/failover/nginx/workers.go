package nginx

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ticksPerSecond is the unit of start times in /proc on every architecture.
const ticksPerSecond = 100

// uptimeTicks returns the time since boot in the unit of start times in /proc.
func uptimeTicks() uint64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0
	}
	return uint64(now.Nano()) / (1_000_000_000 / ticksPerSecond) //nolint:gosec // never negative
}

// process is what /proc says of one process.
type process struct {
	parent  int
	started uint64 // ticks since boot
	title   string
}

func readProcess(pid int) (process, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return process{}, err
	}
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return process{}, err
	}
	// The name in parentheses may hold anything; the fields after the last parenthesis are numbers from the third on.
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 20 {
		return process{}, fmt.Errorf("/proc/%d/stat: %d fields", pid, len(fields))
	}
	parent, err := strconv.Atoi(fields[1])
	if err != nil {
		return process{}, err
	}
	started, err := strconv.ParseUint(fields[19], 10, 64)
	return process{parent: parent, started: started, title: string(bytes.TrimRight(title, "\x00 "))}, err
}

// oldWorkers counts the workers beside one of them that began before a moment and still take connections. Workers that finish what they
// have say so in their title, and take none. What cannot be seen, as in another PID namespace, is not counted.
func oldWorkers(worker int, before uint64) int {
	one, err := readProcess(worker)
	if err != nil {
		return 0
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0
	}
	count := 0
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		other, err := readProcess(pid)
		if err == nil && other.parent == one.parent && other.started < before && other.title == "nginx: worker process" {
			count++
		}
	}
	return count
}
