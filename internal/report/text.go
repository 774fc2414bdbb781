package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// The colours of a terminal; words and signs say the same, so nothing is lost without them.
const (
	colorReset  = "\x1b[0m"
	colorBold   = "\x1b[1m"
	colorDim    = "\x1b[2m"
	colorPassed = "\x1b[32m"
	colorFailed = "\x1b[31m"
	colorOpen   = "\x1b[33m"
)

// table is text in columns; the width of a cell is counted without its colours.
type table struct {
	rows  [][]string
	color bool
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer, indent string, paint func(row, column int, padded string) string) error {
	var widths []int
	for _, row := range t.rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for r, row := range t.rows {
		line := indent
		for i, cell := range row {
			padded := cell
			if i < len(row)-1 {
				padded += strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2)
			}
			line += paint(r, i, padded)
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
			return err
		}
	}
	return nil
}

func outcomeColor(outcome history.Outcome) string {
	switch outcome {
	case history.Passed:
		return colorPassed
	case history.Failed:
		return colorFailed
	}
	return colorOpen
}

// writeText is the summary at the end of a run: a line for each step, then what did not hold.
func writeText(w io.Writer, in Input) error {
	paint := func(code, text string) string {
		if !in.Color {
			return text
		}
		return code + text + colorReset
	}
	v := in.Verdict
	head := strings.ToUpper(runWord(v))
	line := paint(colorBold+outcomeColor(v.Outcome), sign(v.Outcome)+" "+head) + "  " + paint(colorBold, v.Service)
	if !v.Finished.IsZero() {
		line += paint(colorDim, "  "+spanText(v.Finished.Sub(v.Started)))
	}
	if v.Revision != "" {
		line += paint(colorDim, "  revision "+short(v.Revision))
	}
	if _, err := fmt.Fprintf(w, "%s\n\n", line); err != nil {
		return err
	}
	var steps table
	for i, step := range v.Steps {
		steps.add(fmt.Sprintf("%d", i+1), sign(step.Outcome), step.Name, stepWord(step), clipped(headline(in.Plan, step), textMax))
	}
	err := steps.write(w, "  ", func(row, column int, padded string) string {
		switch column {
		case 0:
			return paint(colorDim, padded)
		case 1, 3:
			return paint(outcomeColor(v.Steps[row].Outcome), padded)
		}
		return padded
	})
	if err != nil {
		return err
	}
	if err := writeTextClients(w, in, paint); err != nil {
		return err
	}
	if err := writeTextProblems(w, in, paint); err != nil {
		return err
	}
	return writeTextFoot(w, in, paint)
}

// writeTextClients sets the clients of each drill side by side, where there are several.
func writeTextClients(w io.Writer, in Input, paint func(code, text string) string) error {
	var clients table
	for i, step := range in.Verdict.Steps {
		for _, one := range step.Recoveries {
			clients.add(fmt.Sprintf("step %d", i+1), one.Client, one.Connections, servedText(one), backText(one))
		}
	}
	if len(clients.rows) == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(w, "\n  %s\n", paint(colorBold, "Each client")); err != nil {
		return err
	}
	return clients.write(w, "  ", func(_, column int, padded string) string {
		if column == 0 {
			return paint(colorDim, padded)
		}
		return padded
	})
}

// textMax keeps a step on one line of a usual terminal.
const textMax = 88

func clipped(text string, length int) string {
	runes := []rune(text)
	if len(runes) <= length {
		return text
	}
	return string(runes[:length-1]) + "…"
}

// writeTextProblems lists every check of a step that ran and did not hold. Those for which nobody knows, all for the same reason, share a line;
// of a step that was refused only that is told, and what failed all the same.
func writeTextProblems(w io.Writer, in Input, paint func(code, text string) string) error {
	var problems table
	var outcomes []history.Outcome
	add := func(where string, checks []verdict.Check) {
		for _, same := range sameReason(checks) {
			check := same[0]
			explanation := "  " + check.Explanation
			if len(same) == 1 {
				problems.add(sign(check.Outcome), where, check.Name, quantityText(check.Measured), allowedText(check), evidenceText(check.Evidence, 3))
			} else {
				var names []string
				for _, check := range same {
					names = append(names, check.Name)
				}
				problems.add(sign(check.Outcome), where, fmt.Sprintf("%d checks", len(same)))
				explanation += " It is about: " + strings.Join(names, " · ")
			}
			problems.add("", "", explanation)
			outcomes = append(outcomes, check.Outcome, check.Outcome)
		}
	}
	for i, step := range in.Verdict.Steps {
		if !step.Ran {
			continue
		}
		checks := slices.DeleteFunc(worstFirst(step.Checks), func(c verdict.Check) bool {
			return c.Outcome == history.Passed || step.Refused && c.Outcome != history.Failed && c.Name != verdict.Admitted
		})
		add(fmt.Sprintf("step %d", i+1), checks)
	}
	add("run", slices.DeleteFunc(worstFirst(in.Verdict.Checks), func(c verdict.Check) bool { return c.Outcome == history.Passed }))
	if len(problems.rows) == 0 {
		return nil
	}
	if _, err := fmt.Fprintf(w, "\n  %s\n", paint(colorBold, "What did not hold")); err != nil {
		return err
	}
	for r := 0; r < len(problems.rows); r += 2 {
		single := table{rows: [][]string{problems.rows[r]}}
		err := single.write(w, "  ", func(_, column int, padded string) string {
			if column == 0 {
				return paint(outcomeColor(outcomes[r]), padded)
			}
			return padded
		})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(w, "     %s\n", paint(colorDim, strings.TrimSpace(problems.rows[r+1][2]))); err != nil {
			return err
		}
	}
	return nil
}

// sameReason puts checks together that are not decided, and for one and the same reason, in the order of the first of each.
func sameReason(checks []verdict.Check) [][]verdict.Check {
	var groups [][]verdict.Check
	at := map[string]int{}
	for _, check := range checks {
		own := check.Outcome == history.Failed || check.Measured != nil || len(check.Evidence) > 0
		i, known := at[check.Explanation]
		if own || !known {
			i = len(groups)
			groups = append(groups, nil)
		}
		if !own {
			at[check.Explanation] = i
		}
		groups[i] = append(groups[i], check)
	}
	return groups
}

func writeTextFoot(w io.Writer, in Input, paint func(code, text string) string) error {
	v := in.Verdict
	var facts []string
	if v.RTO != nil {
		text := "RTO " + rtoText(v.RTO)
		if v.RTO.Allowed > 0 {
			text += fmt.Sprintf(" of %g s", v.RTO.Allowed)
		}
		facts = append(facts, text)
	}
	if v.Totals.Samples > 0 {
		facts = append(facts, fmt.Sprintf("%d of %d requests answered (%.1f %%)", v.Totals.Samples-v.Totals.FailedSample, v.Totals.Samples, v.Totals.Available))
	}
	if v.Totals.Dropped > 0 {
		facts = append(facts, fmt.Sprintf("%d packets dropped", v.Totals.Dropped))
	}
	facts = append(facts, fmt.Sprintf("%d of %d checks hold", v.Totals.Passed, v.Totals.Checks))
	if _, err := fmt.Fprintf(w, "\n  %s\n", strings.Join(facts, " · ")); err != nil {
		return err
	}
	if v.Totals.Unmeasured != "" {
		if _, err := fmt.Fprintf(w, "  Not measured: %s\n", v.Totals.Unmeasured); err != nil {
			return err
		}
	}
	if v.NotReverted {
		_, err := fmt.Fprintf(w, "\n  %s\n", paint(colorBold+colorFailed, "Impact may still be in force: run `firedrill halt` on the host, and look yourself."))
		return err
	}
	return nil
}
