package blackhole

import (
	"testing"
	"time"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
	"firedrill/internal/history"
)

func TestEachAddressIsToldWithItsHits(t *testing.T) {
	t.Parallel()
	if err := traffictest.CountsEach(at.NewWorld(t), "", nil, traffictest.Poke, traffictest.Out); err != nil {
		t.Error(err)
	}
}

func TestHitsInTotalAloneAreCaught(t *testing.T) {
	t.Parallel()
	at.Catches(t, func(w *at.World, _ at.Subject, bug string) error {
		return traffictest.CountsEach(w, bug, nil, traffictest.Poke, traffictest.Out)
	}, at.Subject{}, "anonymous")
}

func TestRoutedHitsAreToldByTheAddressOfTheTarget(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	guest, err := w.AddGuest()
	must(t, err)
	must(t, at.Await(func() error { return guest.Connect(at.Target4, at.Port, time.Second) }))
	kept, err := guest.Open(at.Other4, at.Port, 5*time.Second)
	must(t, err)
	t.Cleanup(func() { _ = kept.Close() })
	a := traffictest.Begin(t, w, "--ipaddress=10.9.0.2/31")
	must(t, at.Cut(flow("from the guest", func(limit time.Duration) error { return guest.Connect(at.Target4, at.Port, limit) }),
		flow("kept by the guest", func(limit time.Duration) error { return at.Talk(kept, limit) })))
	told, err := at.AwaitFact(a, func(h *history.AttackHits) bool { return len(h.Addresses) == 2 })
	must(t, err)
	for _, each := range told.Addresses {
		if each.Forward == 0 || each.Address != at.Target4.String() && each.Address != at.Other4.String() {
			t.Errorf("it tells of %+v", each)
		}
	}
}
