package worker

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/drill"
	"firedrill/internal/tether"
)

// slack is how long before the deadline the end of a worker is still taken for the deadline: its clock and ours are read apart.
const slack = 100 * time.Millisecond

// lineMax bounds the worker's report.
const lineMax = 1 << 20

// process is a worker as its parent sees it.
type process struct {
	pid      int
	report   json.RawMessage
	deadline time.Time // when the kernel ends it
	command  *exec.Cmd
	lifeline *os.File      // its standard input ends with this
	done     chan struct{} // closed when it has ended and was waited for
	ended    error         // how; to be read after done
}

// start starts a worker and waits until it is ready. When it returns an error there is none.
func start(ctx context.Context, step *Step, deadline time.Time) (*process, error) {
	if os.Getenv(envWorker) != "" {
		return nil, errors.New("worker: a worker starts no workers; does this program call worker.Main first?")
	}
	command, err := prepare(step, deadline)
	if err != nil {
		return nil, err
	}
	input, lifeline, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	defer input.Close()
	output, outputOfChild, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("worker: %w", err), lifeline.Close())
	}
	defer output.Close()
	p := &process{deadline: deadline, command: command, lifeline: lifeline, done: make(chan struct{})}
	command.Stdin, command.Stdout = input, outputOfChild
	wait, err := tether.Start(command)
	if err := errors.Join(err, outputOfChild.Close()); err != nil {
		return nil, errors.Join(fmt.Errorf("worker: start: %w", err), lifeline.Close())
	}
	go func() {
		p.ended = wait()
		close(p.done)
	}()
	p.pid = command.Process.Pid
	stop := context.AfterFunc(ctx, func() { _ = output.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	line, readErr := bufio.NewReaderSize(output, lineMax).ReadSlice('\n')
	if err := p.listen(ctx, bytes.Clone(line), readErr); err != nil {
		return nil, errors.Join(err, p.kill(context.WithoutCancel(ctx)))
	}
	return p, nil
}

func prepare(step *Step, deadline time.Time) (*exec.Cmd, error) {
	args, err := json.Marshal(step.Args)
	if err != nil {
		return nil, fmt.Errorf("worker: %w", err)
	}
	now, err := attack.SinceBoot()
	if err != nil {
		return nil, err
	}
	at := now + int64(time.Until(deadline))
	command := exec.Command("/proc/self/exe")
	command.Args = []string{processName, step.Job, step.GUID, strconv.FormatInt(at, 10), strconv.Itoa(os.Getpid()), step.Hooks.Bug, string(args)}
	// Nothing is inherited but what the runtime needs: no preemption by signals, which would cost a hog points of its share.
	command.Env = []string{envWorker + "=1", "GODEBUG=asyncpreemptoff=1", "GORACE=atexit_sleep_ms=0"}
	// A session of its own: Ctrl-C is for us, who then revert; it must not look as if the worker had died.
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	if step.Hooks.Bug == bugOutlives {
		command.SysProcAttr.Pdeathsig = 0
	}
	return command, nil
}

// listen makes sense of the line that the worker said.
func (p *process) listen(ctx context.Context, line []byte, readErr error) error {
	var heard struct {
		said
		Ready json.RawMessage `json:"ready"`
	}
	switch {
	case ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded):
		return context.Cause(ctx)
	case readErr != nil && time.Until(p.deadline) < slack:
		return &drill.Error{Op: "worker", Kind: drill.Unproven, Err: errors.New("the length was over before the impact was complete"),
			Hint: "make it longer: --length SECONDS"}
	case readErr != nil:
		return &drill.Error{Op: "worker", Kind: drill.Failed, Err: fmt.Errorf("it ended before it was ready: %s", p.howEnded())}
	}
	if err := json.Unmarshal(line, &heard); err != nil {
		return fmt.Errorf("worker: it said %q; does this program call worker.Main first?", line)
	}
	if heard.Error != "" {
		return &drill.Error{Op: "worker", Kind: heard.Kind, Hint: heard.Hint, Err: errors.New(heard.Error)}
	}
	p.report = heard.Ready
	p.deadline = p.deadline.Add(-heard.Early)
	return nil
}

// howEnded waits for the end and says how it came.
func (p *process) howEnded() string {
	<-p.done
	if p.ended == nil {
		return "it returned"
	}
	return p.ended.Error()
}

// alive reports whether the worker has not been waited for yet, so that its number in /proc is its own.
func (p *process) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill ends the worker and waits until the kernel has taken back what it held. It may be called twice.
func (p *process) kill(ctx context.Context) error {
	_ = p.lifeline.Close()
	if err := p.command.Process.Signal(unix.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("worker %d: kill: %w", p.pid, err)
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("worker %d: killed, but still there: %w", p.pid, ctx.Err())
	}
}
