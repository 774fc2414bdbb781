package remotetest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
)

// asSudoer is a host where the user goes through Debian's sudo, with the password in a file when there is one to give.
func asSudoer(t *testing.T, wish Sudo, password string) Account {
	t.Helper()
	a := OpenSSH(t, Wish{Sudo: &wish})
	if password != "" {
		file := filepath.Join(a.Dir, "password")
		write(t, file, []byte(password+"\n"), 0o600)
		a.Options.SudoPassword = remote.Secret{File: file}
	}
	return a
}

func TestSudoGetsItsPasswordAndTheCommandItsStreams(t *testing.T) {
	for name, one := range map[string]struct {
		sudo     Sudo
		password string
		pty      bool
	}{
		"password":                 {Sudo{}, Password, false},
		"password on a terminal":   {Sudo{}, Password, true},
		"password in a pty of its": {Sudo{Defaults: []string{"use_pty"}}, Password, false},
		"requiretty":               {Sudo{Defaults: []string{"requiretty", "use_pty"}}, Password, true},
		"requiretty, no password":  {Sudo{Defaults: []string{"requiretty"}, NoPassword: true}, "", true},
		"no password":              {Sudo{NoPassword: true}, "", false},
		"a password too many":      {Sudo{NoPassword: true}, Password, false}, // the command must not get it
		"lecture":                  {Sudo{Defaults: []string{"lecture=always"}}, Password, false},
		"sudo that stays":          {Sudo{Defaults: []string{"requiretty", "use_pty"}, Waits: true}, Password, true},
	} {
		t.Run(name, func(t *testing.T) {
			client := asSudoer(t, one.sudo, one.password).Dial(t)
			for range 2 { // the second time sudo may remember
				var out, errOut bytes.Buffer
				exit, err := client.Run(t.Context(), remote.Command{
					Line: `id -u; echo "$A"; read -r line; echo "got $line"; read -r line || echo end; [ -t 0 ] && echo terminal; echo err >&2; exit 3`,
					Env:  []string{"A=of the environment"}, Stdin: strings.NewReader("input\n"), Stdout: &out, Stderr: &errOut, Become: "sudo", PTY: one.pty,
				})
				want, wantErr := "0\nof the environment\ngot input\nend\n", "err\n"
				if one.pty {
					want, wantErr = want+"terminal\nerr\n", ""
				}
				if err != nil || exit.Code != 3 || out.String() != want || errOut.String() != wantErr {
					t.Errorf("%+v, %v, %q and %q; want code 3, %q and %q", exit, err, out.String(), errOut.String(), want, wantErr)
				}
			}
		})
	}
}

// TestSudoEndsWithACommandThatEndsAtOnce is of Debian's sudo as it is: with a terminal of its own it hung in 13 of 800 such commands.
func TestSudoEndsWithACommandThatEndsAtOnce(t *testing.T) {
	client := asSudoer(t, Sudo{Defaults: []string{"requiretty", "use_pty"}}, Password).Dial(t)
	for range 50 {
		if exit, err := client.Run(t.Context(), remote.Command{Line: "exit 7", Become: "sudo", PTY: true}); err != nil || exit.Code != 7 {
			t.Fatalf("%+v, %v, want code 7", exit, err)
		}
	}
}

func TestSudoThatRefusesSaysWhyAndWhatHelps(t *testing.T) {
	for name, one := range map[string]struct {
		sudo           Sudo
		password, says string
	}{
		"no password given": {Sudo{}, "", remote.SudoVariable + "_FILE"},
		"wrong password":    {Sudo{}, "close sesame", "does not accept the password"},
		"not a sudoer":      {Sudo{Denied: true}, Password, "NOPASSWD: ALL"},
		"requiretty":        {Sudo{Defaults: []string{"requiretty"}}, Password, "!requiretty"},
	} {
		t.Run(name, func(t *testing.T) {
			client := asSudoer(t, one.sudo, one.password).Dial(t)
			_, err := client.Run(t.Context(), remote.Command{Line: "id", Become: "sudo"})
			if drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error()+" "+drill.HintOf(err), one.says) {
				t.Errorf("got %s: %v (%s); want refused, saying %q", drill.KindOf(err), err, drill.HintOf(err), one.says)
			}
			if one.password != "" && strings.Contains(err.Error()+drill.HintOf(err), one.password) {
				t.Errorf("the error tells the password: %v", err)
			}
		})
	}
}

func TestThePasswordIsInNoProcessListAndNoOutput(t *testing.T) {
	for _, pty := range []bool{false, true} {
		client := asSudoer(t, Sudo{}, Password).Dial(t)
		var out bytes.Buffer
		line := `for f in /proc/[0-9]*/cmdline /proc/[0-9]*/environ; do tr '\0' '\n' <$f; done 2>/dev/null | grep -c "open[ ]barley"; echo searched`
		if _, err := client.Run(t.Context(), remote.Command{Line: line, Become: "sudo", PTY: pty, Stdout: &out, Stderr: &out}); err != nil {
			t.Fatal(err)
		}
		if out.String() != "0\nsearched\n" {
			t.Errorf("terminal %v: %q: the password shows on the host or in the output", pty, out.String())
		}
	}
}

func TestASecretThatOthersMayReadIsRefused(t *testing.T) {
	a := asSudoer(t, Sudo{}, Password)
	file := a.Options.SudoPassword.File
	write(t, file+"2", []byte(Password), 0o644)
	a.Options.SudoPassword = remote.Secret{File: file + "2"}
	if _, err := a.Dial(t).Run(t.Context(), remote.Command{Line: "id", Become: "sudo"}); drill.KindOf(err) != drill.Invalid || !strings.Contains(drill.HintOf(err), "chmod 600") {
		t.Errorf("got %v (%s), want Invalid with chmod", err, drill.HintOf(err))
	}
}

func TestTheEndOfTheContextKillsWhatSudoStarted(t *testing.T) {
	for name, one := range map[string]struct {
		sudo     Sudo
		password string
		pty      bool
	}{
		"password":             {Sudo{}, Password, false},
		"pty of sudo's own":    {Sudo{Defaults: []string{"use_pty"}}, Password, false},
		"on a terminal":        {Sudo{Defaults: []string{"use_pty", "requiretty"}}, Password, true},
		"no password, no wait": {Sudo{NoPassword: true}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			client := asSudoer(t, one.sudo, one.password).Dial(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			reader, writer := io.Pipe()
			var work sync.WaitGroup
			work.Go(func() {
				_, err := client.Run(ctx, remote.Command{Line: family, Stdout: writer, Become: "sudo", PTY: one.pty, Grace: 300 * time.Millisecond})
				_ = writer.Close()
				if drill.KindOf(err) != drill.Interrupted || errors.Is(err, remote.ErrAlive) {
					t.Errorf("got %v, want Interrupted and nobody alive", err)
				}
			})
			pids := readIDs(t, reader)
			work.Go(func() { _, _ = io.Copy(io.Discard, reader) })
			cancel()
			work.Wait()
			if len(pids) != 3 {
				t.Fatalf("the command told of %q", pids)
			}
			for _, pid := range pids {
				if Lives(pid) {
					t.Errorf("process %s is still there", pid)
					killByID(pid)
				}
			}
		})
	}
}

func TestPushedProgramRunsBehindSudo(t *testing.T) {
	for name, one := range map[string]struct {
		sudo     Sudo
		password string
	}{
		"password":               {Sudo{Defaults: []string{"use_pty"}}, Password},
		"requiretty":             {Sudo{Defaults: []string{"use_pty", "requiretty"}}, Password},
		"requiretty, no use_pty": {Sudo{Defaults: []string{"requiretty"}}, Password},
		"no password":            {Sudo{NoPassword: true}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			client := asSudoer(t, one.sudo, one.password).Dial(t)
			pushed, err := client.Push(t.Context(), remote.PushOptions{Become: "sudo"})
			if err != nil {
				t.Fatal(err)
			}
			defer pushed.Close()
			var out bytes.Buffer
			process, err := pushed.Start(t.Context(), remote.Invocation{
				Args: []string{programArg, "cat"}, Env: []string{"PREFIX=> "}, Stdin: strings.NewReader("one\n"), Stdout: &out, Become: "sudo",
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(process, "two\n"); err != nil {
				t.Error(err)
			}
			if err := process.CloseStdin(); err != nil {
				t.Error(err)
			}
			if exit, err := process.Wait(); err != nil || exit.Code != 0 || out.String() != "> one\ntwo\n" {
				t.Errorf("got %+v, %v, %q", exit, err, out.String())
			}
			reader, writer := io.Pipe()
			process, err = pushed.Start(t.Context(), remote.Invocation{Args: []string{programArg, "serve"}, Stdout: writer, Become: "sudo"})
			if err != nil {
				t.Fatal(err)
			}
			line := make([]byte, 256)
			n, err := reader.Read(line)
			if err != nil {
				t.Fatal(err)
			}
			fields := strings.Fields(string(line[:n]))
			if len(fields) != 5 {
				t.Errorf("the program says %q: no process id with the four fields of SSH_CONNECTION", line[:n])
			}
			go func() { _, _ = io.Copy(io.Discard, reader) }()
			if err := process.Signal(t.Context(), "TERM"); err != nil {
				t.Error(err)
			}
			if _, err := process.Wait(); err != nil {
				t.Error(err)
			}
			_ = writer.Close()
			if Lives(fields[0]) {
				t.Errorf("process %s is still there", fields[0])
			}
			hasItsLastWord(t, pushed)
		})
	}
}

// hasItsLastWord asks a program behind sudo to end, and holds that nobody between us and it ends before it.
func hasItsLastWord(t *testing.T, pushed *remote.Pushed) {
	t.Helper()
	reader, writer := io.Pipe()
	process, err := pushed.Start(t.Context(), remote.Invocation{Args: []string{programArg, "revert"}, Stdout: writer, Become: "sudo"})
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(reader)
	lines.Scan()
	if err := process.Signal(t.Context(), "TERM"); err != nil {
		t.Error(err)
	}
	said := make(chan string, 1)
	go func() {
		lines.Scan()
		said <- lines.Text()
		_, _ = io.Copy(io.Discard, reader)
	}()
	exit, err := process.Wait()
	_ = writer.Close()
	if got := <-said; err != nil || exit.Code != 5 || got != "reverted" {
		t.Errorf("%+v, %v, last word %q; want code 5 and its last word", exit, err, got)
	}
}

func TestWhatCannotBeKilledIsNamed(t *testing.T) {
	// The planted command goes past us: it brings its own sudo, so nothing of ours has the right to end what it started.
	client := asSudoer(t, Sudo{}, "").Dial(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	reader, writer := io.Pipe()
	var work sync.WaitGroup
	work.Go(func() {
		line := "echo '" + Password + "' | sudo -S -p '' -- /bin/sh -c " + remote.Quote(family)
		_, err := client.Run(ctx, remote.Command{Line: line, Stdout: writer, Grace: 100 * time.Millisecond})
		_ = writer.Close()
		if !errors.Is(err, remote.ErrAlive) {
			t.Errorf("got %v, want the processes that are left", err)
		}
	})
	pids := readIDs(t, reader)
	work.Go(func() { _, _ = io.Copy(io.Discard, reader) })
	cancel()
	work.Wait()
	for _, pid := range pids {
		if !Lives(pid) {
			t.Errorf("process %s is gone: the test proves nothing", pid)
		}
		killByID(pid)
	}
}
