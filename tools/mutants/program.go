package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/printer"
	"go/token"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// variable says which mutant is meant.
const variable = "FIREDRILL_MUTANT"

// becomes is what each of gremlins' operators makes of a token.
var becomes = map[string]map[token.Token]token.Token{
	"ARITHMETIC_BASE":       {token.ADD: token.SUB, token.MUL: token.QUO, token.QUO: token.MUL, token.REM: token.MUL, token.SUB: token.ADD},
	"CONDITIONALS_BOUNDARY": {token.GEQ: token.GTR, token.GTR: token.GEQ, token.LEQ: token.LSS, token.LSS: token.LEQ},
	"CONDITIONALS_NEGATION": {token.EQL: token.NEQ, token.GEQ: token.LSS, token.GTR: token.LEQ, token.LEQ: token.GTR, token.LSS: token.GEQ, token.NEQ: token.EQL},
	"INCREMENT_DECREMENT":   {token.DEC: token.INC, token.INC: token.DEC},
	"INVERT_NEGATIVES":      {token.SUB: token.ADD},
}

// mutant is one small change.
type mutant struct {
	id           int
	file         string // within the package
	line, column int
	kind         string
	function     string // "" outside of functions
	from, to     string // as the code reads
	token        *token.Token
	wanted       token.Token
	owner        *ast.FuncDecl
	pkg          string
	nth          int // of those that read the same in the function
	answer       string
}

func (m *mutant) place() string {
	return fmt.Sprintf("%s:%06d:%06d:%s", m.file, m.line, m.column, m.kind)
}

// key names a mutant in a way that lines above it do not change.
func (m *mutant) key() string {
	key := fmt.Sprintf("%s/%s %s: %s => %s", m.pkg, m.file, m.function, m.from, m.to)
	if m.nth > 1 {
		key += fmt.Sprintf(" (%d)", m.nth)
	}
	return key
}

// program is a package with its mutants.
type program struct {
	name, folder, binary string
	set                  *token.FileSet
	files                map[string]*ast.File
	mutants              []*mutant
	rounds               []string // of tests: an option for each
}

// load reads the files that have mutants, without their comments, and finds each mutant in them.
func load(name string, mutants []*mutant) (*program, error) {
	folder, err := filepath.Abs(filepath.Join("internal", name))
	if err != nil {
		return nil, err
	}
	p := &program{name: name, folder: folder, set: token.NewFileSet(), files: map[string]*ast.File{}, mutants: mutants}
	same := map[string]*mutant{}
	for _, m := range mutants {
		m.pkg = name
		if p.files[m.file] == nil {
			if p.files[m.file], err = parser.ParseFile(p.set, filepath.Join(folder, m.file), nil, parser.SkipObjectResolution); err != nil {
				return nil, err
			}
		}
		if err := p.find(m); err != nil {
			return nil, err
		}
		key := m.key()
		if last := same[key]; last == nil || last.line != m.line || last.column != m.column {
			m.nth = 1
			if last != nil {
				m.nth += last.nth
			}
			same[key] = m
		} else {
			m.nth = last.nth // two operators that do the same
		}
	}
	return p, nil
}

func (p *program) find(m *mutant) error {
	for _, decl := range p.files[m.file].Decls {
		ast.Inspect(decl, func(node ast.Node) bool {
			tok, at := tokenOf(node)
			if tok == nil {
				return true
			}
			if position := p.set.Position(at); position.Line != m.line || position.Column != m.column {
				return true
			}
			m.token, m.wanted = tok, becomes[m.kind][*tok]
			if owner, is := decl.(*ast.FuncDecl); is {
				m.owner, m.function = owner, owner.Name.Name
			}
			m.from = oneLine(p.print(node))
			m.mutated(func() { m.to = oneLine(p.print(node)) })
			return false
		})
	}
	if m.token == nil || m.wanted == token.ILLEGAL {
		return fmt.Errorf("%s:%d:%d: nothing there for %s", m.file, m.line, m.column, m.kind)
	}
	return nil
}

// tokenOf is what can be exchanged in a node.
func tokenOf(node ast.Node) (*token.Token, token.Pos) {
	switch node := node.(type) {
	case *ast.BinaryExpr:
		return &node.Op, node.OpPos
	case *ast.IncDecStmt:
		return &node.Tok, node.TokPos
	case *ast.UnaryExpr:
		return &node.Op, node.OpPos
	}
	return nil, token.NoPos
}

// mutated does something while the change is made.
func (m *mutant) mutated(do func()) {
	before := *m.token
	*m.token = m.wanted
	do()
	*m.token = before
}

func (p *program) print(node any) string {
	var text bytes.Buffer
	if err := printer.Fprint(&text, p.set, node); err != nil {
		return err.Error()
	}
	return text.String()
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }

// build makes one test binary with all mutants. Those that do not compile are found by trying.
func (p *program) build(ctx context.Context, work string) error {
	p.binary = filepath.Join(work, "all.test")
	for {
		overlay, where := map[string]string{}, map[string]map[int]*mutant{}
		for name := range p.files {
			text, lines := p.rewrite(name)
			where[name] = lines
			if err := put(work, overlay, filepath.Join(p.folder, name), text); err != nil {
				return err
			}
		}
		header := fmt.Sprintf("package %s\n\nimport (\n\t\"os\"\n\t\"strconv\"\n)\n\nvar mutantActive, _ = strconv.Atoi(os.Getenv(%q))\n", slices.Collect(maps.Values(p.files))[0].Name.Name, variable)
		if err := put(work, overlay, filepath.Join(p.folder, "mutants_active.go"), header); err != nil {
			return err
		}
		out, err := p.compile(ctx, work, overlay, p.binary)
		if err == nil {
			return nil
		}
		dropped := 0
		for _, found := range compileError.FindAllStringSubmatch(out, -1) {
			line, _ := strconv.Atoi(found[2])
			if m := where[filepath.Base(found[1])][line]; m != nil && m.answer == "" {
				m.answer = notViable
				dropped++
			}
		}
		if dropped == 0 {
			return fmt.Errorf("%w\n%s", err, out)
		}
	}
}

var compileError = regexp.MustCompile(`(?m)^(\S+\.go):(\d+):\d+: `)

// buildAlone makes a test binary with one mutant; ok is false when it does not compile.
func (p *program) buildAlone(ctx context.Context, work string, m *mutant, binary string) (ok bool, err error) {
	overlay, text := map[string]string{}, ""
	m.mutated(func() { text = p.print(p.files[m.file]) })
	if err := put(work, overlay, filepath.Join(p.folder, m.file), text); err != nil {
		return false, err
	}
	out, err := p.compile(ctx, work, overlay, binary)
	if err != nil && !compileError.MatchString(out) {
		return false, fmt.Errorf("%w\n%s", err, out)
	}
	return err == nil, nil
}

func put(work string, overlay map[string]string, name, text string) error {
	file := filepath.Join(work, filepath.Base(name))
	overlay[name] = file
	return os.WriteFile(file, []byte(text), 0o600)
}

func (p *program) compile(ctx context.Context, work string, overlay map[string]string, binary string) (out string, err error) {
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return "", err
	}
	file := filepath.Join(work, "overlay.json")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return "", err
	}
	printed, err := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-gcflags=-e", "-overlay", file, "-o", binary, "./internal/"+p.name).CombinedOutput()
	return string(printed), err
}

// rewrite puts beside each function a copy for each of its mutants, and sends those who call it to the one that is meant. lines says whose
// copy a line belongs to.
func (p *program) rewrite(name string) (text string, lines map[int]*mutant) {
	file := p.files[name]
	var out strings.Builder
	lines = map[int]*mutant{}
	fmt.Fprintf(&out, "package %s\n\n", file.Name.Name)
	for _, decl := range file.Decls {
		var own []*mutant
		function, is := decl.(*ast.FuncDecl)
		if is {
			own = slices.DeleteFunc(slices.Clone(p.mutants), func(m *mutant) bool { return m.owner != function || m.answer == notViable })
		}
		if len(own) == 0 {
			out.WriteString(p.print(decl) + "\n\n")
			continue
		}
		call := nameAll(function)
		called := function.Name.Name
		var dispatch strings.Builder
		for _, m := range own {
			begin := strings.Count(out.String(), "\n")
			function.Name.Name = fmt.Sprintf("%s_mutant%d", called, m.id)
			m.mutated(func() { out.WriteString(p.print(function) + "\n\n") })
			for line := begin + 1; line <= strings.Count(out.String(), "\n"); line++ {
				lines[line] = m
			}
			if function.Type.Results == nil {
				fmt.Fprintf(&dispatch, "case %d: %s; return\n", m.id, fmt.Sprintf(call, function.Name.Name))
			} else {
				fmt.Fprintf(&dispatch, "case %d: return %s\n", m.id, fmt.Sprintf(call, function.Name.Name))
			}
		}
		function.Name.Name = called
		body := function.Body
		function.Body = nil
		fmt.Fprintf(&out, "%s {\nswitch mutantActive {\n%s}\n%s\n\n", p.print(function), dispatch.String(), p.print(body)[1:])
		function.Body = body
	}
	return out.String(), lines
}

// nameAll gives a name to every parameter, and returns how the function is called with them; %s stands for its name.
func nameAll(function *ast.FuncDecl) (call string) {
	next := 0
	name := func(fields *ast.FieldList) (all []string) {
		for _, field := range fields.List {
			if len(field.Names) == 0 {
				field.Names = []*ast.Ident{{Name: "_"}}
			}
			for _, ident := range field.Names {
				if ident.Name == "_" {
					next++
					ident.Name = fmt.Sprintf("unused%d", next)
				}
				all = append(all, ident.Name)
			}
			if _, variadic := field.Type.(*ast.Ellipsis); variadic {
				all[len(all)-1] += "..."
			}
		}
		return all
	}
	call = "%s"
	if function.Recv != nil {
		call = name(function.Recv)[0] + ".%s"
	}
	if function.Type.TypeParams != nil {
		call += "[" + strings.Join(name(function.Type.TypeParams), ", ") + "]"
	}
	return call + "(" + strings.Join(name(function.Type.Params), ", ") + ")"
}
