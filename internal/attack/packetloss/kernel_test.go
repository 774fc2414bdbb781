package packetloss

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

func TestMain(m *testing.M) {
	if code, hidden := attack.Reexec([]attack.Kind{makeKind("-", nil)}); hidden {
		os.Exit(code)
	}
	at.ChildMain(makeKind)
	os.Exit(m.Run())
}

func makeKind(bug string, step func(string)) attack.Kind {
	return Kind{hooks: traffictest.Plant(bug, step)}
}

var targets = "--ipaddress=" + at.Target4.String() + "," + at.Target6.String()

func subject() at.Subject {
	return at.Subject{
		Args: []string{targets, "--percent=50"},
		// Two attacks at once lose three quarters.
		Felt: func(w *at.World) error {
			return traffictest.Volley{Count: 60, Size: 100, AtLeast: 1, AtMost: 48}.Check(w)
		},
		Clear: func(w *at.World) error {
			return traffictest.Volley{Count: 60, Size: 100, AtLeast: 60, AtMost: 60}.Check(w)
		},
	}
}

func TestPacketLossHoldsTheContract(t *testing.T) { at.Run(t, subject()) }

func TestContractCatchesPlantedBugs(t *testing.T) {
	for bug, check := range map[string]func(*at.World, at.Subject, string) error{
		"never bites": at.RevertsAtDeadline, "no gate": at.EndsAtDeadlineWhileStopped, "plain drop": at.RevertsOnTerm,
	} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, check, subject(), bug)
		})
	}
}

// losesTheShare counts. Of 1,000 datagrams 100 should be lost, with a standard deviation of 9.5; the bounds are 6 of them away.
func losesTheShare(w *at.World, _ at.Subject, bug string) error {
	return traffictest.During(w, bug, []string{targets, "--percent=10"}, func() error {
		return traffictest.Volley{Count: 1000, Size: 100, AtLeast: 843, AtMost: 957}.Check(w)
	})
}

func TestLosesTheShareThatWasAskedFor(t *testing.T) {
	t.Parallel()
	traffictest.Must(t, losesTheShare(at.NewWorld(t), at.Subject{}, ""))
}

func TestWrongShareIsCaught(t *testing.T) {
	for _, bug := range []string{"all of them", "none of them"} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, losesTheShare, at.Subject{}, bug)
		})
	}
}

func TestLosesOnlyWhatGoesOutToThePortsNamed(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	a := traffictest.Begin(t, w, targets, "--percent=100", "--egress_port=7", "--ipprotocol=UDP")
	udp := func(port uint16) at.Flow {
		return at.Flow{Name: fmt.Sprintf("udp to port %d", port), Try: func(limit time.Duration) error {
			sent, answered := w.Host.Datagram(at.Target4, port, limit)
			return errors.Join(sent, answered)
		}}
	}
	inward := at.Flow{Name: "udp from the peer", Try: func(limit time.Duration) error { _, err := w.Peer.Datagram(at.Host4, at.Port, limit); return err }}
	traffictest.Must(t, at.Cut(udp(at.Port)), at.Through(udp(at.OtherPort), inward, at.Flows(w.Host, at.Target4)[0]))
	for _, event := range a.Events() {
		if target, ok := event.Fact.(*history.AttackTarget); ok && target.Direction != attack.Egress {
			t.Errorf("it says that it hits %+v", target)
		}
	}
}

func TestSourcePortsNarrowTogetherWithRemotePorts(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	traffictest.Begin(t, w, targets, "--percent=100", "--egress_port=7", "--src_port=4000-4100")
	from := func(local int, port uint16) at.Flow {
		return at.Flow{Name: fmt.Sprintf("udp from port %d to port %d", local, port), Try: func(limit time.Duration) error { return askFrom(w, local, port, limit) }}
	}
	traffictest.Must(t, at.Cut(from(4050, at.Port)), at.Through(from(4050, at.OtherPort), from(5000, at.Port)))
}

func askFrom(w *at.World, local int, port uint16, limit time.Duration) error {
	var conn *net.UDPConn
	err := w.Host.Do(func() (err error) {
		conn, err = net.DialUDP("udp", &net.UDPAddr{Port: local}, net.UDPAddrFromAddrPort(netip.AddrPortFrom(at.Target4, port)))
		return err
	})
	if err != nil {
		return err
	}
	defer conn.Close()
	return at.Talk(conn, limit)
}

func TestEstablishedFlowsAreHitAndGoOn(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	kept, err := w.Host.Open(at.Target6, at.Port, 5*time.Second)
	traffictest.Must(t, err)
	t.Cleanup(func() { _ = kept.Close() })
	established := at.Flow{Name: "established", Try: func(limit time.Duration) error { return at.Talk(kept, limit) }}
	traffictest.Must(t, at.Through(established))
	a := traffictest.Begin(t, w, targets, "--percent=100")
	traffictest.Must(t, at.Cut(established))
	a.Stop()
	traffictest.Must(t, at.Await(func() error { return at.Talk(kept, time.Second) }))
}

func TestCanaryThatGetsThroughALossyPathProvesNothing(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	a, err := w.Start(at.Spec{Args: []string{"--length=3", targets, "--percent=20", "--canary=10.9.0.2:7"}})
	traffictest.Must(t, err)
	t.Cleanup(a.Stop)
	_, err = a.AwaitInForce()
	traffictest.Must(t, err, traffictest.Volley{Count: 60, Size: 100, AtLeast: 1, AtMost: 59}.Check(w))
	if code, account := a.Wait(); code != 0 || account == nil || !account.Bit || !strings.Contains(strings.Join(account.Evidence, " "), "proves nothing") {
		t.Errorf("exit code %d, account %+v, %s", code, account, a.Stderr())
	}
}

func TestOrdersOfPacketLossAreReadAsTheCatalogueSays(t *testing.T) {
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{"": "drop 1% of egress", "100": "drop egress", "2.5": "drop 2.5% of egress"} {
		flags := attack.Values{"ipaddress": {"192.0.2.1"}, "src_port": {"80"}}
		if text != "" {
			flags["percent"] = []string{text}
		}
		facts := attack.Facts{GUID: at.GUID, Host: "blue"}
		if err := at.Deterministic(Kind{}, flags, facts); err != nil {
			t.Error(err)
		}
		order, err := Kind{}.Order(flags)
		if err != nil {
			t.Fatal(err)
		}
		if plan, err := order.Plan(facts); err != nil || !strings.Contains(plan.String(), want+" to 192.0.2.1; only source ports 80") {
			t.Errorf("%s, %v", plan, err)
		}
	}
	for _, wrong := range []attack.Values{{"percent": {"0"}}, {"percent": {"101"}}, {"percent": {"NaN"}}, {"percent": {"x"}}, {"ingress_port": {"80"}}} {
		if order, err := (Kind{}).Order(wrong); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%v is %+v, %v", wrong, order, err)
		}
	}
	if _, err := (Kind{}).Order(attack.Values{"way": {"queue"}}); drill.KindOf(err) != drill.Invalid || drill.HintOf(err) == "" {
		t.Errorf("--way without --corrupt: %v", err)
	}
}
