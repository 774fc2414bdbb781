package shutdown

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/drill"
)

// log is what the stand-ins were asked, in order.
type log struct {
	mu   sync.Mutex // guards said
	said []string
}

func (l *log) add(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.said = append(l.said, text)
}

func (l *log) is(want ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Equal(l.said, want) {
		return fmt.Errorf("asked %q, want %q", l.said, want)
	}
	return nil
}

// logind stands in for the real one, on a bus of its own.
type logind struct {
	asked  *log
	refuse bool
}

func (l logind) order(text string, interactive bool) *dbus.Error {
	l.asked.add(fmt.Sprintf("logind %s %t", text, interactive))
	if l.refuse {
		return dbus.NewError("org.freedesktop.DBus.Error.InteractiveAuthorizationRequired", []any{"no"})
	}
	return nil
}

// PowerOff is called over the bus.
func (l logind) PowerOff(interactive bool) *dbus.Error { return l.order("PowerOff", interactive) }

// Reboot is called over the bus.
func (l logind) Reboot(interactive bool) *dbus.Error { return l.order("Reboot", interactive) }

// bus starts a bus of its own with a logind on it and returns its address.
func bus(t *testing.T, l logind) string {
	t.Helper()
	program, err := exec.LookPath("dbus-daemon")
	if err != nil {
		at.Require(t)
		t.Fatalf("install the package dbus-daemon (dbus on older systems): %v", err)
	}
	directory := t.TempDir()
	config := filepath.Join(directory, "bus.conf")
	text := `<busconfig><type>session</type><listen>unix:path=` + directory + `/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	daemon := exec.Command(program, "--config-file="+config, "--nofork", "--nopidfile", "--print-address")
	said, err := daemon.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := daemon.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = daemon.Process.Kill(); _ = daemon.Wait() })
	address, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	address = strings.TrimSpace(address)
	conn, err := dbus.Connect(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.Export(l, logindPath, logindName+".Manager"); err != nil {
		t.Fatal(err)
	}
	if reply, err := conn.RequestName(logindName, dbus.NameFlagDoNotQueue); err != nil || reply != dbus.RequestNameReplyPrimaryOwner {
		t.Fatalf("own the name: %v, %v", reply, err)
	}
	return address
}

// stub is a command that tells what it was asked in a file, and then does as told.
func stub(t *testing.T, code int) (c command, asked func() string) {
	t.Helper()
	directory := t.TempDir()
	path, file := filepath.Join(directory, "program"), filepath.Join(directory, "asked")
	if err := os.WriteFile(path, []byte(fmt.Sprintf("#!/bin/sh\necho \"$*\" > %s\nexit %d\n", file, code)), 0o700); err != nil {
		t.Fatal(err)
	}
	return command{path, systemctl.powerOff, systemctl.restart}, func() string {
		text, _ := os.ReadFile(file) // not asked yet
		return strings.TrimSpace(string(text))
	}
}

// goDown gives the order by these ways.
func goDown(restart bool, ways ...way) error {
	plan, err := Order{Reboot: restart, ways: ways}.Plan(attack.Facts{GUID: at.GUID, Systemd: true})
	if err != nil {
		return err
	}
	return plan.Steps[0].Apply(context.Background(), time.Time{})
}

func TestLogindIsAskedFirst(t *testing.T) {
	for restart, want := range map[bool]string{true: "logind Reboot false", false: "logind PowerOff false"} {
		asked := &log{}
		ctl, asks := stub(t, 0)
		err := goDown(restart, byLogind(bus(t, logind{asked: asked})), byCommand(ctl))
		if err := errors.Join(err, asked.is(want)); err != nil || asks() != "" {
			t.Errorf("restart %t: %v; systemctl was asked %q", restart, err, asks())
		}
		// The planted bug: the other verb.
		if asked.is(map[bool]string{false: "logind Reboot false", true: "logind PowerOff false"}[restart]) == nil {
			t.Error("the check does not tell a restart from a power off")
		}
	}
}

func TestEachWayIsTriedWhenTheOneBeforeIsRefused(t *testing.T) {
	kernel := &log{}
	byTheKernel := func(_ context.Context, restart bool) error {
		kernel.add(fmt.Sprintf("kernel %t", restart))
		return nil
	}
	asked := &log{}
	refusing := byLogind(bus(t, logind{asked: asked, refuse: true}))
	nowhere := byLogind("unix:path=" + filepath.Join(t.TempDir(), "nothing"))
	good, goodAsked := stub(t, 0)
	bad, badAsked := stub(t, 1)
	if err := errors.Join(goDown(true, refusing, byCommand(good), byTheKernel), asked.is("logind Reboot false"), kernel.is()); err != nil || goodAsked() != "--no-wall reboot" {
		t.Errorf("logind refuses: %v; systemctl was asked %q", err, goodAsked())
	}
	if err := errors.Join(goDown(false, nowhere, byCommand(bad), byCommand(good), byTheKernel), kernel.is()); err != nil || badAsked() != "--no-wall poweroff" || goodAsked() != "--no-wall poweroff" {
		t.Errorf("no bus, and systemctl fails: %v; they were asked %q and %q", err, badAsked(), goodAsked())
	}
	if err := errors.Join(goDown(true, nowhere, byCommand(bad), byTheKernel), kernel.is("kernel true")); err != nil {
		t.Error(err)
	}
	// None is left: nothing has happened, and the error names all.
	err := goDown(true, refusing, byCommand(bad))
	if drill.KindOf(err) != drill.Failed || !strings.Contains(err.Error(), "logind Reboot") || !strings.Contains(err.Error(), "--no-wall reboot") {
		t.Errorf("all refuse: %v", err)
	}
}

// A host out of namespaces can see the sockets of its machine.
func TestOnlyTheKernelIsAskedWhereSystemdIsNotTheInit(t *testing.T) {
	if ways := waysHere(false); len(ways) != 1 {
		t.Errorf("%d ways, want the kernel alone", len(ways))
	}
	if ways := waysHere(true); len(ways) != 4 {
		t.Errorf("%d ways, want logind, systemctl, shutdown and the kernel", len(ways))
	}
}
