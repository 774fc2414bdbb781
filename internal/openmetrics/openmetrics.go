package openmetrics

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// ContentType is that of the text over HTTP.
const ContentType = "application/openmetrics-text; version=1.0.0; charset=utf-8"

// Label is a name with a value. Names are ours, values may be anybody's.
type Label struct{ Name, Value string }

// Writer gathers families and writes them. The zero value is ready.
type Writer struct {
	families []*Family
}

// Family is the samples of one name.
type Family struct {
	name, unit, help string
	lines            []string
}

// Family begins a family of gauges. A unit, such as seconds, must be the end of the name. A family without samples is not written.
func (w *Writer) Family(name, unit, help string) *Family {
	f := &Family{name: name, unit: unit, help: help}
	w.families = append(w.families, f)
	return f
}

// Add adds a sample. A value that is no number says nothing, and is left out.
func (f *Family) Add(value float64, labels ...Label) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return
	}
	var parts []string
	for _, label := range labels {
		parts = append(parts, label.Name+`="`+escaped(label.Value, `"`, `\"`)+`"`)
	}
	text := f.name
	if len(parts) > 0 {
		text += "{" + strings.Join(parts, ",") + "}"
	}
	f.lines = append(f.lines, text+" "+strconv.FormatFloat(value, 'g', -1, 64))
}

// Truth adds 1 for true and 0 for false.
func (f *Family) Truth(is bool, labels ...Label) {
	value := 0.
	if is {
		value = 1
	}
	f.Add(value, labels...)
}

func escaped(text string, more ...string) string {
	return strings.NewReplacer(append([]string{`\`, `\\`, "\n", `\n`}, more...)...).Replace(strings.ToValidUTF8(text, "�"))
}

// WriteTo writes all families and the end. The error is that of out.
func (w *Writer) WriteTo(out io.Writer) (int64, error) {
	var b strings.Builder
	for _, f := range w.families {
		if len(f.lines) == 0 {
			continue
		}
		fmt.Fprintf(&b, "# TYPE %s gauge\n", f.name)
		if f.unit != "" {
			fmt.Fprintf(&b, "# UNIT %s %s\n", f.name, f.unit)
		}
		fmt.Fprintf(&b, "# HELP %s %s\n%s\n", f.name, escaped(f.help), strings.Join(f.lines, "\n"))
	}
	b.WriteString("# EOF\n")
	n, err := io.WriteString(out, b.String())
	return int64(n), err
}
