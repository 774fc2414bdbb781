package source

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"firedrill/internal/drill"
)

// document asks for a JSON document and reads the state at one place in it.
type document struct {
	address    string
	path       []place
	text       string // the path as it was written
	raised, ok []string
	ask        asker
}

// place is one step into a document: a field, an index, or the first element in which a field has a value.
type place struct {
	field        string
	index        int
	key, value   string
	list, choice bool
}

func newDocument(s drill.AlarmSource, ask asker) (*document, error) {
	path, err := parsePath(s.Path)
	if err != nil {
		return nil, fmt.Errorf("path: %q: %w", s.Path, err)
	}
	if len(s.Raised) == 0 {
		return nil, errors.New("raised is missing; write what stands there while the alarm is raised")
	}
	return &document{address: s.HTTP, path: path, text: s.Path, raised: s.Raised, ok: s.OK, ask: ask}, nil
}

func (d *document) String() string { return d.address }

// Look implements Source.
func (d *document) Look(ctx context.Context) (Reading, error) {
	var root any
	if err := d.ask.get(ctx, d.address, &root); err != nil {
		return Reading{}, err
	}
	at, err := descend(root, d.path)
	if err != nil {
		return Reading{}, fmt.Errorf("%s: %s: %w", d.address, d.text, err)
	}
	text, err := scalar(at)
	if err != nil {
		return Reading{}, fmt.Errorf("%s: %s: %w", d.address, d.text, err)
	}
	data, err := json.Marshal(map[string]any{"path": d.text, "value": at})
	if err != nil {
		return Reading{}, err
	}
	reading := Reading{Reason: fmt.Sprintf("%s is %q", d.text, text), Data: data}
	switch {
	case slices.Contains(d.raised, text):
		reading.Raised = true
	case len(d.ok) > 0 && !slices.Contains(d.ok, text):
		reading.Unknown = true
	}
	return reading, nil
}

// parsePath reads a path such as data.checks[0].state or checks[name=db].state. A field with a dot or a bracket stands in quotes.
func parsePath(text string) ([]place, error) {
	var path []place
	for rest := strings.TrimPrefix(text, "$."); rest != ""; {
		switch {
		case rest[0] == '[':
			inner, after, closed := strings.Cut(rest[1:], "]")
			if !closed {
				return nil, errors.New("a bracket is not closed")
			}
			one, err := parseIndex(inner)
			if err != nil {
				return nil, err
			}
			path, rest = append(path, one), strings.TrimPrefix(after, ".")
		case rest[0] == '"':
			field, after, closed := strings.Cut(rest[1:], `"`)
			if !closed {
				return nil, errors.New("a quote is not closed")
			}
			path, rest = append(path, place{field: field}), strings.TrimPrefix(after, ".")
		default:
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			if end == 0 {
				return nil, errors.New("a field is empty")
			}
			path, rest = append(path, place{field: rest[:end]}), strings.TrimPrefix(rest[end:], ".")
		}
	}
	if len(path) == 0 {
		return nil, errors.New("it leads nowhere; write one such as status.state")
	}
	return path, nil
}

func parseIndex(inner string) (place, error) {
	if key, value, choice := strings.Cut(inner, "="); choice {
		return place{key: strings.TrimSpace(key), value: strings.Trim(strings.TrimSpace(value), `"`), choice: true}, nil
	}
	index, err := strconv.Atoi(inner)
	if err != nil || index < 0 {
		return place{}, fmt.Errorf("[%s] is neither a number nor field=value", inner)
	}
	return place{index: index, list: true}, nil
}

func descend(at any, path []place) (any, error) {
	for _, step := range path {
		switch {
		case step.list || step.choice:
			list, is := at.([]any)
			if !is {
				return nil, errors.New("there is no list")
			}
			found, err := step.in(list)
			if err != nil {
				return nil, err
			}
			at = found
		default:
			fields, is := at.(map[string]any)
			if !is {
				return nil, fmt.Errorf("there is no object with %q", step.field)
			}
			inner, there := fields[step.field]
			if !there {
				return nil, fmt.Errorf("there is no %q", step.field)
			}
			at = inner
		}
	}
	return at, nil
}

func (p place) in(list []any) (any, error) {
	if p.list {
		if p.index >= len(list) {
			return nil, fmt.Errorf("there are only %d elements", len(list))
		}
		return list[p.index], nil
	}
	for _, element := range list {
		fields, _ := element.(map[string]any)
		if text, err := scalar(fields[p.key]); err == nil && text == p.value {
			return element, nil
		}
	}
	return nil, fmt.Errorf("no element has %s=%s", p.key, p.value)
}

func scalar(value any) (string, error) {
	switch value := value.(type) {
	case string:
		return value, nil
	case bool:
		return strconv.FormatBool(value), nil
	case float64:
		return strconv.FormatFloat(value, 'f', -1, 64), nil
	}
	return "", errors.New("there is no single value")
}
