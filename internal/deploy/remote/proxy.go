package remote

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// proxyEnds is how long a ProxyCommand has to end once its connection is closed, before it is killed.
const proxyEnds = 500 * time.Millisecond

// proxied is a connection that a ProxyCommand carries over its standard input and output.
type proxied struct {
	net.Conn
	to      string
	command *exec.Cmd
	said    *lastWords
	closing sync.Once
	ended   chan struct{} // closed when the command is gone
}

// dialCommand starts a ProxyCommand. It is ended with the connection.
func dialCommand(h hop) (*proxied, error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("ProxyCommand: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "proxy"), os.NewFile(uintptr(pair[1]), "proxy")
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		return nil, fmt.Errorf("ProxyCommand: %w", err)
	}
	shell := first(os.Getenv("SHELL"), "/bin/sh")
	p := &proxied{Conn: conn, to: h.dial, command: exec.Command(shell, "-c", "exec "+h.command), said: &lastWords{}, ended: make(chan struct{})}
	p.command.Env = withoutSecrets(os.Environ())
	p.command.Stdin, p.command.Stdout, p.command.Stderr = theirs, theirs, p.said
	p.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a Ctrl-C is for us: reverts go over this connection
	p.command.WaitDelay = proxyEnds
	if err := p.command.Start(); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("ProxyCommand %s: %w", h.command, err)
	}
	go func() { // Close waits for it
		defer close(p.ended)
		_ = p.command.Wait() // what it has to say is in said
	}()
	return p, nil
}

// Close ends the connection, and the command with all that it started.
func (p *proxied) Close() error {
	err := net.ErrClosed
	p.closing.Do(func() {
		err = p.Conn.Close()
		_ = syscall.Kill(-p.command.Process.Pid, syscall.SIGHUP)
		select {
		case <-p.ended:
		case <-time.After(proxyEnds):
		}
		_ = syscall.Kill(-p.command.Process.Pid, syscall.SIGKILL) // what is left of its group
		<-p.ended
	})
	return err
}

// RemoteAddr names the host: the socket has no name of its own.
func (p *proxied) RemoteAddr() net.Addr { return proxyAddr(p.to) }

// LocalAddr names the host too; where the command connects from is its own affair.
func (p *proxied) LocalAddr() net.Addr { return proxyAddr(p.to) }

type proxyAddr string

func (proxyAddr) Network() string  { return "proxy" }
func (a proxyAddr) String() string { return string(a) }

// explain adds what the command said last to an error.
func (p *proxied) explain(ctx context.Context, command string, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	if last := p.said.text(); last != "" {
		return fmt.Errorf("ProxyCommand %q: %w: %s", command, err, last)
	}
	return fmt.Errorf("ProxyCommand %q: %w", command, err)
}

// lastWords keeps the end of what is written to it.
type lastWords struct {
	mu   sync.Mutex // guards kept
	kept []byte
}

const lastWordsMax = 512

func (l *lastWords) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kept = append(l.kept, text...)
	if over := len(l.kept) - lastWordsMax; over > 0 {
		l.kept = l.kept[over:]
	}
	return len(text), nil
}

// text is the last line.
func (l *lastWords) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := bytes.TrimSpace(l.kept)
	if at := bytes.LastIndexByte(kept, '\n'); at >= 0 {
		kept = kept[at+1:]
	}
	return strings.ToValidUTF8(string(kept), "?")
}
