package latency

import (
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

// way is the way of attacks under test: the one that every kernel of the gate has.
const way = "--way=queue"

var targets = "--ipaddress=" + at.Target4.String() + "," + at.Target6.String()

func slow(from *at.Namespace, ms int, to ...netip.Addr) traffictest.Slow {
	return traffictest.Slow{AtLeast: time.Duration(ms) * time.Millisecond, From: from, To: to, Port: at.Port}
}

func subject() at.Subject {
	return at.Subject{
		Args:  []string{targets, "--ms=150", way},
		Felt:  func(w *at.World) error { return slow(w.Host, 150, at.Target4, at.Target6).Check() },
		Clear: func(w *at.World) error { return slow(w.Host, 150, at.Target4, at.Target6).Over() },
	}
}

func TestLatencyHoldsTheContract(t *testing.T) { at.Run(t, subject()) }

func TestContractCatchesPlantedBugs(t *testing.T) {
	for bug, check := range map[string]func(*at.World, at.Subject, string) error{
		"never bites": at.RevertsAtDeadline, "instant": at.RevertsOnTerm, "no gate": at.EndsAtDeadlineWhileStopped,
	} {
		t.Run(bug, func(t *testing.T) {
			t.Parallel()
			at.Catches(t, check, subject(), bug)
		})
	}
}

var _ = []any{fmt.Sprint, strings.Contains, unix.SIGTERM, drill.Invalid, history.Note{}}
