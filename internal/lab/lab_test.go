package lab

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
)

func TestHostsReachEachOtherByName(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{})
	for _, from := range []string{"ci", "blue", "green"} {
		for _, to := range []string{"ci", "blue", "green", "api-blue", "10.77.1.20", "[" + Address6(threeHosts().Hosts[1].Address).String() + "]"} {
			if out, code := run(t, l, from, "firedrill tool connect "+to+":22"); code != 0 {
				t.Errorf("%s does not reach %s: %s", from, to, out)
			}
		}
		if got := mustRun(t, l, from, "hostname"); !strings.Contains(got, from) {
			t.Errorf("host %s calls itself %q", from, got)
		}
	}
}

func TestBareHostsKnowOnlyThemselves(t *testing.T) {
	topology := threeHosts()
	topology.Bare = true
	l := mustUp(t, topology, Options{})
	if out := mustRun(t, l, "blue", "cat /etc/hosts"); strings.Contains(out, "green") || !strings.Contains(out, "api-blue") {
		t.Errorf("hosts file of blue: %s", out)
	}
}

// TestHostsCannotReachTheMachine listens on all addresses of the machine and asks each of them from a host.
func TestHostsCannotReachTheMachine(t *testing.T) {
	listener, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	l := mustUp(t, threeHosts(), Options{})
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addresses {
		ip, _, err := net.ParseCIDR(a.String())
		if err != nil || ip.IsLinkLocalUnicast() {
			continue
		}
		if out, code := run(t, l, "ci", "firedrill tool connect "+net.JoinHostPort(ip.String(), port)); code == 0 {
			t.Errorf("the host reached the machine at %s: %s", ip, out)
		}
	}
	// A default route has the destination 00000000 in the second column.
	if out, code := run(t, l, "ci", `awk '$2 == "00000000"' /proc/net/route`); code != 0 || out != "" {
		t.Errorf("a route leads out of the lab: %s", out)
	}
	if entries := mustRun(t, l, "ci", "ls -A /run /tmp /home"); strings.Contains(entries, "systemd") {
		t.Errorf("the machine's /run shows: %s", entries)
	}
}

func TestHostCannotChangeTheMachine(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{})
	for _, line := range []string{
		"touch /usr/firedrill-was-here", "touch /usr/bin/firedrill-was-here", "mount -o remount,rw,bind /usr && touch /usr/firedrill-was-here",
		"test -w /proc/sys/kernel/core_pattern && echo > /proc/sys/kernel/hostname", "test -f /proc/sysrq-trigger", "test -f /proc/kcore",
		"test -e /dev/vda", "test -e /dev/kmsg", "touch /sys/kernel/firedrill-was-here",
	} {
		if out, code := run(t, l, "blue", line); code == 0 {
			t.Errorf("a host may: %s (%s)", line, out)
		}
	}
	// What would do harm if it worked is not tried: the rights for it must be missing.
	if privileged() {
		text := mustRun(t, l, "blue", "sed -n 's/^Cap\\(Eff\\|Prm\\|Bnd\\):\\s*//p' /proc/self/status")
		for set := range strings.FieldsSeq(text) {
			bits, err := strconv.ParseUint(set, 16, 64)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range forbidden {
				if bits&(1<<c) != 0 {
					t.Errorf("programs of a host have capability %d", c)
				}
			}
		}
		if len(strings.Fields(text)) != 3 {
			t.Errorf("capability sets: %q", text)
		}
	} else if out := mustRun(t, l, "blue", "awk '{print $1, $3}' /proc/self/uid_map"); out != "0 1" {
		t.Errorf("a lab of an ordinary user maps %q, not one user", out)
	}
	if _, err := os.Stat("/usr/firedrill-was-here"); err == nil {
		t.Error("a host wrote into the machine's /usr")
	}
	if out, code := run(t, l, "blue", "rm -f /etc/machine-id && echo mine > /etc/machine-id && cat /etc/machine-id && touch /etc/ssl/mine /etc/mine"); code != 0 || out != "mine" {
		t.Errorf("/etc is not the host's own: %s", out)
	}
	if text, err := os.ReadFile("/etc/machine-id"); err == nil && strings.HasPrefix(string(text), "mine") {
		t.Error("a host wrote into the machine's /etc")
	}
	mustRun(t, l, "blue", "echo 1 > /proc/sys/net/ipv4/ip_forward") // this one is the host's own
}

func TestRebootTakesOnlyItsHost(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{})
	other := mustRun(t, l, "green", "cat /proc/sys/kernel/random/boot_id")
	before := mustRun(t, l, "blue", "cat /proc/sys/kernel/random/boot_id")
	mustRun(t, l, "blue", "echo kept > /home/kept; echo kept > /etc/kept; echo kept > /var/lib/kept; echo gone > /tmp/gone; echo gone > /run/gone")
	_, err := l.Exec(testContext(t), "blue", Cmd{Args: []string{"firedrill", "tool", "reboot"}})
	if drill.KindOf(err) != drill.Unreachable {
		t.Fatalf("the program that rebooted its host ended with: %v", err)
	}
	await(t, "blue boots again", func() bool { h := statusOf(t, l, "blue"); return h.State == HostUp && h.Boots == 2 })
	after := mustRun(t, l, "blue", "cat /proc/sys/kernel/random/boot_id")
	if after == before || after != statusOf(t, l, "blue").BootID {
		t.Errorf("boot id was %s, is %s, status says %s", before, after, statusOf(t, l, "blue").BootID)
	}
	if got := mustRun(t, l, "blue", "cat /home/kept /etc/kept /var/lib/kept; ls /tmp /run"); strings.Count(got, "kept") != 3 || strings.Contains(got, "gone") {
		t.Errorf("after the reboot the host has: %s", got)
	}
	if got := mustRun(t, l, "green", "cat /proc/sys/kernel/random/boot_id"); got != other || statusOf(t, l, "green").Boots != 1 {
		t.Errorf("green was touched: boot id was %s, is %s", other, got)
	}
	mustRun(t, l, "ci", "firedrill tool connect blue:22") // the same address, reachable with the neighbours' old entry
}

func TestPowerOffStaysOffUntilBoot(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{})
	_, err := l.Exec(testContext(t), "blue", Cmd{Args: []string{"firedrill", "tool", "poweroff"}})
	if drill.KindOf(err) != drill.Unreachable {
		t.Fatalf("the program that powered off its host ended with: %v", err)
	}
	await(t, "blue is off", func() bool { return statusOf(t, l, "blue").State == HostOff })
	if err := l.PowerOff(testContext(t), "green"); err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"blue", "green"} {
		if h := statusOf(t, l, host); h.State != HostOff {
			t.Errorf("%s is %s", host, h.State)
		}
		if _, err := l.Exec(testContext(t), host, Cmd{Args: []string{"true"}}); drill.KindOf(err) != drill.Unreachable {
			t.Errorf("exec on %s, which is off: %v", host, err)
		}
		if err := l.Boot(testContext(t), host); err != nil {
			t.Fatal(err)
		}
		mustRun(t, l, "ci", "firedrill tool connect "+host+":22")
	}
}

// TestPowerCutClosesNoConnection watches a connection of ci to blue: after a power cut ci still believes in it. The planted twin is a crash
// without pulling the cable first, which the kernel tells the peer of.
func TestPowerCutClosesNoConnection(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(l *Lab)
		want string
	}{
		{"power cut", func(l *Lab) {
			if err := l.PowerOff(testContext(t), "blue"); err != nil {
				t.Fatal(err)
			}
		}, "01"}, // established
		{"crash", func(l *Lab) {
			_, _ = l.Exec(testContext(t), "blue", Cmd{Args: []string{"firedrill", "tool", "poweroff"}})
			await(t, "blue is off", func() bool { return statusOf(t, l, "blue").State == HostOff })
		}, "08"}, // close wait: the other side has said that it is done
	} {
		t.Run(c.name, func(t *testing.T) {
			l := mustUp(t, threeHosts(), Options{})
			readUntil(t, dialFrom(t, l, "ci", "10.77.1.10:22"), "SSH-2.0")
			state := func() string {
				return mustRun(t, l, "ci", `cat /proc/net/tcp | awk '$3 ~ /:0016$/ {print $4}'`)
			}
			if got := state(); got != "01" {
				t.Fatalf("state %s of the connection before", got)
			}
			mustRun(t, l, "ci", "kill -STOP $(pgrep -f 'tool pip[e]')") // so that it does not answer a close with a close
			c.end(l)
			if got := state(); got != c.want {
				t.Errorf("state %s of the connection after, want %s", got, c.want)
			}
			mustRun(t, l, "ci", "kill -KILL $(pgrep -f 'tool pip[e]')")
		})
	}
}

// TestForbiddenNamespacesAreSaidWithTheCure runs Up where the kernel allows no user namespace: below one of the test's own that has set its
// own limit to none.
func TestForbiddenNamespacesAreSaidWithTheCure(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, "tool", "forbidden")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: ordinaryUID, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: ordinaryUID, HostID: os.Getegid(), Size: 1}},
		AmbientCaps: []uintptr{unix.CAP_SYS_RESOURCE},
	}
	out, err := cmd.CombinedOutput()
	needNamespaces(t, err)
	for _, want := range []string{"unsupported", "make namespaces", "sudo sysctl user.max_user_namespaces=10000", "sudo firedrill"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in: %s", want, out)
		}
	}
}

func TestBootDelayIsDarkAndBootCutsItShort(t *testing.T) {
	topology := threeHosts()
	topology.Hosts[1].BootDelay = 3 * patience
	l := mustUp(t, topology, Options{})
	_, err := l.Exec(testContext(t), "blue", Cmd{Args: []string{"sh", "-c", "systemctl reboot; exec sleep 4712"}})
	if drill.KindOf(err) != drill.Unreachable {
		t.Fatalf("the program on the rebooting host ended with: %v", err)
	}
	await(t, "blue is dark", func() bool { return statusOf(t, l, "blue").State == HostRebooting })
	if err := l.Boot(testContext(t), "blue"); err != nil {
		t.Fatal(err)
	}
	if h := statusOf(t, l, "blue"); h.State != HostUp || h.Boots != 2 {
		t.Errorf("after Boot blue is %s, boots %d", h.State, h.Boots)
	}
}

func statusOf(t *testing.T, l *Lab, name string) HostStatus {
	t.Helper()
	all, err := l.Status(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range all {
		if h.Name == name {
			return h
		}
	}
	t.Fatalf("no host %s in the status", name)
	return HostStatus{}
}

func TestExecPassesCodesAndStreams(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{})
	for _, c := range []struct {
		line string
		want int
	}{{"exit 0", 0}, {"exit 7", 7}, {"kill -9 $$", 137}, {"kill -TERM $$", 143}} {
		if _, code := run(t, l, "blue", c.line); code != c.want {
			t.Errorf("%s: exit code %d, want %d", c.line, code, c.want)
		}
	}
	var out, errOut bytes.Buffer
	code, err := l.Exec(testContext(t), "blue", Cmd{
		Args: []string{"sh", "-c", "cat; echo $GREETING >&2; pwd"}, Env: []string{"GREETING=hello"}, Dir: "/var/log",
		Stdin: strings.NewReader("in\n"), Stdout: &out, Stderr: &errOut,
	})
	if err != nil || code != 0 || out.String() != "in\n/var/log\n" || errOut.String() != "hello\n" {
		t.Errorf("exit code %d, %v, out %q, err %q", code, err, out.String(), errOut.String())
	}
	code, err = l.Exec(testContext(t), "blue", Cmd{Args: []string{"no-such-program"}})
	if code != 127 || drill.KindOf(err) != drill.Invalid {
		t.Errorf("a program that is not there: exit code %d, %v", code, err)
	}
	if _, err = l.Exec(testContext(t), "bleu", Cmd{Args: []string{"true"}}); !strings.Contains(drill.HintOf(err), "blue") {
		t.Errorf("a host that is not there: %v, hint %q", err, drill.HintOf(err))
	}
}

func TestExecHandsOverTheCallersOwnFiles(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{})
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	code, err := l.Exec(testContext(t), "ci", Cmd{Args: []string{"echo", "straight"}, Stdout: w})
	_ = w.Close()
	text, _ := io.ReadAll(r)
	if err != nil || code != 0 || string(text) != "straight\n" {
		t.Errorf("exit code %d, %v, %q", code, err, text)
	}
}

// TestSignalArrivesOnce counts how often a program's trap runs for one Ctrl-C.
func TestSignalArrivesOnce(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{})
	signals := make(chan os.Signal, 1)
	r, w := io.Pipe()
	type result struct {
		code int
		err  error
	}
	ended := make(chan result, 1)
	go func() {
		code, err := l.Exec(testContext(t), "ci", Cmd{
			Args:   []string{"firedrill", "tool", "count-signals"},
			Stdout: w, Signals: signals,
		})
		_ = w.Close()
		ended <- result{code, err}
	}()
	await1 := func(want string) {
		line := make([]byte, 256)
		for {
			n, err := r.Read(line)
			if err != nil {
				t.Errorf("no %q: %v", want, err)
				return
			}
			if strings.Contains(string(line[:n]), want) {
				return
			}
		}
	}
	await1("ready")
	signals <- syscall.SIGINT
	await1("interrupted 1")
	signals <- syscall.SIGTERM
	go func() { _, _ = io.Copy(io.Discard, r) }()
	if got := <-ended; got.err != nil || got.code != 1 {
		t.Errorf("the trap ran %d times, want once (%v)", got.code, got.err)
	}
}

func TestCancelKillsTheProgramAndItsGroup(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{})
	ctx, cancel := context.WithCancel(testContext(t))
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		_, err := l.Exec(ctx, "ci", Cmd{Args: []string{"sh", "-c", "sleep 4711 & echo ready; wait"}, Stdout: w})
		ended <- err
	}()
	if _, err := r.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; drill.KindOf(err) != drill.Interrupted {
		t.Errorf("a cancelled exec ended with %v", err)
	}
	await(t, "nothing of the program is left", func() bool {
		_, code := run(t, l, "ci", "pgrep -f '[s]leep 4711'")
		return code != 0
	})
}

func TestTerminalOfAHost(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{})
	var out bytes.Buffer
	code, err := l.Exec(testContext(t), "ci", Cmd{Args: []string{"sh", "-c", "tty; stty size; exit 3"}, TTY: true, Rows: 33, Columns: 77, Stdout: &out})
	if err != nil || code != 3 || !strings.Contains(out.String(), "/dev/pts/") || !strings.Contains(out.String(), "33 77") {
		t.Errorf("exit code %d, %v: %q", code, err, out.String())
	}
}

func TestFilesGoThereAndBack(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{})
	want := bytes.Repeat([]byte("firedrill\n"), 100_000)
	if err := l.WriteFile(testContext(t), "blue", "/srv/new/dir/file", want, 0o640); err != nil {
		t.Fatal(err)
	}
	got, err := l.ReadFile(testContext(t), "blue", "/srv/new/dir/file")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, wrote %d (%v)", len(got), len(want), err)
	}
	if mode := mustRun(t, l, "blue", "stat -c %a /srv/new/dir/file"); mode != "640" {
		t.Errorf("mode %s", mode)
	}
	if _, err := l.ReadFile(testContext(t), "blue", "/srv/none"); drill.KindOf(err) != drill.Invalid {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestDownIsTheEnd(t *testing.T) {
	l := mustUp(t, threeHosts(), Options{})
	for range 2 {
		if err := l.Down(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	<-l.Done()
	if _, err := l.Exec(testContext(t), "ci", Cmd{Args: []string{"true"}}); drill.KindOf(err) != drill.Unreachable {
		t.Errorf("exec in a lab that has ended: %v", err)
	}
	var known *drill.Error
	if err := l.Boot(testContext(t), "ci"); !errors.As(err, &known) {
		t.Errorf("boot in a lab that has ended: %v", err)
	}
}
