package worker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/drill"
)

// processName is what a worker is called in ps, by which Main knows itself and Sweep knows the others.
const processName = "firedrill-worker"

// envWorker marks the environment of a worker. A program that forgets to call Main would start itself without end.
const envWorker = "FIREDRILL_WORKER"

// Job is the work of one kind. It brings the impact about, calls ready once with what there is to report, and then keeps the impact in
// force until the process is killed. An error before ready is the attack's error.
type Job func(d Duty) error

// Duty is what a job is told.
type Duty struct {
	Args  json.RawMessage // as in Step.Args
	Bug   string          // planted by a test
	ready io.Writer
	end   *ending
}

// Ready says that the impact is in force.
func (d Duty) Ready(report any) error { return tell(d.ready, said{Ready: report, Early: d.end.early}) }

// Early asks the kernel to end the worker so long before the deadline: what takes time to give back must be begun early to be over in time.
// Call it before Ready. It is bounded by a quarter of what is left.
func (d Duty) Early(by time.Duration) error {
	if d.end.timer == nil {
		return nil // a planted bug
	}
	now, err := attack.SinceBoot()
	if err != nil {
		return err
	}
	d.end.early = max(0, min(by, time.Duration(d.end.deadline-now)/4))
	return d.end.timer.set(d.end.deadline - int64(d.end.early))
}

// ending is when the kernel ends the worker.
type ending struct {
	timer    *timer
	deadline int64
	early    time.Duration
}

// said is the one line that a worker says.
type said struct {
	Ready any             `json:"ready,omitempty"`
	Early time.Duration   `json:"early_ns,omitempty"` // before the deadline the worker ends
	Error string          `json:"error,omitempty"`
	Kind  drill.ErrorKind `json:"kind,omitempty"`
	Hint  string          `json:"hint,omitempty"`
}

func tell(w io.Writer, line said) error {
	text, err := json.Marshal(line)
	if err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	_, err = w.Write(append(text, '\n'))
	return err
}

// The arguments of a worker.
const (
	argName = iota
	argJob
	argGUID
	argDeadline // nanoseconds since boot
	argParent
	argBug
	argArgs
	argCount
)

// Main does the work of a worker when this process is one, and returns its exit code; ours is false when it is none. Call it before
// anything else, with the arguments of the process.
func Main(args []string, jobs map[string]Job) (code int, ours bool) {
	if len(args) == 0 || args[argName] != processName {
		return 0, false
	}
	// The death signal is bound to nothing here, but a job may rely on being on one thread.
	runtime.LockOSThread()
	if err := work(args, jobs); err != nil {
		line := said{Error: err.Error(), Kind: drill.KindOf(err), Hint: drill.HintOf(err)}
		_ = tell(os.Stdout, line)
		return 1, true
	}
	return 0, true
}

func work(args []string, jobs map[string]Job) error {
	if len(args) != argCount {
		return errors.New("a worker is started by firedrill attack, not by hand")
	}
	job, known := jobs[args[argJob]]
	if !known {
		return fmt.Errorf("worker: there is no job %q", args[argJob])
	}
	deadline, err := strconv.ParseInt(args[argDeadline], 10, 64)
	parent, err2 := strconv.Atoi(args[argParent])
	if err := errors.Join(err, err2); err != nil {
		return fmt.Errorf("worker: %w", err)
	}
	bug := args[argBug]
	if bug != bugOutlives {
		if err := dieWith(parent); err != nil {
			return err
		}
		go dieAtEnd(os.Stdin)
	}
	end := &ending{deadline: deadline}
	if bug != bugNoDeadline {
		clock := unix.CLOCK_BOOTTIME
		if bug == bugAwake {
			clock = unix.CLOCK_MONOTONIC
		}
		if end.timer, err = dieAt(clock, deadline); err != nil {
			return err
		}
	}
	// Best effort: a worker that is not the first victim is still killed at its deadline.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("1000"), 0)
	if bug == bugSlow {
		Hold()
	}
	return job(Duty{Args: json.RawMessage(args[argArgs]), Bug: bug, ready: os.Stdout, end: end})
}

// dieWith asks the kernel to kill us when our parent dies. It was asked already when we were started, but the kernel forgets that when a
// program with capabilities of its own is executed.
func dieWith(parent int) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("worker: ask for the death signal: %w", err)
	}
	if os.Getppid() != parent {
		return errors.New("worker: the attack has died")
	}
	return nil
}

// dieAtEnd kills us when the other end of the pipe is closed. It is the second string to the death signal.
func dieAtEnd(lifeline io.Reader) {
	_, _ = io.Copy(io.Discard, lifeline)
	killSelf()
}

// Hold keeps a job in force: it never returns.
func Hold() {
	for {
		_ = unix.Pause() // a signal that does not kill us ends the call
	}
}

func killSelf() { _ = unix.Kill(os.Getpid(), unix.SIGKILL) }

// sigevent is the kernel's struct of that name, for SIGEV_SIGNAL.
type sigevent struct {
	value  uintptr
	signo  int32
	notify int32
	_      [64]byte
}

// dieAt lets the kernel kill us at an instant since boot, or when the host wakes up after it. Unlike SIGALRM, SIGKILL from a timer ends a stopped process too.
func dieAt(clock int, deadline int64) (*timer, error) {
	const sigevSignal = 0
	event := sigevent{signo: int32(unix.SIGKILL), notify: sigevSignal}
	var made timer
	if _, _, errno := unix.Syscall(unix.SYS_TIMER_CREATE, uintptr(clock), uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&made))); errno != 0 {
		return nil, &drill.Error{Op: "worker", Kind: drill.Unsupported, Err: fmt.Errorf("make the kernel's timer: %w", errno),
			Hint: "raise the limit of pending signals: ulimit -i"}
	}
	return &made, made.set(deadline)
}

// timer is the kernel's name of a timer.
type timer int32

// set lets it end us at an instant since boot, in place of the one before.
func (t timer) set(deadline int64) error {
	const absolute = 1
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(max(deadline, 1))}
	if _, _, errno := unix.Syscall6(unix.SYS_TIMER_SETTIME, uintptr(t), absolute, uintptr(unsafe.Pointer(&at)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("worker: set the kernel's timer: %w", errno)
	}
	return nil
}
