package kinds

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"firedrill/internal/attack"
	"firedrill/internal/drill"
)

// base is what an attack cannot be without, by kind, or by kind and flag where flags exclude each other.
var base = map[string]attack.Values{
	"bandwidth":       {"rate": {"10mbit"}},
	"process_killer":  {"process": {"api"}},
	"pause":           {"process": {"api"}},
	"service":         {"unit": {"api.service"}},
	"certificate":     {"file": {"/etc/ssl/api.pem"}},
	"pid":             {"cgroup": {"/api"}},
	"pid amount":      {},
	"fd":              {"process": {"api"}},
	"fd amount":       {},
	"packet_loss way": {"corrupt": {"true"}},
	"latency jitter":  {"ms": {"60000"}}, // jitter is at most the delay
}

func with(kind, flag, value string) attack.Values {
	values, special := base[kind+" "+flag]
	if !special {
		values = base[kind]
	}
	values = maps.Clone(values)
	if values == nil {
		values = attack.Values{}
	}
	if flag == "ramp" {
		values["length"] = []string{"86400"} // it ends within the length
	}
	values[flag] = []string{value}
	return values
}

// untrue returns where the catalogue says something else of a flag than the attack does with it.
func untrue(kind drill.AttackKind, order func(attack.Values) (attack.Order, error)) (wrong []string) {
	takes := func(flag, value string, want bool) {
		if _, err := order(with(kind.Name, flag, value)); (err == nil) != want {
			wrong = append(wrong, fmt.Sprintf("%s --%s=%s: want taken %t, got %v", kind.Name, flag, value, want, err))
		}
	}
	for _, flag := range kind.Flags {
		numeric := slices.Contains([]string{attack.TypeInt, attack.TypeFloat, attack.TypeSeconds, attack.TypeMinutes, attack.TypeRate}, flag.Type)
		if numeric != (flag.Range != nil) {
			wrong = append(wrong, fmt.Sprintf("%s --%s: a number has a range, and nothing else has one", kind.Name, flag.Name))
		}
		if flag.Range != nil {
			inside, outside := edges(flag)
			for _, value := range inside {
				takes(flag.Name, value, true)
			}
			for _, value := range append(outside, "x", "1e999", "NaN") {
				takes(flag.Name, value, false)
			}
		}
		for _, value := range flag.OneOf {
			takes(flag.Name, value, true)
			takes(flag.Name, strings.ToUpper(value), true)
			takes(flag.Name, strings.ToLower(value), true)
		}
		if len(flag.OneOf) > 0 {
			takes(flag.Name, "nonsense", false)
		}
		if flag.Required {
			values := with(kind.Name, flag.Name, "")
			delete(values, flag.Name)
			if _, err := order(values); err == nil {
				wrong = append(wrong, fmt.Sprintf("%s without --%s: it is taken", kind.Name, flag.Name))
			}
		}
		if flag.Default != "" {
			takes(flag.Name, flag.Default, true)
		}
	}
	return wrong
}

// edges are the last numbers inside of a range, and the first outside.
func edges(flag drill.AttackFlag) (inside, outside []string) {
	step := 0.001
	if flag.Type == attack.TypeInt || flag.Type == attack.TypeMinutes {
		step = 1
	}
	write := func(value float64) string {
		text := strconv.FormatFloat(value, 'f', -1, 64)
		switch {
		case flag.Type == attack.TypeRate:
			text += "bit"
		case flag.Type == attack.TypeSeconds && strings.Contains(text, "."):
			text += "s" // a plain number is of whole seconds
		}
		return text
	}
	r := flag.Range
	if r.Above {
		inside, outside = []string{write(r.Min + step)}, []string{write(r.Min)}
	} else {
		inside, outside = []string{write(r.Min)}, []string{write(r.Min - step)}
	}
	if r.Max > 0 {
		inside, outside = append(inside, write(r.Max)), append(outside, write(r.Max+max(step, r.Max*1e-9)))
	}
	return inside, outside
}

func TestTheCatalogueSaysWhatEachFlagTakes(t *testing.T) {
	for _, kind := range All() {
		for _, wrong := range untrue(kind.Describe(), kind.Order) {
			t.Error(wrong)
		}
	}
}

// The planted bugs: a catalogue that says something else of a flag than is done.
func TestAnUntrueRangeIsCaught(t *testing.T) {
	for name, change := range map[string]func(*drill.AttackFlag){
		"wider below":    func(f *drill.AttackFlag) { f.Range = &drill.Range{Min: f.Range.Min - 1, Max: f.Range.Max} },
		"narrower below": func(f *drill.AttackFlag) { f.Range = &drill.Range{Min: f.Range.Min + 1, Max: f.Range.Max} },
		"wider above":    func(f *drill.AttackFlag) { f.Range = &drill.Range{Min: f.Range.Min, Max: f.Range.Max + 1} },
		"narrower above": func(f *drill.AttackFlag) { f.Range = &drill.Range{Min: f.Range.Min, Max: f.Range.Max - 1} },
		"open":           func(f *drill.AttackFlag) { f.Range = &drill.Range{Min: f.Range.Min, Above: true, Max: f.Range.Max} },
		"none":           func(f *drill.AttackFlag) { f.Range = nil },
		"words":          func(f *drill.AttackFlag) { f.OneOf = []string{"few"} },
		"required":       func(f *drill.AttackFlag) { f.Required = true },
		"default":        func(f *drill.AttackFlag) { f.Default = "0" },
	} {
		_, kind, ok := Find("io")
		if !ok {
			t.Fatal("there is no attack io")
		}
		kind.Flags = slices.Clone(kind.Flags)
		change(&kind.Flags[slices.IndexFunc(kind.Flags, func(f drill.AttackFlag) bool { return f.Name == "workers" })])
		ioKind, _, _ := Find("io")
		if len(untrue(kind, ioKind.Order)) == 0 {
			t.Errorf("%s: nothing catches this bug", name)
		}
	}
	if all := strings.Join(untrue(drill.AttackKind{Name: "x", Flags: []drill.AttackFlag{{Name: "words", OneOf: []string{"few"}}}},
		func(attack.Values) (attack.Order, error) { return nil, nil }), ""); !strings.Contains(all, "nonsense") {
		t.Errorf("a flag that takes any word is not caught: %s", all)
	}
}
