package prove

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/jstemmer/go-junit-report/v2/junit"

	"firedrill/internal/history"
)

// Listed is a sabotage as List writes it in JSON.
type Listed struct {
	Case     string            `json:"case"`
	Breaks   string            `json:"breaks"`
	Expected []history.Outcome `json:"expected"`
	Caught   []string          `json:"noticed_by,omitempty"`
	Own      bool              `json:"on_your_service"`
}

// List writes the sabotages, one a line, or as JSON.
func List(out io.Writer, cases []Case, asJSON bool) error {
	if asJSON {
		all := []Listed{}
		for _, c := range cases {
			all = append(all, Listed{c.Name, c.Breaks, c.Want, c.Caught, c.Own})
		}
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(all)
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CASE\tMUST BE\tWHERE\tBREAKS")
	for _, c := range cases {
		where := "lab"
		if c.Own {
			where = "lab, yours"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", c.Name, words(c.Want), where, c.Breaks)
	}
	return table.Flush()
}

func words(outcomes []history.Outcome) string {
	var all []string
	for _, outcome := range outcomes {
		all = append(all, string(outcome))
	}
	return strings.Join(all, " or ")
}

// Row is a result as one line of the table: case, what was expected, the verdict, the check that caught it, seconds.
func Row(r Result) string {
	sign, verdict, by := "✓", string(r.Outcome), r.By
	switch {
	case r.Skipped != "":
		sign, verdict, by = "·", "not applicable", r.Skipped
	case r.Error != "":
		sign, verdict, by = "✗", "not run", firstLine(r.Error)
	case !r.Caught && r.Case == Control:
		sign, by = "✗", r.Reason
	case !r.Caught && r.Outcome == history.Passed:
		sign, by = "✗", "FALSE GREEN: nothing noticed that "+r.Breaks
	case !r.Caught:
		sign, by = "✗", "not as declared: "+r.Reason
	}
	return fmt.Sprintf("%s %-18s  %-22s  %-14s  %5.1fs  %s", sign, r.Case, words(r.Expected), verdict, r.Seconds, by)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// counts are what a summary tells.
type counts struct{ caught, missed, green, broken, skipped, control, bad int }

func count(results []Result) (n counts) {
	for _, r := range results {
		switch {
		case r.Skipped != "":
			n.skipped++
		case r.Error != "":
			n.broken++
		case r.Case == Control && r.Caught:
			n.control++
		case r.Case == Control:
			n.bad++
		case r.Caught:
			n.caught++
		case r.Outcome == history.Passed:
			n.green++
		default:
			n.missed++
		}
	}
	return n
}

// Summary says in one line what was proven.
func Summary(results []Result) string {
	n := count(results)
	parts := []string{fmt.Sprintf("%d sabotages noticed", n.caught), fmt.Sprintf("%d passed although something was broken", n.green)}
	for _, part := range []struct {
		n    int
		text string
	}{{n.missed, "noticed otherwise than declared"}, {n.broken, "could not be run"}, {n.skipped, "not applicable"}, {n.bad, "drills with nothing broken did not pass"}} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.text))
		}
	}
	if n.control > 0 {
		parts = append(parts, fmt.Sprintf("with nothing broken it passes (%d of %d)", n.control, n.control+n.bad))
	}
	return strings.Join(parts, " · ")
}

// The exit codes that results can ask for; docs/ARCHITECTURE.md lists all.
const (
	exitProven      = 0
	exitUnproven    = 1
	exitNotRun      = 3
	exitNotReverted = 5
)

// ExitCode is 0 only if something was proven: every sabotage noticed, and nothing else wrong.
func ExitCode(results []Result) int {
	for _, r := range results {
		if r.Exit == exitNotReverted && !r.Caught {
			return exitNotReverted
		}
	}
	switch n := count(results); {
	case n.green+n.missed+n.bad > 0:
		return exitUnproven
	case n.broken > 0 || n.caught+n.control == 0:
		return exitNotRun
	}
	return exitProven
}

// JUnit writes the results as JUnit XML: a sabotage that was not noticed is a failure, a case that could not be run or that the drill
// cannot notice is an error, for what was not proven must not show as harmless.
func JUnit(out io.Writer, results []Result) error {
	suites := junit.Testsuites{Name: "firedrill prove"}
	suite := junit.Testsuite{Name: "sabotages"}
	for _, r := range results {
		test := junit.Testcase{Name: fmt.Sprintf("%s %d", r.Case, r.Run), Classname: "prove", Time: fmt.Sprintf("%.3f", r.Seconds)}
		text := printable(Row(r) + "\n" + r.Breaks + "\n" + r.Explanation + "\n" + r.Reason)
		switch {
		case r.Skipped != "", r.Error != "":
			test.Error = &junit.Result{Message: printable(r.Skipped + r.Error), Data: text}
		case !r.Caught:
			test.Failure = &junit.Result{Message: printable(r.Reason), Data: text}
		default:
			test.SystemOut = &junit.Output{Data: text}
		}
		suite.AddTestcase(test)
	}
	suites.AddSuite(suite)
	if _, err := io.WriteString(out, `<?xml version="1.0" encoding="UTF-8"?>`+"\n"); err != nil {
		return err
	}
	return suites.WriteXML(out)
}

// printable takes out what XML cannot hold, and what would end a CDATA section.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < 0x20 && r != '\n' && r != '\t' || r == 0xFFFE || r == 0xFFFF {
			return '�'
		}
		return r
	}, strings.ToValidUTF8(text, "�"))
	return strings.ReplaceAll(text, "]]>", "]] >")
}
