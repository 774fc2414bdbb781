package remotetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
)

func noSFTP(t *testing.T, serve Make) {
	with := serve(t, Wish{}).Dial(t)
	files, err := with.SFTP(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := files.Getwd(); err != nil {
		t.Error(err)
	}
	if err := files.Close(); err != nil {
		t.Error(err)
	}
	without := serve(t, Wish{NoSFTP: true}).Dial(t)
	if _, err := without.SFTP(t.Context()); !errors.Is(err, remote.ErrNoSFTP) || drill.KindOf(err) != drill.Unsupported {
		t.Errorf("got %v, want ErrNoSFTP", err)
	}
	if out, err := echo(t, without, "pushed"); err != nil || out != "pushed" {
		t.Errorf("push without SFTP: %q, %v", out, err)
	}
}

func echo(t *testing.T, client *remote.Client, text string) (string, error) {
	t.Helper()
	pushed, err := client.Push(t.Context(), remote.PushOptions{})
	if err != nil {
		return "", err
	}
	defer pushed.Close()
	var out bytes.Buffer
	process, err := pushed.Start(t.Context(), remote.Invocation{Args: []string{programArg, "echo", text}, Stdout: &out, Stderr: &out})
	if err != nil {
		return "", err
	}
	_, err = process.Wait()
	return out.String(), err
}

// traces lists what a push could have left in the directory that it goes to first, which is the test's own: other tests push to the others.
func traces(t *testing.T, runtime string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(runtime, ".firedrill-*"))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// goesTo makes sure that a push would be seen there.
func goesTo(t *testing.T, client *remote.Client, runtime string) {
	t.Helper()
	if out, err := client.Output(t.Context(), `echo "$XDG_RUNTIME_DIR"; mkdir "$XDG_RUNTIME_DIR/.firedrill-planted"`); err != nil || strings.TrimSpace(out) != runtime {
		t.Fatalf("commands have %q for their directory, %v; want %s", out, err, runtime)
	}
	if left := traces(t, runtime); len(left) != 1 {
		t.Fatal("planted: a directory that is left is not seen")
	}
	if err := os.Remove(filepath.Join(runtime, ".firedrill-planted")); err != nil {
		t.Fatal(err)
	}
}

func pushLeavesNothing(t *testing.T, serve Make) {
	runtime := t.TempDir()
	client := serve(t, Wish{Runtime: runtime}).Dial(t)
	goesTo(t, client, runtime)
	pushed, err := client.Push(t.Context(), remote.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if left := traces(t, runtime); len(left) > 0 {
		t.Errorf("while it is held, %q are there", left)
	}
	var pids []string
	for range 2 { // one push serves several starts
		reader, writer := io.Pipe()
		process, err := pushed.Start(t.Context(), remote.Invocation{Args: []string{programArg, "serve"}, Stdout: writer, Grace: 300 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 256)
		n, err := reader.Read(line)
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(line[:n]))
		pids = append(pids, fields[0])
		if exe, err := os.Readlink("/proc/" + fields[0] + "/exe"); err != nil || !strings.HasSuffix(exe, "(deleted)") {
			t.Errorf("the process runs %q, %v: not unlinked", exe, err)
		}
		if len(fields) != 5 {
			t.Errorf("SSH_CONNECTION is %q, want four fields", fields[1:])
		}
		go func() { _, _ = io.Copy(io.Discard, reader) }()
		t.Cleanup(func() { _ = writer.Close() })
		defer func() {
			if err := process.Kill(t.Context(), 0); err != nil {
				t.Error(err)
			}
			if Lives(fields[0]) {
				t.Errorf("process %s is still there", fields[0])
			}
		}()
	}
	if err := pushed.Close(); err != nil {
		t.Error(err)
	}
	for _, pid := range pids {
		if !Lives(pid) {
			t.Errorf("process %s ended with the holder", pid)
		}
	}
	if left := traces(t, runtime); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

func pushOfTheSame(t *testing.T, serve Make) {
	runtime := t.TempDir()
	a := serve(t, Wish{Runtime: runtime})
	client := a.Dial(t)
	held := func(path string) *remote.Pushed {
		t.Helper()
		pushed, err := client.Push(t.Context(), remote.PushOptions{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		return pushed
	}
	runs := func(pushed *remote.Pushed, text string) {
		t.Helper()
		var out bytes.Buffer
		process, err := pushed.Start(t.Context(), remote.Invocation{Args: []string{programArg, "echo", text}, Stdout: &out, Stderr: &out})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := process.Wait(); err != nil || out.String() != text {
			t.Errorf("got %q, %v", out.String(), err)
		}
	}
	mine := changed(t, "mine") // unlike what other tests may hold on this machine
	one := held(mine)
	if !one.Travelled() {
		t.Fatal("the first push found its bytes there")
	}
	two := held(mine)
	if two.Travelled() {
		t.Error("the same bytes travelled again")
	}
	if err := one.Close(); err != nil {
		t.Error(err)
	}
	runs(two, "on its own") // it does not live by the first
	// The planted twin is as long as the one that is held, and differs in its last bytes.
	twin := held(changed(t, "twin"))
	if !twin.Travelled() {
		t.Error("planted: other bytes of the same length pass for the same")
	}
	runs(twin, "the twin")
	if err := errors.Join(two.Close(), twin.Close()); err != nil {
		t.Error(err)
	}
	if left := traces(t, runtime); len(left) > 0 {
		t.Errorf("%q are left", left)
	}
}

// changed makes a copy of the running program that ends in other bytes, which say nothing to it.
func changed(t *testing.T, mark string) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "program")
	write(t, name, append(append(text, rand.Text()...), mark...), 0o700)
	return name
}

func slowWay(t *testing.T, serve Make) {
	a := serve(t, Wish{})
	var cutter Cutter // for its count of the bytes
	a.Options.DialNet = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := cutter.DialNet(ctx, network, address)
		return &slowConn{Conn: conn}, err
	}
	client := a.Dial(t)
	path := changed(t, "slow")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	cutter.CutAfter()
	pushed, err := client.Push(t.Context(), remote.PushOptions{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if spent := cutter.Spent(); spent > info.Size()*3/4 {
		t.Errorf("%d bytes travelled for a program of %d: not compressed", spent, info.Size())
	}
	var out bytes.Buffer
	process, err := pushed.Start(t.Context(), remote.Invocation{Args: []string{programArg, "echo", "whole"}, Stdout: &out, Stderr: &out})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := process.Wait(); err != nil || out.String() != "whole" {
		t.Errorf("got %q, %v", out.String(), err)
	}
	if err := pushed.Close(); err != nil {
		t.Error(err)
	}
}

// slowConn lets few bytes pass in a second at first.
type slowConn struct {
	net.Conn
	waited int
}

// Write is slow for the first writes only: that is all that is measured.
func (c *slowConn) Write(p []byte) (int, error) {
	if c.waited < 30 && len(p) > 1024 {
		c.waited++
		<-time.After(20 * time.Millisecond)
	}
	return c.Conn.Write(p)
}

func cutPush(t *testing.T, serve Make) {
	runtime := t.TempDir()
	a := serve(t, Wish{Runtime: runtime})
	var cutter Cutter
	a.Options.DialNet = cutter.DialNet
	random := mathrand.New(mathrand.NewPCG(mathrand.Uint64(), 0))
	for range 5 {
		client := a.Dial(t)
		cutter.CutAfter(random.Int64N(2 << 20))
		if _, err := client.Push(t.Context(), remote.PushOptions{}); drill.KindOf(err) != drill.Unreachable {
			t.Errorf("got %v, want Unreachable", err)
		}
		cutter.CutAfter()
	}
	await(t, "the directories of cut pushes to go", func() bool { return len(traces(t, runtime)) == 0 })
}

func pushedProcess(t *testing.T, serve Make) {
	client := serve(t, Wish{}).Dial(t)
	pushed, err := client.Push(t.Context(), remote.PushOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer pushed.Close()
	var out bytes.Buffer
	process, err := pushed.Start(t.Context(), remote.Invocation{
		Args: []string{programArg, "cat"}, Env: []string{"PREFIX=> "}, Stdin: strings.NewReader("one "), Stdout: &out,
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(process, "two"); err != nil {
		t.Error(err)
	}
	if err := errors.Join(process.CloseStdin(), process.CloseStdin()); err != nil {
		t.Error(err)
	}
	if exit, err := process.Wait(); err != nil || exit.Code != 0 || !strings.HasPrefix(out.String(), "> ") || len(out.String()) != len("> one two") {
		t.Errorf("got %+v, %v, %q", exit, err, out.String())
	}
	reader, writer := io.Pipe()
	process, err = pushed.Start(t.Context(), remote.Invocation{Args: []string{programArg, "serve"}, Stdout: writer})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.Read(make([]byte, 256)); err != nil { // it runs
		t.Fatal(err)
	}
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	if err := process.Signal(t.Context(), "TERM"); err != nil {
		t.Error(err)
	}
	if exit, err := process.Wait(); err != nil || exit.Code == 0 {
		t.Errorf("after SIGTERM: %+v, %v", exit, err)
	}
	_ = writer.Close()

	if _, err := client.Push(t.Context(), remote.PushOptions{Path: foreign(t)}); drill.KindOf(err) != drill.Unsupported || drill.HintOf(err) == "" {
		t.Errorf("a binary of another machine: got %v, want Unsupported", err)
	}
}

// foreign makes a copy of the running program that claims to be for another machine.
func foreign(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	text[18], text[19] = 22, 0 // e_machine: s390
	name := filepath.Join(t.TempDir(), "foreign")
	write(t, name, text, 0o700)
	return name
}
