package web

import (
	"fmt"
	"html"
	"html/template"
	"strings"
	"time"

	"firedrill/internal/fleet"
)

const (
	pictureWidth  = 960.0
	pictureGutter = 150.0
	laneHeight    = 26.0
	pictureHead   = 30.0
	insideMin     = 66.0 // of a bar that has words inside
)

// svg is a picture that is being drawn. All texts are escaped where they are put in; looks come from the style sheet.
type svg struct{ b strings.Builder }

func (p *svg) add(format string, args ...any) { fmt.Fprintf(&p.b, format, args...) }

func (p *svg) text(class string, x, y float64, anchor, text string) {
	p.add(`<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, class, x, y, anchor, html.EscapeString(text))
}

func (p *svg) done() template.HTML { return template.HTML(p.b.String()) } //nolint:gosec // see text

// drawRun is the picture of a run: a row a host, from the order to the end, with what was in force when.
func drawRun(run fleet.Run, lanes []lane, now time.Time) template.HTML {
	from, to := run.Issued, now
	if run.Done() {
		to = run.Start
	}
	for _, l := range lanes {
		for _, at := range []time.Time{l.Ended, l.InForce} {
			if at.After(to) {
				to = at
			}
		}
	}
	to = to.Add(max(time.Second, to.Sub(from)/20))
	height := pictureHead + laneHeight*float64(len(lanes)) + 8
	x := func(at time.Time) float64 {
		share := at.Sub(from).Seconds() / max(0.001, to.Sub(from).Seconds())
		return pictureGutter + min(max(share, 0), 1)*(pictureWidth-pictureGutter-12)
	}
	p := &svg{}
	p.add(`<svg class="timeline" viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">`, pictureWidth, height, html.EscapeString("Timeline. "+sayRun(run)))
	for _, at := range ticks(from, to.Add(-to.Sub(from)/30)) { // the text of one at the edge would be cut
		p.add(`<line class="tick" x1="%.1f" x2="%.1f" y1="%.0f" y2="%.0f"/>`, x(at), x(at), pictureHead-6, height-8)
		p.text("axis", x(at), pictureHead-12, "middle", at.UTC().Format(time.TimeOnly))
	}
	p.text("axis", 4, pictureHead-12, "start", "UTC")
	p.add(`<line class="guide" x1="%.1f" x2="%.1f" y1="%.0f" y2="%.0f"><title>start, the same for all hosts</title></line>`, x(run.Start), x(run.Start), pictureHead-6, height-8)
	for i, l := range lanes {
		y := pictureHead + laneHeight*float64(i)
		p.text("row", pictureGutter-10, y+16, "end", clipped(l.Host, 20))
		p.add(`<line class="base" x1="%.1f" x2="%.1f" y1="%.1f" y2="%.1f"/>`, pictureGutter, pictureWidth-12, y+11, y+11)
		drawLane(p, run, l, y, now, x)
	}
	p.add(`</svg>`)
	return p.done()
}

func drawLane(p *svg, run fleet.Run, l lane, y float64, now time.Time, x func(time.Time) float64) {
	switch {
	case l.InForce.IsZero():
		word := l.State
		if !run.Done() && l.State == fleet.HostAccepted {
			word = "accepted, begins at the start"
		}
		p.text("aside", x(run.Issued)+4, y+7, "start", word)
		return
	case l.Ended.IsZero():
		end := now
		if run.Done() {
			end = run.Deadline
		}
		p.add(`<rect class="inforce" x="%.1f" y="%.1f" width="%.1f" height="16" rx="3"><title>%s: in force since %s</title></rect>`, x(l.InForce), y+3, max(2, x(end)-x(l.InForce)), html.EscapeString(l.Host), l.InForce.UTC().Format(time.TimeOnly))
		switch {
		case x(end)-x(l.InForce) > insideMin:
			p.text("inside", x(l.InForce)+6, y+15, "start", "in force")
		case x(l.InForce)-pictureGutter > insideMin: // it has only begun: the words stand beside the bar
			p.text("aside", x(l.InForce)-6, y+15, "end", "in force")
		default:
			p.text("aside", x(end)+8, y+15, "start", "in force")
		}
	default:
		p.add(`<rect class="wasforce" x="%.1f" y="%.1f" width="%.1f" height="16" rx="3"><title>%s: in force %s to %s</title></rect>`, x(l.InForce), y+3, max(2, x(l.Ended)-x(l.InForce)), html.EscapeString(l.Host), l.InForce.UTC().Format(time.TimeOnly), l.Ended.UTC().Format(time.TimeOnly))
		if l.Reverted {
			p.text("good", x(l.Ended)+5, y+15, "start", "✓")
		} else {
			p.text("bad", x(l.Ended)+5, y+15, "start", "✗ not reverted")
		}
	}
}

// ticks are at most eight moments between two.
func ticks(from, to time.Time) []time.Time {
	var all []time.Time
	for _, step := range []time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 3 * time.Hour, 12 * time.Hour} {
		if to.Sub(from)/step > 8 {
			continue
		}
		for at := from.Truncate(step).Add(step); at.Before(to); at = at.Add(step) {
			all = append(all, at)
		}
		return all
	}
	return all
}

func clipped(text string, most int) string {
	runes := []rune(text)
	if len(runes) <= most {
		return text
	}
	return "…" + string(runes[len(runes)-most+1:])
}
