package failovertest_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/failover/authority"
	"firedrill/internal/failover/failovertest"
)

// keptTimes is how often each resolver's hold on an answer is measured.
const keptTimes = 6

// BenchmarkResolverKeeps prints for how long a resolver that is asked all the time gives an old answer after the answer has changed at once
// upon its last look: the longest that a client can be led to the wrong side. It is measured for our name server and for Knot, behind the
// same resolvers, so that what is the resolver's is seen to be the resolver's. See docs/decisions/0008.
func BenchmarkResolverKeeps(b *testing.B) {
	unbound, named := need(b, "unbound"), need(b, "named")
	quick := authorityWithTTL(b, "0s")
	ours := authorityWithTTL(b, "1s")
	knot := startUpdatedKnot(b)
	serial := uint64(0)
	setOurs := func(server *authority.Server) func(netip.Addr) error {
		return func(to netip.Addr) error {
			serial++
			return server.Set(failovertest.ZoneName, []netip.Addr{to}, serial)
		}
	}
	for _, row := range []struct {
		name, resolver string
		set            func(netip.Addr) error
	}{
		{"ours-ttl-0-unbound", startUnbound(b, unbound, quick.Address().String()), setOurs(quick)},
		{"ours-ttl-1-unbound", startUnbound(b, unbound, ours.Address().String()), setOurs(ours)},
		{"knot-ttl-1-unbound", startUnbound(b, unbound, knot), func(to netip.Addr) error { return updateKnot(knot, to) }},
		{"ours-ttl-1-bind", startBINDResolver(b, named, ours.Address().String()), setOurs(ours)},
	} {
		b.Run(row.name, func(b *testing.B) {
			packet, err := new(dns.Msg).SetQuestion(failovertest.ZoneName, dns.TypeA).Pack()
			if err != nil {
				b.Fatal(err)
			}
			var kept []float64
			for b.Loop() {
				for i := range keptTimes + 1 {
					to := netip.AddrFrom4([4]byte{10, 77, 3, byte(100 + i)})
					began := time.Now()
					if err := row.set(to); err != nil {
						b.Fatal(err)
					}
					awaitFlip(b, row.resolver, packet, to)
					if i > 0 { // the first look was at any moment, the others are that of the flip
						kept = append(kept, time.Since(began).Seconds())
					}
				}
			}
			slices.Sort(kept)
			b.ReportMetric(kept[len(kept)/2], "median-s")
			b.ReportMetric(kept[len(kept)-1], "worst-s")
			b.ReportMetric(float64(len(kept)), "n")
		})
	}
}

// authorityWithTTL is our name server with another TTL of the failover name.
func authorityWithTTL(b *testing.B, ttl string) *authority.Server {
	b.Helper()
	text := strings.Replace(failovertest.ZoneYAML(), `"@": {ttl: 1s,`, `"@": {ttl: `+ttl+`,`, 1)
	zone, err := authority.ParseZone([]byte(text), "zone.yaml")
	if err != nil {
		b.Fatal(err)
	}
	server, err := authority.New(authority.Options{Zone: zone, Rate: 1 << 30, Listen: "127.0.0.1:0"})
	if err == nil {
		err = server.Start(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = server.Stop(b.Context()) })
	return server
}

// startUpdatedKnot runs Knot with the contract's zone, which anybody on this host may update.
func startUpdatedKnot(b *testing.B) string {
	b.Helper()
	directory, port := b.TempDir(), freePort(b)
	if err := os.WriteFile(filepath.Join(directory, "zone"), []byte(failovertest.ZoneFile()), 0o600); err != nil {
		b.Fatal(err)
	}
	config := filepath.Join(directory, "knot.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, `server:
    listen: 127.0.0.1@%d
    rundir: %[2]q
database:
    storage: %[2]q
acl:
  - id: here
    address: 127.0.0.1
    action: update
zone:
  - domain: %[3]s
    storage: %[2]q
    file: zone
    acl: here
`, port, directory, failovertest.ZoneName), 0o600); err != nil {
		b.Fatal(err)
	}
	run(b, need(b, "knotd"), "-c", config)
	address := net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
	awaitAnswer(b, address)
	return address
}

// updateKnot moves the answer there.
func updateKnot(server string, to netip.Addr) error {
	name := dns.Fqdn(failovertest.ZoneName)
	record, err := dns.NewRR(name + " 1 A " + to.String())
	if err != nil {
		return err
	}
	update := new(dns.Msg).SetUpdate(name)
	update.RemoveRRset([]dns.RR{record})
	update.Insert([]dns.RR{record})
	reply, _, err := (&dns.Client{Net: "tcp", Timeout: patience}).Exchange(update, server)
	if err == nil && reply.Rcode != dns.RcodeSuccess {
		err = fmt.Errorf("update: %s", dns.RcodeToString[reply.Rcode])
	}
	return err
}

// startBINDResolver runs BIND as a resolver that asks one server for the contract's zone.
func startBINDResolver(b *testing.B, named, server string) string {
	b.Helper()
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		b.Fatal(err)
	}
	directory, listen := b.TempDir(), freePort(b)
	config := filepath.Join(directory, "named.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, `options { directory %q; pid-file none; session-keyfile none; listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; };
	recursion yes; allow-recursion { 127.0.0.1; }; dnssec-validation no; empty-zones-enable no; };
controls { };
zone %q { type forward; forward only; forwarders { %s port %s; }; };
`, directory, listen, failovertest.ZoneName, host, port), 0o600); err != nil {
		b.Fatal(err)
	}
	run(b, named, "-g", "-c", config)
	address := net.JoinHostPort("127.0.0.1", fmt.Sprint(listen))
	awaitAnswer(b, address)
	return address
}
