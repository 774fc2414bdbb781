package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/probe"
)

const failoverName = "bookstore.example.test"

// bookstore is the service of the article, with one host in each environment.
func bookstore() drill.Service {
	host := func(name, address string) []drill.Host {
		return []drill.Host{{Name: name, Address: netip.MustParseAddr(address)}}
	}
	connectivity := func(name string) drill.Metric {
		return drill.Metric{Name: name + "-connectivity", Connect: name, Every: seconds(1), Timeout: seconds(.5)}
	}
	failed := func(name string) drill.Alarm {
		return drill.Alarm{
			Name: "{host}-" + name + "-connectivity-failed", Metric: name + "-connectivity", Average: "< 1", Period: seconds(5),
			Datapoints: drill.Datapoints{M: 2, N: 2}, Missing: "missing",
		}
	}
	return drill.Service{
		Name: "bookstore",
		Environments: []drill.Environment{
			{Name: "blue", Hosts: host("bookstore-api-blue", "10.77.1.10")},
			{Name: "green", Hosts: host("bookstore-api-green", "10.77.1.20")},
		},
		Dependencies: []drill.Dependency{{Name: "db", Address: "db.bookstore.example.test:5432"}, {Name: "cdn", Address: "cdn.bookstore.example.test:80"}},
		Metrics:      []drill.Metric{connectivity("db"), connectivity("cdn"), {Name: "status-check", Heartbeat: true, Every: seconds(1)}},
		Alarms: []drill.Alarm{failed("db"), failed("cdn"), {
			Name: "{host}-StatusCheckFailed", Metric: "status-check", Period: seconds(1), Datapoints: drill.Datapoints{M: 3, N: 3}, Missing: "breaching",
		}},
		Failover: []drill.Failover{{
			Name: failoverName, Primary: "blue", Secondary: "green", Failback: "manual",
			UnhealthyWhen: []string{"{host}-StatusCheckFailed", "{host}-db-connectivity-failed", "{host}-cdn-connectivity-failed"},
		}},
	}
}

func seconds(n float64) drill.Seconds { return drill.Seconds(n * float64(time.Second)) }

// fleet is a set of hosts that can die and come back. It implements SourceStarter.
type fleet struct {
	mu    sync.Mutex // guards the fields below, also those of the hosts
	hosts map[string]*fakeHost
}

type fakeHost struct {
	down  bool
	boot  int             // grows with each boot
	cut   map[string]bool // probes that fail
	skew  time.Duration   // of the host's clock
	loud  bool            // connections break with an error when it dies; else they fall silent
	stuck bool            // events wait and are delivered when it is over
}

func newFleet() *fleet { return &fleet{hosts: map[string]*fakeHost{}} }

// set changes a host.
func (f *fleet) set(name string, change func(*fakeHost)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f.get(name))
}

func (f *fleet) get(name string) *fakeHost {
	if f.hosts[name] == nil {
		f.hosts[name] = &fakeHost{boot: 1, cut: map[string]bool{}}
	}
	return f.hosts[name]
}

func (f *fleet) snapshot(name string) fakeHost {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := *f.get(name)
	h.cut = map[string]bool{}
	for probe, cut := range f.get(name).cut {
		h.cut[probe] = cut
	}
	return h
}

func (f *fleet) die(name string, loud bool) {
	f.set(name, func(h *fakeHost) { h.down, h.loud = true, loud })
}

func (f *fleet) boot(name string) {
	f.set(name, func(h *fakeHost) { h.down = false; h.boot++ })
}

func (f *fleet) cut(name string, cut bool, probes ...string) {
	f.set(name, func(h *fakeHost) {
		for _, probe := range probes {
			h.cut[probe] = cut
		}
	})
}

var errUnreachable = errors.New("connect: no answer within 1s")

func (f *fleet) Start(ctx context.Context, host drill.Host, probes []probe.Spec) (Stream, error) {
	h := f.snapshot(host.Name)
	if h.down {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		return nil, errUnreachable
	}
	s := &fakeStream{events: make(chan history.Event, 256), closed: make(chan struct{}), broken: make(chan struct{})}
	for _, spec := range probes {
		s.senders.Go(func() { s.send(f, host.Name, h.boot, spec) })
	}
	return s, nil
}

type fakeStream struct {
	events  chan history.Event
	closing sync.Once
	closed  chan struct{}
	breaks  sync.Once
	broken  chan struct{}
	senders sync.WaitGroup
}

// send makes one probe's samples until the stream is closed or its host has died.
func (s *fakeStream) send(f *fleet, name string, boot int, spec probe.Spec) {
	ticker := time.NewTicker(spec.Every.Duration())
	defer ticker.Stop()
	first := true
	var waiting []history.Event
	for {
		select {
		case <-s.closed:
			return
		case <-ticker.C:
		}
		h := f.snapshot(name)
		if h.down || h.boot != boot {
			if h.loud {
				s.breaks.Do(func() { close(s.broken) })
			}
			continue
		}
		at := time.Now().Add(h.skew)
		sample := &history.Sample{Probe: spec.Name, Host: name, Scheduled: at, OK: !h.cut[spec.Name]}
		if spec.Kind == probe.Heartbeat && first {
			first, sample.Detail = false, fmt.Sprintf("%s%s-%d", bootIDPrefix, name, boot)
		}
		waiting = append(waiting, history.New(at, name, sample))
		if h.stuck {
			continue
		}
		for _, event := range waiting {
			select {
			case s.events <- event:
			case <-s.closed:
				return
			}
		}
		waiting = nil
	}
}

func (s *fakeStream) Next() (history.Event, error) {
	select {
	case event := <-s.events:
		return event, nil
	case <-s.broken:
		return history.Event{}, io.EOF
	case <-s.closed:
		return history.Event{}, net.ErrClosed
	}
}

func (s *fakeStream) Close() error {
	s.closing.Do(func() { close(s.closed) })
	s.senders.Wait()
	return nil
}

// stage is a watch at work in a synctest bubble, with everything that it tells.
type stage struct {
	*Watch
	fleet *fleet
	begin time.Time
	end   func()

	mu     sync.Mutex // guards events
	events []history.Event
}

// start runs a watch until the test ends or end is called. change may be nil; it is applied before the loop starts.
func start(t *testing.T, options Options, f *fleet, change func(*Watch)) *stage {
	t.Helper()
	options.Sources = f
	w, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(w)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &stage{Watch: w, fleet: f, begin: time.Now()}
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	_, live, leave, err := w.Follow(ctx)
	if err != nil {
		t.Fatal(err)
	}
	parts.Go(func() {
		defer leave()
		for event := range live {
			s.mu.Lock()
			s.events = append(s.events, event)
			s.mu.Unlock()
		}
	})
	var once sync.Once
	s.end = func() {
		once.Do(func() {
			cancel()
			parts.Wait()
		})
	}
	t.Cleanup(s.end)
	return s
}

// pass lets time go by and everything come to rest.
func (s *stage) pass(d time.Duration) {
	time.Sleep(d) // of the bubble's clock: no real time passes
	synctest.Wait()
}

// told returns what was told since, as "alarm NAME STATE", "answer ENVIRONMENT" and "host NAME up".
func (s *stage) told(since time.Time, kinds ...history.Kind) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, event := range s.events {
		if event.At.Before(since) || (len(kinds) > 0 && !slices.Contains(kinds, event.Fact.Kind())) {
			continue
		}
		switch fact := event.Fact.(type) {
		case *history.Alarm:
			all = append(all, fmt.Sprintf("alarm %s %s", fact.Name, fact.To))
		case *history.Answer:
			all = append(all, "answer "+fact.Environment)
		case *history.Host:
			all = append(all, strings.TrimSpace(fmt.Sprintf("host %s up=%t %s", fact.Host, fact.Up, fact.BootID)))
		}
	}
	return all
}

// when returns how long after since something was first told.
func (s *stage) when(since time.Time, what string) (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, event := range s.events {
		if event.At.Before(since) {
			continue
		}
		switch fact := event.Fact.(type) {
		case *history.Alarm:
			if fmt.Sprintf("alarm %s %s", fact.Name, fact.To) == what {
				return event.At.Sub(since), nil
			}
		case *history.Answer:
			if "answer "+fact.Environment == what {
				return event.At.Sub(since), nil
			}
		}
	}
	return 0, fmt.Errorf("%q was never told", what)
}

func (s *stage) active(t *testing.T) string {
	t.Helper()
	snapshot, err := s.State(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return snapshot.Names[0].Active
}
