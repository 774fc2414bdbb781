package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

const (
	// envBug is what attacktest hands to the processes that it starts.
	envBug = "FIREDRILL_ATTACKTEST_CHILD"
	// envState is the directory of the stand-in for systemctl. Without it the real one is used.
	envState = "FIREDRILL_SERVICE_TEST_STATE"
)

func TestMain(m *testing.M) {
	if code, hidden := attack.Reexec([]attack.Kind{makeKind(os.Getenv(envBug), nil)}); hidden {
		os.Exit(code)
	}
	at.ChildMain(makeKind)
	os.Exit(m.Run())
}

// envStandIn is the path of the stand-in for systemctl.
const envStandIn = "FIREDRILL_SERVICE_TEST_SYSTEMCTL"

func makeKind(bug string, mark func(string)) attack.Kind {
	return Kind{hooks: hooks{systemctl: os.Getenv(envStandIn), mark: mark, late: bug == "late", forgetful: bug == "forgetful", boast: bug == "boast",
		alone: bug == "alone", enables: bug == "enables"}}
}

// units are the properties of what "runs" on a host: a service with a socket that would start it, one that needs it, and strangers.
var units = map[string]string{
	"api.service":    "ActiveState=active\nUnitFileState=disabled\nTriggeredBy=api.socket api.timer\nRequiredBy=web.service idle.service\nLoadState=loaded\n",
	"api.socket":     "ActiveState=active\nTriggers=api.service\nUnitFileState=enabled\nLoadState=loaded\n",
	"api.timer":      "ActiveState=inactive\nUnitFileState=disabled\nLoadState=loaded\n",
	"web.service":    "ActiveState=active\nUnitFileState=static\nLoadState=loaded\n",
	"idle.service":   "ActiveState=inactive\nUnitFileState=enabled\nLoadState=loaded\n",
	"other.service":  "ActiveState=active\nUnitFileState=enabled\nLoadState=loaded\n",
	"masked.service": "ActiveState=inactive\nUnitFileState=masked\nLoadState=masked\n",
	"base.service":   "ActiveState=active\nUnitFileState=enabled\nRequiredBy=all.target\nLoadState=loaded\n",
	"all.target":     "ActiveState=active\nUnitFileState=static\nLoadState=loaded\n",
	"ssh.service":    "ActiveState=active\nUnitFileState=enabled\nLoadState=loaded\n",
}

// host makes a host with these units, of which the processes that the test starts know.
func host(t *testing.T) systemd {
	t.Helper()
	directory := t.TempDir()
	for name, properties := range units {
		if err := os.WriteFile(filepath.Join(directory, name), []byte("Id="+name+"\n"+properties), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	standIn, err := filepath.Abs("testdata/systemctl")
	if err != nil {
		t.Fatal(err)
	}
	// A guardian whose attack a test has killed still writes there.
	t.Cleanup(func() {
		_ = at.Await(func() error {
			if left, _ := filepath.Glob("/var/lib/firedrill/journal/*.*"); len(left) > 0 && os.Getpid() == 1 {
				return fmt.Errorf("%v is left", left)
			}
			return nil
		})
	})
	t.Setenv(envState, directory)
	t.Setenv(envStandIn, standIn)
	return systemd{path: standIn}
}

// states are all units as they are.
func states(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	found, err := filepath.Glob(filepath.Join(os.Getenv(envState), "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range found {
		text, err := os.ReadFile(path)
		if err != nil {
			return err.Error() // it is being written
		}
		b.Write(text)
	}
	return b.String()
}

func (s systemd) isState(unit, want string) error {
	got, err := s.state(context.Background(), unit)
	if err == nil && got != want {
		err = fmt.Errorf("%s is %s, want %s", unit, got, want)
	}
	return err
}

func subject(t *testing.T, limit time.Duration) at.Subject {
	t.Helper()
	manager := host(t)
	before := states(t)
	return at.Subject{
		Args: []string{"--unit=api"},
		Felt: func(*at.World) error {
			return errors.Join(manager.isState("api.service", "inactive"), manager.isState("api.socket", "inactive"), manager.isState("web.service", "inactive"),
				manager.isState("other.service", "active"))
		},
		Clear: func(*at.World) error {
			return at.Settled(limit, func() error {
				if now := states(t); now != before {
					return fmt.Errorf("units were\n%s\nand are\n%s", before, now)
				}
				return nil
			})
		},
		Guarded: true,
	}
}

func TestServiceHoldsTheContract(t *testing.T) {
	at.RunAlone(t, func(t *testing.T) at.Subject { return subject(t, at.Patience()) }, nil)
}

// inForce starts an attack and waits until it is in force.
func inForce(t *testing.T, args ...string) *at.Attack {
	t.Helper()
	a, err := at.NewWorld(t).Start(at.Spec{Args: args})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	if _, err := a.AwaitInForce(); err != nil {
		t.Fatal(err, a.Stderr())
	}
	return a
}

func TestContractCatchesPlantedBugs(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	for bug, check := range map[string]func(*at.World, at.Subject, string) error{
		"late": at.LeavesNothingWhenKilledAnywhere, "alone": at.RevertsOnTerm, "enables": at.RevertsOnTerm, "boast": at.RevertsAtDeadline,
	} {
		t.Run(bug, func(t *testing.T) {
			s := subject(t, at.Moment)
			s.Felt = func(*at.World) error { return nil }
			at.Catches(t, check, s, bug)
		})
	}
}

// asked checks that undo leaves what another attack holds to that one.
func asked(t *testing.T, h hooks) error {
	t.Helper()
	manager := host(t)
	h.systemctl = manager.path
	if err := manager.order(t.Context(), "stop", []string{"other.service"}); err != nil {
		t.Fatal(err)
	}
	change := attack.Change{Undo: []byte(`{"unit":"other.service","enabled":"enabled"}`)}
	if err := (Kind{hooks: h}).Undo(t.Context(), change, []attack.Change{change}); err != nil {
		return err
	}
	if err := manager.isState("other.service", "inactive"); err != nil {
		return fmt.Errorf("another attack holds it stopped: %w", err)
	}
	return errors.Join((Kind{hooks: h}).Undo(t.Context(), change, nil), manager.isState("other.service", "active"))
}

func TestTheLastAttackStartsTheUnit(t *testing.T) {
	if err := asked(t, hooks{}); err != nil {
		t.Error(err)
	}
	err := asked(t, hooks{forgetful: true})
	if err == nil {
		t.Error("the planted bug of forgetting others was not caught")
	}
	t.Logf("caught: %v", err)
}

// We may die when the socket is stopped and the service is not yet.
func TestASocketComesBackUnderAServiceThatRuns(t *testing.T) {
	manager := host(t)
	before := states(t)
	if err := manager.order(t.Context(), "stop", []string{"api.socket"}); err != nil {
		t.Fatal(err)
	}
	change := attack.Change{Undo: []byte(`{"unit":"api.socket","enabled":"enabled"}`)}
	if err := makeKind("", nil).(Kind).Undo(t.Context(), change, nil); err != nil {
		t.Error(err)
	}
	if now := states(t); now != before {
		t.Errorf("units are\n%s\nwere\n%s", now, before)
	}
}

func TestStopsAgainWhatSomebodyStarts(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	s := subject(t, at.Patience())
	a := inForce(t, "--length=60", "--unit=api")
	manager := systemd{path: os.Getenv(envStandIn)}
	if err := manager.order(t.Context(), "start", []string{"web.service"}); err != nil {
		t.Fatal(err)
	}
	if err := at.Await(func() error { return s.Felt(nil) }); err != nil {
		t.Error(err)
	}
	_ = a.Signal(unix.SIGTERM)
	if code, account := a.Wait(); code != 143 || account == nil || !account.Bit || !strings.Contains(strings.Join(account.Evidence, "; "), "stopped again") {
		t.Errorf("exit code %d, account %+v", code, account)
	}
	if err := s.Clear(nil); err != nil {
		t.Error(err)
	}
}

func TestPlanNamesAllThatGoesAlong(t *testing.T) {
	host(t)
	got, err := plan(t, "api", false)
	if err != nil {
		t.Fatal(err)
	}
	want := "stop api.service, which is active\nstop web.service, which is active and needs api.service\n" +
		"stop api.socket, which is active and would start api.service again\nstart what was active again at the end"
	if strings.Join(got.Lines(), "\n") != want || got.Remains() != attack.RemainsUntilStart {
		t.Errorf("it says\n%s\nwant\n%s", strings.Join(got.Lines(), "\n"), want)
	}
}

func plan(t *testing.T, unit string, consent bool) (attack.Plan, error) {
	t.Helper()
	order, err := makeKind("", nil).Order(attack.Values{"unit": {unit}})
	if err != nil {
		return attack.Plan{}, err
	}
	facts := attack.Facts{GUID: at.GUID, Host: "blue", Consent: consent}
	surveying, ok := order.(attack.Surveying)
	if !ok {
		t.Fatal("the order surveys nothing")
	}
	if err := surveying.Survey(t.Context(), &facts); err != nil {
		return attack.Plan{}, err
	}
	return order.Plan(facts)
}

func TestRefusesWhatItCannotBringBack(t *testing.T) {
	host(t)
	for unit, says := range map[string]string{"nobody": "not-found", "masked": "masked", "base": "all.target", "ssh": "consent"} {
		if got, err := plan(t, unit, false); drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), says) || drill.HintOf(err) == "" {
			t.Errorf("%s: %v, %v; want it refused for %s, with a cure", unit, got, err, says)
		}
	}
	if _, err := plan(t, "ssh", true); err != nil {
		t.Errorf("ssh with consent: %v", err)
	}
}

func TestRefusesUnitsThatHoldUs(t *testing.T) {
	unit := attack.Unit{Name: "api.service", Load: loaded, Active: active, Processes: []int{7, 8}}
	for name, test := range map[string]struct {
		process procs.Process
		consent bool
		admit   bool
	}{
		"us":                 {procs.Process{ID: procs.ID{PID: 8}, Protected: "we descend from it"}, true, false},
		"sshd":               {procs.Process{ID: procs.ID{PID: 8}, Protected: "it is sshd", Consent: true}, false, false},
		"sshd, with consent": {procs.Process{ID: procs.ID{PID: 8}, Protected: "it is sshd", Consent: true}, true, true},
		"somewhere else":     {procs.Process{ID: procs.ID{PID: 9}, Protected: "it is us"}, false, true},
	} {
		err := admit(unit, attack.Facts{Processes: []procs.Process{test.process}, Consent: test.consent})
		if (err == nil) != test.admit || err != nil && drill.KindOf(err) != drill.Refused {
			t.Errorf("%s: %v, want it admitted: %t", name, err, test.admit)
		}
	}
}

func TestRefusesAUnitThatDoesNotRun(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	host(t)
	before := states(t)
	a, err := at.NewWorld(t).Start(at.Spec{Args: []string{"--length=4", "--unit=idle"}})
	if err != nil {
		t.Fatal(err)
	}
	code, account := a.Wait()
	if code == 0 || account == nil || account.Bit || !account.Reverted || !strings.Contains(a.Stderr(), "does not run") {
		t.Errorf("exit code %d, account %+v, %s", code, account, a.Stderr())
	}
	if now := states(t); now != before {
		t.Errorf("units are\n%s\nwere\n%s", now, before)
	}
}

func TestRefusesAHostWithoutSystemd(t *testing.T) {
	if !at.Alone(t) {
		return // there process 1 is a test
	}
	t.Setenv(envStandIn, "")
	a, err := at.NewWorld(t).Start(at.Spec{Args: []string{"--length=1", "--unit=api"}})
	if err != nil {
		t.Fatal(err)
	}
	if code, account := a.Wait(); code == 0 || account != nil {
		t.Errorf("exit code %d, account %+v", code, account)
	}
	refused, err := at.AwaitFact(a, func(*history.AttackRefused) bool { return true })
	if err != nil || !strings.Contains(refused.Reason, "systemd is not the init") || refused.Cure == "" {
		t.Errorf("%+v, %v; want a refusal with a cure", refused, err)
	}
}

func TestWrongFlagsAreRefused(t *testing.T) {
	for _, flags := range []attack.Values{{}, {"unit": {""}}, {"unit": {"a.target"}}, {"unit": {"-a"}}, {"unit": {"a b"}}, {"unit": {"*.service"}}, {"unit": {"../a"}},
		{"unit": {"a"}, "length": {"0"}}, {"unit": {"a"}, "signal": {"x"}}} {
		if _, err := (Kind{}).Order(flags); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%v: %v, want invalid", flags, err)
		}
	}
}

func TestServiceIsDescribedAndDeterministic(t *testing.T) {
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
	facts := attack.Facts{Units: []attack.Unit{{Name: "api.service", Load: loaded, Active: active}}}
	if err := at.Deterministic(Kind{}, attack.Values{"unit": {"api"}}, facts); err != nil {
		t.Error(err)
	}
}
