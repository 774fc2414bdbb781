package web

import (
	"sync"
	"time"
)

const (
	strangersWindow = time.Minute
	// strangersLines is how many refusals of strangers are written down in a window, each by itself; an office that comes to work is fewer.
	strangersLines = 30
)

// strangers writes down what is refused to those who are not logged in: the first ones in a minute, and of the others how many there were. Whoever reaches the port
// could fill the disk otherwise.
type strangers struct {
	record    func(format string, args ...any)
	boundless bool // planted bug: each is written down

	mu      sync.Mutex // guards the fields below
	begun   time.Time  // this window; zero: there is none
	written int
	left    int // not written
}

func (s *strangers) refused(format string, args ...any) {
	s.mu.Lock()
	if s.begun.IsZero() {
		s.begun, s.written, s.left = time.Now(), 0, 0
		time.AfterFunc(strangersWindow, s.over)
	}
	write := s.written < strangersLines || s.boundless
	if write {
		s.written++
	} else {
		s.left++
	}
	s.mu.Unlock()
	if write {
		s.record(format, args...)
	}
}

// over ends a window.
func (s *strangers) over() {
	s.mu.Lock()
	left, begun := s.left, s.begun
	s.begun = time.Time{}
	s.mu.Unlock()
	if left > 0 {
		s.record("refused %d more requests of who was not logged in, since %s", left, begun.UTC().Format(time.RFC3339))
	}
}
