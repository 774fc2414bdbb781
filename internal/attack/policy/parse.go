//go:build !attackpart

package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a host without time zones must not read the hours differently, nor refuse for that alone

	"go.yaml.in/yaml/v4"

	"firedrill/internal/drill"
)

// rule is a value of the file with the line that it stands on, so that a refusal can point at it.
type rule[T any] struct {
	Value T
	Line  int
}

// textReader is a value that reads itself from the text of one scalar. The error says what is wrong and the cure.
type textReader[T any] interface {
	*T
	readText(text string) error
}

// list is a list of rules. It is never empty when it was written: an empty list is a mistake, because it could mean all as well as none.
type list[T any, P textReader[T]] []rule[T]

// DecodeNode implements drill.NodeDecoder. One value stands for a list of one.
func (l *list[T, P]) DecodeNode(node *yaml.Node) error {
	items := []*yaml.Node{node}
	if node.Kind == yaml.SequenceNode {
		items = node.Content
	}
	if len(items) == 0 {
		return errors.New("an empty list; name something, or leave the rule out")
	}
	for _, item := range items {
		var one rule[T]
		if err := readRule[T, P](&one, item); err != nil {
			return drill.Mistake{Line: item.Line, Column: item.Column, Problem: err.Error()}
		}
		*l = append(*l, one)
	}
	return nil
}

// DecodeNode implements drill.NodeDecoder.
func (r *rule[T]) DecodeNode(node *yaml.Node) error {
	reader, ok := any(&r.Value).(interface{ readText(text string) error })
	if !ok {
		return fmt.Errorf("cannot read a value of type %T", r.Value)
	}
	text, err := scalar(node)
	if err != nil {
		return err
	}
	r.Line = node.Line
	return reader.readText(text)
}

// JSONSchema says what DecodeNode takes.
func (*list[T, P]) JSONSchema() map[string]any {
	return map[string]any{"anyOf": []any{map[string]any{"type": "array", "minItems": 1, "items": oneValue()}, oneValue()}}
}

// JSONSchema says what DecodeNode takes.
func (*rule[T]) JSONSchema() map[string]any { return oneValue() }

func oneValue() map[string]any {
	return map[string]any{"type": []string{"string", "number"}, "minLength": 1}
}

func readRule[T any, P textReader[T]](r *rule[T], node *yaml.Node) error {
	line := node.Line
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	text, err := scalar(node)
	if err != nil {
		return err
	}
	r.Line = line
	return P(&r.Value).readText(text)
}

func scalar(node *yaml.Node) (string, error) {
	if node.Kind != yaml.ScalarNode || node.Tag == "!!null" || strings.TrimSpace(node.Value) == "" {
		return "", errors.New("a single value belongs here; write one, or leave the rule out")
	}
	return strings.TrimSpace(node.Value), nil
}

// Parse reads a policy file. known are the kinds of attacks of this build: a kind that is misspelt must not be a rule that is not kept.
// file is its name in messages. The error is a *drill.Error of kind Invalid with line, column and cure of each mistake.
func Parse(text []byte, file string, known []string) (*Policy, error) {
	p := &Policy{file: file}
	if err := drill.Decode(text, file, p); err != nil {
		return nil, err
	}
	for _, rules := range []list[Word, *Word]{p.Kinds, p.Deny, p.RequireConsent, p.NarrowOnly} {
		for _, item := range rules {
			if word := string(item.Value); !slices.Contains(known, word) && word != All {
				return nil, mistaken(file, item.Line, fmt.Sprintf("there is no attack %q; %s", word, drill.Suggest(word, known)))
			}
		}
	}
	for _, item := range p.Kinds {
		if item.Value == All {
			return nil, mistaken(file, item.Line, "leave kinds out to allow all of them")
		}
	}
	if p.timed() && p.TimeZone == nil {
		return nil, mistaken(file, p.firstTimed(), "hours and freezes need a time_zone, as time_zone: Europe/Berlin")
	}
	return p, nil
}

func mistaken(file string, line int, problem string) error {
	return &drill.Error{Kind: drill.Invalid, Err: drill.Mistake{File: file, Line: line, Column: 1, Problem: problem}}
}

// Word is the name of a kind of attack, or All.
type Word string

func (w *Word) readText(text string) error {
	*w = Word(text)
	return nil
}

// Length is a duration of at least a second.
type Length time.Duration

func (l *Length) readText(text string) error {
	value, err := drill.ParseSeconds(text)
	if err != nil {
		return err
	}
	if value.Duration() < time.Second {
		return fmt.Errorf("%q is shorter than a second; to allow nothing write deny: all", text)
	}
	*l = Length(value)
	return nil
}

// Count is a whole number of at least 1.
type Count int

func (c *Count) readText(text string) error {
	value, err := strconv.ParseUint(text, 10, 16)
	if err != nil || value == 0 {
		return fmt.Errorf("%q is not a number from 1; to allow nothing write deny: all", text)
	}
	*c = Count(value)
	return nil
}

// Zone is a time zone by its name in the time zone database.
type Zone struct{ location *time.Location }

func (z *Zone) readText(text string) error {
	location, err := time.LoadLocation(text)
	// "Local" would mean something else on each host, and for each user.
	if err != nil || text == "Local" {
		return fmt.Errorf("%q is not a time zone, as Europe/Berlin or UTC", text)
	}
	z.location = location
	return nil
}

func (t *Target) readText(text string) error {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		t.Prefix = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}
	if prefix, err := netip.ParsePrefix(text); err == nil && !prefix.Addr().Is4In6() {
		t.Prefix = prefix.Masked()
		return nil
	}
	bare := strings.TrimSuffix(text, ".")
	// A name whose last label is a number is a mistyped address.
	last := bare[strings.LastIndexByte(bare, '.')+1:]
	if _, err := strconv.ParseUint(last, 10, 64); err == nil || last == "" || !allOf(bare, nameLetters) {
		return fmt.Errorf("%q is no address, CIDR or host name, as 10.0.0.7, 10.0.0.0/8 or db.example.com", text)
	}
	t.Name = text
	return nil
}

const nameLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

func allOf(text, letters string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return !strings.ContainsRune(letters, r) }) < 0
}

const windowForm = "write days and hours, as Mon-Fri 09:00-15:00, Sat,Sun 22:00-02:00 or daily 08:00-24:00"

func (w *Window) readText(text string) error {
	fields := strings.Fields(text)
	if len(fields) != 2 {
		return fmt.Errorf("%q is not a window; %s", text, windowForm)
	}
	first, last, found := strings.Cut(fields[1], "-")
	begin, ok1 := readMinute(first)
	end, ok2 := readMinute(last)
	if !found || !ok1 || !ok2 || begin == end || begin == dayMinutes {
		return fmt.Errorf("%q is not a span of hours; %s", fields[1], windowForm)
	}
	days, ok := readDays(fields[0])
	if !ok {
		return fmt.Errorf("%q are not days; %s", fields[0], windowForm)
	}
	*w = Window{text: strings.Join(fields, " "), days: days, begin: begin, end: end}
	return nil
}

const dayMinutes = 24 * 60

// readMinute reads 09:00 as minutes of the day, up to 24:00.
func readMinute(text string) (int, bool) {
	if text == "24:00" {
		return dayMinutes, true
	}
	t, err := time.Parse("15:04", text)
	return t.Hour()*60 + t.Minute(), err == nil && len(text) == len("15:04")
}

// readDays reads daily, Mon, Mon-Fri, Fri-Mon, or several of these with commas.
func readDays(text string) (days [7]bool, ok bool) {
	if text == "daily" {
		return [7]bool{true, true, true, true, true, true, true}, true
	}
	names := []string{"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"}
	for part := range strings.SplitSeq(text, ",") {
		first, last, isRange := strings.Cut(part, "-")
		if !isRange {
			last = first
		}
		from, to := slices.Index(names, first), slices.Index(names, last)
		if from < 0 || to < 0 {
			return days, false
		}
		for day := from; ; day = (day + 1) % 7 {
			days[day] = true
			if day == to {
				break
			}
		}
	}
	return days, true
}

func (f *Freeze) readText(text string) error {
	first, last, isRange := strings.Cut(text, "..")
	if !isRange {
		last = first
	}
	first, last = strings.TrimSpace(first), strings.TrimSpace(last)
	for _, date := range []string{first, last} {
		if _, err := time.Parse(time.DateOnly, date); err != nil {
			return fmt.Errorf("%q is not a day or a span of days, as 2026-12-18..2027-01-04", text)
		}
	}
	if last < first {
		return fmt.Errorf("%q ends before it begins", text)
	}
	*f = Freeze{first: first, last: last}
	return nil
}
