package remotetest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// sshd is where Debian installs it; the gate installs openssh-server and sets FIREDRILL_REQUIRE=openssh.
const sshd = "/usr/sbin/sshd"

// OpenSSH starts Debian's sshd for one test, with keys and configuration of its own, one process a connection; it is a Make. Without sshd the
// test is skipped, unless FIREDRILL_REQUIRE contains "openssh".
func OpenSSH(t testing.TB, wish Wish) Account {
	t.Helper()
	if _, err := os.Stat(sshd); err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "openssh") {
			t.Fatalf("%s is required: apt-get install openssh-server", sshd)
		}
		t.Skipf("%s is not installed", sshd)
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
	if wish.Home != "" {
		lines = append(lines, "SetEnv HOME="+wish.Home)
	}
	if wish.Config != nil {
		lines = append(wish.Config(dir), lines...) // the first line of a keyword counts
	}
	config := filepath.Join(dir, "sshd_config")
	write(t, config, []byte(strings.Join(lines, "\n")+"\n"), 0o600)
	listener := listen(t)
	var work sync.WaitGroup
	work.Go(func() { acceptForSSHD(t, listener, config, &work) })
	t.Cleanup(func() {
		_ = listener.Close()
		work.Wait()
	})
	return newAccount(t, dir, listener.Addr().String(), hostKey.Signer.PublicKey(), login, current.Username)
}

// acceptForSSHD gives each connection to an sshd of its own, as inetd does: no port is guessed, and each process ends with its connection.
func acceptForSSHD(t testing.TB, listener net.Listener, config string, work *sync.WaitGroup) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		work.Go(func() {
			if err := inetd(t, conn, config); err != nil {
				fmt.Fprintln(os.Stderr, "remotetest:", err)
			}
		})
	}
}

func inetd(t testing.TB, conn net.Conn, config string) error {
	socket, err := conn.(*net.TCPConn).File()
	if err != nil {
		return err
	}
	_ = conn.Close()
	command := exec.Command(sshd, "-i", "-e", "-f", config)
	command.Stdin, command.Stdout = socket, socket
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
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
