package lab

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"firedrill/internal/drill"
)

// Limits of the built-in SSH server.
const (
	sshPort        = 22
	handshakeMax   = 20 * time.Second // a client that has not logged in by then is let go
	keepaliveEvery = 5 * time.Second
	keepaliveLost  = 3 // unanswered in a row: the client is gone
	sshSFTPServer  = "/usr/lib/openssh/sftp-server"
)

// sshServer is the SSH server that is part of a host's init: public keys only, exec, shell, pseudo-terminals and SFTP; no forwarding.
type sshServer struct {
	init   *hostInit
	config *ssh.ServerConfig
}

// serveSSH listens, and serves for the life of the init.
func (i *hostInit) serveSSH() error {
	key, err := ssh.ParsePrivateKey([]byte(i.config.Keys[i.host.Name].HostPrivate))
	if err != nil {
		return fmt.Errorf("ssh: host key: %w", err)
	}
	s := &sshServer{init: i}
	s.config = &ssh.ServerConfig{PublicKeyCallback: s.admit, ServerVersion: "SSH-2.0-firedrill"}
	s.config.AddHostKey(key)
	l, err := net.ListenTCP("tcp", &net.TCPAddr{Port: sshPort})
	if err != nil {
		return fmt.Errorf("ssh: %w", err)
	}
	go func() {
		for {
			c, err := l.AcceptTCP()
			if err != nil {
				return
			}
			go s.serve(c)
		}
	}()
	return nil
}

// admit lets in whose key the user's authorized_keys holds. The file is read at each attempt, as OpenSSH does.
func (s *sshServer) admit(c ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	u, err := s.user(c.User())
	if err != nil {
		return nil, err
	}
	home := "/root"
	if u != nil {
		home = u.home
	}
	rest, err := os.ReadFile(filepath.Join(home, ".ssh", "authorized_keys"))
	if err != nil {
		return nil, err
	}
	wanted := key.Marshal()
	for len(rest) > 0 {
		known, _, _, next, err := ssh.ParseAuthorizedKey(rest)
		if err != nil {
			break // no further key
		}
		if bytes.Equal(known.Marshal(), wanted) {
			return &ssh.Permissions{}, nil
		}
		rest = next
	}
	return nil, errors.New("unknown key")
}

// user returns nil for root.
func (s *sshServer) user(name string) (*user, error) {
	if name == "root" {
		return nil, nil
	}
	if s.init.config.Rootless {
		return nil, noOtherUsers(name)
	}
	return findUser(name)
}

func noOtherUsers(name string) error {
	return &drill.Error{Kind: drill.Unsupported, Err: fmt.Errorf("no user %q here: a lab that an ordinary user made knows only root", name), Hint: "Run it with sudo, or use root."}
}

// serve is one client's connection.
func (s *sshServer) serve(c *net.TCPConn) {
	_ = c.SetDeadline(time.Now().Add(handshakeMax))
	connection, channels, requests, err := ssh.NewServerConn(c, s.config)
	if err != nil {
		_ = c.Close()
		return
	}
	_ = c.SetDeadline(time.Time{})
	gone := make(chan struct{})
	var sessions sync.WaitGroup
	sessions.Go(func() { ssh.DiscardRequests(requests) })
	sessions.Go(func() { keepalive(connection, gone) })
	for newChannel := range channels {
		if newChannel.ChannelType() != "session" {
			_ = newChannel.Reject(ssh.Prohibited, "a lab host forwards nothing")
			continue
		}
		channel, requests, err := newChannel.Accept()
		if err != nil {
			continue
		}
		session := &sshSession{server: s, connection: connection, channel: channel}
		sessions.Go(func() { session.serve(requests) })
	}
	close(gone)
	_ = connection.Close()
	sessions.Wait()
}

// keepalive closes the connection of a client that no longer answers: its host may have lost power.
func keepalive(c *ssh.ServerConn, gone <-chan struct{}) {
	ticker := time.NewTicker(keepaliveEvery)
	defer ticker.Stop()
	answers := make(chan struct{}, 1)
	asking, missed := false, 0
	for {
		select {
		case <-gone:
			return
		case <-answers:
			asking, missed = false, 0
		case <-ticker.C:
			if asking {
				missed++
			}
			if missed >= keepaliveLost {
				_ = c.Close()
				return
			}
			if !asking {
				asking = true
				go func() {
					// Ends with the connection at the latest. Any answer will do: most clients refuse the request.
					if _, _, err := c.SendRequest("keepalive@openssh.com", true, nil); err == nil {
						answers <- struct{}{}
					}
				}()
			}
		}
	}
}

// prepareOpenSSH makes the configuration of the machine's own sshd on this host, and returns the service that runs it.
func (i *hostInit) prepareOpenSSH() (Service, error) {
	k := i.config.Keys[i.host.Name]
	settings := []string{
		"Port 22", "HostKey /etc/ssh/ssh_host_ed25519_key", "PermitRootLogin prohibit-password", "PasswordAuthentication no",
		"KbdInteractiveAuthentication no", "UsePAM no", "UseDNS no", "PidFile none", "StrictModes yes", "PrintMotd no", "LogLevel VERBOSE",
		"AcceptEnv LANG LC_*", "SetEnv PATH=" + hostPath + " " + markVariable + "=" + i.config.Mark, "Subsystem sftp " + sshSFTPServer,
	}
	if err := os.Mkdir("/run/sshd", 0o755); err != nil {
		return Service{}, fmt.Errorf("openssh: %w", err)
	}
	// The machine's configuration may include more; ours stands alone.
	if err := os.MkdirAll("/etc/ssh", 0o755); err != nil {
		return Service{}, fmt.Errorf("openssh: %w", err)
	}
	for _, f := range []struct {
		path, text string
		mode       os.FileMode
	}{
		{"/etc/ssh/sshd_config", strings.Join(settings, "\n") + "\n", 0o644},
		{"/etc/ssh/ssh_host_ed25519_key", k.HostPrivate, 0o600},
		{"/etc/ssh/ssh_host_ed25519_key.pub", k.HostPublic + "\n", 0o644},
	} {
		if err := replaceFile(f.path, f.text, f.mode); err != nil {
			return Service{}, fmt.Errorf("openssh: %w", err)
		}
	}
	if err := unlockRoot(); err != nil {
		return Service{}, fmt.Errorf("openssh: %w", err)
	}
	return Service{Name: "sshd", Run: "/usr/sbin/sshd -D -e", Restart: RestartAlways}, nil
}

// unlockRoot lets keys in where the distribution locks root: sshd without PAM takes a leading ! for "nobody at all".
func unlockRoot() error {
	text, err := os.ReadFile("/etc/shadow")
	if err != nil {
		return err
	}
	var shadow strings.Builder
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "root:"); ok {
			_, rest, _ = strings.Cut(rest, ":")
			line = "root:*:" + rest
		}
		shadow.WriteString(line)
	}
	return replaceFile("/etc/shadow", shadow.String(), 0o600)
}
