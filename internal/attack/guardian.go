package attack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
)

// ByHostPart is the name under which the attack part of the program starts the host part.
const ByHostPart = "firedrill: host part"

// guardianName is the name under which this program starts itself as a guardian. Nobody calls a link like this.
const guardianName = "firedrill: guardian"

// What a guardian inherits, as descriptors.
const (
	fdJournal  = 3 + iota // open and locked; the lock lasts until worker and guardian have both let go
	fdWorker              // a handle on the worker
	fdLifeline            // brings a byte when the worker begins to take back; ends when it has, or has nothing left to guard
	fdReady               // gets one byte when the guardian stands
)

const (
	guardianStart = 10 * time.Second      // a start takes 20 ms; only a machine in trouble takes longer, and then nothing is changed
	guardianGrace = time.Second           // a worker that runs reverts at the deadline by itself, and gives account
	guardianLook  = 20 * time.Millisecond // how late a frozen worker can be noticed at the deadline
	guardianRetry = 200 * time.Millisecond
	guardianTries = 25
	killPatience  = time.Second
)

// errGuardianLost ends an attack whose guardian is gone: it must not go on without one.
var errGuardianLost = &drill.Error{Op: "guardian", Kind: drill.Unproven, Err: errors.New("the guardian process was ended, so the attack ended early"),
	Hint: "nothing may end the process named \"" + guardianName + "\""}

// Reexec does the work of a guardian if this process was started as one; then it returns the exit code and true. In all other processes
// it returns false at once. Call it first in main, and in TestMain.
func Reexec(kinds []Kind) (code int, hidden bool) {
	if len(os.Args) == 0 {
		return 0, false
	}
	if os.Args[0] == guardianName {
		return guardianMain(kinds, guarding{mark: func(string) {}}), true
	}
	return 0, false
}

// guarding is how a guardian behaves; tests plant faults into it.
type guarding struct {
	mark  func(string)
	blind bool // planted: does not see that its worker is stopped, nor that the deadline has passed
	deaf  bool // planted: does not hear that its worker takes back what it did
}

// guardian is our hold on a guardian process.
type guardian struct {
	cmd      *exec.Cmd
	lifeline *os.File      // closed by us, or by the kernel when we die
	gone     chan struct{} // closed when the process has ended
}

// startGuardian starts a guardian for the journal and waits until it stands. Nothing may be changed before.
func startGuardian(ctx context.Context, j *Journal) (*guardian, error) {
	self, err := unix.PidfdOpen(os.Getpid(), 0)
	if err != nil {
		return nil, fmt.Errorf("guardian: handle on ourselves: %w", err)
	}
	worker := os.NewFile(uintptr(self), "worker")
	defer worker.Close()
	held, lifeline, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer held.Close()
	ready, readyEnd, err := os.Pipe()
	if err != nil {
		_ = lifeline.Close()
		return nil, err
	}
	defer ready.Close()
	g := &guardian{lifeline: lifeline, gone: make(chan struct{})}
	// A session of its own: a terminal that hangs up, or Ctrl-C in it, must not reach the guardian.
	g.cmd = &exec.Cmd{Path: "/proc/self/exe", Args: []string{guardianName}, Dir: j.dir, Env: os.Environ(),
		ExtraFiles: []*os.File{j.file, worker, held, readyEnd}, SysProcAttr: &syscall.SysProcAttr{Setsid: true}}
	j.mark("start the guardian")
	err = g.cmd.Start()
	_ = readyEnd.Close()
	if err != nil {
		_ = lifeline.Close()
		return nil, fmt.Errorf("start the guardian: %w", err)
	}
	go func() {
		_ = g.cmd.Wait()
		close(g.gone)
	}()
	if err := awaitReady(ctx, ready); err != nil {
		_ = g.cmd.Process.Kill()
		g.stop()
		return nil, fmt.Errorf("the guardian does not stand: %w", err)
	}
	return g, nil
}

func awaitReady(ctx context.Context, ready *os.File) error {
	limit := time.Now().Add(guardianStart)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(limit) {
		limit = deadline
	}
	if err := ready.SetReadDeadline(limit); err != nil {
		return err
	}
	_, err := ready.Read(make([]byte, 1))
	if errors.Is(err, io.EOF) {
		return errors.New("it ended at once")
	}
	return err
}

// goingBack tells the guardian that the worker takes back what it did, which may take longer than a worker is waited for that does nothing.
func (g *guardian) goingBack() {
	_, _ = g.lifeline.Write([]byte{1}) // one that does not hear it is only less patient
}

// stop tells the guardian that the worker is done, and waits for its end: if the journal still holds something, it tries that itself.
func (g *guardian) stop() {
	_ = g.lifeline.Close()
	<-g.gone
}

// guardianMain is a guardian process. It returns 0 when nothing is left to take back.
func guardianMain(kinds []Kind, how guarding) int {
	// Whoever wants to end the attack tells the worker; a guardian that heeds a signal to the whole group would leave the impact.
	signal.Ignore(unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGPIPE, unix.SIGTSTP, unix.SIGTTOU, unix.SIGTTIN)
	for fd := fdJournal; fd <= fdReady; fd++ {
		unix.CloseOnExec(fd)
	}
	j := &Journal{dir: ".", file: os.NewFile(fdJournal, "journal"), mark: how.mark}
	if err := j.load(); err != nil || j.record.header == nil {
		return 1
	}
	kind, ok := undoerOf(kinds, j.record.header.Attack)
	if !ok {
		return 1
	}
	self, err := procs.Stat(os.Getpid())
	if err == nil {
		err = j.append(entry{Guardian: &self.ID})
	}
	alarm := -1
	if err == nil {
		alarm, err = alarmAt(j.record.header.Deadline)
	}
	ready := os.NewFile(fdReady, "ready")
	if err == nil {
		_, err = ready.Write([]byte{1})
	}
	if err = errors.Join(err, ready.Close()); err != nil {
		return 1
	}
	watch(*j.record.header, alarm, how)
	_ = unix.Close(alarm)
	return relieve(j, kind)
}

func undoerOf(kinds []Kind, name string) (Undoer, bool) {
	at := slices.IndexFunc(kinds, func(kind Kind) bool { return kind.Describe().Name == name })
	if at < 0 {
		return nil, false
	}
	undoer, ok := kinds[at].(Undoer)
	return undoer, ok
}

// watch returns when the worker has ended or let go, or when it is past the deadline; in the last case the worker is killed first, so
// that it can change nothing any more. One that is taking back what it did has the time that this may take. Until alarm, a descriptor that
// can be read from the deadline on, nothing but the worker wakes it.
func watch(h header, alarm int, how guarding) {
	fds := []unix.PollFd{{Fd: fdWorker, Events: unix.POLLIN}, {Fd: fdLifeline, Events: unix.POLLIN}, {Fd: int32(alarm), Events: unix.POLLIN}}
	grace := guardianGrace
	pause := -1
	for {
		left := time.Duration(1)
		if now, err := SinceBoot(); err == nil {
			left = time.Duration(h.Deadline - now)
		}
		if left <= 0 {
			fds[2].Fd, pause = -1, int(guardianLook.Milliseconds()) // it has rung
		}
		if left <= 0 && !how.blind {
			if state, err := procs.Find(h.Worker); err != nil || state.Stopped() || left < -grace {
				endWorker(fds[:1])
				return
			}
		}
		if n, err := unix.Poll(fds, pause); err != nil || n == 0 {
			continue
		}
		if fds[0].Revents != 0 {
			return
		}
		if fds[1].Revents == 0 {
			continue
		}
		if n, err := unix.Read(fdLifeline, make([]byte, 1)); err != nil || n == 0 {
			return
		}
		if !how.deaf {
			grace += revertTimeout
		}
	}
}

func endWorker(handle []unix.PollFd) {
	_ = unix.PidfdSendSignal(int(handle[0].Fd), unix.SIGKILL, nil, 0)
	deadline := time.Now().Add(killPatience)
	for time.Now().Before(deadline) {
		if n, err := unix.Poll(handle, int(guardianLook.Milliseconds())); err == nil && n > 0 {
			return
		}
	}
}

// relieve takes back what the worker left.
func relieve(j *Journal, kind Undoer) int {
	for range guardianTries {
		if j.removed() {
			return 0
		}
		ctx, cancel := context.WithTimeout(context.Background(), revertTimeout)
		err := j.load()
		if err == nil {
			err = j.Undo(ctx, kind)
		}
		if err == nil {
			err = j.remove()
		}
		if err == nil {
			cancel()
			return 0
		}
		_ = wait(ctx, guardianRetry)
		cancel()
	}
	return 1
}
