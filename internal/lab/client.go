package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
)

// Cmd is a program to run on a host. Args[0] is looked up in the host's PATH.
type Cmd struct {
	Args           []string
	Env            []string // KEY=value, added to the host's environment
	Dir            string   // default /root
	User           string   // default root; others only in a lab that root made
	Stdin          io.Reader
	Stdout, Stderr io.Writer        // nil discards; an *os.File is handed over as it is
	TTY            bool             // on a pseudo-terminal of the host: Stdout gets everything
	Rows, Columns  uint16           // of the pseudo-terminal
	Signals        <-chan os.Signal // each is sent once to the program's process group
}

// HostStatus is what is known of a host.
type HostStatus struct {
	Name     string          `json:"name"`
	Hostname string          `json:"hostname"`
	Address  string          `json:"address"`
	State    HostState       `json:"state"`
	BootID   string          `json:"boot_id,omitempty"`
	Boots    int             `json:"boots"`
	Since    time.Time       `json:"since"` // of State
	Services []ServiceStatus `json:"services,omitempty"`
	Reason   string          `json:"reason,omitempty"` // why it is off
}

// HostState is up, off, booting or rebooting.
type HostState string

// The states of a host.
const (
	HostBooting   HostState = "booting"
	HostUp        HostState = "up"
	HostRebooting HostState = "rebooting" // dark for its boot delay
	HostOff       HostState = "off"
)

// ServiceStatus is what the init knows of a service.
type ServiceStatus struct {
	Name     string    `json:"name"`
	State    string    `json:"state"` // active, inactive, failed, restarting
	PID      int       `json:"pid,omitempty"`
	Since    time.Time `json:"since"`
	Restarts int       `json:"restarts"`       // by itself, not by order
	Exit     string    `json:"exit,omitempty"` // how its program ended last
}

// exitNotFound is what shells answer for a program that is not there.
const exitNotFound = 127

// ask opens a connection, asks one thing of the world, and returns the answer.
func (l *Lab) ask(ctx context.Context, m message) (message, []*os.File, error) {
	c, err := l.dial(ctx)
	if err != nil {
		return message{}, nil, err
	}
	return askOn(ctx, c, m)
}

// askHost does so with the init of a host.
func (l *Lab) askHost(ctx context.Context, host string, m message, files ...*os.File) (message, []*os.File, error) {
	c, err := l.open(ctx, host)
	if err != nil {
		return message{}, nil, err
	}
	return askOn(ctx, c, m, files...)
}

func askOn(ctx context.Context, c *wire, m message, files ...*os.File) (message, []*os.File, error) {
	defer c.close()
	stop := context.AfterFunc(ctx, c.close)
	defer stop()
	answer, got, err := c.ask(m, files...)
	if err != nil && ctx.Err() != nil {
		return message{}, nil, &drill.Error{Op: "lab " + m.Op, Host: m.Host, Kind: drill.Interrupted, Err: ctx.Err()}
	}
	var known *drill.Error
	if err != nil && !errors.As(err, &known) {
		return message{}, nil, &drill.Error{Op: "lab " + m.Op, Host: m.Host, Kind: drill.Unreachable, Err: fmt.Errorf("no answer, it may have ended: %w", err)}
	}
	return answer, got, err
}

// open opens a connection to the init of a host, which greets with an answer. A host that is not up is an error of kind Unreachable.
func (l *Lab) open(ctx context.Context, host string) (*wire, error) {
	c, err := l.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, c.close)
	defer stop()
	if _, _, err := c.ask(message{Op: opOpen, Host: host}); err != nil {
		c.close()
		_, err = execFailure(ctx, host, err)
		return nil, err
	}
	return c, nil
}

// Exec runs a program on the host, as a child of the host's init, and returns its exit code, 128+n if signal n ended it. The program dies
// with the host, which is an error of kind Unreachable, and with ctx, of kind Interrupted. A program that is not there gives 127 and an error.
func (l *Lab) Exec(ctx context.Context, host string, c Cmd) (int, error) {
	if len(c.Args) == 0 {
		return 0, &drill.Error{Op: "lab exec", Host: host, Kind: drill.Invalid, Err: errors.New("no program named")}
	}
	connection, err := l.open(ctx, host)
	if err != nil {
		return 0, err
	}
	// Closing the connection is what kills the program; so it is closed on every way out.
	defer connection.close()
	stop := context.AfterFunc(ctx, connection.close)
	defer stop()
	streams, err := newStreams(c)
	if err != nil {
		return 0, err
	}
	defer streams.abandon()
	request := message{Op: opExec, Args: c.Args, Env: c.Env, Dir: c.Dir, User: c.User, TTY: c.TTY, Rows: c.Rows, Columns: c.Columns}
	answer, files, err := connection.ask(request, streams.theirs...)
	if err != nil {
		return execFailure(ctx, host, err)
	}
	if err := streams.begin(files); err != nil {
		return 0, err
	}
	quit := make(chan struct{})
	var forward sync.WaitGroup
	forward.Go(func() { forwardSignals(connection, c, quit) })
	answer, files, err = connection.receive()
	close(quit)
	forward.Wait()
	if err != nil {
		return execFailure(ctx, host, err)
	}
	closeAll(files)
	if err := streams.finish(ctx); err != nil {
		return answer.Code, fmt.Errorf("lab exec: %s: %w", host, err)
	}
	return answer.Code, nil
}

// execFailure says why there is no exit code: ctx, the program, or the end of the host.
func execFailure(ctx context.Context, host string, err error) (int, error) {
	if ctx.Err() != nil {
		return 0, &drill.Error{Op: "lab exec", Host: host, Kind: drill.Interrupted, Err: ctx.Err()}
	}
	var known *drill.Error
	if errors.As(err, &known) {
		known.Host = host
		code := 0
		if known.Kind == drill.Invalid {
			code = exitNotFound
		}
		return code, err
	}
	return 0, &drill.Error{Op: "lab exec", Host: host, Kind: drill.Unreachable, Err: errors.New("the host went down")}
}

// forwardSignals sends what comes on c.Signals to the program. SIGWINCH, of use on a terminal only, becomes the new size of Stdout.
func forwardSignals(connection *wire, c Cmd, quit <-chan struct{}) {
	for {
		select {
		case <-quit:
			return
		case s, ok := <-c.Signals:
			if !ok {
				return
			}
			number, known := s.(syscall.Signal)
			if !known {
				continue
			}
			m := message{Op: opSignal, Signal: int(number)}
			if out, isFile := c.Stdout.(*os.File); number == syscall.SIGWINCH && c.TTY && isFile {
				size, err := unix.IoctlGetWinsize(int(out.Fd()), unix.TIOCGWINSZ)
				if err != nil {
					continue
				}
				m = message{Op: opResize, Rows: size.Row, Columns: size.Col}
			}
			_ = connection.send(m) // a program that has ended needs no signal
		}
	}
}

// Boot starts a host that is off or dark and returns when it is up. A host that is up already stays so.
func (l *Lab) Boot(ctx context.Context, host string) error {
	_, _, err := l.ask(ctx, message{Op: opBoot, Host: host})
	return err
}

// PowerOff is a power cut: the cable first, so that no connection is closed properly, then everything at once.
func (l *Lab) PowerOff(ctx context.Context, host string) error {
	_, _, err := l.ask(ctx, message{Op: opPowerOff, Host: host})
	return err
}

// Restart stops a service of the host and starts it again.
func (l *Lab) Restart(ctx context.Context, host, service string) error {
	_, _, err := l.askHost(ctx, host, message{Op: opRestart, Host: host, Unit: service})
	return err
}

// Status tells of every host, in the order of the topology.
func (l *Lab) Status(ctx context.Context) ([]HostStatus, error) {
	answer, _, err := l.ask(ctx, message{Op: opStatus})
	return answer.Hosts, err
}

// WriteFile writes a file on the host, which must be up. Directories are made as needed; an older file is replaced as a whole.
func (l *Lab) WriteFile(ctx context.Context, host, path string, text []byte, mode os.FileMode) error {
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("lab write: %w", err)
	}
	var feed sync.WaitGroup
	feed.Go(func() {
		_, _ = w.Write(text) // a reader that went away has told why
		_ = w.Close()
	})
	_, _, err = l.askHost(ctx, host, message{Op: opWrite, Host: host, Path: path, Mode: mode}, r)
	_ = r.Close()
	feed.Wait()
	return err
}

// ReadFile reads a file of the host, which must be up.
func (l *Lab) ReadFile(ctx context.Context, host, path string) ([]byte, error) {
	_, files, err := l.askHost(ctx, host, message{Op: opRead, Host: host, Path: path})
	if err != nil {
		return nil, err
	}
	defer closeAll(files)
	if len(files) != 1 {
		return nil, fmt.Errorf("lab read: %s: %d files came", host, len(files))
	}
	var text bytes.Buffer
	if _, err := text.ReadFrom(files[0]); err != nil {
		return nil, fmt.Errorf("lab read: %s: %w", host, err)
	}
	return text.Bytes(), nil
}
