package memory

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

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
	hurry()
	lead, err := giveBack(task.Amount - min(large(), task.Amount))
	if err == nil {
		err = d.Early(lead)
	}
	if err != nil {
		return err
	}
	if err := d.Ready(report{Own: own}); err != nil {
		return err
	}
	worker.Hold()
	return nil
}

// hold maps the amount and makes it present, part by part.
//
// Large pages are given back fifty times as fast (measured: 8 ms for a gigabyte, against 250 to 1,000). But where free memory lies in small
// pieces the kernel takes seconds to make some, so a slow part ends the try.
func hold(t task) error {
	if err := room(t.Amount, t.Reserve); err != nil {
		return err
	}
	memory, err := unix.Mmap(-1, 0, int(t.Amount), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return fmt.Errorf("map %s: %w", megabytes(t.Amount), err)
	}
	slow := 0
	for len(memory) > 0 {
		now := memory[:min(part, len(memory))]
		if err := room(uint64(len(now)), t.Reserve); err != nil {
			return err
		}
		large := slow < slowMax && unix.Madvise(now, unix.MADV_HUGEPAGE) == nil
		began := time.Now()
		if err := populate(now); err != nil {
			return err
		}
		if large && time.Since(began) > slowPart {
			slow++
		}
		memory = memory[len(now):]
	}
	return nil
}

const (
	slowPart = 60 * time.Millisecond // a part in small pages takes 20 to 50
	slowMax  = 3                     // of these; one alone can be somebody else's fault
)

// large is how many bytes of ours are in large pages, as the kernel says.
func large() uint64 {
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		return 0 // before Linux 4.14: the estimate is then too long
	}
	kilobytes, _ := field(string(text), "AnonHugePages:")
	return kilobytes * 1024
}

// giveBack says how long the kernel is going to take to free so much in small pages, and the rest in large ones, by a try with a part.
func giveBack(small uint64) (time.Duration, error) {
	if small == 0 {
		return leadMin, nil
	}
	sample, err := unix.Mmap(-1, 0, part, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		return 0, fmt.Errorf("map a part: %w", err)
	}
	if err := populate(sample); err != nil {
		return 0, errors.Join(err, unix.Munmap(sample))
	}
	began := time.Now()
	if err := unix.Munmap(sample); err != nil {
		return 0, fmt.Errorf("give a part back: %w", err)
	}
	return leadMin + time.Duration(leadMargin*float64(time.Since(began))*float64(small)/part), nil
}

const (
	leadMin    = 20 * time.Millisecond // what the end of a process takes that holds a few gigabytes in large pages
	leadMargin = 1.5                   // on a busy host no two parts take the same time
)

// hurry gives every thread of ours the highest ordinary priority, where we may. We do nothing from here on but end, and at the end the kernel
// frees the memory in our name: on a busy host that took a second for half a gigabyte, in the queue behind everybody else.
func hurry() {
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return
	}
	for _, thread := range threads {
		if id, err := strconv.Atoi(thread.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, id, highest)
		}
	}
}

const highest = -20 // nice value

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
