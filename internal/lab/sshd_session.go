package lab

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// sshSession is one session of a client: at most one program, shell or SFTP server.
type sshSession struct {
	server     *sshServer
	connection *ssh.ServerConn
	channel    ssh.Channel
	env        []string
	master     *os.File // the pseudo-terminal, if the client asked for one
	slave      *os.File
	ours       []*os.File // our ends of the program's pipes
	child      *child
	running    sync.WaitGroup
}

// The payloads of the requests, as RFC 4254 lays them out.
type (
	ptyRequest struct {
		Term                    string
		Columns, Rows           uint32
		WidthPixels, HighPixels uint32
		Modes                   string
	}
	windowChange struct{ Columns, Rows, WidthPixels, HighPixels uint32 }
	envRequest   struct{ Name, Value string }
	textRequest  struct{ Text string }
	exitStatus   struct{ Code uint32 }
	exitSignal   struct {
		Signal     string
		CoreDumped bool
		Message    string
		Language   string
	}
)

// signalNames are the signals that SSH can name.
var signalNames = map[string]syscall.Signal{
	"ABRT": unix.SIGABRT, "ALRM": unix.SIGALRM, "FPE": unix.SIGFPE, "HUP": unix.SIGHUP, "ILL": unix.SIGILL, "INT": unix.SIGINT,
	"KILL": unix.SIGKILL, "PIPE": unix.SIGPIPE, "QUIT": unix.SIGQUIT, "SEGV": unix.SIGSEGV, "TERM": unix.SIGTERM, "USR1": unix.SIGUSR1, "USR2": unix.SIGUSR2,
}

// serve answers the requests of the session until the client closes it or is gone.
func (s *sshSession) serve(requests <-chan *ssh.Request) {
	for r := range requests {
		ok := s.request(r)
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
	}
	// The client is gone. With a terminal its programs are hung up; without, they find their input at its end and their output closed.
	if s.master != nil {
		if s.child != nil {
			s.child.signal(unix.SIGHUP)
			s.child.signal(unix.SIGCONT)
		}
		_ = s.master.Close()
		_ = s.slave.Close()
	}
	_ = s.channel.Close()
	closeAll(s.ours)
	s.running.Wait()
}

func (s *sshSession) request(r *ssh.Request) bool {
	switch r.Type {
	case "env":
		var e envRequest
		// PATH and loaders' variables are the host's to say.
		if ssh.Unmarshal(r.Payload, &e) != nil || e.Name == "" || strings.ContainsAny(e.Name, "=\x00") || e.Name == "PATH" || strings.HasPrefix(e.Name, "LD_") {
			return false
		}
		s.env = append(s.env, e.Name+"="+e.Value)
		return true
	case "pty-req":
		return s.openPTY(r.Payload)
	case "window-change":
		var w windowChange
		if ssh.Unmarshal(r.Payload, &w) == nil && s.master != nil {
			resize(s.master, uint16(w.Rows), uint16(w.Columns))
		}
		return true
	case "exec":
		var command textRequest
		return ssh.Unmarshal(r.Payload, &command) == nil && s.run([]string{"-c", command.Text})
	case "shell":
		return s.run(nil)
	case "subsystem":
		var name textRequest
		return ssh.Unmarshal(r.Payload, &name) == nil && name.Text == "sftp" && s.serveSFTP()
	case "signal":
		var name textRequest
		if ssh.Unmarshal(r.Payload, &name) != nil || s.child == nil {
			return false
		}
		signal, known := signalNames[strings.TrimPrefix(name.Text, "SIG")]
		if known {
			s.child.signal(signal)
		}
		return known
	}
	return false
}

func (s *sshSession) openPTY(payload []byte) bool {
	var p ptyRequest
	if s.master != nil || ssh.Unmarshal(payload, &p) != nil {
		return false
	}
	var err error
	if s.master, s.slave, err = openTerminal(uint16(p.Rows), uint16(p.Columns)); err != nil {
		return false
	}
	s.env = append(s.env, "TERM="+p.Term)
	return true
}

// run starts the user's shell, as a login shell when there is no command.
func (s *sshSession) run(args []string) bool {
	if s.child != nil {
		return false
	}
	u, err := s.server.user(s.connection.User())
	if err != nil {
		return false
	}
	p := program{executable: "/bin/sh", args: []string{"-sh"}, user: u, env: s.environment(u)}
	if _, err := os.Stat("/bin/bash"); err == nil && args == nil {
		p.executable, p.args = "/bin/bash", []string{"-bash"}
	}
	if args != nil {
		p.args = append([]string{"sh"}, args...)
	}
	return s.start(p)
}

func (s *sshSession) environment(u *user) []string {
	return append(environment(u, s.server.init.config.Mark), append(s.env, "SSH_CONNECTION="+s.between(), "SSH_CLIENT="+s.client())...)
}

// start starts p with the session's streams.
func (s *sshSession) start(p program) bool {
	p.dir = variable(p.env, "HOME")
	if info, err := os.Stat(p.dir); err != nil || !info.IsDir() {
		p.dir = "/"
	}
	if s.master != nil {
		p.files, p.terminal = []*os.File{s.slave, s.slave, s.slave}, true
		child, err := s.server.init.keeper.start(p)
		if err != nil {
			return s.fail(err)
		}
		s.child = child
		go func() { _, _ = io.Copy(s.master, s.channel) }() // ends when serve closes the channel
		var output sync.WaitGroup
		output.Go(func() { _, _ = io.Copy(s.channel, s.master) })
		s.running.Go(func() { s.awaitTerminal(&output) })
		return true
	}
	theirs, ours, err := threePipes()
	if err != nil {
		return s.fail(err)
	}
	p.files = theirs
	child, err := s.server.init.keeper.start(p)
	closeAll(theirs)
	if err != nil {
		closeAll(ours)
		return s.fail(err)
	}
	s.child, s.ours = child, ours
	go func() { // ends when serve closes the channel
		_, _ = io.Copy(ours[0], s.channel)
		_ = ours[0].Close()
	}()
	s.running.Go(func() { s.awaitPipes(ours) })
	return true
}

// terminalDrain is how long what a program wrote last may take to be read from its terminal, if others stay behind on it.
const terminalDrain = 200 * time.Millisecond

// awaitTerminal tells the client how the program ended. What it left behind on the terminal is not waited for.
func (s *sshSession) awaitTerminal(output *sync.WaitGroup) {
	<-s.child.done
	_ = s.slave.Close() // if it is the last one: what is still to be read comes first, then EIO
	_ = s.master.SetReadDeadline(time.Now().Add(terminalDrain))
	output.Wait()
	s.tellExit()
}

// awaitPipes copies what the program writes, and then tells the client how it ended. If the client goes first, closing the pipes is what
// tells the program.
func (s *sshSession) awaitPipes(ours []*os.File) {
	var output sync.WaitGroup
	for n, to := range []io.Writer{s.channel, s.channel.Stderr()} {
		from := ours[n+1]
		output.Go(func() {
			_, _ = io.Copy(to, from) // ends with the program, or when serve closes the pipe because the client is gone
			_ = from.Close()
		})
	}
	output.Wait()
	gone := make(chan struct{})
	go func() {
		_ = s.connection.Wait()
		close(gone)
	}()
	select {
	case <-s.child.done:
		s.tellExit()
	case <-gone:
	}
	_ = ours[0].Close()
}

func (s *sshSession) tellExit() {
	status := s.child.status
	if !status.Signaled() {
		_, _ = s.channel.SendRequest("exit-status", false, ssh.Marshal(exitStatus{uint32(status.ExitStatus())}))
	} else {
		name := "TERM"
		for n, signal := range signalNames {
			if signal == status.Signal() {
				name = n
			}
		}
		_, _ = s.channel.SendRequest("exit-signal", false, ssh.Marshal(exitSignal{Signal: name, CoreDumped: status.CoreDump(), Language: "en"}))
	}
	_ = s.channel.Close()
}

// fail tells the client what a shell would.
func (s *sshSession) fail(err error) bool {
	fmt.Fprintf(s.channel.Stderr(), "%v\n", err)
	_, _ = s.channel.SendRequest("exit-status", false, ssh.Marshal(exitStatus{exitNotFound}))
	_ = s.channel.Close()
	return true
}

// serveSFTP serves files within the init for root. For others the kernel must check each access, so a process of theirs does it.
func (s *sshSession) serveSFTP() bool {
	u, err := s.server.user(s.connection.User())
	if err != nil {
		return false
	}
	if u != nil {
		return s.start(program{executable: hostRun + "/lab", args: []string{nameSFTP}, user: u, env: s.environment(u)})
	}
	// Relative paths start in the init's own directory, which is root's home; the option for it would also change targets of links.
	server, err := sftp.NewServer(s.channel)
	if err != nil {
		return false
	}
	s.running.Go(func() {
		_ = server.Serve()
		_, _ = s.channel.SendRequest("exit-status", false, ssh.Marshal(exitStatus{0}))
		_ = s.channel.Close()
	})
	return true
}

// sftpMain serves files on standard input and output.
func sftpMain() error {
	server, err := sftp.NewServer(struct {
		io.Reader
		io.WriteCloser
	}{os.Stdin, os.Stdout})
	if err != nil {
		return err
	}
	return server.Serve()
}

// threePipes returns a program's standard streams and our ends of them.
func threePipes() (theirs, ours []*os.File, err error) {
	for n := range 3 {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(theirs)
			closeAll(ours)
			return nil, nil, fmt.Errorf("pipe: %w", err)
		}
		if n == 0 {
			theirs, ours = append(theirs, r), append(ours, w)
		} else {
			theirs, ours = append(theirs, w), append(ours, r)
		}
	}
	return theirs, ours, nil
}

// between is SSH_CONNECTION: the addresses and ports of both sides.
func (s *sshSession) between() string {
	remote, local := endpoint(s.connection.RemoteAddr()), endpoint(s.connection.LocalAddr())
	return remote + " " + local
}

func (s *sshSession) client() string {
	_, port, _ := net.SplitHostPort(s.connection.LocalAddr().String())
	return endpoint(s.connection.RemoteAddr()) + " " + port
}

func endpoint(a net.Addr) string {
	host, port, _ := net.SplitHostPort(a.String())
	return host + " " + port
}
