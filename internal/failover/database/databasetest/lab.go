package databasetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
	"firedrill/internal/lab"
)

// dialTool is what a test program is called with on a lab host, to connect from there.
const dialTool = "database-dial"

// Main is what TestMain of a test that runs a lab calls first: the test program is the init of hosts, and connects for the test there.
func Main() {
	lab.Reexec()
	if len(os.Args) == 2 && os.Args[1] == dialTool {
		os.Exit(dialer(os.Stdin))
	}
}

// RequirePostgreSQL skips a test where PostgreSQL 15 or root is missing, unless FIREDRILL_REQUIRE asks for it.
func RequirePostgreSQL(t *testing.T) {
	t.Helper()
	if os.Getuid() == 0 {
		if _, err := os.Stat("/usr/lib/postgresql/15/bin/initdb"); err == nil {
			return
		}
	}
	if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "postgresql") {
		t.Fatal("FIREDRILL_REQUIRE asks for PostgreSQL, and root: apt-get install postgresql-15")
	}
	t.Skip("needs root and PostgreSQL 15: apt-get install postgresql-15")
}

// RequirePatroni is RequirePostgreSQL for a cluster under Patroni, with etcd.
func RequirePatroni(t *testing.T) {
	t.Helper()
	missing := ""
	for _, program := range []string{"/usr/bin/patroni", "/usr/bin/etcd", "/usr/lib/postgresql/15/bin/initdb", "/usr/lib/python3/dist-packages/etcd/__init__.py", "/usr/bin/curl"} {
		if _, err := os.Stat(program); err != nil {
			missing = program
		}
	}
	switch {
	case missing == "" && os.Getuid() == 0:
	case strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "patroni"):
		t.Fatalf("FIREDRILL_REQUIRE asks for Patroni, and root (%s): apt-get install patroni etcd-server python3-etcd postgresql-15 curl", missing)
	default:
		t.Skip("needs root, Patroni, etcd and PostgreSQL 15: apt-get install patroni etcd-server python3-etcd postgresql-15 curl")
	}
}

// dialer reads "NUMBER ADDRESS" from the socket, connects, and sends back "NUMBER" with the connection, or "NUMBER REASON" without.
func dialer(control *os.File) int {
	conn, err := net.FileConn(control)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	socket := conn.(*net.UnixConn)
	buffer := make([]byte, 512)
	for {
		n, err := socket.Read(buffer)
		if err != nil || n == 0 {
			return 0
		}
		number, address, _ := strings.Cut(string(buffer[:n]), " ")
		go func() {
			text, rights := number, []byte(nil)
			made, err := net.Dial("tcp", address)
			if err == nil {
				defer made.Close()
				var file *os.File
				if file, err = made.(*net.TCPConn).File(); err == nil {
					defer file.Close()
					rights = unix.UnixRights(int(file.Fd()))
				}
			}
			if err != nil {
				text += " " + err.Error()
			}
			_, _, _ = socket.WriteMsgUnix([]byte(text), rights, nil) // the test may be over
		}()
	}
}

// Lab is a lab of which the test is a host as well: it connects from "ci".
type Lab struct {
	*lab.Lab
	t *testing.T

	control *net.UnixConn
	mu      sync.Mutex // guards the fields below
	number  int
	waiting map[string]chan dialled
}

type dialled struct {
	conn net.Conn
	err  error
}

// Up brings up hosts beside "ci". Each trusts ci over SSH.
func Up(t *testing.T, hosts ...lab.Host) *Lab {
	t.Helper()
	topology := lab.Topology{
		Name: "database", Network: netip.MustParsePrefix("10.77.0.0/16"),
		Hosts: append([]lab.Host{{Name: "ci", Address: netip.MustParseAddr("10.77.0.20")}}, hosts...),
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, err := lab.Up(ctx, topology, lab.Options{})
	if err != nil {
		if !strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "kernel") && strings.Contains(err.Error(), "not permitted") {
			t.Skipf("no namespaces here: %v", err)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("down: %v", err)
		}
	})
	up := &Lab{Lab: l, t: t, waiting: map[string]chan dialled{}}
	up.startDialer()
	return up
}

// startDialer starts our way out of the host ci, for the life of the test.
func (l *Lab) startDialer() {
	l.t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		l.t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(ends[0]), "ours"), os.NewFile(uintptr(ends[1]), "theirs")
	conn, err := net.FileConn(ours)
	if err != nil {
		l.t.Fatal(err)
	}
	_ = ours.Close()
	l.control = conn.(*net.UnixConn)
	var running sync.WaitGroup
	running.Go(func() {
		defer theirs.Close()
		_, _ = l.Exec(context.WithoutCancel(l.t.Context()), "ci", lab.Cmd{Args: []string{"firedrill", dialTool}, Stdin: theirs, Stderr: os.Stderr}) // ends with the lab
	})
	running.Go(l.receive)
	l.t.Cleanup(func() { _ = l.control.Close(); running.Wait() })
}

func (l *Lab) receive() {
	text, rights := make([]byte, 512), make([]byte, unix.CmsgSpace(4))
	for {
		n, m, _, _, err := l.control.ReadMsgUnix(text, rights)
		if err != nil || n == 0 {
			return
		}
		number, reason, failed := strings.Cut(string(text[:n]), " ")
		var got dialled
		if failed {
			got.err = errors.New(reason)
		} else {
			got.conn, got.err = received(rights[:m])
		}
		l.mu.Lock()
		wanted := l.waiting[number]
		delete(l.waiting, number)
		l.mu.Unlock()
		if wanted != nil {
			wanted <- got
		} else if got.conn != nil {
			_ = got.conn.Close()
		}
	}
}

func received(rights []byte) (net.Conn, error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("%d control messages: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("%d descriptors: %w", len(fds), err)
	}
	file := os.NewFile(uintptr(fds[0]), "connection")
	defer file.Close()
	return net.FileConn(file)
}

// Dial connects from the host ci.
func (l *Lab) Dial(ctx context.Context, _, address string) (net.Conn, error) {
	wanted := make(chan dialled, 1)
	l.mu.Lock()
	l.number++
	number := strconv.Itoa(l.number)
	l.waiting[number] = wanted
	l.mu.Unlock()
	if _, err := l.control.Write([]byte(number + " " + address)); err != nil {
		return nil, err
	}
	select {
	case got := <-wanted:
		return got.conn, got.err
	case <-ctx.Done():
		l.mu.Lock()
		delete(l.waiting, number)
		l.mu.Unlock()
		return nil, ctx.Err()
	}
}

// SSH returns how to reach hosts as root of ci.
func (l *Lab) SSH() remote.Options {
	l.t.Helper()
	home := l.t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".ssh"), 0o700); err != nil {
		l.t.Fatal(err)
	}
	names := strings.Fields(l.Run("ci", "ls /root/.ssh"))
	for _, name := range names {
		text, err := l.ReadFile(l.t.Context(), "ci", "/root/.ssh/"+name)
		if err != nil {
			l.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(home, ".ssh", name), text, 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
	options := remote.Options{Home: home, ConfigFiles: []string{}, AgentSocket: "none", DialNet: l.Dial}
	known := filepath.Join(home, "known_hosts")
	text, err := l.ReadFile(l.t.Context(), "ci", "/etc/ssh/ssh_known_hosts")
	if err == nil {
		err = os.WriteFile(known, text, 0o600)
	}
	if err == nil {
		options.KnownHosts = []string{known}
	} else if !slices.Contains(names, "known_hosts") {
		l.t.Fatalf("ci knows no hosts: %v", err)
	}
	return options
}

// Host returns a host of the lab as the service file would write it.
func Host(name, address string) drill.Host {
	return drill.Host{Name: name, Address: netip.MustParseAddr(address), SSH: drill.SSH{Address: name, User: "root"}}
}

// Run runs a shell line on a host and returns what it printed.
func (l *Lab) Run(host, line string) string {
	l.t.Helper()
	var out strings.Builder
	code, err := l.Exec(l.t.Context(), host, lab.Cmd{Args: []string{"sh", "-c", line}, Stdout: &out, Stderr: &out})
	if err != nil || code != 0 {
		l.t.Fatalf("%s on %s: exit code %d, %v: %s", line, host, code, err, out.String())
	}
	return strings.TrimSpace(out.String())
}
