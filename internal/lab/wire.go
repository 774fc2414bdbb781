package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
)

// messageMax bounds one message: below the kernel's default send buffer (212,992 bytes), so that a message is taken whole or refused.
const messageMax = 160 << 10

// filesMax bounds the descriptors that come with one message: the three standard streams and one to spare.
const filesMax = 4

// message is what caller, world and inits say to each other; one message is one packet.
type message struct {
	Op       string          `json:"op"`
	Host     string          `json:"host,omitempty"`
	Unit     string          `json:"unit,omitempty"`
	Path     string          `json:"path,omitempty"`
	Text     string          `json:"text,omitempty"`
	Error    string          `json:"error,omitempty"`
	ErrorOp  string          `json:"error_op,omitempty"` // what was being done, if the error says so
	Kind     drill.ErrorKind `json:"kind,omitempty"`
	Hint     string          `json:"hint,omitempty"`
	Args     []string        `json:"args,omitempty"`
	Env      []string        `json:"env,omitempty"`
	Dir      string          `json:"dir,omitempty"`
	User     string          `json:"user,omitempty"`
	TTY      bool            `json:"tty,omitempty"`
	Rows     uint16          `json:"rows,omitempty"`
	Columns  uint16          `json:"columns,omitempty"`
	Code     int             `json:"code,omitempty"`
	Signal   int             `json:"signal,omitempty"`
	Mode     os.FileMode     `json:"mode,omitempty"`
	Hosts    []HostStatus    `json:"hosts,omitempty"`
	Services []ServiceStatus `json:"services,omitempty"`
}

// The operations. A client asks one thing per connection.
const (
	opClient   = "client"   // here is the end of a new client's connection
	opOpen     = "open"     // client to world: hand my connection on to the init of Host
	opStatus   = "status"   // client to world, world to init
	opBoot     = "boot"     // client to world
	opPowerOff = "poweroff" // client to world: a power cut; client to init: a clean shutdown
	opReboot   = "reboot"   // client to init: a clean shutdown
	opDown     = "down"     // client to world
	opExec     = "exec"     // client to init
	opSignal   = "signal"
	opResize   = "resize"
	opStarted  = "started"
	opExit     = "exit"
	opRestart  = "restart" // client to init, as are start, stop, write and read
	opStart    = "start"
	opStop     = "stop"
	opWrite    = "write"
	opRead     = "read"
	opStage    = "stage"  // world to caller: a step of Up is done
	opReady    = "ready"  // world to caller: all hosts are up
	opFailed   = "failed" // world to caller, init to world: it cannot be
	opCable    = "cable"  // world to init: eth0 is there
	opUp       = "up"     // init to world
	opDone     = "done"   // the answer to whatever was asked
)

// wire is one connection. Sending is safe for concurrent use; receiving belongs to one goroutine.
type wire struct {
	conn *net.UnixConn
	mu   sync.Mutex // serialises sends
}

// newWirePair returns a connection and the file of its other end, to be given to another process.
func newWirePair() (*wire, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socket pair: %w", err)
	}
	other := os.NewFile(uintptr(fds[1]), "wire")
	w, err := newWire(os.NewFile(uintptr(fds[0]), "wire"))
	if err != nil {
		_ = other.Close()
		return nil, nil, err
	}
	return w, other, nil
}

// newWire takes over file, which must be a seqpacket socket.
func newWire(file *os.File) (*wire, error) {
	defer func() { _ = file.Close() }()
	c, err := net.FileConn(file)
	if err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return nil, errors.New("wire: not a unix socket")
	}
	return &wire{conn: u}, nil
}

func (w *wire) close() { _ = w.conn.Close() }

// send sends m; the files stay the caller's.
func (w *wire) send(m message, files ...*os.File) error {
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("wire: %s: %w", m.Op, err)
	}
	if len(text) > messageMax {
		return &drill.Error{Op: "lab " + m.Op, Kind: drill.Invalid, Err: fmt.Errorf("%d bytes of arguments and environment; the limit is %d", len(text), messageMax)}
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, 0, len(files))
		for _, f := range files {
			// Not File.Fd: that would switch the caller's descriptor to blocking mode.
			raw, err := f.SyscallConn()
			if err != nil {
				return fmt.Errorf("wire: %s: %w", m.Op, err)
			}
			if err := raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
				return fmt.Errorf("wire: %s: %w", m.Op, err)
			}
		}
		rights = unix.UnixRights(fds...)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, _, err := w.conn.WriteMsgUnix(text, rights, nil); err != nil {
		return fmt.Errorf("wire: %s: %w", m.Op, err)
	}
	return nil
}

// receive returns the next message with its files, or io.EOF when the other side is gone.
func (w *wire) receive() (message, []*os.File, error) {
	text := make([]byte, messageMax)
	rights := make([]byte, unix.CmsgSpace(filesMax*4))
	n, rn, _, _, err := w.conn.ReadMsgUnix(text, rights)
	if err != nil {
		return message{}, nil, err
	}
	if n == 0 && rn == 0 {
		return message{}, nil, io.EOF
	}
	files, err := filesOf(rights[:rn])
	if err != nil {
		return message{}, nil, err
	}
	var m message
	if err := json.Unmarshal(text[:n], &m); err != nil {
		closeAll(files)
		return message{}, nil, fmt.Errorf("wire: %w", err)
	}
	return m, files, nil
}

// ask sends m and returns the answer, with an error if the answer is one.
func (w *wire) ask(m message, files ...*os.File) (message, []*os.File, error) {
	if err := w.send(m, files...); err != nil {
		return message{}, nil, err
	}
	answer, got, err := w.receive()
	if err != nil {
		return message{}, nil, err
	}
	if err := answer.err(m.Op, m.Host); err != nil {
		closeAll(got)
		return message{}, nil, err
	}
	return answer, got, nil
}

// err is the error that an answer carries; op and host are what was asked, for errors that do not say better.
func (m message) err(op, host string) error {
	if m.Error == "" {
		return nil
	}
	e := &drill.Error{Op: "lab", Host: host, Kind: m.Kind, Hint: m.Hint, Err: errors.New(m.Error)}
	switch {
	case m.ErrorOp != "":
		e.Op = m.ErrorOp
	case op != opOpen: // which is but the way to something else
		e.Op = "lab " + op
	}
	if m.Host != "" {
		e.Host = m.Host
	}
	return e
}

// failure puts an error into a message, in parts, so that err makes the same of it on the other side.
func failure(op string, err error) message {
	m := message{Op: op, Error: err.Error(), Kind: drill.KindOf(err), Hint: drill.HintOf(err)}
	if known, ok := err.(*drill.Error); ok && known.Err != nil { // only the outermost: what wraps it has words of its own
		m.Error, m.ErrorOp, m.Host = known.Err.Error(), known.Op, known.Host
	}
	return m
}

// answerOf is the plain answer: done, or why not.
func answerOf(err error) message {
	if err != nil {
		return failure(opDone, err)
	}
	return message{Op: opDone}
}

func filesOf(rights []byte) ([]*os.File, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	control, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, fmt.Errorf("wire: %w", err)
	}
	var files []*os.File
	for _, c := range control {
		fds, err := unix.ParseUnixRights(&c)
		if err != nil {
			continue
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "passed"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// memoryFile returns a file with v as JSON that exists in memory only, positioned at its start.
func memoryFile(name string, v any) (*os.File, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("%s: memory file: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), name)
	if _, err := f.Write(text); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}

// readMemoryFile reads v back from an inherited descriptor.
func readMemoryFile(fd uintptr, v any) error {
	f := os.NewFile(fd, "config")
	defer func() { _ = f.Close() }()
	if err := json.NewDecoder(f).Decode(v); err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	return nil
}
