package remotetest

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/skeema/knownhosts"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
)

// configured is an account that is reached by what a configuration file says alone, as the host named "web".
func configured(t *testing.T, a Account, format string, args ...any) Account {
	t.Helper()
	host, port, err := net.SplitHostPort(a.Host.SSH.Address)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config")
	text := fmt.Sprintf(format, args...) + fmt.Sprintf("\nHost web\n HostName %s\n Port %s\nHost *\n User %s\n IdentityFile %s\n UserKnownHostsFile %s\n GlobalKnownHostsFile none\n",
		host, port, a.Host.SSH.User, a.User.File, a.Host.SSH.KnownHosts)
	write(t, config, []byte(text), 0o600)
	a.Host = drill.Host{Name: "web"}
	a.Options.ConfigFiles = []string{config}
	return a
}

func TestProxyCommandCarriesTheConnectionAndEndsWithIt(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		missing(t, "python3 is not installed: apt-get install python3")
	}
	a := OpenSSH(t, Wish{})
	pids := filepath.Join(a.Dir, "pids")
	carry := filepath.Join(a.Dir, "carry.py")
	write(t, carry, []byte(`import os, select, socket, sys
open(sys.argv[3], "w").write(str(os.getpid()))
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
while True:
    for f in select.select([0, s], [], [])[0]:
        data = os.read(f if f == 0 else s.fileno(), 65536)
        if not data: sys.exit()
        s.sendall(data) if f == 0 else os.write(1, data)
`), 0o600)
	by := configured(t, a, "Host w*\n ProxyCommand python3 %s %%h %%p %s", carry, pids)
	client, err := remote.Dial(t.Context(), by.Host, by.Options)
	if err != nil {
		t.Fatal(err, drill.HintOf(err))
	}
	if out, err := client.Output(t.Context(), "echo through"); err != nil || out != "through\n" {
		t.Errorf("got %q, %v", out, err)
	}
	pid, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	if !Lives(string(pid)) {
		t.Error("the command does not run: the connection goes another way")
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if Lives(string(pid)) {
		t.Errorf("process %s outlives its connection", pid)
	}

	failing := configured(t, a, "Host w*\n ProxyCommand echo no way there >&2; exit 1")
	if _, err := remote.Dial(t.Context(), failing.Host, failing.Options); drill.KindOf(err) != drill.Unreachable || !strings.Contains(err.Error(), "no way there") {
		t.Errorf("a command that fails: got %v, want Unreachable with its words", err)
	}
	silent := configured(t, a, "Host w*\n ConnectTimeout 1\n ProxyCommand sleep 1007 & echo $! > %s; wait", pids)
	if _, err := remote.Dial(t.Context(), silent.Host, silent.Options); drill.KindOf(err) != drill.Unreachable || !strings.Contains(err.Error(), "no answer within 1s") {
		t.Errorf("a command that says nothing: got %v, want Unreachable", err)
	}
	if pid, err = os.ReadFile(pids); err != nil {
		t.Fatal(err)
	}
	await(t, "what the command started to end with its connection", func() bool { return !Lives(strings.TrimSpace(string(pid))) })
	fd := configured(t, a, "Host w*\n ProxyUseFdpass yes\n ProxyCommand true")
	if _, err := remote.Dial(t.Context(), fd.Host, fd.Options); drill.KindOf(err) != drill.Unsupported {
		t.Errorf("ProxyUseFdpass: got %v, want Unsupported", err)
	}
}

func TestJumpHostsHaveTheirOwnSettings(t *testing.T) {
	a, one, two := OpenSSH(t, Wish{}), OpenSSH(t, Wish{}), OpenSSH(t, Wish{})
	known, err := os.ReadFile(a.Host.SSH.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	// Each jump host has a key file and known_hosts of its own, and the second is itself behind the first.
	jump := func(name string, jump Account, more string) string {
		host, port, _ := net.SplitHostPort(jump.Host.SSH.Address)
		return fmt.Sprintf("Host %s\n HostName %s\n Port %s\n IdentityFile %s\n UserKnownHostsFile %s\n%s", name, host, port, jump.User.File, jump.Host.SSH.KnownHosts, more)
	}
	settings := jump("one", one, "") + jump("two", two, " ProxyJump one\n")
	for _, chain := range []string{"two", "one,two", fmt.Sprintf("%s@one , ssh://two", a.Host.SSH.User)} {
		by := configured(t, a, "%sHost web\n ProxyJump %s", settings, chain)
		client := by.Dial(t)
		out, err := client.Output(t.Context(), "echo $SSH_CONNECTION")
		if err != nil {
			t.Error(err)
		}
		_, port, _ := net.SplitHostPort(a.Host.SSH.Address)
		if fields := strings.Fields(out); len(fields) != 4 || fields[3] != port {
			t.Errorf("%s: reached %q", chain, out)
		}
	}
	write(t, two.Host.SSH.KnownHosts, known, 0o600)
	by := configured(t, a, "%sHost web\n ProxyJump two", settings)
	if _, err := remote.Dial(t.Context(), by.Host, by.Options); drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "two") {
		t.Errorf("a jump host with another key: got %v, want Refused naming it", err)
	}
	for _, loop := range []string{"Host *\n ProxyJump a\n", "Host web\n ProxyJump a\nHost a\n ProxyJump b\nHost b\n ProxyJump a\n"} {
		by := configured(t, a, "%s", loop)
		if _, err := remote.Dial(t.Context(), by.Host, by.Options); drill.KindOf(err) != drill.Invalid || !strings.Contains(drill.HintOf(err), "Host * !") {
			t.Errorf("a loop: got %v (%s), want Invalid with the cure", err, drill.HintOf(err))
		}
	}
}

func TestSettingsOfTheConfigurationCount(t *testing.T) {
	a := OpenSSH(t, Wish{})
	empty, elsewhere := filepath.Join(a.Dir, "empty"), filepath.Join(a.Dir, "elsewhere")
	write(t, empty, nil, 0o600)
	key, err := os.ReadFile(a.Host.SSH.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	write(t, elsewhere, key, 0o600)
	alias := filepath.Join(a.Dir, "alias")
	write(t, alias, []byte(knownhosts.Line([]string{"other-name"}, a.HostKey)+"\n"), 0o600)
	portless := filepath.Join(a.Dir, "portless")
	write(t, portless, []byte(knownhosts.Line([]string{"127.0.0.1"}, a.HostKey)+"\n"), 0o600)
	for name, text := range map[string]string{
		"several known hosts":    fmt.Sprintf("UserKnownHostsFile %s /absent %s", empty, elsewhere),
		"global known hosts":     fmt.Sprintf("UserKnownHostsFile %s\nGlobalKnownHostsFile %s", empty, elsewhere),
		"entry without a port":   "UserKnownHostsFile " + portless,
		"alias":                  fmt.Sprintf("UserKnownHostsFile %s\nHostKeyAlias other-name", alias),
		"tokens in paths":        fmt.Sprintf("UserKnownHostsFile %s/%%k", filepath.Dir(elsewhere)) + "\nHostKeyAlias elsewhere\nUserKnownHostsFile x",
		"key algorithms":         "HostKeyAlgorithms ssh-ed25519\nPubkeyAcceptedAlgorithms +ssh-rsa\nKexAlgorithms curve25519-sha256\nCiphers aes128-ctr\nMACs hmac-sha2-256",
		"removed algorithms":     "Ciphers -aes*gcm*\nKexAlgorithms -mlkem*,*nistp*\nHostKeyAlgorithms ^ssh-ed25519",
		"family and bind":        "AddressFamily inet\nBindAddress 127.0.0.3",
		"keepalive":              "ServerAliveInterval 1\nServerAliveCountMax 2",
		"match on the final":     "Match final host 127.0.0.1 user " + a.Host.SSH.User + "\n IdentitiesOnly yes",
		"environment in paths":   "IdentityFile ${FIREDRILL_TEST_DIR}/id_test",
		"unknown words":          "UseKeychain yes\nIgnoreUnknown UseKeychain",
		"strictness is not ours": "StrictHostKeyChecking no",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("FIREDRILL_TEST_DIR", a.Dir)
			by := configured(t, a, "%s", text)
			if name == "tokens in paths" {
				write(t, elsewhere, []byte(knownhosts.Line([]string{"elsewhere"}, a.HostKey)+"\n"), 0o600)
				defer write(t, elsewhere, key, 0o600)
			}
			client := by.Dial(t)
			if name == "family and bind" {
				if out, err := client.Output(t.Context(), "echo $SSH_CONNECTION"); err != nil || !strings.HasPrefix(out, "127.0.0.3 ") {
					t.Errorf("came from %q, %v", out, err)
				}
			}
		})
	}
	for name, one := range map[string]struct {
		text string
		kind drill.ErrorKind
		says string
	}{
		"no common algorithm":   {"HostKeyAlgorithms rsa-sha2-512", drill.Unsupported, "HostKeyAlgorithms"},
		"none that we have":     {"Ciphers blowfish-cbc", drill.Invalid, "blowfish-cbc"},
		"no family":             {"AddressFamily inet7", drill.Invalid, "inet7"},
		"no such address here":  {"BindAddress 192.0.2.1", drill.Unreachable, "192.0.2.1"},
		"family that is not":    {"AddressFamily inet6", drill.Unreachable, "127.0.0.1"},
		"no time":               {"ConnectTimeout soon", drill.Invalid, "soon"},
		"an unset variable":     {"IdentityFile ${FIREDRILL_UNSET}/x", drill.Invalid, "FIREDRILL_UNSET"},
		"no key accepted":       {"PubkeyAcceptedAlgorithms rsa-sha2-512", drill.Unreachable, "PubkeyAcceptedAlgorithms"},
		"strict no stays":       {"StrictHostKeyChecking no\nUserKnownHostsFile /absent", drill.Refused, "not known"},
		"accept-new stays":      {"StrictHostKeyChecking accept-new\nUserKnownHostsFile /absent", drill.Refused, "at the first log-in: ssh"},
		"other key sans port":   {"UserKnownHostsFile " + otherKey(t, a), drill.Refused, "not known"},
		"a certificate is none": {"CertificateFile /absent-cert.pub", drill.Invalid, "/absent-cert.pub"},
	} {
		t.Run(name, func(t *testing.T) {
			by := configured(t, a, "%s", one.text)
			if _, err := remote.Dial(t.Context(), by.Host, by.Options); drill.KindOf(err) != one.kind || !strings.Contains(err.Error()+" "+drill.HintOf(err), one.says) {
				t.Errorf("got %s: %v (%s), want %s saying %q", drill.KindOf(err), err, drill.HintOf(err), one.kind, one.says)
			}
		})
	}
}

// otherKey is a known_hosts file with an entry for the address without a port, and another key.
func otherKey(t *testing.T, a Account) string {
	t.Helper()
	name := filepath.Join(a.Dir, "other")
	write(t, name, []byte(knownhosts.Line([]string{"127.0.0.1"}, a.User.Signer.PublicKey())+"\n"), 0o600)
	return name
}

func TestEncryptedKeyOpensWithItsPassphrase(t *testing.T) {
	for _, format := range []string{"RFC4716", "PEM"} {
		t.Run(format, func(t *testing.T) { encryptedKeyFile(t, format) })
	}
}

func encryptedKeyFile(t *testing.T, format string) {
	a := OpenSSH(t, Wish{})
	file := filepath.Join(a.Dir, "encrypted")
	keygen(t, "-q", "-t", "ecdsa", "-m", format, "-N", "pass phrase", "-f", file)
	public, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	write(t, a.User.File+".pub", public, 0o600) // that is what the host admits
	a.Host.SSH.Identity = file
	refuse := func(says string) {
		t.Helper()
		_, err := remote.Dial(t.Context(), a.Host, a.Options)
		if drill.KindOf(err) != drill.Invalid || !strings.Contains(err.Error()+drill.HintOf(err), says) {
			t.Errorf("got %v (%s), want Invalid saying %q", err, drill.HintOf(err), says)
		}
	}
	refuse(remote.PassphraseVariable + "_FILE")
	t.Setenv(remote.PassphraseVariable, "pass phrase")
	a.Dial(t)
	t.Setenv(remote.PassphraseVariable, "wrong phrase")
	refuse("does not open it")
	secret := filepath.Join(a.Dir, "passphrase")
	write(t, secret, []byte("pass phrase\n"), 0o600)
	t.Setenv(remote.PassphraseVariable+"_FILE", secret)
	a.Dial(t)
	write(t, secret+"2", []byte("pass phrase\n"), 0o640)
	a.Options.Passphrase = remote.Secret{File: secret + "2"}
	refuse("chmod 600")
}

func TestKeysThatAreSkippedAreTold(t *testing.T) {
	a := OpenSSH(t, Wish{})
	block, err := ssh.MarshalPrivateKeyWithPassphrase(a.User.Raw, "test", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, a.User.File, pem.EncodeToMemory(block), 0o600)
	by := configured(t, a, "# the key is named by the configuration, so it may be passed over")
	refusedLogin(t, by, "not offered: "+a.User.File, "is encrypted", "ssh-add")
}

func TestNamesCannotBeCommands(t *testing.T) {
	a := OpenSSH(t, Wish{})
	mark := filepath.Join(t.TempDir(), "ran")
	for _, text := range []string{"ProxyCommand echo %h", "ProxyCommand echo %n", "ProxyCommand echo %r", "Match exec \"echo %n\"", "Match exec \"echo %h\"", "Match exec \"echo %r\""} {
		by := configured(t, a, "%s", text)
		by.Host = drill.Host{Name: "x", SSH: drill.SSH{Address: "x;touch${IFS}" + mark, User: "$(touch${IFS}" + mark + ")"}}
		if _, err := remote.Dial(t.Context(), by.Host, by.Options); drill.KindOf(err) != drill.Invalid || !strings.Contains(err.Error(), "no name to put into a command") {
			t.Errorf("%s: got %v, want Invalid", text, err)
		}
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a name was run as a command")
	}
}

func TestSecretsReachNoProgramOfOthers(t *testing.T) {
	a := OpenSSH(t, Wish{})
	seen := filepath.Join(t.TempDir(), "seen")
	t.Setenv(remote.SudoVariable, "open sesame")
	t.Setenv(remote.PassphraseVariable, "open sesame")
	by := configured(t, a, "Match exec \"env >>%s\"\n Compression no\nHost *\n ProxyCommand env >>%s", seen, seen)
	if _, err := remote.Dial(t.Context(), by.Host, by.Options); err == nil {
		t.Error("a command that carries nothing connected")
	}
	if text, err := os.ReadFile(seen); err != nil || strings.Count(string(text), "PATH=") < 2 || strings.Contains(string(text), "sesame") {
		t.Errorf("%v: the programs saw %q", err, text)
	}
}

func TestTheAgentOfTheConfigurationIsAsked(t *testing.T) {
	a := OpenSSH(t, Wish{})
	socket := serveAgent(t, agent.AddedKey{PrivateKey: a.User.Raw})
	by := configured(t, a, "Match all\n IdentityFile /absent\n IdentityAgent %s\n", socket)
	text, err := os.ReadFile(by.Options.ConfigFiles[0])
	if err != nil {
		t.Fatal(err)
	}
	only := strings.ReplaceAll(string(text), " IdentityFile "+a.User.File+"\n", "")
	write(t, by.Options.ConfigFiles[0], []byte(only), 0o600)
	by.Options.AgentSocket = ""
	t.Setenv("SSH_AUTH_SOCK", "")
	by.Dial(t)
	write(t, by.Options.ConfigFiles[0], []byte("IdentitiesOnly yes\n"+only), 0o600)
	refusedLogin(t, by, "accepts no key")
	write(t, by.Options.ConfigFiles[0], []byte("IdentitiesOnly yes\nIdentityFile "+a.User.File+".pub\n"+only), 0o600)
	by.Dial(t) // the agent's key is among those that are named
	write(t, by.Options.ConfigFiles[0], []byte("IdentityAgent none\n"+only), 0o600)
	refusedLogin(t, by, "there is no agent")
}

// slowly answers like a host whose sshd looks names up first: the banner comes late.
func slowly(t *testing.T, to string, delay time.Duration) string {
	t.Helper()
	listener := listen(t)
	var work sync.WaitGroup
	ended := make(chan struct{})
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				select {
				case <-time.After(delay):
				case <-ended:
					return
				}
				host, err := (&net.Dialer{}).DialContext(context.WithoutCancel(t.Context()), "tcp", to)
				if err != nil {
					return
				}
				defer host.Close()
				pipe(conn, host)
			})
		}
	})
	t.Cleanup(func() { close(ended); _ = listener.Close(); work.Wait() })
	return listener.Addr().String()
}

func pipe(a, b net.Conn) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		copyConn(a, b)
	}()
	copyConn(b, a)
	<-done
}

func copyConn(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_ = to.Close()
	_ = from.Close()
}

func TestSlowBannerIsWaitedForAsConfigured(t *testing.T) {
	a := OpenSSH(t, Wish{})
	known, err := os.ReadFile(a.Host.SSH.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	behind := slowly(t, a.Host.SSH.Address, 1500*time.Millisecond)
	_, port, _ := net.SplitHostPort(behind)
	write(t, a.Host.SSH.KnownHosts, append(known, []byte(knownhosts.Line([]string{"[127.0.0.1]:" + port}, a.HostKey)+"\n")...), 0o600)
	a.Host.SSH.Address = behind
	a.Options.ConnectTimeout = 500 * time.Millisecond
	if _, err := remote.Dial(t.Context(), a.Host, a.Options); drill.KindOf(err) != drill.Unreachable || !strings.Contains(err.Error(), "no answer within 500ms") {
		t.Errorf("got %v, want Unreachable", err)
	}
	config := filepath.Join(a.Dir, "config")
	write(t, config, []byte("ConnectTimeout 30\n"), 0o600)
	a.Options.ConfigFiles = []string{config}
	a.Dial(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := remote.Dial(ctx, a.Host, a.Options); drill.KindOf(err) != drill.Interrupted || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v, want Interrupted", err)
	}
}
