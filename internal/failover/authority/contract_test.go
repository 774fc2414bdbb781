package authority

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"firedrill/internal/failover"
	"firedrill/internal/failover/failovertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen; it is no measurement.
const patience = 30 * time.Second

func mustZone(tb testing.TB, text string) *Zone {
	tb.Helper()
	zone, err := ParseZone([]byte(text), "zone.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	return zone
}

// start runs a server on loopback until the test ends.
func start(tb testing.TB, options Options) *Server {
	tb.Helper()
	if options.Listen == "" {
		options.Listen = "127.0.0.1:0"
	}
	server, err := New(options)
	if err != nil {
		tb.Fatal(err)
	}
	if err := server.Start(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			tb.Error(err)
		}
	})
	return server
}

func TestContractHolds(t *testing.T) {
	server, err := New(Options{Zone: mustZone(t, failovertest.ZoneYAML()), Listen: "127.0.0.1:0", Rate: 1_000_000})
	if err != nil {
		t.Fatal(err)
	}
	var hurt atomic.Bool
	server.beforeAnswer = func(*dns.Msg) {
		if hurt.Swap(false) {
			panic("planted")
		}
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	serial := uint64(0)
	failovertest.Test(t, failovertest.Subject{
		Address: server.Address().String(),
		Hurt:    func() { hurt.Store(true) },
		Publish: func(addresses []netip.Addr) error {
			serial++
			return server.Set(failovertest.ZoneName, addresses, serial)
		},
	})
}

// asBackend is our own server as the contract of backends sees it: what the watch tells it, it is told here.
type asBackend struct{ server *Server }

func (b asBackend) Publish(_ context.Context, change failover.Change) error {
	change, err := change.Valid()
	if err != nil {
		return err
	}
	return b.server.Set(change.Name, change.Addresses, change.Serial)
}

func (b asBackend) Served(_ context.Context, name string) []failover.Served {
	decision := (*b.server.decided.Load())[dns.CanonicalName(name)]
	return []failover.Served{{Server: b.server.Address().String(), Addresses: b.server.Served(name), Serial: decision.Serial}}
}

func TestContractOfBackendsHolds(t *testing.T) {
	server := start(t, Options{Zone: mustZone(t, failovertest.ZoneYAML()), Rate: 1 << 30})
	ask := func(ctx context.Context, name string) ([]netip.Addr, error) {
		client := dns.Client{Timeout: patience}
		reply, _, err := client.ExchangeContext(ctx, new(dns.Msg).SetQuestion(name, dns.TypeA), server.Address().String())
		if err != nil {
			return nil, err
		}
		var all []netip.Addr
		for _, record := range reply.Answer {
			all = append(all, addressIn(record))
		}
		return all, nil
	}
	failovertest.TestBackend(t, failovertest.BackendSubject{
		Backend: asBackend{server}, Another: asBackend{server}, Name: failovertest.ZoneName,
		Blue: netip.MustParseAddr("10.77.1.10"), Green: netip.MustParseAddr("10.77.1.20"),
		Ask: func(ctx context.Context) ([]netip.Addr, error) { return ask(ctx, failovertest.ZoneName) },
		Others: func(ctx context.Context) (string, error) {
			all, err := ask(ctx, "db."+failovertest.ZoneName)
			return fmt.Sprint(all), err
		},
	})
}
