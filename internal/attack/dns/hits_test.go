package dns

import (
	"net/netip"
	"testing"
	"time"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
)

// askDNS sends to the port of a name server; nobody answers.
func askDNS(w *at.World, to netip.Addr) { _, _ = w.Host.Datagram(to, 53, 50*time.Millisecond) }

func TestEachAddressIsToldWithItsHits(t *testing.T) {
	t.Parallel()
	if err := traffictest.CountsEach(at.NewWorld(t), "", nil, askDNS, traffictest.Out); err != nil {
		t.Error(err)
	}
}
