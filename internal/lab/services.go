package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
)

// How a service that ends is started again, and how long one may take to stop.
const (
	backOffMin  = 100 * time.Millisecond
	backOffMax  = 5 * time.Second
	backOffGood = 10 * time.Second // after this long alive the next back-off starts small again
	stopWait    = 5 * time.Second  // between SIGTERM and SIGKILL
)

// The states of a service.
const (
	stateActive     = "active"
	stateInactive   = "inactive"
	stateFailed     = "failed"
	stateRestarting = "activating"
)

// supervisor keeps the services of a host running.
type supervisor struct {
	keeper   *keeper
	mark     string
	names    []string
	services map[string]*service
}

type service struct {
	supervisor *supervisor
	config     Service
	orders     sync.Mutex // one start, stop or restart at a time

	mu       sync.Mutex // guards the fields below
	child    *child
	state    string
	since    time.Time
	exit     string
	restarts int
	backOff  time.Duration
	life     int // counts starts and stops by order: a restart that was due before one is void
}

func newSupervisor(k *keeper, mark string, services []Service) *supervisor {
	s := &supervisor{keeper: k, mark: mark, services: map[string]*service{}}
	for _, c := range services {
		s.names = append(s.names, c.Name)
		s.services[c.Name] = &service{supervisor: s, config: c, state: stateInactive, since: time.Now(), backOff: backOffMin}
	}
	return s
}

// find accepts the name with ".service" too.
func (s *supervisor) find(unit string) (*service, error) {
	if service, ok := s.services[strings.TrimSuffix(unit, ".service")]; ok {
		return service, nil
	}
	return nil, &drill.Error{Kind: drill.Invalid, Err: fmt.Errorf("no service %q on this host", unit), Hint: drill.Suggest(unit, s.names)}
}

// boot starts the services that are enabled. One that cannot start is tried again: it must not keep the host from coming up.
func (s *supervisor) boot() {
	for _, name := range s.names {
		v := s.services[name]
		if v.config.Disabled {
			continue
		}
		v.mu.Lock()
		v.life++
		v.runOrRetry()
		v.mu.Unlock()
	}
}

// start starts a service unless it runs. It returns when its program runs, not when that is ready.
func (s *supervisor) start(unit string) error {
	v, err := s.find(unit)
	if err != nil {
		return err
	}
	v.orders.Lock()
	defer v.orders.Unlock()
	return v.begin()
}

// stop stops a service and returns when its program has ended.
func (s *supervisor) stop(unit string) error {
	v, err := s.find(unit)
	if err != nil {
		return err
	}
	v.orders.Lock()
	defer v.orders.Unlock()
	v.end()
	return nil
}

// restart stops a service and starts it again.
func (s *supervisor) restart(unit string) error {
	v, err := s.find(unit)
	if err != nil {
		return err
	}
	v.orders.Lock()
	defer v.orders.Unlock()
	v.end()
	return v.begin()
}

// stopAll stops all services at the same time, before the host goes down.
func (s *supervisor) stopAll() {
	var wait sync.WaitGroup
	for _, name := range s.names {
		wait.Go(func() { _ = s.stop(name) }) // its only error is an unknown name
	}
	wait.Wait()
}

func (s *supervisor) status() []ServiceStatus {
	all := make([]ServiceStatus, 0, len(s.names))
	for _, name := range s.names {
		all = append(all, s.services[name].status())
	}
	return all
}

func (v *service) status() ServiceStatus {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := ServiceStatus{Name: v.config.Name, State: v.state, Since: v.since, Restarts: v.restarts, Exit: v.exit}
	if v.child != nil {
		s.PID = v.child.pid
	}
	return s
}

func (v *service) begin() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.child != nil {
		return nil
	}
	v.life++
	v.backOff = backOffMin
	return v.run()
}

// run starts the program; it needs mu.
func (v *service) run() error {
	log, err := os.OpenFile(filepath.Join("/var/log", v.config.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	defer func() { _ = log.Close() }()
	null, err := os.Open(os.DevNull)
	if err != nil {
		return fmt.Errorf("log: %w", err)
	}
	defer func() { _ = null.Close() }()
	p := program{executable: "/bin/sh", args: []string{"sh", "-c", shellLine(v.config.Run)}, dir: v.config.Directory, files: []*os.File{null, log, log}}
	if p.dir == "" {
		p.dir = "/"
	}
	if v.config.User != "" && v.config.User != "root" {
		if p.user, err = findUser(v.config.User); err != nil {
			return v.broken(log, err)
		}
	}
	p.env = environment(p.user, v.supervisor.mark)
	for name, value := range v.config.Env {
		p.env = append(p.env, name+"="+value)
	}
	c, err := v.supervisor.keeper.start(p)
	if err != nil {
		return v.broken(log, err)
	}
	v.child = c
	v.setState(stateActive)
	go v.follow(c, v.life, time.Now())
	return nil
}

// broken notes that the program could not be started at all.
func (v *service) broken(log *os.File, err error) error {
	fmt.Fprintf(log, "init: %v\n", err)
	v.exit = err.Error()
	v.setState(stateFailed)
	return err
}

// shellMeta are the characters that mean that a line is more than one program with its arguments.
const shellMeta = "|&;<>()\n`"

// shellLine lets the shell become a simple program, so that signals reach that and not a shell before it.
func shellLine(line string) string {
	if strings.ContainsAny(line, shellMeta) || strings.HasPrefix(strings.TrimSpace(line), "exec ") || assignsFirst(line) {
		return line
	}
	return "exec " + line
}

// assignsFirst tells whether a line starts with NAME=value, which `exec` would take for a program.
func assignsFirst(line string) bool {
	first, _, _ := strings.Cut(strings.TrimSpace(line), " ")
	return strings.Contains(first, "=")
}

// follow waits for the end of the program and starts it again if the service is to stay.
func (v *service) follow(c *child, life int, started time.Time) {
	<-c.done
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.child == c {
		v.child = nil
	}
	v.exit = c.ending()
	if v.life != life {
		return // stopped by order
	}
	c.signal(unix.SIGKILL) // what it left behind in its process group would stand in the way of its successor
	if v.config.Restart == RestartNever {
		state := stateFailed
		if !c.status.Signaled() && c.status.ExitStatus() == 0 {
			state = stateInactive
		}
		v.setState(state)
		return
	}
	if time.Since(started) >= backOffGood {
		v.backOff = backOffMin
	}
	v.setState(stateRestarting)
	time.AfterFunc(v.backOff, func() { v.again(life) })
	v.backOff = min(2*v.backOff, backOffMax)
}

func (v *service) again(life int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.life != life || v.child != nil {
		return
	}
	v.restarts++
	v.runOrRetry()
}

// runOrRetry is run for when nobody is there to read the error; it needs mu.
func (v *service) runOrRetry() {
	if err := v.run(); err != nil && v.config.Restart != RestartNever {
		// What cannot start may start later: a deployment has yet to make its directory, say.
		life := v.life
		v.setState(stateRestarting)
		time.AfterFunc(v.backOff, func() { v.again(life) })
		v.backOff = min(2*v.backOff, backOffMax)
	}
}

// end stops the program, and with it what its process group holds.
func (v *service) end() {
	v.mu.Lock()
	v.life++
	c := v.child
	v.mu.Unlock()
	if c != nil {
		c.signal(unix.SIGTERM)
		timer := time.NewTimer(stopWait)
		defer timer.Stop()
		select {
		case <-c.done:
		case <-timer.C:
		}
		c.signal(unix.SIGKILL)
		<-c.done
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.child = nil
	v.setState(stateInactive)
}

// setState needs mu.
func (v *service) setState(s string) {
	if v.state != s {
		v.state, v.since = s, time.Now()
	}
}
