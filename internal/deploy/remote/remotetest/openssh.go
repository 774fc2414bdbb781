package remotetest

import (
	"fmt"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// sshd is where Debian installs it; the gate installs openssh-server and sets FIREDRILL_REQUIRE=openssh.
const sshd = "/usr/sbin/sshd"

// OpenSSH starts Debian's sshd for one test, with keys and configuration of its own, one process a connection; it is a Make. Without sshd the
// test is skipped, unless FIREDRILL_REQUIRE contains "openssh".
func OpenSSH(t testing.TB, wish Wish) Account {
	t.Helper()
	if _, err := os.Stat(sshd); err != nil {
		missing(t, sshd+" is not installed: apt-get install openssh-server")
	}
	current, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	if current.Uid == "0" {
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // sshd chroots its network half there
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	hostKey, login := NewKey(t, filepath.Join(dir, "host_key")), NewKey(t, filepath.Join(dir, "id_test"))
	lines := []string{
		"HostKey " + hostKey.File, "AuthorizedKeysFile " + login.File + ".pub", "StrictModes no", "UsePAM no", "PidFile none",
		"PasswordAuthentication no", "KbdInteractiveAuthentication no", "PermitRootLogin prohibit-password", "LogLevel ERROR", "UseDNS no",
	}
	if !wish.NoSFTP {
		lines = append(lines, "Subsystem sftp internal-sftp")
	}
	var environment []string
	if wish.Home != "" {
		environment = append(environment, "HOME="+wish.Home)
	}
	if wish.Runtime != "" {
		environment = append(environment, "XDG_RUNTIME_DIR="+wish.Runtime)
	}
	if wish.Skewed {
		environment = append(environment, skewed(t, dir)...)
	}
	if len(environment) > 0 { // only the first line of it counts
		lines = append(lines, "SetEnv "+strings.Join(environment, " "))
	}
	if wish.Config != nil {
		lines = append(wish.Config(dir), lines...) // the first line of a keyword counts
	}
	account := current.Username
	if wish.Sudo != nil {
		account = sudoer
		lines = append(sudoHost(t, dir, *wish.Sudo), lines...)
	}
	config := filepath.Join(dir, "sshd_config")
	write(t, config, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
	listener := listen(t)
	var work sync.WaitGroup
	work.Go(func() { acceptForSSHD(t, listener, config, wish, &work) })
	t.Cleanup(func() {
		_ = listener.Close()
		work.Wait()
	})
	return newAccount(t, dir, listener.Addr().String(), hostKey.Signer.PublicKey(), login, account)
}

// skewed is the environment in which programs read a clock that is off: by libfaketime, which also bends the times of files that they read, as
// such a clock would have made them. No kernel gives a clock of its own to a few processes.
func skewed(t testing.TB, dir string) []string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/*/faketime/libfaketime.so.1")
	if err != nil || len(found) == 0 {
		missing(t, "libfaketime is not installed: apt-get install faketime")
	}
	Account{Dir: dir}.Skew(t, 0)
	return []string{"LD_PRELOAD=" + found[0], "FAKETIME_TIMESTAMP_FILE=" + clockFile(dir), "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"}
}

func clockFile(dir string) string { return filepath.Join(dir, "clock") }

// Skew sets by how much the clock of a host with Wish.Skewed is off from now on.
func (a Account) Skew(t testing.TB, by time.Duration) {
	t.Helper()
	write(t, clockFile(a.Dir), fmt.Appendf(nil, "%+d\n", int64(by.Seconds())), 0o644)
}

// apartScript gives a host its own loopback and its own /run and /var/lib, then becomes sshd. The mounts end with its last process.
const apartScript = `mount --make-rprivate / && mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/lib && mkdir -p /run/sshd && ip link set lo up && exec "$@"`

// acceptForSSHD gives each connection to an sshd of its own, as inetd does: no port is guessed, and each process ends with its connection.
func acceptForSSHD(t testing.TB, listener net.Listener, config string, wish Wish, work *sync.WaitGroup) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		work.Go(func() {
			if err := inetd(t, conn, config, wish); err != nil {
				fmt.Fprintln(os.Stderr, "remotetest:", err)
			}
		})
	}
}

func inetd(t testing.TB, conn net.Conn, config string, wish Wish) error {
	socket, err := conn.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	_ = conn.Close()
	command := sshdCommand(config, wish)
	command.Stdin, command.Stdout = socket, socket
	err = command.Start()
	_ = socket.Close()
	if err != nil {
		return fmt.Errorf("start sshd: %w", err)
	}
	ended := make(chan struct{})
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	go func() {
		select {
		case <-ended:
		case <-stop:
			_ = command.Process.Kill()
		}
	}()
	_ = command.Wait() // its exit says only that the connection ended
	close(ended)
	return nil
}
