package fleettest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"firedrill/internal/fleet"
	"firedrill/internal/fleet/agent"
	"firedrill/internal/fleet/client"
	"firedrill/internal/fleet/control"
)

// patience bounds how long a test waits for what must come. Nothing is asserted about how soon it comes.
const patience = 30 * time.Second

// The times of this world: as in life, but shorter.
const (
	pulse = 100 * time.Millisecond
	lead  = 2 * time.Second // hosts start a process before they answer, and two cores are busy
	leash = 2 * time.Second
)

// world is a control plane with agents, in this process.
type world struct {
	t         *testing.T
	directory string
	options   control.Options
	log       *lockedLog

	control *control.Control
	stop    func()
	admin   *client.Client
	agents  map[string]*host
}

type host struct {
	name      string
	directory string // of its impacts
	state     string // of its agent
	key       string
	proxy     *proxy
	stop      func()
}

type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func newWorld(t *testing.T, change func(*control.Options)) *world {
	t.Helper()
	w := &world{t: t, directory: filepath.Join(t.TempDir(), "fleet"), log: &lockedLog{}, agents: map[string]*host{}}
	w.options = control.Options{Directory: w.directory, Listen: "127.0.0.1:0", Limits: fleet.Limits{Percent: 50}, Log: w.logger("control"), Pulse: pulse, Lead: lead, RollCall: time.Second, Margin: 3 * time.Second}
	if change != nil {
		change(&w.options)
		w.directory = w.options.Directory
	}
	w.start()
	t.Cleanup(func() {
		for _, h := range w.agents {
			h.stop()
		}
		w.admin.Close()
		w.stop()
		if t.Failed() {
			t.Log(w.log.String())
		}
	})
	return w
}

func (w *world) logger(name string) *slog.Logger {
	return slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelInfo})).With("of", name)
}

// start starts the control plane on what is in its directory; a second time on the port of the first.
func (w *world) start() {
	w.t.Helper()
	c, err := control.Open(w.t.Context(), w.options)
	if err != nil {
		w.t.Fatal(err)
	}
	w.options.Listen = fmt.Sprintf("127.0.0.1:%d", c.Port())
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(c.Run(ctx), c.Close()) }()
	w.control = c
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
	credentials, err := client.Load(filepath.Join(w.directory, control.AdminFile))
	if err != nil {
		w.t.Fatal(err)
	}
	if w.admin, err = client.Connect(credentials); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) call(call string, asked, result any) error {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	return w.admin.Call(ctx, call, asked, result)
}

func (w *world) must(call string, asked, result any) {
	w.t.Helper()
	if err := w.call(call, asked, result); err != nil {
		w.t.Fatalf("%s: %v", call, err)
	}
}

// join lets a host in, behind a proxy that can be cut, and starts its agent.
func (w *world) join(name string, tags map[string]string, change func(*agent.Options)) *host {
	w.t.Helper()
	h := &host{name: name, directory: w.t.TempDir(), state: filepath.Join(w.t.TempDir(), "state"), proxy: newProxy(w.t, w.options.Listen)}
	var text string
	w.must("token", fleet.TokenRequest{Uses: 1}, &text)
	token, err := fleet.ParseToken(text)
	if err != nil {
		w.t.Fatal(err)
	}
	id, err := agent.Join(w.t.Context(), h.state, h.proxy.address(), token, agent.Identity{Name: name, Tags: tags})
	if err != nil {
		w.t.Fatal(err)
	}
	h.key = id.Key
	w.agents[name] = h
	w.startAgent(h, change)
	w.await("the host "+name, func() error {
		var hosts []fleet.HostView
		w.must("hosts", nil, &hosts)
		for _, seen := range hosts {
			if seen.Name == name && seen.Online && seen.Facts != nil {
				return nil
			}
		}
		return errors.New("it is not there")
	})
	return h
}

func (w *world) startAgent(h *host, change func(*agent.Options)) {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	o := agent.Options{Directory: h.state, Log: w.logger(h.name), Leash: leash, Program: []string{self, "fake", h.directory},
		Facts: func(context.Context) (fleet.Facts, error) {
			return fleet.Facts{Hostname: h.name, Kernel: "6.1.0-44-amd64", Version: "0.9.0", Leash: 15, Kinds: []string{"cpu", "io"}, Pods: "containerd 1.6.20 on /run/containerd/containerd.sock"}, nil
		},
		Running: func(context.Context) ([]fleet.Running, error) {
			var all []fleet.Running
			for _, path := range impacts(h.directory) {
				all = append(all, fleet.Running{Order: strings.TrimPrefix(filepath.Base(path), "impact-"), Kind: "cpu"})
			}
			return all, nil
		}}
	if change != nil {
		change(&o)
	}
	var a *agent.Agent
	// What another test starts at this moment holds all files that are open here, and so the lock of an agent that was just stopped, until it is another program.
	w.await("the agent of "+h.name, func() (err error) {
		a, err = agent.Open(o)
		return err
	})
	ctx, cancel := context.WithCancel(context.WithoutCancel(w.t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	})
}

// await waits until something is so.
func (w *world) await(what string, so func() error) {
	w.t.Helper()
	if err := awaited(so, patience); err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
}

func awaited(so func() error, most time.Duration) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var err error
	for end := time.Now().Add(most); time.Now().Before(end); <-tick.C {
		if err = so(); err == nil {
			return nil
		}
	}
	return err
}

func (h *host) hit() bool { return len(impacts(h.directory)) > 0 }

func (h *host) inForce() error {
	if !h.hit() {
		return errors.New("nothing is in force")
	}
	return nil
}

func (h *host) whole() error {
	if h.hit() {
		return errors.New("something is in force")
	}
	return nil
}

// attack asks for a run on the hosts with the names.
func (w *world) attack(kind, length string, names ...string) (fleet.Run, error) {
	var run fleet.Run
	err := w.call("attack", fleet.AttackRequest{Selector: fleet.Selector{Names: names, Seed: 1}, Kind: kind, Args: []string{"-l", length}}, &run)
	return run, err
}

func (w *world) mustAttack(kind, length string, names ...string) fleet.Run {
	w.t.Helper()
	var run fleet.Run
	w.await("an attack", func() (err error) {
		run, err = w.attack(kind, length, names...)
		if err != nil && !strings.Contains(err.Error(), "it did not answer in time") { // a busy machine; nothing has begun
			w.t.Fatalf("attack: %v", err)
		}
		return err
	})
	return run
}

// ended waits for the end of a run.
func (w *world) ended(id string) fleet.Run {
	w.t.Helper()
	var run fleet.Run
	w.await("the end of run "+id, func() error {
		w.must("run", id, &run)
		if !run.Done() {
			return fmt.Errorf("it is %s: %+v", run.State, run.Hosts)
		}
		return nil
	})
	return run
}

// proxy stands between an agent and the control plane, and can be cut as a network is: what is sent is lost, and nobody is told.
type proxy struct {
	listener net.Listener
	target   string
	mu       sync.Mutex // guards the fields below
	cut      bool
	healed   *sync.Cond
	open     []net.Conn
	opened   int // connections so far
	stranded int // of them, those that are dead and do not know it
}

func newProxy(t *testing.T, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, target: target}
	p.healed = sync.NewCond(&p.mu)
	t.Cleanup(func() { _ = listener.Close(); p.set(false) })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target) //nolint:noctx // a test
			if err != nil {
				_ = near.Close()
				continue
			}
			p.mu.Lock()
			p.opened++
			p.open = append(p.open, near, far)
			number := p.opened
			p.mu.Unlock()
			go p.carry(near, far, number)
			go p.carry(far, near, number)
		}
	}()
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

func (p *proxy) set(cut bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut = cut
	p.healed.Broadcast()
}

// drop ends everything that is open; new connections pass.
func (p *proxy) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.open {
		_ = conn.Close()
	}
	p.open = nil
}

// strand lets everything that is open die without a word, as when a firewall between forgets it; new connections pass.
func (p *proxy) strand() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stranded = p.opened
}

// carry holds what comes while the way is cut, as a network does with what is sent again and again.
func (p *proxy) carry(from, to net.Conn, number int) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		p.mu.Lock()
		for p.cut {
			p.healed.Wait()
		}
		dead := number <= p.stranded
		p.mu.Unlock()
		if n > 0 && !dead {
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
