package drill

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
)

// Pattern compiles a regular expression when it is first used: every attack starts this program, and must not wait for the words of
// files that it never reads. A wrong expression panics at its first use, as with regexp.MustCompile.
func Pattern(text string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(text) })
}

// suggestDistance is how far a word may be from the one that is suggested for it, at the most less one.
const suggestDistance = 3

// Suggest returns `did you mean "x"?` for the known word nearest to word, or the list of known words when none is near.
func Suggest(word string, known []string) string {
	if len(known) == 0 {
		return "nothing may be written here"
	}
	best, bestDistance := "", suggestDistance
	for _, candidate := range known {
		if strings.HasPrefix(candidate, word) && len(word) > 1 {
			best, bestDistance = candidate, 0
			break
		}
		if distance := editDistance(word, candidate); distance < bestDistance {
			best, bestDistance = candidate, distance
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "known here: " + strings.Join(known, ", ")
}

// editDistance is Levenshtein's, on bytes; words of files are short.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// DistinctNames makes the names of steps of a run such that they can be found in other runs: without the choice of hosts in parentheses, which
// differs, and with a number where a name comes again, as in "drill lose-db on green, 2".
func DistinctNames(names []string) []string {
	distinct, seen := make([]string, len(names)), map[string]int{}
	for i, name := range names {
		name, _, _ = strings.Cut(name, " (")
		if seen[name]++; seen[name] > 1 {
			distinct[i] = fmt.Sprintf("%s, %d", name, seen[name])
		} else {
			distinct[i] = name
		}
	}
	return distinct
}
