package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
)

// labHost is a host as the world sees it: a disk, and now and then a running init.
type labHost struct {
	world *world
	host  Host
	index int
	wake  chan struct{} // holds one: look at the wishes below
	links bool          // its /etc is made of links, for want of overlayfs

	mu        sync.Mutex // guards the fields below
	changed   chan struct{}
	state     HostState
	since     time.Time
	bootID    string
	boots     int
	attempts  int
	furnished bool        // the disk has its files
	failed    error       // why the last attempt came to nothing
	reason    string      // why it is off
	wanted    bool        // wish: boot
	unwanted  bool        // wish: stay off
	process   *os.Process // the init, while there is one
	cable     string
	link      *wire
}

func newLabHost(w *world, h Host, index int) *labHost {
	return &labHost{
		world: w, host: h, index: index, wake: make(chan struct{}, 1),
		changed: make(chan struct{}), state: HostOff, since: time.Now(), reason: "not booted yet",
	}
}

// makeDisk makes what outlives the boots of the host: its disk and its private /etc.
func (h *labHost) makeDisk() error {
	disk := filepath.Join(worldHosts, h.host.Name)
	if err := os.Mkdir(disk, 0o755); err != nil {
		return fmt.Errorf("host %s: disk: %w", h.host.Name, err)
	}
	if err := unix.Mount("disk", disk, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755,size="+diskSize); err != nil {
		return fmt.Errorf("host %s: disk: %w", h.host.Name, err)
	}
	etc, state := filepath.Join(disk, "etc"), filepath.Join(worldState, h.host.Name)
	upper, work := filepath.Join(state, "upper"), filepath.Join(state, "work")
	for _, dir := range []string{etc, state, upper, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return fmt.Errorf("host %s: /etc: %w", h.host.Name, err)
		}
	}
	lower, extra := worldMachine+"/etc", ""
	if h.world.config.Rootless {
		lower, extra = worldDirs+":"+lower, ",userxattr"
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s,index=off%s", lower, upper, work, extra)
	// Where overlayfs is not to be had, the init fills /etc with links to the machine's.
	h.links = unix.Mount("etc", etc, "overlay", unix.MS_NOSUID|unix.MS_NODEV, options) != nil
	return nil
}

// run boots the host when that is wished for, and again after a reboot. It ends with the world.
func (h *labHost) run() {
	for {
		<-h.wake
		for h.takeWish() {
			if again := h.live(); !again {
				break
			}
			h.dark()
		}
	}
}

// takeWish tells whether the host is to boot now.
func (h *labHost) takeWish() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	boot := h.wanted && !h.unwanted
	h.wanted, h.unwanted = false, false
	if boot {
		h.attempts++
		h.failed = nil
		h.setState(HostBooting)
	} else if h.state != HostOff {
		h.reason = "powered off"
		h.setState(HostOff)
	}
	return boot
}

// dark waits out the boot delay of a reboot, or for a wish. A knock alone is no wish: it may be a late one.
func (h *labHost) dark() {
	timer := time.NewTimer(h.host.BootDelay)
	defer timer.Stop()
	for {
		h.mu.Lock()
		wish := h.wanted || h.unwanted
		h.mu.Unlock()
		if wish {
			return
		}
		select {
		case <-timer.C:
			h.mu.Lock()
			h.wanted = true
			h.mu.Unlock()
			return
		case <-h.wake:
		}
	}
}

// live is one life of the host, from power on to its end; it tells whether the host boots again by itself.
func (h *labHost) live() (again bool) {
	process, failed := h.start()
	if process == nil {
		h.fail(failed)
		return false
	}
	state, err := process.Wait()
	h.mu.Lock()
	cable, link := h.cable, h.link
	h.process = nil
	h.link = nil
	h.mu.Unlock()
	// The namespace of eth0 dies a little later than the init; the cable must not wait for it.
	pulled := h.world.cables.pull(cable)
	if link != nil {
		link.close()
	}
	if failed != nil {
		h.fail(failed)
		return false
	}
	return h.ended(state, errors.Join(err, pulled))
}

// ended reads from the init's status what the host did: reboot(2) in a PID namespace ends its init by SIGHUP to restart, SIGINT to halt.
func (h *labHost) ended(state *os.ProcessState, err error) (again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	reason := "its init ended"
	if state != nil {
		status := state.Sys().(syscall.WaitStatus)
		switch {
		case status.Signaled() && status.Signal() == syscall.SIGHUP:
			again = true
			reason = "rebooting"
		case status.Signaled() && status.Signal() == syscall.SIGINT:
			reason = "powered off by itself"
		case status.Signaled() && status.Signal() == syscall.SIGKILL && h.unwanted:
			reason = "powered off"
		default:
			reason = "its init ended: " + state.String()
		}
	}
	if err != nil {
		reason += "; " + err.Error()
	}
	h.reason = reason
	if again && !h.unwanted {
		h.setState(HostRebooting)
		return true
	}
	h.unwanted = false
	h.setState(HostOff)
	return false
}

func (h *labHost) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.failed = err
	h.reason = err.Error()
	h.unwanted = false
	h.setState(HostOff)
}

// setState needs mu.
func (h *labHost) setState(s HostState) {
	if h.state != s {
		h.state, h.since = s, time.Now()
	}
	close(h.changed)
	h.changed = make(chan struct{})
}

// start starts the init and sees it through to "up". With a process and an error the process is on its way out.
func (h *labHost) start() (*os.Process, error) {
	h.mu.Lock()
	h.boots++
	first, cable := !h.furnished, fmt.Sprintf("h%d-%d", h.index, h.boots)
	h.mu.Unlock()
	config, err := memoryFile("host", h.initConfig(first))
	if err != nil {
		return nil, err
	}
	defer func() { _ = config.Close() }()
	link, other, err := newWirePair()
	if err != nil {
		return nil, err
	}
	defer func() { _ = other.Close() }()
	cmd := &exec.Cmd{
		Path: "/proc/self/exe", Args: []string{nameInit, h.host.Name}, Dir: "/",
		Env:        []string{markVariable + "=" + h.world.config.Mark},
		Stdout:     os.Stderr,
		Stderr:     os.Stderr,
		ExtraFiles: []*os.File{other, config}, // fdWire, fdConfig
		SysProcAttr: &syscall.SysProcAttr{
			Setsid:     true,
			Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC,
		},
	}
	if err := cmd.Start(); err != nil {
		link.close()
		return nil, fmt.Errorf("host %s: start: %w", h.host.Name, err)
	}
	h.mu.Lock()
	h.process, h.cable, h.link = cmd.Process, cable, link
	if h.unwanted {
		_ = cmd.Process.Kill() // the power was cut in the meantime
	}
	h.mu.Unlock()
	if err := h.bringUp(cmd.Process.Pid, cable, link); err != nil {
		_ = cmd.Process.Kill()
		return cmd.Process, err
	}
	return cmd.Process, nil
}

func (h *labHost) bringUp(pid int, cable string, link *wire) error {
	if err := h.world.cables.plug(cable, pid, hardwareAddress(h.host.Address)); err != nil {
		return err
	}
	if err := link.send(message{Op: opCable}); err != nil {
		return fmt.Errorf("host %s: %w", h.host.Name, err)
	}
	m, files, err := link.receive()
	if err != nil {
		return fmt.Errorf("host %s: its init ended while it booted", h.host.Name)
	}
	closeAll(files)
	if err := m.err("boot", h.host.Name); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bootID, h.furnished = m.Text, true
	h.reason = ""
	h.setState(HostUp)
	return nil
}

func (h *labHost) initConfig(first bool) initConfig {
	w := h.world
	c := initConfig{
		Topology: w.config.Topology, Name: h.host.Name, Mark: w.config.Mark, Rootless: w.config.Rootless, First: first,
		Links: w.base.links, Trees: w.base.trees, EtcLinks: h.links, Keys: map[string]keys{},
	}
	for name, k := range w.keys {
		c.Keys[name] = k.public()
	}
	c.Keys[h.host.Name] = w.keys[h.host.Name]
	return c
}

// boot wishes for the host and waits until it is up or has failed to come up.
func (h *labHost) boot() error {
	h.mu.Lock()
	for h.unwanted && (h.state == HostUp || h.state == HostBooting) {
		changed := h.changed // a power cut is under way
		h.mu.Unlock()
		<-changed
		h.mu.Lock()
	}
	attempts := h.attempts
	switch h.state {
	case HostUp:
		h.mu.Unlock()
		return nil
	case HostBooting:
		attempts-- // the one under way is the one we wait for
	case HostOff, HostRebooting:
		h.wanted, h.unwanted = true, false
		h.knock()
	}
	h.mu.Unlock()
	for {
		h.mu.Lock()
		state, failed, made, changed := h.state, h.failed, h.attempts, h.changed
		h.mu.Unlock()
		switch {
		case state == HostUp:
			return nil
		case state == HostOff && made > attempts && failed != nil:
			return failed
		case state == HostOff && made > attempts:
			return &drill.Error{Host: h.host.Name, Kind: drill.Interrupted, Err: errors.New("the power was cut while it booted")}
		}
		<-changed
	}
}

// powerOff cuts the power and waits until the host is off.
func (h *labHost) powerOff() error {
	h.mu.Lock()
	if h.state == HostOff && !h.wanted {
		h.mu.Unlock()
		return nil
	}
	h.wanted, h.unwanted = false, true
	process, cable := h.process, h.cable
	h.mu.Unlock()
	if process != nil {
		// The cable first: a dying process closes its connections properly, which a power cut does not.
		if err := h.world.cables.pull(cable); err != nil {
			return err
		}
		if err := process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("power off %s: %w", h.host.Name, err)
		}
	}
	h.knock()
	for {
		h.mu.Lock()
		state, changed := h.state, h.changed
		h.mu.Unlock()
		if state == HostOff {
			return nil
		}
		<-changed
	}
}

func (h *labHost) knock() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// give hands a client's connection to the init.
func (h *labHost) give(client *os.File) error {
	h.mu.Lock()
	link, state, reason := h.link, h.state, h.reason
	h.mu.Unlock()
	if state == HostUp && link == nil {
		return &drill.Error{Kind: drill.Unreachable, Err: errors.New("the host is going down")}
	}
	if state != HostUp {
		return &drill.Error{Kind: drill.Unreachable, Err: fmt.Errorf("the host is %s (%s)", state, reason), Hint: "firedrill lab boot FILE " + h.host.Name + " starts it again."}
	}
	if err := link.send(message{Op: opClient}, client); err != nil {
		return &drill.Error{Kind: drill.Unreachable, Err: err}
	}
	return nil
}

func (h *labHost) status() HostStatus {
	h.mu.Lock()
	s := HostStatus{
		Name: h.host.Name, Hostname: h.host.Hostname, Address: h.host.Address.String(),
		State: h.state, BootID: h.bootID, Boots: h.boots, Since: h.since, Reason: h.reason,
	}
	h.mu.Unlock()
	if s.State != HostUp {
		s.BootID = ""
		return s
	}
	client, other, err := newWirePair()
	if err != nil {
		return s
	}
	defer client.close()
	err = h.give(other)
	_ = other.Close()
	if err != nil {
		return s
	}
	_ = client.conn.SetDeadline(time.Now().Add(statusWait))
	_, _, err = client.receive() // the greeting
	var answer message
	if err == nil {
		answer, _, err = client.ask(message{Op: opStatus})
	}
	if err != nil {
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			s.Reason = "its init does not answer"
		}
		return s
	}
	s.Services = answer.Services
	return s
}
