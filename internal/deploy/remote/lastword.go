package remote

import (
	"bytes"
	"io"
	"strconv"
)

// lastWord passes output on, but for the one line that starts with word and tells an exit code. It is looked for in the middle of lines
// too: the command may have left one unended.
type lastWord struct {
	to   io.Writer
	word string
	told func(code int)
	held []byte // what may be the word, or its beginning
	done bool
}

// Write never fails: what becomes of the output is for to to know.
func (l *lastWord) Write(text []byte) (int, error) {
	l.held = append(l.held, text...)
	for !l.done {
		start := bytes.Index(l.held, []byte(l.word))
		if start < 0 {
			l.pass(len(l.held) - l.begun())
			return len(text), nil
		}
		l.pass(start)
		line, rest, whole := bytes.Cut(l.held, []byte("\n"))
		if !whole {
			return len(text), nil
		}
		code, err := strconv.Atoi(string(bytes.TrimSpace(line[len(l.word):])))
		if err != nil {
			l.pass(len(line) + 1)
			continue
		}
		l.done, l.held = true, rest
		l.told(code)
	}
	l.flush()
	return len(text), nil
}

// begun is the length of the longest end of what is held that the word begins with.
func (l *lastWord) begun() int {
	for n := min(len(l.held), len(l.word)-1); n > 0; n-- {
		if bytes.HasSuffix(l.held, []byte(l.word[:n])) {
			return n
		}
	}
	return 0
}

func (l *lastWord) pass(n int) {
	if n > 0 {
		_, _ = l.to.Write(l.held[:n])
		l.held = append(l.held[:0], l.held[n:]...)
	}
}

// flush passes on what is held: no more comes of it.
func (l *lastWord) flush() { l.pass(len(l.held)) }
