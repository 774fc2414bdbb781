package failover

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"firedrill/internal/drill"
)

func environment(name string, addresses ...string) drill.Environment {
	e := drill.Environment{Name: name}
	for i, address := range addresses {
		e.Hosts = append(e.Hosts, drill.Host{Name: fmt.Sprintf("%s-%d", name, i+1), Address: netip.MustParseAddr(address)})
	}
	return e
}

func twoByOne() Policy {
	return Policy{
		Name: "bookstore.example.test", Primary: environment("blue", "10.77.1.10"), Secondary: environment("green", "10.77.1.20"),
		Failback: FailbackManual, OnAllUnhealthy: AllUnhealthyPrimary,
	}
}

var noon = time.Date(2026, 3, 3, 12, 0, 0, 0, time.UTC)

// A decider is Decide, or a broken twin of it.
type decider func(Policy, State, Unhealthy, time.Time) (State, bool)

func sick(names ...string) Unhealthy {
	unhealthy := Unhealthy{}
	for _, name := range names {
		unhealthy[name+"-1"] = name + "-1-StatusCheckFailed is in ALARM"
	}
	return unhealthy
}

// situation is one cell of the truth table.
type situation struct {
	active, preferred string
	blueSick          bool
	greenSick         bool
	failback, onAll   string
	frozen            bool
	held              bool // the last move was automatic and the hold time is not over
	forced            bool
}

func situations() []situation {
	var all []situation
	both := []bool{false, true}
	for _, active := range []string{"blue", "green"} {
		for _, preferred := range []string{"blue", "green"} {
			for _, blueSick := range both {
				for _, greenSick := range both {
					for _, failback := range []string{FailbackManual, FailbackAuto} {
						for _, onAll := range []string{AllUnhealthyPrimary, AllUnhealthyLastKnown} {
							for _, frozen := range both {
								for _, held := range both {
									for _, forced := range both {
										all = append(all, situation{active, preferred, blueSick, greenSick, failback, onAll, frozen, held, forced})
									}
								}
							}
						}
					}
				}
			}
		}
	}
	return all
}

// table is the truth table as a person would draw it, from the active environment's side:
// health of active and other / failback / whether the active one is preferred / on_all_unhealthy; "*" is any.
var table = []struct {
	active, other string
	failback      string
	preferred     string
	onAll         string
	want          string
}{
	{"well", "well", FailbackManual, "*", "*", "stay"},
	{"well", "well", FailbackAuto, "active", "*", "stay"},
	{"well", "well", FailbackAuto, "other", "*", "move"},
	{"well", "sick", "*", "*", "*", "stay"},
	{"sick", "well", "*", "*", "*", "move"},
	{"sick", "sick", "*", "active", "*", "stay"},
	{"sick", "sick", "*", "other", AllUnhealthyPrimary, "move"},
	{"sick", "sick", "*", "other", AllUnhealthyLastKnown, "stay"},
}

func (s situation) expected(t testing.TB) string {
	t.Helper()
	health := map[bool]string{false: "well", true: "sick"}
	active, other, otherName := health[s.blueSick], health[s.greenSick], "green"
	if s.active == "green" {
		active, other, otherName = other, active, "blue"
	}
	preferred := "other"
	if s.preferred == s.active {
		preferred = "active"
	}
	is := func(pattern, value string) bool { return pattern == "*" || pattern == value }
	want := ""
	for _, row := range table {
		if is(row.active, active) && is(row.other, other) && is(row.failback, s.failback) && is(row.preferred, preferred) && is(row.onAll, s.onAll) {
			if want != "" {
				t.Fatalf("%+v: two rows of the table apply", s)
			}
			want = row.want
		}
	}
	switch {
	case want == "":
		t.Fatalf("%+v: no row of the table applies", s)
	case want == "stay", s.frozen, s.held:
		return s.active
	case s.forced && active == "sick":
		return s.active
	}
	return otherName
}

func (s situation) policy() Policy {
	policy := twoByOne()
	policy.Failback, policy.OnAllUnhealthy, policy.Frozen, policy.MinHold = s.failback, s.onAll, s.frozen, time.Minute
	return policy
}

func (s situation) state() State {
	policy := s.policy()
	active, _ := policy.pair(s.active)
	state := State{
		Active: s.active, Preferred: s.preferred, Serial: 7, Addresses: answer(active, nil), Moved: noon.Add(-time.Hour),
		Automatic: true, Forced: s.forced,
	}
	if s.held {
		state.Moved = noon.Add(-time.Second)
	}
	return state
}

func (s situation) unhealthy() Unhealthy {
	var names []string
	if s.blueSick {
		names = append(names, "blue")
	}
	if s.greenSick {
		names = append(names, "green")
	}
	return sick(names...)
}

// wrongCells returns the cells of the truth table that a decider gets wrong.
func wrongCells(t testing.TB, decide decider) []string {
	t.Helper()
	var wrong []string
	for _, s := range situations() {
		before := s.state()
		after, changed := decide(s.policy(), before, s.unhealthy(), noon)
		want := s.expected(t)
		switch {
		case after.Active != want:
			wrong = append(wrong, fmt.Sprintf("%+v: answers %s, want %s", s, after.Active, want))
		case changed != (want != s.active):
			wrong = append(wrong, fmt.Sprintf("%+v: changed is %t", s, changed))
		case changed && after.Serial != before.Serial+1, !changed && after.Serial != before.Serial:
			wrong = append(wrong, fmt.Sprintf("%+v: serial %d after %d", s, after.Serial, before.Serial))
		case len(after.Addresses) == 0:
			wrong = append(wrong, fmt.Sprintf("%+v: no addresses", s))
		case changed && after.Reason == "":
			wrong = append(wrong, fmt.Sprintf("%+v: a move without a reason", s))
		}
	}
	return wrong
}

func TestDecideFollowsTheTruthTable(t *testing.T) {
	for _, cell := range wrongCells(t, Decide) {
		t.Error(cell)
	}
}

// Broken twins: the ways in which failover has gone wrong elsewhere.
var twins = map[string]decider{
	"moves to a dead secondary": func(p Policy, s State, u Unhealthy, now time.Time) (State, bool) {
		_, other := p.pair(s.Active)
		seen := Unhealthy{}
		for host, reason := range u {
			if host != other.Hosts[0].Name {
				seen[host] = reason
			}
		}
		return Decide(p, s, seen, now)
	},
	"flaps": func(p Policy, s State, u Unhealthy, now time.Time) (State, bool) {
		p.MinHold = 0
		return Decide(p, s, u, now)
	},
	"fails closed": func(p Policy, s State, u Unhealthy, now time.Time) (State, bool) {
		next, changed := Decide(p, s, u, now)
		if active, _ := p.pair(next.Active); !Healthy(active, u) {
			next.Addresses = nil
		}
		return next, changed
	},
	"fails back though told not to": func(p Policy, s State, u Unhealthy, now time.Time) (State, bool) {
		p.Failback = FailbackAuto
		return Decide(p, s, u, now)
	},
	"moves a frozen name": func(p Policy, s State, u Unhealthy, now time.Time) (State, bool) {
		p.Frozen = false
		return Decide(p, s, u, now)
	},
	"forgets the serial": func(p Policy, s State, u Unhealthy, now time.Time) (State, bool) {
		next, changed := Decide(p, s, u, now)
		next.Serial = s.Serial
		return next, changed
	},
	"undoes a forced switch": func(p Policy, s State, u Unhealthy, now time.Time) (State, bool) {
		s.Forced = false
		return Decide(p, s, u, now)
	},
	"stays on a dead primary": func(_ Policy, s State, _ Unhealthy, _ time.Time) (State, bool) { return s, false },
}

func TestTruthTableCatchesBrokenPolicies(t *testing.T) {
	for name, twin := range twins {
		if len(wrongCells(t, twin)) == 0 {
			t.Errorf("a policy that %s passes the truth table", name)
		}
	}
}

func TestUnknownHostsCountAsHealthyAtTheStart(t *testing.T) {
	policy := twoByOne()
	state := Begin(policy, 1)
	after, changed := Decide(policy, state, nil, noon)
	if changed || after.Active != "blue" || !slices.Equal(after.Addresses, state.Addresses) {
		t.Fatalf("moved to %+v though nothing is known", after)
	}
}

// storm plays every sequence of health of both environments over some steps and checks what must hold at each of them.
func storm(decide decider, policy Policy, steps int) error {
	const tick = 10 * time.Second
	var play func(state State, now time.Time, left int, moved time.Time) error
	play = func(state State, now time.Time, left int, moved time.Time) error {
		if left == 0 {
			return nil
		}
		for _, unhealthy := range []Unhealthy{{}, sick("blue"), sick("green"), sick("blue", "green")} {
			after, changed := decide(policy, state, unhealthy, now)
			active, other := policy.pair(state.Active)
			last := moved
			if after.Active != state.Active {
				if !Healthy(other, unhealthy) && (Healthy(active, unhealthy) || state.Preferred != other.Name) {
					return fmt.Errorf("left %s for unhealthy %s", active.Name, other.Name)
				}
				if !moved.IsZero() && now.Sub(moved) < policy.MinHold {
					return fmt.Errorf("moved twice within %s", policy.MinHold)
				}
				last = now
			}
			differs := after.Active != state.Active || !slices.Equal(after.Addresses, state.Addresses)
			if differs != changed || (after.Serial > state.Serial) != changed {
				return fmt.Errorf("changed %t, answer differs %t, serial %d after %d", changed, differs, after.Serial, state.Serial)
			}
			if len(after.Addresses) == 0 {
				return errors.New("a name without an answer")
			}
			if err := play(after, now.Add(tick), left-1, last); err != nil {
				return err
			}
		}
		return nil
	}
	return play(Begin(policy, 1), noon, steps, time.Time{})
}

func TestNoSequenceOfHealthBreaksTheInvariants(t *testing.T) {
	for _, failback := range []string{FailbackManual, FailbackAuto} {
		for _, onAll := range []string{AllUnhealthyPrimary, AllUnhealthyLastKnown} {
			policy := twoByOne()
			policy.Failback, policy.OnAllUnhealthy, policy.MinHold = failback, onAll, 25*time.Second
			if err := storm(Decide, policy, 7); err != nil {
				t.Errorf("%s, %s: %v", failback, onAll, err)
			}
		}
	}
}

func TestSequencesCatchBrokenPolicies(t *testing.T) {
	policy := twoByOne()
	policy.MinHold = 25 * time.Second
	for _, name := range []string{"moves to a dead secondary", "flaps", "fails closed", "forgets the serial"} {
		if storm(twins[name], policy, 7) == nil {
			t.Errorf("a policy that %s survives every sequence", name)
		}
	}
}

func TestAnswerHoldsTheHealthyHostsOfTheActiveEnvironment(t *testing.T) {
	policy := twoByOne()
	policy.Primary = environment("blue", "10.77.1.10", "10.77.1.11")
	for _, row := range []struct {
		unhealthy  Unhealthy
		wantActive string
		want       string
	}{
		{Unhealthy{}, "blue", "10.77.1.10 10.77.1.11"},
		{Unhealthy{"blue-1": "x"}, "blue", "10.77.1.11"},
		{Unhealthy{"blue-1": "x", "blue-2": "x"}, "green", "10.77.1.20"},
		{Unhealthy{"blue-1": "x", "blue-2": "x", "green-1": "x"}, "blue", "10.77.1.10 10.77.1.11"},
	} {
		state, changed := Decide(policy, Begin(policy, 1), row.unhealthy, noon)
		var got []string
		for _, address := range state.Addresses {
			got = append(got, address.String())
		}
		if strings.Join(got, " ") != row.want || state.Active != row.wantActive {
			t.Errorf("%v: %s answers %v, want %s answering %s", row.unhealthy, state.Active, got, row.wantActive, row.want)
		}
		if changed != (state.Serial == 2) {
			t.Errorf("%v: changed %t with serial %d", row.unhealthy, changed, state.Serial)
		}
	}
}

func TestMoveSaysWhy(t *testing.T) {
	state, _ := Decide(twoByOne(), Begin(twoByOne(), 1), sick("blue"), noon)
	if want := "blue is unhealthy (blue-1-StatusCheckFailed is in ALARM); green is healthy"; state.Reason != want {
		t.Fatalf("reason %q, want %q", state.Reason, want)
	}
}

func TestHoldEndsAndAClockSetBackEndsItToo(t *testing.T) {
	policy := twoByOne()
	policy.MinHold = time.Minute
	moved, _ := Decide(policy, Begin(policy, 1), sick("blue"), noon)
	for _, row := range []struct {
		after time.Duration
		want  string
	}{{59 * time.Second, "green"}, {time.Minute, "blue"}, {-time.Hour, "blue"}} {
		if got, _ := Decide(policy, moved, sick("green"), noon.Add(row.after)); got.Active != row.want {
			t.Errorf("%s after the move: %s, want %s", row.after, got.Active, row.want)
		}
	}
}

func TestSwitchIsNotHeldAndDoesNotHold(t *testing.T) {
	policy := twoByOne()
	policy.MinHold = time.Minute
	moved, _ := Decide(policy, Begin(policy, 1), sick("blue"), noon)
	back, err := Switch(policy, moved, nil, noon.Add(time.Second), Order{To: "blue"})
	if err != nil || back.Active != "blue" {
		t.Fatalf("switch right after a move: %s, %v", back.Active, err)
	}
	if after, _ := Decide(policy, back, sick("blue"), noon.Add(2*time.Second)); after.Active != "green" {
		t.Fatal("a switch pinned the answer to an environment that died right after")
	}
}

func TestSwitchMakesTheTargetPreferred(t *testing.T) {
	policy := twoByOne()
	policy.Failback = FailbackAuto
	state, err := Switch(policy, Begin(policy, 1), nil, noon, Order{To: "green", Reason: "release 8"})
	if err != nil {
		t.Fatal(err)
	}
	want := State{
		Active: "green", Preferred: "green", Serial: 2, Moved: noon, Reason: "release 8",
		Addresses: []netip.Addr{netip.MustParseAddr("10.77.1.20")},
	}
	if diff := cmp.Diff(want, state, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Fatal(diff)
	}
	if after, changed := Decide(policy, state, nil, noon); changed || after.Active != "green" {
		t.Fatal("auto failback took a promotion back")
	}
	again, err := Switch(policy, state, nil, noon, Order{To: "green"})
	if err != nil || again.Serial != state.Serial {
		t.Fatalf("switching to the active environment: serial %d after %d, %v", again.Serial, state.Serial, err)
	}
}

func TestSwitchIsRefusedWithReasonAndCure(t *testing.T) {
	frozen := twoByOne()
	frozen.Frozen = true
	for _, row := range []struct {
		name   string
		policy Policy
		order  Order
		sick   Unhealthy
		kind   drill.ErrorKind
		says   string
	}{
		{"unhealthy target", twoByOne(), Order{To: "green"}, sick("green"), drill.Refused, "green-1-StatusCheckFailed is in ALARM"},
		{"unknown environment", twoByOne(), Order{To: "purple", Force: true}, nil, drill.Invalid, "purple"},
		{"frozen name", frozen, Order{To: "green", Force: true}, nil, drill.Refused, "frozen"},
	} {
		before := Begin(row.policy, 1)
		after, err := Switch(row.policy, before, row.sick, noon, row.order)
		if drill.KindOf(err) != row.kind || !strings.Contains(fmt.Sprint(err), row.says) || drill.HintOf(err) == "" {
			t.Errorf("%s: error %v (%s), hint %q", row.name, err, drill.KindOf(err), drill.HintOf(err))
		}
		if after.Serial != before.Serial || after.Active != before.Active || after.Preferred != before.Preferred {
			t.Errorf("%s: the state changed: %+v", row.name, after)
		}
	}
}

func TestForcedSwitchStaysUntilTheTargetIsHealthy(t *testing.T) {
	policy := twoByOne()
	state, err := Switch(policy, Begin(policy, 1), sick("green"), noon, Order{To: "green", Force: true})
	if err != nil || state.Active != "green" {
		t.Fatalf("forced switch: %s, %v", state.Active, err)
	}
	if state, _ = Decide(policy, state, sick("green"), noon); state.Active != "green" {
		t.Fatal("the forced switch was undone at once")
	}
	state, _ = Decide(policy, state, nil, noon)
	if state, _ = Decide(policy, state, sick("green"), noon); state.Active != "blue" {
		t.Fatal("after the target had been healthy, its next failure was not acted on")
	}
}

func TestResumeKeepsTheAnswer(t *testing.T) {
	policy := twoByOne()
	moved, _ := Decide(policy, Begin(policy, 41), sick("blue"), noon)
	if got := Resume(policy, moved); got.Active != "green" || got.Serial != 42 {
		t.Fatalf("resumed %+v", got)
	}
	for name, broken := range map[string]State{
		"an environment that is gone": {Active: "purple", Serial: 9, Addresses: moved.Addresses},
		"no addresses":                {Active: "green", Serial: 9},
	} {
		if got := Resume(policy, broken); got.Active != "blue" || got.Serial != 10 || len(got.Addresses) == 0 {
			t.Errorf("%s: resumed %+v", name, got)
		}
	}
}

func TestCompileNamesTheMistake(t *testing.T) {
	environments := []drill.Environment{environment("blue", "10.77.1.10"), environment("green", "10.77.1.20"), {Name: "empty"}}
	good := drill.Failover{Name: "n", Primary: "blue", Secondary: "green"}
	for _, row := range []struct {
		change func(*drill.Failover)
		want   string
	}{
		{func(*drill.Failover) {}, ""},
		{func(f *drill.Failover) { f.Secondary = "blue" }, "both"},
		{func(f *drill.Failover) { f.Secondary = "purple" }, `no environment "purple"`},
		{func(f *drill.Failover) { f.Secondary = "empty" }, "no hosts"},
		{func(f *drill.Failover) { f.Failback = "later" }, "manual or auto"},
		{func(f *drill.Failover) { f.OnAllUnhealthy = "all" }, "last_known"},
	} {
		f := good
		row.change(&f)
		_, err := Compile(f, environments)
		if (row.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%+v: error %v, want %q", f, err, row.want)
		}
	}
}

func TestSilenceIsNotGoodNews(t *testing.T) {
	for _, row := range []struct {
		before bool
		state  string
		want   bool
	}{
		{false, "OK", false}, {true, "OK", false}, {false, "ALARM", true}, {true, "ALARM", true},
		{false, "INSUFFICIENT_DATA", false}, {true, "INSUFFICIENT_DATA", true},
	} {
		if got := Signal(row.before, row.state); got != row.want {
			t.Errorf("Signal(%t, %s) = %t", row.before, row.state, got)
		}
	}
}
