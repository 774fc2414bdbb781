package report

import (
	"encoding/csv"
	"io"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/verdict"
)

// writeCSV gives each check a line, for spreadsheets and data bases.
func writeCSV(w io.Writer, in Input) error {
	v := in.Verdict
	table := csv.NewWriter(w)
	rows := [][]string{{"service", "run", "started", "step", "name", "environment", "group", "check", "outcome", "measured", "bound", "allowed", "at_least", "unit", "evidence", "explanation"}}
	line := func(number, name, environment string, check verdict.Check) {
		measured, bound, allowed, unit := "", "", "", ""
		if q := check.Measured; q != nil {
			measured, bound, unit = plain(q.Value), plain(q.Bound), q.Unit
		}
		if q := check.Allowed; q != nil {
			allowed, unit = plain(q.Value), q.Unit
		}
		var evidence []string
		for _, seq := range check.Evidence {
			evidence = append(evidence, strconv.FormatInt(seq, 10))
		}
		rows = append(rows, []string{
			v.Service, v.Run, v.Started.UTC().Format(time.RFC3339Nano), number, name, environment, string(check.Group), check.Name, string(check.Outcome),
			measured, bound, allowed, strconv.FormatBool(check.AtLeast), unit, strings.Join(evidence, " "), check.Explanation,
		})
	}
	for _, check := range v.Checks {
		line("", "run", "", check)
	}
	for i, step := range v.Steps {
		for _, check := range step.Checks {
			line(strconv.Itoa(i+1), step.Name, step.Environment, check)
		}
	}
	return writeRows(table, rows)
}

func plain(value float64) string { return strconv.FormatFloat(value, 'f', -1, 64) }

func writeRows(table *csv.Writer, rows [][]string) error {
	for _, row := range rows {
		for i, text := range row {
			row[i] = harmless(text)
		}
	}
	if err := table.WriteAll(rows); err != nil {
		return err
	}
	return table.Error()
}

// harmless keeps a spreadsheet from running what a service or a host has written: a cell that begins like a formula gets an apostrophe.
// Numbers stay numbers.
func harmless(text string) string {
	if text == "" || !strings.ContainsRune("=+-@\t\r", rune(text[0])) {
		return text
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return text
	}
	return "'" + text
}
