package deploy

import (
	"strings"
	"testing"
)

// naive says what an Ant pattern matches, by trying everything: the oracle for translate.
func naive(pattern, path string) bool {
	if strings.HasSuffix(pattern, "/") {
		pattern += "**"
	}
	if strings.HasPrefix(pattern, "/") != strings.HasPrefix(path, "/") {
		return false
	}
	return naiveSegments(strings.Split(pattern, "/"), strings.Split(path, "/"))
}

func naiveSegments(pattern, path []string) bool {
	if len(pattern) == 0 {
		return len(path) == 0
	}
	if pattern[0] == "**" {
		for skip := range len(path) + 1 {
			if naiveSegments(pattern[1:], path[skip:]) {
				return true
			}
		}
		return false
	}
	return len(path) > 0 && naiveName([]rune(pattern[0]), []rune(path[0])) && naiveSegments(pattern[1:], path[1:])
}

func naiveName(pattern, name []rune) bool {
	if len(pattern) == 0 {
		return len(name) == 0
	}
	switch pattern[0] {
	case '*':
		for skip := range len(name) + 1 {
			if naiveName(pattern[1:], name[skip:]) {
				return true
			}
		}
		return false
	case '?':
		return len(name) > 0 && naiveName(pattern[1:], name[1:])
	default:
		return len(name) > 0 && name[0] == pattern[0] && naiveName(pattern[1:], name[1:])
	}
}

func TestAntPatterns(t *testing.T) {
	for _, test := range []struct {
		patterns, path string
		want           bool
	}{
		{"**/*", "a", true},
		{"**/*", "a/b/c.py", true},
		{"*.py", "a/b.py", false},
		{"**/*.py", "b.py", true},
		{"a/", "a/b/c", true},
		{"a/", "b/a/c", false},
		{"a/**", "a", true},
		{"a?c", "abc", true},
		{"a?c", "a/c", false},
		{"A", "a", false},
		{"x, y ,z", "y", true},
		{"[ab]", "a", false},
		{"[ab]", "[ab]", true},
		{"{a,b}", "a", false},
		{"**/*", ".git/config", false},
		{"**/*", "x/.gitignore", false},
		{"**/*", "notes~", false},
		{"**/*", ".env", true},
		{"a**b", "axxb", true},
		{"a**b", "a/b", false},
		{"**/test/**", "x/test/y/z", true},
		{"", "any/thing", true},
	} {
		p, err := newPatterns([]string{test.patterns})
		if err != nil {
			t.Fatal(err)
		}
		if got := p.match(test.path); got != test.want {
			t.Errorf("%q on %q: got %t, want %t", test.patterns, test.path, got, test.want)
		}
	}
}

func FuzzPatterns(f *testing.F) {
	for _, seed := range [][2]string{{"**/*", "a/b"}, {"a/", "a/b"}, {"*a?/**/b", "xay/c/d/b"}, {"[a]{b}\\", "[a]{b}\\"}, {"**", ""}, {"a/**/**/b", "a/b"}, {"*/", "a"}} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, path string) {
		if len(pattern) > 12 || len(path) > 16 { // the oracle is exponential
			return
		}
		// What can be a path below a tree, and a pattern that newPatterns lets through as one.
		if path == "" || strings.HasPrefix(path, "/") || strings.HasSuffix(path, "/") || strings.Contains(path, "//") || strings.ContainsRune(path, 0) {
			return
		}
		if pattern == "" || strings.HasPrefix(pattern, "/") || strings.Contains(pattern, "//") {
			return
		}
		// An oracle by characters has no say on bytes that are none.
		if strings.ToValidUTF8(pattern+path, "") != pattern+path {
			return
		}
		if got, want := (patterns{includes: []string{translate(pattern)}}).match(path), naive(pattern, path); got != want {
			t.Errorf("%q on %q: got %t, want %t", pattern, path, got, want)
		}
	})
}
