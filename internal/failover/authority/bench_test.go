package authority

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// BenchmarkAnswers prints answers a second through a real socket on loopback, from several clients in this process, and the time that
// the slowest hundredth of them takes.
func BenchmarkAnswers(b *testing.B) {
	server := start(b, Options{Zone: mustZone(b, bookstoreZone), Rate: 1 << 30})
	packet, err := new(dns.Msg).SetQuestion(apexName, dns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	const clients = 4
	each := b.N/clients + 1
	took := make(chan []time.Duration, clients)
	b.ResetTimer()
	for range clients {
		go func() { took <- exchangeMany(b, server.Address(), packet, each) }()
	}
	var all []time.Duration
	for range clients {
		all = append(all, <-took...)
	}
	b.StopTimer()
	slices.Sort(all)
	b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "answers/s")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99-µs")
}

func exchangeMany(tb testing.TB, to netip.AddrPort, packet []byte, count int) []time.Duration {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		tb.Error(err)
		return nil
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		tb.Error(err)
	}
	took := make([]time.Duration, 0, count)
	buffer := make([]byte, udpMax)
	for range count {
		sent := time.Now()
		if _, err := conn.Write(packet); err != nil {
			tb.Error(err)
			break
		}
		if _, err := conn.Read(buffer); err != nil {
			tb.Error(err)
			break
		}
		took = append(took, time.Since(sent))
	}
	return took
}

// BenchmarkCompose is the work of one answer without sockets.
func BenchmarkCompose(b *testing.B) {
	server, err := New(Options{Zone: mustZone(b, bookstoreZone), Listen: "127.0.0.1:0"})
	if err != nil {
		b.Fatal(err)
	}
	query := new(dns.Msg).SetQuestion(apexName, dns.TypeA)
	b.ReportAllocs()
	for b.Loop() {
		server.compose(query, time.Unix(1, 0), false)
	}
}

// BenchmarkFlip prints how long it takes from the decision to the first new answer, asked for directly: once without and once with a state
// file that is synced to the disk.
func BenchmarkFlip(b *testing.B) {
	for _, c := range []struct {
		name  string
		state bool
	}{{"memory", false}, {"state file", true}} {
		b.Run(c.name, func(b *testing.B) {
			options := Options{Zone: mustZone(b, bookstoreZone), Rate: 1 << 30}
			if c.state {
				options.StateFile = b.TempDir() + "/answers.json"
			}
			server := start(b, options)
			packet, err := new(dns.Msg).SetQuestion(apexName, dns.TypeA).Pack()
			if err != nil {
				b.Fatal(err)
			}
			serial := uint64(0)
			for b.Loop() {
				serial++
				address := netip.AddrFrom4([4]byte{10, 77, byte(serial >> 8), byte(serial)})
				saved := make(chan error, 1)
				go func() { saved <- server.Set(apexName, []netip.Addr{address}, serial) }()
				for !flipped(b, server.Address(), packet, address) {
				}
				if err := <-saved; err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func flipped(tb testing.TB, to netip.AddrPort, packet []byte, want netip.Addr) bool {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		tb.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		tb.Fatal(err)
	}
	if _, err := conn.Write(packet); err != nil {
		tb.Fatal(err)
	}
	buffer := make([]byte, udpMax)
	count, err := conn.Read(buffer)
	if err != nil {
		tb.Fatal(err)
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(buffer[:count]); err != nil {
		tb.Fatal(err)
	}
	return len(reply.Answer) == 1 && reply.Answer[0].(*dns.A).A.String() == want.String()
}
