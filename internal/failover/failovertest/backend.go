package failovertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
)

// Backend moves answers in servers that others run: name servers or load balancers.
type Backend interface {
	// Publish makes a name lead somewhere; it returns nil once every server was seen to do so.
	Publish(ctx context.Context, change failover.Change) error
	// Served says what every server leads to now.
	Served(ctx context.Context, name string) []failover.Served
}

// BackendSubject is a backend under test, with the servers that it moves.
type BackendSubject struct {
	Backend Backend
	Another Backend // a second instance that moves the same servers, as a second watch would
	Name    string  // leads to Blue at first

	Blue, Green netip.Addr

	// Ask says where a client is led now, with a connection of its own. It must not use the backend.
	Ask func(ctx context.Context) ([]netip.Addr, error)
	// Meddle leads the clients to an address as someone would who does not know of us; nil if nobody else can.
	Meddle func(to netip.Addr) error
	// Lagging is a backend that has to do with the same servers and with one more, which does not follow or is away; Laggard is a part of
	// that server's name as errors must show it.
	Lagging Backend
	Laggard string
	// Others says what else the servers hold, which must not change; nil if nothing.
	Others func(ctx context.Context) (string, error)
}

// BackendCheck is one clause of the contract of backends. They are run in order, and serials grow over all of them.
type BackendCheck struct {
	Name string
	Run  func(ctx context.Context, s BackendSubject, serial *uint64) error
}

const (
	backendMax     = 60 * time.Second // for one check; a hang is a failure
	backendFlips   = 12
	backendWriters = 4
)

// BackendChecks returns the whole contract of backends.
func BackendChecks() []BackendCheck {
	return []BackendCheck{
		{"leads clients where it was told", backendLeads},
		{"takes the same change again", backendRepeats},
		{"refuses what is not newer", backendStale},
		{"never leads nowhere", backendEmpty},
		{"leads to several addresses", backendSeveral},
		{"loses no client while it flips", backendFlipping},
		{"puts right what others changed", backendMeddled},
		{"lets the newest of many writers win", backendRace},
		{"says which server does not follow", backendLags},
		{"touches nothing else", backendOthers},
	}
}

// TestBackend runs the whole contract against a backend.
func TestBackend(t *testing.T, s BackendSubject) {
	t.Helper()
	serial := uint64(1_790_000_000)
	for _, check := range BackendChecks() {
		t.Run(check.Name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), backendMax)
			defer cancel()
			if err := check.Run(ctx, s, &serial); err != nil {
				t.Error(err)
			}
		})
	}
}

// publish publishes under the next serial.
func (s BackendSubject) publish(ctx context.Context, serial *uint64, to ...netip.Addr) error {
	*serial++
	return s.Backend.Publish(ctx, failover.Change{Name: s.Name, Addresses: to, Serial: *serial})
}

// leads says whether clients are led to these addresses, and every server says the same.
func (s BackendSubject) leads(ctx context.Context, serial uint64, to ...netip.Addr) error {
	want := failover.Sorted(to)
	got, err := s.Ask(ctx)
	if err != nil {
		return fmt.Errorf("a client: %w", err)
	}
	if !isPart(got, want) {
		return fmt.Errorf("a client is led to %v; want %v", got, want)
	}
	served := s.Backend.Served(ctx, s.Name)
	if len(served) == 0 {
		return errors.New("no server is known to the backend")
	}
	for _, one := range served {
		if one.Err != nil || !slices.Equal(one.Addresses, want) || one.Serial != serial {
			return fmt.Errorf("%+v; want %v with serial %d", one, want, serial)
		}
	}
	return nil
}

// isPart holds when a client was led to some of the addresses and nowhere else: a load balancer shows one at a time.
func isPart(got, of []netip.Addr) bool {
	return len(got) > 0 && !slices.ContainsFunc(got, func(a netip.Addr) bool { return !slices.Contains(of, a) })
}

func backendLeads(ctx context.Context, s BackendSubject, serial *uint64) error {
	for range 2 {
		for _, to := range []netip.Addr{s.Green, s.Blue} {
			if err := s.publish(ctx, serial, to); err != nil {
				return err
			}
			if err := s.leads(ctx, *serial, to); err != nil {
				return err
			}
		}
	}
	return nil
}

func backendRepeats(ctx context.Context, s BackendSubject, serial *uint64) error {
	if err := s.publish(ctx, serial, s.Green); err != nil {
		return err
	}
	for _, backend := range []Backend{s.Backend, s.Another} {
		if err := backend.Publish(ctx, failover.Change{Name: s.Name, Addresses: []netip.Addr{s.Green}, Serial: *serial}); err != nil {
			return fmt.Errorf("the same change again: %w", err)
		}
	}
	return s.leads(ctx, *serial, s.Green)
}

func backendStale(ctx context.Context, s BackendSubject, serial *uint64) error {
	if err := s.publish(ctx, serial, s.Blue); err != nil {
		return err
	}
	for _, backend := range []Backend{s.Backend, s.Another} {
		for _, old := range []uint64{*serial, *serial - 1, 1} {
			err := backend.Publish(ctx, failover.Change{Name: s.Name, Addresses: []netip.Addr{s.Green}, Serial: old})
			if !errors.Is(err, failover.ErrStale) {
				return fmt.Errorf("serial %d after %d: %w; want that it is stale", old, *serial, err)
			}
		}
	}
	return s.leads(ctx, *serial, s.Blue)
}

func backendEmpty(ctx context.Context, s BackendSubject, serial *uint64) error {
	for _, to := range [][]netip.Addr{nil, {}, {netip.Addr{}}, {netip.IPv4Unspecified()}} {
		err := s.Backend.Publish(ctx, failover.Change{Name: s.Name, Addresses: to, Serial: *serial + 1})
		if drill.KindOf(err) != drill.Invalid {
			return fmt.Errorf("publishing %v: %w; want that it is invalid", to, err)
		}
	}
	return s.leads(ctx, *serial, s.Blue)
}

func backendSeveral(ctx context.Context, s BackendSubject, serial *uint64) error {
	if err := s.publish(ctx, serial, s.Green, s.Blue); err != nil {
		return err
	}
	return s.leads(ctx, *serial, s.Blue, s.Green)
}

func backendFlipping(ctx context.Context, s BackendSubject, serial *uint64) error {
	watching, stop := context.WithCancel(ctx)
	var looking sync.WaitGroup
	var seen error
	begun := make(chan struct{})
	looking.Go(func() {
		begin := sync.OnceFunc(func() { close(begun) })
		defer begin()
		for watching.Err() == nil && seen == nil {
			got, err := s.Ask(ctx)
			if err == nil && !isPart(got, []netip.Addr{s.Blue, s.Green}) {
				err = fmt.Errorf("led to %v", got)
			}
			if err != nil {
				seen = fmt.Errorf("a client while the answer moved: %w", err)
			}
			begin()
		}
	})
	defer looking.Wait()
	defer stop()
	<-begun
	for i := range backendFlips {
		to := []netip.Addr{s.Green, s.Blue}[i%2]
		if err := s.publish(ctx, serial, to); err != nil {
			return err
		}
		if err := s.leads(ctx, *serial, to); err != nil {
			return err
		}
	}
	stop()
	looking.Wait()
	return seen
}

func backendMeddled(ctx context.Context, s BackendSubject, serial *uint64) error {
	if s.Meddle == nil {
		return nil
	}
	if err := s.publish(ctx, serial, s.Blue); err != nil {
		return err
	}
	for _, newer := range []uint64{0, 1} {
		if err := s.Meddle(s.Green); err != nil {
			return err
		}
		if got, err := s.Ask(ctx); err != nil || !isPart(got, []netip.Addr{s.Green}) {
			return fmt.Errorf("the test could not change the answer behind the backend: %v, %w", got, err)
		}
		*serial += newer
		if err := s.Backend.Publish(ctx, failover.Change{Name: s.Name, Addresses: []netip.Addr{s.Blue}, Serial: *serial}); err != nil {
			return fmt.Errorf("after someone else's change: %w", err)
		}
		if err := s.leads(ctx, *serial, s.Blue); err != nil {
			return err
		}
	}
	return nil
}

func backendRace(ctx context.Context, s BackendSubject, serial *uint64) error {
	const each = 5
	first := *serial + 1
	*serial += backendWriters * each
	order := rand.Perm(backendWriters * each) //nolint:gosec // any order will do
	to := func(serial uint64) netip.Addr {
		return []netip.Addr{s.Blue, s.Green}[serial%2]
	}
	problems := make([]error, backendWriters)
	var writing sync.WaitGroup
	for i := range backendWriters {
		backend := []Backend{s.Backend, s.Another}[i%2]
		writing.Go(func() {
			for _, offset := range order[i*each : (i+1)*each] {
				number := first + uint64(offset) //nolint:gosec // small
				err := backend.Publish(ctx, failover.Change{Name: s.Name, Addresses: []netip.Addr{to(number)}, Serial: number})
				if err != nil && !errors.Is(err, failover.ErrStale) {
					problems[i] = fmt.Errorf("serial %d: %w", number, err)
				}
			}
		})
	}
	writing.Wait()
	if err := errors.Join(problems...); err != nil {
		return err
	}
	return s.leads(ctx, *serial, to(*serial))
}

func backendLags(ctx context.Context, s BackendSubject, serial *uint64) error {
	if s.Lagging == nil {
		return nil
	}
	*serial++
	err := s.Lagging.Publish(ctx, failover.Change{Name: s.Name, Addresses: []netip.Addr{s.Green}, Serial: *serial})
	var known *drill.Error
	if !errors.As(err, &known) || (known.Kind != drill.Unproven && known.Kind != drill.Unreachable) || known.Hint == "" || known.Host != s.Laggard {
		return fmt.Errorf("a server does not follow: %w; want an error that names %s, with a cure", err, s.Laggard)
	}
	if err := s.leads(ctx, *serial, s.Green); err != nil {
		return fmt.Errorf("one server that does not follow keeps the others back: %w", err)
	}
	found := false
	for _, one := range s.Lagging.Served(ctx, s.Name) {
		found = found || (one.Server == s.Laggard && (one.Err != nil || !one.Leads(failover.Change{Addresses: []netip.Addr{s.Green}})))
	}
	if !found {
		return fmt.Errorf("what is served at %s is not shown", s.Laggard)
	}
	return nil
}

func backendOthers(ctx context.Context, s BackendSubject, serial *uint64) error {
	if s.Others == nil {
		return nil
	}
	before, err := s.Others(ctx)
	if err != nil {
		return err
	}
	if err := s.publish(ctx, serial, s.Blue); err != nil {
		return err
	}
	after, err := s.Others(ctx)
	if err != nil {
		return err
	}
	if before != after {
		return fmt.Errorf("other things changed:\n%s\nbecame\n%s", before, after)
	}
	return nil
}
