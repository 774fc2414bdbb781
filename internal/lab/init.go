package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
)

// hostInit is PID 1 of a host: it makes the host's view of the world, starts the services, and serves exec, systemctl and SSH.
type hostInit struct {
	config   initConfig
	host     Host
	link     *wire // to the world
	keeper   *keeper
	services *supervisor
}

// initMain is the life of a host. It returns only with an error before the host is up.
func initMain() error {
	var i hostInit
	if err := readMemoryFile(fdConfig, &i.config); err != nil {
		return err
	}
	link, err := newWire(os.NewFile(fdWire, "link"))
	if err != nil {
		return err
	}
	i.link = link
	if os.Getpid() != 1 {
		return errors.New("not PID 1 of a PID namespace; only the world starts a host")
	}
	host, ok := i.config.Topology.Host(i.config.Name)
	if !ok {
		return fmt.Errorf("no host %q in the topology", i.config.Name)
	}
	i.host = host
	// `kill 1` must not crash the host. Taken and dropped rather than ignored: what is ignored stays so in every program started.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGTERM, unix.SIGHUP, unix.SIGPIPE, unix.SIGQUIT)
	bootID, err := i.bringUp()
	if err != nil {
		_ = i.link.send(failure(opFailed, err))
		return err
	}
	if err := i.link.send(message{Op: opUp, Text: bootID}); err != nil {
		return err
	}
	for {
		m, files, err := i.link.receive()
		if err != nil {
			return fmt.Errorf("the world is gone: %w", err)
		}
		if m.Op != opClient || len(files) != 1 {
			closeAll(files)
			continue
		}
		c, err := newWire(files[0])
		if err != nil {
			continue
		}
		if err := c.send(message{Op: opDone}); err != nil { // the greeting: the client knows that it speaks to us now
			c.close()
			continue
		}
		go i.serve(c)
	}
}

// bringUp does all that must be done before the host counts as up.
func (i *hostInit) bringUp() (bootID string, err error) {
	if err := unix.Sethostname([]byte(i.host.Hostname)); err != nil {
		return "", fmt.Errorf("hostname: %w", err)
	}
	if bootID, err = i.mounts(); err != nil {
		return "", err
	}
	m, files, err := i.link.receive()
	closeAll(files)
	if err != nil || m.Op != opCable {
		return "", fmt.Errorf("no cable came: %v", err)
	}
	if err := i.network(); err != nil {
		return "", err
	}
	if i.keeper, err = newKeeper(i.config.Rootless); err != nil {
		return "", err
	}
	if err := i.startSSH(); err != nil {
		return "", err
	}
	i.services = newSupervisor(i.keeper, i.config.Mark, i.host.Services)
	if err := i.listenControl(); err != nil {
		return "", err
	}
	i.services.boot()
	return bootID, nil
}

// startSSH opens port 22 before the services start: what a host is reached by comes first.
func (i *hostInit) startSSH() error {
	switch i.host.SSH {
	case SSHBuiltIn:
		return i.serveSSH()
	case SSHOpenSSH:
		service, err := i.prepareOpenSSH()
		if err != nil {
			return err
		}
		i.host.Services = append([]Service{service}, i.host.Services...)
	case SSHNone:
	}
	return nil
}

// listenControl serves systemctl and its like on the host itself.
func (i *hostInit) listenControl() error {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: controlSocket, Net: "unixpacket"})
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	if err := os.Chmod(controlSocket, 0o600); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	go func() {
		for {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			go i.serve(&wire{conn: c})
		}
	}()
	return nil
}

// serve answers one client.
func (i *hostInit) serve(c *wire) {
	defer c.close()
	m, files, err := c.receive()
	if err != nil {
		return
	}
	defer closeAll(files)
	switch m.Op {
	case opExec:
		i.serveExec(c, m, files)
	case opStatus:
		_ = c.send(message{Op: opDone, Services: i.services.status()})
	case opRestart:
		_ = c.send(answerOf(i.services.restart(m.Unit)))
	case opStart:
		_ = c.send(answerOf(i.services.start(m.Unit)))
	case opStop:
		_ = c.send(answerOf(i.services.stop(m.Unit)))
	case opWrite:
		_ = c.send(answerOf(writeFrom(m, files)))
	case opRead:
		i.serveRead(c, m)
	case opReboot, opPowerOff:
		_ = c.send(message{Op: opDone})
		i.shutDown(m.Op == opReboot)
	default:
		_ = c.send(failure(opDone, fmt.Errorf("init: unknown operation %q", m.Op)))
	}
}

// shutDown stops the services as a machine does and then ends the host by reboot(2), which in a PID namespace ends that namespace.
func (i *hostInit) shutDown(again bool) {
	i.services.stopAll()
	command := unix.LINUX_REBOOT_CMD_POWER_OFF
	if again {
		command = unix.LINUX_REBOOT_CMD_RESTART
	}
	// PID 1 of a namespace is what makes this safe; initMain has refused to run as anything else, and the world starts us in a new one.
	_ = unix.Reboot(command)
}

// serveExec runs a program for a client that holds the other end of c for as long as it wants the program.
func (i *hostInit) serveExec(c *wire, m message, files []*os.File) {
	p, master, err := i.programOf(m, files)
	if err != nil {
		_ = c.send(failure(opDone, err))
		return
	}
	child, err := i.keeper.start(p)
	if m.TTY {
		closeAll(p.files[:1])
	}
	closeAll(files)
	if err != nil {
		closeAll(master)
		_ = c.send(failure(opDone, err))
		return
	}
	if err := c.send(message{Op: opStarted}, master...); err != nil {
		child.signal(unix.SIGKILL)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		followClient(c, child, master)
		select {
		case <-ctx.Done(): // ended by itself; what it left behind may stay
		default:
			child.signal(unix.SIGKILL)
		}
		closeAll(master)
	}()
	<-child.done
	cancel()
	_ = c.send(message{Op: opExit, Code: child.code()})
}

// followClient passes signals and window sizes on until the client is gone.
func followClient(c *wire, child *child, master []*os.File) {
	for {
		m, files, err := c.receive()
		closeAll(files)
		if err != nil {
			return
		}
		switch m.Op {
		case opSignal:
			child.signal(syscall.Signal(m.Signal))
		case opResize:
			for _, f := range master {
				resize(f, m.Rows, m.Columns)
			}
		}
	}
}

func (i *hostInit) programOf(m message, files []*os.File) (program, []*os.File, error) {
	if len(m.Args) == 0 {
		return program{}, nil, errors.New("no program named")
	}
	var who *user
	if m.User != "" && m.User != "root" {
		if i.config.Rootless {
			return program{}, nil, noOtherUsers(m.User)
		}
		var err error
		if who, err = findUser(m.User); err != nil {
			return program{}, nil, err
		}
	}
	p := program{args: m.Args, env: append(environment(who, i.config.Mark), m.Env...), dir: m.Dir, user: who, files: files}
	if p.dir == "" {
		p.dir = variable(p.env, "HOME")
	}
	if !m.TTY {
		if len(files) != 3 {
			return program{}, nil, fmt.Errorf("%d streams came, not 3", len(files))
		}
		return p, nil, nil
	}
	master, slave, err := openTerminal(m.Rows, m.Columns)
	if err != nil {
		return program{}, nil, err
	}
	p.files, p.terminal = []*os.File{slave, slave, slave}, true
	if variable(m.Env, "TERM") == "" {
		p.env = append(p.env, "TERM=xterm")
	}
	return p, []*os.File{master}, nil
}
