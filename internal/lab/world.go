package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
)

// world is PID 1 of the lab: it owns the bridge and the disks, and starts the hosts.
type world struct {
	config  worldConfig
	control *wire // to the caller; its end is the end of the lab
	cables  *cables
	hosts   map[string]*labHost
	base    base
	keys    map[string]keys
}

// statusWait bounds how long the world waits for an init to tell of its services: an init may be stopped, as drills do.
const statusWait = 2 * time.Second

// worldMain is the life of the world. It returns only with an error; the end of the caller ends the process where it stands.
func worldMain() error {
	var w world
	if err := readMemoryFile(fdConfig, &w.config); err != nil {
		return err
	}
	control, err := newWire(os.NewFile(fdWire, "control"))
	if err != nil {
		return err
	}
	w.control = control
	if os.Getpid() != 1 {
		return errors.New("not PID 1 of a PID namespace; only Up starts a world")
	}
	if err := w.dieWithCaller(); err != nil {
		return err
	}
	clients := make(chan *wire)
	go w.listenControl(clients)
	if err := w.build(); err != nil {
		_ = w.control.send(failure(opFailed, err))
		return err
	}
	if w.config.Listens {
		listener, err := net.FileListener(os.NewFile(fdListener, "listener"))
		if err != nil {
			return fmt.Errorf("world: listen: %w", err)
		}
		go acceptClients(listener.(*net.UnixListener), clients)
	}
	if err := w.control.send(message{Op: opReady}); err != nil && !w.config.Orphan {
		return err
	}
	for c := range clients {
		go w.serve(c)
	}
	return nil
}

// dieWithCaller asks the kernel for a SIGKILL when the thread that started us ends. Go has asked already between fork and exec; this is for
// kernels that forget it when credentials change. A caller that is gone by now has closed the control socket.
func (w *world) dieWithCaller() error {
	if w.config.Orphan {
		return unix.Prctl(unix.PR_SET_PDEATHSIG, 0, 0, 0, 0)
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("world: parent-death signal: %w", err)
	}
	return nil
}

// listenControl takes in the caller's clients, and ends the lab with the caller: as PID 1 our end is everyone's.
func (w *world) listenControl(clients chan<- *wire) {
	for {
		m, files, err := w.control.receive()
		if err != nil {
			if w.config.Orphan {
				select {}
			}
			os.Exit(0)
		}
		if m.Op == opClient && len(files) == 1 {
			if c, err := newWire(files[0]); err == nil {
				clients <- c
			}
			continue
		}
		closeAll(files)
	}
}

// acceptClients takes in clients that found the lab by its name. Only the same user may: in a user namespace that is who is mapped to 0.
func acceptClients(listener *net.UnixListener, clients chan<- *wire) {
	for {
		c, err := listener.AcceptUnix()
		if err != nil {
			return
		}
		if cred, err := peer(c); err != nil || cred.Uid != 0 {
			_ = c.Close()
			continue
		}
		clients <- &wire{conn: c}
	}
}

// peer is who opened the other end: who connected, or who listens.
func peer(c *net.UnixConn) (*unix.Ucred, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	if credErr != nil {
		return nil, fmt.Errorf("peer: %w", credErr)
	}
	return cred, nil
}

// build makes everything and boots all hosts at the same time.
func (w *world) build() error {
	w.stage("world started")
	var err error
	if w.base, err = worldMounts(w.config); err != nil {
		return err
	}
	w.stage("file system made")
	if w.cables, err = newCables(); err != nil {
		return err
	}
	w.stage("bridge made")
	w.keys = map[string]keys{}
	w.hosts = map[string]*labHost{}
	for _, h := range w.config.Topology.Hosts {
		if w.keys[h.Name], err = newKeys(h.Name); err != nil {
			return err
		}
	}
	var group errgroup.Group
	for i, h := range w.config.Topology.Hosts {
		host := newLabHost(w, h, i)
		w.hosts[h.Name] = host
		group.Go(func() error {
			if err := host.makeDisk(); err != nil {
				return err
			}
			go host.run()
			if err := host.boot(); err != nil {
				return err
			}
			w.stage("host " + h.Name + " up")
			return nil
		})
	}
	return group.Wait()
}

// stage tells the caller how far Up is. The caller may be gone: then so are we.
func (w *world) stage(text string) { _ = w.control.send(message{Op: opStage, Text: text}) }

// serve answers one client.
func (w *world) serve(c *wire) {
	defer c.close()
	m, files, err := c.receive()
	if err != nil {
		return
	}
	closeAll(files)
	switch m.Op {
	case opStatus:
		_ = c.send(message{Op: opDone, Hosts: w.status()})
	case opDown:
		_ = c.send(message{Op: opDone})
		os.Exit(0)
	case opBoot, opPowerOff, opOpen:
		host, ok := w.hosts[m.Host]
		if !ok {
			_ = c.send(failure(opDone, noHost(w.config.Topology, m.Host)))
			return
		}
		switch m.Op {
		case opBoot:
			_ = c.send(answerOf(host.boot()))
		case opPowerOff:
			_ = c.send(answerOf(host.powerOff()))
		case opOpen:
			w.handOver(c, host)
		}
	default:
		_ = c.send(failure(opDone, fmt.Errorf("world: unknown operation %q", m.Op)))
	}
}

// handOver gives the client's connection to the init of the host, which answers from then on.
func (w *world) handOver(c *wire, host *labHost) {
	file, err := c.conn.File()
	if err != nil {
		_ = c.send(failure(opDone, err))
		return
	}
	defer func() { _ = file.Close() }()
	if err := host.give(file); err != nil {
		_ = c.send(failure(opDone, err))
	}
}

func (w *world) status() []HostStatus {
	all := make([]HostStatus, len(w.config.Topology.Hosts))
	var wait sync.WaitGroup
	for i, h := range w.config.Topology.Hosts {
		wait.Go(func() { all[i] = w.hosts[h.Name].status() })
	}
	wait.Wait()
	return all
}

func noHost(t Topology, name string) error {
	names := make([]string, 0, len(t.Hosts))
	for _, h := range t.Hosts {
		names = append(names, h.Name)
	}
	return &drill.Error{Kind: drill.Invalid, Err: fmt.Errorf("lab %s has no host %q", t.Name, name), Hint: drill.Suggest(name, names)}
}
