package fd

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/procs"
)

// limits reads the limit of the very process that id names; procs.ErrGone when it has ended.
func limits(id procs.ID) (unix.Rlimit, error) {
	var now unix.Rlimit
	if err := unix.Prlimit(id.PID, unix.RLIMIT_NOFILE, nil, &now); err != nil {
		return now, gone(err)
	}
	_, err := procs.Find(id)
	return now, err
}

// setSoft sets the soft limit of the very process that id names, and leaves the hard one alone.
func setSoft(id procs.ID, soft uint64) error {
	now, err := limits(id)
	if err != nil || now.Cur == soft {
		return err
	}
	now.Cur = min(soft, now.Max)
	return gone(unix.Prlimit(id.PID, unix.RLIMIT_NOFILE, &now, nil))
}

func gone(err error) error {
	if errors.Is(err, unix.ESRCH) || errors.Is(err, os.ErrNotExist) {
		return procs.ErrGone
	}
	return err
}

// ceiling is the limit under which a process can open so many more: descriptors are given from the lowest free number on, and none at or
// above the limit.
func ceiling(id procs.ID, free int) (uint64, error) {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", id.PID))
	if err != nil {
		return 0, gone(err)
	}
	var open []int
	for _, entry := range entries {
		if number, err := strconv.Atoi(entry.Name()); err == nil {
			open = append(open, number)
		}
	}
	slices.Sort(open)
	return lowest(open, free), nil
}

// lowest is the number below which so many are free; open is sorted.
func lowest(open []int, free int) uint64 {
	at := 0
	for _, number := range open {
		if number-at > free {
			break
		}
		free -= number - at
		at = number + 1
	}
	return uint64(at + free)
}
