package control

import (
	"bytes"
	"slices"
	"strings"
	"sync"

	"firedrill/internal/fleet"
)

// names are names that sort by time, so that a look at the newest does not go through all.
type names struct {
	mu  sync.RWMutex // guards the field below
	all []string     // sorted, so the oldest first
}

func (n *names) insert(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if last := len(n.all) - 1; last < 0 || n.all[last] < name { // as they come, as a rule
		n.all = append(n.all, name)
	} else if at, known := slices.BinarySearch(n.all, name); !known {
		n.all = slices.Insert(n.all, at, name)
	}
}

func (n *names) remove(name string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if at, known := slices.BinarySearch(n.all, name); known {
		n.all = slices.Delete(n.all, at, at+1)
	}
}

// before returns the names that come right before one, the oldest first; the empty name is the end.
func (n *names) before(name string, count int) []string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	at := len(n.all)
	if name != "" {
		at, _ = slices.BinarySearch(n.all, name)
	}
	return slices.Clone(n.all[max(0, at-count):at])
}

// between returns the names from one on and before another.
func (n *names) between(from, before string) []string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	low, _ := slices.BinarySearch(n.all, from)
	high, _ := slices.BinarySearch(n.all, before)
	return slices.Clone(n.all[low:max(low, high)])
}

// ending returns the names that end in a text.
func (n *names) ending(text string) (found []string) {
	n.mu.RLock()
	defer n.mu.RUnlock()
	for _, name := range n.all {
		if strings.HasSuffix(name, text) {
			found = append(found, name)
		}
	}
	return found
}

func (n *names) count() int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return len(n.all)
}

// newest returns values that fit, the newest first, from the one before a name on. Values are read without the lock: what is read is indexed.
func newest[T any](n *names, get func(string) (T, bool), before string, count int, fits func(T) bool) []T {
	found, _ := look(n, get, before, count, lookedAtMax, fits)
	return found
}

// look returns values that fit as newest does, but looks at no more than some. rest is the name before which it has not looked; empty: it has looked at
// all, or has found as many as were asked for.
func look[T any](n *names, get func(string) (T, bool), before string, count, most int, fits func(T) bool) (found []T, rest string) {
	found = []T{}
	for looked := 0; len(found) < count; {
		ids := n.before(before, max(lookedAtOnce, count-len(found)))
		if len(ids) == 0 {
			break
		}
		if looked >= most {
			return found, before
		}
		for _, id := range slices.Backward(ids) {
			if one, ok := get(id); ok && len(found) < count && (fits == nil || fits(one)) {
				found = append(found, one)
			}
		}
		before, looked = ids[0], looked+len(ids)
	}
	return found, ""
}

const (
	lookedAtMax  = 200_000 // bounds what a filter that fits nothing goes through
	lookedAtPage = 20_000  // the same, for one look of a person, who may look further
	lookedAtOnce = 64
)

// member finds a member of an object in its JSON text, if its value is a text without escapes; what lies deeper is passed over. It is for a hundred
// thousand texts at a start, of which nothing else need be known; what it does not find is read as usual.
func member(text []byte, name string) (value string, ok bool) {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		case '"':
			end := closing(text, i)
			if end < 0 {
				return "", false
			}
			word, rest := text[i+1:end], text[end+1:]
			if depth == 1 && string(word) == name && len(rest) > 2 && rest[0] == ':' && rest[1] == '"' {
				until := closing(rest, 1)
				if until < 0 || bytes.IndexByte(rest[2:until], '\\') >= 0 {
					return "", false
				}
				return string(rest[2:until]), true
			}
			i = end
		}
	}
	return "", false
}

// closing is where the text ends that begins with a quote at a place.
func closing(text []byte, from int) int {
	for i := from + 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

func runSettled(text []byte) bool {
	state, ok := member(text, "state")
	return ok && (state == fleet.RunEnded || state == fleet.RunCancelled)
}

func drillSettled(text []byte) bool {
	state, ok := member(text, "state")
	return ok && state == fleet.DrillEnded && !bytes.Contains(text, untold) // the same words in a text of a person only cost time
}

// untold stands in a drill that is over and of which somebody is still to be told.
var untold = []byte(`"untold":true`)
