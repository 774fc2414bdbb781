package dns

import (
	"errors"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

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

// both are a TCP and a UDP flow from the host to a port.
func both(w *at.World, to netip.Addr, port uint16) []at.Flow {
	return []at.Flow{
		{Name: "tcp to " + netip.AddrPortFrom(to, port).String(), Try: func(limit time.Duration) error { return w.Host.Connect(to, port, limit) }},
		{Name: "udp to " + netip.AddrPortFrom(to, port).String(), Try: func(limit time.Duration) error {
			sent, answered := w.Host.Datagram(to, port, limit)
			return errors.Join(sent, answered)
		}},
	}
}

func servers(w *at.World, to ...netip.Addr) (flows []at.Flow) {
	for _, addr := range to {
		flows = append(append(flows, both(w, addr, 53)...), both(w, addr, 853)...)
	}
	return flows
}

func subject() at.Subject {
	return at.Subject{
		World: func(w *at.World) error {
			return errors.Join(w.Listen(w.Peer, 53, at.Target4, at.Target6, at.Other4), w.Listen(w.Peer, 853, at.Target4, at.Target6, at.Other4))
		},
		Felt:  func(w *at.World) error { return at.Cut(servers(w, at.Target4, at.Target6)...) },
		Clear: func(w *at.World) error { return at.Through(servers(w, at.Target4, at.Target6)...) },
	}
}

func TestDNSHoldsTheContract(t *testing.T) { at.Run(t, subject()) }

func TestDNSThatNeverBitesIsCaught(t *testing.T) {
	at.Catches(t, at.RevertsAtDeadline, subject(), "never bites")
}

func TestCutsAllServersAndNothingElse(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	traffictest.Must(t, subject().World(w))
	kept, err := w.Host.Open(at.Target4, 53, 5*time.Second)
	traffictest.Must(t, err)
	t.Cleanup(func() { _ = kept.Close() })
	traffictest.Must(t, at.Talk(kept, 5*time.Second))
	traffictest.Begin(t, w)
	established := at.Flow{Name: "established tcp to port 53", Try: func(limit time.Duration) error { return at.Talk(kept, limit) }}
	traffictest.Must(t,
		at.Cut(append(servers(w, at.Target4, at.Target6, at.Other4), established)...),
		at.Through(at.Flows(w.Host, at.Target4)...), at.Through(at.Flows(w.Host, at.Target6)...))
}

func TestCutsOnlyTheServersAndProtocolThatAreNamed(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	traffictest.Must(t, subject().World(w))
	traffictest.Begin(t, w, "--ipaddress=10.9.0.0/24,^"+at.Other4.String(), "--ipprotocol=UDP")
	traffictest.Must(t,
		at.Cut(both(w, at.Target4, 53)[1]), at.Through(both(w, at.Target4, 53)[0]),
		at.Through(servers(w, at.Other4, at.Target6)...))
}

func TestOrdersOfDNSAreReadAsTheCatalogueSays(t *testing.T) {
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
	facts := attack.Facts{GUID: at.GUID, Host: "blue"}
	if err := at.Deterministic(Kind{}, attack.Values{}, facts); err != nil {
		t.Error(err)
	}
	for _, wrong := range []attack.Values{{"ipprotocol": {"ICMP"}}, {"hostname": {"ns"}}, {"ipaddress": {"ns"}}, {"length": {"0"}}} {
		if order, err := (Kind{}).Order(wrong); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%v is %+v, %v", wrong, order, err)
		}
	}
	order, err := Kind{}.Order(attack.Values{})
	if err != nil {
		t.Fatal(err)
	}
	plan, err := order.Plan(facts)
	if err != nil || !strings.Contains(plan.String(), "only remote ports 53, 853") {
		t.Errorf("%s, %v", plan, err)
	}
}
