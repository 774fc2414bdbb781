package lab

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
)

// keeper starts the programs of a host and reaps them, and every orphan with them: as PID 1 a host's init is the parent of last resort.
type keeper struct {
	starts chan func() // to the one thread that may start programs

	mu       sync.Mutex // guards children; held from fork to registration, so that no child is reaped unknown
	children map[int]*child
}

// child is a program that the keeper started, leader of its own session and process group.
type child struct {
	keeper *keeper
	pid    int
	done   chan struct{}
	status syscall.WaitStatus // valid once done is closed
}

// program is what to start.
type program struct {
	args       []string // args[0] is looked up in PATH of env
	env        []string
	dir        string
	user       *user // nil: root
	files      []*os.File
	terminal   bool // files[0] becomes the controlling terminal
	executable string
}

// forbidden are the capabilities that programs on a host do without when root made the lab: each would reach the machine itself. A lab of
// an ordinary user has none of them over the machine to begin with.
var forbidden = []int{
	unix.CAP_SYS_TIME, unix.CAP_SYS_MODULE, unix.CAP_SYS_RAWIO, unix.CAP_SYS_ADMIN, unix.CAP_MKNOD, unix.CAP_SYSLOG, unix.CAP_SYS_PACCT,
	unix.CAP_AUDIT_CONTROL, unix.CAP_MAC_ADMIN, unix.CAP_MAC_OVERRIDE, unix.CAP_WAKE_ALARM, unix.CAP_BLOCK_SUSPEND, unix.CAP_LINUX_IMMUTABLE,
	unix.CAP_SYS_TTY_CONFIG, unix.CAP_PERFMON,
}

// newKeeper starts the reaper and the thread that starts programs. They run for the life of the init.
func newKeeper(rootless bool) (*keeper, error) {
	k := &keeper{starts: make(chan func()), children: map[int]*child{}}
	ready := make(chan error, 1)
	go func() {
		// Capabilities belong to the thread; programs inherit them from the one that forks.
		runtime.LockOSThread()
		var err error
		if !rootless {
			err = dropCapabilities()
		}
		ready <- err
		for start := range k.starts {
			start()
		}
	}()
	if err := <-ready; err != nil {
		return nil, err
	}
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)
	go func() {
		for range ended {
			k.reap()
		}
	}()
	return k, nil
}

// dropCapabilities takes the forbidden capabilities from the calling thread for good.
func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	for _, c := range forbidden {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("capability %d: %w", c, err)
		}
		mask := ^(uint32(1) << (c % 32))
		data[c/32].Effective &= mask
		data[c/32].Permitted &= mask
		data[c/32].Inheritable &= mask
	}
	if err := unix.Capset(&header, &data[0]); err != nil {
		return fmt.Errorf("capabilities: %w", err)
	}
	return nil
}

// start starts p in a session of its own.
func (k *keeper) start(p program) (*child, error) {
	path := p.executable
	if path == "" {
		var err error
		if path, err = lookPath(p.args[0], p.env, p.dir); err != nil {
			return nil, err
		}
	}
	if info, err := os.Stat(p.dir); err != nil || !info.IsDir() {
		return nil, &drill.Error{Kind: drill.Invalid, Err: fmt.Errorf("no directory %s on this host", p.dir)}
	}
	attributes := &os.ProcAttr{Dir: p.dir, Env: p.env, Files: p.files, Sys: &syscall.SysProcAttr{Setsid: true, Setctty: p.terminal}}
	if p.user != nil && p.user.uid != 0 {
		attributes.Sys.Credential = &syscall.Credential{Uid: p.user.uid, Gid: p.user.gid, Groups: p.user.groups}
	}
	var c *child
	var err error
	finished := make(chan struct{})
	k.starts <- func() {
		defer close(finished)
		k.mu.Lock()
		defer k.mu.Unlock()
		var process *os.Process
		if process, err = os.StartProcess(path, p.args, attributes); err != nil {
			return
		}
		c = &child{keeper: k, pid: process.Pid, done: make(chan struct{})}
		k.children[c.pid] = c
		_ = process.Release() // the reaper waits for it
	}
	<-finished
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.args[0], err)
	}
	return c, nil
}

func (k *keeper) reap() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		if c, ok := k.children[pid]; ok {
			delete(k.children, pid)
			c.status = status
			close(c.done)
		}
	}
}

// signal sends s to the child's process group, also when the child itself has ended but left others in it.
func (c *child) signal(s syscall.Signal) {
	c.keeper.mu.Lock() // no reaping now, so the number cannot come to mean another process
	defer c.keeper.mu.Unlock()
	_ = syscall.Kill(-c.pid, s) // ESRCH: all of them are gone
}

// code is the exit code as shells tell it. The child must be done.
func (c *child) code() int {
	if c.status.Signaled() {
		return 128 + int(c.status.Signal())
	}
	return c.status.ExitStatus()
}

// ending says in words how the child ended.
func (c *child) ending() string {
	if c.status.Signaled() {
		return "signal " + c.status.Signal().String()
	}
	return fmt.Sprintf("exit code %d", c.status.ExitStatus())
}

// lookPath finds a program as execvp does, in the PATH of env.
func lookPath(name string, env []string, dir string) (string, error) {
	if strings.Contains(name, "/") {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		if executable(path) {
			return path, nil
		}
		return "", &drill.Error{Kind: drill.Invalid, Err: fmt.Errorf("no program %s on this host", name)}
	}
	for _, place := range filepath.SplitList(variable(env, "PATH")) {
		if path := filepath.Join(place, name); executable(path) {
			return path, nil
		}
	}
	return "", &drill.Error{Kind: drill.Invalid, Err: fmt.Errorf("no program %q in PATH of this host", name)}
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// variable returns the last value that env gives to name.
func variable(env []string, name string) string {
	for i := len(env) - 1; i >= 0; i-- {
		if value, ok := strings.CutPrefix(env[i], name+"="); ok {
			return value
		}
	}
	return ""
}
