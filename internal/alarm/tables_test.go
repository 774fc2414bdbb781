package alarm

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// An evaluator is anything that decides the next state: the real one, the oracle, or a broken twin.
type evaluator func(rule Rule, current State, window []Datapoint) State

func evaluate(rule Rule, current State, window []Datapoint) State {
	return Evaluate(rule, current, window).State
}

// The breaching value is 0 here, as in the metrics of the article: an evaluator that takes 0 for nothing must not get through.
const (
	breachingValue = 0
	goodValue      = 1
)

func connectivity(m, n int, missing Missing) Rule {
	return Rule{
		Name: "connectivity", Statistic: Average, Operator: Less, Threshold: 1,
		Period: time.Minute, M: m, N: n, Missing: missing,
	}
}

// windowOf draws a window: '0' is a good datapoint, 'X' a breaching one, '-' none; oldest first.
func windowOf(t testing.TB, drawing string) []Datapoint {
	t.Helper()
	start := time.Date(2018, 11, 25, 21, 0, 0, 0, time.UTC)
	var window []Datapoint
	for _, slot := range strings.ReplaceAll(drawing, " ", "") {
		point := Datapoint{Start: start}
		switch slot {
		case '0':
			point = point.add(goodValue)
		case 'X':
			point = point.add(breachingValue)
		case '-':
		default:
			t.Fatalf("drawing %q: %q is not a slot", drawing, slot)
		}
		window = append(window, point)
		start = start.Add(time.Minute)
	}
	return window
}

var treatments = []Missing{MissingIsMissing, MissingIsIgnored, MissingIsBreaching, MissingIsNotBreaching}

var states = []State{OK, Raised, Insufficient}

// keep stands for "the state stays" in a table.
const keep State = "keep"

// documented are the two tables of CloudWatch's guide: N = 3, a range of 5, for M = 3 and M = 2.
var documented = []struct {
	m       int
	drawing string
	want    [4]State // in the order of treatments
}{
	{3, "0 - X - X", [4]State{OK, OK, OK, OK}},
	{3, "0 - - - -", [4]State{OK, OK, OK, OK}},
	{3, "- - - - -", [4]State{Insufficient, keep, Raised, OK}},
	{3, "0 X X - X", [4]State{Raised, Raised, Raised, Raised}},
	{3, "- - X - -", [4]State{Raised, keep, Raised, OK}},
	{2, "0 - X - X", [4]State{Raised, Raised, Raised, Raised}},
	{2, "0 0 X 0 X", [4]State{Raised, Raised, Raised, Raised}},
	{2, "0 - X - -", [4]State{OK, OK, Raised, OK}},
	{2, "- - - - 0", [4]State{OK, OK, Raised, OK}},
	{2, "- - - X -", [4]State{Raised, keep, Raised, OK}},
}

// ours are rows beyond the guide: shorter rules, and the edges that the closed form has.
var ours = []struct {
	m, n    int
	drawing string
	want    [4]State
}{
	{1, 1, "- - 0", [4]State{OK, OK, OK, OK}},
	{1, 1, "X - -", [4]State{Raised, Raised, Raised, Raised}},
	{1, 1, "X 0 -", [4]State{OK, OK, OK, OK}},
	{1, 1, "- - -", [4]State{Insufficient, keep, Raised, OK}},
	{2, 2, "- - - X", [4]State{keep, keep, Raised, OK}},
	{2, 2, "- - X -", [4]State{Raised, keep, Raised, OK}},
	{2, 2, "X X 0 -", [4]State{OK, OK, OK, OK}},
	{2, 2, "X X 0 0", [4]State{OK, OK, OK, OK}},
	{2, 3, "X X 0 0 0", [4]State{OK, OK, OK, OK}},
	{3, 3, "X X X - -", [4]State{Raised, Raised, Raised, Raised}},
}

// wrongRows returns the rows of both tables, times four treatments and three states before, that an evaluator gets wrong.
func wrongRows(t testing.TB, evaluate evaluator) (wrong []string, checked int) {
	t.Helper()
	check := func(m, n int, drawing string, want [4]State) {
		for column, treatment := range treatments {
			for _, before := range states {
				expected := want[column]
				if expected == keep {
					expected = before
				}
				checked++
				if got := evaluate(connectivity(m, n, treatment), before, windowOf(t, drawing)); got != expected {
					wrong = append(wrong, fmt.Sprintf("%d of %d, [%s], %s, from %s: got %s, want %s", m, n, drawing, treatment, before, got, expected))
				}
			}
		}
	}
	for _, row := range documented {
		check(row.m, 3, row.drawing, row.want)
	}
	for _, row := range ours {
		check(row.m, row.n, row.drawing, row.want)
	}
	return wrong, checked
}

func TestEvaluateFollowsTheDocumentedTables(t *testing.T) {
	wrong, checked := wrongRows(t, evaluate)
	for _, row := range wrong {
		t.Error(row)
	}
	if want := (len(documented) + len(ours)) * 4 * 3; checked != want {
		t.Errorf("checked %d cells, want %d", checked, want)
	}
}

// The broken twins: each is a mistake that an implementation of these rules has made somewhere.
var twins = map[string]evaluator{
	"takes the value 0 for missing": func(rule Rule, current State, window []Datapoint) State {
		filtered := make([]Datapoint, len(window))
		for i, point := range window {
			if filtered[i].Start = point.Start; point.Value(rule.Statistic) != 0 {
				filtered[i] = point
			}
		}
		return evaluate(rule, current, filtered)
	},
	"counts all datapoints of the range instead of the newest N": func(rule Rule, current State, window []Datapoint) State {
		breaching, good := tally(rule, window)
		if breaching+good >= rule.N {
			if breaching >= rule.M {
				return Raised
			}
			return OK
		}
		return evaluate(rule, current, window)
	},
	"looks at N periods only": func(rule Rule, current State, window []Datapoint) State {
		return evaluate(rule, current, window[len(window)-rule.N:])
	},
	"takes missing for healthy": func(rule Rule, current State, window []Datapoint) State {
		rule.Missing = MissingIsNotBreaching
		return evaluate(rule, current, window)
	},
	"raises on a single datapoint after silence": func(rule Rule, current State, window []Datapoint) State {
		outcome := Evaluate(rule, current, window)
		if outcome.Grounds == Kept && len(outcome.Real) > 0 {
			return Raised
		}
		return outcome.State
	},
}

func tally(rule Rule, window []Datapoint) (breaching, good int) {
	for _, point := range window {
		switch {
		case point.Missing():
		case rule.Breaches(point):
			breaching++
		default:
			good++
		}
	}
	return breaching, good
}

func TestTablesCatchBrokenEvaluators(t *testing.T) {
	for name, twin := range twins {
		if wrong, _ := wrongRows(t, twin); len(wrong) == 0 {
			t.Errorf("an evaluator that %s passes the tables", name)
		}
	}
}

// oracle decides the same question from the prose, on the drawing alone, without the closed form: it plays through what the missing
// datapoints could have been.
func oracle(m, n int, missing Missing, before State, drawing string) State {
	seen := strings.ReplaceAll(drawing, "-", "")
	if len(seen) > n {
		seen = seen[len(seen)-n:]
	}
	verdict := func(full string) State {
		if strings.Count(full, "X") >= m {
			return Raised
		}
		return OK
	}
	gap := n - len(seen)
	if gap == 0 {
		return verdict(seen)
	}
	best := verdict(seen + strings.Repeat("0", gap))
	worst := verdict(seen + strings.Repeat("X", gap))
	if best == worst && best == Raised {
		return Raised // whatever is missing, it cannot help
	}
	switch missing {
	case MissingIsBreaching:
		return worst
	case MissingIsNotBreaching:
		return best
	case MissingIsMissing, MissingIsIgnored:
	}
	switch {
	case strings.Contains(seen, "0"):
		return OK
	case missing == MissingIsIgnored:
		return before
	case seen == "":
		return Insufficient
	}
	if old := drawing[:len(drawing)-m+1]; strings.Contains(old, "X") {
		return Raised
	}
	return before
}

// differences compares an evaluator with the oracle on every window of every rule up to N = 4: all drawings, treatments and states.
func differences(t testing.TB, evaluate evaluator) (wrong []string, checked int) {
	t.Helper()
	for n := 1; n <= 4; n++ {
		for m := 1; m <= n; m++ {
			for _, drawing := range drawings(n + 2) {
				window := windowOf(t, drawing)
				for _, missing := range treatments {
					for _, before := range states {
						checked++
						want := oracle(m, n, missing, before, drawing)
						if got := evaluate(connectivity(m, n, missing), before, window); got != want {
							wrong = append(wrong, fmt.Sprintf("%d of %d, [%s], %s, from %s: got %s, want %s", m, n, drawing, missing, before, got, want))
						}
					}
				}
			}
		}
	}
	return wrong, checked
}

func drawings(length int) []string {
	all := []string{""}
	for range length {
		var longer []string
		for _, drawing := range all {
			longer = append(longer, drawing+"0", drawing+"X", drawing+"-")
		}
		all = longer
	}
	return all
}

func TestEvaluateAgreesWithOracleOnAllSmallCases(t *testing.T) {
	wrong, checked := differences(t, evaluate)
	for i, row := range wrong {
		if t.Error(row); i == 20 {
			t.Fatalf("and %d more", len(wrong)-i)
		}
	}
	if want := 12 * (27 + 2*81 + 3*243 + 4*729); checked != want {
		t.Errorf("checked %d cases, want %d", checked, want)
	}
	for name, twin := range twins {
		if wrong, _ := differences(t, twin); len(wrong) == 0 {
			t.Errorf("an evaluator that %s agrees with the oracle", name)
		}
	}
}
