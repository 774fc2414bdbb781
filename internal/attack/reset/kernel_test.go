package reset

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
	"firedrill/internal/drill"
)

func TestMain(m *testing.M) {
	at.ChildMain(makeKind)
	os.Exit(m.Run())
}

func makeKind(bug string, step func(string)) attack.Kind {
	return Kind{hooks: traffictest.Plant(bug, step)}
}

var targets = "--ipaddress=" + at.Target4.String() + "," + at.Target6.String()

func subject() at.Subject {
	// UDP and ICMP are never touched.
	others := func(w *at.World) error {
		return errors.Join(at.Through(at.Flows(w.Host, at.Target4)[1:]...), at.Through(at.Flows(w.Host, at.Target6)[1:]...))
	}
	return at.Subject{
		Args: []string{targets},
		Felt: func(w *at.World) error {
			return errors.Join(w.Host.Refused(at.Target4, at.Port), w.Host.Refused(at.Target6, at.Port), w.Peer.Refused(at.Host4, at.Port), others(w))
		},
		Clear: func(w *at.World) error {
			return errors.Join(at.Through(at.Flows(w.Host, at.Target4)[0], at.Flows(w.Host, at.Target6)[0], at.Flows(w.Peer, at.Host4)[0]), others(w))
		},
	}
}

func TestResetHoldsTheContract(t *testing.T) { at.Run(t, subject()) }

func TestContractCatchesPlantedBugs(t *testing.T) {
	for bug, check := range map[string]func(*at.World, at.Subject, string) error{
		"never bites": at.RevertsAtDeadline, "own refusals": at.RevertsOnTerm, "none of them": at.RevertsOnTerm,
	} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, check, subject(), bug)
		})
	}
}

// Whoever speaks first finds the connection broken: this host, or the peer.
func TestEstablishedConnectionsAreResetForBothSides(t *testing.T) {
	for name, side := range map[string]func(w *at.World) (*at.Namespace, netip.Addr){
		"from the host": func(w *at.World) (*at.Namespace, netip.Addr) { return w.Host, at.Target6 },
		"from the peer": func(w *at.World) (*at.Namespace, netip.Addr) { return w.Peer, at.Host4 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := at.NewWorld(t)
			from, to := side(w)
			kept, err := from.Open(to, at.Port, 5*time.Second)
			traffictest.Must(t, err)
			t.Cleanup(func() { _ = kept.Close() })
			other, err := w.Host.Open(at.Other4, at.Port, 5*time.Second)
			traffictest.Must(t, err)
			t.Cleanup(func() { _ = other.Close() })
			for _, conn := range []net.Conn{kept, other} {
				traffictest.Must(t, at.Talk(conn, 5*time.Second))
			}
			traffictest.Begin(t, w, targets)
			if err := at.Talk(kept, 5*time.Second); !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("the established connection: %v, want a reset", err)
			}
			traffictest.Must(t, at.Talk(other, 5*time.Second))
		})
	}
}

func TestOrdersOfResetAreRead(t *testing.T) {
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
	if err := at.Deterministic(Kind{}, attack.Values{"ipaddress": {"192.0.2.1"}}, attack.Facts{GUID: at.GUID, Host: "blue"}); err != nil {
		t.Error(err)
	}
	if order, err := (Kind{}).Order(attack.Values{"ipprotocol": {"UDP"}}); drill.KindOf(err) != drill.Invalid {
		t.Errorf("UDP is %+v, %v", order, err)
	}
}
