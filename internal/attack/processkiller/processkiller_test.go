package processkiller

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	at "firedrill/internal/attack/attacktest"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

func TestMain(m *testing.M) {
	at.ChildMain(makeKind)
	os.Exit(m.Run())
}

func makeKind(bug string, mark func(string)) attack.Kind {
	return Kind{hooks: hooks{mark: mark, spareNobody: bug == "spare nobody", unasked: bug == "unasked", boast: bug == "boast"}}
}

// victim starts a process that only waits; called names it. It is reaped as soon as it ends.
func victim(t *testing.T, called string, args ...string) procs.Process {
	t.Helper()
	cmd := exec.Command("sh", args...)
	cmd.Args[0] = called
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(reaped)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-reaped
	})
	p, err := procs.Stat(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// waiting is a shell that waits; obedient ends at SIGTERM, stubborn does not.
var (
	waiting  = []string{"-c", "while :; do sleep 600; done"}
	stubborn = []string{"-c", "trap '' TERM; while :; do sleep 600; done"}
)

func gone(id procs.ID) error {
	_, err := procs.Find(id)
	if errors.Is(err, procs.ErrGone) {
		return nil
	}
	return errors.Join(fmt.Errorf("process %d is there", id.PID), err)
}

func attackOn(t *testing.T, bug string, args ...string) (code int, account *history.AttackAccount, a *at.Attack) {
	t.Helper()
	a, err := at.NewWorld(t).Start(at.Spec{Bug: bug, Args: append([]string{"--length=5"}, args...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	code, account = a.Wait()
	return code, account, a
}

func TestKillsWhatMatchesAndProvesIt(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	meant, other := victim(t, "meant", waiting...), victim(t, "other", waiting...)
	code, account, a := attackOn(t, "", "--process=^meant", "--full=true")
	if code != 0 || account == nil || !account.Bit || !account.Reverted {
		t.Fatalf("exit code %d, account %+v: %s", code, account, a.Stderr())
	}
	if err := gone(meant.ID); err != nil {
		t.Error(err)
	}
	if _, err := procs.Find(other.ID); err != nil {
		t.Errorf("the other process: %v", err)
	}
	if !strings.Contains(strings.Join(account.Evidence, "; "), fmt.Sprintf("SIGKILL was sent to %s, and it ended", meant)) {
		t.Errorf("the evidence is %q", account.Evidence)
	}
}

func TestKillsAgainWhatComesBack(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	victim(t, "meant", waiting...)
	a, err := at.NewWorld(t).Start(at.Spec{Args: []string{"--length=60", "--interval=100ms", "--process=^meant", "--full=true"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Stop)
	if _, err := a.AwaitInForce(); err != nil {
		t.Fatal(err)
	}
	again := victim(t, "meant", waiting...)
	if err := at.Await(func() error { return gone(again.ID) }); err != nil {
		t.Error(err)
	}
	if err := a.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code, account := a.Wait(); code != 143 || account == nil || !account.Bit {
		t.Errorf("exit code %d, account %+v", code, account)
	}
	later := victim(t, "meant", waiting...)
	if _, err := procs.Find(later.ID); err != nil {
		t.Errorf("after the attack: %v", err)
	}
}

// bites checks that a process that ignores the signal is no bite.
func bites(t *testing.T, bug string) error {
	t.Helper()
	p := victim(t, "stubborn", stubborn...)
	// The trap must stand first: then its child, the sleep, is there.
	if err := at.Await(func() error {
		all, err := procs.List()
		for _, child := range all {
			if child.Parent == p.PID && child.Name == "sleep" {
				return nil
			}
		}
		return errors.Join(errors.New("no child yet"), err)
	}); err != nil {
		return err
	}
	code, account, _ := attackOn(t, bug, "--process="+strconv.Itoa(p.PID), "--signal=TERM")
	if account == nil || account.Bit || code == 0 {
		return fmt.Errorf("exit code %d, account %+v: a process that lives is no bite", code, account)
	}
	return nil
}

func TestSignalAloneIsNoProof(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	if err := bites(t, ""); err != nil {
		t.Error(err)
	}
	err := bites(t, "boast")
	if err == nil {
		t.Error("the planted bug of boasting was not caught")
	}
	t.Logf("caught: %v", err)
}

// spares checks that sshd lives although it matches.
func spares(t *testing.T, bug string) error {
	t.Helper()
	meant := victim(t, "meant", waiting...)
	sshd := victim(t, "sshd: meant", "-c", "printf sshd > /proc/$$/comm; while :; do sleep 600; done")
	if err := at.Await(func() error {
		if p, err := procs.Find(sshd.ID); err != nil || p.Name != "sshd" {
			return errors.Join(fmt.Errorf("%s is not sshd yet", p), err)
		}
		return nil
	}); err != nil {
		return err
	}
	code, account, a := attackOn(t, bug, "--process=meant", "--full=true")
	if err := gone(meant.ID); err != nil {
		return fmt.Errorf("exit code %d, %+v, %s: %w", code, account, a.Stderr(), err)
	}
	_, err := procs.Find(sshd.ID)
	return err
}

func TestSpareIsNeverKilled(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	if err := spares(t, ""); err != nil {
		t.Error(err)
	}
}

func TestSpareCheckCatchesThePlantedBug(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	err := spares(t, "spare nobody")
	if err == nil {
		t.Error("the planted bug of sparing nobody was not caught")
	}
	t.Logf("caught: %v", err)
}

// asks checks that sshd is killed with a person's consent, and that without it the attack is refused and says what would help.
func asks(t *testing.T, bug string) error {
	t.Helper()
	sshd := victim(t, "sshd: listener", "-c", "printf sshd > /proc/$$/comm; while :; do sleep 600; done")
	if err := at.Await(func() error {
		if p, err := procs.Find(sshd.ID); err != nil || p.Name != "sshd" {
			return errors.Join(fmt.Errorf("%s is not sshd yet", p), err)
		}
		return nil
	}); err != nil {
		return err
	}
	code, account, a := attackOn(t, bug, "--process=sshd")
	if _, err := procs.Find(sshd.ID); err != nil || code == 0 || account != nil {
		return fmt.Errorf("without consent: exit code %d, account %+v, sshd: %w", code, account, err)
	}
	asked := false
	for _, event := range a.Events() {
		refused, is := event.Fact.(*history.AttackRefused)
		asked = asked || is && strings.Contains(refused.Cure, "--yes")
	}
	if !asked {
		return errors.New("the refusal does not say that consent would help")
	}
	code, account, a = attackOn(t, bug, "--process=sshd", "--yes")
	if err := gone(sshd.ID); err != nil || code != 0 || account == nil || !account.Bit {
		return fmt.Errorf("with consent: exit code %d, account %+v, %s, sshd: %w", code, account, a.Stderr(), err)
	}
	return nil
}

func TestConsentReachesSSHD(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	if err := asks(t, ""); err != nil {
		t.Error(err)
	}
}

func TestConsentCheckCatchesThePlantedBug(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	err := asks(t, "unasked")
	if err == nil {
		t.Error("the planted bug of asking nobody was not caught")
	}
	t.Logf("caught: %v", err)
}

// Process 1 of this host is the test itself; the kernel keeps it from signals that it does not handle. A plan tells enough.
func TestConsentNamesProcess1AndNeverUs(t *testing.T) {
	facts := attack.Facts{GUID: at.GUID, Host: "blue", Consent: true, Processes: []procs.Process{
		{ID: procs.ID{PID: 1, Start: 1}, Name: "systemd", Command: "/sbin/init", Protected: "it is process 1", Consent: true},
		{ID: procs.ID{PID: 7, Start: 2}, Name: "bash", Command: "bash", Protected: "we descend from it"},
	}}
	plan := func(process string, consent bool) (attack.Plan, error) {
		order, err := Kind{}.Order(attack.Values{"process": {process}})
		if err != nil {
			return attack.Plan{}, err
		}
		facts.Consent = consent
		return order.Plan(facts)
	}
	if got, err := plan("1", true); err != nil || !strings.Contains(got.String(), "send SIGKILL to process 1 (systemd)") {
		t.Errorf("process 1 with consent: %s, %v", got, err)
	}
	if _, err := plan("1", false); drill.KindOf(err) != drill.Refused || !strings.Contains(drill.HintOf(err), "--yes") {
		t.Errorf("process 1 without consent: %v", err)
	}
	if _, err := plan("7", true); drill.KindOf(err) != drill.Refused || strings.Contains(drill.HintOf(err), "--yes") {
		t.Errorf("whom we descend from, with consent: %v", err)
	}
}

func TestRefusesWhenNothingMatches(t *testing.T) {
	if !at.Alone(t) {
		return
	}
	for _, process := range []string{"nobody-is-called-this", "1"} {
		code, account, a := attackOn(t, "", "--process="+process)
		if code == 0 || account != nil {
			t.Errorf("%s: exit code %d, account %+v, want a refusal", process, code, account)
		}
		refused := false
		for _, event := range a.Events() {
			_, is := event.Fact.(*history.AttackRefused)
			refused = refused || is
		}
		if !refused {
			t.Errorf("%s: no refusal among %d events", process, len(a.Events()))
		}
	}
}

func TestSignalsAreNamesOrNumbers(t *testing.T) {
	for text, want := range map[string]unix.Signal{"KILL": unix.SIGKILL, "SIGTERM": unix.SIGTERM, "hup": unix.SIGHUP, "9": unix.SIGKILL, "USR1": unix.SIGUSR1} {
		if got, err := parseSignal(text); err != nil || got != want {
			t.Errorf("%q is %v (%v), want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "65", "-9", "NOPE", "STOP", "19", "SIGTSTP"} {
		if got, err := parseSignal(text); err == nil {
			t.Errorf("%q is %v, want an error", text, got)
		}
	}
}

func TestFlagsOfTheCatalogueAreThere(t *testing.T) {
	shorts := map[string]bool{}
	for _, flag := range (Kind{}).Describe().Flags {
		shorts[flag.Short+" "+flag.Name] = true
	}
	for _, flag := range []string{"l length", "i interval", "p process", "g group", "u user", "n newest", "o oldest", "e exact", "c kill_children", "f full"} {
		if !shorts[flag] {
			t.Errorf("-%s is missing", flag)
		}
	}
	for _, flags := range []attack.Values{{}, {"process": {"x"}, "interval": {"0"}}, {"process": {"x"}, "signal": {"STOP"}}, {"process": {"x"}, "newest": {"true"}, "oldest": {"true"}}} {
		if _, err := (Kind{}).Order(flags); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%v: %v, want invalid", flags, err)
		}
	}
}

func TestProcessKillerIsDescribedAndDeterministic(t *testing.T) {
	if err := at.Described(Kind{}.Describe()); err != nil {
		t.Error(err)
	}
	facts := attack.Facts{GUID: at.GUID, Host: "blue", Processes: []procs.Process{{ID: procs.ID{PID: 7, Start: 1}, Name: "gunicorn", Command: "gunicorn"}}}
	if err := at.Deterministic(Kind{}, attack.Values{"process": {"gunicorn"}}, facts); err != nil {
		t.Error(err)
	}
}
