package chaostoolkit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"firedrill/internal/drill"
)

// Limits of an experiment. The largest that people keep is far below.
const (
	sizeMax  = 4 << 20
	depthMax = 100
	nodesMax = 20_000 // after aliases of YAML have been followed
)

type nodeKind int

const (
	scalar nodeKind = iota
	list
	object
)

// node is a value of an experiment with its place.
type node struct {
	kind         nodeKind
	text         string   // of a scalar, without quotes
	quoted       bool     // a scalar that is text whatever it looks like
	keys         []string // of an object
	items        []*node  // of an object, in the order of keys, or of a list
	path         string
	line, column int
	said         bool // it stands in the list of what became of the experiment
}

var errTooMuch = errors.New("there is too much in it")

// read reads JSON or YAML. An error is a *drill.Error of kind Invalid.
func read(input io.Reader) (*node, error) {
	invalid := func(err error, hint string) error {
		return &drill.Error{Op: "read the experiment", Kind: drill.Invalid, Err: err, Hint: hint}
	}
	text, err := io.ReadAll(io.LimitReader(input, sizeMax+1))
	switch {
	case err != nil:
		return nil, invalid(err, "")
	case len(text) > sizeMax:
		return nil, invalid(fmt.Errorf("it is larger than %d MiB", sizeMax>>20), "This is no experiment.")
	}
	var root *node
	if trimmed := bytes.TrimSpace(text); len(trimmed) > 0 && trimmed[0] == '{' && json.Valid(text) {
		root, err = readJSON(text)
	} else {
		root, err = readYAML(text)
	}
	if err != nil {
		return nil, invalid(err, "An experiment is JSON or YAML; chaos validate says what the Chaos Toolkit thinks of it.")
	}
	if root == nil || root.kind != object || root.get("method") == nil && root.get("steady-state-hypothesis") == nil {
		return nil, invalid(errors.New("it has neither a method nor a steady-state-hypothesis"), "Give the file of an experiment, not of its journal or settings.")
	}
	return root, nil
}

// jsonReader turns tokens into nodes. Offsets become lines as it goes, so that the text is looked at once.
type jsonReader struct {
	text         []byte
	decoder      *json.Decoder
	at           int64
	line, column int
	nodes        int
}

func readJSON(text []byte) (*node, error) {
	r := &jsonReader{text: text, decoder: json.NewDecoder(bytes.NewReader(text)), line: 1, column: 1}
	r.decoder.UseNumber()
	return r.value("", 0)
}

// token returns the next token and where it begins.
func (r *jsonReader) token() (token json.Token, line, column int, err error) {
	from := r.decoder.InputOffset()
	token, err = r.decoder.Token()
	if err != nil {
		return nil, 0, 0, err
	}
	for from < int64(len(r.text)) && strings.IndexByte(" \t\r\n,:", r.text[from]) >= 0 {
		from++
	}
	for ; r.at < from; r.at++ {
		if r.text[r.at] == '\n' {
			r.line, r.column = r.line+1, 0
		}
		r.column++
	}
	return token, r.line, r.column, nil
}

func (r *jsonReader) value(path string, depth int) (*node, error) {
	if r.nodes++; r.nodes > nodesMax || depth > depthMax {
		return nil, errTooMuch
	}
	token, line, column, err := r.token()
	if err != nil {
		return nil, err
	}
	n := &node{path: path, line: line, column: column}
	switch token := token.(type) {
	case json.Delim:
		if token == '[' {
			n.kind = list
			return n, r.list(n, depth)
		}
		n.kind = object
		return n, r.object(n, depth)
	case string:
		n.text, n.quoted = token, true
	default:
		n.text = fmt.Sprint(token)
		if token == nil {
			n.text = "null"
		}
	}
	return n, nil
}

func (r *jsonReader) list(n *node, depth int) error {
	for r.decoder.More() {
		item, err := r.value(fmt.Sprintf("%s[%d]", n.path, len(n.items)), depth+1)
		if err != nil {
			return err
		}
		n.items = append(n.items, item)
	}
	_, err := r.decoder.Token()
	return err
}

func (r *jsonReader) object(n *node, depth int) error {
	for r.decoder.More() {
		key, _, _, err := r.token()
		if err != nil {
			return err
		}
		name := fmt.Sprint(key)
		item, err := r.value(below(n.path, name), depth+1)
		if err != nil {
			return err
		}
		n.set(name, item)
	}
	_, err := r.decoder.Token()
	return err
}

func below(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func readYAML(text []byte) (*node, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	if len(document.Content) == 0 {
		return nil, nil
	}
	nodes := 0
	return fromYAML(document.Content[0], "", 0, &nodes)
}

func fromYAML(from *yaml.Node, path string, depth int, nodes *int) (*node, error) {
	if *nodes++; *nodes > nodesMax || depth > depthMax {
		return nil, errTooMuch
	}
	n := &node{path: path, line: from.Line, column: from.Column}
	switch from.Kind {
	case yaml.AliasNode:
		return fromYAML(from.Alias, path, depth+1, nodes)
	case yaml.SequenceNode:
		n.kind = list
		for i, item := range from.Content {
			made, err := fromYAML(item, fmt.Sprintf("%s[%d]", path, i), depth+1, nodes)
			if err != nil {
				return nil, err
			}
			n.items = append(n.items, made)
		}
	case yaml.MappingNode:
		n.kind = object
		for i := 0; i+1 < len(from.Content); i += 2 {
			key := from.Content[i].Value
			made, err := fromYAML(from.Content[i+1], below(path, key), depth+1, nodes)
			if err != nil {
				return nil, err
			}
			if key == "<<" && made.kind == object {
				for j, name := range made.keys {
					if n.get(name) == nil {
						n.set(name, made.items[j])
					}
				}
				continue
			}
			n.set(key, made)
		}
	default:
		n.text = from.Value
		n.quoted = from.ShortTag() == "!!str"
		if from.ShortTag() == "!!null" {
			n.text = "null"
		}
	}
	return n, nil
}

// set puts a value under a key; a key that is written twice has its last value, as in the Chaos Toolkit.
func (n *node) set(key string, item *node) {
	for i, known := range n.keys {
		if known == key {
			n.items[i] = item
			return
		}
	}
	n.keys, n.items = append(n.keys, key), append(n.items, item)
}

// get returns what stands under a key; nil when there is nothing, or n is no object.
func (n *node) get(key string) *node {
	if n == nil || n.kind != object {
		return nil
	}
	for i, known := range n.keys {
		if known == key {
			return n.items[i]
		}
	}
	return nil
}

// str is the text of a scalar below a key, "" when there is none.
func (n *node) str(key string) string {
	if item := n.get(key); item != nil && item.kind == scalar && !item.null() {
		return item.text
	}
	return ""
}

func (n *node) null() bool { return n.kind == scalar && n.text == "null" && !n.quoted }

// truth is a boolean, and whether it is one.
func (n *node) truth() (value, is bool) {
	if n == nil || n.kind != scalar || n.quoted {
		return false, false
	}
	switch strings.ToLower(n.text) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

// number is a number, and whether it is one; text that looks like one counts, as the values of variables do.
func (n *node) number() (value float64, is bool) {
	if n == nil || n.kind != scalar {
		return 0, false
	}
	value, err := strconv.ParseFloat(n.text, 64)
	return value, err == nil
}

// empty says that there is nothing in it that could be lost.
func (n *node) empty() bool {
	if n == nil {
		return true
	}
	if n.kind == scalar {
		return n.null() || n.text == ""
	}
	for _, item := range n.items {
		if !item.empty() {
			return false
		}
	}
	return true
}

// say marks all of it as said.
func (n *node) say() {
	if n == nil {
		return
	}
	n.said = true
	for _, item := range n.items {
		item.say()
	}
}

// short is a value on one line, cut, for the list.
func (n *node) short() string {
	const most = 80
	var text string
	switch n.kind {
	case scalar:
		text = userInfo().ReplaceAllString(n.text, "://(not shown)@")
		if n.quoted {
			text = strconv.Quote(text)
		}
	case list:
		var parts []string
		for _, item := range n.items {
			parts = append(parts, item.short())
		}
		text = "[" + strings.Join(parts, ", ") + "]"
	case object:
		var parts []string
		for i, key := range n.keys {
			value := n.items[i].short()
			if secretName().MatchString(key) {
				value = "(not shown)"
			}
			parts = append(parts, key+": "+value)
		}
		text = "{" + strings.Join(parts, ", ") + "}"
	}
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most]) + "…"
	}
	return text
}

// userInfo finds a name and a password in a URL.
var userInfo = drill.Pattern(`://[^/@\s]*@`)

// secretName finds names of values that are shown nowhere, whatever they are.
var secretName = drill.Pattern(`(?i)(passw|pwd|secret|token|api_?-?key|credential|authorization|cookie|private)`)
