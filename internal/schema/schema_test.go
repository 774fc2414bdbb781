package schema

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"firedrill/drills"
	"firedrill/internal/attack/kinds"
	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

func compiled(t *testing.T, name string) *jsonschema.Schema {
	t.Helper()
	made, err := Of(name, kinds.Describe())
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(made)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("schema.json", document); err != nil {
		t.Fatal(err)
	}
	schema, err := compiler.Compile("schema.json")
	if err != nil {
		t.Fatalf("%s is no schema: %v", name, err)
	}
	return schema
}

// plain gives what a validator takes: the JSON of anything.
func plain(t *testing.T, value any) any {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return document
}

func fromYAML(t *testing.T, text string) any {
	t.Helper()
	var value any
	if err := yaml.Unmarshal([]byte(text), &value); err != nil {
		t.Fatal(err)
	}
	return plain(t, value)
}

func bookstore(t *testing.T) string {
	t.Helper()
	text, err := fs.ReadFile(drills.Files(), "bookstore/firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestTheExampleValidatesAndPlantedMistakesDoNot(t *testing.T) {
	schema := compiled(t, "service")
	if err := schema.Validate(fromYAML(t, bookstore(t))); err != nil {
		t.Errorf("the example: %v", err)
	}
	for _, row := range [][2]string{
		{"endpoint:", "endpont:"},
		{"rto: 15s", "rto: soon"},
		{"datapoints: 2 of 2", "datapoints: most"},
		{"- no other alarm", "- no other alarms"},
		{"blackhole: {", "blackole: {"},
		{"hostnames: [", "hostnams: ["},
		{"failback: manual", "failbck: manual"},
		{"every: 100ms", "every: [1, 2]"},
		{"service: bookstore\n", ""},
		{"keep_releases: 5", "keep_releases: many"},
	} {
		planted := strings.Replace(bookstore(t), row[0], row[1], 1)
		if planted == bookstore(t) {
			t.Fatalf("%q is not in the example", row[0])
		}
		if schema.Validate(fromYAML(t, planted)) == nil {
			t.Errorf("%q for %q validates", row[1], row[0])
		}
		if _, err := drill.ParseService([]byte(planted), "firedrill.yaml"); err == nil && !strings.Contains(row[1], "bla") && !strings.Contains(row[1], "hostnams") {
			t.Errorf("%q for %q is no mistake for our own reader", row[1], row[0])
		}
	}
}

func TestWhatIsWrittenValidatesAndPlantedMistakesDoNot(t *testing.T) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	events := compiled(t, "event")
	for _, event := range log {
		if err := events.Validate(plain(t, event)); err != nil {
			t.Fatalf("event %d %s: %v", event.Seq, event.Fact.Kind(), err)
		}
	}
	for name, value := range map[string]any{"plan": plan, "verdict": verdict.Judge(plan, log)} {
		schema := compiled(t, name)
		document := plain(t, value)
		if err := schema.Validate(document); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		steps := document.(map[string]any)["steps"].([]any)
		steps[0].(map[string]any)["name"] = 7
		if schema.Validate(document) == nil {
			t.Errorf("a %s with a number for a name validates", name)
		}
		delete(document.(map[string]any), "steps")
		if schema.Validate(document) == nil {
			t.Errorf("a %s without steps validates", name)
		}
	}
	for _, planted := range []string{
		`{"at":"2026-11-20T10:15:00Z","kind":"alarm","data":{"name":"a"}}`,
		`{"at":"2026-11-20T10:15:00Z","kind":"alarm","data":{"name":"a","to":7}}`,
		`{"kind":"alarm","data":{"name":"a","to":"OK"}}`,
		`{"at":"2026-11-20T10:15:00Z","kind":"alarm","data":[]}`,
	} {
		document, err := jsonschema.UnmarshalJSON(strings.NewReader(planted))
		if err != nil {
			t.Fatal(err)
		}
		if events.Validate(document) == nil {
			t.Errorf("%s validates", planted)
		}
	}
	if known := history.Facts(); len(known) < 20 {
		t.Errorf("only %d kinds of facts", len(known))
	}
}

func TestAnUnknownSchemaIsAnsweredWithTheNearest(t *testing.T) {
	if _, err := Of("servise", nil); drill.KindOf(err) != drill.Invalid || !strings.Contains(drill.HintOf(err), "service") {
		t.Errorf("%v, %q", err, drill.HintOf(err))
	}
}
