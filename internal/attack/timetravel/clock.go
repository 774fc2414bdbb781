package timetravel

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
)

// clock is the clock of a host. Tests have one that is not the machine's.
type clock interface {
	// skew is the clock minus the time since boot: it stays what it is until somebody sets the clock.
	skew() (time.Duration, error)
	// shift moves the clock by this much, at once.
	shift(by time.Duration) error
	// check says why the clock cannot be set by us.
	check() error
}

// kernel is the clock of this machine.
type kernel struct{}

// readings is how often the two clocks are read side by side; the pair that was read in the shortest time counts.
const readings = 9

func (kernel) skew() (time.Duration, error) {
	var best time.Duration
	shortest := time.Duration(1<<63 - 1)
	for range readings {
		var before, now, after unix.Timespec
		err := errors.Join(unix.ClockGettime(unix.CLOCK_BOOTTIME, &before), unix.ClockGettime(unix.CLOCK_REALTIME, &now), unix.ClockGettime(unix.CLOCK_BOOTTIME, &after))
		if err != nil {
			return 0, fmt.Errorf("read the clock: %w", err)
		}
		if took := time.Duration(after.Nano() - before.Nano()); took < shortest {
			shortest, best = took, time.Duration(now.Nano()-before.Nano()-int64(took)/2)
		}
	}
	return best, nil
}

func (kernel) shift(by time.Duration) error {
	change := unix.Timex{Modes: unix.ADJ_SETOFFSET, Time: unix.NsecToTimeval(int64(by))}
	if _, err := unix.ClockAdjtime(unix.CLOCK_REALTIME, &change); err != nil {
		return explain(fmt.Errorf("shift the clock by %s: %w", by, err))
	}
	return nil
}

func explain(err error) error {
	if errors.Is(err, unix.EPERM) {
		return &drill.Error{Op: "attack " + Name, Kind: drill.Unsupported, Err: err,
			Hint: "run it as root on the machine itself: a container, a user namespace or a host of a lab shares its clock with others and may not set it"}
	}
	return err
}

// wholeMachine is the map of users where there is no user namespace.
var wholeMachine = []string{"0", "0", "4294967295"}

func (kernel) check() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read our capabilities: %w", err)
	}
	if data[0].Effective&(1<<unix.CAP_SYS_TIME) == 0 {
		return explain(fmt.Errorf("we lack CAP_SYS_TIME: %w", unix.EPERM))
	}
	users, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return fmt.Errorf("read our map of users: %w", err)
	}
	if fields := strings.Fields(string(users)); strings.Join(fields, " ") != strings.Join(wholeMachine, " ") {
		return explain(fmt.Errorf("we are in a user namespace: %w", unix.EPERM))
	}
	return nil
}
