//go:build !attackpart

package drill

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Mistake is one thing wrong in a file that a person wrote.
type Mistake struct {
	File         string
	Line, Column int    // from 1
	Path         string // "environments.blue.hosts[0].address"
	Problem      string // what is wrong, and the cure
}

// Error prints file, line, column, path and problem, in the form that editors jump to.
func (m Mistake) Error() string {
	place := fmt.Sprintf("%s:%d:%d", m.File, m.Line, m.Column)
	if m.Path == "" {
		return place + ": " + m.Problem
	}
	return place + ": " + m.Path + ": " + m.Problem
}

// NodeDecoder is implemented by types that read themselves from a YAML node. The error's text says what is wrong and the cure.
type NodeDecoder interface {
	DecodeNode(node *yaml.Node) error
}

// Limits of a file that a person writes. Beyond them it is an attack or an accident.
const (
	fileSizeMax  = 4 << 20
	fileDepthMax = 64
	fileNodesMax = 100_000 // aliases of aliases grow without bound otherwise
	mistakesMax  = 20      // more than a screen helps nobody
)

// Decode reads YAML into out, a pointer to a struct with `yaml:"name[,required][,keyed]"` tags, and reports every mistake with its
// place: unknown and doubled fields, wrong types, missing required fields. "keyed" reads a mapping into a slice of structs and puts
// the key into the field Name. The error is an *Error of kind Invalid that wraps the Mistakes.
func Decode(text []byte, file string, out any) error {
	if len(text) > fileSizeMax {
		return invalid(Mistake{File: file, Line: 1, Column: 1, Problem: fmt.Sprintf("larger than %d MiB", fileSizeMax>>20)})
	}
	var document, second yaml.Node
	reader := yaml.NewDecoder(bytes.NewReader(text))
	if err := reader.Decode(&document); err != nil && !errors.Is(err, io.EOF) {
		return invalid(syntaxMistake(file, err))
	}
	if len(document.Content) == 0 {
		return invalid(Mistake{File: file, Line: 1, Column: 1, Problem: "the file is empty"})
	}
	if err := reader.Decode(&second); err == nil {
		return invalid(Mistake{File: file, Line: max(second.Line, 1), Column: max(second.Column, 1), Problem: "a second document begins; keep one, for only one would be read"})
	} else if !errors.Is(err, io.EOF) {
		return invalid(syntaxMistake(file, err))
	}
	d := decoder{file: file}
	d.value(document.Content[0], reflect.ValueOf(out).Elem(), "", 0)
	return invalid(d.mistakes...)
}

func syntaxMistake(file string, err error) Mistake {
	mistake := Mistake{File: file, Line: 1, Column: 1, Problem: strings.TrimPrefix(err.Error(), "yaml: ")}
	for _, word := range strings.FieldsFunc(err.Error(), func(r rune) bool { return strings.ContainsRune(" :.,", r) }) {
		if number, convErr := strconv.Atoi(word); convErr == nil && number > 0 {
			mistake.Line = number
			break
		}
	}
	return mistake
}

// Mistakes returns nil for none, else one *Error of kind Invalid that wraps them all, in the order of the file.
func Mistakes(all ...Mistake) error { return invalid(all...) }

// invalid returns nil for no mistakes, else one error that holds them all, in the order of the file.
func invalid(mistakes ...Mistake) error {
	if len(mistakes) == 0 {
		return nil
	}
	slices.SortStableFunc(mistakes, func(a, b Mistake) int { return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column)) })
	var all []error
	for i, mistake := range mistakes {
		if i == mistakesMax {
			all = append(all, fmt.Errorf("and %d more", len(mistakes)-i))
			break
		}
		all = append(all, mistake)
	}
	return &Error{Kind: Invalid, Err: errors.Join(all...)}
}

type decoder struct {
	file     string
	nodes    int
	mistakes []Mistake
}

func (d *decoder) mistake(node *yaml.Node, path, format string, args ...any) {
	d.mistakes = append(d.mistakes, Mistake{
		File: d.file, Line: max(node.Line, 1), Column: max(node.Column, 1), Path: path, Problem: fmt.Sprintf(format, args...),
	})
}

func (d *decoder) value(node *yaml.Node, out reflect.Value, path string, depth int) {
	d.nodes++
	switch {
	case d.nodes == fileNodesMax:
		d.mistake(node, path, "more than %d values", fileNodesMax)
		return
	case d.nodes > fileNodesMax:
		return
	case depth > fileDepthMax:
		d.mistake(node, path, "nested deeper than %d levels", fileDepthMax)
		return
	}
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if out.Kind() == reflect.Pointer {
		if out.IsNil() {
			out.Set(reflect.New(out.Type().Elem()))
		}
		d.value(node, out.Elem(), path, depth+1)
		return
	}
	if custom, ok := out.Addr().Interface().(NodeDecoder); ok {
		if err := custom.DecodeNode(node); err != nil {
			d.custom(node, path, err)
		}
		return
	}
	switch out.Kind() {
	case reflect.Struct:
		if _, isAddr := out.Interface().(netip.Addr); isAddr {
			d.scalar(node, out, path)
			return
		}
		d.structure(node, out, path, depth)
	case reflect.Slice:
		d.list(node, out, path, depth)
	case reflect.Map:
		d.mapping(node, out, path, depth)
	default:
		d.scalar(node, out, path)
	}
}

// custom places the mistakes that a NodeDecoder returned: a Mistake keeps its own line, anything else is put at the node.
func (d *decoder) custom(node *yaml.Node, path string, err error) {
	var inner Mistake
	if errors.As(err, &inner) && inner.Line > 0 {
		inner.File = d.file
		inner.Path = strings.TrimSuffix(path+"."+inner.Path, ".")
		d.mistakes = append(d.mistakes, inner)
		return
	}
	d.mistake(node, path, "%v", err)
}

type fieldTag struct {
	index           int
	required, keyed bool
}

func fieldsOf(structure reflect.Type) (map[string]fieldTag, []string) {
	fields := map[string]fieldTag{}
	var names []string
	for i := range structure.NumField() {
		name, options, _ := strings.Cut(structure.Field(i).Tag.Get("yaml"), ",")
		if name == "" || name == "-" {
			continue
		}
		fields[name] = fieldTag{index: i, required: strings.Contains(options, "required"), keyed: strings.Contains(options, "keyed")}
		names = append(names, name)
	}
	return fields, names
}

func (d *decoder) structure(node *yaml.Node, out reflect.Value, path string, depth int) {
	if node.Kind != yaml.MappingNode {
		_, names := fieldsOf(out.Type())
		d.mistake(node, path, "%s where a mapping with %s belongs", kindWord(node), strings.Join(names, ", "))
		return
	}
	fields, names := fieldsOf(out.Type())
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		field, known := fields[key.Value]
		switch {
		case !known:
			d.mistake(key, join(path, key.Value), "unknown field; %s", Suggest(key.Value, names))
			continue
		case seen[key.Value]:
			d.mistake(key, join(path, key.Value), "written twice; keep one")
			continue
		}
		seen[key.Value] = true
		if field.keyed {
			d.keyed(value, out.Field(field.index), join(path, key.Value), depth+1)
		} else {
			d.value(value, out.Field(field.index), join(path, key.Value), depth+1)
		}
	}
	for _, name := range names {
		if fields[name].required && !seen[name] {
			d.mistake(node, path, "%s is missing", name)
		}
	}
}

func (d *decoder) keyed(node *yaml.Node, out reflect.Value, path string, depth int) {
	if node.Kind != yaml.MappingNode {
		d.mistake(node, path, "%s where a mapping from names belongs", kindWord(node))
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if seen[key.Value] {
			d.mistake(key, join(path, key.Value), "written twice; keep one")
			continue
		}
		seen[key.Value] = true
		item := reflect.New(out.Type().Elem()).Elem()
		if value.Kind == yaml.ScalarNode && value.Tag == "!!null" {
			value = &yaml.Node{Kind: yaml.MappingNode, Line: key.Line, Column: key.Column}
		}
		d.value(value, item, join(path, key.Value), depth+1)
		item.FieldByName("Name").SetString(key.Value)
		out.Set(reflect.Append(out, item))
	}
}

func (d *decoder) list(node *yaml.Node, out reflect.Value, path string, depth int) {
	items := []*yaml.Node{node} // one value stands for a list of one
	if node.Kind == yaml.SequenceNode {
		items = node.Content
	}
	for i, item := range items {
		value := reflect.New(out.Type().Elem()).Elem()
		d.value(item, value, fmt.Sprintf("%s[%d]", path, i), depth+1)
		out.Set(reflect.Append(out, value))
	}
}

func (d *decoder) mapping(node *yaml.Node, out reflect.Value, path string, depth int) {
	if node.Kind != yaml.MappingNode {
		d.mistake(node, path, "%s where a mapping belongs", kindWord(node))
		return
	}
	if out.IsNil() {
		out.Set(reflect.MakeMap(out.Type()))
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if out.MapIndex(reflect.ValueOf(key.Value)).IsValid() {
			d.mistake(key, join(path, key.Value), "written twice; keep one")
			continue
		}
		item := reflect.New(out.Type().Elem()).Elem()
		d.value(value, item, join(path, key.Value), depth+1)
		out.SetMapIndex(reflect.ValueOf(key.Value), item)
	}
}

func (d *decoder) scalar(node *yaml.Node, out reflect.Value, path string) {
	if node.Kind != yaml.ScalarNode {
		d.mistake(node, path, "%s where a single value belongs", kindWord(node))
		return
	}
	if err := setScalar(node.Value, out); err != nil {
		d.mistake(node, path, "%v", err)
	}
}

func setScalar(text string, out reflect.Value) error {
	switch target := out.Addr().Interface().(type) {
	case *Seconds:
		value, err := ParseSeconds(text)
		*target = value
		return err
	case *Percent:
		value, err := strconv.ParseFloat(strings.TrimSuffix(text, "%"), 64)
		if err != nil || value < 0 || value > 100 {
			return fmt.Errorf("%q is not a share; write a number from 0%% to 100%%", text)
		}
		*target = Percent(value)
		return nil
	case *netip.Addr:
		value, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("%q is not an IP address; write one such as 10.0.0.7 or 2001:db8::7", text)
		}
		*target = value
		return nil
	}
	switch out.Kind() {
	case reflect.String:
		out.SetString(text)
		return nil
	case reflect.Bool:
		value, err := strconv.ParseBool(text)
		if err != nil {
			return fmt.Errorf("%q is neither true nor false", text)
		}
		out.SetBool(value)
		return nil
	case reflect.Int, reflect.Int64:
		value, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a whole number", text)
		}
		out.SetInt(value)
		return nil
	case reflect.Float64:
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return fmt.Errorf("%q is not a number", text)
		}
		out.SetFloat(value)
		return nil
	}
	return fmt.Errorf("cannot read a value of type %s", out.Type())
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func kindWord(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if node.Tag == "!!null" {
			return "nothing"
		}
		return strconv.Quote(node.Value)
	case yaml.DocumentNode, yaml.AliasNode, yaml.StreamNode:
	}
	return "something else"
}
