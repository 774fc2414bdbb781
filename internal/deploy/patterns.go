package deploy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/bmatcuk/doublestar/v4"

	"firedrill/internal/drill"
)

// defaultExcludes are the files of version control and editors that Ant leaves out.
var defaultExcludes = []string{
	"**/*~", "**/#*#", "**/.#*", "**/%*%", "**/._*", "**/CVS", "**/CVS/**", "**/.cvsignore", "**/SCCS", "**/SCCS/**", "**/vssver.scc",
	"**/.svn", "**/.svn/**", "**/.DS_Store", "**/.git", "**/.git/**", "**/.gitattributes", "**/.gitignore", "**/.gitmodules",
	"**/.hg", "**/.hg/**", "**/.hgignore", "**/.hgsub", "**/.hgsubstate", "**/.hgtags", "**/.bzr", "**/.bzr/**", "**/.bzrignore",
}

// patterns are Ant patterns: `**` stands for any directories, `*` for any part of a name, `?` for one character; a trailing slash for
// everything below. Case counts, and a pattern that begins with a slash matches nothing.
type patterns struct {
	stated   []string
	includes []string
	excludes []string
}

// patternsOf reads what a source includes and leaves out.
func patternsOf(source drill.Source) (patterns, error) {
	p, err := newPatterns(source.Files)
	if err != nil {
		return p, err
	}
	if source.NoDefaultExcludes {
		p.excludes = nil
	}
	if len(source.Exclude) > 0 {
		out, err := newPatterns(source.Exclude)
		if err != nil {
			return p, err
		}
		p.excludes = append(p.excludes, out.includes...)
	}
	return p, nil
}

// newPatterns reads lists of patterns, each of which may be several with commas between. None is `**/*`.
func newPatterns(lists []string) (patterns, error) {
	var p patterns
	for _, text := range lists {
		for _, one := range strings.Split(text, ",") {
			if one = strings.TrimSpace(one); one != "" {
				p.stated = append(p.stated, one)
			}
		}
	}
	if len(p.stated) == 0 {
		p.stated = []string{"**/*"}
	}
	for _, one := range p.stated {
		if strings.HasPrefix(one, "/") {
			return p, fmt.Errorf("pattern %q begins with a slash and can match nothing: patterns are relative to the repository", one)
		}
		p.includes = append(p.includes, translate(one))
	}
	for _, one := range defaultExcludes {
		p.excludes = append(p.excludes, translate(one))
	}
	return p, nil
}

func (p patterns) String() string { return strings.Join(p.stated, ", ") }

// match reports whether a file, by its path with slashes below the tree, belongs to the release.
func (p patterns) match(path string) bool {
	return !matchAny(p.excludes, path) && matchAny(p.includes, path)
}

func matchAny(translated []string, path string) bool {
	for _, one := range translated {
		if doublestar.MatchUnvalidated(one, path) {
			return true
		}
		// doublestar does not see that "x*/**" matches "x" (nothing for the star, nothing below); found by FuzzPatterns.
		if base, ok := strings.CutSuffix(one, "/**"); ok && doublestar.MatchUnvalidated(base, path) {
			return true
		}
	}
	return false
}

// starRuns are stars that stand for one: doublestar sees directories in them, Ant does not.
var starRuns = drill.Pattern(`\*\*+`)

// translate makes a doublestar pattern of an Ant pattern: what is special there only loses its meaning, and `**` keeps its own only where it
// is all of a name.
func translate(ant string) string {
	if strings.HasSuffix(ant, "/") {
		ant += "**"
	}
	names := strings.Split(ant, "/")
	for i, name := range names {
		if name != "**" {
			names[i] = special().ReplaceAllString(starRuns().ReplaceAllString(name, "*"), `\$0`)
		}
	}
	names = slices.CompactFunc(names, func(a, b string) bool { return a == "**" && b == "**" })
	return strings.Join(names, "/")
}

// special are the characters that doublestar gives a meaning and Ant does not.
var special = drill.Pattern(`[][{}\\]`)
