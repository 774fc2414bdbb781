package httpapi

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"firedrill/internal/fleet"
)

// document is what a test reads of openapi.json.
type document struct {
	Paths      map[string]map[string]json.RawMessage `json:"paths"`
	Components struct {
		Schemas map[string]struct {
			Properties map[string]json.RawMessage `json:"properties"`
		} `json:"schemas"`
	} `json:"components"`
}

type operation struct {
	Scope  string            `json:"x-scope"`
	Events map[string]string `json:"x-events"`
}

func (d document) operations(t *testing.T) map[string]operation {
	t.Helper()
	all := map[string]operation{}
	for path, methods := range d.Paths {
		for method, text := range methods {
			if method == "parameters" {
				continue
			}
			var one operation
			if err := json.Unmarshal(text, &one); err != nil {
				t.Fatal(err)
			}
			all[strings.ToUpper(method)+" "+path] = one
		}
	}
	return all
}

// changesSaid are the names under which the control plane says what has changed, as its source has them.
func changesSaid(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../control/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err, "the control plane has no source")
	}
	said := map[string]bool{}
	for _, file := range files {
		syntax, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(syntax, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok || len(call.Args) != 2 {
				return true
			}
			if method, ok := call.Fun.(*ast.SelectorExpr); !ok || method.Sel.Name != "changed" {
				return true
			}
			name, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: a change without a name that can be read here", file)
				return true
			}
			text, err := strconv.Unquote(name.Value)
			if err != nil {
				t.Error(err)
			}
			said[text] = true
			return true
		})
	}
	return slices.Sorted(maps.Keys(said))
}

// fields are the names that a type has as JSON.
func fields(of reflect.Type) []string {
	var names []string
	for i := range of.NumField() {
		if name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ","); name != "-" {
			names = append(names, name)
		}
	}
	return names
}

// described says what openapi.json lacks, or has too much, against what is served.
func described(t *testing.T, text []byte) []string {
	t.Helper()
	var d document
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	var wrong []string
	compare := func(what string, got, want []string) {
		for _, name := range want {
			if !slices.Contains(got, name) {
				wrong = append(wrong, what+" lacks "+name)
			}
		}
		for _, name := range got {
			if !slices.Contains(want, name) {
				wrong = append(wrong, what+" has "+name+", which is not")
			}
		}
	}
	want := []string{"GET /v1/events events", "GET /v1/metrics metrics", "GET " + filePath + " " + fileCall, "GET /v1/health ", "GET /v1/openapi.json ", "POST " + fleet.CallsPath + "{call} {call}"}
	for _, route := range routes {
		want = append(want, route.method+" "+route.path+" "+route.call)
	}
	var got []string
	for name, one := range d.operations(t) {
		got = append(got, name+" "+one.Scope)
	}
	compare("the document", got, want)
	compare("the events", slices.Collect(maps.Keys(d.operations(t)["GET /v1/events"].Events)), append(changesSaid(t), "runs", "drills", "scheduled", "freezes", "beat"))
	for name, of := range map[string]reflect.Type{
		"cadence": reflect.TypeFor[fleet.Cadence](), "attack": reflect.TypeFor[fleet.AttackRequest](), "run": reflect.TypeFor[fleet.Run](), "service": reflect.TypeFor[fleet.ServiceFile](),
		"freeze": reflect.TypeFor[fleet.Freeze](), "drill": reflect.TypeFor[fleet.DrillRun](), "drill_request": reflect.TypeFor[fleet.DrillRequest](), "log_part": reflect.TypeFor[fleet.LogPart](), "drill_file": reflect.TypeFor[fleet.DrillFile](), "file_request": reflect.TypeFor[fleet.FileRequest](), "file_part": reflect.TypeFor[fleet.FilePart](), "reply": reflect.TypeFor[fleet.Reply](), "schedule_request": reflect.TypeFor[fleet.ScheduleRequest](),
	} {
		compare("schema "+name, slices.Collect(maps.Keys(d.Components.Schemas[name].Properties)), fields(of))
	}
	compare("schema scheduled", slices.Collect(maps.Keys(d.Components.Schemas["scheduled"].Properties)), append(fields(reflect.TypeFor[fleet.Scheduled]()), "next", "waiting"))
	return wrong
}

func TestTheDescriptionIsOfTheRoutesAndEvents(t *testing.T) {
	text, err := os.ReadFile("openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range described(t, text) {
		t.Error(wrong)
	}
	// Planted: a route, an event, a field and a scope that nobody wrote down.
	for _, planted := range []string{`"/v1/drills/{drill}/log": {`, `"journal": "`, `"schedule": "`, `"not_reverted": {`, `"x-scope": "putservice"`} {
		if strings.Count(string(text), planted) != 1 {
			t.Fatalf("%s is not once in the document", planted)
		}
		if len(described(t, []byte(strings.Replace(string(text), planted, planted[:1]+"another_"+planted[1:], 1)))) == 0 {
			t.Errorf("without %s nothing is missed", planted)
		}
	}
}
