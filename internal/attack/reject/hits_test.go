package reject

import (
	"testing"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
)

func TestEachAddressIsToldWithItsHits(t *testing.T) {
	t.Parallel()
	if err := traffictest.CountsEach(at.NewWorld(t), "", nil, traffictest.Poke, traffictest.Out); err != nil {
		t.Error(err)
	}
}
