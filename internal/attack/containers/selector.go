package containers

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"firedrill/internal/drill"
)

// Selector is a label selector of Kubernetes: requirements that all must hold.
type Selector []requirement

// requirement is one of a selector: what it asks of the label with this key.
type requirement struct {
	key    string
	op     string // "exists", "!", "in", "notin", ">" or "<"; "=" and "!=" are in and notin of one value
	values []string
}

const opExists = "exists"

var (
	labelName   = drill.Pattern(`^([A-Za-z0-9][A-Za-z0-9_.-]{0,61})?[A-Za-z0-9]$`)
	labelPrefix = drill.Pattern(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$`)
	namespace   = drill.Pattern(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
)

const prefixMax = 253 // of a label's key, as of a DNS name

// ParseSelector reads a selector as kubectl does: "app=web", "tier!=db", "app in (web, api)", "app notin (web)", "canary", "!canary",
// "generation > 3", and several of them with commas between. An empty one, which would mean every pod, is an error.
func ParseSelector(text string) (Selector, error) {
	r := &selectorReader{words: selectorWords(text)}
	var s Selector
	for {
		one, err := r.requirement()
		if err != nil {
			return nil, err
		}
		s = append(s, one)
		switch word := r.next(); word {
		case "":
			return s, nil
		case ",":
		default:
			return nil, fmt.Errorf("%q is not expected behind the requirement on %s: a comma is, or the end", word, one.key)
		}
	}
}

// Matches reports whether labels fulfil every requirement.
func (s Selector) Matches(labels map[string]string) bool {
	return !slices.ContainsFunc(s, func(r requirement) bool { return !r.matches(labels) })
}

func (r requirement) matches(labels map[string]string) bool {
	value, has := labels[r.key]
	switch r.op {
	case opExists:
		return has
	case "!":
		return !has
	case "in":
		return has && slices.Contains(r.values, value)
	case "notin":
		return !has || !slices.Contains(r.values, value)
	}
	number, err1 := strconv.ParseInt(value, 10, 64)
	bound, err2 := strconv.ParseInt(r.values[0], 10, 64)
	return has && err1 == nil && err2 == nil && (r.op == ">" && number > bound || r.op == "<" && number < bound)
}

// selectorWords splits a selector into names, values and signs.
func selectorWords(text string) []string {
	const signs, space = "=!(),<>", " \t\r\n"
	var words []string
	for text = strings.TrimLeft(text, space); text != ""; text = strings.TrimLeft(text, space) {
		end := strings.IndexAny(text, signs+space)
		switch {
		case end < 0:
			end = len(text)
		case end == 0 && (strings.HasPrefix(text, "==") || strings.HasPrefix(text, "!=")):
			end = 2
		case end == 0:
			end = 1
		}
		words, text = append(words, text[:end]), text[end:]
	}
	return words
}

// selectorReader takes words one by one. "" stands for the end: no word is empty.
type selectorReader struct{ words []string }

func (r *selectorReader) peek() string {
	if len(r.words) == 0 {
		return ""
	}
	return r.words[0]
}

func (r *selectorReader) next() string {
	word := r.peek()
	r.words = r.words[min(1, len(r.words)):]
	return word
}

// isSign reports whether a word is none of letters: a sign, or the end.
func isSign(word string) bool { return word == "" || strings.ContainsAny(word, "=!(),<>") }

func (r *selectorReader) requirement() (one requirement, err error) {
	negated := r.peek() == "!"
	if negated {
		r.next()
	}
	if one.key = r.next(); isSign(one.key) {
		return one, errors.New("the key of a label is missing")
	}
	if err := checkKey(one.key); err != nil {
		return one, err
	}
	if after := r.peek(); negated || after == "" || after == "," {
		if one.op = opExists; negated {
			one.op = "!"
		}
		return one, nil
	}
	switch op := r.next(); op {
	case "=", "==", "!=", ">", "<":
		one.op = map[string]string{"=": "in", "==": "in", "!=": "notin"}[op]
		if one.op == "" {
			one.op = op
		}
		one.values, err = r.exact(one)
	case "in", "notin":
		one.op = op
		one.values, err = r.set(one)
	default:
		err = fmt.Errorf("%q is no operator: behind the key %s comes =, !=, in, notin, < or >", op, one.key)
	}
	if err != nil {
		return one, err
	}
	return one, one.check()
}

func (r *selectorReader) exact(one requirement) ([]string, error) {
	if word := r.peek(); word == "" || word == "," {
		return []string{""}, nil
	}
	word := r.next()
	if isSign(word) {
		return nil, fmt.Errorf("%q is no value for %s", word, one.key)
	}
	return []string{word}, nil
}

// set reads "(a, b)". A place that is left empty stands for the empty value.
func (r *selectorReader) set(one requirement) ([]string, error) {
	if r.next() != "(" {
		return nil, fmt.Errorf("behind %s %s the values stand in parentheses", one.key, one.op)
	}
	var values []string
	for value := ""; ; {
		switch word := r.next(); {
		case word == "," || word == ")":
			values = append(values, value)
			if value = ""; word == ")" {
				return values, nil
			}
		case isSign(word) || value != "":
			return nil, fmt.Errorf("in the values of %s a comma or ) is missing", one.key)
		default:
			value = word
		}
	}
}

func (r requirement) check() error {
	for _, value := range r.values {
		if value != "" && !labelName().MatchString(value) {
			return fmt.Errorf("%q cannot be the value of a label: at most 63 letters, digits, - _ and . between letters or digits", value)
		}
		if _, err := strconv.ParseInt(value, 10, 64); err != nil && (r.op == ">" || r.op == "<") {
			return fmt.Errorf("%q is no whole number for %s to be held against", value, r.key)
		}
	}
	return nil
}

func checkKey(key string) error {
	prefix, name, prefixed := strings.Cut(key, "/")
	if !prefixed {
		name = key
	}
	if !labelName().MatchString(name) || prefixed && (len(prefix) > prefixMax || !labelPrefix().MatchString(prefix)) {
		return fmt.Errorf("%q cannot be the key of a label, as app or app.kubernetes.io/name", key)
	}
	return nil
}
