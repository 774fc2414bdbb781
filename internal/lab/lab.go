package lab

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
	"firedrill/internal/tether"
)

// Options are what Up may be told besides the topology. The zero value is useful.
type Options struct {
	Binary   string            // program that hosts find as "firedrill" in PATH; default: the running one
	Listen   bool              // let Attach of the same user find the lab by its name
	Progress func(line string) // called for each step of Up, never at the same time twice; may be nil

	mark   string // test hook: the mark of the lab's processes
	orphan bool   // test hook, the planted bug: a lab that outlives its caller
}

// Lab is a lab that is up. Its methods may be called at the same time.
type Lab struct {
	name    string
	control *wire         // to the world; nil in an attached lab
	process *os.Process   // the world; nil in an attached lab
	done    chan struct{} // closed when the world has ended
}

// worldWords bounds what is kept of the world's last words.
const worldWords = 8 << 10

// Up makes the lab and returns when every host is up and its services are started. The lab dies with the calling process, or by Down; ctx
// bounds Up alone. Where the kernel allows no namespaces the error is a drill.Error of kind Unsupported with the command that helps.
func Up(ctx context.Context, t Topology, o Options) (*Lab, error) {
	config, err := prepare(t, o)
	if err != nil {
		return nil, err
	}
	var listener *os.File
	if o.Listen {
		if listener, err = listen(t.Name); err != nil {
			return nil, err
		}
		defer func() { _ = listener.Close() }()
	}
	l, words, err := startWorld(config, listener)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = l.process.Kill() })
	defer stop()
	err = l.awaitReady(o.Progress)
	if err == nil && stop() {
		go l.drain()
		return l, nil
	}
	_ = l.process.Kill()
	<-l.done
	l.control.close()
	switch {
	case ctx.Err() != nil:
		return nil, &drill.Error{Op: "lab up", Kind: drill.Interrupted, Err: ctx.Err()}
	case drill.KindOf(err) == drill.Unsupported && drill.HintOf(err) == "":
		return nil, &drill.Error{Op: "lab up", Kind: drill.Unsupported, Hint: namespaceCure(), Err: err}
	case words() != "":
		return nil, fmt.Errorf("%w\n%s", err, words())
	}
	return nil, err
}

// prepare checks all that can be checked before anything is made.
func prepare(t Topology, o Options) (worldConfig, error) {
	if err := t.check(); err != nil {
		return worldConfig{}, err
	}
	t, err := t.absolute()
	if err != nil {
		return worldConfig{}, err
	}
	rootless := !privileged()
	if err := t.checkMachine(rootless); err != nil {
		return worldConfig{}, err
	}
	exe, err := os.Executable()
	if err != nil {
		return worldConfig{}, fmt.Errorf("lab up: own program: %w", err)
	}
	binary := exe
	if o.Binary != "" {
		if binary, err = filepath.Abs(o.Binary); err != nil {
			return worldConfig{}, fmt.Errorf("lab up: %w", err)
		}
	}
	for _, path := range []string{exe, binary} {
		if _, err := os.Stat(path); err != nil {
			return worldConfig{}, &drill.Error{Op: "lab up", Kind: drill.Invalid, Err: err, Hint: "The program's file must stay where it is while a lab starts."}
		}
	}
	mark := o.mark
	if mark == "" {
		mark = t.Name + "-" + rand.Text()
	}
	return worldConfig{Topology: t, Exe: exe, Binary: binary, Mark: mark, Rootless: rootless, Listens: o.Listen, Orphan: o.orphan}, nil
}

// startWorld starts the world from a thread that stays until the world has ended: the kernel's parent-death signal is about the thread, not
// about the process.
func startWorld(config worldConfig, listener *os.File) (l *Lab, words func() string, err error) {
	memory, err := memoryFile("lab", config)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = memory.Close() }()
	control, other, err := newWirePair()
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = other.Close() }()
	output := &lastWords{}
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{nameWorld, config.Topology.Name}, Dir: "/",
		Env:         []string{markVariable + "=" + config.Mark},
		Stdout:      output,
		Stderr:      output,
		ExtraFiles:  []*os.File{other, memory}, // fdWire, fdConfig
		SysProcAttr: worldAttributes(config.Rootless, config.Orphan),
	}
	if listener != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, listener) // fdListener
	}
	l = &Lab{name: config.Topology.Name, control: control, done: make(chan struct{})}
	wait, err := tether.Start(cmd)
	if err != nil {
		control.close()
		return nil, nil, startError(err)
	}
	l.process = cmd.Process
	go func() {
		_ = wait() // how the world ended says nothing: it is killed as a rule
		close(l.done)
	}()
	return l, output.String, nil
}

func worldAttributes(rootless, orphan bool) *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{
		Setsid:     true, // the terminal's Ctrl-C is for the caller, who decides
		Pdeathsig:  syscall.SIGKILL,
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
	}
	if orphan {
		attributes.Pdeathsig = 0
	}
	if rootless {
		attributes.Cloneflags |= unix.CLONE_NEWUSER
		attributes.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		attributes.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	return attributes
}

// startError tells a machine that forbids namespaces from other trouble.
func startError(err error) error {
	for _, refusal := range []error{unix.EPERM, unix.EACCES, unix.ENOSPC, unix.EINVAL, unix.EUSERS, unix.ENOSYS} {
		if errors.Is(err, refusal) {
			return &drill.Error{Op: "lab up", Kind: drill.Unsupported, Hint: namespaceCure(), Err: fmt.Errorf("make namespaces: %w", errors.Unwrap(err))}
		}
	}
	return fmt.Errorf("lab up: %w", err)
}

// awaitReady follows the world's steps until all hosts are up.
func (l *Lab) awaitReady(progress func(string)) error {
	for {
		m, files, err := l.control.receive()
		if err != nil {
			<-l.done
			return &drill.Error{Op: "lab up", Kind: drill.Internal, Err: errors.New("the world ended before it was ready")}
		}
		closeAll(files)
		switch m.Op {
		case opStage:
			if progress != nil {
				progress(m.Text)
			}
		case opReady:
			return nil
		case opFailed:
			return m.err("up", m.Host)
		}
	}
}

// drain reads what the world still says, so that it never waits for us.
func (l *Lab) drain() {
	for {
		_, files, err := l.control.receive()
		if err != nil {
			return
		}
		closeAll(files)
	}
}

// Down ends the lab and returns when no process of it is left. It may be called again.
func (l *Lab) Down(ctx context.Context) error {
	if l.process == nil {
		return l.downAttached(ctx)
	}
	// The kernel takes everything with PID 1, and lets us wait for it until the last process is gone.
	if err := l.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("lab down: %w", err)
	}
	select {
	case <-l.done:
		l.control.close()
		return nil
	case <-ctx.Done():
		return &drill.Error{Op: "lab down", Kind: drill.Timeout, Err: ctx.Err()}
	}
}

// Done is closed when the lab has ended, by Down or otherwise. In a lab from Attach it is nil: only its maker can know.
func (l *Lab) Done() <-chan struct{} { return l.done }

// dial opens a client's connection to the world.
func (l *Lab) dial(ctx context.Context) (*wire, error) {
	if l.control == nil {
		return dialName(ctx, l.name)
	}
	client, other, err := newWirePair()
	if err != nil {
		return nil, err
	}
	defer func() { _ = other.Close() }()
	if err := l.control.send(message{Op: opClient}, other); err != nil {
		client.close()
		if errors.Is(err, net.ErrClosed) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) {
			return nil, &drill.Error{Op: "lab", Kind: drill.Unreachable, Err: errors.New("the lab has ended")}
		}
		return nil, err
	}
	return client, nil
}

// lastWords keeps the end of what is written to it.
type lastWords struct {
	mu   sync.Mutex // guards text
	text []byte
}

func (w *lastWords) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.text = append(w.text, p...)
	if over := len(w.text) - worldWords; over > 0 {
		w.text = append(w.text[:0], w.text[over:]...)
	}
	return len(p), nil
}

func (w *lastWords) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.TrimSpace(string(w.text))
}
