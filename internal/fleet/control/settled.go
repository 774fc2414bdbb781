package control

import (
	"bytes"

	"firedrill/internal/fleet"
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
	return ok && state == fleet.DrillEnded
}
