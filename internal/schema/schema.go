package schema

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"firedrill/internal/attest"
	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/playbook"
	"firedrill/internal/report"
	"firedrill/internal/stage"
	"firedrill/internal/verdict"
)

// document is a format that has a name of its own.
type document struct {
	name, title string
	of          reflect.Type
	file        bool // a person writes it in YAML
}

var documents = []document{
	{"service", "firedrill service file", reflect.TypeFor[drill.Service](), true},
	{"plan", "firedrill plan, as firedrill plan --json prints it", reflect.TypeFor[drill.Plan](), false},
	{"event", "one line of a run's log, or of --json", reflect.TypeFor[history.Event](), false},
	{"verdict", "firedrill verdict, as firedrill judge --json prints it", reflect.TypeFor[verdict.Verdict](), false},
	{"record", "a run for auditors and supervisors, as firedrill report --format record writes it", reflect.TypeFor[report.Record](), false},
	{"annex", "what people add to a record (firedrill report --annex)", reflect.TypeFor[report.Annex](), true},
	{"comparison", "runs side by side, as firedrill report --compare --format json writes them", reflect.TypeFor[report.Comparison](), false},
	{"playbook", "what stands between the two lines of dashes that open a playbook", reflect.TypeFor[playbook.Head](), true},
	{"approval", "one line of the file that says who agreed to a playbook", reflect.TypeFor[playbook.Approval](), false},
	{"rehearsal", "what the log of a rehearsal proves (rehearsal.json)", reflect.TypeFor[playbook.Verdict](), false},
	{"attestation", "what the files of a run hold (attestation.json)", reflect.TypeFor[attest.Statement](), false},
	{"stage", "the checklist of the stages, as firedrill stage --json prints it", reflect.TypeFor[stage.Result](), false},
}

// Names lists the formats that have a name of their own, the service file first.
func Names() []string {
	var names []string
	for _, known := range documents {
		names = append(names, known.name)
	}
	return names
}

// Schema is a JSON Schema.
type Schema map[string]any

const dialect = "https://json-schema.org/draft/2020-12/schema"

// Of returns the schema of one of Names. kinds is the catalogue of attacks. An unknown name is an error of kind drill.Invalid.
func Of(name string, kinds []drill.AttackKind) (Schema, error) {
	for _, known := range documents {
		if known.name == name && known.file {
			return OfFile(known.title, known.of, kinds), nil
		} else if known.name == name {
			return OfOutput(known.title, known.of), nil
		}
	}
	return nil, &drill.Error{Op: "schema", Kind: drill.Invalid, Err: fmt.Errorf("there is no schema of %q", name), Hint: drill.Suggest(name, Names())}
}

// OfFile is the schema of what drill.Decode reads into a struct. kinds is the catalogue of attacks, where the file may order any.
func OfFile(title string, of reflect.Type, kinds []drill.AttackKind) Schema {
	m := maker{file: true, kinds: kinds, definitions: Schema{}}
	return m.whole(title, m.structure(of))
}

// OfOutput is the schema of a JSON value that is one of some types.
func OfOutput(title string, of ...reflect.Type) Schema {
	m := maker{definitions: Schema{}}
	if len(of) == 1 && of[0].Kind() == reflect.Struct && of[0] != reflect.TypeFor[history.Event]() {
		return m.whole(title, m.structure(of[0]))
	}
	var each []Schema
	for _, t := range of {
		each = append(each, m.value(t))
	}
	if len(each) == 1 {
		return m.whole(title, each[0])
	}
	return m.whole(title, Schema{"anyOf": each})
}

func (m *maker) whole(title string, made Schema) Schema {
	made["title"], made["$schema"] = title, dialect
	if len(m.definitions) > 0 {
		made["$defs"] = m.definitions
	}
	return made
}

// maker makes schemas of types: as a person writes them in YAML (file), or as programs exchange them in JSON.
type maker struct {
	file        bool
	kinds       []drill.AttackKind
	definitions Schema
}

// Durations, shares and the like, as the service file takes them.
const (
	durationPattern = `^\s*([0-9]+|[0-9]+d|([0-9]+(\.[0-9]*)?(ns|us|µs|ms|s|m|h))+)\s*$`
	sharePattern    = `^[0-9]+(\.[0-9]+)?%?$`
	ofPattern       = `^\s*[0-9]+\s* of \s*[0-9]+\s*$`
)

// special returns the schema of types that read or write themselves.
func (m *maker) special(t reflect.Type) (Schema, bool) {
	written := func(pattern string) Schema { return Schema{"type": []string{"string", "number"}, "pattern": pattern} }
	switch t {
	case reflect.TypeFor[drill.Seconds]():
		if m.file {
			return written(durationPattern), true
		}
		return Schema{"type": "number"}, true
	case reflect.TypeFor[drill.CatchUp]():
		if m.file {
			return Schema{"anyOf": []Schema{{"const": "never"}, written(durationPattern)}}, true
		}
		return Schema{"type": "number"}, true
	case reflect.TypeFor[drill.Percent]():
		if m.file {
			return Schema{"type": []string{"string", "number"}, "pattern": sharePattern, "minimum": 0, "maximum": 100}, true
		}
		return Schema{"type": "number"}, true
	case reflect.TypeFor[drill.Datapoints]():
		if m.file {
			return Schema{"type": "string", "pattern": ofPattern}, true
		}
	case reflect.TypeFor[drill.AttackSpec]():
		if m.file {
			return m.attack(), true
		}
	case reflect.TypeFor[netip.Addr]():
		return Schema{"type": "string"}, true
	case reflect.TypeFor[time.Time]():
		return Schema{"type": "string", "format": "date-time"}, true
	case reflect.TypeFor[json.RawMessage]():
		return Schema{}, true
	case reflect.TypeFor[history.Event]():
		return m.event(), true
	}
	if describes, is := reflect.New(t).Interface().(describer); is {
		return Schema(describes.JSONSchema()), true
	}
	return nil, false
}

// describer is a type that reads itself, and says what it takes.
type describer interface{ JSONSchema() map[string]any }

func (m *maker) value(t reflect.Type) Schema {
	if t.Kind() == reflect.Pointer {
		return m.value(t.Elem())
	}
	if made, is := m.special(t); is {
		return made
	}
	switch t.Kind() {
	case reflect.Struct:
		return m.defined(t)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			return Schema{"type": []string{"string", "null"}, "contentEncoding": "base64"}
		}
		items := m.element(t.Elem())
		if m.file { // one value stands for a list of one
			return Schema{"anyOf": []Schema{{"type": "array", "items": items}, items}}
		}
		return Schema{"type": []string{"array", "null"}, "items": items}
	case reflect.Map:
		made := Schema{"type": "object", "additionalProperties": m.element(t.Elem())}
		if !m.file {
			made["type"] = []string{"object", "null"}
		}
		return made
	case reflect.String:
		if m.file { // YAML takes 7 for a number where a word is meant
			return Schema{"type": []string{"string", "number", "boolean"}}
		}
		return Schema{"type": "string"}
	case reflect.Bool:
		return Schema{"type": "boolean"}
	case reflect.Float32, reflect.Float64:
		return Schema{"type": "number"}
	case reflect.Interface:
		return Schema{}
	}
	return Schema{"type": "integer"}
}

// element is what a list or a mapping holds.
func (m *maker) element(t reflect.Type) Schema {
	made := m.value(t)
	if !m.file && t.Kind() == reflect.Pointer {
		return Schema{"anyOf": []Schema{made, {"type": "null"}}}
	}
	return made
}

// defined puts the schema of a struct among the definitions, once, and refers to it.
func (m *maker) defined(t reflect.Type) Schema {
	name := path.Base(t.PkgPath()) + "." + t.Name() // plans and logs both have alarms, hosts and deployments
	if _, there := m.definitions[name]; !there {
		m.definitions[name] = Schema{} // for types that hold themselves
		m.definitions[name] = m.structure(t)
	}
	return Schema{"$ref": "#/$defs/" + name}
}

// property is a field of a struct under the name that it has in the document.
type property struct {
	reflect.StructField
	of            reflect.Type // whose field it is
	name, options string
}

// fields are those that are read or written, as the decoder of files or encoding/json takes them: what is embedded belongs to the whole.
func (m *maker) fields(t reflect.Type) []property {
	tag := "json"
	if m.file {
		tag = "yaml"
	}
	var all, embedded []property
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get(tag), ",")
		switch {
		case name == "-", m.file && name == "":
		case field.Anonymous && name == "" && field.Type.Kind() == reflect.Struct:
			embedded = append(embedded, m.fields(field.Type)...)
		case field.IsExported():
			all = append(all, property{field, t, cmp.Or(name, field.Name), options})
		}
	}
	// As in Go, and in what is printed: a field hides those of the same name in what is embedded.
	return append(all, slices.DeleteFunc(embedded, func(e property) bool {
		return slices.ContainsFunc(all, func(own property) bool { return own.name == e.name })
	})...)
}

func (m *maker) structure(t reflect.Type) Schema {
	properties, required := Schema{}, []string{}
	for _, field := range m.fields(t) {
		name, options := field.name, field.options
		made := m.value(field.Type)
		switch {
		case m.file && strings.Contains(options, "keyed"):
			made = Schema{"type": "object", "additionalProperties": Schema{"anyOf": []Schema{m.value(field.Type.Elem()), {"type": "null"}}}}
		case m.file && field.of == reflect.TypeFor[drill.Drill]() && name == "expect":
			one := sentences(drill.ExpectPatterns())
			made = Schema{"anyOf": []Schema{{"type": "array", "items": one}, one}}
		case m.file && field.of == reflect.TypeFor[drill.Drill]() && name == "stop_when":
			one := sentences(drill.StopPatterns())
			made = Schema{"anyOf": []Schema{{"type": "array", "items": one}, one}}
		case !m.file && field.Type.Kind() == reflect.Pointer && !strings.Contains(options, "omit"):
			made = Schema{"anyOf": []Schema{made, {"type": "null"}}}
		}
		properties[name] = made
		if m.file && strings.Contains(options, "required") || !m.file && !strings.Contains(options, "omit") {
			required = append(required, name)
		}
	}
	made := Schema{"type": "object", "properties": properties}
	if m.file {
		made["additionalProperties"] = false // a field that is not known is a mistake there; programs ignore what they do not know
	}
	if len(required) > 0 {
		made["required"] = required
	}
	return made
}

// sentences is what an expectation or a stop condition may say.
func sentences(patterns []string) Schema {
	var all []Schema
	for _, pattern := range patterns {
		all = append(all, Schema{"pattern": pattern})
	}
	return Schema{"type": "string", "anyOf": all}
}

// attack is one of the kinds with its options.
func (m *maker) attack() Schema {
	kinds := Schema{}
	for _, kind := range m.kinds {
		names := []string{}
		for _, flag := range kind.Flags {
			names = append(names, regexp.QuoteMeta(flag.Name))
		}
		// Plurals and hyphens are taken too, as drill.Compile does.
		pattern := "^(" + strings.ReplaceAll(strings.Join(names, "|"), "_", "[_-]") + ")(s|es)?$"
		kinds[kind.Name] = Schema{
			"description": kind.Summary,
			"anyOf":       []Schema{{"type": "object", "patternProperties": Schema{pattern: Schema{}}, "additionalProperties": false}, {"type": "null"}},
		}
	}
	return Schema{"type": "object", "properties": kinds, "additionalProperties": false, "minProperties": 1, "maxProperties": 1}
}

// event says for each kind of fact what its data is.
func (m *maker) event() Schema {
	var branches []Schema
	for _, fact := range history.Facts() {
		branches = append(branches, Schema{
			"if":   Schema{"properties": Schema{"kind": Schema{"const": string(fact.Kind())}}, "required": []string{"kind"}},
			"then": Schema{"properties": Schema{"data": m.value(reflect.TypeOf(fact))}},
		})
	}
	return Schema{
		"type": "object", "required": []string{"at", "kind", "data"}, "allOf": branches,
		"properties": Schema{
			"seq": Schema{"type": "integer", "minimum": 1}, "at": Schema{"type": "string", "format": "date-time"}, "source": Schema{"type": "string"},
			"kind": Schema{"type": "string"}, "data": Schema{"type": "object"}, "hash": Schema{"type": "string", "pattern": "^[0-9a-f]{64}$"},
		},
	}
}
