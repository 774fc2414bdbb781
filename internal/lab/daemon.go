package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
)

// socketName is where a listening lab is found. The leading @ makes it abstract: a name without a file, gone with the last descriptor.
func socketName(lab string) string {
	return fmt.Sprintf("@firedrill-lab/%d/%s", os.Geteuid(), lab)
}

// listen takes the lab's name. A name that is taken means that the lab is up, or that another user is in the way.
func listen(lab string) (*os.File, error) {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socketName(lab), Net: "unixpacket"})
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, &drill.Error{Op: "lab up", Kind: drill.Refused, Err: fmt.Errorf("lab %s is up already", lab), Hint: "End it first: firedrill lab down FILE"}
	}
	if err != nil {
		return nil, fmt.Errorf("lab up: listen: %w", err)
	}
	defer func() { _ = l.Close() }()
	f, err := l.File()
	if err != nil {
		return nil, fmt.Errorf("lab up: listen: %w", err)
	}
	return f, nil
}

// dialName connects to a listening lab, and makes sure that it is this user's.
func dialName(ctx context.Context, lab string) (*wire, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unixpacket", socketName(lab))
	if err != nil {
		return nil, &drill.Error{Op: "lab", Kind: drill.Unreachable, Err: fmt.Errorf("lab %s is not up", lab), Hint: "Start it: firedrill lab up FILE"}
	}
	u := c.(*net.UnixConn)
	if cred, err := peer(u); err != nil || int(cred.Uid) != os.Geteuid() {
		_ = c.Close()
		return nil, &drill.Error{Op: "lab", Kind: drill.Refused, Err: fmt.Errorf("what answers as lab %s belongs to another user", lab)}
	}
	return &wire{conn: u}, nil
}

// Attach finds a lab of the same user that was made with Options.Listen. Without one the error is of kind Unreachable.
func Attach(ctx context.Context, name string) (*Lab, error) {
	c, err := dialName(ctx, name)
	if err != nil {
		return nil, err
	}
	c.close()
	return &Lab{name: name}, nil
}

// downAttached ends a lab that another process holds, and waits for that process, which ends when the last of the lab is gone.
func (l *Lab) downAttached(ctx context.Context) error {
	c, err := dialName(ctx, l.name)
	if drill.KindOf(err) == drill.Unreachable {
		return nil
	}
	if err != nil {
		return err
	}
	cred, err := peer(c.conn)
	if err != nil {
		c.close()
		return fmt.Errorf("lab down: %w", err)
	}
	// Opened before the end, so that the number cannot mean another process.
	holder, err := unix.PidfdOpen(int(cred.Pid), unix.PIDFD_NONBLOCK)
	if err != nil {
		c.close()
		return fmt.Errorf("lab down: its holder: %w", err)
	}
	defer func() { _ = unix.Close(holder) }()
	if _, _, err := askOn(ctx, c, message{Op: opDown}); err != nil && drill.KindOf(err) != drill.Unreachable {
		return err
	}
	for ctx.Err() == nil {
		// In short turns, because ctx cannot wake a poll.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(holder), Events: unix.POLLIN}}, downPoll)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lab down: %w", err)
		}
		if n > 0 {
			return nil
		}
	}
	return &drill.Error{Op: "lab down", Kind: drill.Timeout, Err: ctx.Err()}
}

// downPoll is how many milliseconds downAttached may take to see that its caller gives up.
const downPoll = 50

// daemonConfig is what Daemonize tells the daemon.
type daemonConfig struct {
	Topology Topology `json:"topology"`
	Binary   string   `json:"binary"`
}

// Daemonize makes a lab that outlives this process: a daemon holds it until `Down` of an attached Lab. It returns when the lab is up.
func Daemonize(ctx context.Context, t Topology, o Options) error {
	config, err := memoryFile("daemon", daemonConfig{Topology: t, Binary: o.Binary})
	if err != nil {
		return err
	}
	defer func() { _ = config.Close() }()
	control, other, err := newWirePair()
	if err != nil {
		return err
	}
	defer control.close()
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{nameDaemon, t.Name}, Dir: "/", Env: []string{},
		ExtraFiles:  []*os.File{other, config}, // fdWire, fdConfig
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err = cmd.Start()
	_ = other.Close()
	if err != nil {
		return fmt.Errorf("lab up: start the daemon: %w", err)
	}
	// Until it is ready the daemon ends when we close the connection.
	stop := context.AfterFunc(ctx, control.close)
	defer stop()
	for {
		m, files, err := control.receive()
		closeAll(files)
		switch {
		case ctx.Err() != nil:
			_ = cmd.Wait()
			return &drill.Error{Op: "lab up", Kind: drill.Interrupted, Err: ctx.Err()}
		case err != nil:
			_ = cmd.Wait()
			return errors.New("lab up: the daemon ended before the lab was up")
		case m.Op == opStage && o.Progress != nil:
			o.Progress(m.Text)
		case m.Op == opFailed:
			_ = cmd.Wait()
			return m.err("up", m.Host)
		case m.Op == opReady:
			// The answer is the point of no return; without it the daemon ends.
			if err := control.send(message{Op: opDone}); err != nil {
				return fmt.Errorf("lab up: %w", err)
			}
			return cmd.Process.Release()
		}
	}
}

// daemonMain holds a lab until the lab ends.
func daemonMain() error {
	var config daemonConfig
	if err := readMemoryFile(fdConfig, &config); err != nil {
		return err
	}
	control, err := newWire(os.NewFile(fdWire, "control"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	released := make(chan bool, 1)
	go func() {
		m, files, err := control.receive()
		closeAll(files)
		released <- err == nil && m.Op == opDone
		if err != nil {
			cancel()
		}
	}()
	l, err := Up(ctx, config.Topology, Options{Binary: config.Binary, Listen: true, Progress: func(line string) {
		_ = control.send(message{Op: opStage, Text: line}) // a caller that is gone cancels ctx
	}})
	if err != nil {
		_ = control.send(failure(opFailed, err))
		return nil
	}
	if err := control.send(message{Op: opReady}); err != nil || !<-released {
		return l.Down(context.WithoutCancel(ctx))
	}
	control.close()
	<-l.Done()
	return nil
}
