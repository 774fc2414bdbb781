package procs

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const proc = "/proc"

// ErrGone says that a process has ended, or that another one has its number now.
var ErrGone = errors.New("the process is gone")

// ID names one process. Numbers are used again; the time of the start, in the kernel's ticks since boot, tells them apart.
type ID struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"`
}

// Process is what we know of a process.
type Process struct {
	ID
	Name      string `json:"name"`    // as in /proc/PID/comm, at most 15 bytes
	Command   string `json:"command"` // the full command line, words joined by blanks; the name for a thread of the kernel
	Parent    int    `json:"parent"`
	State     byte   `json:"state"` // as in ps: R, S, D, T stopped, t traced, Z ended
	UID       uint32 `json:"uid"`
	GID       uint32 `json:"gid"`
	Protected string `json:"protected,omitempty"` // why no attack may touch it; only Survey fills it in
	Consent   bool   `json:"consent,omitempty"`   // one may touch it all the same to which a person consents

	kernel bool // a thread of the kernel
}

// Stopped reports whether the process is stopped by a signal or a tracer.
func (p Process) Stopped() bool { return p.State == 'T' || p.State == 't' }

// Ended reports whether only the entry of the process is left.
func (p Process) Ended() bool { return p.State == 'Z' || p.State == 'X' }

// String names the process for people.
func (p Process) String() string { return fmt.Sprintf("process %d (%s)", p.PID, p.Name) }

// Stat looks at one process. The error is ErrGone when there is none.
func Stat(pid int) (Process, error) {
	p, _, err := stat(pid, nil)
	return p, err
}

// stat looks at one process with the room of buffer, and returns it for the next one.
func stat(pid int, buffer []byte) (Process, []byte, error) {
	dir := proc + "/" + strconv.Itoa(pid)
	text, err := ReadFile(dir+"/stat", buffer)
	if err != nil {
		return Process{}, text, gone(err)
	}
	p, err := parseStat(text)
	if err != nil {
		return Process{}, text, err
	}
	var status unix.Stat_t
	if err := unix.Stat(dir, &status); err != nil {
		return Process{}, text, gone(err)
	}
	p.UID, p.GID = status.Uid, status.Gid
	return p, text, nil
}

// ReadFile reads a small file of /proc or the like into the room of buffer, and returns the buffer for the next one also with an error.
// os.ReadFile makes ten system calls for it where three do: that is between a user and the first packet dropped, and it is done for every
// process of the host twice a second while an attack looks for whom it means.
func ReadFile(path string, buffer []byte) ([]byte, error) {
	text := buffer[:0]
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return text, &os.PathError{Op: "open", Path: path, Err: err}
	}
	defer unix.Close(fd)
	text = slices.Grow(text, readRoom)
	for {
		n, err := unix.Read(fd, text[len(text):cap(text)])
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return text, &os.PathError{Op: "read", Path: path, Err: err}
		case len(text)+n < cap(text):
			return text[:len(text)+n], nil // /proc fills the room that it is given while there is more
		}
		text = slices.Grow(text[:len(text)+n], cap(text))
	}
}

// readRoom holds what the kernel says of a process, but for a long command line.
const readRoom = 4 << 10

func gone(err error) error {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return ErrGone
	}
	return err
}

// kernelThread is PF_KTHREAD of the kernel's include/linux/sched.h, in the flags of /proc/PID/stat.
const kernelThread = 0x00200000

// parseStat reads /proc/PID/stat. The name may hold blanks and brackets, so it ends at the last bracket.
func parseStat(text []byte) (Process, error) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 1 || end < open {
		return Process{}, fmt.Errorf("procs: %q is not the state of a process", text)
	}
	pid, err := strconv.Atoi(string(bytes.TrimSpace(text[:open])))
	fields := strings.Fields(string(text[end+1:]))
	if err != nil || len(fields) < 20 || len(fields[0]) != 1 {
		return Process{}, fmt.Errorf("procs: %q is not the state of a process", text)
	}
	parent, err1 := strconv.Atoi(fields[1])
	flags, err2 := strconv.ParseUint(fields[6], 10, 64)
	start, err3 := strconv.ParseUint(fields[19], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return Process{}, fmt.Errorf("procs: %w", err)
	}
	return Process{ID: ID{PID: pid, Start: start}, Name: string(text[open+1 : end]), Parent: parent, State: fields[0][0], kernel: flags&kernelThread != 0}, nil
}

// Find looks for the very process that id names. The error is ErrGone when it has ended.
func Find(id ID) (Process, error) {
	p, err := Stat(id.PID)
	if err == nil && (p.ID != id || p.Ended()) {
		return Process{}, ErrGone
	}
	return p, err
}

// Open takes a handle on the very process that id names: what is sent through it reaches no other. The error is ErrGone when it has
// ended. Close the handle with unix.Close.
func Open(id ID) (handle int, err error) {
	handle, err = unix.PidfdOpen(id.PID, 0)
	if err != nil {
		return -1, gone(err)
	}
	// Looked at after the handle was taken: if it is still the same one, the handle cannot be another's.
	if _, err := Find(id); err != nil {
		_ = unix.Close(handle)
		return -1, err
	}
	return handle, nil
}

// Signal sends a signal to the very process that id names. The error is ErrGone when it has ended.
func Signal(id ID, signal unix.Signal) error {
	handle, err := Open(id)
	if err != nil {
		return err
	}
	defer unix.Close(handle)
	return gone(unix.PidfdSendSignal(handle, signal, nil, 0))
}
