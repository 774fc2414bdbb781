package drill

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// Each field of a service file is written in one that is accepted: a field that a default or another rule makes impossible is a promise not kept.
func TestEachFieldCanBeWritten(t *testing.T) {
	all := map[string]bool{}
	fields(reflect.TypeFor[Service](), "", all, nil)
	texts := map[string]string{}
	for _, directory := range []string{"../../drills", "testdata/written"} {
		err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() || filepath.Ext(path) != ".yaml" || directory == "../../drills" && entry.Name() != "firedrill.yaml" {
				return err
			}
			text, err := os.ReadFile(path)
			texts[path] = string(text)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	written := map[string]bool{}
	for path, text := range texts {
		if _, err := ParseService([]byte(text), path); err != nil {
			t.Error(err)
			continue
		}
		var node yaml.Node
		if err := yaml.Unmarshal([]byte(text), &node); err != nil {
			t.Fatal(err)
		}
		fields(reflect.TypeFor[Service](), "", written, node.Content[0])
	}
	// Two actions share their fields; a webhook alone is signed.
	refused := map[string]bool{"actions.slack.key_file": true}
	for _, field := range slices.Sorted(maps.Keys(all)) {
		if written[field] == refused[field] {
			t.Errorf("%s: written in a service file that is accepted: %t; write one into testdata/written", field, written[field])
		}
	}
}

// fields notes the ways to all fields of a type; with a node, to those that are written there.
func fields(of reflect.Type, way string, found map[string]bool, node *yaml.Node) {
	if of.Kind() == reflect.Pointer {
		of = of.Elem()
	}
	if of.Implements(reflect.TypeFor[yaml.Unmarshaler]()) || reflect.PointerTo(of).Implements(reflect.TypeFor[yaml.Unmarshaler]()) {
		return
	}
	switch of.Kind() {
	case reflect.Slice, reflect.Map:
		if node == nil {
			fields(of.Elem(), way, found, nil)
			return
		}
		for i, child := range node.Content {
			if node.Kind == yaml.SequenceNode || i%2 == 1 { // of a mapping by name only the values
				fields(of.Elem(), way, found, child)
			}
		}
	case reflect.Struct:
		for i := range of.NumField() {
			field := of.Field(i)
			name, _, _ := strings.Cut(field.Tag.Get("yaml"), ",")
			if name == "" || name == "-" {
				continue
			}
			at := strings.TrimPrefix(way+"."+name, ".")
			if node == nil {
				found[at] = true
				fields(field.Type, at, found, nil)
				continue
			}
			for k := 0; node.Kind == yaml.MappingNode && k+1 < len(node.Content); k += 2 {
				if node.Content[k].Value == name {
					found[at] = true
					fields(field.Type, at, found, node.Content[k+1])
				}
			}
		}
	}
}
