package bandwidth

import (
	"net"
	"net/netip"
	"testing"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
)

// flood sends more at once than may pass.
func flood(w *at.World, to netip.Addr) {
	_ = w.Host.Do(func() error {
		conn, err := net.Dial("udp", netip.AddrPortFrom(to, at.Port).String())
		if err != nil {
			return err
		}
		defer conn.Close()
		for range 400 {
			_, _ = conn.Write(make([]byte, 1000))
		}
		return nil
	})
}

func TestEachAddressIsToldWithItsHits(t *testing.T) {
	t.Parallel()
	if err := traffictest.CountsEach(at.NewWorld(t), "", []string{"--rate=8kbit"}, flood, traffictest.Out); err != nil {
		t.Error(err)
	}
}
