package reject

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

func TestMain(m *testing.M) {
	at.ChildMain(makeKind)
	os.Exit(m.Run())
}

func makeKind(bug string, step func(string)) attack.Kind {
	return Kind{hooks: traffictest.Plant(bug, step)}
}

var targets = "--ipaddress=" + at.Target4.String() + "," + at.Target6.String()

func refused(w *at.World) error {
	return errors.Join(w.Host.Refused(at.Target4, at.Port), w.Host.Refused(at.Target6, at.Port), w.Peer.Refused(at.Host4, at.Port))
}

func clear(w *at.World) error {
	return errors.Join(at.Through(at.Flows(w.Host, at.Target4)...), at.Through(at.Flows(w.Host, at.Target6)...), at.Through(at.Flows(w.Peer, at.Host4)...))
}

func subject() at.Subject { return at.Subject{Args: []string{targets}, Felt: refused, Clear: clear} }

func TestRejectHoldsTheContract(t *testing.T) { at.Run(t, subject()) }

func TestContractCatchesPlantedBugs(t *testing.T) {
	for bug, check := range map[string]func(*at.World, at.Subject, string) error{
		"never bites": at.RevertsAtDeadline, "own refusals": at.RevertsOnTerm, "no gate": at.EndsAtDeadlineWhileStopped,
		at.BugInTime: at.DeadlineBeforeReady, at.BugDryRunActs: at.RevertsWithoutApply,
	} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, check, subject(), bug)
		})
	}
}

func TestRefusesEachProtocolAsAsked(t *testing.T) {
	for with, want := range map[string]error{"icmp": unix.EHOSTUNREACH, "reset": unix.ECONNREFUSED} {
		t.Run(with, func(t *testing.T) {
			t.Parallel()
			w := at.NewWorld(t)
			traffictest.Begin(t, w, targets, "--with="+with)
			for _, to := range []netip.Addr{at.Target4, at.Target6} {
				// Over IPv6 the same refusal is known to applications as "permission denied".
				is := func(err error) bool { return errors.Is(err, want) || to.Is6() && errors.Is(err, unix.EACCES) }
				if err := w.Host.Connect(to, at.Port, 5*time.Second); !is(err) {
					t.Errorf("tcp to %s: %v, want %v", to, err, want)
				}
				// The sender's own kernel tells it before the refusal can.
				if sent, err := w.Host.Datagram(to, at.Port, 5*time.Second); !errors.Is(sent, unix.EPERM) && !is(err) {
					t.Errorf("udp to %s: %v, want %v", to, err, want)
				}
			}
			traffictest.Must(t, at.Through(at.Flows(w.Host, at.Other4)...), at.Through(at.Flows(w.Host, at.Host4)...))
		})
	}
}

func TestEstablishedConnectionIsRefusedToo(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	kept, err := w.Host.Open(at.Target4, at.Port, 5*time.Second)
	traffictest.Must(t, err)
	t.Cleanup(func() { _ = kept.Close() })
	traffictest.Must(t, at.Talk(kept, 5*time.Second))
	traffictest.Begin(t, w, targets, "--with=reset")
	if err := at.Talk(kept, 5*time.Second); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the established connection: %v, want a reset", err)
	}
}

func TestRoutedTrafficIsRefusedToo(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	guest, err := w.AddGuest()
	traffictest.Must(t, err, at.Await(func() error { return at.Through(at.Flows(guest, at.Target4)...) }))
	traffictest.Begin(t, w, targets)
	traffictest.Must(t, guest.Refused(at.Target4, at.Port), at.Through(at.Flows(guest, at.Other4)...))
}

func TestCanaryThatIsRefusedProvesTheBite(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	a := traffictest.Begin(t, w, targets, "--canary=10.9.0.2:7", "--with=reset")
	if _, err := at.AwaitFact(a, func(f *history.AttackCanary) bool { return f.When == "in force" }); err != nil {
		t.Fatal(err)
	}
	traffictest.Must(t, a.Signal(unix.SIGTERM))
	if _, account := a.Wait(); account == nil || !account.Bit || !strings.Contains(strings.Join(account.Evidence, " "), "cut off in") {
		t.Errorf("account %+v: want the canary's refusal as evidence", account)
	}
}

func TestOrdersOfRejectAreRead(t *testing.T) {
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
	facts := attack.Facts{GUID: at.GUID, Host: "blue"}
	for with, want := range map[string]string{"icmp": "administratively", "reset": "TCP reset"} {
		flags := attack.Values{"with": {with}, "ipaddress": {"192.0.2.1"}}
		if err := at.Deterministic(Kind{}, flags, facts); err != nil {
			t.Error(err)
		}
		order, err := Kind{}.Order(flags)
		if err != nil {
			t.Fatal(err)
		}
		if plan, err := order.Plan(facts); err != nil || !strings.Contains(fmt.Sprint(plan), want) {
			t.Errorf("%s, %v", plan, err)
		}
	}
	if order, err := (Kind{}).Order(attack.Values{"with": {"drop"}}); drill.KindOf(err) != drill.Invalid {
		t.Errorf("--with=drop is %+v, %v", order, err)
	}
}
