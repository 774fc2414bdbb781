package alarm

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Limits of a composite alarm, as CloudWatch publishes them.
const (
	childrenMax = 100
	elementsMax = 500
	nestingMax  = 64 // ours: deeper than anybody writes, far from the end of a stack
)

// Expression is the rule of a composite alarm, as ALARM("a") AND NOT OK("b"). Make one with ParseExpression.
type Expression struct {
	root     term
	text     string
	children []string
}

// term is one part of an expression: holds says whether it is true, and because tells which alarms are in a state that it names.
type term interface {
	holds(states map[string]State) bool
	because(states map[string]State, add func(string))
}

type (
	constant bool
	in       struct {
		name  string
		state State
	}
	not     struct{ inner term }
	and     []term
	or      []term
	atLeast struct {
		count int
		of    []term
	}
)

func (c constant) holds(map[string]State) bool          { return bool(c) }
func (constant) because(map[string]State, func(string)) {}

func (i in) holds(states map[string]State) bool { return states[i.name] == i.state }
func (i in) because(states map[string]State, add func(string)) {
	if i.holds(states) {
		add(i.name)
	}
}

func (n not) holds(states map[string]State) bool { return !n.inner.holds(states) }
func (n not) because(states map[string]State, add func(string)) {
	n.inner.because(states, add)
}

func (a and) holds(states map[string]State) bool {
	for _, part := range a {
		if !part.holds(states) {
			return false
		}
	}
	return true
}

func (a and) because(states map[string]State, add func(string)) {
	for _, part := range a {
		part.because(states, add)
	}
}

func (o or) holds(states map[string]State) bool {
	for _, part := range o {
		if part.holds(states) {
			return true
		}
	}
	return false
}

func (o or) because(states map[string]State, add func(string)) { and(o).because(states, add) }

func (a atLeast) holds(states map[string]State) bool {
	count := 0
	for _, part := range a.of {
		if part.holds(states) {
			count++
		}
	}
	return count >= a.count
}

func (a atLeast) because(states map[string]State, add func(string)) { and(a.of).because(states, add) }

// Children returns the names of the alarms that the expression asks for, each once, in the order in which they are written.
func (e Expression) Children() []string { return e.children }

// String returns the expression as it was written.
func (e Expression) String() string { return e.text }

// Holds says whether the expression is true. An alarm that is not in states is in none, so only NOT can be true of it.
func (e Expression) Holds(states map[string]State) bool { return e.root.holds(states) }

// Because returns the names of the alarms that are in a state that the expression names, each once.
func (e Expression) Because(states map[string]State) []string {
	var names []string
	seen := map[string]bool{}
	e.root.because(states, func(name string) {
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	})
	return names
}

// ParseExpression reads the rule of a composite alarm: ALARM(name), OK(name), INSUFFICIENT_DATA(name), TRUE, FALSE, AND, OR, NOT,
// parentheses, and AT_LEAST(2, ALARM, (a, b, c)) or AT_LEAST(50%, ...). NOT binds closest, then AND, then OR. Names may stand in double
// quotes, and must when they hold a space or one of ",()". The error names the column and what may stand there.
func ParseExpression(text string) (Expression, error) {
	p := &expressionParser{text: text, seen: map[string]bool{}}
	p.next()
	root, err := p.anyOf()
	if err == nil && p.token != "" {
		err = p.expected("AND, OR or the end")
	}
	if err != nil {
		return Expression{}, err
	}
	switch {
	case len(p.children) > childrenMax:
		return Expression{}, fmt.Errorf("it asks for %d alarms; %d are the most", len(p.children), childrenMax)
	case p.elements > elementsMax:
		return Expression{}, fmt.Errorf("it has %d parts; %d are the most", p.elements, elementsMax)
	}
	return Expression{root: root, text: text, children: p.children}, nil
}

// expressionParser descends recursively; token is what comes next, at is where it begins.
type expressionParser struct {
	text     string
	at, end  int // of token, in bytes
	token    string
	quoted   bool
	open     bool // a quote that is not closed
	depth    int
	elements int
	seen     map[string]bool
	children []string
}

// special are the bytes that are tokens by themselves.
const special = ",()"

func (p *expressionParser) next() {
	rest := p.text[p.end:]
	trimmed := strings.TrimLeft(rest, " \t\r\n")
	p.at = p.end + len(rest) - len(trimmed)
	p.quoted, p.token = false, ""
	switch {
	case trimmed == "":
		p.end = p.at
	case trimmed[0] == '"':
		name, _, closed := strings.Cut(trimmed[1:], `"`)
		p.token, p.quoted, p.open = name, true, !closed
		p.end = p.at + min(len(trimmed), len(name)+2)
	case strings.IndexByte(special, trimmed[0]) >= 0:
		p.token = trimmed[:1]
		p.end = p.at + 1
	default:
		length := strings.IndexAny(trimmed, special+"\" \t\r\n")
		if length < 0 {
			length = len(trimmed)
		}
		p.token = trimmed[:length]
		p.end = p.at + length
	}
}

func (p *expressionParser) is(word string) bool { return !p.quoted && p.token == word }

func (p *expressionParser) expected(what string) error {
	found := "the end"
	switch {
	case p.open:
		return fmt.Errorf(`column %d: the quote is not closed; write "name"`, p.at+1)
	case p.quoted || p.token != "":
		found = strconv.Quote(p.token)
	}
	return fmt.Errorf("column %d: %s cannot stand here; write %s", p.at+1, found, what)
}

func (p *expressionParser) take(word string) error {
	if !p.is(word) {
		return p.expected(strconv.Quote(word))
	}
	p.next()
	return nil
}

func (p *expressionParser) anyOf() (term, error) {
	first, err := p.allOf()
	if err != nil || !p.is("OR") {
		return first, err
	}
	parts := or{first}
	for p.is("OR") {
		p.next()
		part, err := p.allOf()
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func (p *expressionParser) allOf() (term, error) {
	first, err := p.one()
	if err != nil || !p.is("AND") {
		return first, err
	}
	parts := and{first}
	for p.is("AND") {
		p.next()
		part, err := p.one()
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func (p *expressionParser) one() (term, error) {
	if p.depth++; p.depth > nestingMax {
		return nil, fmt.Errorf("column %d: more than %d parts lie within each other", p.at+1, nestingMax)
	}
	defer func() { p.depth-- }()
	p.elements++
	switch {
	case p.is("NOT"):
		p.next()
		inner, err := p.one()
		return not{inner}, err
	case p.is("("):
		p.next()
		inner, err := p.anyOf()
		if err != nil {
			return nil, err
		}
		return inner, p.take(")")
	case p.is("TRUE"), p.is("FALSE"):
		value := constant(p.token == "TRUE")
		p.next()
		return value, nil
	case p.is("AT_LEAST"):
		p.next()
		return p.atLeast()
	}
	state, err := p.state("ALARM(name), OK(name), INSUFFICIENT_DATA(name), AT_LEAST(...), TRUE, FALSE, NOT or (")
	if err != nil {
		return nil, err
	}
	if err := p.take("("); err != nil {
		return nil, err
	}
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	return in{name: name, state: state}, p.take(")")
}

func (p *expressionParser) state(what string) (State, error) {
	for _, state := range []State{Raised, OK, Insufficient} {
		if p.is(string(state)) {
			p.next()
			return state, nil
		}
	}
	return "", p.expected(what)
}

func (p *expressionParser) name() (string, error) {
	if p.open || p.token == "" || (!p.quoted && strings.Contains(special, p.token)) {
		return "", p.expected("the name of an alarm")
	}
	name := p.token
	if !p.seen[name] {
		p.seen[name] = true
		p.children = append(p.children, name)
	}
	p.next()
	return name, nil
}

// atLeast reads what follows AT_LEAST: (2, ALARM, (a, b)) or (50%, ALARM, (a, b)).
func (p *expressionParser) atLeast() (term, error) {
	if err := p.take("("); err != nil {
		return nil, err
	}
	at, number := p.at, p.token
	p.next()
	if err := p.take(","); err != nil {
		return nil, err
	}
	state, err := p.state("ALARM, OK or INSUFFICIENT_DATA")
	if err != nil {
		return nil, err
	}
	if err := p.take(","); err != nil {
		return nil, err
	}
	if err := p.take("("); err != nil {
		return nil, err
	}
	var of []term
	for {
		name, err := p.name()
		if err != nil {
			return nil, err
		}
		p.elements++
		of = append(of, in{name: name, state: state})
		if !p.is(",") {
			break
		}
		p.next()
	}
	if err := p.take(")"); err != nil {
		return nil, err
	}
	count, err := countOf(number, len(of))
	if err != nil {
		return nil, fmt.Errorf("column %d: %w", at+1, err)
	}
	return atLeast{count: count, of: of}, p.take(")")
}

// countOf reads "2" or "50%" of so many. A share is rounded up: at least half of three are two.
func countOf(text string, of int) (int, error) {
	if share, ok := strings.CutSuffix(text, "%"); ok {
		percent, err := strconv.Atoi(share)
		if err != nil || percent < 1 || percent > 100 {
			return 0, fmt.Errorf("%q is no share; write 1%% to 100%%", text)
		}
		return int(math.Ceil(float64(percent*of) / 100)), nil
	}
	count, err := strconv.Atoi(text)
	if err != nil || count < 1 || count > of {
		return 0, fmt.Errorf("%q of %d alarms cannot be met; write 1 to %d, or a share as 50%%", text, of, of)
	}
	return count, nil
}
