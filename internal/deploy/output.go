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

	mu   sync.Mutex // guards the fields below
	line []byte
	last string
}

func newPrefixed(w io.Writer, prefix string) *prefixed {
	if w == nil {
		w = io.Discard
	}
	return &prefixed{w: w, prefix: prefix}
}

// Write never fails: a closed terminal must not stop a deployment half way.
func (p *prefixed) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for rest := text; len(rest) > 0; {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		p.line = append(p.line, line...)
		if whole || len(p.line) > lineMax {
			p.pass()
		}
		rest = after
	}
	return len(text), nil
}

func (p *prefixed) flush() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.line) > 0 {
		p.pass()
	}
}

func (p *prefixed) pass() {
	line := bytes.TrimRight(p.line, "\r")
	if len(bytes.TrimSpace(line)) > 0 {
		p.last = string(line)
	}
	_, _ = io.WriteString(p.w, p.prefix+string(line)+"\n")
	p.line = p.line[:0]
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
