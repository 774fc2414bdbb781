package failover

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// rows returns the rows of a golden table, word by word.
func rows(t *testing.T, name string) [][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", "route53", name))
	if err != nil {
		t.Fatal(err)
	}
	var all [][]string
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 0 && words[0] != "#" {
			all = append(all, words)
		}
	}
	if len(all) == 0 {
		t.Fatal("an empty table")
	}
	return all
}

func number(t *testing.T, text string) int {
	t.Helper()
	value, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// A chooser is RecordSet.Shares, or a broken twin of it.
type chooser func(RecordSet, func(string) bool) []Share

func address(i int) []netip.Addr { return []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})} }

func onlyGood(check string) bool { return check != "bad" }

// wrongRecords returns the rows of the tables of records that a chooser gets wrong.
func wrongRecords(t *testing.T, choose chooser) []string {
	t.Helper()
	var wrong []string
	checks := map[string]string{"ok": "ok", "bad": "bad", "none": "", "+": "ok", "-": "bad", "=": ""}
	for _, row := range rows(t, "failover.txt") {
		set := RecordSet{Routing: RoutingFailover, Records: []Record{{ID: "primary", Addresses: address(1), Check: checks[row[0]]}}}
		if row[1] != "absent" {
			set.Records = append(set.Records, Record{ID: "secondary", Addresses: address(2), Check: checks[row[1]], Secondary: true})
		}
		if err := set.Valid(); err != nil {
			t.Fatal(err)
		}
		if got := choose(set, onlyGood); len(got) != 1 || got[0].Record.ID != row[2] {
			wrong = append(wrong, fmt.Sprintf("failover %v: %v", row, got))
		}
	}
	for _, row := range rows(t, "weighted.txt") {
		set := RecordSet{Routing: RoutingWeighted}
		for i, word := range row[:len(row)/2] {
			set.Records = append(set.Records, Record{
				ID: strconv.Itoa(i), Addresses: address(i), Weight: number(t, word[:len(word)-1]), Check: checks[word[len(word)-1:]],
			})
		}
		if err := set.Valid(); err != nil {
			t.Fatal(err)
		}
		got := make([]string, len(set.Records))
		for i := range got {
			got[i] = "0"
		}
		for _, share := range choose(set, onlyGood) {
			got[number(t, share.Record.ID)] = strconv.Itoa(share.Part)
		}
		if want := row[len(row)/2:]; !slices.Equal(got, want) {
			wrong = append(wrong, fmt.Sprintf("weighted %v: %v", row, got))
		}
	}
	return wrong
}

func TestRecordsAreChosenAsRoute53Does(t *testing.T) {
	for _, wrong := range wrongRecords(t, RecordSet.Shares) {
		t.Error(wrong)
	}
}

func TestTablesCatchBrokenChoices(t *testing.T) {
	for name, twin := range map[string]chooser{
		"fails closed": func(s RecordSet, healthy func(string) bool) []Share {
			all := s.Shares(healthy)
			return slices.DeleteFunc(all, func(one Share) bool { return !one.Record.healthy(healthy) })
		},
		"both bad: the secondary": func(s RecordSet, healthy func(string) bool) []Share {
			if s.Routing == RoutingFailover && !slices.ContainsFunc(s.Records, func(r Record) bool { return r.healthy(healthy) }) {
				return []Share{{s.Records[len(s.Records)-1], 1}}
			}
			return s.Shares(healthy)
		},
		"a record without a check is ill": func(s RecordSet, healthy func(string) bool) []Share {
			s.Records = slices.Clone(s.Records)
			for i := range s.Records {
				if s.Records[i].Check == "" {
					s.Records[i].Check = "bad"
				}
			}
			return s.Shares(healthy)
		},
		"weight 0 never": func(s RecordSet, healthy func(string) bool) []Share {
			return slices.DeleteFunc(s.Shares(healthy), func(one Share) bool { return s.Routing == RoutingWeighted && one.Record.Weight == 0 })
		},
		"weights are not looked at": func(s RecordSet, healthy func(string) bool) []Share {
			all := s.Shares(healthy)
			for i := range all {
				all[i].Part = 1
			}
			return all
		},
	} {
		if len(wrongRecords(t, twin)) == 0 {
			t.Errorf("a choice that is broken (%s) passes the tables", name)
		}
	}
}

func TestMultivalueAnswersSeveral(t *testing.T) {
	for _, row := range rows(t, "multivalue.txt") {
		healthy, ill, want := number(t, row[0]), number(t, row[1]), number(t, row[2])
		set := RecordSet{Routing: RoutingMultivalue}
		for i := range healthy + ill {
			check := "ok"
			if i >= healthy {
				check = "bad"
			}
			set.Records = append(set.Records, Record{ID: strconv.Itoa(i), Addresses: address(i), Check: check})
		}
		seen := map[netip.Addr]int{}
		for lot := range uint64(2000) {
			got := set.Answer(onlyGood, lot)
			if len(got) != want || len(Sorted(got)) != want {
				t.Fatalf("%v, lot %d: %v", row, lot, got)
			}
			for _, one := range got {
				if row[3] == "healthy" && int(one.As4()[3]) >= healthy {
					t.Fatalf("%v, lot %d: %v is unhealthy", row, lot, one)
				}
				seen[one]++
			}
		}
		if from := map[string]int{"healthy": healthy, "all": healthy + ill}[row[3]]; len(seen) != from {
			t.Errorf("%v: %d records are ever answered; want %d", row, len(seen), from)
		}
	}
}

func TestLotsFallAsTheWeightsSay(t *testing.T) {
	set := RecordSet{Routing: RoutingWeighted, Records: []Record{{ID: "a", Addresses: address(1), Weight: 1}, {ID: "b", Addresses: address(2), Weight: 3}}}
	const lots = 20_000
	count := 0
	for lot := range uint64(lots) {
		if set.Answer(onlyGood, lot)[0] == address(2)[0] {
			count++
		}
	}
	if share := float64(count) / lots; share < 0.73 || share > 0.77 {
		t.Errorf("weight 3 of 4 got %.3f of the answers", share)
	}
	if !slices.Equal(set.Answer(onlyGood, 7), set.Answer(onlyGood, 7)) {
		t.Error("the same lot gives different answers")
	}
}

// TestAliasesAreFollowedAsRoute53Does tries a primary that is an alias for two hosts, with and without a look at them.
func TestAliasesAreFollowedAsRoute53Does(t *testing.T) {
	for _, row := range []struct {
		own      string
		evaluate bool
		targets  [2]string
		want     int // last byte of the address; 0: any of the targets
	}{
		{"", true, [2]string{"ok", "bad"}, 1},
		{"", true, [2]string{"bad", "bad"}, 3}, // backs out of the dead branch
		{"", false, [2]string{"bad", "bad"}, 0},
		{"", false, [2]string{"bad", "ok"}, 2},
		{"bad", true, [2]string{"ok", "ok"}, 3}, // both must pass
		{"ok", true, [2]string{"bad", "bad"}, 3},
		{"ok", false, [2]string{"bad", "bad"}, 0},
	} {
		hosts := &RecordSet{Routing: RoutingWeighted, Records: []Record{
			{ID: "1", Addresses: address(1), Weight: 1, Check: row.targets[0]}, {ID: "2", Addresses: address(2), Weight: 1, Check: row.targets[1]},
		}}
		set := RecordSet{Routing: RoutingFailover, Records: []Record{
			{ID: "p", Alias: hosts, EvaluateTarget: row.evaluate, Check: row.own}, {ID: "s", Addresses: address(3), Secondary: true},
		}}
		if err := set.Valid(); err != nil {
			t.Fatal(err)
		}
		for lot := range uint64(50) {
			got := int(set.Answer(onlyGood, lot)[0].As4()[3])
			if got != row.want && (row.want != 0 || got == 3) {
				t.Errorf("%+v: host %d", row, got)
				break
			}
		}
	}
}

func TestSetsThatRoute53RefusesAreRefused(t *testing.T) {
	good := Record{ID: "a", Addresses: address(1)}
	loop := &RecordSet{Routing: RoutingWeighted}
	loop.Records = []Record{{ID: "x", Alias: loop}}
	for name, set := range map[string]RecordSet{
		"no records": {Routing: RoutingWeighted}, "two primaries": {Routing: RoutingFailover, Records: []Record{good, {ID: "b", Addresses: address(2)}}},
		"no primary":     {Routing: RoutingFailover, Records: []Record{{ID: "b", Addresses: address(2), Secondary: true}}},
		"one name twice": {Routing: RoutingWeighted, Records: []Record{good, good}}, "weight": {Routing: RoutingWeighted, Records: []Record{{ID: "a", Addresses: address(1), Weight: 256}}},
		"nothing to answer": {Routing: RoutingWeighted, Records: []Record{{ID: "a"}}}, "routing": {Routing: "latency", Records: []Record{good}}, "an alias of itself": *loop,
	} {
		if set.Valid() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

// checkMode reads plain, inverted, disabled or both.
func checkMode(check Check, mode string) Check {
	check.Inverted = mode == "inverted" || mode == "both"
	check.Disabled = mode == "disabled" || mode == "both"
	return check
}

// A healer is Checks.Healthy, or a broken twin of it.
type healer func(Checks, string, map[string]Seen) bool

// wrongChecks returns the rows of the tables of checks that a healer gets wrong.
func wrongChecks(t *testing.T, healthy healer) []string {
	t.Helper()
	var wrong []string
	for _, row := range rows(t, "calculated.txt") {
		checks, seen := Checks{}, map[string]Seen{}
		top := Check{Kind: CheckCalculated, Threshold: number(t, row[1])}
		for i, letter := range strings.Trim(row[0], ".") {
			name := strconv.Itoa(i)
			top.Children = append(top.Children, name)
			checks[name] = Check{Kind: CheckEndpoint, Disabled: letter == 'd', Inverted: letter == 'i'}
			if letter != 'n' {
				seen[name] = Seen{Observers: 1, Healthy: map[rune]int{'+': 1, 'i': 1}[letter]}
			}
		}
		checks["top"] = checkMode(top, row[2])
		if err := checks.Valid(); err != nil {
			t.Fatal(err)
		}
		if got := healthy(checks, "top", seen); got != (row[3] == "healthy") {
			wrong = append(wrong, fmt.Sprintf("calculated %v: %t", row, got))
		}
	}
	for _, row := range rows(t, "single.txt") {
		check, seen := Check{Kind: CheckKind(row[0]), Insufficient: strings.Trim(row[2], "-")}, Seen{Off: row[1] == "off"}
		switch check.Kind {
		case CheckEndpoint:
			well, all, _ := strings.Cut(row[1], "/")
			seen.Healthy, seen.Observers = number(t, well), number(t, all)
		case CheckAlarm:
			seen.Alarm, seen.LastKnown, _ = strings.Cut(strings.Trim(row[1], "-"), ",")
		}
		checks := Checks{"one": checkMode(check, row[3])}
		if err := checks.Valid(); err != nil {
			t.Fatal(err)
		}
		if got := healthy(checks, "one", map[string]Seen{"one": seen}); got != (row[4] == "healthy") {
			wrong = append(wrong, fmt.Sprintf("single %v: %t", row, got))
		}
	}
	return wrong
}

func TestChecksAreHealthyAsRoute53SaysSo(t *testing.T) {
	for _, wrong := range wrongChecks(t, Checks.Healthy) {
		t.Error(wrong)
	}
	if !(Checks{}).Healthy("nobody checks it", nil) {
		t.Error("what has no check is ill")
	}
}

func TestTablesCatchBrokenChecks(t *testing.T) {
	change := func(edit func(*Check)) healer {
		return func(c Checks, name string, seen map[string]Seen) bool {
			broken := Checks{}
			for one, check := range c {
				edit(&check)
				broken[one] = check
			}
			return broken.Healthy(name, seen)
		}
	}
	for name, twin := range map[string]healer{
		"inversion is forgotten":           change(func(c *Check) { c.Inverted = false }),
		"a disabled check is not inverted": change(func(c *Check) { c.Inverted = c.Inverted && !c.Disabled }),
		"a disabled check still looks":     change(func(c *Check) { c.Disabled = false }),
		"all children must be healthy":     change(func(c *Check) { c.Threshold = len(c.Children) }),
		"no data is good news":             change(func(c *Check) { c.Insufficient = InsufficientHealthy }),
		"most observers must agree": func(c Checks, name string, seen map[string]Seen) bool {
			if one := seen[name]; c[name].Kind == CheckEndpoint && one.Healthy*2 < one.Observers && !c[name].Disabled {
				return c[name].Inverted
			}
			return c.Healthy(name, seen)
		},
	} {
		if len(wrongChecks(t, twin)) == 0 {
			t.Errorf("checks that are broken (%s) pass the tables", name)
		}
	}
}

func TestChecksThatCannotBeAreRefused(t *testing.T) {
	for name, checks := range map[string]Checks{
		"a child that is not there": {"a": {Kind: CheckCalculated, Children: []string{"b"}}},
		"itself":                    {"a": {Kind: CheckCalculated, Children: []string{"a"}}},
		"a circle":                  {"a": {Kind: CheckCalculated, Children: []string{"b"}}, "b": {Kind: CheckCalculated, Children: []string{"a"}}},
		"no kind":                   {"a": {}},
		"a treatment":               {"a": {Kind: CheckAlarm, Insufficient: "Perhaps"}},
		"too many":                  {"a": {Kind: CheckCalculated, Children: make([]string, 257)}},
	} {
		if checks.Valid() == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func TestOpinionChangesAfterAStreak(t *testing.T) {
	for text, want := range map[string]string{"+---+++": "++++---+"[1:], "--+--+--": "++++++++", "---": "++-", "": ""} {
		var streak Streak
		got := ""
		for _, result := range text {
			streak = streak.Next(result == '+', 3, noon)
			got += map[bool]string{false: "+", true: "-"}[streak.Ill]
		}
		if got != want {
			t.Errorf("%s: opinions %s, want %s", text, got, want)
		}
	}
}
