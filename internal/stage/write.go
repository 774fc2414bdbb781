package stage

import (
	"fmt"
	"html/template"
	"io"
	"strings"
	"time"
)

// colours of the badge, from stage 0 to 5: they go with the number, which says it without them.
var colours = [stages + 1]string{"#6b7280", "#b45309", "#a16207", "#4d7c0f", "#15803d", "#047857"}

// WriteBadge writes the stage as a picture for the head of a README.
func WriteBadge(w io.Writer, r Result) error {
	const left, right, height = 74, 58, 20
	said := fmt.Sprintf("stage %d", r.Stage)
	title := fmt.Sprintf("resiliency: %s of %d, on %s", said, stages, r.At.UTC().Format(time.DateOnly))
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" role="img" aria-label="%s"><title>%s</title>`+
		`<clipPath id="r"><rect width="%d" height="%d" rx="3"/></clipPath><g clip-path="url(#r)"><rect width="%d" height="%d" fill="#374151"/><rect x="%d" width="%d" height="%d" fill="%s"/></g>`+
		`<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11"><text x="%d" y="14">resiliency</text><text x="%d" y="14">%s</text></g></svg>`+"\n",
		left+right, height, title, title, left+right, height, left, height, left, right, height, colours[r.Stage], left/2, left+right/2, said)
	return err
}

// WriteText writes the checklist for a terminal.
func WriteText(w io.Writer, r Result) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: stage %d of %d", r.Service, r.Stage, stages)
	if !r.Until.IsZero() {
		fmt.Fprintf(&b, ", until %s if nothing is done", r.Until.UTC().Format(time.DateOnly))
	}
	b.WriteString("\n")
	last := 0
	for _, item := range r.Items {
		if item.Stage != last {
			last = item.Stage
			fmt.Fprintf(&b, "\nStage %d\n", last)
		}
		fmt.Fprintf(&b, "  %s %s  %s\n         %s%s\n", signs[item.State], item.ID, item.Title, item.Evidence, lifeOf(item, r.At))
		if item.State != Met {
			fmt.Fprintf(&b, "         next: %s\n", item.Next)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

var signs = map[string]string{Met: "✓", Expired: "⌛", Open: "✗"}

// lifeOf says how old the evidence is and how long it holds.
func lifeOf(item Item, now time.Time) string {
	text := ""
	if item.At != nil {
		text = fmt.Sprintf(" (%s old", days(now.Sub(*item.At)))
		switch {
		case item.Expires == nil:
		case item.State == Expired:
			text += ", expired " + days(now.Sub(*item.Expires)) + " ago"
		default:
			text += ", holds for " + days(item.Expires.Sub(now))
		}
		text += ")"
	}
	return text
}

func days(span time.Duration) string {
	switch count := int(span.Hours() / 24); count {
	case 0:
		return "less than a day"
	case 1:
		return "1 day"
	default:
		return fmt.Sprintf("%d days", count)
	}
}

var page = template.Must(template.New("stage").Funcs(template.FuncMap{
	"life": lifeOf, "sign": func(state string) string { return signs[state] }, "day": func(t time.Time) string { return t.UTC().Format(time.DateOnly) },
	"below": func(stage, of int) bool { return stage <= of }, "list": func() []int { return []int{1, 2, 3, 4, 5} },
}).Parse(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Service}}: stage {{.Stage}} of 5</title>
<style>
:root{color-scheme:light dark;--text:#1f2937;--soft:#4b5563;--line:#d1d5db;--paper:#fff;--ground:#f3f4f6;--met:#047857;--open:#b91c1c;--expired:#b45309}
@media (prefers-color-scheme:dark){:root{--text:#e5e7eb;--soft:#9ca3af;--line:#374151;--paper:#1f2937;--ground:#111827;--met:#34d399;--open:#f87171;--expired:#fbbf24}}
body{margin:0;font:15px/1.5 system-ui,sans-serif;color:var(--text);background:var(--ground)}main{max-width:60rem;margin:0 auto;padding:2rem 1rem}
h1{font-size:1.9rem;margin:0}header p{color:var(--soft);margin:.3rem 0 1.2rem}
ol.stages{list-style:none;display:flex;gap:.4rem;padding:0;margin:0 0 1.5rem}ol.stages li{flex:1;text-align:center;padding:.5rem;border:1px solid var(--line);border-radius:.4rem;background:var(--paper);color:var(--soft)}
ol.stages li.reached{background:var(--met);border-color:var(--met);color:var(--paper);font-weight:600}
table{width:100%;border-collapse:collapse;background:var(--paper);border:1px solid var(--line)}td,th{text-align:left;vertical-align:top;padding:.55rem .7rem;border-top:1px solid var(--line)}
td:first-child{white-space:nowrap;font-weight:600}.met td:first-child{color:var(--met)}.open td:first-child{color:var(--open)}.expired td:first-child{color:var(--expired)}
small{color:var(--soft)}code{font:13px ui-monospace,monospace;overflow-wrap:anywhere}
@media print{body{background:#fff}main{padding:0}tr{break-inside:avoid}}
</style></head><body><main>
<header><h1>{{.Service}}: stage {{.Stage}} of 5</h1>
<p>{{if .Tier}}{{.Tier}}, {{end}}on {{day .At}}{{if not .Until.IsZero}}; if nothing is done it holds until {{day .Until}}{{end}}</p></header>
<ol class="stages">{{$stage := .Stage}}{{range list}}<li{{if below . $stage}} class="reached"{{end}}>stage {{.}}{{if below . $stage}} ✓{{end}}</li>{{end}}</ol>
<table><thead><tr><th>item</th><th>what, and what it stands on</th></tr></thead><tbody>
{{$now := .At}}{{range .Items}}<tr class="{{.State}}"><td>{{sign .State}} {{.ID}} {{.State}}</td><td><strong>{{.Title}}</strong><br>{{.Evidence}} <small>{{life . $now}}</small>{{if ne .State "met"}}<br><small>next:</small> <code>{{.Next}}</code>{{end}}</td></tr>
{{end}}</tbody></table></main></body></html>
`))

// WritePage writes the checklist as one page that loads nothing.
func WritePage(w io.Writer, r Result) error { return page.Execute(w, r) }
