package failovertest_test

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"testing"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/failovertest"
)

// fakeServers are two servers in memory that lead a name somewhere.
type fakeServers struct {
	mu     sync.Mutex // guards the fields below
	leads  map[string][]netip.Addr
	serial uint64
	other  int // another thing that they hold
	asks   int
}

// fakeBackend moves fakeServers; the bug breaks it.
type fakeBackend struct {
	servers *fakeServers
	bug     string
	lagging bool
}

func (b *fakeBackend) names() []string {
	if b.lagging {
		return []string{"one", "gone"}
	}
	return []string{"one", "two"}
}

func (b *fakeBackend) Publish(_ context.Context, change failover.Change) error {
	valid, err := change.Valid()
	if err != nil && b.bug != "empties" {
		return err
	}
	s := b.servers
	s.mu.Lock()
	defer s.mu.Unlock()
	stale := valid.Serial < s.serial || (valid.Serial == s.serial && b.bug == "refuses repeats")
	if stale && b.bug != "goes back" {
		return fmt.Errorf("fake: %w", failover.ErrStale)
	}
	if valid.Serial == s.serial && b.bug != "goes back" && b.bug != "takes two of one serial" && !slices.Equal(s.leads["decided"], valid.Addresses) {
		return fmt.Errorf("fake: %w", failover.ErrStale)
	}
	if valid.Serial == s.serial && b.bug == "trusts its mark" && slices.Equal(s.leads["decided"], valid.Addresses) {
		return nil
	}
	if b.bug == "stops before it starts" {
		s.leads["one"] = nil
		for before, spins := s.asks, 0; s.asks == before && spins < 100_000; spins++ { // until a client has come by
			s.mu.Unlock()
			runtime.Gosched()
			s.mu.Lock()
		}
	}
	s.serial = valid.Serial
	s.leads["decided"] = valid.Addresses
	if b.bug == "takes one address" {
		valid.Addresses = valid.Addresses[:min(1, len(valid.Addresses))]
	}
	s.leads["one"] = valid.Addresses
	if b.bug != "forgets a server" {
		s.leads["two"] = valid.Addresses
	}
	if b.bug == "touches more" {
		s.other++
	}
	if b.lagging && b.bug != "does not verify" {
		return &drill.Error{Op: "fake", Host: "gone", Kind: drill.Unproven, Hint: "Mend it."}
	}
	return nil
}

func (b *fakeBackend) Served(context.Context, string) []failover.Served {
	s := b.servers
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []failover.Served
	for _, name := range b.names() {
		all = append(all, failover.Served{Server: name, Addresses: s.leads[name], Serial: s.serial})
	}
	return all
}

func fakeSubject(bug string) failovertest.BackendSubject {
	blue, green := netip.MustParseAddr("10.77.1.10"), netip.MustParseAddr("10.77.1.20")
	servers := &fakeServers{leads: map[string][]netip.Addr{"one": {blue}, "two": {blue}, "decided": {blue}}, serial: 1}
	return failovertest.BackendSubject{
		Backend: &fakeBackend{servers: servers, bug: bug}, Another: &fakeBackend{servers: servers, bug: bug},
		Lagging: &fakeBackend{servers: servers, bug: bug, lagging: true}, Laggard: "gone",
		Name: "bookstore.example.test", Blue: blue, Green: green,
		Ask: func(context.Context) ([]netip.Addr, error) {
			servers.mu.Lock()
			defer servers.mu.Unlock()
			servers.asks++
			return slices.Clone(servers.leads["one"]), nil
		},
		Meddle: func(to netip.Addr) error {
			servers.mu.Lock()
			defer servers.mu.Unlock()
			servers.leads["one"] = []netip.Addr{to}
			return nil
		},
		Others: func(context.Context) (string, error) {
			servers.mu.Lock()
			defer servers.mu.Unlock()
			return fmt.Sprint(servers.other), nil
		},
	}
}

func TestBackendContractHoldsForABackendInMemory(t *testing.T) {
	failovertest.TestBackend(t, fakeSubject(""))
}

func TestEachPlantedBugOfABackendIsCaught(t *testing.T) {
	for bug, caught := range map[string]string{
		"forgets a server": "leads clients where it was told", "refuses repeats": "takes the same change again", "goes back": "refuses what is not newer",
		"takes two of one serial": "refuses what is not newer", "empties": "never leads nowhere", "takes one address": "leads to several addresses",
		"stops before it starts": "loses no client while it flips", "trusts its mark": "puts right what others changed",
		"does not verify": "says which server does not follow", "touches more": "touches nothing else",
	} {
		t.Run(bug, func(t *testing.T) {
			subject, serial := fakeSubject(bug), uint64(10)
			for _, check := range failovertest.BackendChecks() {
				if err := check.Run(t.Context(), subject, &serial); err != nil && check.Name == caught {
					return
				}
			}
			t.Errorf("the check %q did not catch it", caught)
		})
	}
	t.Run("goes back, raced", func(t *testing.T) {
		subject, serial := fakeSubject("goes back"), uint64(10)
		for range 50 { // the race ends by luck with the newest now and then
			for _, check := range failovertest.BackendChecks() {
				if check.Name == "lets the newest of many writers win" && check.Run(t.Context(), subject, &serial) != nil {
					return
				}
			}
		}
		t.Error("a backend that goes back wins every race")
	})
}
