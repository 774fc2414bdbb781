package deploy

import (
	"cmp"
	"os"
	"slices"
	"strings"
)

// secretLeast is the length below which a value is no secret: to hide "1" everywhere would hide everything.
const secretLeast = 4

// masks replaces the values of secrets by their names.
type masks struct {
	replacer *strings.Replacer
	longest  int // of the values, in bytes
}

// newMasks takes the values of the named variables out of our own environment. Of a value of several lines each line is a secret, since
// output comes line by line. missing are the names that have no value to hide.
func newMasks(names []string, lookup func(string) (string, bool)) (m masks, missing []string) {
	type secret struct{ value, name string }
	var secrets []secret
	for _, name := range names {
		text, _ := lookup(name)
		found := false
		for _, line := range append(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' }), strings.TrimSpace(text)) {
			if len(line) >= secretLeast {
				secrets, found = append(secrets, secret{line, "[" + name + "]"}), true
			}
		}
		if !found {
			missing = append(missing, name)
		}
	}
	// The longest first: one secret may begin like another.
	slices.SortStableFunc(secrets, func(a, b secret) int { return cmp.Compare(len(b.value), len(a.value)) })
	var pairs []string
	for _, one := range secrets {
		pairs = append(pairs, one.value, one.name)
		m.longest = max(m.longest, len(one.value))
	}
	if len(pairs) > 0 {
		m.replacer = strings.NewReplacer(pairs...)
	}
	return m, missing
}

func (m masks) text(text string) string {
	if m.replacer == nil {
		return text
	}
	return m.replacer.Replace(text)
}

// maskedError says what another error says, without the secrets; its kind and hint stay.
type maskedError struct {
	err  error
	text string
}

func (e *maskedError) Error() string { return e.text }

// Unwrap leads to what happened, for errors.Is and drill.KindOf; its text is not for people.
func (e *maskedError) Unwrap() error { return e.err }

func (m masks) error(err error) error {
	if err == nil || m.replacer == nil {
		return err
	}
	if text := m.text(err.Error()); text != err.Error() {
		return &maskedError{err: err, text: text}
	}
	return err
}

// learnSecrets reads the values that are to be hidden.
func (r *run) learnSecrets() {
	if r.request.hooks.unmasked {
		return
	}
	var missing []string
	r.masks, missing = newMasks(r.request.Deploy.Secrets, os.LookupEnv)
	if len(missing) > 0 {
		r.note("secrets: " + strings.Join(missing, ", ") + " has no value here of 4 characters or more, so nothing is hidden for it")
	}
}
