package shutdown

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// way is one way to take a host down. It returns nil when the order was accepted, and an error when nothing has begun.
type way func(ctx context.Context, restart bool) error

// waysHere are the ways of this host, the gentlest first. systemd and its bus are asked only where systemd is our own init: a host out of
// namespaces may see the sockets of the machine that it runs on, and must never take that down.
func waysHere(systemd bool) []way {
	if !systemd {
		return []way{byKernel}
	}
	return []way{byLogind(systemBus), byCommand(systemctl), byCommand(shutdownCommand), byKernel}
}

// wayTimeout bounds each order: all of them are answered at once unless something hangs; then the next way is tried.
const wayTimeout = 10 * time.Second

// The addresses of logind.
const (
	systemBus     = "unix:path=/run/dbus/system_bus_socket"
	logindName    = "org.freedesktop.login1"
	logindPath    = "/org/freedesktop/login1"
	logindManager = "org.freedesktop.login1.Manager."
)

// byLogind asks logind over the bus at an address.
func byLogind(address string) way {
	return func(ctx context.Context, restart bool) error {
		ctx, cancel := context.WithTimeout(ctx, wayTimeout)
		defer cancel()
		method := "PowerOff"
		if restart {
			method = "Reboot"
		}
		conn, err := dbus.Connect(address, dbus.WithContext(ctx))
		if err != nil {
			return fmt.Errorf("logind %s: connect to the bus: %w", method, err)
		}
		const askSomebody = false // there is nobody to answer
		err = conn.Object(logindName, logindPath).CallWithContext(ctx, logindManager+method, 0, askSomebody).Err
		_ = conn.Close()
		if err != nil {
			return fmt.Errorf("logind %s: %w", method, err)
		}
		return nil
	}
}

// command is a program with its arguments for both outcomes.
type command struct{ program, powerOff, restart string }

var (
	systemctl       = command{"systemctl", "--no-wall poweroff", "--no-wall reboot"}
	shutdownCommand = command{"/sbin/shutdown", "-P now", "-r now"}
)

func byCommand(c command) way {
	return func(ctx context.Context, restart bool) error {
		ctx, cancel := context.WithTimeout(ctx, wayTimeout)
		defer cancel()
		args := c.powerOff
		if restart {
			args = c.restart
		}
		said, err := exec.CommandContext(ctx, c.program, strings.Fields(args)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s %s: %w: %s", c.program, args, err, strings.TrimSpace(string(said)))
		}
		return nil
	}
}

// byKernel syncs and tells the kernel.
func byKernel(_ context.Context, restart bool) error {
	unix.Sync()
	how := unix.LINUX_REBOOT_CMD_POWER_OFF
	if restart {
		how = unix.LINUX_REBOOT_CMD_RESTART
	}
	if err := unix.Reboot(how); err != nil {
		return errors.Join(errors.New("reboot(2) was refused"), err)
	}
	return nil
}
