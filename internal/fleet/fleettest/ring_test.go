package fleettest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"firedrill/internal/durable"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/agent"
	"firedrill/internal/fleet/client"
	"firedrill/internal/fleet/control"
	"firedrill/internal/history"
	"firedrill/internal/tether"
)

// The times of a ring. The engine takes four to nine seconds to choose anew, whatever we say, and longer on a busy machine: a host holds on for much
// longer than that.
const (
	ringLease = 2 * time.Second
	ringLeash = 2 * time.Minute
)

// roles are what this binary may be as a process of its own, which can be killed as a power cut does it.
var roles = map[string]func(ctx context.Context, config []byte) error{"lead": asServer, "hold": asAgent, "keep": asEngine}

// inRole plays a role until it is told to end.
func inRole(role func(context.Context, []byte) error, config string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := role(ctx, []byte(config)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// serverConfig is a server of a ring.
type serverConfig struct {
	Directory, Listen, Name, ClusterListen string
	Peers, NATS                            []string
	Stubborn, Unfenced, Leaderless         bool
	Conducts, Abandoning, Patient          bool
	Fast                                   time.Time // since when its schedule goes faster; zero: it does not
}

func asServer(ctx context.Context, text []byte) error {
	var config serverConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	o := control.Options{Directory: config.Directory, Listen: config.Listen, Advertise: config.Listen, Name: config.Name,
		Cluster: control.Cluster{Listen: config.ClusterListen, Peers: config.Peers}, External: control.External{URLs: config.NATS},
		Limits: fleet.Limits{Percent: 50}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Lease: ringLease, Pulse: pulse, Lead: lead, RollCall: time.Second, Margin: 3 * time.Second,
		Stubborn: config.Stubborn, Unfenced: config.Unfenced, Leaderless: config.Leaderless, Abandoning: config.Abandoning}
	if config.Patient { // hosts that are slow are waited for
		o.RollCall, o.Lead = patience, 5*lead
	}
	if config.Conducts {
		// Hosts that are slow are waited for: what is tried here is not begun a second time because a machine is busy.
		o.Conductor, o.RollCall, o.Lead, o.Lease = stagehand{}, patience, 5*lead, 5*ringLease
	}
	if !config.Fast.IsZero() {
		o.Clock = func() time.Time { return fast(config.Fast) }
	}
	c, err := control.Open(ctx, o)
	if err != nil {
		return err
	}
	return errors.Join(c.Run(ctx), c.Close())
}

// fast is a clock that goes faster than others since a moment, so that a minute of the schedule is not a minute of the test.
func fast(since time.Time) time.Time { return since.Add(20 * time.Since(since)) }

// agentConfig is an agent of a ring.
type agentConfig struct {
	Directory, State, Name string
	Termless               bool
}

func asAgent(ctx context.Context, text []byte) error {
	var config agentConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	a, err := agent.Open(agent.Options{Directory: config.State, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Leash: ringLeash, Program: []string{"/proc/self/exe", "fake", config.Directory}, Termless: config.Termless,
		Facts: func(context.Context) (fleet.Facts, error) {
			return fleet.Facts{Hostname: config.Name, Kinds: []string{"cpu"}}, nil
		},
		Running: func(context.Context) ([]fleet.Running, error) {
			var all []fleet.Running
			for _, path := range impacts(config.Directory) {
				all = append(all, fleet.Running{Order: strings.TrimPrefix(filepath.Base(path), "impact-"), Kind: "cpu"})
			}
			return all, nil
		}})
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// engineConfig is a NATS server that others run.
type engineConfig struct {
	Directory, Name, Host string
	Port, Cluster         int
	Routes                []string
}

func asEngine(ctx context.Context, text []byte) error {
	var config engineConfig
	if err := json.Unmarshal(text, &config); err != nil {
		return err
	}
	options := &server.Options{ServerName: config.Name, Host: config.Host, Port: config.Port, JetStream: true, StoreDir: config.Directory, NoSigs: true, SyncAlways: true}
	if len(config.Routes) > 0 {
		options.Cluster = server.ClusterOpts{Name: "others", Host: config.Host, Port: config.Cluster}
		for _, route := range config.Routes {
			options.Routes = append(options.Routes, &url.URL{Scheme: "nats-route", Host: route})
		}
	}
	engine, err := server.NewServer(options)
	if err != nil {
		return err
	}
	engine.ConfigureLogger()
	engine.Start()
	<-ctx.Done()
	engine.Shutdown()
	engine.WaitForShutdown()
	return nil
}

// part is a process of a ring.
type part struct {
	t      *testing.T
	name   string
	role   string
	config any
	log    string

	command *exec.Cmd
	ended   func() error
}

func (p *part) start() {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := json.Marshal(p.config)
	if err != nil {
		p.t.Fatal(err)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	p.command = exec.Command(self, p.role, string(text)) //nolint:noctx // killed, not cancelled
	p.command.Stdout, p.command.Stderr = log, log
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.ended, err = tether.Start(p.command); err != nil {
		p.t.Fatal(err)
	}
}

func (p *part) signal(with syscall.Signal) { _ = p.command.Process.Signal(with) }

// kill ends it as a power cut would.
func (p *part) kill() {
	p.signal(syscall.SIGKILL)
	_ = p.ended()
}

// ring is a fleet whose parts are processes of their own.
type ring struct {
	t         *testing.T
	directory string
	host      string // an address that no other test has
	servers   []*part
	engines   []*part
	agents    []*part
	admin     *client.Client
	all       string // where the servers are
}

var rings atomic.Int32

// newRing makes a ring, and starts its servers. The loopback network is wide: each process that tests has addresses of its own, so that ports need not be
// looked for.
func newRing(t *testing.T, servers, engines int, change func(*serverConfig)) *ring {
	t.Helper()
	number, pid := int(rings.Add(1)), os.Getpid()
	r := &ring{t: t, directory: t.TempDir(), host: fmt.Sprintf("127.%d.%d.%d", 64+number%64, pid>>8&0xff, max(1, min(254, pid&0xff)))}
	base := 10_000 + pid>>16*100
	t.Cleanup(r.close)
	var routes, urls []string
	for i := range engines {
		routes = append(routes, fmt.Sprintf("%s:%d", r.host, base+40+i))
		urls = append(urls, fmt.Sprintf("nats://%s:%d", r.host, base+20+i))
	}
	for i := range engines {
		name := fmt.Sprintf("nats%d", i)
		config := engineConfig{Directory: filepath.Join(r.directory, name), Name: name, Host: r.host, Port: base + 20 + i, Cluster: base + 40 + i}
		if engines > 1 {
			config.Routes = routes
		}
		r.engines = append(r.engines, r.part(name, "keep", config))
	}
	var peers, listens []string
	for i := range servers {
		peers = append(peers, fmt.Sprintf("%s:%d", r.host, base+60+i))
		listens = append(listens, fmt.Sprintf("%s:%d", r.host, base+i))
	}
	r.all = strings.Join(listens, ",")
	for i := range servers {
		name := fmt.Sprintf("control%d", i)
		config := serverConfig{Directory: filepath.Join(r.directory, name), Listen: listens[i], Name: name, NATS: urls}
		if engines == 0 {
			config.ClusterListen, config.Peers = peers[i], peers
		}
		if change != nil {
			change(&config)
		}
		r.servers = append(r.servers, r.part(name, "lead", config))
	}
	for _, p := range r.engines {
		p.start()
	}
	// The first one makes the identity; the others are given it.
	r.servers[0].start()
	identity := func(i int) string { return filepath.Join(r.directory, fmt.Sprintf("control%d", i), "identity.json") }
	r.await("the identity", func() error { _, err := os.Stat(identity(0)); return err })
	text, err := os.ReadFile(identity(0))
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range r.servers[1:] {
		if err := errors.Join(os.MkdirAll(filepath.Dir(identity(i+1)), 0o700), os.WriteFile(identity(i+1), text, 0o600)); err != nil {
			t.Fatal(err)
		}
		p.start()
	}
	r.connect()
	r.await("all servers", func() error {
		var all []fleet.Server
		if err := r.try("servers", nil, &all); err != nil || len(all) < servers {
			return fmt.Errorf("%d are there: %w", len(all), err)
		}
		return nil
	})
	return r
}

func (r *ring) part(name, role string, config any) *part {
	return &part{t: r.t, name: name, role: role, config: config, log: filepath.Join(r.directory, name+".log")}
}

// connect logs in as the first admin, at whichever server answers.
func (r *ring) connect() {
	r.t.Helper()
	r.await("an admin", func() error {
		found, _ := filepath.Glob(filepath.Join(r.directory, "control*", control.AdminFile))
		if len(found) == 0 {
			return errors.New("there is none yet")
		}
		credentials, err := client.Load(found[0])
		if err != nil {
			return err
		}
		credentials.Address = r.all
		admin, err := client.Connect(credentials)
		if err != nil {
			return err
		}
		if r.admin != nil {
			r.admin.Close()
		}
		r.admin = admin
		return r.try("lever", nil, nil)
	})
}

func (r *ring) close() {
	if r.admin != nil {
		r.admin.Close()
	}
	for _, p := range slices.Concat(r.agents, r.servers, r.engines) {
		if p.command != nil {
			p.signal(syscall.SIGCONT)
			p.kill()
		}
	}
	if !r.t.Failed() {
		return
	}
	for _, p := range slices.Concat(r.servers, r.agents, r.engines) {
		text, _ := os.ReadFile(p.log)
		text = slices.Concat(slices.DeleteFunc(bytes.SplitAfter(text, []byte("\n")), func(line []byte) bool { return bytes.Contains(line, []byte("Error trying to connect to route")) })...)
		r.t.Logf("%s:\n%s", p.name, text[max(0, len(text)-6000):])
	}
}

func (r *ring) await(what string, so func() error) {
	r.t.Helper()
	if err := awaited(so, 3*patience); err != nil {
		r.t.Fatalf("%s: %v", what, err)
	}
}

// try asks whichever server answers, once.
func (r *ring) try(call string, asked, result any) error {
	return r.within(8*time.Second, call, asked, result)
}

func (r *ring) within(most time.Duration, call string, asked, result any) error {
	ctx, cancel := context.WithTimeout(r.t.Context(), most)
	defer cancel()
	return r.admin.Call(ctx, call, asked, result)
}

// ask asks until it is answered: a server that goes down takes questions with it.
func (r *ring) ask(call string, asked, result any) {
	r.t.Helper()
	r.await(call, func() error {
		err := r.try(call, asked, result)
		if err != nil {
			if again, failed := client.Connect(r.credentials()); failed == nil {
				r.admin.Close()
				r.admin = again
			}
		}
		return err
	})
}

func (r *ring) credentials() fleet.Credentials {
	found, _ := filepath.Glob(filepath.Join(r.directory, "control*", control.AdminFile))
	if len(found) == 0 {
		return fleet.Credentials{}
	}
	credentials, _ := client.Load(found[0])
	credentials.Address = r.all
	return credentials
}

// join lets a host in and starts its agent.
func (r *ring) join(name string, tags map[string]string, termless bool) *part {
	r.t.Helper()
	config := agentConfig{Directory: filepath.Join(r.directory, name+"-host"), State: filepath.Join(r.directory, name+"-state"), Name: name, Termless: termless}
	if err := os.MkdirAll(config.Directory, 0o700); err != nil {
		r.t.Fatal(err)
	}
	r.await("a place for "+name, func() error {
		var text string
		if err := r.try("token", fleet.TokenRequest{Uses: 1}, &text); err != nil {
			return err
		}
		token, err := fleet.ParseToken(text)
		if err != nil {
			return err
		}
		_, err = agent.Join(r.t.Context(), config.State, r.all, token, agent.Identity{Name: name, Tags: tags})
		return err
	})
	p := r.part(name, "hold", config)
	r.agents = append(r.agents, p)
	p.start()
	return p
}

// online waits until all hosts are there for the server that leads.
func (r *ring) online() {
	r.t.Helper()
	r.await("the hosts", func() error {
		var hosts []fleet.HostView
		if err := r.try("hosts", nil, &hosts); err != nil {
			return err
		}
		for _, h := range hosts {
			if !h.Online || h.Facts == nil {
				return fmt.Errorf("%s is not there", h.Name)
			}
		}
		return nil
	})
}

// leader is the server that leads.
func (r *ring) leader() *part {
	r.t.Helper()
	var found *part
	r.await("a leader", func() error {
		var all []fleet.Server
		if err := r.try("servers", nil, &all); err != nil {
			r.connect()
			return err
		}
		for _, one := range all {
			if one.Leads {
				found = r.servers[slices.IndexFunc(r.servers, func(p *part) bool { return p.name == one.Name })]
				return nil
			}
		}
		return errors.New("nobody leads")
	})
	return found
}

// attack begins a run on hosts, at the first try that is not refused for the time being.
func (r *ring) attack(length string, names ...string) fleet.Run {
	r.t.Helper()
	var run fleet.Run
	r.await("a run", func() error {
		return r.within(patience, "attack", fleet.AttackRequest{Selector: fleet.Selector{Names: names, Seed: 1}, Kind: "cpu", Args: []string{"-l", length}}, &run)
	})
	return run
}

func (r *ring) ended(id string) fleet.Run {
	r.t.Helper()
	var run fleet.Run
	r.await("the end of run "+id, func() error {
		if err := r.try("run", id, &run); err != nil {
			r.connect()
			return err
		}
		if !run.Done() {
			return fmt.Errorf("it is %s: %+v", run.State, run.Hosts)
		}
		return nil
	})
	return run
}

func hostOf(p *part) string { return p.config.(agentConfig).Directory } //nolint:forcetypeassert // of an agent

// deeds are what a host really did.
func deeds(directory string) ([]deed, error) {
	text, err := os.ReadFile(filepath.Join(directory, deedsFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var all []deed
	for decoder := json.NewDecoder(bytes.NewReader(text)); decoder.More(); {
		var d deed
		if err := decoder.Decode(&d); err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// wrongOf lists what must never happen, out of what the hosts really did and what is kept of it: an order that was carried out twice or past its run's
// deadline; a deed of which no run is kept; two runs on one service at the same time; a run without an end; a journal or an audit log that is not whole.
// With lateness a host may be slower than its deadline by as much as a busy machine is.
func (r *ring) wrongOf(runs []fleet.Run, lateness time.Duration) []string {
	r.t.Helper()
	var found []string
	say := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }
	of := map[string]fleet.Run{}
	for _, run := range runs {
		if !run.Done() {
			say("run %s has no end: %s", run.ID, run.State)
		}
		for _, host := range run.Hosts {
			of[host.Order] = run
			if host.State == fleet.HostLost || host.State == fleet.HostEnded && host.Lines > 0 && host.Chain != "whole" || !host.Reverted {
				say("run %s (%s): the account of %s is %+v", run.ID, run.Reason, host.Name, host)
			}
		}
	}
	type span struct {
		run      string
		from, to time.Time
	}
	spans := map[string][]span{}
	for _, p := range r.agents {
		all, err := deeds(hostOf(p))
		if err != nil {
			say("%s: %v", p.name, err)
		}
		began := map[string]time.Time{}
		for _, d := range all {
			run, known := of[d.Order]
			switch {
			case !known:
				say("%s: order %s was carried out, and no run knows of it", p.name, d.Order)
			case d.Begins && !began[d.Order].IsZero():
				say("%s: order %s was carried out twice", p.name, d.Order)
			case d.Begins:
				began[d.Order] = d.At
			default:
				if d.At.After(run.Deadline.Add(lateness)) {
					say("%s: order %s ended %s after its deadline", p.name, d.Order, d.At.Sub(run.Deadline))
				}
				for _, service := range run.Services {
					spans[service] = append(spans[service], span{run: run.ID, from: began[d.Order], to: d.At})
				}
			}
		}
	}
	for service, all := range spans {
		slices.SortFunc(all, func(a, b span) int { return cmp.Compare(a.from.UnixNano(), b.from.UnixNano()) })
		for i := range all[:max(0, len(all)-1)] {
			for _, later := range all[i+1:] {
				if later.run != all[i].run && later.from.Before(all[i].to) {
					say("%s: runs %s and %s were in force at the same time", service, all[i].run, later.run)
				}
			}
		}
	}
	return append(found, r.brokenAudit()...)
}

// brokenAudit lists audit logs whose chain is not whole.
func (r *ring) brokenAudit() []string {
	logs, _ := filepath.Glob(filepath.Join(r.directory, "control*", "audit", "*.jsonl"))
	var found []string
	for _, path := range logs {
		text, err := os.ReadFile(path)
		if err == nil {
			_, err = history.Read(bytes.NewReader(text))
		}
		if err != nil && len(text) > 0 {
			found = append(found, fmt.Sprintf("%s: %v", path, err))
		}
	}
	return found
}

// auditedByAll waits until each server tells every line that any of them wrote, once, in the same order, and proves it.
func (r *ring) auditedByAll() {
	r.t.Helper()
	credentials := r.credentials()
	r.await("one audit log of all servers", func() error {
		var written []string
		logs, _ := filepath.Glob(filepath.Join(r.directory, "control*", "audit", "*.jsonl"))
		for _, path := range logs {
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			events, err := history.Read(bytes.NewReader(text))
			if err != nil && !errors.Is(err, history.ErrTorn) {
				return err
			}
			for _, event := range events {
				written = append(written, fmt.Sprintf("%s %s", event.At.Format(time.RFC3339Nano), event.Fact.(*history.Note).Text)) //nolint:forcetypeassert // there is nothing else
			}
		}
		slices.Sort(written)
		var first []string
		for _, p := range r.servers {
			asked := credentials
			asked.Address = p.config.(serverConfig).Listen //nolint:forcetypeassert // of a server
			c, err := client.Connect(asked)
			if err != nil {
				return err
			}
			told, err := auditOf(r.t.Context(), c)
			c.Close()
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			if first == nil {
				first = slices.Clone(told)
			}
			if !slices.Equal(told, first) {
				return fmt.Errorf("%s tells it otherwise than %s", p.name, r.servers[0].name)
			}
			if slices.Sort(told); !slices.Equal(told, written) {
				return fmt.Errorf("%s tells %d lines, and %d were written", p.name, len(told), len(written))
			}
		}
		return nil
	})
}

// auditOf is the whole audit log as a server tells it, if it is proven.
func auditOf(ctx context.Context, c *client.Client) (told []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	place := ""
	for {
		var page fleet.AuditPage
		if err := c.Call(ctx, "audit", fleet.AuditRequest{From: place, Count: 50}, &page); err != nil {
			return nil, err
		}
		if page.Problem != "" {
			return nil, errors.New(page.Problem)
		}
		for _, line := range page.Lines {
			told = append(told, fmt.Sprintf("%s %s%s", line.At.Format(time.RFC3339Nano), line.Text, line.Broken))
		}
		if place = page.Next; place == "" {
			break
		}
	}
	var proof fleet.AuditProof
	if err := c.Call(ctx, "auditproof", nil, &proof); err != nil {
		return nil, err
	}
	if len(proof.Problems) > 0 {
		return nil, errors.New(strings.Join(proof.Problems, "\n"))
	}
	return told, nil
}

func (r *ring) mustBeRight() {
	r.t.Helper()
	// The server that answers may hear a moment later of what another one has written.
	if err := awaited(func() error {
		var runs []fleet.Run
		r.ask("runs", nil, &runs)
		if wrong := r.wrongOf(runs, 2*time.Second); len(wrong) > 0 {
			return errors.New(strings.Join(wrong, "\n"))
		}
		return nil
	}, patience); err != nil {
		r.t.Error(err)
	}
}

// saved reads a file of ours.
func saved[T any](t *testing.T, path string) T {
	t.Helper()
	var value T
	if err := durable.Load(path, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// goesOn kills the server that leads while a run is in force, and says what became of it and how long it was until another one led.
func (r *ring) goesOn() (run fleet.Run, gap time.Duration) {
	r.t.Helper()
	a := r.join("web1", web(), false)
	for _, name := range []string{"web2", "web3", "web4"} {
		r.join(name, web(), false)
	}
	r.online()
	run = r.attack("300", "web1")
	r.await("the impact", func() error { return (&host{directory: hostOf(a)}).inForce() })
	old := r.leader()
	old.kill()
	killed := time.Now()
	r.connect()
	// That another one leads is when it orders: here another service, whose permit is free.
	r.await("another leader", func() error {
		var all []fleet.Server
		err := r.within(time.Second, "servers", nil, &all)
		if err == nil && !slices.ContainsFunc(all, func(s fleet.Server) bool { return s.Leads && s.Name != old.name }) {
			err = errors.New("nobody else leads")
		}
		if err == nil {
			err = r.within(time.Second, "token", fleet.TokenRequest{Uses: 1}, nil)
		}
		return err
	})
	gap = time.Since(killed)
	if err := (&host{directory: hostOf(a)}).inForce(); err != nil {
		r.t.Errorf("the run did not go on: %v", err)
	}
	// The permit is still its.
	r.await("the refusal", func() error {
		err := r.try("attack", fleet.AttackRequest{Selector: fleet.Selector{Names: []string{"web2"}, Seed: 1}, Kind: "cpu", Args: []string{"-l", "1"}}, nil)
		switch {
		case err == nil:
			r.t.Error("a permit was handed out twice")
		case !strings.Contains(err.Error(), "holds the permit"):
			return err // the engine may not have chosen yet who keeps the permits
		}
		return nil
	})
	r.ask("stop", run.ID, nil)
	run = r.ended(run.ID)
	old.start()
	return run, gap
}

func TestARunGoesOnWhenTheServerThatLeadsIsKilled(t *testing.T) {
	t.Parallel()
	r := newRing(t, 3, 0, nil)
	run, gap := r.goesOn()
	t.Logf("another server led %s after the kill", gap.Round(10*time.Millisecond))
	// On a busy machine a leader may lose its lease, and it or another one takes over once more.
	if len(run.Takeovers) == 0 || slices.ContainsFunc(run.Takeovers, func(one fleet.Takeover) bool { return one.What != "it goes on" }) {
		t.Errorf("the record says %+v", run.Takeovers)
	}
	if h := run.Hosts[0]; h.State != fleet.HostEnded || !h.Reverted || h.Chain != "whole" {
		t.Errorf("the account is %+v", h)
	}
	r.mustBeRight()
	r.auditedByAll()
}

// What a server that led alone has in force is not hurt by moving what it keeps: the host goes on, and the server gets its account where everything lies now.
func TestARunGoesOnWhileWhatOneServerKeepsIsMoved(t *testing.T) {
	t.Parallel()
	var urls []string
	r := newRing(t, 1, 1, func(config *serverConfig) { urls, config.NATS, config.Patient = config.NATS, nil, true })
	a := r.join("web1", web(), false)
	for _, name := range []string{"web2", "web3", "web4"} {
		r.join(name, web(), false)
	}
	r.online()
	run := r.attack("300", "web1")
	inForce := (&host{directory: hostOf(a)}).inForce
	r.await("the impact", inForce)
	alone := r.servers[0]
	alone.kill()
	config := alone.config.(serverConfig) //nolint:forcetypeassert // of a server
	if _, err := control.Move(t.Context(), control.Options{Directory: config.Directory, Name: config.Name, External: control.External{URLs: urls}, Log: slog.New(slog.DiscardHandler)}, nil); err != nil {
		t.Fatal(err)
	}
	if err := inForce(); err != nil {
		t.Errorf("the run did not go on: %v", err)
	}
	config.NATS = urls
	alone.config = config
	alone.start()
	r.connect()
	r.online()
	r.await("the refusal", func() error {
		err := r.try("attack", fleet.AttackRequest{Selector: fleet.Selector{Names: []string{"web2"}, Seed: 1}, Kind: "cpu", Args: []string{"-l", "1"}}, nil)
		switch {
		case err == nil:
			t.Error("a permit was handed out twice")
		case !strings.Contains(err.Error(), "holds the permit"):
			return err
		}
		return nil
	})
	r.ask("stop", run.ID, nil)
	run = r.ended(run.ID)
	if h := run.Hosts[0]; h.State != fleet.HostEnded || !h.Bit || !h.Reverted || h.Chain != "whole" || len(run.Takeovers) == 0 {
		t.Errorf("the account is %+v, taken over: %+v", h, run.Takeovers)
	}
	r.mustBeRight()
}
