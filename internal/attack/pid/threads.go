package pid

import (
	"encoding/json"
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
	"firedrill/internal/attack/worker"
)

// task is what the worker is told.
type task struct {
	Amount int `json:"amount"`
}

const (
	batch      = 256 // threads between two looks at the reserve
	runtimeOwn = 64  // threads of the Go runtime itself, at most
	bugFew     = "never bites"
)

// Job is the worker's side: so many threads that only wait. A thread costs the kernel about 20 kilobytes, and nobody processor time.
func Job(d worker.Duty) error {
	task, err := worker.Arguments[task](d)
	if err != nil {
		return err
	}
	if d.Bug == bugFew {
		task.Amount /= 10
	}
	debug.SetMaxThreads(task.Amount + runtimeOwn)
	up := make(chan struct{})
	for taken := 0; taken < task.Amount; {
		now := min(batch, task.Amount-taken)
		left, err := room("/")
		if err == nil {
			err = fits(now, left)
		}
		if err != nil {
			return err
		}
		for range now {
			go func() {
				runtime.LockOSThread()
				up <- struct{}{}
				select {} // a goroutine that is bound to its thread keeps it while it waits
			}()
			<-up
		}
		taken += now
	}
	if err := d.Ready(struct{}{}); err != nil {
		return err
	}
	worker.Hold()
	return nil
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
	tightest := attack.Room{Used: used, Max: countMax}
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

// meter counts the threads of the worker, as the kernel says.
type meter struct {
	asked, least, count int
	last                int // the reading before; it counts when a later one shows that the worker was not about to end
}

// Begin implements worker.Meter.
func (m *meter) Begin(pid int, _ json.RawMessage) error { return m.Read(pid) }

// Read implements worker.Meter.
func (m *meter) Read(pid int) error {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil || len(entries) <= 1 { // a process that is about to end has one thread or none
		return err
	}
	if m.last > 0 && (m.count == 1 || m.last < m.least) {
		m.least = m.last
	}
	m.last = len(entries)
	m.count++
	return nil
}

// Evidence implements worker.Meter.
func (m *meter) Evidence() (bool, []string) {
	if m.count < 2 {
		return false, []string{"the kernel's figures of the worker were never read while it was in force"}
	}
	figures := []string{fmt.Sprintf("by the kernel's accounts the worker held %d threads at least, asked %d", m.least, m.asked)}
	if after, err := room("/"); err == nil {
		figures = append(figures, fmt.Sprintf("%d threads run after it, of %d", after.Used, after.Max))
	}
	return m.least >= m.asked, figures
}
