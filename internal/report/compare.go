package report

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// Comparison sets what runs measured side by side, the oldest first.
type Comparison struct {
	Service string       `json:"service"`
	Runs    []ComparedTo `json:"runs"`
	Rows    []Compared   `json:"rows"`
	Worse   int          `json:"worse"` // rows that got worse from the first run to the last
	Better  int          `json:"better"`
}

// ComparedTo is one of the runs.
type ComparedTo struct {
	Name     string          `json:"name"`
	Run      string          `json:"run"`
	Started  time.Time       `json:"started"`
	Revision string          `json:"revision,omitempty"`
	Outcome  history.Outcome `json:"outcome"`
}

// What became of a measure from the first run that has it to the last.
const (
	Same         = "same" // the difference is within what the measurements tell apart
	Worse        = "worse"
	Better       = "better"
	Incomparable = "-" // fewer than two runs measured it
)

// Compared is one measure of one drill.
type Compared struct {
	Step    string      `json:"step"`
	Check   string      `json:"check"`
	Unit    string      `json:"unit"`
	Allowed *float64    `json:"allowed,omitempty"`
	Values  []*Measured `json:"values"` // one for each run; null where it was not measured
	Change  float64     `json:"change"` // last minus first
	Verdict string      `json:"verdict"`

	atLeast bool
}

// Measured is a value with its outcome.
type Measured struct {
	Value   float64         `json:"value"`
	Bound   float64         `json:"bound"`
	Outcome history.Outcome `json:"outcome"`
}

// Compare sets runs of one service side by side. names are what people call them.
func Compare(names []string, verdicts []verdict.Verdict) (Comparison, error) {
	if len(verdicts) < 2 {
		return Comparison{}, &drill.Error{Op: "compare", Kind: drill.Invalid, Err: fmt.Errorf("%d runs; it takes two", len(verdicts)), Hint: "firedrill report --compare OLD NEW"}
	}
	order := make([]int, len(verdicts))
	for i := range order {
		order[i] = i
		if verdicts[i].Service != verdicts[0].Service {
			return Comparison{}, &drill.Error{
				Op: "compare", Kind: drill.Invalid, Err: fmt.Errorf("%s is of %s, and %s of %s", names[0], verdicts[0].Service, names[i], verdicts[i].Service),
				Hint: "Compare runs of one service.",
			}
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return verdicts[a].Started.Compare(verdicts[b].Started) })
	c := Comparison{Service: verdicts[0].Service}
	for column, i := range order {
		v := verdicts[i]
		c.Runs = append(c.Runs, ComparedTo{names[i], v.Run, v.Started, v.Revision, v.Outcome})
		steps := make([]string, len(v.Steps))
		for i, step := range v.Steps {
			steps[i] = step.Name
		}
		for i, name := range drill.DistinctNames(steps) {
			for _, check := range v.Steps[i].Checks {
				c.add(column, len(order), name, check)
			}
		}
	}
	for i := range c.Rows {
		c.Rows[i].weigh()
		switch c.Rows[i].Verdict {
		case Worse:
			c.Worse++
		case Better:
			c.Better++
		}
	}
	return c, nil
}

func (c *Comparison) add(column, columns int, step string, check verdict.Check) {
	if check.Measured == nil || check.Group == verdict.GroupBite {
		return
	}
	i := slices.IndexFunc(c.Rows, func(r Compared) bool { return r.Step == step && r.Check == check.Name })
	if i < 0 {
		i = len(c.Rows)
		c.Rows = append(c.Rows, Compared{Step: step, Check: check.Name, Unit: check.Measured.Unit, Values: make([]*Measured, columns), atLeast: check.AtLeast})
	}
	c.Rows[i].Values[column] = &Measured{check.Measured.Value, check.Measured.Bound, check.Outcome}
	if check.Allowed != nil {
		allowed := check.Allowed.Value
		c.Rows[i].Allowed = &allowed
	}
}

// tellable is the share of a value below which a difference says nothing, beside the error bounds: two runs of the same thing differ by more.
const tellable = 0.05

func (r *Compared) weigh() {
	r.Verdict = Incomparable
	var first, last *Measured
	for _, value := range r.Values {
		if value == nil {
			continue
		}
		if first == nil {
			first = value
		} else {
			last = value
		}
	}
	if last == nil {
		return
	}
	r.Change = last.Value - first.Value
	r.Verdict = Same
	if math.Abs(r.Change) > first.Bound+last.Bound+tellable*math.Max(math.Abs(first.Value), math.Abs(last.Value)) {
		r.Verdict = Worse
		if r.Change > 0 == r.atLeast {
			r.Verdict = Better
		}
	}
}

// say is the comparison in one sentence.
func (c Comparison) say() string {
	return fmt.Sprintf("%s: of %d measures in %d runs, %d got worse and %d better.", c.Service, len(c.Rows), len(c.Runs), c.Worse, c.Better)
}

func (m *Measured) text() string {
	if m == nil {
		return "-"
	}
	text := strconv.FormatFloat(m.Value, 'f', 2, 64)
	if m.Bound > 0 {
		text += " ±" + strconv.FormatFloat(m.Bound, 'f', 2, 64)
	}
	if m.Outcome != history.Passed {
		text += " " + sign(m.Outcome)
	}
	return text
}

// WriteComparison shows it as text, markdown, html, csv or json.
func WriteComparison(w io.Writer, format Format, c Comparison) error {
	switch format {
	case JSON:
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		return encoder.Encode(c)
	case CSV:
		return writeRows(csv.NewWriter(w), c.rows())
	case HTML:
		return comparePage.Execute(w, map[string]any{"C": c, "Drills": c.byDrill(), "Say": c.say()})
	case Markdown:
		var b strings.Builder
		fmt.Fprintf(&b, "%s\n\n", cell(c.say()))
		for i, row := range c.rows() {
			for _, text := range row {
				b.WriteString("| " + cell(text) + " ")
			}
			b.WriteString("|\n")
			if i == 0 {
				b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
			}
		}
		_, err := io.WriteString(w, b.String())
		return err
	case Text:
		return writeCompareText(w, c)
	default:
		return &drill.Error{Op: "compare", Kind: drill.Invalid, Err: fmt.Errorf("runs are not compared as %s", format), Hint: "Take text, markdown, html, csv or json."}
	}
}

func (c Comparison) rows() [][]string {
	head := []string{"drill", "measure", "unit", "allowed"}
	for _, run := range c.Runs {
		head = append(head, run.Name)
	}
	rows := [][]string{append(head, "change", "verdict")}
	for _, r := range c.Rows {
		allowed := ""
		if r.Allowed != nil {
			allowed = plain(*r.Allowed)
		}
		row := []string{r.Step, r.Check, r.Unit, allowed}
		for _, value := range r.Values {
			row = append(row, value.text())
		}
		rows = append(rows, append(row, fmt.Sprintf("%+.2f", r.Change), r.Verdict))
	}
	return rows
}

func writeCompareText(w io.Writer, c Comparison) error {
	var b strings.Builder
	b.WriteString(c.say() + "\n")
	for i, run := range c.Runs {
		fmt.Fprintf(&b, "  %d  %s  %s  %s\n", i+1, run.Started.UTC().Format("2006-01-02 15:04"), run.Outcome, run.Name)
	}
	step := ""
	for _, r := range c.Rows {
		if r.Step != step {
			step = r.Step
			fmt.Fprintf(&b, "\n%s\n", step)
		}
		var values []string
		for _, value := range r.Values {
			values = append(values, value.text())
		}
		fmt.Fprintf(&b, "  %-6s %s: %s %s\n", r.Verdict, r.Check, strings.Join(values, " → "), r.Unit)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
