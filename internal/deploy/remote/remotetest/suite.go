package remotetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
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

// patience bounds what should happen soon; it only ever ends a test that has failed.
const patience = 30 * time.Second

// Run runs the contract of package remote on a server.
func Run(t *testing.T, serve Make) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, serve Make)
	}{
		{"unknown host key is refused", unknownHostKey},
		{"changed host key is refused", changedHostKey},
		{"hashed known hosts and names are found", hashedHostKey},
		{"encrypted key comes from the agent", encryptedKey},
		{"configuration file is followed", configurationFile},
		{"jump host carries the connection", jumpHost},
		{"exit codes and signals are told apart", exits},
		{"streams and environment arrive", streams},
		{"a daemon does not hold up its starter", daemon},
		{"the end of the context kills every process", contextKills},
		{"a cut connection is no exit", cutConnection},
		{"an end of context and connection is no loss", endsTogether},
		{"SFTP disabled is said, and not needed", noSFTP},
		{"a pushed binary leaves nothing", pushLeavesNothing},
		{"a cut push leaves nothing", cutPush},
		{"a push of the same does not travel", pushOfTheSame},
		{"a slow way is travelled compressed", slowWay},
		{"a pushed process is signalled and fed", pushedProcess},
		{"a lock excludes until its holder is gone", locks},
		{"the clocks of one machine agree", clock},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, serve) })
	}
}

func refusedKey(t *testing.T, a Account, says ...string) {
	t.Helper()
	client, err := remote.Dial(t.Context(), a.Host, a.Options)
	if err == nil {
		t.Error(client.Close())
		t.Fatal("connected")
	}
	if drill.KindOf(err) != drill.Refused {
		t.Errorf("got %s: %v; want refused", drill.KindOf(err), err)
	}
	for _, want := range append(says, ssh.FingerprintSHA256(a.HostKey)) {
		if !strings.Contains(err.Error()+" "+drill.HintOf(err), want) {
			t.Errorf("%v (%s) does not say %q", err, drill.HintOf(err), want)
		}
	}
}

func unknownHostKey(t *testing.T, serve Make) {
	a := serve(t, Wish{})
	known := a.Host.SSH.KnownHosts
	write(t, known, nil, 0o600)
	refusedKey(t, a, "not known", "ssh-keyscan", ">> "+known, "VERIFY")
	a.Host.SSH.KnownHosts = known + "-absent"
	refusedKey(t, a, "not known", "ssh-keyscan")
}

func changedHostKey(t *testing.T, serve Make) {
	a := serve(t, Wish{})
	other := NewKey(t, filepath.Join(a.Dir, "other_key"))
	write(t, a.Host.SSH.KnownHosts, []byte(knownhosts.Line([]string{a.Host.SSH.Address}, other.Signer.PublicKey())+"\n"), 0o600)
	refusedKey(t, a, "CHANGED", "ssh-keygen -f", "-R")
	write(t, a.Host.SSH.KnownHosts, []byte("@revoked "+knownhosts.Line([]string{a.Host.SSH.Address}, a.HostKey)+"\n"), 0o600)
	refusedKey(t, a, "REVOKED")
}

func hashedHostKey(t *testing.T, serve Make) {
	a := serve(t, Wish{})
	hashed := hashHostname(t, a.Host.SSH.Address)
	write(t, a.Host.SSH.KnownHosts, fmt.Appendf(nil, "%s %s", hashed, ssh.MarshalAuthorizedKey(a.HostKey)), 0o600)
	a.Dial(t)
	_, port, _ := net.SplitHostPort(a.Host.SSH.Address)
	write(t, a.Host.SSH.KnownHosts, []byte(knownhosts.Line([]string{"[test-host]:" + port}, a.HostKey)+"\n"), 0o600)
	a.Dial(t)
}

// serveAgent is an agent that holds one key; it ends with the test.
func serveAgent(t *testing.T, key agent.AddedKey) string {
	t.Helper()
	keyring := agent.NewKeyring()
	if err := keyring.Add(key); err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "agent") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			work.Go(func() { _ = agent.ServeAgent(keyring, conn); _ = conn.Close() })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		work.Wait()
		_ = os.RemoveAll(dir)
	})
	return socket
}

func encryptedKey(t *testing.T, serve Make) {
	a := serve(t, Wish{})
	block, err := ssh.MarshalPrivateKeyWithPassphrase(a.User.Raw, "test", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, a.User.File, pem.EncodeToMemory(block), 0o600)
	if client, err := remote.Dial(t.Context(), a.Host, a.Options); err == nil {
		t.Fatal("connected without the passphrase", client.Close())
	} else if !strings.Contains(err.Error(), "encrypted") || !strings.Contains(drill.HintOf(err), "ssh-add "+a.User.File) {
		t.Errorf("got %v (%s); want the cure", err, drill.HintOf(err))
	}
	a.Options.AgentSocket = serveAgent(t, agent.AddedKey{PrivateKey: a.User.Raw})
	a.Dial(t)

	a.Host.SSH.Identity = filepath.Join(a.Dir, "absent")
	if _, err := remote.Dial(t.Context(), a.Host, a.Options); drill.KindOf(err) != drill.Invalid {
		t.Errorf("an absent key file: got %v, want Invalid", err)
	}
	a.Host.SSH.Identity = NewKey(t, filepath.Join(a.Dir, "stranger")).File
	if _, err := remote.Dial(t.Context(), a.Host, a.Options); drill.KindOf(err) != drill.Unreachable || !strings.Contains(err.Error(), "stranger") {
		t.Errorf("a key that is not accepted: got %v, want Unreachable naming the key", err)
	}
}

func configurationFile(t *testing.T, serve Make) {
	a := serve(t, Wish{})
	host, port, _ := net.SplitHostPort(a.Host.SSH.Address)
	config := filepath.Join(a.Dir, "config")
	text := fmt.Sprintf("Match exec \"test %%n = other\"\n Port 1\nMatch host test-host exec \"true\"\n HostName %s\n Port %s\n User %s\n IdentityFile %s\nMatch final host %s\n UserKnownHostsFile %s\nHost *\n Port 2\n",
		host, port, a.Host.SSH.User, a.User.File, host, a.Host.SSH.KnownHosts)
	write(t, config, []byte(text), 0o600)
	a.Options.ConfigFiles = []string{config}
	explicit := a.Host.SSH
	a.Host.SSH = drill.SSH{}
	a.Dial(t)
	write(t, config, []byte("Match weather rain\n"), 0o600)
	if _, err := remote.Dial(t.Context(), a.Host, a.Options); drill.KindOf(err) != drill.Invalid || !strings.Contains(err.Error(), "config:1: match weather") {
		t.Errorf("a condition that nobody knows: got %v, want Invalid with its line", err)
	}
	// What the service file states wins over the configuration.
	write(t, config, []byte("Host *\n Port 1\n User nobody\n IdentityFile /absent\n UserKnownHostsFile /absent\n"), 0o600)
	a.Host.SSH = explicit
	a.Dial(t)
}

func jumpHost(t *testing.T, serve Make) {
	a, jump := serve(t, Wish{}), serve(t, Wish{})
	host, port, _ := net.SplitHostPort(jump.Host.SSH.Address)
	config := filepath.Join(a.Dir, "config")
	write(t, config, fmt.Appendf(nil, "Host jump\n HostName %s\n Port %s\n User %s\n IdentityFile %s\nHost 127.0.0.1\n ProxyJump jump\n",
		host, port, jump.Host.SSH.User, jump.User.File), 0o600)
	known, err := os.ReadFile(jump.Host.SSH.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile(a.Host.SSH.KnownHosts)
	if err != nil {
		t.Fatal(err)
	}
	a.Options.ConfigFiles = []string{config}
	if _, err := remote.Dial(t.Context(), a.Host, a.Options); drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "jump") {
		t.Errorf("a jump host that is not known: got %v, want Refused", err)
	}
	write(t, a.Host.SSH.KnownHosts, append(own, known...), 0o600)
	if out, err := a.Dial(t).Output(t.Context(), "echo through"); err != nil || out != "through\n" {
		t.Errorf("got %q, %v", out, err)
	}
}

func exits(t *testing.T, serve Make) {
	client := serve(t, Wish{}).Dial(t)
	for line, want := range map[string]remote.Exit{
		"true":            {},
		"exit 3":          {Code: 3},
		"no-such-command": {Code: 127},
		"kill -TERM $$":   {Code: 143, Signal: "TERM"},
		"kill -KILL $$":   {Code: 137, Signal: "KILL"},
	} {
		exit, err := client.Run(t.Context(), remote.Command{Line: line})
		if err != nil {
			t.Errorf("%q: %v", line, err)
		}
		if exit.Took = 0; exit != want {
			t.Errorf("%q: got %+v, want %+v", line, exit, want)
		}
	}
	if _, err := client.Output(t.Context(), "echo why >&2; exit 4"); drill.KindOf(err) != drill.Failed || !strings.Contains(err.Error(), "code 4: why") {
		t.Errorf("got %v, want Failed with code and reason", err)
	}
}

func streams(t *testing.T, serve Make) {
	client := serve(t, Wish{}).Dial(t)
	big := make([]byte, 3<<20) // more than any window, so that both directions must flow at once
	_, _ = rand.Read(big)
	var out, errOut bytes.Buffer
	if _, err := client.Run(t.Context(), remote.Command{Line: "cat; echo err >&2", Stdin: bytes.NewReader(big), Stdout: &out, Stderr: &errOut}); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), big) || errOut.String() != "err\n" {
		t.Errorf("%d bytes came back of %d, standard error %q", out.Len(), len(big), errOut.String())
	}
	out.Reset()
	command := remote.Command{Line: `printf '%s|' "$A" "$B"; cat`, Env: []string{"A=it's", `B= $x\ "q" `}, Stdin: strings.NewReader("in"), Stdout: &out}
	if _, err := client.Run(t.Context(), command); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), `it's| $x\ "q" |in`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := client.Run(t.Context(), remote.Command{Line: "true", Env: []string{"A=two\nlines"}}); drill.KindOf(err) != drill.Invalid {
		t.Errorf("a line break in the environment: got %v, want Invalid", err)
	}
	out.Reset()
	exit, err := client.Run(t.Context(), remote.Command{Line: "[ -t 1 ] && echo terminal; exit 5", PTY: true, Stdout: &out})
	if drill.KindOf(err) == drill.Failed && strings.Contains(err.Error(), "refuses pty-req") {
		return // our own server has none, and says so
	}
	if err != nil || exit.Code != 5 || strings.TrimSpace(out.String()) != "terminal" {
		t.Errorf("with a terminal: %+v, %v, %q", exit, err, out.String())
	}
}

func daemon(t *testing.T, serve Make) {
	client := serve(t, Wish{}).Dial(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var out bytes.Buffer
	exit, err := client.Run(ctx, remote.Command{Line: "sleep 1001 & echo $!", Stdout: &out})
	if err != nil || exit.Code != 0 {
		t.Errorf("got %+v, %v", exit, err)
	}
	pid := strings.TrimSpace(out.String())
	if !Lives(pid) {
		t.Errorf("process %q is gone: a command that ends by itself keeps what it started", pid)
	}
	if _, err := client.Output(ctx, "kill "+pid); err != nil {
		t.Error(err)
	}
}

// family is a command that spreads: a child, a grandchild in a session of its own, one that ignores SIGTERM. It prints their ids.
const family = `sleep 1002 & echo $!
setsid sleep 1003 & echo $!
sh -c 'trap "" TERM; echo $$; exec sleep 1004' &
echo ready; wait`

func contextKills(t *testing.T, serve Make) {
	client := serve(t, Wish{}).Dial(t)
	started := func(run func(ctx context.Context, out io.Writer)) []string {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		reader, writer := io.Pipe()
		var work sync.WaitGroup
		work.Go(func() { run(ctx, writer); _ = writer.Close() })
		pids := readIDs(t, reader)
		work.Go(func() { _, _ = io.Copy(io.Discard, reader) })
		cancel()
		work.Wait()
		return pids
	}
	pids := started(func(ctx context.Context, out io.Writer) {
		_, err := client.Run(ctx, remote.Command{Line: family, Stdout: out, Grace: 300 * time.Millisecond})
		if drill.KindOf(err) != drill.Interrupted || errors.Is(err, remote.ErrAlive) {
			t.Errorf("got %v, want Interrupted and nobody alive", err)
		}
	})
	for _, pid := range pids {
		if Lives(pid) {
			t.Errorf("process %s is still there", pid)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := client.Run(ctx, remote.Command{Line: "sleep 1005"}); drill.KindOf(err) != drill.Timeout {
		t.Errorf("got %v, want Timeout", err)
	}

	// The planted twin does what many tools do: it turns away and leaves the processes to themselves.
	left := started(func(ctx context.Context, out io.Writer) {
		stop := context.AfterFunc(ctx, func() { _ = client.Close() })
		defer stop()
		_, _ = client.Run(context.WithoutCancel(ctx), remote.Command{Line: family, Stdout: out})
	})
	alive := 0
	for _, pid := range left {
		if Lives(pid) {
			alive++
		}
		killByID(pid)
	}
	if alive == 0 {
		t.Error("planted: a command that is only left alone passes for killed")
	}
}

// readIDs reads process ids until the line "ready" and three of them have come.
func readIDs(t *testing.T, from io.Reader) []string {
	t.Helper()
	var text strings.Builder
	buffer := make([]byte, 256)
	for {
		n, err := from.Read(buffer)
		text.Write(buffer[:n])
		fields := strings.Fields(text.String())
		if len(fields) == 4 && strings.HasSuffix(text.String(), "\n") {
			var pids []string
			for _, field := range fields {
				if field != "ready" {
					pids = append(pids, field)
				}
			}
			return pids
		}
		if err != nil {
			t.Errorf("the command said %q: %v", text.String(), err)
			return nil
		}
	}
}

func cutConnection(t *testing.T, serve Make) {
	a := serve(t, Wish{})
	var cutter Cutter
	a.Options.DialNet = cutter.DialNet
	client := a.Dial(t)
	reader, writer := io.Pipe()
	done := make(chan error, 1)
	go func() {
		_, err := client.Run(t.Context(), remote.Command{Line: "echo $$; exec sleep 1006", Stdout: writer})
		_ = writer.Close()
		done <- err
	}()
	pid := make([]byte, 32)
	n, _ := reader.Read(pid)
	cutter.Cut()
	if err := <-done; drill.KindOf(err) != drill.Unreachable || !strings.Contains(err.Error(), "the connection ended before the command did: ") {
		t.Errorf("got %v, want Unreachable, and by whom", err)
	}
	killByID(strings.TrimSpace(string(pid[:n])))
	if _, err := client.Run(t.Context(), remote.Command{Line: "true"}); drill.KindOf(err) != drill.Unreachable {
		t.Errorf("on a dead connection: got %v, want Unreachable", err)
	}
}

// endsTogether has the context and the connection end in either order, as they do when a program is told to stop.
func endsTogether(t *testing.T, serve Make) {
	a := serve(t, Wish{})
	for range 5 {
		client := a.Dial(t)
		ctx, cancel := context.WithCancel(t.Context())
		reader, writer := io.Pipe()
		done := make(chan error, 1)
		go func() {
			_, err := client.Run(ctx, remote.Command{Line: "echo $$; exec sleep 1007", Stdout: writer})
			_ = writer.Close()
			done <- err
		}()
		pid := make([]byte, 32)
		n, _ := reader.Read(pid)
		cancel()
		_ = client.Close()
		if err := <-done; drill.KindOf(err) != drill.Interrupted {
			t.Errorf("got %v, want Interrupted", err)
		}
		killByID(strings.TrimSpace(string(pid[:n])))
	}
}

func locks(t *testing.T, serve Make) {
	a := serve(t, Wish{})
	var cutter Cutter
	one, file := a.Dial(t), filepath.Join(t.TempDir(), "new directory", ".lock")
	lock, err := one.Lock(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	if !lock.Guarded {
		t.Error("the lock guards nothing")
	}
	a.Options.DialNet = cutter.DialNet
	two := a.Dial(t)
	if _, err := two.Lock(t.Context(), file); !errors.Is(err, remote.ErrLocked) || drill.KindOf(err) != drill.Refused {
		t.Errorf("got %v, want ErrLocked", err)
	}
	if err := lock.Close(); err != nil {
		t.Error(err)
	}
	if _, err := two.Lock(t.Context(), file); err != nil {
		t.Fatal(err)
	}
	cutter.Cut()
	await(t, "the lock of a cut connection to end", func() bool {
		again, err := one.Lock(t.Context(), file)
		return err == nil && again.Close() == nil
	})
}

func clock(t *testing.T, serve Make) {
	offset, bound, err := serve(t, Wish{}).Dial(t).ClockOffset(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if offset > bound || -offset > bound {
		t.Errorf("the clock of this machine is %s off itself, beyond the bound of %s", offset, bound)
	}
}
