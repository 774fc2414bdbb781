package hostfacts

import (
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	if code, ours := Reexec(os.Args, os.Stdout, os.Stderr); ours {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

func TestProbeSaysSomethingOfEveryNeed(t *testing.T) {
	facts := Probe(t.Context(), Options{})
	for i, a := range needs {
		if i >= len(facts) || facts[i].Need != a.need || facts[i].State == "" {
			t.Fatalf("fact %d of %v: want one about %s", i, facts, a.need)
		}
	}
}
