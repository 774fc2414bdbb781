package httpapi

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestTheDescriptionIsOfTheRoutes(t *testing.T) {
	var described struct {
		Paths map[string]map[string]json.RawMessage `json:"paths"`
	}
	if err := json.Unmarshal(description, &described); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"GET /v1/events": "events", "GET /v1/openapi.json": ""}
	for _, route := range routes {
		want[route.method+" "+route.path] = route.call
	}
	got := map[string]string{}
	for path, methods := range described.Paths {
		for method, text := range methods {
			if method == "parameters" {
				continue
			}
			var operation struct {
				Scope string `json:"x-scope"`
			}
			if err := json.Unmarshal(text, &operation); err != nil {
				t.Fatal(err)
			}
			got[strings.ToUpper(method)+" "+path] = operation.Scope
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("described are %v, and served %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}
