package failovertest_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/failover/authority"
	"firedrill/internal/failover/failovertest"
)

// flipEvery is a thousand flips a minute.
const flipEvery = time.Minute / 1000

// flipping moves the answer of a server back and forth until stop is called, and returns how often it did.
func flipping(tb testing.TB, server *authority.Server, serial *uint64) (stop func() int) {
	tb.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var turning sync.WaitGroup
	flips := 0
	turning.Go(func() {
		tick := time.NewTicker(flipEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			*serial++
			to := netip.AddrFrom4([4]byte{10, 77, 1, byte(10 + 10*(*serial%2))})
			if err := server.Set(failovertest.ZoneName, []netip.Addr{to}, *serial); err != nil {
				tb.Error(err)
			}
			flips++
		}
	})
	return func() int { cancel(); turning.Wait(); return flips }
}

// startPeers runs NSD and Knot with the contract's zone, one thread each, as we have one socket.
func startPeers(b *testing.B) map[string]string {
	b.Helper()
	directory := b.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			b.Fatal(err)
		}
		return path
	}
	write("zone", failovertest.ZoneFile())
	nsd, knot := freePort(b), freePort(b)
	run(b, need(b, "nsd"), "-d", "-c", write("nsd.conf", fmt.Sprintf(`server:
	ip-address: 127.0.0.1@%d
	username: ""
	chroot: ""
	database: ""
	zonesdir: %[2]q
	zonelistfile: "%[2]s/zone.list"
	pidfile: ""
	xfrdfile: ""
	xfrdir: %[2]q
	server-count: 1
	rrl-ratelimit: 0
remote-control:
	control-enable: no
zone:
	name: %[3]q
	zonefile: zone
`, nsd, directory, failovertest.ZoneName)))
	run(b, need(b, "knotd"), "-c", write("knot.conf", fmt.Sprintf(`server:
    listen: 127.0.0.1@%d
    rundir: %[2]q
    udp-workers: 1
    tcp-workers: 1
    background-workers: 1
database:
    storage: %[2]q
zone:
  - domain: %[3]s
    storage: %[2]q
    file: zone
`, knot, directory, failovertest.ZoneName)))
	peers := map[string]string{}
	for name, port := range map[string]int{"nsd": nsd, "knot": knot} {
		peers[name] = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		awaitAnswer(b, peers[name])
	}
	return peers
}

var (
	perSecondLine = regexp.MustCompile(`Queries per second:\s+([0-9.]+)`)
	lostLine      = regexp.MustCompile(`Queries lost:\s+(\d+)`)
)

// dnsperf asks a server for as long as it can with four clients, and returns answers a second and how many queries got none.
func dnsperf(b *testing.B, program, address, queries string) (perSecond float64, lost int) {
	b.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		b.Fatal(err)
	}
	out, err := exec.CommandContext(b.Context(), program, "-s", host, "-p", port, "-d", queries, "-l", "3", "-c", "4", "-T", "1").CombinedOutput()
	rate, missing := perSecondLine.FindSubmatch(out), lostLine.FindSubmatch(out)
	if err != nil || rate == nil || missing == nil {
		b.Fatalf("dnsperf: %v\n%s", err, out)
	}
	perSecond, _ = strconv.ParseFloat(string(rate[1]), 64)
	lost, _ = strconv.Atoi(string(missing[1]))
	return perSecond, lost
}

// BenchmarkAgainstNSDAndKnot prints answers a second under dnsperf and the slowest hundredth under closed-loop clients, of ours while a
// thousand flips a minute happen, and of NSD and Knot, which stand still; and how many queries of ours were lost.
func BenchmarkAgainstNSDAndKnot(b *testing.B) {
	program := need(b, "dnsperf")
	queries := filepath.Join(b.TempDir(), "queries")
	if err := os.WriteFile(queries, []byte("bookstore.example.test A\ndb.bookstore.example.test A\nbookstore.example.test AAAA\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	packet, err := new(dns.Msg).SetQuestion(failovertest.ZoneName, dns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	ours := startAuthority(b, authority.Options{})
	servers := startPeers(b)
	servers["ours"] = ours.Address().String()
	rates, slowest := map[string][]float64{}, map[string][]float64{}
	serial, flips, lost := uint64(0), 0, 0
	for b.Loop() {
		for range 3 { // in turn, so that what else happens on the machine hits all
			for _, name := range []string{"nsd", "knot", "ours"} {
				stop := func() int { return 0 }
				if name == "ours" {
					stop = flipping(b, ours, &serial)
				}
				rate, missing := dnsperf(b, program, servers[name], queries)
				took := exchangeMany(b, servers[name], packet, 10_000)
				flips += stop()
				slices.Sort(took)
				rates[name] = append(rates[name], rate)
				slowest[name] = append(slowest[name], float64(took[len(took)*99/100].Microseconds()))
				if name == "ours" {
					lost += missing
				}
			}
		}
	}
	middle := func(all []float64) float64 { slices.Sort(all); return all[len(all)/2] }
	for name := range servers {
		b.ReportMetric(middle(rates[name]), name+"-answers/s")
		b.ReportMetric(middle(slowest[name]), name+"-p99-µs")
	}
	for _, peer := range []string{"nsd", "knot"} {
		b.ReportMetric(middle(rates["ours"])/middle(rates[peer]), "ours/"+peer)
		b.ReportMetric(middle(slowest["ours"])/middle(slowest[peer]), "p99-ours/"+peer)
	}
	b.ReportMetric(float64(lost), "lost")
	b.ReportMetric(float64(flips), "flips")
}

// BenchmarkFlipToNewAnswer prints the time from a decision to the first new answer: asked directly, and through unbound, whose cache keeps the
// old one for the TTL of a second, and counts in whole seconds.
func BenchmarkFlipToNewAnswer(b *testing.B) {
	ours := startAuthority(b, authority.Options{StateFile: filepath.Join(b.TempDir(), "answers.json")})
	resolver := startUnbound(b, need(b, "unbound"), ours.Address().String())
	packet, err := new(dns.Msg).SetQuestion(failovertest.ZoneName, dns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	serial := uint64(0)
	for _, row := range []struct {
		name, address string
		count         int
	}{{"direct", ours.Address().String(), 200}, {"unbound", resolver, 10}} {
		b.Run(row.name, func(b *testing.B) {
			var took []float64
			for b.Loop() {
				for range row.count {
					if row.name == "unbound" { // from any moment of the cached answer's life
						<-time.After(time.Duration(rand.Int64N(int64(time.Second)))) //nolint:gosec // any moment will do
					}
					serial++
					to := netip.AddrFrom4([4]byte{10, 77, 2, byte(serial)}) //nolint:gosec // wraps around, which is well
					saved := make(chan error, 1)
					began := time.Now()
					go func() { saved <- ours.Set(failovertest.ZoneName, []netip.Addr{to}, serial) }()
					awaitFlip(b, row.address, packet, to)
					took = append(took, float64(time.Since(began).Microseconds())/1000)
					if err := <-saved; err != nil {
						b.Fatal(err)
					}
				}
			}
			slices.Sort(took)
			b.ReportMetric(took[len(took)/2], "median-ms")
			b.ReportMetric(took[len(took)-1], "worst-ms")
		})
	}
}

// awaitFlip asks without a pause until the address is answered.
func awaitFlip(b *testing.B, address string, packet []byte, want netip.Addr) {
	b.Helper()
	conn, err := net.Dial("udp", address)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		b.Fatal(err)
	}
	buffer := make([]byte, dns.MinMsgSize)
	for {
		if _, err := conn.Write(packet); err != nil {
			b.Fatal(err)
		}
		count, err := conn.Read(buffer)
		if err != nil {
			b.Fatal(err)
		}
		reply := new(dns.Msg)
		if err := reply.Unpack(buffer[:count]); err != nil {
			b.Fatal(err)
		}
		if len(reply.Answer) == 1 && reply.Answer[0].(*dns.A).A.String() == want.String() {
			return
		}
	}
}
