package alarm

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestExpressionsMeanWhatTheySay(t *testing.T) {
	states := map[string]State{"a": Raised, "b": OK, "c": Insufficient, "d e": Raised, "and(more)": OK}
	for text, want := range map[string]bool{
		"TRUE": true, "FALSE": false, "NOT FALSE": true, "NOT NOT TRUE": true,
		"ALARM(a)": true, `ALARM("a")`: true, "OK(a)": false, "OK(b)": true, "INSUFFICIENT_DATA(c)": true,
		`ALARM("d e")`: true, `OK("and(more)")`: true,
		"ALARM(a) AND ALARM(b)": false, "ALARM(a) OR ALARM(b)": true, "ALARM(a) AND NOT ALARM(b)": true,
		// AND binds closer than OR, NOT closer than both.
		"TRUE OR TRUE AND FALSE": true, "(TRUE OR TRUE) AND FALSE": false, "NOT TRUE OR TRUE": true, "NOT (TRUE OR TRUE)": false,
		"NOT FALSE AND FALSE": false,
		// An alarm that is not there is in no state.
		"ALARM(z)": false, "OK(z)": false, "INSUFFICIENT_DATA(z)": false, "NOT OK(z)": true,
		"AT_LEAST(1, ALARM, (a, b, c))": true, "AT_LEAST(2, ALARM, (a, b, c))": false, `AT_LEAST(2, ALARM, (a, b, "d e"))`: true,
		"AT_LEAST(50%, ALARM, (a, b, c))": false, "AT_LEAST(33%, ALARM, (a, b, c))": true, "AT_LEAST(34%, ALARM, (a, b, c))": false,
		"AT_LEAST(100%, OK, (b))": true, "\n ALARM( a )\tAND OK(b) ": true,
	} {
		expression, err := ParseExpression(text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := expression.Holds(states); got != want {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

func TestExpressionErrorsNameThePlaceAndTheCure(t *testing.T) {
	for text, want := range map[string]string{
		"":                                       "column 1: the end cannot stand here",
		"ALARM":                                  `column 6: the end cannot stand here; write "("`,
		"ALARM()":                                "column 7",
		"ALARM(a":                                `write ")"`,
		"ALARM(a) ALARM(b)":                      `column 10: "ALARM" cannot stand here; write AND, OR or the end`,
		"ALARM(a) AND":                           "column 13: the end",
		"alarm(a)":                               `column 1: "alarm"`,
		`ALARM("a)`:                              "quote is not closed",
		"NOT":                                    "column 4: the end",
		"(TRUE":                                  `write ")"`,
		"TRUE)":                                  `column 5: ")"`,
		"AT_LEAST(0, ALARM, (a))":                "column 10",
		"AT_LEAST(3, ALARM, (a, b))":             `"3" of 2 alarms`,
		"AT_LEAST(0%, ALARM, (a))":               "1% to 100%",
		"AT_LEAST(101%, OK, (a))":                "1% to 100%",
		"AT_LEAST(1, RED, (a))":                  "write ALARM, OK or INSUFFICIENT_DATA",
		"AT_LEAST(1, ALARM, ())":                 "the name of an alarm",
		strings.Repeat("NOT ", 1000) + "TRUE":    "lie within each other",
		strings.Repeat("(", 1000):                "lie within each other",
		strings.Repeat("TRUE OR ", 500) + "TRUE": "parts; 500 are the most",
	} {
		if _, err := ParseExpression(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: got %v, want an error with %q", text, err, want)
		}
	}
	names := make([]string, 101)
	for i := range names {
		names[i] = "ALARM(x" + strings.Repeat("y", i) + ")"
	}
	if _, err := ParseExpression(strings.Join(names, " OR ")); err == nil {
		t.Error("101 children were taken")
	}
	if _, err := ParseExpression(strings.Join(names[:100], " OR ")); err != nil {
		t.Errorf("100 children: %v", err)
	}
}

func FuzzParseExpression(f *testing.F) {
	f.Add(`ALARM("a b") AND (NOT OK(c) OR AT_LEAST(50%, ALARM, (d, e)))`)
	f.Add(`AT_LEAST(1,ALARM,(a`)
	f.Fuzz(func(t *testing.T, text string) {
		expression, err := ParseExpression(text)
		if err != nil {
			return
		}
		// Each state of all children has an answer, and what is named as the cause is a child.
		for _, state := range []State{OK, Raised, Insufficient} {
			states := map[string]State{}
			for _, name := range expression.Children() {
				states[name] = state
			}
			expression.Holds(states)
			for _, name := range expression.Because(states) {
				if !slices.Contains(expression.Children(), name) {
					t.Errorf("%q: %q is no child", text, name)
				}
			}
		}
	})
}

func composite(t *testing.T, name, text string) Composite {
	t.Helper()
	expression, err := ParseExpression(text)
	if err != nil {
		t.Fatal(err)
	}
	return NewComposite(name, expression, start)
}

var start = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestCompositeKnowsNothingOnlyUntilItLooks(t *testing.T) {
	c := composite(t, "all", "ALARM(a) AND ALARM(b)")
	if c.State != Insufficient {
		t.Errorf("a new one is %s", c.State)
	}
	// Children without data leave it OK, not unknown.
	c, change := StepComposite(c, start, map[string]State{"a": Insufficient, "b": Insufficient})
	if c.State != OK || change == nil || change.From != Insufficient {
		t.Errorf("got %s, %+v", c.State, change)
	}
	c, change = StepComposite(c, start.Add(time.Second), map[string]State{"a": Raised, "b": Insufficient})
	if c.State != OK || change != nil {
		t.Errorf("one of two: got %s, %+v", c.State, change)
	}
	c, change = StepComposite(c, start.Add(2*time.Second), map[string]State{"a": Raised, "b": Raised})
	if c.State != Raised || change == nil || !change.At.Equal(start.Add(2*time.Second)) || !strings.Contains(change.Reason, "a is ALARM, b is ALARM") {
		t.Errorf("both: got %s, %+v", c.State, change)
	}
	if want := `{"triggeringAlarms":[{"name":"a","state":"ALARM"},{"name":"b","state":"ALARM"}]}`; string(change.ReasonData) != want {
		t.Errorf("got %s, want %s", change.ReasonData, want)
	}
}

func TestOrderPutsChildrenFirstAndFindsCircles(t *testing.T) {
	top, middle := composite(t, "top", "ALARM(middle)"), composite(t, "middle", "ALARM(leaf) OR OK(leaf)")
	ordered, err := Order([]Composite{top, middle}, []string{"leaf"})
	if err != nil || len(ordered) != 2 || ordered[0].Name != "middle" {
		t.Errorf("got %v, %v", ordered, err)
	}
	for name, test := range map[string]struct {
		composites []Composite
		want       string
	}{
		"circle":     {[]Composite{composite(t, "a", "ALARM(b)"), composite(t, "b", "ALARM(c)"), composite(t, "c", "ALARM(a)")}, "a -> b -> c -> a"},
		"itself":     {[]Composite{composite(t, "a", "ALARM(a)")}, "a -> a"},
		"not there":  {[]Composite{composite(t, "a", "ALARM(nobody)")}, `"nobody", which does not exist`},
		"same name":  {[]Composite{composite(t, "leaf", "TRUE")}, "twice"},
		"twice here": {[]Composite{top, top}, "twice"},
	} {
		if _, err := Order(test.composites, []string{"leaf"}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, test.want)
		}
	}
}

// suppressionSteps drive one alarm and its suppressor; at is in seconds.
type suppressionStep struct {
	at   int
	do   string // "ALARM", "OK": the alarm moves; "raise", "clear": the suppressor; "": time passes
	due  State  // what is carried out
	held string // why it is held back
}

func TestActionsWaitForTheSuppressor(t *testing.T) {
	rule := Suppression{Wait: 10 * time.Second, Extension: 20 * time.Second}
	for name, test := range map[string]struct {
		rule  Suppression
		steps []suppressionStep
	}{
		"without a suppressor raised they come after the wait": {rule, []suppressionStep{
			{0, "ALARM", "", SuppressedByWait}, {9, "", "", SuppressedByWait}, {10, "", Raised, ""}, {11, "", "", ""}}},
		"a suppressor raised in time holds them": {rule, []suppressionStep{
			{0, "ALARM", "", SuppressedByWait}, {5, "raise", "", SuppressedByAlarm}, {100, "", "", SuppressedByAlarm},
			{101, "clear", "", SuppressedByExtension}, {120, "", "", SuppressedByExtension}, {121, "", Raised, ""}}},
		"a suppressor raised already holds them": {rule, []suppressionStep{
			{0, "raise", "", ""}, {1, "ALARM", "", SuppressedByAlarm}, {5, "OK", "", SuppressedByAlarm}, {6, "clear", "", SuppressedByExtension},
			{26, "", OK, ""}}}, // only the state that it is in at the end
		"in the extension they wait until its end": {rule, []suppressionStep{
			{0, "raise", "", ""}, {1, "clear", "", ""}, {5, "ALARM", "", SuppressedByExtension}, {20, "", "", SuppressedByExtension}, {21, "", Raised, ""}}},
		"raised again in the extension": {rule, []suppressionStep{
			{0, "raise", "", ""}, {1, "ALARM", "", SuppressedByAlarm}, {2, "clear", "", SuppressedByExtension}, {3, "raise", "", SuppressedByAlarm},
			{50, "", "", SuppressedByAlarm}, {51, "clear", "", SuppressedByExtension}, {71, "", Raised, ""}}},
		"too late": {rule, []suppressionStep{
			{0, "ALARM", "", SuppressedByWait}, {10, "", Raised, ""}, {11, "raise", "", ""}, {12, "OK", "", SuppressedByAlarm}}},
		"no periods": {Suppression{}, []suppressionStep{
			{0, "ALARM", Raised, ""}, {1, "raise", "", ""}, {2, "OK", "", SuppressedByAlarm}, {3, "clear", OK, ""}}},
	} {
		var pending Pending
		suppressed := false
		for _, step := range test.steps {
			now := start.Add(time.Duration(step.at) * time.Second)
			var due *Due
			switch step.do {
			case "ALARM", "OK":
				pending, due = test.rule.Moved(pending, State(step.do), suppressed, now)
			case "raise", "clear":
				suppressed = step.do == "raise"
				pending, due = test.rule.Suppressor(pending, suppressed, now)
			default:
				pending, due = test.rule.Passed(pending, now)
			}
			var got State
			if due != nil {
				got = due.State
			}
			if got != step.due || pending.By != step.held {
				t.Errorf("%s: at %d s after %q: carried out %q and held by %q, want %q and %q", name, step.at, step.do, got, pending.By, step.due, step.held)
			}
		}
	}
}
