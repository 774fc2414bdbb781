package lint

import (
	"cmp"
	"fmt"
	"slices"
)

// How bad a finding is.
const (
	Error   = "error"   // it will not do what its owner believes
	Warning = "warning" // it will, but worse, or unseen
)

// Finding is one trap.
type Finding struct {
	Rule     string `json:"rule"`     // a stable name, such as secondary-unchecked
	Severity string `json:"severity"` // Error or Warning
	Where    string `json:"where"`    // a path in the service file, or a record or health check of a zone
	Problem  string `json:"problem"`
	Cure     string `json:"cure"`

	File   string `json:"file,omitempty"` // with the line, when it is about the service file
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

// findings collects them.
type findings []Finding

func (f *findings) add(severity, rule, where, cure, format string, args ...any) {
	*f = append(*f, Finding{Rule: rule, Severity: severity, Where: where, Problem: fmt.Sprintf(format, args...), Cure: cure})
}

// sorted returns the errors first, otherwise in the order in which they were found, each once.
func (f findings) sorted() []Finding {
	all := []Finding{}
	for _, one := range f {
		if !slices.Contains(all, one) {
			all = append(all, one)
		}
	}
	slices.SortStableFunc(all, func(a, b Finding) int { return cmp.Compare(a.Severity, b.Severity) })
	return all
}
