package fd

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/worker"
	"firedrill/internal/drill"
)

// task is what the worker is told.
type task struct {
	Amount int `json:"amount"`
}

const (
	batch      = 4096 // files between two looks at the reserve
	runtimeOwn = 64   // descriptors of the Go runtime itself, at most
	bugFew     = "never bites"
)

// Job is the worker's side: so many open files. One costs the kernel about 250 bytes.
func Job(d worker.Duty) error {
	task, err := worker.Arguments[task](d)
	if err != nil {
		return err
	}
	if d.Bug == bugFew {
		task.Amount /= 10
	}
	if err := allow(task.Amount + runtimeOwn); err != nil {
		return err
	}
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
			if _, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
				return fmt.Errorf("open file %d: %w", taken, err)
			}
		}
		taken += now
	}
	if err := d.Ready(struct{}{}); err != nil {
		return err
	}
	worker.Hold()
	return nil
}

// allow raises our own limit.
func allow(amount int) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return fmt.Errorf("fd: %w", err)
	}
	if now.Cur >= uint64(amount) {
		return nil
	}
	now.Cur, now.Max = uint64(amount), max(now.Max, uint64(amount))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return &drill.Error{Op: "attack " + Name, Kind: drill.Unsupported, Err: fmt.Errorf("raise our own limit to %d: %w", amount, err),
			Hint: "run it as root, or ask for less: ulimit -Hn says how many"}
	}
	return nil
}

// room is how many files are open and how many can be. root is "/", or a tree that looks like one.
func room(root string) (attack.Room, error) {
	text, err := os.ReadFile(filepath.Join(root, "proc/sys/fs/file-nr"))
	if err != nil {
		return attack.Room{}, fmt.Errorf("fd: %w", err)
	}
	fields := strings.Fields(string(text)) // open, 0, and the limit, which can be none at all
	if len(fields) != 3 {
		return attack.Room{}, fmt.Errorf("fd: file-nr says %q", text)
	}
	used, err1 := strconv.Atoi(fields[0])
	most, err2 := strconv.ParseUint(fields[2], 10, 64)
	if err1 != nil || err2 != nil {
		return attack.Room{}, fmt.Errorf("fd: file-nr says %q", text)
	}
	return attack.Room{Used: used, Max: int(min(most, math.MaxInt))}, nil
}

// meter counts the descriptors of the worker, as the kernel says.
type meter struct {
	asked, least, count int
	inForce             int // open files of the host
}

// Begin implements worker.Meter.
func (m *meter) Begin(pid int, _ json.RawMessage) error { return m.Read(pid) }

// Read implements worker.Meter.
func (m *meter) Read(pid int) error {
	open, err := descriptors(pid)
	if err != nil || open == 0 { // a process that is about to end has none left
		return err
	}
	if m.count == 0 || open < m.least {
		m.least = open
	}
	m.count++
	if now, err := room("/"); err == nil {
		m.inForce = now.Used
	}
	return nil
}

// descriptors counts: since Linux 6.2 the size of the directory says it, before that each is listed.
func descriptors(pid int) (int, error) {
	directory, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0, err
	}
	defer directory.Close()
	if info, err := directory.Stat(); err == nil && info.Size() > 0 {
		return int(info.Size()), nil
	}
	names, err := directory.Readdirnames(-1)
	return len(names), err
}

// Evidence implements worker.Meter.
func (m *meter) Evidence() (bool, []string) {
	if m.count == 0 {
		return false, []string{"the kernel's figures of the worker were never read while it was in force"}
	}
	figures := []string{fmt.Sprintf("by the kernel's accounts the worker held %d open files at least, asked %d", m.least, m.asked)}
	if after, err := room("/"); err == nil {
		figures = append(figures, fmt.Sprintf("open on the host: %d in force, %d after, of %d", m.inForce, after.Used, after.Max))
	}
	return m.least >= m.asked, figures
}
