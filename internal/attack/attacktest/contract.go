package attacktest

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Subject is a kind under contract, with an order that can be felt in a World.
type Subject struct {
	Args  []string             // without length and guid
	World func(w *World) error // adds to each world what the subject needs; may be nil
	Felt  func(w *World) error // nil when the effect is felt from outside
	Clear func(w *World) error // nil when nothing of it is felt
	// Guarded is true when not the kernel but a guardian ends the impact of an attack that is stopped. It ends the attack first, so that it can
	// do no more harm when it goes on.
	Guarded bool
}

// The GUIDs of tests.
const (
	GUID      = "0367cfe2-f9fc-11e8-acea-0242db4d1180"
	OtherGUID = "932c78b3-f9fc-11e8-9244-024280df5a87"
)

// long is the length of attacks that a test ends itself.
const long = 120

func (s Subject) args(length int, guid string) []string {
	return append([]string{fmt.Sprintf("--length=%d", length), "--guid=" + guid}, s.Args...)
}

func (s Subject) world(t *testing.T) *World {
	t.Helper()
	w := NewWorld(t)
	if s.World != nil {
		if err := s.World(w); err != nil {
			t.Fatalf("make a world: %v", err)
		}
	}
	return w
}

// Check is one guarantee. It returns an error when the guarantee does not hold; bug is planted into every attack that it starts.
type Check struct {
	Name string
	Run  func(w *World, s Subject, bug string) error
}

// Contract lists what every attack that is taken back must hold.
func Contract() []Check {
	return []Check{
		{"DryRunTouchesNothing", DryRunTouchesNothing},
		{"RevertsOnTerm", RevertsOnTerm},
		{"RevertsOnInterrupt", func(w *World, s Subject, bug string) error { return revertsOn(w, s, bug, unix.SIGINT) }},
		{"RevertsOnHangUp", func(w *World, s Subject, bug string) error { return revertsOn(w, s, bug, unix.SIGHUP) }},
		{"RevertsOnceWhenToldOften", RevertsOnceWhenToldOften},
		{"RevertsAtDeadline", RevertsAtDeadline},
		{"LeavesNothingWhenKilledAnywhere", LeavesNothingWhenKilledAnywhere},
		{"EndsAtDeadlineWhileStopped", EndsAtDeadlineWhileStopped},
		{"EndsWhenStdinEnds", EndsWhenStdinEnds},
		{"EndsWhenNobodyReads", EndsWhenNobodyReads},
		{"RefusesSameGUID", RefusesSameGUID},
		{"HaltEndsAll", HaltEndsAll},
		{"HaltEndsStopped", HaltEndsStopped},
		{"OverlapFirstEndsFirst", func(w *World, s Subject, bug string) error { return overlap(w, s, bug, true) }},
		{"OverlapFirstEndsLast", func(w *World, s Subject, bug string) error { return overlap(w, s, bug, false) }},
		{"DeadlineBeforeReady", DeadlineBeforeReady},
		{"RevertsWithoutApply", RevertsWithoutApply},
	}
}

// Run runs the contract, each check in a world of its own.
func Run(t *testing.T, s Subject) { RunEach(t, func(*testing.T) Subject { return s }, nil) }

// Except names checks that are left out, each with the reason, or with the test that holds it instead. docs/CONTRACT.md shows them.
type Except map[string]string

// RunEach runs the contract but for the exceptions, each check with a subject and in a world of its own, side by side.
func RunEach(t *testing.T, subject func(*testing.T) Subject, except Except) {
	runEach(t, subject, except, true)
}

// RunAlone runs the contract but for the exceptions on a host of its own, one check after the other: they share the host's state.
func RunAlone(t *testing.T, subject func(*testing.T) Subject, except Except) {
	t.Helper()
	if Alone(t) {
		runEach(t, subject, except, false)
	}
}

func runEach(t *testing.T, subject func(*testing.T) Subject, except Except, sideBySide bool) {
	t.Helper()
	known := 0
	for _, check := range Contract() {
		if except[check.Name] != "" {
			known++
			continue
		}
		t.Run(check.Name, func(t *testing.T) {
			if sideBySide {
				t.Parallel()
			}
			s := subject(t)
			if err := check.Run(s.world(t), s, ""); err != nil {
				t.Error(err)
			}
		})
	}
	if known != len(except) {
		t.Errorf("of the exceptions %v only %d are checks of the contract", except, known)
	}
}

// Catches fails the test when a check does not notice a planted bug.
func Catches(t *testing.T, check func(w *World, s Subject, bug string) error, s Subject, bug string) {
	t.Helper()
	w := s.world(t)
	w.planted = true
	if err := check(w, s, bug); err == nil {
		t.Errorf("the planted bug %q was not caught", bug)
	} else {
		t.Logf("caught: %v", err)
	}
}

// inForce starts an attack and waits until it is felt. before is the world as it was.
func inForce(w *World, s Subject, bug string, length int) (a *Attack, before string, err error) {
	if err := w.Foreign(); err != nil {
		return nil, "", err
	}
	if before, err = w.Snapshot(); err != nil {
		return nil, "", err
	}
	if err := Await(func() error { return s.Clear(w) }); err != nil { // a busy machine may lose a datagram by itself
		return nil, "", fmt.Errorf("before the attack: %w", err)
	}
	for {
		if a, err = w.Start(Spec{Bug: bug, Args: s.args(length, GUID)}); err != nil {
			return nil, "", err
		}
		if _, err = a.AwaitInForce(); err == nil {
			if err = s.Felt(w); err == nil {
				return a, before, nil
			}
			err = fmt.Errorf("in force: %w", err)
		}
		short := w.tooShort(a, length)
		a.Stop()
		if !short {
			return nil, "", err
		}
		if err := asBefore(w, s, before); err != nil {
			return nil, "", err
		}
		length *= 2
	}
}

// tooShort says that an attack was over before it could be looked at: on a host that others keep busy a length of a second proves nothing.
func (w *World) tooShort(a *Attack, length int) bool {
	if w.planted || length >= long/4 || !a.over() {
		return false
	}
	_, account := a.Wait()
	return account != nil && account.Reverted && account.Bit || strings.Contains(a.Stderr(), tooLate)
}

// tooLate is what an attack says whose deadline passed while it was set up.
const tooLate = "over before it was set up"

// asBefore checks that the world is as it was, byte for byte, and that nothing is felt.
func asBefore(w *World, s Subject, before string) error {
	// What the kernel ends with a process is gone a moment after the process is. What a planted bug leaves would be waited for in vain.
	deadline := time.Now().Add(patience())
	if w.planted {
		deadline = time.Now().Add(patience() / 8)
	}
	for {
		now, err := w.Snapshot()
		if err != nil {
			return err
		}
		lost, fresh := differ(before, now)
		if len(lost)+len(fresh) == 0 {
			return s.Clear(w)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not as before; it lacks:\n%s\nand has:\n%s", strings.Join(lost, "\n"), strings.Join(fresh, "\n"))
		}
		<-time.After(snapshotEvery)
	}
}

// snapshotEvery leaves the processor to what is waited for: a snapshot reads a thousand files.
const snapshotEvery = 50 * time.Millisecond

// differ returns the lines that only the one has, and those that only the other has.
func differ(before, now string) (lost, fresh []string) {
	if before == now {
		return nil, nil
	}
	was, is := strings.Split(before, "\n"), strings.Split(now, "\n")
	only := func(these, those []string) (found []string) {
		count := map[string]int{}
		for _, line := range those {
			count[line]++
		}
		for _, line := range these {
			if count[line]--; count[line] < 0 {
				found = append(found, line)
			}
		}
		return found
	}
	lost, fresh = only(was, is), only(is, was)
	if len(lost)+len(fresh) == 0 {
		fresh = []string{"the same lines in another order"}
	}
	return lost, fresh
}

// DryRunTouchesNothing: a dry run prints the plan, and nothing is changed or felt.
func DryRunTouchesNothing(w *World, s Subject, bug string) error {
	before, err := w.Snapshot()
	if err != nil {
		return err
	}
	a, err := w.Start(Spec{Bug: bug, Args: append(s.args(long, GUID), "--dry-run")})
	if err != nil {
		return err
	}
	defer a.Stop()
	if bug == BugDryRunActs {
		if a, err = w.Start(Spec{Args: s.args(long, GUID)}); err != nil {
			return err
		}
		defer a.Stop()
		if _, err := a.AwaitInForce(); err != nil {
			return err
		}
		return asBefore(w, s, before)
	}
	if code, _ := a.Wait(); code != 0 {
		return fmt.Errorf("the dry run ended with %d: %s", code, a.Stderr())
	}
	for _, event := range a.Events() {
		if _, acted := event.Fact.(*history.AttackInForce); acted {
			return errors.New("the dry run said that it is in force")
		}
	}
	return asBefore(w, s, before)
}

// BugDryRunActs plants an attack in the place of a dry run.
const BugDryRunActs = "dry run acts"

// RevertsOnTerm: SIGTERM reverts, says so, and exits 143.
func RevertsOnTerm(w *World, s Subject, bug string) error { return revertsOn(w, s, bug, unix.SIGTERM) }

func revertsOn(w *World, s Subject, bug string, signal unix.Signal) error {
	a, before, err := inForce(w, s, bug, long)
	if err != nil {
		return err
	}
	defer a.Stop()
	if err := a.Signal(signal); err != nil {
		return err
	}
	code, account := a.Wait()
	if want := 128 + int(signal); account == nil || !account.Reverted || code != want {
		return fmt.Errorf("exit code %d and account %+v, want %d and reverted", code, account, want)
	}
	return asBefore(w, s, before)
}

// RevertsOnceWhenToldOften: signals during the revert, and a halt after it, undo nothing twice.
func RevertsOnceWhenToldOften(w *World, s Subject, bug string) error {
	a, before, err := inForce(w, s, bug, long)
	if err != nil {
		return err
	}
	defer a.Stop()
	for _, signal := range []unix.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		if err := a.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
	}
	_, account := a.Wait()
	reverted := 0
	for _, event := range a.Events() {
		if _, ok := event.Fact.(*history.AttackReverted); ok {
			reverted++
		}
	}
	if account == nil || !account.Reverted || reverted != 1 {
		return fmt.Errorf("account %+v, %d times reverted, want once", account, reverted)
	}
	if _, err := w.Halt(); err != nil {
		return err
	}
	return asBefore(w, s, before)
}

// RevertsAtDeadline: the length is over, the attack bit, all is as before, and the exit code is 0.
func RevertsAtDeadline(w *World, s Subject, bug string) error {
	a, before, err := inForce(w, s, bug, brief())
	if err != nil {
		return err
	}
	defer a.Stop()
	code, account := a.Wait()
	if account == nil || !account.Reverted || !account.Bit || code != 0 {
		return fmt.Errorf("exit code %d and account %+v, want 0, bit and reverted; it said: %s", code, account, a.Stderr())
	}
	return asBefore(w, s, before)
}

// LeavesNothingWhenKilledAnywhere: SIGKILL before each durable effect in turn, and while in force.
func LeavesNothingWhenKilledAnywhere(w *World, s Subject, bug string) error {
	if err := w.Foreign(); err != nil {
		return err
	}
	before, err := w.Snapshot()
	if err != nil {
		return err
	}
	length := setupLength()
	for mark := 1; ; mark++ {
		a, err := w.Start(Spec{Bug: bug, DieAt: mark, Args: s.args(length, GUID)})
		if err != nil {
			return err
		}
		code, _ := a.Wait()
		if err := asBefore(w, s, before); err != nil {
			return fmt.Errorf("killed at mark %d (exit code %d): %w", mark, code, err)
		}
		if code != 128+int(unix.SIGKILL) {
			if code != 0 && w.tooShort(a, length) {
				length, mark = 2*length, mark-1
				continue
			}
			if mark < 3 {
				return fmt.Errorf("only %d marks were passed; the attack does not mark its effects; it ended with %d and said: %s", mark-1, code, a.Stderr())
			}
			return nil
		}
	}
}

// EndsAtDeadlineWhileStopped: a frozen process loses its impact, while it is still frozen; or its guardian ends it, and all is as before.
func EndsAtDeadlineWhileStopped(w *World, s Subject, bug string) error {
	a, before, err := inForce(w, s, bug, brief()+1)
	if err != nil {
		return err
	}
	defer a.Stop()
	if err := a.Signal(unix.SIGSTOP); err != nil {
		return err
	}
	if err := Await(func() error { return s.Clear(w) }); err != nil {
		return fmt.Errorf("the process is stopped, and: %w", err)
	}
	if s.Guarded {
		if code, _ := a.Wait(); code != 128+int(unix.SIGKILL) {
			return fmt.Errorf("the stopped attack ended with %d, want it killed", code)
		}
		return asBefore(w, s, before)
	}
	if state, err := a.State(); err != nil || state != "T" {
		return fmt.Errorf("the process is in state %q (%v), want T for stopped: nothing is proven", state, err)
	}
	return nil
}

// BugInTime plants a set-up that is not slow at all: DeadlineBeforeReady must see that the attack passed.
const BugInTime = "set up in time"

// DeadlineBeforeReady: the length is over before the attack is set up. It does not pass, and leaves nothing.
func DeadlineBeforeReady(w *World, s Subject, bug string) error {
	if err := w.Foreign(); err != nil {
		return err
	}
	before, err := w.Snapshot()
	if err != nil {
		return err
	}
	spec := Spec{Bug: bug, HoldAt: 1, HoldFor: 1500 * time.Millisecond, Args: s.args(1, GUID)}
	if bug == BugInTime {
		spec = Spec{Args: s.args(brief(), GUID)}
	}
	a, err := w.Start(spec)
	if err != nil {
		return err
	}
	defer a.Stop()
	code, account := a.Wait()
	// On a slow host it is late by more than a guardian waits for an attack that may be frozen.
	ended := s.Guarded && code == 128+int(unix.SIGKILL)
	if !ended && (code == 0 || account != nil && !account.Reverted || !strings.Contains(a.Stderr(), tooLate)) {
		return fmt.Errorf("its time was over before it was set up, and it ended with %d and account %+v: %s", code, account, a.Stderr())
	}
	return asBefore(w, s, before)
}

// RevertsWithoutApply: what was never applied is reverted twice, and nothing is changed.
func RevertsWithoutApply(w *World, s Subject, bug string) error {
	if err := w.Foreign(); err != nil {
		return err
	}
	before, err := w.Snapshot()
	if err != nil {
		return err
	}
	args := append(s.args(long, GUID), argRevertOnly)
	if bug == BugDryRunActs {
		args = s.args(long, GUID)
	}
	a, err := w.Start(Spec{Bug: bug, Args: args})
	if err != nil {
		return err
	}
	defer a.Stop()
	if bug == BugDryRunActs {
		if _, err := a.AwaitInForce(); err != nil {
			return err
		}
		return asBefore(w, s, before)
	}
	if code, _ := a.Wait(); code != 0 {
		return fmt.Errorf("to revert what was never applied ended with %d: %s", code, a.Stderr())
	}
	return asBefore(w, s, before)
}

// EndsWhenStdinEnds: the one who started it is gone.
func EndsWhenStdinEnds(w *World, s Subject, bug string) error {
	a, before, err := inForce(w, s, bug, long)
	if err != nil {
		return err
	}
	defer a.Stop()
	// An input that ends right after the start is no lifeline, so let that time pass. On a slow host the start itself takes longer.
	began := time.Now()
	if err := Await(func() error {
		if time.Since(began) < 3*time.Second {
			return errMissing
		}
		return nil
	}); err != nil {
		return err
	}
	if err := a.CloseStdin(); err != nil {
		return err
	}
	reverted, err := AwaitFact(a, func(*history.AttackReverted) bool { return true })
	if err != nil {
		return err
	}
	if reverted.Why != "connection lost" {
		return fmt.Errorf("it ended by %q, want connection lost", reverted.Why)
	}
	a.Wait()
	return asBefore(w, s, before)
}

// EndsWhenNobodyReads: standard output has lost its reader.
func EndsWhenNobodyReads(w *World, s Subject, bug string) error {
	a, before, err := inForce(w, s, bug, long)
	if err != nil {
		return err
	}
	defer a.Stop()
	a.CloseStdout()
	a.Wait()
	return asBefore(w, s, before)
}

// RefusesSameGUID: one GUID cannot run twice, and the first one is not disturbed by the try.
func RefusesSameGUID(w *World, s Subject, bug string) error {
	a, _, err := inForce(w, s, bug, long)
	if err != nil {
		return err
	}
	defer a.Stop()
	second, err := w.Start(Spec{Args: s.args(1, GUID)})
	if err != nil {
		return err
	}
	defer second.Stop()
	code, _ := second.Wait()
	if code == 0 || !slices.ContainsFunc(second.Events(), func(e history.Event) bool { _, ok := e.Fact.(*history.AttackRefused); return ok }) {
		return fmt.Errorf("the second attack with the same guid ended with %d and said %v, want a refusal", code, second.Events())
	}
	return s.Felt(w)
}

// HaltEndsAll: halt ends two attacks, and everything is as before when it returns.
func HaltEndsAll(w *World, s Subject, bug string) error {
	a, before, err := inForce(w, s, bug, long)
	if err != nil {
		return err
	}
	defer a.Stop()
	b, err := w.Start(Spec{Bug: bug, Args: s.args(long, OtherGUID)})
	if err != nil {
		return err
	}
	defer b.Stop()
	if _, err := b.AwaitInForce(); err != nil {
		return err
	}
	said, err := w.Halt()
	if err != nil {
		return err
	}
	if err := asBefore(w, s, before); err != nil {
		return err
	}
	if got := strings.Count(said, attack.HowAsked); got != 2 {
		return fmt.Errorf("halt said %q, want two attacks that were asked", said)
	}
	return nil
}

// HaltEndsStopped: halt ends an attack that does not answer.
func HaltEndsStopped(w *World, s Subject, bug string) error {
	a, before, err := inForce(w, s, bug, long)
	if err != nil {
		return err
	}
	defer a.Stop()
	if err := a.Signal(unix.SIGSTOP); err != nil {
		return err
	}
	said, err := w.Halt()
	if err != nil {
		return err
	}
	if !strings.Contains(said, attack.HowKill) {
		return fmt.Errorf("halt said %q, want SIGKILL", said)
	}
	return asBefore(w, s, before)
}

// overlap runs two attacks on the same target: it is hit until both have ended.
func overlap(w *World, s Subject, bug string, firstEndsFirst bool) error {
	a, before, err := inForce(w, s, bug, long)
	if err != nil {
		return err
	}
	defer a.Stop()
	b, err := w.Start(Spec{Bug: bug, Args: s.args(long, OtherGUID)})
	if err != nil {
		return err
	}
	defer b.Stop()
	if _, err := b.AwaitInForce(); err != nil {
		return err
	}
	order := []*Attack{a, b}
	if !firstEndsFirst {
		slices.Reverse(order)
	}
	if err := errors.Join(s.Felt(w), order[0].Signal(unix.SIGTERM)); err != nil {
		return err
	}
	order[0].Wait()
	if err := s.Felt(w); err != nil {
		return fmt.Errorf("one of two has ended: %w", err)
	}
	if err := order[1].Signal(unix.SIGTERM); err != nil {
		return err
	}
	order[1].Wait()
	return asBefore(w, s, before)
}

// Deterministic checks that an order gives the same plan again and again, as it is printed.
func Deterministic(kind attack.Kind, flags attack.Values, facts attack.Facts) error {
	var first string
	for range 20 {
		order, err := kind.Order(flags)
		if err != nil {
			return err
		}
		plan, err := order.Plan(facts)
		if err != nil {
			return err
		}
		if first == "" {
			first = plan.String()
		}
		if plan.String() != first {
			return fmt.Errorf("two plans of one order differ:\n%s\n%s", first, plan)
		}
	}
	return nil
}

// Described checks that a kind's description is whole: help pages and completion are made from it.
func Described(described drill.AttackKind) error {
	var errs []error
	seen := map[string]bool{}
	if described.Name == "" || described.Summary == "" || described.Remains == "" {
		errs = append(errs, fmt.Errorf("name, summary or remains is missing: %+v", described))
	}
	for _, flag := range described.Flags {
		if flag.Name == "" || flag.Usage == "" || flag.Type == "" || len(flag.Short) > 1 {
			errs = append(errs, fmt.Errorf("flag is not whole: %+v", flag))
		}
		if seen[flag.Name] || flag.Short != "" && seen["-"+flag.Short] {
			errs = append(errs, fmt.Errorf("flag is there twice: %+v", flag))
		}
		seen[flag.Name], seen["-"+flag.Short] = true, true
	}
	return errors.Join(errs...)
}
