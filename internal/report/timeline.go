package report

import (
	"fmt"
	"html/template"
	"math"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/verdict"
)

// geometry is how large the picture is and where its labels stand.
type geometry struct {
	id     string // prefix of the ids in this picture
	width  float64
	gutter float64 // room for labels on the left; 0 puts each label above its row
	right  float64
	font   float64
}

// The pictures: one for a screen, one for a phone and for narrow windows.
var (
	wide   = geometry{id: "w", width: 1060, gutter: 208, right: 8, font: 12}
	narrow = geometry{id: "n", width: 350, gutter: 0, right: 7, font: 11}
)

// row is one line of the picture.
type row struct {
	label  string
	title  string // the full name, where the label is short
	height float64
	head   float64 // room above for what belongs to the row, such as brackets
	shift  float64 // how far below the middle of the row its label stands
	paint  func(y float64)
}

// section is a group of rows.
type section struct {
	title string
	rows  []row
}

// timeline draws one picture.
type timeline struct {
	canvas
	geometry
	in   Input
	scan *scanned
}

const (
	axisHeight   = 26.0
	sectionGap   = 12.0
	sectionTitle = 15.0
	rowGap       = 5.0
	labelAbove   = 17.0 // height of a label that stands above its row
)

// drawTimeline returns the picture as an svg element.
func drawTimeline(in Input, s *scanned, g geometry) template.HTML {
	t := &timeline{geometry: g, in: in, scan: s}
	sections := []section{
		{title: "Steps", rows: t.stepRows()}, {title: "Attack in force", rows: t.attackRows()}, {title: "Alarms", rows: t.alarmRows()},
		{title: "DNS answer", rows: t.answerRows()}, {title: "Clients, per " + cellText(s.cell), rows: t.clientRows()}, {title: "Hosts", rows: t.hostRows()},
	}
	height := axisHeight
	for _, part := range sections {
		height += t.sectionHeight(part)
	}
	t.head(height)
	t.grid(height)
	y := axisHeight
	for _, part := range sections {
		y = t.section(part, y)
	}
	t.raw("</svg>")
	return template.HTML(t.b.String()) //nolint:gosec // every text in it went through escape
}

func cellText(cell time.Duration) string {
	if cell < time.Second {
		return fmt.Sprintf("%d ms", cell.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", cell.Seconds())
}

func (t *timeline) head(height float64) {
	t.raw(`<svg class="timeline %s" viewBox="0 0 %s %s" role="img" aria-labelledby="%s-title %s-desc" xmlns="http://www.w3.org/2000/svg">`,
		t.id, num(t.width), num(height), t.id, t.id)
	t.raw(`<title id="%s-title">Timeline of the run</title><desc id="%s-desc">%s</desc>`, t.id, t.id, escape(describe(t.in)))
	// Patterns say without colour what colours say: slanted lines for an attack, dots for what is not known, bars for failed requests.
	t.raw(`<defs>`+
		`<pattern id="%[1]s-hatch" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><path class="hatch" d="M0 0V7"/></pattern>`+
		`<pattern id="%[1]s-dots" width="5" height="5" patternUnits="userSpaceOnUse"><circle class="dot" cx="1.5" cy="1.5" r="1"/></pattern>`+
		`<pattern id="%[1]s-bars" width="%[2]s" height="9" patternUnits="userSpaceOnUse" x="%[3]s"><path class="gapbar" d="M0 0V9"/></pattern>`+
		`<pattern id="%[1]s-second" width="9" height="9" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)"><path class="stripe" d="M0 0V9"/></pattern>`+
		"</defs>\n", t.id, num(max(3, t.cellWidth())), num(t.gutter))
}

// describe tells the run in words, for those who do not see the picture.
func describe(in Input) string {
	text := ""
	for i, step := range in.Verdict.Steps {
		text += fmt.Sprintf("Step %d, %s: %s, %s. ", i+1, step.Name, stepWord(step), headline(in.Plan, step))
	}
	return text + "The tables below hold every figure."
}

func (t *timeline) plot() float64 { return t.width - t.gutter - t.right }

// x is where a moment lies.
func (t *timeline) x(at time.Time) float64 {
	share := float64(at.Sub(t.scan.from)) / float64(t.scan.to.Sub(t.scan.from))
	return t.gutter + t.plot()*math.Min(1, math.Max(0, share))
}

func (t *timeline) cellWidth() float64 {
	return t.plot() * float64(t.scan.cell) / float64(t.scan.to.Sub(t.scan.from))
}

// tickSteps are the distances of marks that people count in.
var tickSteps = []time.Duration{
	time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute,
	10 * time.Minute, 15 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 12 * time.Hour, 24 * time.Hour,
}

// tickWidth is the least distance of two marks, so that their labels do not touch.
const tickWidth = 62.0

func (t *timeline) ticks() []time.Duration {
	length := t.scan.to.Sub(t.scan.from)
	step := length
	for _, candidate := range tickSteps {
		if t.plot()*float64(candidate)/float64(length) >= tickWidth {
			step = candidate
			break
		}
	}
	var all []time.Duration
	for at := time.Duration(0); at <= length && len(all) < 100; at += step {
		all = append(all, at)
	}
	return all
}

func tickText(at time.Duration) string {
	switch {
	case at < time.Minute:
		return fmt.Sprintf("%d s", int(at.Seconds()))
	case at < time.Hour:
		return fmt.Sprintf("%d:%02d", int(at.Minutes()), int(at.Seconds())%60)
	}
	return fmt.Sprintf("%d:%02d h", int(at.Hours()), int(at.Minutes())%60)
}

// grid draws the axis, its lines, and the shadow that every attack throws over all rows, so that the eye finds what it caused.
func (t *timeline) grid(height float64) {
	for _, step := range t.in.Verdict.Steps {
		if step.Impact == nil || step.Impact.From.IsZero() {
			continue
		}
		from, to := t.x(step.Impact.From), t.x(impactEnd(step))
		t.box("shadow", from, axisHeight-4, to-from, height-axisHeight+4, 0)
		t.line("guide", from, axisHeight-4, from, height)
		if !step.Impact.To.IsZero() {
			t.line("guide", to, axisHeight-4, to, height)
		}
	}
	for i, at := range t.ticks() {
		x := t.x(t.scan.from.Add(at))
		t.line("tick", x, axisHeight-6, x, height)
		anchor := "middle"
		if i == 0 && t.gutter == 0 {
			anchor = "start"
		} else if x > t.width-t.right-18 {
			anchor = "end"
		}
		t.text("axis", anchor, x, axisHeight-11, tickText(at))
	}
	t.raw("\n")
}

func impactEnd(step verdict.StepVerdict) time.Time {
	if step.Impact.To.IsZero() {
		return step.Finished
	}
	return step.Impact.To
}

func (t *timeline) sectionHeight(part section) float64 {
	if len(part.rows) == 0 {
		return 0
	}
	height := sectionGap
	if !t.inline(part) {
		height += sectionTitle
	}
	for _, row := range part.rows {
		height += row.head + row.height + rowGap
		if t.gutter == 0 && row.label != "" {
			height += labelAbove
		}
	}
	return height
}

// inline says that the title of a section stands beside its only row, which then needs no name of its own.
func (t *timeline) inline(part section) bool { return len(part.rows) == 1 && part.rows[0].label == "" }

// section draws a title and its rows and returns where the next one begins.
func (t *timeline) section(part section, y float64) float64 {
	if len(part.rows) == 0 {
		return y
	}
	end := y + t.sectionHeight(part)
	y += sectionGap
	if t.inline(part) {
		if t.gutter > 0 {
			t.text("section", "start", 0, y+part.rows[0].height/2+4, part.title)
		}
	} else {
		t.text("section", "start", 0, y+9, part.title)
		y += sectionTitle
	}
	for _, row := range part.rows {
		if t.gutter == 0 && row.label != "" {
			t.label(row, 0, y+11)
			y += labelAbove
		}
		y += row.head
		if t.gutter > 0 && row.label != "" {
			t.label(row, 0, y+row.height/2+4+row.shift)
		}
		row.paint(y)
		y += row.height + rowGap
		t.raw("\n")
	}
	return end
}

func (t *timeline) label(row row, x, y float64) {
	t.open("label", row.title)
	room := t.gutter - 10
	if t.gutter == 0 {
		room = t.width
	}
	text := row.label
	for textWidth(text, t.font) > room && len(text) > 4 {
		runes := []rune(text)
		text = string(runes[:len(runes)-2]) + "…"
	}
	t.text("row", "start", x, y, text)
	t.close()
}

// environmentClass gives the two environments of a pair their colours, and never more than that: the name stands in every band.
func environmentClass(plan drill.Plan, name string) string {
	if len(plan.Failover) > 0 {
		switch name {
		case plan.Failover[0].Primary:
			return "env-a"
		case plan.Failover[0].Secondary:
			return "env-b"
		}
	}
	return "env-none"
}
