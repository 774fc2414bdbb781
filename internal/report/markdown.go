package report

import (
	"fmt"
	"io"
	"strings"

	"firedrill/internal/history"
)

// markdownSign is an outcome where only text is left, as in a pull request.
func markdownSign(outcome history.Outcome) string {
	switch outcome {
	case history.Passed:
		return "✅"
	case history.Failed:
		return "❌"
	}
	return "❔"
}

// markdownRows bounds the comment: a pull request is for the gist.
const markdownRows = 20

// writeMarkdown is short: the verdict, a row for each step, what did not hold, and where the rest lies.
func writeMarkdown(w io.Writer, in Input) error {
	v := in.Verdict
	var b strings.Builder
	fmt.Fprintf(&b, "### %s %s: %s\n\n", markdownSign(v.Outcome), cell(v.Service), strings.ToUpper(runWord(v)))
	if v.NotReverted {
		b.WriteString("> **Impact may still be in force.** Run `firedrill halt` on the host, and look yourself.\n\n")
	}
	if v.Outcome != history.Passed {
		fmt.Fprintf(&b, "%s\n\n", cell(v.Reason))
	}
	b.WriteString("| | step | outcome | |\n|---|---|---|---|\n")
	for i, step := range v.Steps {
		if i == markdownRows {
			fmt.Fprintf(&b, "| | and %d more | | |\n", len(v.Steps)-i)
			break
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", markdownSign(step.Outcome), cell(step.Name), stepWord(step), cell(headline(in.Plan, step)))
	}
	b.WriteString("\n")
	writeMarkdownClients(&b, in)
	writeMarkdownProblems(&b, in)
	var facts []string
	if v.RTO != nil {
		text := "**RTO " + rtoText(v.RTO) + "**"
		if v.RTO.Allowed > 0 {
			text += fmt.Sprintf(" of %g s allowed", v.RTO.Allowed)
		}
		facts = append(facts, text)
	}
	if v.Totals.Samples > 0 {
		facts = append(facts, fmt.Sprintf("%.1f %% of %d requests answered", v.Totals.Available, v.Totals.Samples))
	}
	facts = append(facts, fmt.Sprintf("%d of %d checks hold", v.Totals.Passed, v.Totals.Checks))
	if v.Revision != "" {
		facts = append(facts, "revision `"+short(v.Revision)+"`")
	}
	if v.Totals.Unmeasured != "" {
		facts = append(facts, "not measured: "+cell(v.Totals.Unmeasured))
	}
	b.WriteString(strings.Join(facts, " · ") + "\n\n")
	if in.Link != "" {
		fmt.Fprintf(&b, "[The whole report](<%s>) · ", strings.NewReplacer("<", "%3C", ">", "%3E", "\n", "").Replace(in.Link))
	}
	fmt.Fprintf(&b, "judge again: `firedrill judge %s`\n", strings.ReplaceAll(in.logName(), "`", ""))
	_, err := io.WriteString(w, b.String())
	return err
}

// writeMarkdownClients sets the clients of each drill side by side, where there are several.
func writeMarkdownClients(b *strings.Builder, in Input) {
	rows := 0
	for i, step := range in.Verdict.Steps {
		for _, one := range step.Recoveries {
			if rows == 0 {
				b.WriteString("| client | connections | step | requests | |\n|---|---|---|---|---|\n")
			}
			if rows++; rows > markdownRows {
				b.WriteString("| and more | | | | |\n\n")
				return
			}
			fmt.Fprintf(b, "| %s | %s | %d | %s | %s |\n", cell(one.Client), cell(one.Connections), i+1, servedText(one), cell(backText(one)))
		}
	}
	if rows > 0 {
		b.WriteString("\n")
	}
}

func writeMarkdownProblems(b *strings.Builder, in Input) {
	rows := 0
	for i, step := range in.Verdict.Steps {
		for _, check := range worstFirst(step.Checks) {
			if check.Outcome == history.Passed || !step.Ran {
				continue
			}
			if rows == 0 {
				b.WriteString("| | what did not hold | measured | allowed | why |\n|---|---|---|---|---|\n")
			}
			if rows++; rows > markdownRows {
				b.WriteString("| | and more | | | |\n\n")
				return
			}
			fmt.Fprintf(b, "| %s | step %d: %s | %s | %s | %s |\n", markdownSign(check.Outcome), i+1, cell(check.Name),
				quantityText(check.Measured), allowedText(check), cell(check.Explanation))
		}
	}
	if rows > 0 {
		b.WriteString("\n")
	}
}

// cell makes any text harmless inside a table: no column, line, tag or mention of its own.
func cell(text string) string {
	return strings.NewReplacer("|", "\\|", "\n", " ", "\r", " ", "<", "&lt;", ">", "&gt;", "@", "&#64;", "`", "\\`", "*", "\\*", "_", "\\_", "[", "\\[", "]", "\\]").Replace(text)
}
