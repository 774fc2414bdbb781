//go:build !hostpart

package cli

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Bounds of waiting for a host. A dead host costs a drill no more than connectMax at each try.
const (
	connectMax  = 5 * time.Second
	killGrace   = 5 * time.Second
	revertMax   = 20 * time.Second // an attack that was asked to end is given this long to revert
	eventLine   = 1 << 20          // a line of events that is longer is not ours
	stderrKept  = 4 << 10
	offsetLimit = 24 * time.Hour // a clock further off than this is a fault to report, not to correct
)

// link is the way to one host: the connection, our program held there, and how far its clock is off.
type link struct {
	client *remote.Client
	pushed *remote.Pushed
	clock  history.Clock
}

// links keeps one link a host for as long as its connection lives. It is safe for use by several goroutines.
type links struct {
	mu     sync.Mutex // guards byHost
	byHost map[string]*linkSlot
}

type linkSlot struct {
	mu   sync.Mutex // one dial at a time; guards link
	link *link
}

func newLinks() *links { return &links{byHost: map[string]*linkSlot{}} }

// get returns the link to the host, made anew when the last one was lost. told is called with the clock of a new one.
func (l *links) get(ctx context.Context, host drill.Host, told func(history.Event)) (*link, error) {
	l.mu.Lock()
	slot := l.byHost[host.Name]
	if slot == nil {
		slot = new(linkSlot)
		l.byHost[host.Name] = slot
	}
	l.mu.Unlock()
	slot.mu.Lock()
	defer slot.mu.Unlock()
	if slot.link != nil {
		select {
		case <-slot.link.client.Lost():
			_ = slot.link.client.Close()
			slot.link = nil
		default:
			return slot.link, nil
		}
	}
	fresh, err := connect(ctx, host)
	if err != nil {
		return nil, err
	}
	slot.link = fresh
	if told != nil {
		told(history.New(time.Now(), host.Name, &fresh.clock))
	}
	return fresh, nil
}

// close ends every connection and lets go of our program on every host.
func (l *links) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	var group sync.WaitGroup
	for _, slot := range l.byHost {
		group.Go(func() {
			slot.mu.Lock()
			defer slot.mu.Unlock()
			if slot.link != nil {
				_ = slot.link.pushed.Close()
				_ = slot.link.client.Close()
				slot.link = nil
			}
		})
	}
	group.Wait()
}

func connect(ctx context.Context, host drill.Host) (*link, error) {
	client, err := remote.Dial(ctx, host, remote.Options{ConnectTimeout: connectMax})
	if err != nil {
		return nil, err
	}
	fresh := &link{client: client, clock: history.Clock{Host: host.Name}}
	fail := func(err error) (*link, error) {
		_ = client.Close()
		return nil, err
	}
	offset, bound, err := client.ClockOffset(ctx)
	if err != nil {
		return fail(err)
	}
	if offset.Abs() > offsetLimit {
		return fail(&drill.Error{Op: "read the clock", Host: host.Name, Kind: drill.Unsupported, Hint: "Set the clock of the host.", Err: fmt.Errorf("it is %s off", offset)})
	}
	fresh.clock.Offset, fresh.clock.Error = drill.Seconds(offset), drill.Seconds(bound)
	if fresh.pushed, err = client.Push(ctx, remote.PushOptions{Become: host.SSH.Become}); err != nil {
		return fail(err)
	}
	return fresh, nil
}

// program is one run of our own program on a host, speaking events on its standard output.
type program struct {
	process *remote.Process
	lines   *eventLines
	errors  *tail
	signals bool // it is told by SIGTERM too: an attack takes an input that ends right after its start for no lifeline
}

// start runs our program on the host. Its events are corrected by the host's clock and passed on; input is sent first and then the
// standard input stays open until the process is told to end.
func (k *link) start(ctx context.Context, args []string, become string, input []byte, emit func(history.Event)) (*program, error) {
	p := &program{lines: &eventLines{offset: k.clock.Offset.Duration(), emit: emit}, errors: &tail{}}
	process, err := k.pushed.Start(ctx, remote.Invocation{
		Args: args, Become: become, Stdin: bytes.NewReader(input), Stdout: p.lines, Stderr: p.errors, Grace: killGrace,
	})
	if err != nil {
		return nil, err
	}
	p.process = process
	return p, nil
}

// wait returns when the program has ended. When stop ends first, the program's input is closed, which asks it to finish, and it is
// killed after patience.
func (p *program) wait(stop context.Context, patience time.Duration) (remote.Exit, error) {
	select {
	case <-p.process.Done():
	case <-stop.Done():
		_ = p.process.CloseStdin()
		if p.signals {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(stop), killGrace)
			defer cancel()
			_ = p.process.Signal(ctx, "TERM") // when it does not arrive, the closed input or the loss of the connection says the same
		}
		select {
		case <-p.process.Done():
		case <-time.After(patience):
			ctx, cancel := context.WithTimeout(context.WithoutCancel(stop), killGrace*2)
			defer cancel()
			if err := p.process.Kill(ctx, killGrace); err != nil {
				return remote.Exit{}, err
			}
		}
	}
	exit, err := p.process.Wait()
	p.lines.flush()
	return exit, err
}

// eventLines is a writer that cuts a stream into lines and decodes each as an event.
type eventLines struct {
	offset  time.Duration
	emit    func(history.Event)
	pending []byte
}

// Write takes a piece of the stream. A line that is no event becomes a Note, so that nothing a program says is lost.
func (e *eventLines) Write(piece []byte) (int, error) {
	e.pending = append(e.pending, piece...)
	for {
		line, rest, found := bytes.Cut(e.pending, []byte("\n"))
		if !found {
			break
		}
		e.line(line)
		e.pending = rest
	}
	if len(e.pending) > eventLine {
		return 0, errors.New("a line without end where events belong")
	}
	return len(piece), nil
}

func (e *eventLines) flush() {
	if len(bytes.TrimSpace(e.pending)) > 0 {
		e.line(e.pending)
		e.pending = nil
	}
}

func (e *eventLines) line(line []byte) {
	var event history.Event
	if err := json.Unmarshal(line, &event); err != nil {
		event = history.New(time.Now(), "", &history.Note{Text: string(line)})
	}
	e.emit(history.Shift(event, -e.offset))
}

// tail keeps the last part of what is written to it.
type tail struct {
	mu   sync.Mutex // guards kept
	kept []byte
}

func (t *tail) Write(piece []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, piece...)
	if len(t.kept) > stderrKept {
		t.kept = t.kept[len(t.kept)-stderrKept:]
	}
	return len(piece), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.kept))
}

// readEvents decodes events from a stream until it ends.
func readEvents(stream io.Reader, emit func(history.Event)) error {
	scanner := bufio.NewScanner(stream)
	scanner.Buffer(nil, eventLine)
	for scanner.Scan() {
		var event history.Event
		if err := json.Unmarshal(scanner.Bytes(), &event); err != nil {
			return err
		}
		emit(event)
	}
	return scanner.Err()
}
