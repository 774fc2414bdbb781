package source

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// matcher is one condition on a label, as Prometheus writes it. A label that is not there is empty.
type matcher struct {
	label, op, value string
	pattern          *regexp.Regexp
}

var matcherPattern = regexp.MustCompile(`^\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*(=~|!~|!=|=)\s*(.*?)\s*$`)

func parseMatchers(texts []string) ([]matcher, error) {
	var all []matcher
	for _, text := range texts {
		parts := matcherPattern.FindStringSubmatch(text)
		if parts == nil {
			return nil, fmt.Errorf(`match: %q is no condition on a label; write one such as alertname="HostDown"`, text)
		}
		m := matcher{label: parts[1], op: parts[2], value: parts[3]}
		if strings.HasPrefix(m.value, `"`) {
			value, err := strconv.Unquote(m.value)
			if err != nil {
				return nil, fmt.Errorf("match: %q: the quotes do not fit", text)
			}
			m.value = value
		}
		if strings.HasSuffix(m.op, "~") {
			pattern, err := regexp.Compile("^(?:" + m.value + ")$")
			if err != nil {
				return nil, fmt.Errorf("match: %q: %w", text, err)
			}
			m.pattern = pattern
		}
		all = append(all, m)
	}
	return all, nil
}

func (m matcher) fits(labels map[string]string) bool {
	value := labels[m.label]
	switch m.op {
	case "=":
		return value == m.value
	case "!=":
		return value != m.value
	case "=~":
		return m.pattern.MatchString(value)
	}
	return !m.pattern.MatchString(value)
}

// String is the matcher in the form that Alertmanager's filter takes.
func (m matcher) String() string { return m.label + m.op + strconv.Quote(m.value) }

func fitAll(matchers []matcher, labels map[string]string) bool {
	for _, m := range matchers {
		if !m.fits(labels) {
			return false
		}
	}
	return true
}

func listed(matchers []matcher) string {
	var texts []string
	for _, m := range matchers {
		texts = append(texts, m.String())
	}
	return "{" + strings.Join(texts, ", ") + "}"
}
