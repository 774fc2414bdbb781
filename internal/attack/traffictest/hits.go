package traffictest

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/history"
)

// CountsEach checks that an attack on a CIDR and on addresses of their own tells how often each address was hit: two within the CIDR, one
// beside it, and one of the other family; and that it tells of no other address. poke sends something to an address that is hit, direction
// picks the figure that must not be 0, args are those of the kind.
func CountsEach(w *at.World, bug string, args []string, poke func(*at.World, netip.Addr), direction func(history.AddressHits) uint64) error {
	// 10.9.0.2 and .3 lie within the CIDR; .11 and .13 do not, and only .11 is named.
	args = append([]string{"--ipaddress=10.9.0.2/31," + at.Pool[0].String() + "," + at.Target6.String()}, args...)
	a, err := begin(w, bug, args)
	if err != nil {
		return err
	}
	defer a.Stop()
	wanted := map[string]bool{at.Target4.String(): false, at.Other4.String(): false, at.Pool[0].String(): false, at.Target6.String(): false}
	for address := range wanted {
		poke(w, netip.MustParseAddr(address))
	}
	if err := at.Through(at.Flows(w.Host, at.Pool[2])...); err != nil {
		return err
	}
	told, err := at.AwaitFact(a, func(h *history.AttackHits) bool {
		got := 0
		for _, each := range h.Addresses {
			if direction(each) > 0 {
				got++
			}
		}
		return got >= len(wanted)
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, each := range told.Addresses {
		if _, meant := wanted[each.Address]; !meant {
			errs = append(errs, fmt.Errorf("it says that %s was hit", each.Address))
		}
	}
	return errors.Join(errs...)
}

// Poke sends over TCP and UDP, and does not care whether an answer comes.
func Poke(w *at.World, to netip.Addr) {
	for _, flow := range at.Flows(w.Host, to)[:2] {
		_ = flow.Try(50 * time.Millisecond)
	}
}

// Out is the figure of what was hit on its way out.
func Out(h history.AddressHits) uint64 { return h.Egress }
