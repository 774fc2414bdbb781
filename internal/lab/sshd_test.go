package lab

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// hostConn is a TCP connection that a host of the lab opens for the test, which is not in the lab's network itself.
type hostConn struct {
	io.ReadCloser
	io.WriteCloser
	stop func()
}

func (c hostConn) Close() error {
	c.stop()
	return errors.Join(c.ReadCloser.Close(), c.WriteCloser.Close())
}
func (hostConn) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (hostConn) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (hostConn) SetDeadline(time.Time) error      { return nil }
func (hostConn) SetReadDeadline(time.Time) error  { return nil }
func (hostConn) SetWriteDeadline(time.Time) error { return nil }

// dialFrom connects from one host to an address of another.
func dialFrom(t *testing.T, l *Lab, from, to string) net.Conn {
	t.Helper()
	inR, inW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := contextOf(t)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = l.Exec(ctx, from, Cmd{Args: []string{"firedrill", "tool", "pipe", to}, Stdin: inR, Stdout: outW})
		_ = inR.Close()
		_ = outW.Close()
	}()
	c := hostConn{ReadCloser: outR, WriteCloser: inW, stop: func() { cancel(); <-ended }}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// login logs in from one host to another with the key that the first has, checking the other's key against the first's known_hosts.
func login(t *testing.T, l *Lab, from, to string) (*ssh.Client, error) {
	t.Helper()
	pem, err := l.ReadFile(testContext(t), from, "/root/.ssh/id_ed25519")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey(pem)
	if err != nil {
		t.Fatal(err)
	}
	known, err := l.ReadFile(testContext(t), from, "/root/.ssh/known_hosts")
	if err != nil {
		t.Fatal(err)
	}
	check := func(_ string, _ net.Addr, key ssh.PublicKey) error {
		for line := range strings.Lines(string(known)) {
			if strings.Contains(line, to) && strings.Contains(line, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))) {
				return nil
			}
		}
		return errors.New("not in known_hosts")
	}
	config := &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: check}
	c, channels, requests, err := ssh.NewClientConn(dialFrom(t, l, from, to+":22"), to, config)
	if err != nil {
		return nil, err
	}
	client := ssh.NewClient(c, channels, requests)
	t.Cleanup(func() { _ = client.Close() })
	return client, nil
}

func mustLogin(t *testing.T, l *Lab, from, to string) *ssh.Client {
	t.Helper()
	client, err := login(t, l, from, to)
	if err != nil {
		t.Fatalf("log in from %s to %s: %v", from, to, err)
	}
	return client
}

func newSession(t *testing.T, client *ssh.Client) *ssh.Session {
	t.Helper()
	session, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	return session
}

func TestSSHLetsInTheTrustedAndNobodyElse(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{})
	mustLogin(t, l, "ci", "blue")
	mustLogin(t, l, "blue", "green")
	if _, err := login(t, l, "green", "blue"); err == nil || !strings.Contains(err.Error(), "unable to authenticate") {
		t.Errorf("blue let green in, whom it does not trust: %v", err)
	}
	config := &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.Password("")}, HostKeyCallback: ssh.InsecureIgnoreHostKey()}
	if _, _, _, err := ssh.NewClientConn(dialFrom(t, l, "ci", "blue:22"), "blue", config); err == nil {
		t.Error("blue let a password in")
	}
}

func TestSSHPassesCodesStreamsAndSignals(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{})
	client := mustLogin(t, l, "ci", "blue")
	session := newSession(t, client)
	var out, errOut bytes.Buffer
	session.Stdin, session.Stdout, session.Stderr = strings.NewReader("in\n"), &out, &errOut
	if err := session.Setenv("LC_GREETING", "hello"); err != nil {
		t.Error(err)
	}
	err := session.Run("cat; echo $LC_GREETING $SSH_CONNECTION >&2; exit 7")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 7 || out.String() != "in\n" {
		t.Errorf("%v, out %q", err, out.String())
	}
	if got := errOut.String(); !strings.HasPrefix(got, "hello 10.77.0.20 ") || !strings.HasSuffix(got, " 10.77.1.10 22\n") {
		t.Errorf("environment: %q", got)
	}
	session = newSession(t, client)
	stdout, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start("exec firedrill tool count-signals"); err != nil {
		t.Fatal(err)
	}
	readUntil(t, stdout, "ready")
	if err := session.Signal(ssh.SIGINT); err != nil {
		t.Error(err)
	}
	readUntil(t, stdout, "interrupted 1")
	if err := session.Signal(ssh.SIGKILL); err != nil {
		t.Error(err)
	}
	if err := session.Wait(); !errors.As(err, &exit) || exit.Signal() != "KILL" {
		t.Errorf("a killed program ended with %v", err)
	}
	if err := newSession(t, client).Run("no-such-program"); !errors.As(err, &exit) || exit.ExitStatus() != 127 {
		t.Errorf("a program that is not there ended with %v", err)
	}
}

func readUntil(t *testing.T, r io.Reader, want string) string {
	t.Helper()
	var seen strings.Builder
	buffer := make([]byte, 1024)
	for !strings.Contains(seen.String(), want) {
		n, err := r.Read(buffer)
		seen.Write(buffer[:n])
		if err != nil {
			t.Fatalf("no %q in %q: %v", want, seen.String(), err)
		}
	}
	return seen.String()
}

// TestSSHClientThatDiesEndsTheInput is what ends an attack whose operator is cut off: standard input ends.
func TestSSHClientThatDiesEndsTheInput(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{})
	client := mustLogin(t, l, "ci", "blue")
	session := newSession(t, client)
	if _, err := session.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start("echo ready; cat > /dev/null; echo ended > /home/ended; yes"); err != nil {
		t.Fatal(err)
	}
	readUntil(t, out, "ready")
	_ = client.Close()
	await(t, "the input ends", func() bool { _, code := run(t, l, "blue", "test -s /home/ended"); return code == 0 })
	await(t, "writing to the lost client fails", func() bool { _, code := run(t, l, "blue", "pgrep -x yes"); return code != 0 })
}

// TestSSHClientWhoseHostLosesPowerEndsTheInput is the same where no packet tells of the end: the keepalive finds out.
func TestSSHClientWhoseHostLosesPowerEndsTheInput(t *testing.T) {
	if testing.Short() {
		t.Skip("takes as long as the keepalive")
	}
	l := mustUp(t, threeHosts(), Options{})
	session := newSession(t, mustLogin(t, l, "ci", "blue"))
	if _, err := session.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start("echo ready; cat > /dev/null; echo ended > /home/ended"); err != nil {
		t.Fatal(err)
	}
	readUntil(t, out, "ready")
	if err := l.PowerOff(testContext(t), "ci"); err != nil {
		t.Fatal(err)
	}
	if _, code := run(t, l, "blue", "test -e /home/ended"); code == 0 {
		t.Fatal("the power cut closed the connection, so this shows nothing")
	}
	await(t, "the input ends", func() bool { _, code := run(t, l, "blue", "test -s /home/ended"); return code == 0 })
}

func TestSSHTerminalHangsUpAndInterrupts(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{})
	client := mustLogin(t, l, "ci", "blue")
	session := newSession(t, client)
	if err := session.RequestPty("xterm", 24, 80, ssh.TerminalModes{}); err != nil {
		t.Fatal(err)
	}
	in, err := session.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start("trap 'echo told > /home/hup; exit' HUP; stty size; firedrill tool count-signals; sleep 4719"); err != nil {
		t.Fatal(err)
	}
	if seen := readUntil(t, out, "ready"); !strings.Contains(seen, "24 80") {
		t.Errorf("the size of the terminal: %q", seen)
	}
	if _, err := in.Write([]byte{3}); err != nil { // Ctrl-C
		t.Fatal(err)
	}
	readUntil(t, out, "interrupted 1")
	_ = client.Close()
	await(t, "the session is hung up", func() bool {
		_, code := run(t, l, "blue", "pgrep -f 'count-signal[s]' || pgrep -f 'sleep 471[9]'")
		return code != 0
	})

	session = newSession(t, mustLogin(t, l, "ci", "blue"))
	if err := session.RequestPty("xterm", 24, 80, ssh.TerminalModes{}); err != nil {
		t.Fatal(err)
	}
	text, err := session.Output("tty; exit 4")
	var exit *ssh.ExitError
	if !errors.As(err, &exit) || exit.ExitStatus() != 4 || !strings.Contains(string(text), "/dev/pts/") {
		t.Errorf("%q, %v", text, err)
	}
}

func TestSFTPPublishesFiles(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{})
	client, err := sftp.NewClient(mustLogin(t, l, "ci", "blue"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	want := bytes.Repeat([]byte("release 7\n"), 50_000)
	if err := client.MkdirAll("/home/app/releases/7"); err != nil {
		t.Fatal(err)
	}
	f, err := client.Create("/home/app/releases/7/app")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.ReadFrom(bytes.NewReader(want)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Close(), client.Chmod("/home/app/releases/7/app", 0o755), client.Symlink("releases/7", "/home/app/next"),
		client.PosixRename("/home/app/next", "/home/app/current")); err != nil {
		t.Fatal(err)
	}
	got, err := l.ReadFile(testContext(t), "blue", "/home/app/current/app")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came, %d were sent: %v", len(got), len(want), err)
	}
	if mode := mustRun(t, l, "blue", "stat -c %a /home/app/releases/7/app"); mode != "755" {
		t.Errorf("mode %s", mode)
	}
}

// TestOpenSSHClientGetsIn uses the machine's ssh and sftp, if it has them, with nothing but what the lab put into ~/.ssh.
func TestOpenSSHClientGetsIn(t *testing.T) {
	if need("ssh") != nil || need("sftp") != nil {
		t.Log("this machine has no ssh client; the Go client has proven the server")
		return
	}
	l := mustUp(t, threeHosts(), Options{})
	if out, code := run(t, l, "ci", "ssh -o BatchMode=yes blue 'hostname; exit 5'"); code != 5 || !strings.Contains(out, "api-blue") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if out, code := run(t, l, "ci", "echo there > /tmp/f && echo 'put /tmp/f /srv/f' | sftp -b - -o BatchMode=yes 10.77.1.10 && ssh -o BatchMode=yes blue cat /srv/f"); code != 0 || !strings.HasSuffix(out, "there") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if out, code := run(t, l, "green", "ssh -o BatchMode=yes blue true"); code != 255 {
		t.Errorf("blue let green in: exit code %d: %s", code, out)
	}
}

func TestOpenSSHServer(t *testing.T) {
	topology := threeHosts()
	topology.Hosts[1].SSH = SSHOpenSSH
	if !privileged() {
		if _, err := Up(testContext(t), topology, Options{}); err == nil || !strings.Contains(err.Error(), "OpenSSH") {
			t.Errorf("OpenSSH in a lab of an ordinary user: %v", err)
		}
		return
	}
	if need("sshd") != nil {
		t.Log("this machine has no sshd")
		return
	}
	l := mustUp(t, topology, Options{})
	await(t, "sshd listens", func() bool { _, code := run(t, l, "ci", "firedrill tool connect blue:22"); return code == 0 })
	client := mustLogin(t, l, "ci", "blue")
	text, err := newSession(t, client).Output("command -v firedrill; id -un; cat /proc/1/cmdline")
	if err != nil || !strings.Contains(string(text), "firedrill") || !strings.Contains(string(text), "root") {
		t.Errorf("%q, %v", text, err)
	}
	if !bytes.Contains(client.ServerVersion(), []byte("OpenSSH")) {
		t.Errorf("who listens is %s", client.ServerVersion())
	}
	files, err := sftp.NewClient(client)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := files.Stat("/etc/hostname"); err != nil {
		t.Error(err)
	}
	if _, err := login(t, l, "green", "blue"); err == nil {
		t.Error("sshd let green in, whom blue does not trust")
	}
	if err := l.PowerOff(testContext(t), "blue"); err != nil {
		t.Fatal(err)
	}
	if err := l.Boot(testContext(t), "blue"); err != nil {
		t.Fatal(err)
	}
	await(t, "sshd listens after a boot", func() bool { _, code := run(t, l, "ci", "firedrill tool connect blue:22"); return code == 0 })
	mustLogin(t, l, "ci", "blue")
}
