package playbook

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/text"

	"firedrill/internal/drill"
)

// sizeMax bounds a file that a person writes.
const sizeMax = 1 << 20

// The parts that only people read.
const (
	overview    = "overview"
	assumptions = "assumptions"
)

// headings says which heading of the second level opens what; the words are those of the five stages.
var headings = map[string]string{
	"overview": overview, "procedure overview": overview, "assumptions": assumptions,
	"procedure": Procedure, "recovery procedure": Procedure, "test": Test, "test procedure": Test, "resume": Resume, "resume procedure": Resume,
}

// Parse reads a playbook; file is its name in messages. The error is a *drill.Error of kind Invalid that names line, column and cure of each mistake.
func Parse(source []byte, file string) (Playbook, error) {
	if len(source) > sizeMax {
		return Playbook{}, invalid(drill.Mistake{File: file, Line: 1, Column: 1, Problem: fmt.Sprintf("larger than %d KiB", sizeMax>>10)})
	}
	book := Playbook{File: file, Hash: hashOf(source), prose: map[string]bool{}, places: map[string]int{}}
	head, body, ok := split(source)
	if !ok {
		return Playbook{}, invalid(drill.Mistake{File: file, Line: 1, Column: 1, Problem: "a playbook begins with a head: a line ---, YAML, and a line --- again; see firedrill playbook new"})
	}
	if err := drill.Decode(head, file, &book.Head); err != nil {
		return Playbook{}, err
	}
	r := reader{file: file, source: body, book: &book}
	r.read()
	r.complete()
	if len(r.mistakes) > 0 {
		return Playbook{}, invalid(r.mistakes...)
	}
	return book, nil
}

func invalid(mistakes ...drill.Mistake) error { return drill.Mistakes(mistakes...) }

// split returns head and body, each with blank lines in place of the other, so that the numbers of their lines are those of the file.
func split(source []byte) (head, body []byte, ok bool) {
	lines := bytes.SplitAfter(source, []byte("\n"))
	if len(lines) == 0 || strings.TrimSpace(string(lines[0])) != "---" {
		return nil, nil, false
	}
	for i := 1; i < len(lines); i++ {
		if strings.TrimSpace(string(lines[i])) != "---" {
			continue
		}
		head = append([]byte("\n"), bytes.Join(lines[1:i], nil)...)
		body = append(bytes.Repeat([]byte("\n"), i+1), bytes.Join(lines[i+1:], nil)...)
		return head, body, true
	}
	return nil, nil, false
}

// reader walks the blocks of the body in their order.
type reader struct {
	file     string
	source   []byte
	book     *Playbook
	mistakes []drill.Mistake

	section string // the part that the last heading of the second level opened
	part    *Part  // nil in a part without steps
	step    *Step  // nil before the first one of a part
	said    strings.Builder
}

func (r *reader) mistake(line int, format string, args ...any) {
	r.mistakes = append(r.mistakes, drill.Mistake{File: r.file, Line: max(line, 1), Column: 1, Problem: fmt.Sprintf(format, args...)})
}

func (r *reader) read() {
	document := goldmark.DefaultParser().Parse(text.NewReader(r.source))
	for node := document.FirstChild(); node != nil; node = node.NextSibling() {
		switch node := node.(type) {
		case *ast.Heading:
			r.heading(node)
		case *ast.FencedCodeBlock:
			r.fence(node)
		default:
			r.words(node)
		}
	}
	r.endStep()
}

func (r *reader) heading(node *ast.Heading) {
	title, line := strings.TrimSpace(string(node.Lines().Value(r.source))), r.lineOf(node)
	switch {
	case node.Level == 2:
		r.endStep()
		r.part = nil
		r.section = headings[strings.ToLower(title)]
		if r.section == "" {
			return // a heading of the team's own
		}
		if _, twice := r.book.places[r.section]; twice {
			r.mistake(line, "the part %q is there twice; keep one, for only one would be followed", title)
		}
		r.book.places[r.section] = line
		if r.section == Procedure || r.section == Test || r.section == Resume {
			r.book.Parts = append(r.book.Parts, Part{Name: r.section})
			r.part = &r.book.Parts[len(r.book.Parts)-1]
		}
	case node.Level == 3 && r.part != nil:
		r.endStep()
		r.step = &Step{Title: title, Line: line}
	}
}

// endStep files the step that is being read.
func (r *reader) endStep() {
	if r.step == nil {
		return
	}
	r.step.Text = strings.TrimSpace(r.said.String())
	r.said.Reset()
	if r.step.Command == "" && r.step.Text == "" {
		r.mistake(r.step.Line, "step %q says neither what to run nor what to do by hand", r.step.Title)
	}
	r.part.Steps = append(r.part.Steps, *r.step)
	r.step = nil
}

func (r *reader) words(node ast.Node) {
	content := strings.TrimSpace(string(blockText(node, r.source)))
	if content == "" {
		return
	}
	if r.section != "" {
		r.book.prose[r.section] = true
	}
	if r.step != nil {
		r.said.WriteString(content + "\n")
	}
}

func blockText(node ast.Node, source []byte) []byte {
	if node.Type() == ast.TypeBlock && node.Lines().Len() > 0 {
		return node.Lines().Value(source)
	}
	var all []byte
	for child := node.FirstChild(); child != nil; child = child.NextSibling() {
		if child.Type() == ast.TypeBlock {
			all = append(append(all, blockText(child, source)...), '\n')
		}
	}
	return all
}

func (r *reader) lineOf(node ast.Node) int {
	if node.Lines().Len() == 0 {
		return 1
	}
	return 1 + bytes.Count(r.source[:node.Lines().At(0).Start], []byte("\n"))
}

// fence reads a block between fences: a command, or what it must print.
func (r *reader) fence(node *ast.FencedCodeBlock) {
	words := strings.Fields(string(infoOf(node, r.source)))
	line := max(r.lineOf(node)-1, 1)
	language := ""
	if len(words) > 0 {
		language = words[0]
	}
	runs := language == "sh" || language == "bash" || language == "shell"
	switch {
	case r.part == nil:
		return // an example
	case r.step == nil && (runs || language == "expect"):
		r.mistake(line, "a command stands before the first step of its part; give it a heading ### that says what it does")
	case runs && r.step.Command != "":
		r.mistake(line, "step %q has a second command; make it a step of its own, so that each is seen to work", r.step.Title)
	case runs:
		r.step.Command = strings.TrimRight(string(node.Lines().Value(r.source)), "\n")
		if strings.TrimSpace(r.step.Command) == "" {
			r.mistake(line, "the command of step %q is empty", r.step.Title)
		}
		r.options(line, words[1:])
	case language == "expect" && (r.step.Command == "" || r.step.Expect != nil):
		r.mistake(line, "this expect belongs to no command; one follows each command at most")
	case language == "expect":
		r.expect(line, words[1:], string(node.Lines().Value(r.source)))
	}
}

func infoOf(node *ast.FencedCodeBlock, source []byte) []byte {
	if node.Info == nil {
		return nil
	}
	return node.Info.Segment.Value(source)
}

func (r *reader) options(line int, words []string) {
	for _, word := range words {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "host":
			r.step.Host = value
		case "ask":
			r.step.Ask = true
		case "within":
			within, err := drill.ParseSeconds(value)
			if err != nil || within == 0 {
				r.mistake(line, "within=%s is not a duration; write within=30s", value)
			}
			r.step.Within = within
		default:
			r.mistake(line, "a command has no option %q; it has host=NAME, within=30s and ask", name)
		}
	}
}

func (r *reader) expect(line int, words []string, content string) {
	expect := &Expect{}
	for _, word := range words {
		code, ok := strings.CutPrefix(word, "exit=")
		value, err := strconv.Atoi(code)
		if !ok || err != nil || value < 0 || value > 255 {
			r.mistake(line, "expect has no option %q; it has exit=0 to exit=255", word)
			continue
		}
		expect.Exit = value
	}
	for number, expected := range strings.Split(content, "\n") {
		expected = strings.TrimSpace(expected)
		if expected == "" {
			continue
		}
		if pattern, ok := patternOf(expected); ok {
			if _, err := regexp.Compile(pattern); err != nil {
				r.mistake(line+1+number, "the pattern cannot be read: %v", err)
			}
		}
		expect.Lines = append(expect.Lines, expected)
	}
	r.step.Expect = expect
}

// complete says what a playbook must hold and this one lacks.
func (r *reader) complete() {
	head := r.book.Head
	roles := map[string]bool{}
	for _, contact := range head.Contacts {
		roles[contact.Role] = true
	}
	if len(head.Leads) < 2 {
		r.mistake(2, "leads: name two roles, who leads and who does when they cannot")
	}
	for _, lead := range head.Leads {
		if !roles[lead] {
			r.mistake(2, "leads: %q is no role of contacts: nobody could be reached", lead)
		}
	}
	if len(head.Notification) == 0 {
		r.mistake(2, "notification: say who is told, when and how")
	}
	for _, section := range []string{overview, assumptions} {
		if !r.book.prose[section] {
			r.mistake(1, "there is no part \"## %s\", or it is empty", strings.ToUpper(section[:1])+section[1:])
		}
	}
	for _, name := range []string{Procedure, Test, Resume} {
		if part, ok := r.book.Part(name); !ok || len(part.Steps) == 0 {
			r.mistake(max(r.book.places[name], 1), "there is no part \"## %s\" with steps below it (### and what is done)", strings.ToUpper(name[:1])+name[1:])
		}
	}
}

// Against compares the playbook with the service that it is for: its objectives must be no weaker.
func (p Playbook) Against(service drill.Service) []drill.Mistake {
	var all []drill.Mistake
	add := func(line int, format string, args ...any) {
		all = append(all, drill.Mistake{File: p.File, Line: max(line, 1), Column: 1, Problem: fmt.Sprintf(format, args...)})
	}
	if p.Head.For != DisasterRecovery {
		at := slices.IndexFunc(service.Dependencies, func(d drill.Dependency) bool { return d.Name == p.Head.For })
		if at < 0 {
			add(2, "for: the service has no dependency %q; write %q for the loss of the platform", p.Head.For, DisasterRecovery)
		} else if dependency := service.Dependencies[at]; dependency.RTO > 0 && p.Head.RTO > dependency.RTO {
			add(2, "rto: %s is longer than the %s that the service file allows for %s", p.Head.RTO, dependency.RTO, p.Head.For)
		} else if dependency.RPO != nil && p.Head.RPO > *dependency.RPO {
			add(2, "rpo: %s is longer than the %s that the service file allows for %s", p.Head.RPO, *dependency.RPO, p.Head.For)
		}
	}
	return all
}
