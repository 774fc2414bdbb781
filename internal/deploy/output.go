package deploy

import (
	"bytes"
	"io"
	"sync"
)

// lineMax bounds a line of output; a longer one is passed on in pieces.
const lineMax = 8 << 10

// prefixed puts a prefix before each line and passes on whole lines as soon as they end, so that the lines of two streams and of several
// hosts never mix. It remembers the last line, for errors.
type prefixed struct {
	w      io.Writer
	prefix string
	masks  masks

	mu   sync.Mutex // guards the fields below
	line []byte
	last string
}

func newPrefixed(w io.Writer, prefix string, masks masks) *prefixed {
	if w == nil {
		w = io.Discard
	}
	return &prefixed{w: w, prefix: prefix, masks: masks}
}

// Write never fails: a closed terminal must not stop a deployment half way.
func (p *prefixed) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for rest := text; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		p.line = append(p.line, line...)
		switch {
		case whole:
			p.pass(0)
		case len(p.line) > lineMax+p.masks.longest:
			p.pass(max(0, p.masks.longest-1)) // a secret may have begun at the end
		}
		rest = after
	}
	return len(text), nil
}

func (p *prefixed) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.line) > 0 {
		p.pass(0)
	}
}

// pass writes what there is as a line, but for the last bytes that are to be kept.
func (p *prefixed) pass(keep int) {
	text := []byte(p.masks.text(string(p.line)))
	keep = min(keep, len(text))
	line := bytes.TrimRight(text[:len(text)-keep], "\r")
	if len(bytes.TrimSpace(line)) > 0 {
		p.last = string(line)
	}
	_, _ = io.WriteString(p.w, p.prefix+string(line)+"\n")
	p.line = append(p.line[:0], text[len(text)-keep:]...)
}

// tail returns the last line for the end of an error text.
func (p *prefixed) tail() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last == "" {
		return ""
	}
	return ": " + p.last
}

// oneAtATime lets hosts that work at the same time write to one place.
type oneAtATime struct {
	mu sync.Mutex // guards w
	w  io.Writer
}

func (o *oneAtATime) Write(text []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.w.Write(text)
}
