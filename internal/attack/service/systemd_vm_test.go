//go:build vm

package service

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/tether"
)

// real is a host whose init is the real systemd.
type real struct{ pid string }

// newReal starts one and waits until it is up. It ends with the test.
func newReal(t *testing.T) real {
	t.Helper()
	at.Require(t)
	unified := "/sys/fs/cgroup"
	if _, err := os.Stat(unified + "/unified/cgroup.procs"); err == nil {
		unified += "/unified"
	}
	group, err := os.MkdirTemp(unified, "firedrill-systemd-")
	if err != nil {
		t.Fatal(err)
	}
	directory, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer directory.Close()
	script, err := filepath.Abs("testdata/systemd-host.sh")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	init := exec.Command(script, t.TempDir(), self)
	var said bytes.Buffer
	init.Stdout, init.Stderr = &said, &said
	// The cgroup namespace is rooted in the group that the process is put into.
	init.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(directory.Fd()), Pdeathsig: syscall.SIGKILL,
		Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWCGROUP}
	wait, err := tether.Start(init)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = init.Process.Kill()
		_ = wait()
		removeGroups(group)
	})
	r := real{pid: strconv.Itoa(init.Process.Pid)}
	if err := at.Await(func() error {
		_, err := r.run("systemctl", "is-system-running")
		return err
	}); err != nil {
		t.Fatalf("%v: %s", err, said.String())
	}
	return r
}

// removeGroups removes a group and those below it, which are empty when their init is dead.
func removeGroups(group string) {
	below, _ := filepath.Glob(group + "/*/cgroup.procs")
	for _, path := range below {
		removeGroups(filepath.Dir(path))
	}
	_ = os.Remove(group)
}

func (r real) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--target", r.pid, "--all", "--"}, args...)...)
}

func (r real) run(args ...string) (string, error) {
	out, err := r.command(args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%v: %w: %s", args, err, out)
	}
	return string(out), err
}

// attack starts one; it is this test binary.
func (r real) attack(args ...string) *exec.Cmd {
	return r.command(append([]string{"env", envBug + "=-", "/run/attack"}, args...)...)
}

// states are the units as systemd tells of them.
func (r real) states() (string, error) {
	return r.run("systemctl", "show", "--property=Id,LoadState,ActiveState,SubState,UnitFileState", "--", "drill-api.service", "drill-api.socket", "drill-web.service", "drill-off.service")
}

func TestServiceHoldsUnderTheRealSystemd(t *testing.T) {
	r := newReal(t)
	if _, err := r.run("systemctl", "start", "drill-api.socket", "drill-web.service"); err != nil {
		t.Fatal(err)
	}
	before, err := r.states()
	if err != nil {
		t.Fatal(err)
	}
	stopped := func() error {
		now, err := r.states()
		if n := strings.Count(now, "ActiveState=inactive"); err == nil && n != 4 {
			err = fmt.Errorf("%d units do not run, want 4:\n%s", n, now)
		}
		return err
	}
	asBefore := func() error {
		now, err := r.states()
		if err == nil && now != before {
			err = fmt.Errorf("units were\n%s\nand are\n%s", before, now)
		}
		left, _ := r.run("find", "/var/lib/firedrill", "-name", "*.*")
		return errors.Join(err, map[bool]error{false: errors.New("journals are left: " + left)}[left == ""])
	}
	t.Run("deadline", func(t *testing.T) {
		out, err := r.attack("--length=2", "--unit=drill-api").CombinedOutput()
		if err != nil || !strings.Contains(string(out), `"bit":true,"reverted":true`) {
			t.Errorf("%v: %s", err, out)
		}
		if err := asBefore(); err != nil {
			t.Error(err)
		}
	})
	t.Run("killed", func(t *testing.T) {
		a := r.attack("--length=60", "--unit=drill-api")
		if err := a.Start(); err != nil {
			t.Fatal(err)
		}
		if err := at.Await(stopped); err != nil {
			t.Error(err)
		}
		if _, err := r.run("sh", "-c", "kill -KILL $(pidof -o %PPID attack)"); err != nil {
			t.Error(err)
		}
		_ = a.Wait()
		if err := at.Await(asBefore); err != nil {
			t.Error(err)
		}
	})
	t.Run("socket", func(t *testing.T) {
		a := r.attack("--length=60", "--unit=drill-api.socket")
		if err := a.Start(); err != nil {
			t.Fatal(err)
		}
		if err := at.Await(func() error {
			now, err := r.run("systemctl", "is-active", "drill-api.socket")
			if strings.TrimSpace(now) == "inactive" {
				return nil
			}
			return fmt.Errorf("it is %s, %w", now, err)
		}); err != nil {
			t.Error(err)
		}
		// The service had the socket, so it went along.
		_ = a.Process.Signal(unix.SIGTERM)
		_ = a.Wait()
		if _, err := r.run("sh", "-c", "kill -TERM $(pidof -o %PPID attack); true"); err != nil {
			t.Error(err)
		}
		if err := at.Await(asBefore); err != nil {
			t.Error(err)
		}
	})
}
