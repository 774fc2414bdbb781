package lab

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"
)

// BenchmarkLab prints the medians of making and ending labs of 3 and 12 hosts with SSH servers, and of one boot.
//
//	go test -run '^$' -bench Lab -benchtime 21x ./internal/lab
func BenchmarkLab(b *testing.B) {
	for _, hosts := range []int{3, 12} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			topology := Topology{Name: "bench"}
			for n := range hosts {
				topology.Hosts = append(topology.Hosts, Host{Name: fmt.Sprintf("host-%d", n), Address: netip.AddrFrom4([4]byte{10, 77, 0, byte(n + 1)}), SSH: SSHBuiltIn})
			}
			var up, boot, down []time.Duration
			for b.Loop() {
				started := time.Now()
				l, err := Up(context.Background(), topology, Options{})
				if err != nil {
					b.Fatal(err)
				}
				up = append(up, time.Since(started))
				if err := l.PowerOff(context.Background(), "host-0"); err != nil {
					b.Fatal(err)
				}
				started = time.Now()
				if err := l.Boot(context.Background(), "host-0"); err != nil {
					b.Fatal(err)
				}
				boot = append(boot, time.Since(started))
				started = time.Now()
				if err := l.Down(context.Background()); err != nil {
					b.Fatal(err)
				}
				down = append(down, time.Since(started))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(up), "up-ms")
			b.ReportMetric(median(boot), "boot-ms")
			b.ReportMetric(median(down), "down-ms")
		})
	}
}

func median(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2].Microseconds()) / 1000
}
