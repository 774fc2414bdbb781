package report

import (
	"fmt"
	"html/template"
	"math"
	"strings"
)

// byDrill groups the rows, in the order in which the drills ran.
func (c Comparison) byDrill() (groups [][]Compared) {
	for _, row := range c.Rows {
		if last := len(groups) - 1; last >= 0 && groups[last][0].Step == row.Step {
			groups[last] = append(groups[last], row)
		} else {
			groups = append(groups, []Compared{row})
		}
	}
	return groups
}

// The size of the picture of a measure, and the room that its line keeps from the edges.
const (
	trendWidth, trendHeight = 120.0, 26.0
	trendEdge               = 3.0
)

// trend draws a measure over the runs, from nothing to the most that was measured or is allowed; what is allowed is a dashed line.
func trend(r Compared) template.HTML {
	most := 0.0
	for _, value := range r.Values {
		if value != nil {
			most = math.Max(most, value.Value+value.Bound)
		}
	}
	if r.Allowed != nil && *r.Allowed < 4*most { // else the measure would lie on the ground
		most = math.Max(most, *r.Allowed)
	}
	if most == 0 {
		most = 1
	}
	x := func(i int) float64 {
		return trendEdge + (trendWidth-2*trendEdge)*float64(i)/float64(max(1, len(r.Values)-1))
	}
	y := func(value float64) float64 { return trendHeight - trendEdge - (trendHeight-2*trendEdge)*value/most }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg viewBox="0 0 %g %g" width="%g" height="%g" aria-hidden="true">`, trendWidth, trendHeight, trendWidth, trendHeight)
	if r.Allowed != nil && *r.Allowed <= most {
		fmt.Fprintf(&b, `<line class="allowed" x1="0" x2="%g" y1="%.1f" y2="%.1f"/>`, trendWidth, y(*r.Allowed), y(*r.Allowed))
	}
	var points []string
	for i, value := range r.Values {
		if value != nil {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(i), y(value.Value)))
		}
	}
	fmt.Fprintf(&b, `<polyline points="%s"/>`, strings.Join(points, " "))
	for i, value := range r.Values {
		if value != nil {
			fmt.Fprintf(&b, `<circle class="%s" cx="%.1f" cy="%.1f" r="2"/>`, value.Outcome, x(i), y(value.Value))
		}
	}
	b.WriteString("</svg>")
	return template.HTML(b.String()) //nolint:gosec // numbers, and outcomes, which are words of ours
}

var comparePage = template.Must(template.New("compare").Funcs(template.FuncMap{
	"trend": trend, "value": (*Measured).text, "sign": sign, "number": func(i int) int { return i + 1 },
	"allowed": func(r Compared) string {
		if r.Allowed == nil {
			return ""
		}
		return plain(*r.Allowed) + " " + r.Unit
	},
}).Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{{.C.Service}}: runs compared</title>
<style>
:root{color-scheme:light dark;--text:#1f2937;--soft:#4b5563;--line:#d1d5db;--paper:#fff;--ground:#f3f4f6;--good:#047857;--bad:#b91c1c;--ink:#2563eb}
@media (prefers-color-scheme:dark){:root{--text:#e5e7eb;--soft:#9ca3af;--line:#374151;--paper:#1f2937;--ground:#111827;--good:#34d399;--bad:#f87171;--ink:#60a5fa}}
body{margin:0;font:15px/1.45 system-ui,sans-serif;color:var(--text);background:var(--ground)}main{max-width:84rem;margin:0 auto;padding:2rem 1rem}h1{font-size:1.7rem;margin:0 0 .3rem}p{color:var(--soft)}
.wide{overflow-x:auto}table{width:100%;border-collapse:collapse;background:var(--paper);border:1px solid var(--line)}td,th{text-align:left;padding:.4rem .6rem;border-top:1px solid var(--line);vertical-align:middle;font-weight:400}
thead th{color:var(--soft);vertical-align:bottom}thead th.run{text-align:right}tr.drill{background:var(--ground)}th[scope=rowgroup]{font-weight:700;padding-top:1rem}th[scope=row]{min-width:11rem}
td.run,td.allowed{white-space:nowrap;text-align:right;font-variant-numeric:tabular-nums}.worse td:first-child{color:var(--bad);font-weight:600}.better td:first-child{color:var(--good);font-weight:600}td:first-child{color:var(--soft)}
svg{display:block}polyline{fill:none;stroke:var(--ink);stroke-width:1.5}circle{fill:var(--ink)}circle.failed{fill:var(--bad)}line.allowed{stroke:var(--soft);stroke-dasharray:3 3}ol{columns:22rem;color:var(--soft)}
@media print{body{background:#fff}}
</style></head><body><main><h1>{{.C.Service}}: runs compared</h1><p>{{.Say}} What differs by less than the error bounds and 5 % is the same. ✗ failed, ? inconclusive; dashed: what is allowed.</p>
<div class="wide"><table><thead><tr><th scope="col">first to last</th><th scope="col">measure</th><th scope="col">all runs</th><th scope="col" class="run">allowed</th>{{range $i, $run := .C.Runs}}<th scope="col" class="run" title="{{$run.Name}}">{{number $i}}</th>{{end}}</tr></thead>
{{$columns := len .C.Runs}}{{range .Drills}}<tbody><tr class="drill"><th scope="rowgroup" colspan="4">{{(index . 0).Step}}</th><th colspan="{{$columns}}"></th></tr>
{{range .}}<tr class="{{.Verdict}}"><td>{{.Verdict}}</td><th scope="row">{{.Check}}</th><td>{{trend .}}</td><td class="allowed">{{allowed .}}</td>{{range .Values}}<td class="run">{{value .}}</td>{{end}}</tr>
{{end}}</tbody>{{end}}</table></div>
<ol>{{range .C.Runs}}<li>{{sign .Outcome}} {{.Outcome}}, {{.Started.UTC.Format "2006-01-02 15:04"}} UTC, {{.Name}}{{with .Revision}}, revision {{printf "%.12s" .}}{{end}}</li>{{end}}</ol></main></body></html>
`))
