package remotetest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// server is an SSH server in this process: exec through /bin/sh in a session of its own, SFTP, and forwarding for jumps. It has no
// terminals.
type server struct {
	config *ssh.ServerConfig
	wish   Wish
	work   sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
}

// Serve starts our own SSH server; it is a Make.
func Serve(t testing.TB, wish Wish) Account {
	t.Helper()
	dir := t.TempDir()
	hostKey, user := NewKey(t, filepath.Join(dir, "host_key")), NewKey(t, filepath.Join(dir, "id_test"))
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
		if !bytes.Equal(key.Marshal(), user.Signer.PublicKey().Marshal()) {
			return nil, errors.New("unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(hostKey.Signer)
	s := &server{config: config, wish: wish, conns: make(map[net.Conn]bool)}
	listener := listen(t)
	s.work.Go(func() { s.accept(listener) })
	t.Cleanup(func() {
		_ = listener.Close()
		s.mu.Lock()
		for conn := range s.conns {
			_ = conn.Close()
		}
		s.mu.Unlock()
		s.work.Wait()
	})
	return newAccount(t, dir, listener.Addr().String(), hostKey.Signer.PublicKey(), user, "tester")
}

func (s *server) accept(listener net.Listener) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[conn] = true
		s.mu.Unlock()
		s.work.Go(func() {
			s.serve(conn)
			s.mu.Lock()
			delete(s.conns, conn)
			s.mu.Unlock()
		})
	}
}

func (s *server) serve(conn net.Conn) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, s.config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for channel := range channels {
		switch channel.ChannelType() {
		case "session":
			accepted, requests, err := channel.Accept()
			if err != nil {
				return
			}
			s.work.Go(func() { s.session(conn, accepted, requests) })
		case "direct-tcpip":
			s.work.Go(func() { forward(channel) })
		default:
			_ = channel.Reject(ssh.UnknownChannelType, "not offered")
		}
	}
}

func (s *server) session(conn net.Conn, channel ssh.Channel, requests <-chan *ssh.Request) {
	for request := range requests {
		var body struct{ Text string }
		switch {
		case request.Type == "exec" && ssh.Unmarshal(request.Payload, &body) == nil:
			_ = request.Reply(true, nil)
			s.work.Go(func() { s.execute(conn, channel, body.Text) })
		case request.Type == "subsystem" && ssh.Unmarshal(request.Payload, &body) == nil && body.Text == "sftp" && !s.wish.NoSFTP:
			_ = request.Reply(true, nil)
			s.work.Go(func() {
				defer channel.Close()
				if files, err := sftp.NewServer(channel); err == nil {
					_ = files.Serve()
				}
			})
		case request.WantReply:
			_ = request.Reply(false, nil)
		}
	}
}

// nobody is the user and group that owns nothing, on every Linux.
const nobody = 65534

// outputDelay is how long the output of a daemon is passed on after its starter ended.
const outputDelay = 2 * time.Second

func (s *server) execute(conn net.Conn, channel ssh.Channel, line string) {
	defer channel.Close()
	command := exec.Command("/bin/sh", "-c", line)
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	command.Env = append(os.Environ(), "SSH_CONNECTION="+connection(conn))
	if s.wish.Nobody && os.Geteuid() == 0 {
		command.SysProcAttr.Credential = &syscall.Credential{Uid: nobody, Gid: nobody}
		command.Dir = "/"
	}
	if s.wish.Runtime != "" {
		command.Env = append(command.Env, "XDG_RUNTIME_DIR="+s.wish.Runtime)
	}
	if s.wish.Path != "" {
		command.Env = append(command.Env, "PATH="+s.wish.Path)
	}
	command.WaitDelay = outputDelay
	command.Stdout, command.Stderr = channel, channel.Stderr()
	stdin, err := command.StdinPipe()
	if err != nil {
		return
	}
	if err := command.Start(); err != nil {
		return
	}
	go func() { _, _ = io.Copy(stdin, channel); _ = stdin.Close() }() // ends with the channel
	// The exit is told when the process ends, as sshd does, while the output may still be held open by a daemon.
	state, _ := command.Process.Wait()
	if waited, ok := state.Sys().(syscall.WaitStatus); ok && waited.Signaled() {
		name := map[syscall.Signal]string{syscall.SIGTERM: "TERM", syscall.SIGKILL: "KILL", syscall.SIGHUP: "HUP", syscall.SIGPIPE: "PIPE"}[waited.Signal()]
		_, _ = channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Signal     string
			Core       bool
			Text, Lang string
		}{Signal: name}))
	} else {
		_, _ = channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(state.ExitCode())}))
	}
	_ = command.Wait() // copies the rest of the output
}

func connection(conn net.Conn) string {
	clientHost, clientPort, _ := net.SplitHostPort(conn.RemoteAddr().String())
	serverHost, serverPort, _ := net.SplitHostPort(conn.LocalAddr().String())
	return clientHost + " " + clientPort + " " + serverHost + " " + serverPort
}

func forward(channel ssh.NewChannel) {
	var to struct {
		Host   string
		Port   uint32
		Origin string
		From   uint32
	}
	if ssh.Unmarshal(channel.ExtraData(), &to) != nil {
		_ = channel.Reject(ssh.ConnectionFailed, "bad request")
		return
	}
	conn, err := net.DialTCP("tcp", nil, &net.TCPAddr{IP: net.ParseIP(to.Host), Port: int(to.Port)})
	if err != nil {
		_ = channel.Reject(ssh.ConnectionFailed, err.Error())
		return
	}
	defer conn.Close()
	accepted, requests, err := channel.Accept()
	if err != nil {
		return
	}
	defer accepted.Close()
	go ssh.DiscardRequests(requests)
	done := make(chan struct{})
	go func() { defer close(done); _, _ = io.Copy(conn, accepted); _ = conn.CloseWrite() }()
	_, _ = io.Copy(accepted, conn)
	_ = accepted.CloseWrite()
	<-done
}
