package bandwidth

import (
	"fmt"
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

func subject() at.Subject {
	return at.Subject{
		Args: []string{targets, "--rate=8kbit"},
		// What may be saved up is 132 KB, of the 286 KB that are sent.
		Felt: func(w *at.World) error {
			return traffictest.Volley{Count: 200, Size: 1400, AtLeast: 0, AtMost: 130}.Check(w)
		},
		Clear: func(w *at.World) error {
			return traffictest.Volley{Count: 200, Size: 1400, AtLeast: 200, AtMost: 200}.Check(w)
		},
	}
}

func TestBandwidthHoldsTheContract(t *testing.T) { at.Run(t, subject()) }

func TestContractCatchesPlantedBugs(t *testing.T) {
	for bug, check := range map[string]func(*at.World, at.Subject, string) error{
		"never bites": at.RevertsAtDeadline, "no gate": at.EndsAtDeadlineWhileStopped,
	} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, check, subject(), bug)
		})
	}
}

// keepsTheRate counts bytes. The kernel lets a second's worth and the burst be saved up; then the rate holds, however long it takes.
func keepsTheRate(w *at.World, _ at.Subject, bug string) error {
	const rate, saved, packet = 125000, 125000 + 128<<10, 1000 + 28
	return traffictest.During(w, bug, []string{targets, "--rate=1mbit"}, func() error {
		began := time.Now()
		answered, err := w.Host.Volley(at.Target4, at.Port, 700, 1000)
		most := saved + rate*time.Since(began).Seconds()
		switch bytes := float64(answered * packet); {
		case err != nil:
			return err
		case bytes > 1.05*most:
			return fmt.Errorf("%.0f bytes passed, and %.0f are the most", bytes, most)
		case bytes < 0.8*saved:
			return fmt.Errorf("%.0f bytes passed, and %d had been saved up", bytes, saved)
		}
		return nil
	})
}

func TestKeepsTheRateThatWasAskedFor(t *testing.T) {
	t.Parallel()
	traffictest.Must(t, keepsTheRate(at.NewWorld(t), at.Subject{}, ""))
}

func TestWrongRateIsCaught(t *testing.T) {
	for _, bug := range []string{"all of them", "none of them"} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, keepsTheRate, at.Subject{}, bug)
		})
	}
}

func TestEstablishedFlowsAreNarrowedAndOthersAreNot(t *testing.T) {
	t.Parallel()
	w := at.NewWorld(t)
	kept, err := w.Host.Open(at.Target4, at.Port, 5*time.Second)
	traffictest.Must(t, err)
	t.Cleanup(func() { _ = kept.Close() })
	traffictest.Must(t, at.Talk(kept, 5*time.Second))
	a := traffictest.Begin(t, w, targets, "--rate=8kbit")
	_ = kept.SetDeadline(time.Now().Add(time.Minute))
	go func() { _, _ = kept.Write(make([]byte, 4<<20)) }()
	hits, err := at.AwaitFact(a, func(f *history.AttackHits) bool { return f.Egress > 0 })
	traffictest.Must(t, err, at.Through(at.Flows(w.Host, at.Other4)...), a.Signal(unix.SIGTERM))
	if len(hits.Addresses) == 0 {
		t.Errorf("hits %+v: want the address", hits)
	}
	a.Wait()
}

func TestRatesAreReadAndPrintedBack(t *testing.T) {
	for text, want := range map[string]uint64{"10mbit": 1250000, "8kbit": 1000, " 1.5 Gbit ": 187500000, "64000bit": 8000, "1000gbit": 125000000000} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%q is %d (%v), want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "10", "10mb", "mbit", "-5mbit", "7kbit", "1001gbit", "NaNmbit", "infmbit", "1e400gbit"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("%q is %d, want an error", text, got)
		}
	}
}

func FuzzRate(f *testing.F) {
	for _, seed := range []string{"10mbit", "1e3kbit", "0x1pmbit", "bit", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if rate, err := ParseRate(text); err == nil && (rate < rateMin || rate > rateMax) {
			t.Errorf("%q is %d", text, rate)
		}
	})
}

func TestOrdersOfBandwidthAreRead(t *testing.T) {
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
	flags, facts := attack.Values{"ipaddress": {"192.0.2.1"}, "rate": {"10mbit"}}, attack.Facts{GUID: at.GUID, Host: "blue"}
	if err := at.Deterministic(Kind{}, flags, facts); err != nil {
		t.Error(err)
	}
	order, err := Kind{}.Order(flags)
	if err != nil {
		t.Fatal(err)
	}
	if plan, err := order.Plan(facts); err != nil || !strings.Contains(plan.String(), "above 10 Mbit/s each way") {
		t.Errorf("%s, %v", plan, err)
	}
	if order, err := (Kind{}).Order(attack.Values{}); drill.KindOf(err) != drill.Invalid || drill.HintOf(err) == "" {
		t.Errorf("no rate is %+v, %v", order, err)
	}
}
