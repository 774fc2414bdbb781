package blackhole

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
	"firedrill/internal/drill"
)

var bothTargets = "--ipaddress=" + at.Target4.String() + "," + at.Target6.String()

// hitsWholeConnections: of 200 connections 40 should be hit, with a standard deviation of 5.7; the bounds are 5 of them away. Each is hit
// with all its packets or not at all, and none is let out whose answers are then dropped.
func hitsWholeConnections(w *at.World, bug string, to netip.Addr) error {
	flock, err := w.NewFlock(to, 200)
	if err != nil {
		return err
	}
	defer flock.Close()
	return traffictest.During(w, bug, []string{bothTargets, "--percent=20"}, func() error {
		whole, none, lostBack, err := flock.Fly(3)
		if err == nil && (whole+none != 200 || none < 12 || none > 68 || lostBack != 0) {
			err = fmt.Errorf("of 200 connections %d are whole and %d are cut, and %d answers were lost", whole, none, lostBack)
		}
		return err
	})
}

func TestShareOfConnectionsIsDecidedOnceForEach(t *testing.T) {
	for _, to := range []netip.Addr{at.Target4, at.Target6} {
		t.Run(to.String(), func(t *testing.T) {
			t.Parallel()
			must(t, hitsWholeConnections(at.NewWorld(t), "", to))
		})
	}
}

func TestWrongShareOfConnectionsIsCaught(t *testing.T) {
	for _, bug := range []string{"all of them", "coin", "two minds"} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, func(w *at.World, _ at.Subject, bug string) error { return hitsWholeConnections(w, bug, at.Target4) }, at.Subject{}, bug)
		})
	}
}

// growsSlowly: right after the start next to nothing is hit.
func growsSlowly(w *at.World, _ at.Subject, bug string) error {
	return traffictest.During(w, bug, []string{bothTargets, "--percent_of=packets", "--ramp=100"}, func() error {
		return traffictest.Volley{Count: 20, Size: 100, AtLeast: 1, AtMost: 20}.Check(w)
	})
}

// growsWhole: in the end all is hit.
func growsWhole(w *at.World, _ at.Subject, bug string) error {
	return traffictest.During(w, bug, []string{bothTargets, "--ramp=1"}, func() error {
		return at.Await(func() error {
			return errors.Join(at.Cut(at.Flows(w.Host, at.Target4)...), at.Cut(at.Flows(w.Host, at.Target6)...))
		})
	})
}

func TestRampGrowsFromNothingToAll(t *testing.T) {
	for name, check := range map[string]func(*at.World, at.Subject, string) error{"slowly": growsSlowly, "whole": growsWhole} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			must(t, check(at.NewWorld(t), at.Subject{}, ""))
		})
	}
}

func TestWrongRampIsCaught(t *testing.T) {
	for bug, check := range map[string]func(*at.World, at.Subject, string) error{"no ramp": growsSlowly, "stuck ramp": growsWhole} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, check, at.Subject{}, bug)
		})
	}
}

// While the share grows, the kernel takes it all back just the same.
func TestGrowingShareHoldsTheContract(t *testing.T) {
	s := subject()
	s.Args = append(s.Args, "--ramp=1")
	felt := s.Felt
	s.Felt = func(w *at.World) error { return at.Await(func() error { return felt(w) }) }
	for name, check := range map[string]func(*at.World, at.Subject, string) error{
		"killed": at.LeavesNothingWhenKilledAnywhere, "frozen": at.EndsAtDeadlineWhileStopped, "ended": at.RevertsOnTerm,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if name == "frozen" {
				s.Args = append(s.Args[:len(s.Args):len(s.Args)], "--percent_of=packets")
			}
			must(t, check(at.NewWorld(t), s, ""))
		})
	}
}

func TestOrdersOfSharesAreRead(t *testing.T) {
	for _, c := range []struct {
		flags attack.Values
		want  string
	}{
		{attack.Values{}, "drop egress to and ingress from 10.9.0.2"},
		{attack.Values{"percent": {"30"}}, "drop 30% of the connections in egress to and ingress from 10.9.0.2"},
		{attack.Values{"percent": {"30"}, "percent_of": {"Packets"}, "ramp": {"10"}}, "drop 30% of, growing to this within 10s, egress to"},
		{attack.Values{"ramp": {"10"}}, "drop, growing to this within 10s, egress to"},
	} {
		c.flags["ipaddress"] = []string{"10.9.0.2"}
		order, err := Kind{}.Order(c.flags)
		must(t, err)
		if plan, err := order.Plan(facts()); err != nil || !strings.Contains(plan.String(), c.want) {
			t.Errorf("%v is %v, %v, want %q", c.flags, plan, err, c.want)
		}
	}
	for _, wrong := range []attack.Values{{"percent": {"0"}}, {"percent_of": {"bytes"}}, {"ramp": {"61"}}, {"ramp": {"-1"}}, {"ramp": {"soon"}}, {"user": {""}},
		{"user": {"root"}, "cgroup": {"/a"}}} {
		if order, err := (Kind{}).Order(wrong); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%v is %+v, %v", wrong, order, err)
		}
	}
}
