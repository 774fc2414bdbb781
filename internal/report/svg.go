package report

import (
	"fmt"
	"html"
	"strconv"
	"strings"
)

// canvas writes the elements of a picture. Colours are classes, so that the page decides them for light, dark and print.
type canvas struct{ b strings.Builder }

// num prints a coordinate with one digit, which is a tenth of a pixel, and nothing that says nothing.
func num(value float64) string {
	text := strconv.FormatFloat(value, 'f', 1, 64)
	return strings.TrimSuffix(text, ".0")
}

func (c *canvas) raw(format string, args ...any) { fmt.Fprintf(&c.b, format, args...) }

// open begins a group with a tooltip, which is also what a screen reader says.
func (c *canvas) open(class, title string) {
	c.raw(`<g class="%s">`, class)
	if title != "" {
		c.raw(`<title>%s</title>`, escape(title))
	}
}

func (c *canvas) close() { c.raw("</g>\n") }

// box is a rectangle; radius 0 leaves sharp corners. Nothing narrower than half a pixel is drawn: it would vanish.
func (c *canvas) box(class string, x, y, w, h, radius float64) {
	c.raw(`<rect class="%s" x="%s" y="%s" width="%s" height="%s"`, class, num(x), num(y), num(max(w, 0.5)), num(h))
	if radius > 0 {
		c.raw(` rx="%s"`, num(min(radius, max(w, 0.5)/2)))
	}
	c.raw("/>")
}

func (c *canvas) line(class string, x1, y1, x2, y2 float64) {
	c.raw(`<path class="%s" d="M%s %sL%s %s"/>`, class, num(x1), num(y1), num(x2), num(y2))
}

func (c *canvas) path(class, d string) { c.raw(`<path class="%s" d="%s"/>`, class, d) }

func (c *canvas) text(class, anchor string, x, y float64, text string) {
	c.raw(`<text class="%s" x="%s" y="%s"`, class, num(x), num(y))
	if anchor != "" && anchor != "start" {
		c.raw(` text-anchor="%s"`, anchor)
	}
	c.raw(`>%s</text>`, escape(text))
}

// escape makes any text harmless inside an element, and takes out what no document can hold.
func escape(text string) string { return html.EscapeString(clean(text)) }

// textWidth estimates how wide a text is: nothing measures fonts here, so it is rather too wide than too narrow.
func textWidth(text string, size float64) float64 {
	width := 0.0
	for _, r := range text {
		switch {
		case strings.ContainsRune("iljI.,:;'|! ", r):
			width += 0.3
		case r >= 'A' && r <= 'Z' || strings.ContainsRune("mwM%±", r):
			width += 0.72
		default:
			width += 0.56
		}
	}
	return width * size
}

// boldFactor is how much wider the bold texts in bands are.
const boldFactor = 1.1

// fitting returns the first of the candidates that fits into width in bold, "" when none does.
func fitting(width, size float64, candidates ...string) string {
	for _, text := range candidates {
		if textWidth(text, size)*boldFactor <= width {
			return text
		}
	}
	return ""
}
