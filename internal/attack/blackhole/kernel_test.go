package blackhole

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"firedrill/internal/attack"
	"firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/traffictest"
)

func TestMain(m *testing.M) {
	if code, hidden := attack.Reexec([]attack.Kind{makeKind("-", nil)}); hidden {
		os.Exit(code)
	}
	attacktest.ChildMain(makeKind)
	os.Exit(m.Run())
}

func makeKind(bug string, step func(string)) attack.Kind {
	return Kind{hooks: traffictest.Plant(bug, step)}
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
		{attacktest.BugDryRunActs, attacktest.DryRunTouchesNothing},
		{"keep table", attacktest.RevertsOnceWhenToldOften},
	} {
		t.Run(planted.bug, func(t *testing.T) {
			t.Parallel()
			attacktest.Catches(t, planted.check, subject(), planted.bug)
		})
	}
}

// envUnprivileged says that this test binary runs in a user namespace.
const envUnprivileged = "FIREDRILL_ATTACKTEST_UNPRIVILEGED"

// The hosts of a lab are made by an ordinary user: root there has no rights outside of its own namespaces, and small socket buffers.
func TestWorksInAUserNamespace(t *testing.T) {
	if os.Getenv(envUnprivileged) != "" {
		return
	}
	attacktest.Require(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	inner := exec.Command(self, "-test.v", "-test.parallel=8", "-test.run", "^(TestBlackholeHoldsTheContract|TestSpareIsNeverHit|TestManyAddressesFromAFileAreAllHit|"+
		"TestCanariesAndCountersProveTheBite|TestAddressesOfAMovingNameAreAddedAndStayHit)$")
	inner.Env = append(os.Environ(), envUnprivileged+"=1", "FIREDRILL_REQUIRE=kernel")
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}}
	inner.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, UidMappings: ids, GidMappings: ids}
	if out, err := inner.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	} else if passed := strings.Count(string(out), "--- PASS"); passed < 5 {
		t.Errorf("only %d tests passed:\n%s", passed, out)
	}
}
