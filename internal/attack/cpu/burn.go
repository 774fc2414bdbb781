package cpu

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/worker"
)

// task is what the worker is told.
type task struct {
	Cores   []int   `json:"cores"`
	Percent float64 `json:"percent"`
}

// pinned is a thread of the worker that burns a core.
type pinned struct {
	Core   int `json:"core"`
	Thread int `json:"thread"`
}

const (
	// A period is short, so that every window that a monitor looks at holds many; and long against what a sleep and a wake-up cost.
	period = 10 * time.Millisecond
	// What others took of a core is made up for, but only this much of it: a hog that stood still for long must not then burn for long.
	debtMax    = 50 * time.Millisecond
	spinRounds = 2000 // work between two looks at the clock: about 2 microseconds
	// Threads of the Go runtime beside those that burn.
	runtimeThreads = 4
)

// Job is the worker's side.
func Job(d worker.Duty) error {
	task, err := worker.Arguments[task](d)
	if err != nil {
		return err
	}
	// A burning thread never yields to the garbage collector, so there must be nothing to collect.
	runtime.GOMAXPROCS(len(task.Cores) + runtimeThreads)
	debug.SetGCPercent(-1)
	type start struct {
		pinned
		err error
	}
	started := make(chan start)
	begin := make(chan struct{})
	for _, core := range task.Cores {
		go func() {
			runtime.LockOSThread()
			err := pin(core)
			started <- start{pinned{Core: core, Thread: unix.Gettid()}, err}
			<-begin
			if d.Bug == bugIdle {
				return
			}
			burn(task.Percent / 100)
		}()
	}
	var threads []pinned
	for range task.Cores {
		s := <-started
		if s.err != nil {
			return fmt.Errorf("pin a thread to core %d: %w", s.Core, s.err)
		}
		threads = append(threads, s.pinned)
	}
	if err := d.Ready(threads); err != nil {
		return err
	}
	close(begin)
	worker.Hold()
	return nil
}

// bugIdle is a worker that does nothing.
const bugIdle = "never bites"

func pin(core int) error {
	var set unix.CPUSet
	set.Set(core)
	return unix.SchedSetaffinity(0, &set)
}

// burn holds a share of the core, from over 0 to 1, and never returns. It uses raw system calls only: the scheduler of the Go runtime
// would add points of its own at each sleep.
func burn(share float64) {
	from, before := now(unix.CLOCK_MONOTONIC), now(unix.CLOCK_THREAD_CPUTIME_ID)
	for end := from + int64(period); ; end += int64(period) {
		goal := int64(share * float64(end-from)) // of all time up to the end of this period, so that errors do not add up
		used, at := spin(before, goal, end)
		if used >= goal {
			sleepUntil(end)
			continue
		}
		// Somebody else had the core. Forget what is too much to make up for, and the periods that have passed.
		if debt := int64(share*float64(at-from)) - used; debt > int64(debtMax) {
			before -= debt - int64(debtMax)
		}
		end = max(end, at-int64(period))
	}
}

// spin burns until this thread has used goal since before, or until end. It returns what was used and the time.
func spin(before, goal, end int64) (used, at int64) {
	work := uint64(1)
	for {
		for range spinRounds {
			work = work*6364136223846793005 + 1442695040888963407
		}
		used, at = now(unix.CLOCK_THREAD_CPUTIME_ID)-before, now(unix.CLOCK_MONOTONIC)
		if used >= goal || at >= end || work == 0 { // the work must have an outcome, or the compiler leaves it out
			return used, at
		}
	}
}

// now reads a clock of the kernel in nanoseconds. The clocks used here are always there.
func now(clock uintptr) int64 {
	var at unix.Timespec
	_, _, _ = unix.RawSyscall(unix.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&at)), 0)
	return at.Nano()
}

// sleepUntil sleeps until an instant of the monotonic clock, or returns early at a signal; then the rest of the period is slept next time.
func sleepUntil(at int64) {
	const absolute = 1
	until := unix.NsecToTimespec(at)
	_, _, _ = unix.RawSyscall6(unix.SYS_CLOCK_NANOSLEEP, unix.CLOCK_MONOTONIC, absolute, uintptr(unsafe.Pointer(&until)), 0, 0, 0)
}
