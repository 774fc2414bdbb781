package report

import (
	"bytes"
	"encoding/csv"
	"strings"
	"testing"
	"time"

	"firedrill/internal/history"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

// slower is a run with one measure changed.
func slower(rto, bound, available float64, after time.Duration) verdict.Verdict {
	check := func(name, unit string, value, bound float64, atLeast bool) verdict.Check {
		return verdict.Check{
			Group: verdict.GroupExpectation, Name: name, Outcome: history.Passed, AtLeast: atLeast,
			Measured: &verdict.Quantity{Value: value, Bound: bound, Unit: unit}, Allowed: &verdict.Quantity{Value: 15, Unit: unit},
		}
	}
	return verdict.Verdict{
		Service: "shop", Outcome: history.Passed, Started: verdicttest.Start().Add(after),
		Steps: []verdict.StepVerdict{{Name: "drill x on blue (1 of 2 hosts, seed 7)", Checks: []verdict.Check{
			check("RTO", "s", rto, bound, false), check("availability", "%", available, 0, true),
		}}},
	}
}

func TestComparisonTellsWorseFromBetterAndFromNothing(t *testing.T) {
	for name, test := range map[string]struct {
		first, last verdict.Verdict
		rto, share  string
	}{
		"worse":                       {slower(4, 0.1, 99, 0), slower(6, 0.1, 90, time.Hour), Worse, Worse},
		"better":                      {slower(6, 0.1, 90, 0), slower(4, 0.1, 99, time.Hour), Better, Better},
		"given in another order":      {slower(6, 0.1, 90, time.Hour), slower(4, 0.1, 99, 0), Worse, Worse},
		"within the error":            {slower(4, 1, 99, 0), slower(6, 1, 98, time.Hour), Same, Same},
		"within what two runs differ": {slower(4, 0, 99, 0), slower(4.1, 0, 99, time.Hour), Same, Same},
	} {
		got, err := Compare([]string{"a", "b"}, []verdict.Verdict{test.first, test.last})
		if err != nil || len(got.Rows) != 2 || got.Rows[0].Verdict != test.rto || got.Rows[1].Verdict != test.share || got.Rows[0].Step != "drill x on blue" {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	other := slower(4, 0, 99, 0)
	other.Service = "another"
	if _, err := Compare([]string{"a", "b"}, []verdict.Verdict{slower(4, 0, 99, 0), other}); err == nil {
		t.Error("compared two services")
	}
}

func TestComparisonIsShownInEveryFormat(t *testing.T) {
	c, err := Compare([]string{"<b>", "=cmd()"}, []verdict.Verdict{slower(4, 0.1, 99, 0), slower(6, 0.1, 90, time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range []Format{Text, Markdown, HTML, CSV, JSON} {
		var out bytes.Buffer
		if err := WriteComparison(&out, format, c); err != nil || !strings.Contains(out.String(), Worse) {
			t.Errorf("%s: %v\n%s", format, err, out.String())
		}
		if format == HTML && strings.Contains(out.String(), "<th><b>") || format == CSV && strings.Contains(out.String(), ",=cmd") {
			t.Errorf("%s takes a name for more than text:\n%s", format, out.String())
		}
	}
}

func TestCSVHasALineForEachCheck(t *testing.T) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	in := Input{Plan: plan, Log: log, Verdict: verdict.Judge(plan, log)}
	in.Verdict.Steps[0].Name, in.Verdict.Checks[0].Explanation = "=HYPERLINK(1)", "+1"
	var out bytes.Buffer
	if err := Write(&out, CSV, in); err != nil {
		t.Fatal(err)
	}
	rows, err := csv.NewReader(&out).ReadAll()
	if err != nil || len(rows) != in.Verdict.Totals.Checks+1 {
		t.Fatalf("%d rows for %d checks: %v", len(rows), in.Verdict.Totals.Checks, err)
	}
	if text := rows[3][4]; text != "'=HYPERLINK(1)" {
		t.Errorf("a formula came through: %q", text)
	}
}

func TestComparePageGroupsByDrillAndDrawsEachMeasure(t *testing.T) {
	allowed := 10.0
	of := func(values ...float64) (all []*Measured) {
		for _, value := range values {
			all = append(all, &Measured{Value: value, Outcome: history.Passed})
		}
		return all
	}
	c := Comparison{Service: "shop", Runs: make([]ComparedTo, 3), Rows: []Compared{
		{Step: "drill a", Check: "RTO", Unit: "s", Allowed: &allowed, Values: of(2, 4, 8), Verdict: Worse},
		{Step: "drill a", Check: "<b>RPO", Unit: "s", Values: append(of(1, 1), nil), Verdict: Same},
		{Step: "drill b", Check: "RTO", Unit: "s", Values: of(0, 0, 0), Verdict: Same},
	}}
	var out strings.Builder
	if err := WriteComparison(&out, HTML, c); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	if strings.Count(page, "<tbody>") != 2 || strings.Count(page, "<svg") != 3 || strings.Count(page, "<circle") != 8 || strings.Contains(page, "<b>RPO") || !strings.Contains(page, `<tr class="worse">`) {
		t.Errorf("the page:\n%s", page)
	}
	if got := trend(c.Rows[0]); !strings.Contains(string(got), `y1="3.0"`) || !strings.Contains(string(got), `points="3.0,19.0 60.0,15.0 117.0,7.0"`) {
		t.Errorf("the line of what is allowed is the top, and the measure rises: %s", got)
	}
}
