package attack

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/procs"
)

// ticksPerSecond is the unit of start times in /proc/PID/stat; it is part of Linux's interface on every architecture that Go knows.
const ticksPerSecond = 100

// SinceBoot is the time since boot in nanoseconds, time asleep included. Nothing but a restart of the host moves it.
func SinceBoot() (int64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, fmt.Errorf("attack: read the time since boot: %w", err)
	}
	return now.Nano(), nil
}

// timeAsleep is how much of the time since boot the host was asleep.
func timeAsleep() (time.Duration, error) {
	var awake unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &awake); err != nil {
		return 0, fmt.Errorf("attack: read the time awake: %w", err)
	}
	all, err := SinceBoot()
	return time.Duration(all - awake.Nano()), err
}

// alarmAt returns a descriptor that can be read from an instant on, in nanoseconds since boot, as soon as the host is awake.
func alarmAt(since int64) (int, error) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return -1, fmt.Errorf("attack: set an alarm: %w", err)
	}
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(max(since, 1))}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME, &at, nil); err != nil {
		return -1, errors.Join(fmt.Errorf("attack: set an alarm: %w", err), unix.Close(fd))
	}
	return fd, nil
}

// place is where a journal is read: which boot of which host.
type place struct {
	boot string // boot ID
	pids string // PID namespace
	init int64  // start of process 1, in nanoseconds since boot
}

func here() (place, error) {
	boot, err1 := os.ReadFile("/proc/sys/kernel/random/boot_id")
	pids, err2 := os.Readlink("/proc/self/ns/pid")
	one, err3 := procs.Stat(1)
	if err := errors.Join(err1, err2, err3); err != nil {
		return place{}, fmt.Errorf("attack: which boot is this: %w", err)
	}
	return place{boot: strings.TrimSpace(string(boot)), pids: pids, init: int64(one.Start) * int64(time.Second/ticksPerSecond)}, nil
}

// before reports whether the host was restarted since the journal was made. A host that is a container or a part of a lab shares its
// kernel, and thus its boot ID, with others: there the age of process 1 tells.
func (p place) before(h header) bool { return h.Boot != p.boot || h.Made < p.init }

// elsewhere reports whether the journal belongs to a part of this host in which we cannot see its processes.
func (p place) elsewhere(h header) bool { return !p.before(h) && h.PIDs != p.pids }
