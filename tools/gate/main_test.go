package main

import (
	"strings"
	"testing"
)

func TestTheEndOfTheLogTellsWhatFailedAndWhy(t *testing.T) {
	tally := tally{output: map[string][]string{}}
	for _, event := range []testEvent{
		{Action: "output", Package: "p", Test: "TestA/inner", Output: "one\n"},
		{Action: "output", Package: "p", Test: "TestA/inner", Output: "    a_test.go:7: it is wrong\n"},
		{Action: "output", Package: "p", Test: "TestA/inner", Output: strings.Repeat("more\n", 7)},
		{Action: "output", Package: "p", Test: "TestA/inner", Output: "why\n"},
		{Action: "fail", Package: "p", Test: "TestA/inner"},
		{Action: "output", Package: "p", Test: "TestA", Output: "outer\n"},
		{Action: "fail", Package: "p", Test: "TestA"},
		{Action: "fail", Package: "p", Test: "TestAlone"},
		{Action: "fail", Package: "p"},
		{Action: "fail", Package: "p/below"},
	} {
		tally.take(event)
	}
	if tally.failed != 3 || len(tally.bad) != 5 {
		t.Errorf("%d tests and %d in all failed, want 3 and 5", tally.failed, len(tally.bad))
	}
	var names []string
	left := causes(tally.bad)
	for _, failed := range left {
		names = append(names, failed.name)
	}
	if got := strings.Join(names, " "); got != "p.TestA/inner p.TestAlone p/below." {
		t.Fatalf("left: %s", got)
	}
	if want := "        a_test.go:7: it is wrong\n" + strings.Repeat("    more\n", 7) + "    why"; left[0].end != want {
		t.Errorf("the end is %q, want %q", left[0].end, want)
	}
}
