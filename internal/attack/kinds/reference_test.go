package kinds

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/attack/hostfacts"
	"firedrill/internal/attack/policy"
	"firedrill/internal/drill"
)

var update = flag.Bool("update", false, "write docs/attacks.md")

const page = "../../../docs/attacks.md"

func TestReferencePageSaysWhatTheProgramDoes(t *testing.T) {
	want := Reference()
	if *update {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("docs/attacks.md is of another catalogue; run: go test ./internal/attack/kinds -run Reference -update\n%s", diff)
	}
}

// incomplete returns what a page or a program that goes by the catalogue would have to leave out.
func incomplete(all []drill.AttackKind) (wrong []string) {
	for _, kind := range all {
		if !slices.ContainsFunc(groups, func(g struct{ name, title string }) bool { return g.name == kind.Group }) {
			wrong = append(wrong, kind.Name+": group "+kind.Group)
		}
		if remains[kind.Remains] == "" {
			wrong = append(wrong, kind.Name+": remains "+kind.Remains)
		}
		for _, needed := range kind.Needs {
			for _, need := range hostfacts.Alternatives(needed) {
				if _, known := hostfacts.About(need); !known {
					wrong = append(wrong, kind.Name+": need "+string(need))
				}
			}
		}
		for _, flag := range kind.Flags {
			if units[flag.Type] == "" || flag.Usage == "" {
				wrong = append(wrong, kind.Name+": flag "+flag.Name)
			}
		}
	}
	return wrong
}

func TestTheCatalogueIsCompleteEnoughForItsPage(t *testing.T) {
	for _, wrong := range incomplete(Describe()) {
		t.Errorf("%s is not known", wrong)
	}
}

// The planted bugs: a catalogue with each word misspelt.
func TestAWrongWordInTheCatalogueIsCaught(t *testing.T) {
	good := drill.AttackKind{Name: "x", Group: "state", Remains: "nothing", Needs: []string{"netem or nfqueue"}, Flags: []drill.AttackFlag{{Name: "f", Type: "int", Usage: "u"}}}
	if wrong := incomplete([]drill.AttackKind{good}); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	for name, change := range map[string]func(*drill.AttackKind){
		"group":   func(k *drill.AttackKind) { k.Group = "net" },
		"remains": func(k *drill.AttackKind) { k.Remains = "something" },
		"need":    func(k *drill.AttackKind) { k.Needs = []string{"netem or nfqeue"} },
		"type":    func(k *drill.AttackKind) { k.Flags = []drill.AttackFlag{{Name: "f", Type: "integer", Usage: "u"}} },
		"usage":   func(k *drill.AttackKind) { k.Flags = []drill.AttackFlag{{Name: "f", Type: "int"}} },
	} {
		bad := good
		change(&bad)
		if len(incomplete([]drill.AttackKind{bad})) == 0 {
			t.Errorf("%s: nothing catches this bug", name)
		}
	}
}

// Without it the rules on hours would believe a clock that an attack has shifted.
func TestThePolicyKnowsTheAttackOnTheClockByItsName(t *testing.T) {
	if _, _, ok := Find(policy.ClockKind); !ok {
		t.Errorf("there is no attack %q", policy.ClockKind)
	}
}

func TestTheExampleOfAPolicyIsOne(t *testing.T) {
	if _, err := policy.Parse([]byte(policy.Example), "example", strings.Split(Names(), ", ")); err != nil {
		t.Error(err)
	}
}
