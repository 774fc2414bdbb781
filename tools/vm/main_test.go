package main

import (
	"strings"
	"testing"
	"time"

	"firedrill/tools/vm/guest"
)

func TestOnlyTestsThatPassedArePassed(t *testing.T) {
	for name, test := range map[string]struct {
		results guest.Results
		well    bool
	}{
		"passed":    {guest.Results{Passed: []string{"a"}}, true},
		"nothing":   {guest.Results{}, false},
		"skipped":   {guest.Results{Passed: []string{"a"}, Skipped: []string{"b"}}, false},
		"failed":    {guest.Results{Passed: []string{"a"}, Failed: []string{"b"}}, false},
		"only fail": {guest.Results{Failed: []string{"b"}}, false},
	} {
		var all guest.Results
		add(&all, "linux-6.1", test.results)
		if err := sum(all, time.Now()); (err == nil) != test.well {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A suite whose tests take the machine down stands alone: its name is that of its test, so that two of them are told apart.
func TestSuitesOfABootAreToldApart(t *testing.T) {
	for _, b := range boots {
		seen := map[string]bool{}
		for _, s := range b.suites {
			if seen[s.name()] {
				t.Errorf("%s runs %s twice", b.name, s.name())
			}
			seen[s.name()] = true
		}
	}
}

func TestListsOfTakeThePlacesThatAptKnows(t *testing.T) {
	const known = "http://mirror.example.test/security/ Debian-Security\nhttp://mirror.example.test/debian/ Debian\nhttps://other.example.test/ Other\n"
	lists, err := listsOf(known, "trixie")
	if err != nil || !strings.Contains(lists, "] http://mirror.example.test/debian/ trixie main\n") || !strings.Contains(lists, "] http://mirror.example.test/security/ trixie-security main\n") {
		t.Errorf("lists %q, error %v", lists, err)
	}
	if _, err := listsOf("http://mirror.example.test/debian/ Debian\n", "trixie"); err == nil {
		t.Error("a machine without security updates was accepted")
	}
}
