package failovertest_test

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/failover/failovertest"
)

// BenchmarkAgainstBIND prints answers a second and the slowest hundredth of ours and of BIND's, from the same clients on loopback, and
// their ratio. Both have the machine's cores to themselves and the clients.
func BenchmarkAgainstBIND(b *testing.B) {
	packet, err := new(dns.Msg).SetQuestion("db."+failovertest.ZoneName, dns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	servers := []struct{ name, address string }{{"bind", startBIND(b, need(b, "named"))}, {"ours", startOurs(b)}}
	perSecond := map[string]float64{}
	for b.Loop() {
		for _, server := range servers {
			const clients, each = 4, 10_000
			begun := time.Now()
			results := make(chan []time.Duration, clients)
			for range clients {
				go func() { results <- exchangeMany(b, server.address, packet, each) }()
			}
			var all []time.Duration
			for range clients {
				all = append(all, <-results...)
			}
			perSecond[server.name] = float64(len(all)) / time.Since(begun).Seconds()
			slices.Sort(all)
			b.ReportMetric(perSecond[server.name], server.name+"-answers/s")
			b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), server.name+"-p99-µs")
		}
	}
	b.ReportMetric(perSecond["ours"]/perSecond["bind"], "ours/bind")
}

func exchangeMany(tb testing.TB, address string, packet []byte, count int) []time.Duration {
	tb.Helper()
	conn, err := net.Dial("udp", address)
	if err != nil {
		tb.Error(err)
		return nil
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		tb.Error(err)
	}
	took := make([]time.Duration, 0, count)
	buffer := make([]byte, dns.MinMsgSize)
	for range count {
		sent := time.Now()
		if _, err = conn.Write(packet); err == nil {
			_, err = conn.Read(buffer)
		}
		if err != nil {
			tb.Error(err)
			break
		}
		took = append(took, time.Since(sent))
	}
	return took
}
