package remote

import (
	"bytes"
	"slices"
	"testing"
)

func TestTheLastWordIsTakenOutOfTheOutputWhereverItIsCut(t *testing.T) {
	const word = "NONCE ended "
	for name, one := range map[string]struct {
		text, want string
		codes      []int
	}{
		"after a line":           {"one\nNONCE ended 3\n", "one\n", []int{3}},
		"in a line":              {"oneNONCE ended 0\n", "one", []int{0}},
		"the terminal's newline": {"one\r\nNONCE ended 143\r\n", "one\r\n", []int{143}},
		"nothing before it":      {"NONCE ended 1\n", "", []int{1}},
		"something after it":     {"NONCE ended 1\na daemon NONCE ended 2\n", "a daemon NONCE ended 2\n", []int{1}},
		"begun twice":            {"NONCE NONCENONCE ended 7\n", "NONCE NONCE", []int{7}},
		"never":                  {"one\ntwo", "one\ntwo", nil},
		"only begun":             {"one\nNONCE end", "one\nNONCE end", nil},
		"cut off":                {"one\nNONCE ended 3", "one\nNONCE ended 3", nil},
		"no code":                {"NONCE ended badly\nNONCE ended 4\n", "NONCE ended badly\n", []int{4}},
	} {
		t.Run(name, func(t *testing.T) {
			for size := 1; size <= len(one.text); size++ {
				var out bytes.Buffer
				var codes []int
				last := lastWord{to: &out, word: word, told: func(code int) { codes = append(codes, code) }}
				for part := range slices.Chunk([]byte(one.text), size) {
					if n, err := last.Write(part); n != len(part) || err != nil {
						t.Fatalf("%d, %v", n, err)
					}
				}
				last.flush()
				if out.String() != one.want || !slices.Equal(codes, one.codes) {
					t.Errorf("in pieces of %d: %q and %v, want %q and %v", size, out.String(), codes, one.want, one.codes)
				}
			}
		})
	}
}
