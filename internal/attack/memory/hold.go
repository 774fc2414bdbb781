package memory

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/worker"
	"firedrill/internal/drill"
)

// task is what the worker is told, in bytes.
type task struct {
	Amount  uint64 `json:"amount"`
	Reserve uint64 `json:"reserve"`
}

// report is what the worker says when it holds the amount.
type report struct {
	Own uint64 `json:"own"` // bytes that the worker had before
}

// After each part it is looked again whether the reserve is there; a part takes a few milliseconds. The worker keeps its priority: with a
// lower one it did not get to a gigabyte within five seconds on a busy host.
const part = 32 * mega

// bugSmall is a worker that holds a tenth of what it says.
const bugSmall = "never bites"

// Job is the worker's side.
func Job(d worker.Duty) error {
	task, err := worker.Arguments[task](d)
	if err != nil {
		return err
	}
	own, err := anonymous(os.Getpid())
	if err != nil {
		return err
	}
	if d.Bug == bugSmall {
		task.Amount /= 10
	}
	if err := hold(task); err != nil {
		return err
	}
	if err := d.Ready(report{Own: own}); err != nil {
		return err
	}
	worker.Hold()
	return nil
}

// hold maps the amount and makes it present, part by part.
func hold(t task) error {
	if err := room(t.Amount, t.Reserve); err != nil {
		return err
	}
	memory, err := unix.Mmap(-1, 0, int(t.Amount), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("map %s: %w", megabytes(t.Amount), err)
	}
	for len(memory) > 0 {
		now := memory[:min(part, len(memory))]
		if err := room(uint64(len(now)), t.Reserve); err != nil {
			return err
		}
		if err := populate(now); err != nil {
			return err
		}
		memory = memory[len(now):]
	}
	return nil
}

func room(amount, reserve uint64) error {
	available, err := available("/")
	if err != nil {
		return err
	}
	return fits(amount, reserve, available)
}

// populate makes pages present by writing to them.
func populate(pages []byte) error {
	err := unix.Madvise(pages, unix.MADV_POPULATE_WRITE)
	switch {
	case errors.Is(err, unix.EINVAL): // before Linux 5.14
		for at := 0; at < len(pages); at += os.Getpagesize() {
			pages[at] = 1
		}
	case err != nil:
		return &drill.Error{Op: "attack " + Name, Kind: drill.Refused, Err: fmt.Errorf("the kernel does not give the memory: %w", err),
			Hint: "ask for less: --megabytes"}
	}
	// Without the right to lock, the kernel may swap the pages out; the evidence then says how much is in memory.
	_ = unix.Mlock(pages)
	return nil
}

// meter reads what the kernel says that the worker has in memory.
type meter struct {
	asked   uint64
	before  uint64 // available before
	own     uint64
	least   uint64 // that it held at any reading
	inForce uint64 // available, at the last reading
	count   int
}

// Begin implements worker.Meter.
func (m *meter) Begin(pid int, text json.RawMessage) error {
	var r report
	if err := json.Unmarshal(text, &r); err != nil {
		return err
	}
	m.own = r.Own
	return m.Read(pid)
}

// Read implements worker.Meter.
func (m *meter) Read(pid int) error {
	resident, err := anonymous(pid)
	if err != nil || resident == 0 { // a process that is about to end has no memory left
		return err
	}
	held := resident - min(m.own, resident)
	if m.count == 0 || held < m.least {
		m.least = held
	}
	m.count++
	m.inForce, err = available("/")
	return err
}

// biteShare is how much of the amount must have been in memory at all times for the attack to have bitten, in percent.
const biteShare = 95

// Evidence implements worker.Meter.
func (m *meter) Evidence() (bool, []string) {
	if m.count == 0 {
		return false, []string{"the kernel's figures of the worker were never read while it was in force"}
	}
	figures := []string{fmt.Sprintf("by the kernel's accounts the worker held %s of memory at least, asked %s", megabytes(m.least), megabytes(m.asked))}
	if after, err := available("/"); err == nil {
		figures = append(figures, fmt.Sprintf("available on the host: %s before, %s in force, %s after", megabytes(m.before), megabytes(m.inForce), megabytes(after)))
	}
	return m.least*100 >= m.asked*biteShare, figures
}

// anonymous is how many bytes of its own a process has in memory.
func anonymous(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	kilobytes, _ := field(string(text), "RssAnon:")
	return kilobytes * 1024, nil
}
