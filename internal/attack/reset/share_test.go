package reset

import (
	"testing"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
)

func TestShareOfConnectionsIsRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	if err := traffictest.RefusesHalf(at.NewWorld(t), "", nil); err != nil {
		t.Error(err)
	}
}

func TestWrongShareOfConnectionsIsCaught(t *testing.T) {
	for _, bug := range []string{"coin"} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, func(w *at.World, _ at.Subject, bug string) error { return traffictest.RefusesHalf(w, bug, nil) }, at.Subject{}, bug)
		})
	}
}
