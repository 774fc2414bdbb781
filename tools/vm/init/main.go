package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"firedrill/tools/vm/guest"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == guest.ServiceArg {
		if err := service(); err != nil {
			report(guest.Broken(err.Error()))
		}
		switchOff()
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: this is process 1 of a machine of tools/vm, and nothing else")
		os.Exit(2)
	}
	if err := first(); err != nil {
		report(guest.Broken(err.Error()))
	}
	switchOff()
}

// first is process 1. It returns only when the machine is to be switched off.
func first() error {
	if err := prepare(); err != nil {
		return err
	}
	errand, err := read()
	if err != nil {
		return err
	}
	// What is built into the kernel counts as loaded.
	if out, err := exec.Command("/sbin/modprobe", append([]string{"-a"}, errand.Modules...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("modprobe: %w: %s", err, out)
	}
	if err := disk(); err != nil {
		return err
	}
	if errand.Systemd {
		return fmt.Errorf("become systemd: %w", unix.Exec("/lib/systemd/systemd", []string{"systemd"}, []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}))
	}
	if err := groups(); err != nil {
		return err
	}
	run := exec.Command("/init", guest.ServiceArg)
	run.Env = environment()
	if err := run.Start(); err != nil {
		return err
	}
	return reap()
}

// reap collects every orphan of the machine, until there is no process left: the runs switch the machine off before they end.
func reap() error {
	for {
		if _, err := unix.Wait4(-1, nil, 0, nil); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("the runs ended without switching the machine off: %w", err)
		}
	}
}

// mounts are what a machine has; made in this order.
var mounts = []struct{ what, where, kind string }{
	{"proc", "/proc", "proc"}, {"sysfs", "/sys", "sysfs"}, {"devtmpfs", "/dev", "devtmpfs"}, {"devpts", "/dev/pts", "devpts"}, {"shm", "/dev/shm", "tmpfs"},
	{"run", "/run", "tmpfs"}, {"tmp", "/tmp", "tmpfs"}, {"cgroup2", "/sys/fs/cgroup", "cgroup2"},
}

func prepare() error {
	unix.Umask(0o022)
	for _, m := range mounts {
		if err := os.MkdirAll(m.where, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.what, m.where, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.where, err)
		}
	}
	line, err := os.ReadFile("/proc/cmdline")
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Fields(string(line)), guest.OptionVM) {
		return errors.New("the kernel was not started by tools/vm")
	}
	_ = os.Symlink("/proc/self/fd", "/dev/fd")
	if err := os.Chmod("/tmp", 0o1777); err != nil {
		return err
	}
	return errors.Join(unix.Sethostname([]byte("vm")), bringUp("lo"))
}

// bringUp switches a network device on.
func bringUp(name string) error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	if err := unix.IoctlIfreq(socket, unix.SIOCGIFFLAGS, request); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request)
}

func read() (guest.Errand, error) {
	var errand guest.Errand
	text, err := os.ReadFile(guest.Path)
	if err != nil {
		return errand, err
	}
	return errand, json.Unmarshal(text, &errand)
}

// disk mounts the one disk that the machine has.
func disk() error {
	if err := os.MkdirAll(guest.State, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("/dev/vda", guest.State, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount the disk: %w", err)
	}
	return nil
}

// groups lets control groups below the first limit what the kernel can.
func groups() error {
	const root = "/sys/fs/cgroup"
	have, err := os.ReadFile(root + "/cgroup.controllers")
	if err != nil {
		return err
	}
	for _, controller := range strings.Fields(string(have)) {
		if err := os.WriteFile(root+"/cgroup.subtree_control", []byte("+"+controller), 0o644); err != nil && !errors.Is(err, syscall.EINVAL) {
			return fmt.Errorf("control group of %s: %w", controller, err)
		}
	}
	return nil
}

func switchOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {} // the runner sees that the machine hangs
}
