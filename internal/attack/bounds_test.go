package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/attack/policy"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// paper is a kind of attack that touches nothing, and tells what it was asked for.
type paper struct {
	group string
	flags []string // lists that it takes
	asked *Values
	made  *int // how often it was applied
}

func (p paper) Describe() drill.AttackKind {
	kind := drill.AttackKind{Name: "paper", Group: p.group, Summary: "Touch nothing", Remains: string(RemainsNothing), Flags: []drill.AttackFlag{LengthFlag()}}
	for _, name := range p.flags {
		kind.Flags = append(kind.Flags, drill.AttackFlag{Name: name, Type: TypeList})
	}
	return kind
}

func (p paper) Order(flags Values) (Order, error) {
	if err := flags.Check(p.Describe()); err != nil {
		return nil, err
	}
	if p.asked != nil {
		*p.asked = flags
	}
	return p, nil
}

func (paper) Names() []string { return nil }

func (p paper) Plan(facts Facts) (Plan, error) {
	return Plan{GUID: facts.GUID, Attack: "paper", Host: facts.Host, Length: time.Second, Steps: []Step{p}}, nil
}

func (paper) Lines() []string              { return []string{"touch nothing"} }
func (paper) Remains() Remains             { return RemainsNothing }
func (paper) Revert(context.Context) error { return nil }

// Apply ends the attack at once: the tests only want to know whether it came so far.
func (p paper) Apply(context.Context, time.Time) error {
	if p.made != nil {
		*p.made++
	}
	return errors.New("a paper attack")
}

func policyFile(t *testing.T, text string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "firedrill")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "policy.yaml")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

// ordered is an invocation of a paper attack under a policy.
func ordered(t *testing.T, text string, made *int, out *bytes.Buffer) Invocation {
	t.Helper()
	return Invocation{Kind: paper{group: "state", made: made}, Flags: Values{}, Out: out, policyFile: policyFile(t, text), policyOwner: uint32(os.Geteuid())}
}

// bounded holds Start against policies that must stop it, and returns those that do not.
func bounded(t *testing.T, change func(*Invocation)) (through []string) {
	t.Helper()
	for _, text := range []string{
		"deny: paper\n", "deny: all\n", "require_consent: paper\n", "max_length: 1s\ndeny: paper\n", "not yaml: [", "", "deny: papre\n",
		"time_zone: UTC\nfreezes: 2000-01-01..2999-12-31\n",
	} {
		made, out := 0, bytes.Buffer{}
		i := ordered(t, text, &made, &out)
		i.JSON = true
		change(&i)
		account, err := Start(t.Context(), i)
		var event history.Event
		if made > 0 || drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "not attacking: ") || drill.HintOf(err) == "" || account.InForceAt != nil {
			through = append(through, text)
			continue
		}
		if err := json.Unmarshal(out.Bytes(), &event); err != nil {
			t.Errorf("%q: %v: %s", text, err, out.String())
		}
		if fact, ok := event.Fact.(*history.AttackRefused); !ok || fact.Attack != "paper" || fact.Cure == "" || !strings.Contains(fact.Reason, "not attacking: ") {
			t.Errorf("%q: said %s", text, out.String())
		}
	}
	return through
}

func TestThePolicyOfTheHostStopsAnAttackBeforeAnythingIsMade(t *testing.T) {
	for _, text := range bounded(t, func(*Invocation) {}) {
		t.Errorf("attacked under the policy %q", text)
	}
}

// The planted bug: the file is not read.
func TestAPolicyNotReadIsCaught(t *testing.T) {
	if through := bounded(t, func(i *Invocation) { i.noPolicy = true }); len(through) == 0 {
		t.Error("nothing catches this bug")
	}
}

func TestWhatThePolicyAllowsRuns(t *testing.T) {
	for _, text := range []string{"max_length: 1s\n", "kinds: paper\nmax_parallel: 1\n", "require_consent: paper\n", "time_zone: UTC\nhours: daily 00:00-24:00\n"} {
		made, out := 0, bytes.Buffer{}
		i := ordered(t, text, &made, &out)
		i.Yes = true
		if _, err := Start(t.Context(), i); made != 1 {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestADryRunShowsThePlanAndTheRefusal(t *testing.T) {
	made, out := 0, bytes.Buffer{}
	i := ordered(t, "deny: paper\n", &made, &out)
	i.DryRun = true
	if _, err := Start(t.Context(), i); drill.KindOf(err) != drill.Refused || drill.HintOf(err) == "" || !strings.Contains(out.String(), "touch nothing") {
		t.Errorf("%v\n%s", err, out.String())
	}
}

func TestWhatIsNeverHitIsSparedByEveryNetworkAttack(t *testing.T) {
	const text = "never_hit: [192.0.2.0/24, \"2001:db8::7\", localhost]\n"
	given := Values{"ipaddress": {"198.51.100.1"}}
	for _, c := range []struct {
		name  string
		kind  paper
		want  Values
		doubt string
	}{
		{name: "addresses and names", kind: paper{group: networkGroup, flags: []string{"ipaddress", "hostname"}},
			want: Values{"ipaddress": {"198.51.100.1", "^192.0.2.0/24", "^2001:db8::7"}, "hostname": {"^localhost"}}},
		{name: "no network", kind: paper{group: "resource", flags: []string{"ipaddress"}}, want: given},
		{name: "nothing to spare with", kind: paper{group: networkGroup}, doubt: "cannot spare"},
	} {
		var asked Values
		c.kind.asked = &asked
		i := Invocation{Kind: c.kind, Flags: given, Out: &bytes.Buffer{}, policyFile: policyFile(t, text), policyOwner: uint32(os.Geteuid())}
		_, err := i.Prepare(t.Context())
		if c.doubt != "" {
			if drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), c.doubt) || !strings.Contains(err.Error(), "policy.yaml:1)") {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if diff := cmp.Diff(c.want, asked); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", c.name, err, diff)
		}
		if len(given["ipaddress"]) != 1 {
			t.Fatal("the user's own flags were changed")
		}
	}
}

// The planted bug: the file is not read, and the flags stay as they were.
func TestSparesNotAddedAreCaught(t *testing.T) {
	var asked Values
	i := Invocation{Kind: paper{group: networkGroup, flags: []string{"ipaddress"}, asked: &asked}, Flags: Values{"ipaddress": {"192.0.2.0/24"}}, Out: &bytes.Buffer{},
		policyFile: policyFile(t, "never_hit: 192.0.2.9\n"), policyOwner: uint32(os.Geteuid()), noPolicy: true}
	if _, err := i.Prepare(t.Context()); err != nil || slices.Contains(asked["ipaddress"], "^192.0.2.9") {
		t.Errorf("nothing catches this bug: %v %v", asked, err)
	}
}

func TestANameIsSparedByItsAddressesWhereAKindTakesNoNames(t *testing.T) {
	var asked Values
	i := Invocation{Kind: paper{group: networkGroup, flags: []string{"ipaddress"}, asked: &asked}, Flags: Values{}, Out: &bytes.Buffer{},
		policyFile: policyFile(t, "never_hit: localhost\n"), policyOwner: uint32(os.Geteuid())}
	if _, err := i.Prepare(t.Context()); err != nil || !slices.Contains(asked["ipaddress"], "^127.0.0.1") && !slices.Contains(asked["ipaddress"], "^::1") {
		t.Errorf("%v %v", asked, err)
	}
}

func TestANameThatLeadsNowhereIsADoubt(t *testing.T) {
	i := Invocation{Kind: paper{group: networkGroup, flags: []string{"ipaddress", "hostname"}}, Flags: Values{}, Out: &bytes.Buffer{},
		policyFile: policyFile(t, "# the control host\nnever_hit: no-such-host.invalid\n"), policyOwner: uint32(os.Geteuid())}
	if _, err := i.Prepare(t.Context()); drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "policy.yaml:2)") {
		t.Errorf("%v", err)
	}
}

func TestOfTwoThatStartAtOnceNoneSlipsThrough(t *testing.T) {
	rules, err := policy.Parse([]byte("max_parallel: 1\n"), "policy.yaml", nil)
	if err != nil {
		t.Fatal(err)
	}
	const first, second = "0190a1b2-0000-7000-8000-00000000ab01", "0190a1b2-0000-7000-8000-00000000ab02"
	for _, guid := range []string{first, second} {
		hold, err := takeClaim(guid, func() Status { return Status{GUID: guid, Attack: "paper", Phase: PhasePlanned} }, func() {})
		if err != nil {
			t.Fatal(err)
		}
		defer hold.close()
	}
	for _, guid := range []string{first, second} {
		if err := (bounds{rules: rules, invocation: Invocation{Kind: paper{}}}).admit(t.Context(), Plan{GUID: guid, Attack: "paper", Length: time.Second}); drill.KindOf(err) != drill.Refused || err == nil {
			t.Errorf("%s: %v", guid, err)
		}
	}
}

func TestARefusalAfterTheClaimMakesNothingAndGivesTheGUIDBack(t *testing.T) {
	const guid = "0190a1b2-0000-7000-8000-00000000ab03"
	made := 0
	plan := Plan{GUID: guid, Attack: "paper", Host: "here", Length: time.Second, Steps: []Step{paper{made: &made}}}
	no := &drill.Error{Kind: drill.Refused, Err: errors.New("not attacking: no")}
	account, err := Run(t.Context(), plan, Options{Emit: func(history.Event) {}, Admit: func() error { return no }})
	if !errors.Is(err, error(no)) || made > 0 || !account.Reverted || account.InForceAt != nil || Alive(guid) {
		t.Errorf("%v %+v, applied %d times", err, account, made)
	}
}
