//go:build !hostpart

package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v4"

	"firedrill/drills"
	"firedrill/internal/attack/policy"
	"firedrill/internal/history"
	"firedrill/internal/schema"
	"firedrill/internal/verdict/verdicttest"
)

const dialectOfSchemas = "https://json-schema.org/draft/2020-12/schema"

// strict lets no schema forgive a member that it does not know, as one for programs does: what is printed and not described is a mistake of ours.
func strict(node any) {
	switch node := node.(type) {
	case map[string]any:
		_, has := node["properties"]
		_, says := node["additionalProperties"]
		if _, typed := node["type"]; has && typed && !says {
			node["additionalProperties"] = false
		}
		for _, child := range node {
			strict(child)
		}
	case []any:
		for _, child := range node {
			strict(child)
		}
	}
}

// parsedSchema is a schema as a program sees it; change may plant a mistake.
func parsedSchema(made schema.Schema, change func(map[string]any)) (*jsonschema.Schema, error) {
	text, err := json.Marshal(made)
	if err != nil {
		return nil, err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	if change != nil {
		change(document.(map[string]any))
	}
	strict(document)
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema.json", document); err != nil {
		return nil, err
	}
	return compiler.Compile("schema.json")
}

// valuesOf reads JSON values one after the other.
func valuesOf(text string) ([]any, error) {
	var all []any
	decoder := json.NewDecoder(strings.NewReader(text))
	for {
		var raw json.RawMessage
		if err := decoder.Decode(&raw); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		value, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		all = append(all, value)
	}
}

// fits holds what a command printed with --json against its schema.
func fits(args []string, out string) error {
	if !slices.Contains(args, "--json") || out == "" {
		return nil
	}
	for words := len(args); words > 0; words-- {
		known, is := outputOf(args[:words])
		if !is {
			continue
		}
		parsed, err := parsedSchema(schema.OfOutput(known.command, known.of...), nil)
		if err != nil {
			return err
		}
		values, err := valuesOf(out)
		for i, value := range values {
			err = errors.Join(err, parsed.Validate(value))
			if i > 0 && !known.lines {
				err = errors.Join(err, fmt.Errorf("%s printed more than one value", known.command))
			}
		}
		return err
	}
	return fmt.Errorf("there is no schema of what firedrill %s prints", strings.Join(args, " "))
}

// withoutSchema names the commands that have --json, and no schema.
func withoutSchema(root *cobra.Command) []string {
	var found []string
	forEach(root, func(command *cobra.Command) {
		flag := command.Flag("json")
		if flag == nil || flag.Hidden || command.HasSubCommands() {
			return
		}
		words := strings.Fields(command.CommandPath())[1:]
		if _, is := outputOf(words); !is {
			found = append(found, strings.Join(words, " "))
		}
	})
	return found
}

func TestWhateverPrintsJSONHasASchema(t *testing.T) {
	if found := withoutSchema(Command()); len(found) > 0 {
		t.Errorf("no schema of what these print with --json: %q", found)
	}
	root := Command()
	planted := &cobra.Command{Use: "planted", Run: func(*cobra.Command, []string) {}}
	planted.Flags().Bool("json", false, "print JSON")
	root.AddCommand(planted)
	if found := withoutSchema(root); !slices.Equal(found, []string{"planted"}) {
		t.Errorf("a command that prints JSON without a schema is not caught: %q", found)
	}
	for _, known := range outputs() {
		words := strings.Fields(strings.ReplaceAll(known.command, "KIND", "cpu"))
		if command, rest, err := Command().Find(words); err != nil || len(rest) > 0 || command.Flag("json") == nil {
			t.Errorf("%s has a schema of what it prints with --json, and no such flag: %v %q", known.command, err, rest)
		}
	}
}

// filled sets every field that encoding/json writes.
func filled(value reflect.Value, depth int) {
	switch into := value.Addr().Interface().(type) {
	case *time.Time:
		*into = time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
		return
	case *netip.Addr:
		*into = netip.MustParseAddr("10.0.0.1")
		return
	case *json.RawMessage:
		*into = json.RawMessage(`{"a":1}`)
		return
	case *history.Event:
		*into = history.New(time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC), "ci", &history.Note{Text: "x"})
		return
	}
	switch value.Kind() {
	case reflect.Struct:
		for i := range value.NumField() {
			if value.Type().Field(i).IsExported() {
				filled(value.Field(i), depth)
			}
		}
	case reflect.Pointer:
		if depth < 6 {
			value.Set(reflect.New(value.Type().Elem()))
			filled(value.Elem(), depth+1)
		}
	case reflect.Slice:
		if depth < 6 {
			value.Set(reflect.MakeSlice(value.Type(), 2, 2))
			filled(value.Index(0), depth+1)
			filled(value.Index(1), depth+1)
		}
	case reflect.Map:
		key, item := reflect.New(value.Type().Key()).Elem(), reflect.New(value.Type().Elem()).Elem()
		filled(key, depth+1)
		filled(item, depth+1)
		value.Set(reflect.MakeMap(value.Type()))
		value.SetMapIndex(key, item)
	case reflect.String:
		value.SetString("x")
	case reflect.Bool:
		value.SetBool(true)
	case reflect.Float32, reflect.Float64:
		value.SetFloat(1.5)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		value.SetInt(1_500_000_000)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		value.SetUint(7)
	default: // an interface stays nil
	}
}

// Each type that a command prints validates, with nothing and with everything set; a member that the schema leaves out is caught, and so is
// one that is missing.
func TestEveryTypeThatIsPrintedValidatesAndPlantedMistakesDoNot(t *testing.T) {
	const few = 6
	checked, least := 0, 100
	if testing.Short() {
		least /= few
	}
	for _, known := range outputs() {
		for _, of := range known.of {
			made := schema.OfOutput(known.command, of)
			parsed, err := parsedSchema(made, nil)
			if err != nil {
				t.Fatalf("%s: no schema: %v", known.command, err)
			}
			empty, whole := reflect.New(of), reflect.New(of)
			filled(whole.Elem(), 0)
			for what, value := range map[string]reflect.Value{"nothing": empty, "everything": whole} {
				if of == reflect.TypeFor[history.Event]() && what == "nothing" {
					continue // an event is never without a fact
				}
				text, err := json.Marshal(value.Interface())
				if err != nil {
					t.Fatalf("%s: %v", known.command, err)
				}
				values, err := valuesOf(string(text))
				if err != nil || parsed.Validate(values[0]) != nil {
					t.Errorf("%s: %s with %s set: %v %v\n%s", known.command, of, what, err, parsed.Validate(values[0]), text)
				}
				members, is := values[0].(map[string]any)
				if !is || what == "nothing" || of == reflect.TypeFor[history.Event]() {
					continue
				}
				for i, name := range slices.Sorted(maps.Keys(members)) {
					if testing.Short() && i%few != 0 {
						continue // a schema is read anew for each member
					}
					planted, err := parsedSchema(made, func(document map[string]any) { delete(document["properties"].(map[string]any), name) })
					if err != nil || planted.Validate(values[0]) == nil {
						t.Errorf("%s: %s: a schema without %s is not caught (%v)", known.command, of, name, err)
					}
					checked++
				}
			}
		}
	}
	if checked < least {
		t.Errorf("only %d members were left out", checked)
	}
}

// What commands really print, of those that need neither root nor a server. The scripts validate what they print as well, and runRoot does.
func TestWhatCommandsPrintValidates(t *testing.T) {
	directory := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	service, err := drills.Files().Open("bookstore/firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(service)
	if err != nil {
		t.Fatal(err)
	}
	file, story := write("firedrill.yaml", string(text)), writeStory(t, verdicttest.FrozenDNS)
	experiment := write("experiment.json", `{"version":"1.0.0","title":"t","description":"d","method":[{"type":"action","name":"a","provider":{"type":"process","path":"true"}}]}`)
	for _, args := range [][]string{
		{"version", "--json"},
		{"attack", "list", "--json"},
		{"drills", "list", "--json"},
		{"drills", "show", "lose-host", "--json"},
		{"import", "chaostoolkit", "--json", experiment},
		{"lint", "--offline", "--json", "--file", file},
		{"judge", "--json", story},
		{"verify", "--json", "--unsigned", filepath.Dir(story)},
		{"prove", "--list", "--json"},
		{"server", "user", "list", "--json", "--data", directory},
		{"stage", "--json", "--file", file},
	} {
		if code, out, errOut := runRoot(nil, args...); out == "" || code == exitUsage || code == exitInternal {
			t.Errorf("%v: exit code %d, %q, %s", args, code, out, errOut)
		}
	}
	_, out, _ := runRoot(nil, "judge", "--json", story)
	for _, planted := range []string{strings.Replace(out, `"outcome"`, `"result"`, 1), strings.Replace(out, "{", `{"unknown": 1, `, 1), out + out} {
		if fits([]string{"judge", "--json"}, planted) == nil {
			t.Error("a verdict with a planted mistake validates")
		}
	}
	code, nothing, errOut := runRoot(nil, "schema", "fleet", "hostz")
	if code != exitUsage || nothing != "" || errOut != "firedrill: schema: there is no schema of \"fleet hostz\"\n  did you mean \"fleet hosts\"?\n" {
		t.Errorf("a schema that there is not: exit code %d, %s%s", code, nothing, errOut)
	}
	for _, name := range schemaNames() {
		if code, out, errOut := runRoot(nil, append([]string{"schema"}, strings.Fields(name)...)...); code != exitPassed || !json.Valid([]byte(out)) || !strings.Contains(out, dialectOfSchemas) {
			t.Errorf("schema %s: exit code %d, %s", name, code, errOut)
		}
		if made, err := schemaOf(name); err != nil {
			t.Error(err)
		} else if _, err := parsedSchema(made, nil); err != nil {
			t.Errorf("schema %s is none: %v", name, err)
		}
	}
	if fits([]string{"bookstore", "--json"}, out) == nil {
		t.Error("a command without a schema is not caught")
	}
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestFilesThatPeopleWriteValidate(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("..", "..", "drills", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	_, head, _ := strings.Cut(string(newPlaybookText), "---\n")
	head, _, _ = strings.Cut(head, "\n---")
	annex := "type: exercise\nparticipants: [\"lead: on duty\"]\nfindings:\n  - {id: F-9c0d1e2f, severity: high, owner: platform, due: 2026-12-31}\n"
	_, record, errOut := runRoot(nil, "report", "--format", "record", "--annex", write(t, annex), writeStory(t, verdicttest.FrozenDNS))
	if record == "" {
		t.Fatal(errOut)
	}
	for name, file := range map[string]struct{ text, good, bad string }{
		"record":   {record, `"findings"`, `"foundings"`},
		"topology": {read("bookstore/topology.yaml"), "lab:", "laboratory:"},
		"zone":     {read("bookstore/zone.yaml"), "servers:", "server:"},
		"policy":   {policy.Example, "deny: [shutdown]", "deny: []"},
		"playbook": {head, "severity:", "severty:"},
		"annex":    {annex, "id: F-9c0d1e2f, ", ""},
		"service":  {read("bookstore/firedrill.yaml") + "\nschedule:\n  - {drill: lose-host, cron: \"0 10 * * TUE\", catch_up: 2h}\n", "catch_up: 2h", "catch_up: late"},
	} {
		made, err := schemaOf(name)
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := parsedSchema(made, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		valid := func(text string) error {
			var value any
			if err := yaml.Unmarshal([]byte(text), &value); err != nil {
				return err
			}
			line, err := json.Marshal(value)
			if err != nil {
				return err
			}
			values, err := valuesOf(string(line))
			return errors.Join(err, parsed.Validate(values[0]))
		}
		if err := valid(file.text); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "service" { // each field of one is written in these
			written, err := filepath.Glob("../drill/testdata/written/*.yaml")
			if err != nil || len(written) == 0 {
				t.Fatal("no files", err)
			}
			for _, path := range written {
				text, err := os.ReadFile(path)
				if err := errors.Join(err, valid(string(text))); err != nil {
					t.Errorf("%s: %v", path, err)
				}
			}
		}
		planted := strings.Replace(file.text, file.good, file.bad, 1)
		if planted == file.text {
			t.Fatalf("%s: %q is not there", name, file.good)
		}
		if valid(planted) == nil {
			t.Errorf("%s: %q in place of %q validates", name, file.bad, file.good)
		}
	}
}
