package hostfacts

import (
	"strings"
	"testing"

	"firedrill/internal/drill"
)

func having(states map[Need]State) Facts {
	var facts Facts
	for need, state := range states {
		facts = append(facts, fact(need, state, "seen"))
	}
	return facts
}

var hereCases = []struct {
	name   string
	needs  []string
	want   State
	reason string
}{
	{"nothing needed", nil, Yes, ""},
	{"what is there", []string{"net_admin", "nf_tables"}, Yes, ""},
	{"what is not there", []string{"net_admin", "netem"}, No, "needs netem: seen"},
	{"the missing one first", []string{"netem", "net_admin"}, No, "netem"},
	{"what nobody knows", []string{"net_admin", "nfqueue"}, Unknown, "needs nfqueue: seen"},
	{"missing counts more than not known", []string{"nfqueue", "netem"}, No, "netem"},
	{"missing counts more, the other way round", []string{"netem", "nfqueue"}, No, "netem"},
	{"one of two", []string{"netem or nf_tables"}, Yes, "by nf_tables"},
	{"the other of two", []string{"nf_tables or netem"}, Yes, "by nf_tables"},
	{"none of two", []string{"netem or prio"}, No, "needs netem: seen; or needs prio: seen"},
	{"perhaps one of two", []string{"netem or nfqueue"}, Unknown, "needs nfqueue"},
	{"perhaps the first of two", []string{"nfqueue or netem"}, Unknown, "needs nfqueue"},
	{"what was not looked at", []string{"systemd"}, Unknown, "nobody looked"},
	{"what no build knows", []string{"magic"}, Unknown, "nobody looked"},
}

// flagCases are kinds that need nothing, with a flag that needs what is listed.
var flagCases = []struct {
	name   string
	needs  []string
	reason string
}{
	{"flag: what is there", []string{"nf_tables"}, ""},
	{"flag: what is not there", []string{"netem"}, "not --corrupt: it needs netem: seen"},
	{"flag: one of two", []string{"netem or nf_tables"}, ""},
	{"flag: what nobody knows", []string{"nfqueue"}, "not --corrupt: it needs nfqueue: seen"},
}

func wrongHere(here func(Facts, drill.AttackKind) Can) (wrong []string) {
	facts := having(map[Need]State{NetAdmin: Yes, NFTables: Yes, Netem: No, Prio: No, NFQueue: Unknown})
	for _, c := range hereCases {
		got := here(facts, drill.AttackKind{Name: "x", Needs: c.needs})
		if got.State != c.want || !strings.Contains(got.Reason, c.reason) || (got.State == No && got.Cure == "") {
			wrong = append(wrong, c.name)
		}
	}
	for _, c := range flagCases {
		got := here(facts, drill.AttackKind{Name: "x", Flags: []drill.AttackFlag{{Name: "corrupt", Needs: c.needs}}})
		if got.State != Yes || got.Reason != c.reason || (c.reason != "" && got.Cure == "" && strings.Contains(c.name, "not there")) {
			wrong = append(wrong, c.name)
		}
	}
	return wrong
}

func TestAKindCanRunOnlyWhenEachNeedIsKnownToBeThere(t *testing.T) {
	for _, name := range wrongHere(Facts.Here) {
		t.Error(name)
	}
}

// The planted bugs: near at hand, and wrong.
func TestWrongWaysToDecideAreCaught(t *testing.T) {
	for name, here := range map[string]func(Facts, drill.AttackKind) Can{
		"always":                  func(Facts, drill.AttackKind) Can { return Can{State: Yes} },
		"what is not known is no": func(f Facts, k drill.AttackKind) Can { return blur(f, Unknown, No).Here(k) },
		"what is not known is yes": func(f Facts, k drill.AttackKind) Can {
			return blur(f, Unknown, Yes).Here(k)
		},
		"only the first need": func(f Facts, k drill.AttackKind) Can { k.Needs = k.Needs[:min(1, len(k.Needs))]; return f.Here(k) },
		"flags need nothing":  func(f Facts, k drill.AttackKind) Can { k.Flags = nil; return f.Here(k) },
		"what a flag needs, all need": func(f Facts, k drill.AttackKind) Can {
			for _, flag := range k.Flags {
				k.Needs = append(k.Needs, flag.Needs...)
			}
			return f.Here(k)
		},
		"alternatives all needed": func(f Facts, k drill.AttackKind) Can {
			k.Needs = strings.Split(strings.Join(k.Needs, either), either)
			return f.Here(k)
		},
	} {
		if len(wrongHere(here)) == 0 {
			t.Errorf("%s: nothing catches this bug", name)
		}
	}
}

func blur(facts Facts, from, to State) Facts {
	var all Facts
	for _, f := range facts {
		if f.State == from {
			f.State = to
		}
		all = append(all, f)
	}
	return all
}

func TestEveryNeedSaysWhatItIsForAndTheCure(t *testing.T) {
	seen := map[Need]bool{}
	for _, a := range needs {
		text, ok := About(a.need)
		missing := fact(a.need, No, "")
		if seen[a.need] || !ok || text == "" || (missing.Cure == "" && a.need != NTP) || fact(a.need, Yes, "").Cure != "" {
			t.Errorf("%s: %q, cure %q", a.need, text, missing.Cure)
		}
		seen[a.need] = true
	}
	if _, ok := About("magic"); ok {
		t.Error("there is no magic")
	}
}
