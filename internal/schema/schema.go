package schema

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path"
	"reflect"
	"regexp"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// Names are the schemas that there are.
var Names = []string{"service", "plan", "event", "verdict"}

// Schema is a JSON Schema.
type Schema map[string]any

const dialect = "https://json-schema.org/draft/2020-12/schema"

// Of returns the schema of one of Names. kinds is the catalogue of attacks.
func Of(name string, kinds []drill.AttackKind) (Schema, error) {
	m := maker{kinds: kinds, definitions: Schema{}}
	var made Schema
	switch name {
	case "service":
		m.file = true
		made = m.structure(reflect.TypeFor[drill.Service]())
		made["title"] = "firedrill service file"
	case "plan":
		made = m.structure(reflect.TypeFor[drill.Plan]())
		made["title"] = "firedrill plan, as firedrill plan --json prints it"
	case "verdict":
		made = m.structure(reflect.TypeFor[verdict.Verdict]())
		made["title"] = "firedrill verdict, as firedrill judge --json prints it"
	case "event":
		made = m.event()
		made["title"] = "one line of a run's log, or of --json"
	default:
		return nil, &drill.Error{Op: "schema", Kind: drill.Invalid, Err: fmt.Errorf("there is no schema of %q", name), Hint: drill.Suggest(name, Names)}
	}
	made["$schema"] = dialect
	if len(m.definitions) > 0 {
		made["$defs"] = m.definitions
	}
	return made, nil
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
	}
	return nil, false
}

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
		items := m.value(t.Elem())
		if m.file { // one value stands for a list of one
			return Schema{"anyOf": []Schema{{"type": "array", "items": items}, items}}
		}
		return Schema{"type": []string{"array", "null"}, "items": items}
	case reflect.Map:
		return Schema{"type": "object", "additionalProperties": m.value(t.Elem())}
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

// defined puts the schema of a struct among the definitions, once, and refers to it.
func (m *maker) defined(t reflect.Type) Schema {
	name := path.Base(t.PkgPath()) + "." + t.Name() // plans and logs both have alarms, hosts and deployments
	if _, there := m.definitions[name]; !there {
		m.definitions[name] = Schema{} // for types that hold themselves
		m.definitions[name] = m.structure(t)
	}
	return Schema{"$ref": "#/$defs/" + name}
}

func (m *maker) structure(t reflect.Type) Schema {
	properties, required := Schema{}, []string{}
	tag := "json"
	if m.file {
		tag = "yaml"
	}
	for i := range t.NumField() {
		field := t.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get(tag), ",")
		if name == "" || name == "-" || !field.IsExported() {
			continue
		}
		made := m.value(field.Type)
		switch {
		case m.file && strings.Contains(options, "keyed"):
			made = Schema{"type": "object", "additionalProperties": Schema{"anyOf": []Schema{m.value(field.Type.Elem()), {"type": "null"}}}}
		case m.file && t == reflect.TypeFor[drill.Drill]() && name == "expect":
			one := sentences(drill.ExpectPatterns())
			made = Schema{"anyOf": []Schema{{"type": "array", "items": one}, one}}
		case m.file && t == reflect.TypeFor[drill.Drill]() && name == "stop_when":
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
