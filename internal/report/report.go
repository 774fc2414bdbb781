package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// Format names a way to show a run.
type Format string

// The formats.
const (
	Text     Format = "text"
	Markdown Format = "markdown"
	HTML     Format = "html"
	JUnit    Format = "junit"
	JSON     Format = "json"
	GitHub   Format = "github" // annotations of GitHub Actions
	CSV      Format = "csv"    // a line for each check

	ChaosToolkit Format = "chaostoolkit" // the Chaos Toolkit's journal.json
	RecordJSON   Format = "record"       // the one schema that auditors and supervisors ask for
	OpenMetrics  Format = "openmetrics"  // gauges, for Prometheus and others
	OTLP         Format = "otlp"         // a trace, for OpenTelemetry: an export request in JSON
)

// Formats lists all formats, the one for people at a terminal first.
var Formats = []Format{Text, Markdown, HTML, JUnit, JSON, GitHub, CSV, ChaosToolkit, RecordJSON, OpenMetrics, OTLP}

// Input is what is shown and how.
type Input struct {
	Plan    drill.Plan
	Log     []history.Event
	Verdict verdict.Verdict
	Color   bool   // text only: with the colours of a terminal
	LogName string // how the reader finds the log, as "run.jsonl"; that is also the default
	Link    string // Markdown only: where the page lies, if it can be reached
	Head    string // hash of the last line of the log, if known: so that a log cut at its end is noticed

	Annex Annex // record and HTML only: what people add

	// Events reads the log again, in place of Log, which may be larger than memory should hold. take must keep no event: what it is given
	// holds until it returns. It ends at the first error of take, and returns it.
	Events func(take func(history.Event) error) error
}

// each gives every event of the log.
func (in Input) each(take func(history.Event) error) error {
	if in.Events != nil {
		err := in.Events(take)
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	}
	for _, event := range in.Log {
		if err := take(event); errors.Is(err, errEnough) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// errEnough ends the reading of a log early.
var errEnough = errors.New("enough")

// logName is the file that judging again is explained with.
func (in Input) logName() string {
	if in.LogName == "" {
		return "run.jsonl"
	}
	return in.LogName
}

// Write shows a run in a format. An unknown format is an error of kind drill.Invalid; any other error comes from w.
func Write(w io.Writer, format Format, in Input) error {
	var render func(io.Writer, Input) error
	switch format {
	case Text:
		render = writeText
	case Markdown:
		render = writeMarkdown
	case HTML:
		render = writeHTML
	case JUnit:
		render = writeJUnit
	case JSON:
		render = writeJSON
	case GitHub:
		render = writeGitHub
	case CSV:
		render = writeCSV
	case ChaosToolkit:
		render = writeChaosToolkit
	case RecordJSON:
		render = writeRecord
	case OpenMetrics:
		render = writeOpenMetrics
	case OTLP:
		render = writeTraces
	default:
		return &drill.Error{Op: "report", Kind: drill.Invalid, Err: fmt.Errorf("no format %q", format), Hint: "Take one of " + formatList() + "."}
	}
	if err := render(w, in); err != nil {
		return fmt.Errorf("report %s: %w", format, err)
	}
	return nil
}

func formatList() string {
	var names []string
	for _, format := range Formats {
		names = append(names, string(format))
	}
	return strings.Join(names, ", ")
}

func writeJSON(w io.Writer, in Input) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(in.Verdict)
}

// word is an outcome as a person shouts it; it stands beside every colour.
func word(outcome history.Outcome) string {
	switch outcome {
	case history.Passed:
		return "passed"
	case history.Failed:
		return "failed"
	case history.Refused:
		return "refused"
	case history.Interrupted:
		return "interrupted"
	case history.Inconclusive:
		return "inconclusive"
	}
	return "inconclusive"
}

// runWord adds to the three outcomes how the run ended, where that is what a reader must know first.
func runWord(v verdict.Verdict) string {
	switch {
	case v.NotReverted:
		return "not reverted"
	case v.Outcome == history.Inconclusive && v.Refused:
		return "refused"
	case v.Outcome == history.Inconclusive && v.Interrupted:
		return "interrupted"
	}
	return word(v.Outcome)
}

// sign is the outcome as one character.
func sign(outcome history.Outcome) string {
	switch outcome {
	case history.Passed:
		return "✓"
	case history.Failed:
		return "✗"
	}
	return "?"
}

// stepWord is the outcome of a step; one that never ran is not called inconclusive, because that would hide what stopped the run.
func stepWord(step verdict.StepVerdict) string {
	switch {
	case step.NotReverted:
		return "not reverted"
	case step.Refused && step.Outcome != history.Failed:
		return "refused"
	case !step.Ran:
		return "not run"
	}
	return word(step.Outcome)
}

// quantityText prints a value with its error bound and unit.
func quantityText(q *verdict.Quantity) string {
	if q == nil {
		return ""
	}
	switch q.Unit {
	case verdict.UnitSeconds:
		if q.Bound > 0 {
			return fmt.Sprintf("%.2f ±%.2f s", q.Value, q.Bound)
		}
		return fmt.Sprintf("%.2f s", q.Value)
	case verdict.UnitPercent:
		return fmt.Sprintf("%.1f %%", q.Value)
	}
	return fmt.Sprintf("%.0f %s", q.Value, q.Unit)
}

// backText says when a client was served again.
func backText(one verdict.ClientRecovery) string {
	switch {
	case one.Void != "":
		return "not measured: " + one.Void
	case one.Open:
		return "not served again"
	case one.Failed == 0:
		return "no request failed"
	}
	return fmt.Sprintf("back after %.2f s ±%.2f", one.Seconds, one.Bound)
}

// servedText counts the requests of a client.
func servedText(one verdict.ClientRecovery) string {
	return fmt.Sprintf("%d of %d failed", one.Failed, one.Requests)
}

// rtoText prints a recovery time with its error bound.
func rtoText(figure *verdict.Figure) string {
	switch {
	case figure.Open:
		return fmt.Sprintf("over %.1f s", figure.Seconds)
	case figure.Seconds == 0:
		return "0 s (no request failed)"
	}
	return fmt.Sprintf("%.2f ±%.2f s", figure.Seconds, figure.Bound)
}

// allowedText prints what is allowed, with the direction.
func allowedText(check verdict.Check) string {
	switch {
	case check.Allowed == nil:
		return ""
	case check.AtLeast:
		return "≥ " + trimmed(check.Allowed)
	}
	return "≤ " + trimmed(check.Allowed)
}

// trimmed prints an allowed value as it was written: without digits that mean nothing.
func trimmed(q *verdict.Quantity) string {
	return fmt.Sprintf("%g %s", q.Value, q.Unit)
}

// evidenceText prints sequence numbers as a reader looks for them in the log.
func evidenceText(seqs []int64, shown int) string {
	var parts []string
	for i, seq := range seqs {
		if i == shown {
			parts = append(parts, fmt.Sprintf("+%d", len(seqs)-shown))
			break
		}
		parts = append(parts, fmt.Sprintf("#%d", seq))
	}
	return strings.Join(parts, " ")
}

// headline is a step in a few words: what a reader wants to know first.
func headline(plan drill.Plan, step verdict.StepVerdict) string {
	if step.Outcome != history.Passed {
		return step.Reason
	}
	switch step.Kind {
	case drill.StepDeploy, drill.StepRollback:
		text := "healthy with " + short(step.Revision)
		var without []string
		for _, check := range step.Checks {
			if host, is := strings.CutPrefix(check.Name, verdict.LeftOut); is {
				without = append(without, host)
			}
		}
		if len(without) > 0 {
			text += ", but not " + strings.Join(without, ", ")
		}
		return text
	case drill.StepPromote:
		for _, check := range step.Checks {
			if check.Group == verdict.GroupPromote && check.Measured != nil {
				return fmt.Sprintf("the answer followed in %s", quantityText(check.Measured))
			}
		}
		return "every name server follows"
	}
	parts := []string{}
	if alarms := slowestAlarm(plan, step); alarms != "" {
		parts = append(parts, alarms)
	}
	switch {
	case step.RTO == nil:
	case step.RTO.Seconds == 0:
		parts = append(parts, "no client noticed")
	default:
		parts = append(parts, fmt.Sprintf("clients back in %.1f s", step.RTO.Seconds))
	}
	return strings.Join(parts, ", ")
}

// slowestAlarm tells how many alarms of a drill were raised, and how fast the last of them.
func slowestAlarm(plan drill.Plan, step verdict.StepVerdict) string {
	if step.Step >= len(plan.Steps) || plan.Steps[step.Step].Drill == nil {
		return ""
	}
	texts := map[string]bool{}
	for _, e := range plan.Steps[step.Step].Drill.Expectations {
		if e.Kind == drill.ExpectAlarm {
			texts[e.Text] = true
		}
	}
	count, slow := 0, 0.0
	for _, check := range step.Checks {
		if texts[check.Name] && check.Measured != nil {
			count++
			slow = max(slow, check.Measured.Value)
		}
	}
	switch count {
	case 0:
		return ""
	case 1:
		return fmt.Sprintf("alarm in %.1f s", slow)
	}
	return fmt.Sprintf("%d alarms in %.1f s", count, slow)
}

func short(revision string) string {
	const shown = 12 // what git shows of a commit in a large repository
	return revision[:min(shown, len(revision))]
}

// span prints a duration for people.
func spanText(d time.Duration) string {
	switch {
	case d < 0:
		return "unknown"
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
}

// worstFirst gives the checks that decide before the others, each in the order of the verdict.
func worstFirst(checks []verdict.Check) []verdict.Check {
	rank := func(c verdict.Check) int {
		switch c.Outcome {
		case history.Failed:
			return 0
		case history.Passed:
			return 2
		}
		return 1
	}
	sorted := slices.Clone(checks)
	slices.SortStableFunc(sorted, func(a, b verdict.Check) int { return rank(a) - rank(b) })
	return sorted
}
