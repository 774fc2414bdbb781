package fd

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/hoard"
	"firedrill/internal/attack/worker"
	"firedrill/internal/drill"
)

// amountMax is a little below what one process can have open in any kernel (fs.nr_open): the worker needs some itself.
const amountMax = 1<<20 - 1024

// files are what is taken of the host's. A busy SSH server needs some hundred; one open file costs the kernel about 250 bytes.
var files = hoard.Good{Kind: Name, Name: "open files", Are: "are open", CanBe: "be opened", Percent: 5, Least: 8192, AmountMax: amountMax,
	Room: room, Held: descriptors, Batch: 4096,
	Allow: func(amount int) error { return allow(amount + runtimeOwn) },
	Take: func(already int) error {
		if _, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return fmt.Errorf("open file %d: %w", already, err)
		}
		return nil
	}}

const runtimeOwn = 64 // descriptors of the Go runtime itself, at most

// Job is the worker's side: so many open files.
func Job(d worker.Duty) error { return files.Job(d) }

// allow raises our own limit.
func allow(amount int) error {
	var now unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return fmt.Errorf("fd: %w", err)
	}
	if now.Cur >= uint64(amount) {
		return nil
	}
	now.Cur, now.Max = uint64(amount), max(now.Max, uint64(amount))
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &now); err != nil {
		return &drill.Error{Op: "attack " + Name, Kind: drill.Unsupported, Err: fmt.Errorf("raise our own limit to %d: %w", amount, err),
			Hint: "run it as root, or ask for less: ulimit -Hn says how many"}
	}
	return nil
}

// room is how many files are open and how many can be. root is "/", or a tree that looks like one.
func room(root string) (attack.Room, error) {
	text, err := os.ReadFile(filepath.Join(root, "proc/sys/fs/file-nr"))
	if err != nil {
		return attack.Room{}, fmt.Errorf("fd: %w", err)
	}
	fields := strings.Fields(string(text)) // open, 0, and the limit, which can be none at all
	if len(fields) != 3 {
		return attack.Room{}, fmt.Errorf("fd: file-nr says %q", text)
	}
	used, err1 := strconv.Atoi(fields[0])
	most, err2 := strconv.ParseUint(fields[2], 10, 64)
	if err1 != nil || err2 != nil {
		return attack.Room{}, fmt.Errorf("fd: file-nr says %q", text)
	}
	return attack.Room{Used: used, Max: int(min(most, math.MaxInt))}, nil
}

// descriptors counts: since Linux 6.2 the size of the directory says it, before that each is listed.
func descriptors(pid int) (int, error) {
	directory, err := os.Open(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return 0, err
	}
	defer directory.Close()
	if info, err := directory.Stat(); err == nil && info.Size() > 0 {
		return int(info.Size()), nil
	}
	names, err := directory.Readdirnames(-1)
	return len(names), err
}
