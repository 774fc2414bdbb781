package deploy

import (
	"fmt"
	"strings"

	"github.com/bmatcuk/doublestar/v4"
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
	for _, one := range p.excludes {
		if doublestar.MatchUnvalidated(one, path) {
			return false
		}
	}
	for _, one := range p.includes {
		if doublestar.MatchUnvalidated(one, path) {
			return true
		}
	}
	return false
}

// translate makes a doublestar pattern of an Ant pattern: what is special there only loses its meaning.
func translate(ant string) string {
	if strings.HasSuffix(ant, "/") {
		ant += "**"
	}
	var out strings.Builder
	for _, r := range []byte(ant) {
		if strings.IndexByte(`[]{}\`, r) >= 0 {
			out.WriteByte('\\')
		}
		out.WriteByte(r)
	}
	return out.String()
}
