//go:build vm

package packetloss

import (
	"fmt"
	"testing"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
)

// What follows needs a kernel with netem: go run ./tools/vm.

func TestNetemCorruptsTheShareThatWasAskedFor(t *testing.T) {
	w := at.NewWorld(t)
	before, err := broken(w.Peer)
	traffictest.Must(t, err)
	traffictest.Must(t, traffictest.During(w, "", []string{targets, "--percent=30", "--corrupt=true", "--way=netem"}, func() error {
		return traffictest.Volley{Count: 400, Size: 100, AtLeast: 225, AtMost: 335}.Check(w)
	}))
	// netem flips a bit anywhere, in the address of the Ethernet frame too: a few do not even arrive.
	if after, err := broken(w.Peer); err != nil || after-before < 35 || after-before > 175 {
		t.Errorf("%v", fmt.Errorf("%d of 400 datagrams arrived broken (%v), want about 100", after-before, err))
	}
}

func TestNetemCorruptionHoldsTheContract(t *testing.T) {
	s := corrupting()
	s.Args[len(s.Args)-1] = "--way=netem"
	for _, check := range at.Contract() {
		switch check.Name {
		case "RevertsOnTerm", "RevertsAtDeadline", "LeavesNothingWhenKilledAnywhere":
			t.Run(check.Name, func(t *testing.T) {
				if err := check.Run(at.NewWorld(t), s, ""); err != nil {
					t.Error(err)
				}
			})
		}
	}
}
