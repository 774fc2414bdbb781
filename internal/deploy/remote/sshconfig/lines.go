package sshconfig

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

const blank = " \t\r\n"

// line is one line of a file: a keyword in lower case, its arguments, and the rest of the line as it stands.
type line struct {
	keyword string
	rest    string
	args    []string
}

// parseLine takes a line apart. A comment and an empty line have no keyword.
func parseLine(content string) (line, error) {
	content = strings.TrimRight(content, blank+"\f")
	rest := strings.TrimLeft(content, blank)
	if rest == "" || rest[0] == '#' {
		return line{}, nil
	}
	keyword, rest := nextWord(rest)
	if rest == "" {
		return line{}, fmt.Errorf("no argument after %q", keyword)
	}
	args, err := words(rest)
	if err != nil {
		return line{}, err
	}
	return line{keyword: strings.ToLower(keyword), rest: rest, args: args}, nil
}

// nextWord splits the keyword off: it ends at white space, or at one equals sign with or without white space around.
func nextWord(content string) (word, rest string) {
	end := strings.IndexAny(content, blank+"=")
	if end < 0 {
		return strings.Trim(content, `"`), ""
	}
	word = strings.Trim(content[:end], `"`)
	rest = strings.TrimLeft(content[end:], blank)
	if after, ok := strings.CutPrefix(rest, "="); ok {
		rest = strings.TrimLeft(after, blank)
	}
	return word, rest
}

var errQuotes = errors.New("a quotation mark is not closed")

// words splits arguments: at blanks, with quotes of both kinds, with \ before a quote, a blank or another \, up to a word that begins with #.
func words(content string) ([]string, error) {
	var all []string
	var word strings.Builder
	in, quoted := false, byte(0)
	for i := 0; i < len(content); i++ {
		c := content[i]
		switch {
		case c == '\\' && i+1 < len(content) && (strings.IndexByte(`'"\`, content[i+1]) >= 0 || quoted == 0 && content[i+1] == ' '):
			i++
			in = true
			word.WriteByte(content[i])
		case quoted != 0 && c == quoted:
			quoted = 0
		case quoted == 0 && (c == '"' || c == '\''):
			in, quoted = true, c
		case quoted == 0 && (c == ' ' || c == '\t'):
			if in {
				all = append(all, word.String())
				word.Reset()
				in = false
			}
		case !in && c == '#':
			return all, nil
		default:
			in = true
			word.WriteByte(c)
		}
	}
	if quoted != 0 {
		return nil, errQuotes
	}
	if in {
		all = append(all, word.String())
	}
	return all, nil
}

// include evaluates the files that a pattern names.
func (e *evaluation) include(pattern string, active bool, from File, depth int) error {
	switch {
	case pattern == "":
		return errors.New("include names no file")
	case strings.HasPrefix(pattern, "~") && !from.User:
		return fmt.Errorf("include %s: a file of the system must not lead to a home directory", pattern)
	case strings.HasPrefix(pattern, "~"):
		expanded, err := e.query.home(pattern)
		if err != nil {
			return err
		}
		pattern = expanded
	case !filepath.IsAbs(pattern) && from.User:
		pattern = filepath.Join(e.query.Home, ".ssh", pattern)
	case !filepath.IsAbs(pattern):
		pattern = filepath.Join("/etc/ssh", pattern)
	}
	names, err := filepath.Glob(pattern)
	if err != nil {
		return fmt.Errorf("include %s: %w", pattern, err)
	}
	for _, name := range names {
		if hidden(name, pattern) {
			continue
		}
		if err := e.read(File{Name: name, User: from.User, Safe: true}, active, depth+1, e.included); err != nil {
			return err
		}
	}
	return nil
}

// hidden reports that a wildcard of the pattern stands for a leading dot, which glob(3) does not let it.
func hidden(name, pattern string) bool {
	names, patterns := strings.Split(filepath.Clean(name), "/"), strings.Split(filepath.Clean(pattern), "/")
	for i := range min(len(names), len(patterns)) {
		if strings.HasPrefix(names[i], ".") && !strings.HasPrefix(patterns[i], ".") && !strings.HasPrefix(patterns[i], `\.`) {
			return true
		}
	}
	return false
}

// glob matches * and ?, which are all the wildcards that ssh(1) knows.
func glob(name, pattern string) bool {
	for pattern != "" {
		switch pattern[0] {
		case '*':
			pattern = strings.TrimLeft(pattern, "*")
			if pattern == "" {
				return true
			}
			for i := range len(name) + 1 {
				if glob(name[i:], pattern) {
					return true
				}
			}
			return false
		case '?':
			if name == "" {
				return false
			}
		default:
			if name == "" || name[0] != pattern[0] {
				return false
			}
		}
		name, pattern = name[1:], pattern[1:]
	}
	return name == ""
}

// matchesAny is what a Host line does: one of the patterns, and none of those with a ! before it up to there or after.
func matchesAny(name string, patterns []string) bool {
	matches := false
	for _, pattern := range patterns {
		bare, negated := strings.CutPrefix(pattern, "!")
		if glob(name, bare) {
			if negated {
				return false
			}
			matches = true
		}
	}
	return matches
}

// matchesList is what Match does with a list that is separated by commas.
func matchesList(name, list string) bool { return matchesAny(name, strings.Split(list, ",")) }
