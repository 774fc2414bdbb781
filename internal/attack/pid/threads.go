package pid

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"

	"firedrill/internal/attack"
	"firedrill/internal/attack/cgroups"
	"firedrill/internal/attack/hoard"
	"firedrill/internal/attack/worker"
)

// threads are what is taken of the host's. A login is about ten processes, and each of ours has a dozen threads. A thread costs the kernel
// about 20 kilobytes, and nobody processor time. AmountMax is the kernel's own limit of process numbers.
var threads = hoard.Good{Kind: Name, Name: "threads", Are: "run", CanBe: "be started", Percent: 5, Least: 512, AmountMax: numbersMax,
	Room: room, Held: tasks, Batch: 256, Allow: allow, Take: startThread}

const (
	numbersMax = 1 << 22
	runtimeOwn = 64 // threads of the Go runtime itself, at most
)

// Job is the worker's side: so many threads that only wait.
func Job(d worker.Duty) error { return threads.Job(d) }

func allow(amount int) error {
	debug.SetMaxThreads(amount + runtimeOwn)
	return nil
}

func startThread(int) error {
	up := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		close(up)
		select {} // a goroutine that is bound to its thread keeps it while it waits
	}()
	<-up
	return nil
}

// tasks counts the threads of a process; one that is about to end has one, or none.
func tasks(pid int) (int, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil || len(entries) <= 1 {
		return 0, err
	}
	return len(entries), nil
}

// room is how many threads run here and how many can, by the tightest limit that counts us: the kernel's own two, and those of our control
// groups. root is "/", or a tree that looks like one.
func room(root string) (attack.Room, error) {
	load, err := os.ReadFile(filepath.Join(root, "proc/loadavg"))
	if err != nil {
		return attack.Room{}, fmt.Errorf("pid: %w", err)
	}
	// "0.00 0.01 0.05 1/123 4567": runnable and all.
	fields := strings.Fields(string(load))
	if len(fields) < 4 {
		return attack.Room{}, fmt.Errorf("pid: %q is not a load", load)
	}
	_, all, _ := strings.Cut(fields[3], "/")
	used, err := strconv.Atoi(all)
	if err != nil {
		return attack.Room{}, fmt.Errorf("pid: %q is not a load", load)
	}
	tightest := attack.Room{Used: used, Max: numbersMax}
	for _, file := range []string{"proc/sys/kernel/pid_max", "proc/sys/kernel/threads-max"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			return attack.Room{}, fmt.Errorf("pid: %w", err)
		}
		limit, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			return attack.Room{}, fmt.Errorf("pid: %s: %w", file, err)
		}
		tightest.Max = min(tightest.Max, limit)
	}
	for _, group := range cgroups.OwnAndAbove(root, cgroups.PIDs) {
		limit, err1 := group.Number(fileMax)
		current, err2 := group.Number(fileCurrent)
		if errors.Join(err1, err2) == nil && limit >= 0 && limit-current < tightest.Max-tightest.Used {
			tightest = attack.Room{Used: current, Max: limit}
		}
	}
	return tightest, nil
}
