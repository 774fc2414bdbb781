package blackhole

import (
	"fmt"
	"os"
	"testing"

	"firedrill/internal/attack"
	"firedrill/internal/attack/attacktest"
)

func TestMain(m *testing.M) {
	attacktest.ChildMain(makeKind)
	os.Exit(m.Run())
}

// makeKind plants a bug by name.
func makeKind(bug string, step func(string)) attack.Kind {
	h := hooks{step: step}
	plant := map[string]*bool{
		"no owner": &h.noOwner, "no gate": &h.noGate, "no spare": &h.noSpare, "past end": &h.pastEnd, "plain drop": &h.plainDrop,
		"resolve once": &h.resolveOnce, "keep table": &h.keepTable, "never bites": &h.neverBites,
	}
	switch at := plant[bug]; {
	case at != nil:
		*at = true
	case bug == "no owner, no gate":
		h.noOwner, h.noGate = true, true
	case bug != "-":
		panic(fmt.Sprintf("no such bug: %q", bug))
	}
	return Kind{hooks: h}
}

func subject() attacktest.Subject {
	target := func(w *attacktest.World) []attacktest.Flow {
		return append(attacktest.Flows(w.Host, attacktest.Target4), attacktest.Flows(w.Host, attacktest.Target6)...)
	}
	return attacktest.Subject{
		Args:  []string{"--ipaddress=" + attacktest.Target4.String(), "--ipaddress=" + attacktest.Target6.String()},
		Felt:  func(w *attacktest.World) error { return attacktest.Cut(target(w)...) },
		Clear: func(w *attacktest.World) error { return attacktest.Through(target(w)...) },
	}
}

func TestBlackholeHoldsTheContract(t *testing.T) { attacktest.Run(t, subject()) }

func TestContractCatchesPlantedBugs(t *testing.T) {
	for _, planted := range []struct {
		bug   string
		check func(*attacktest.World, attacktest.Subject, string) error
	}{
		{"no owner, no gate", attacktest.LeavesNothingWhenKilledAnywhere},
		{"no gate", attacktest.EndsAtDeadlineWhileStopped},
		{"keep table", attacktest.RevertsOnTerm},
		{"never bites", attacktest.RevertsAtDeadline},
		{"plain drop", attacktest.RevertsOnTerm},
	} {
		t.Run(planted.bug, func(t *testing.T) {
			t.Parallel()
			attacktest.Catches(t, planted.check, subject(), planted.bug)
		})
	}
}
