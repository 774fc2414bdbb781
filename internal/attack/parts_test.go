package attack

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack/policy"
	"firedrill/internal/drill"
)

// An attack on pods is one attack to the policy of the host, however many parts it has.
func TestPartsOfAnAttackCountAsOne(t *testing.T) {
	runtime.LockOSThread() // and never unlocked: the thread ends with the test, and with it a network in which nobody else attacks
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "kernel") {
			t.Fatal(err)
		}
		t.Skip("this test needs root: ", err)
	}
	guids := make([]string, 5)
	for i := range guids {
		guid, err := NewGUID()
		if err != nil {
			t.Fatal(err)
		}
		guids[i] = guid
	}
	whole, one, other, elsewhere, orphan := guids[0], guids[1], guids[2], guids[3], guids[4]
	claims := map[string]Status{whole: {GUID: whole, Attack: "paper"}, other: {GUID: other, Attack: "paper", PartOf: whole},
		elsewhere: {GUID: elsewhere, Attack: "dns"}, orphan: {GUID: orphan, Attack: "dns", PartOf: elsewhere}}
	for guid, status := range claims {
		c, err := takeClaim(guid, func() Status { return status }, func() {})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.close)
	}
	admit := func(most string, p *part, plan Plan) error {
		rules, err := policy.Reader{Path: policyFile(t, "max_parallel: "+most+"\n"), Owner: uint32(os.Geteuid())}.Read()
		if err != nil {
			t.Fatal(err)
		}
		return bounds{invocation: Invocation{Kind: paper{group: "state"}, part: p}, rules: rules}.admit(t.Context(), plan)
	}
	leader := Plan{GUID: whole, Attack: "paper", Steps: []Step{&parts{all: []*running{{part: part{GUID: one}}, {part: part{GUID: other}}}}}}
	for name, c := range map[string]struct {
		part *part
		plan Plan
	}{
		"a part":     {&part{GUID: one, Of: whole, Siblings: []string{one, other}}, Plan{GUID: one, Attack: "paper", PartOf: whole}},
		"the leader": {nil, leader},
	} {
		if err := admit("2", c.part, c.plan); err != nil { // the other attack, with its part, is one
			t.Errorf("%s beside one attack: %v", name, err)
		}
		if err := admit("1", c.part, c.plan); drill.KindOf(err) != drill.Refused {
			t.Errorf("%s beside one attack, where one is all: %v", name, err)
		}
	}
	if err := admit("2", nil, Plan{GUID: one, Attack: "paper"}); drill.KindOf(err) != drill.Refused { // what is no part is a third
		t.Errorf("an attack of its own beside two: %v", err)
	}
}

func TestPartOfNobodyIsRefused(t *testing.T) {
	for text, want := range map[string]bool{"": true, "{": false, `{"guid":"x","of":"y"}`: false,
		`{"guid":"0367cfe2-f9fc-11e8-acea-0242db4d1180","of":"932c78b3-f9fc-11e8-9244-024280df5a87"}`: true} {
		if _, err := readPart(func(string) string { return text }); (err == nil) != want {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestTheFirstAndTheLastOfTheTimesOfParts(t *testing.T) {
	early, late := time.Unix(1, 0), time.Unix(2, 0)
	times := []*time.Time{nil, &late, nil, &early}
	var first, last *time.Time
	for _, at := range times {
		first, last = extreme(first, at, time.Time.Before), extreme(last, at, time.Time.After)
	}
	if first == nil || last == nil || !first.Equal(early) || !last.Equal(late) {
		t.Errorf("%v, %v of %v", first, last, slices.Compact(times))
	}
}
