package worker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/procs"
)

const (
	sweepTimeout = 5 * time.Second // freeing memory takes up to a second for each few GiB
	sweepPoll    = 5 * time.Millisecond
)

// found is a worker on this host.
type found struct {
	pid  int
	guid string
}

func (f found) String() string { return fmt.Sprintf("worker process %d of attack %s", f.pid, f.guid) }

// Sweep ends the workers of a job whose attacks are dead, and waits until they are gone: the kernel is about to end them itself, but a
// process that held much memory takes a moment. It looks only at our own network namespace, for which alive answers.
func Sweep(ctx context.Context, job string, alive func(guid string) bool) ([]string, error) {
	var removed []string
	var errs []error
	workers, err := list(job)
	if err != nil {
		return nil, err
	}
	for _, w := range workers {
		if alive(w.guid) {
			continue
		}
		if err := end(ctx, w.pid); err != nil {
			errs = append(errs, fmt.Errorf("end %s: %w", w, err))
			continue
		}
		removed = append(removed, w.String())
	}
	return removed, errors.Join(errs...)
}

// Residue lists the workers of a job in our network namespace.
func Residue(job string) ([]string, error) {
	workers, err := list(job)
	var lines []string
	for _, w := range workers {
		lines = append(lines, w.String())
	}
	return lines, err
}

func end(ctx context.Context, pid int) error {
	handle, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(handle)
	// A handle that was taken too late could be another process's.
	if _, ok := inspect(pid, new([]byte)); !ok {
		return nil
	}
	if err := unix.PidfdSendSignal(handle, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	tick := time.NewTicker(sweepPoll)
	defer tick.Stop()
	for {
		fds := []unix.PollFd{{Fd: int32(handle), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, 0); err == nil && n > 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func list(job string) ([]found, error) {
	ours, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("worker: look for workers: %w", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("worker: look for workers: %w", err)
	}
	var workers []found
	var buffer []byte
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		args, ok := inspect(pid, &buffer)
		if !ok || args[argJob] != job {
			continue
		}
		// A worker that we may not look into belongs to somebody else.
		if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid)); err == nil && theirs == ours {
			workers = append(workers, found{pid: pid, guid: args[argGUID]})
		}
	}
	return workers, nil
}

// inspect returns the arguments of a process if it is a worker. A process that has ended has none. The buffer is used again for the next one.
func inspect(pid int, buffer *[]byte) ([]string, bool) {
	text, err := procs.ReadFile("/proc/"+strconv.Itoa(pid)+"/cmdline", *buffer)
	*buffer = text
	if err != nil || !strings.HasPrefix(string(text), processName+"\x00") {
		return nil, false
	}
	args := strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
	return args, len(args) == argCount
}
