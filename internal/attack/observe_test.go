package attack

import (
	"context"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/drill"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestControlIsFoundThroughSudoAndSSHD(t *testing.T) {
	proc := t.TempDir()
	// sudo (30) dropped the variable; the shell (20) has it; above them an sshd (10) with its connection over IPv6.
	write(t, proc+"/30/stat", "30 (sudo (x) S 1) S 20 30 30 0\n")
	write(t, proc+"/30/environ", "HOME=/root\x00")
	write(t, proc+"/20/stat", "20 (bash) S 10 20 20 0\n")
	write(t, proc+"/20/environ", "A=b\x00SSH_CONNECTION=203.0.113.5 50000 192.0.2.10 22\x00")
	write(t, proc+"/10/stat", "10 (sshd-session) S 1 10 10 0\n")
	write(t, proc+"/10/net/tcp", "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"+
		"   0: 0A0200C0:0016 057100CB:C351 01 00000000:00000000 00:00000000 00000000     0        0 777 1\n"+
		"   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 778 1\n")
	if err := os.MkdirAll(proc+"/10/fd", 0o755); err != nil {
		t.Fatal(err)
	}
	for name, link := range map[string]string{"3": "socket:[777]", "4": "socket:[778]", "5": "/dev/null"} {
		if err := os.Symlink(link, filepath.Join(proc, "10", "fd", name)); err != nil {
			t.Fatal(err)
		}
	}
	pair := netip.MustParseAddrPort
	want := []Connection{
		{Local: pair("192.0.2.10:22"), Remote: pair("203.0.113.5:50000")},
		{Local: pair("192.0.2.10:22"), Remote: pair("203.0.113.5:50001")},
	}
	got := controlConnections(proc, 30, []string{"PATH=/bin"})
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestConnectionsInBrokenProcAreNotFound(t *testing.T) {
	for _, env := range []string{"", "SSH_CONNECTION=", "SSH_CONNECTION=a b c d", "SSH_CONNECTION=1.2.3.4 99999 1.2.3.4 22", "SSH_CONNECTION=1.2.3.4 1 1.2.3.4"} {
		if got, ok := connectionOfEnv([]string{env}); ok {
			t.Errorf("%q is %v", env, got)
		}
	}
	for _, line := range []string{"", "0: x y 01 0 0 0 0 0 5", "0: 0A0200C0 057100CB:C351 01 0 0 0 0 0 5", "0: ZZ0200C0:0016 057100CB:C351 01 0 0 0 0 0 5"} {
		if c, _, ok := parseTCPLine(line); ok {
			t.Errorf("%q is %v", line, c)
		}
	}
}

func TestHostsFileWinsAndIsReadLikeEveryoneDoes(t *testing.T) {
	hosts := filepath.Join(t.TempDir(), "hosts")
	write(t, hosts, "# comment\n192.0.2.1 db Db.Example.Test # the primary\n192.0.2.2\tcdn\n::1 db\nbroken db\n")
	found, err := Resolver{Hosts: hosts, Conf: "/nonexistent"}.Lookup(context.Background(), "db.example.test")
	if err != nil || len(found.Addresses) != 1 || found.Addresses[0].String() != "192.0.2.1" {
		t.Errorf("db.example.test is %v, %v", found, err)
	}
	if found, err = (Resolver{Hosts: hosts}).Lookup(context.Background(), "DB"); err != nil || len(found.Addresses) != 2 {
		t.Errorf("DB is %v, %v: want both families", found, err)
	}
}

func TestResolvePaceIsBounded(t *testing.T) {
	for ttl, want := range map[time.Duration]time.Duration{0: ResolveFloor, -1: ResolveFloor, time.Second: 250 * time.Millisecond, 3 * time.Second: 750 * time.Millisecond,
		30 * time.Second: 7500 * time.Millisecond, time.Minute: ResolveCap, time.Hour: ResolveCap} {
		if got := ResolveEvery(ttl); got != want {
			t.Errorf("TTL %s: %s, want %s", ttl, got, want)
		}
	}
}

func TestLengthIsCheckedAndUnknownFlagsAreRefused(t *testing.T) {
	for text, want := range map[string]time.Duration{"240": 240 * time.Second, "1m30s": 90 * time.Second, "1": time.Second} {
		if got, err := (Values{"length": {text}}).Length(); err != nil || got != want {
			t.Errorf("%q is %v (%v), want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"0", "-5", "500ms", "forever", "25h"} {
		if got, err := (Values{"length": {text}}).Length(); err == nil {
			t.Errorf("%q is %v, want an error", text, got)
		}
	}
	if got, err := (Values{}).Length(); err != nil || got != LengthDefault {
		t.Errorf("the default is %v, %v", got, err)
	}
}

// stuckReader is a consumer that never takes anything.
func TestBlockedReaderHoldsNothingUp(t *testing.T) {
	reader, writer := io.Pipe()
	box := newOutbox()
	delivered := 0
	box.put(func() { _, _ = writer.Write([]byte("x")) }) // blocks until someone reads
	for range 1000 {
		box.put(func() { delivered++ })
	}
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	box.close()
	if delivered != 1000 {
		t.Errorf("%d of 1000 were delivered", delivered)
	}
	_ = writer.Close()
}

func TestLifelineIgnoresAnInputThatWasNeverOne(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = null.Close() })
	ended, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ended.Close() })
	_ = writer.Close()
	for _, in := range []*os.File{nil, null, ended} {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- WatchLifeline(ctx, in, nil) }()
		select {
		case err := <-done:
			t.Errorf("%v ended it: %v", in, err)
		case <-time.After(300 * time.Millisecond):
		}
		cancel()
		if err := <-done; in != nil && err != nil {
			t.Error(err)
		}
	}
}

func TestListFileIsReadAndItsAbsenceSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "list")
	write(t, path, "192.0.2.1\n\n# none\n ^192.0.2.2 \n")
	kind := LengthFlag()
	described := describedWith("ipaddress", kind)
	got, err := Values{"ipaddress": {"@" + path, "192.0.2.3"}}.Load(described)
	if want := []string{"192.0.2.1", "^192.0.2.2", "192.0.2.3"}; err != nil || !slices.Equal(got["ipaddress"], want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if _, err := (Values{"ipaddress": {"@/nonexistent"}}).Load(described); err == nil || !strings.Contains(err.Error(), "/nonexistent") {
		t.Errorf("a missing file: %v", err)
	}
}

func describedWith(list string, others ...drill.AttackFlag) drill.AttackKind {
	return drill.AttackKind{Name: "test", Flags: append(others, drill.AttackFlag{Name: list, Type: TypeList})}
}
