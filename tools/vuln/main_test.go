package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const looked = `{"SBOM": {"go_version": "go1.26.11"}}`

// A vulnerability is told as called if one trace reaches a function of it; the traces of govulncheck come from coarse to fine, or in any order.
func TestRead(t *testing.T) {
	module := `{"finding": {"osv": "GO-1", "fixed_version": "v1.2.3", "trace": [{"module": "m", "version": "v1.0.0"}]}}`
	called := `{"finding": {"osv": "GO-1", "fixed_version": "v1.2.3", "trace": [{"module": "m", "version": "v1.0.0", "package": "m/p", "function": "F"}, {"module": "firedrill", "package": "firedrill/internal/cli", "function": "Main"}]}}`
	for name, c := range map[string]struct{ text, want string }{
		"module": {module, "GO-1: m v1.0.0, fixed in v1.2.3, not called (https://pkg.go.dev/vuln/GO-1)"},
		"called": {module + called, "GO-1: m v1.0.0, fixed in v1.2.3, called from firedrill/internal/cli.Main (https://pkg.go.dev/vuln/GO-1)"},
		"order":  {called + module, "GO-1: m v1.0.0, fixed in v1.2.3, called from firedrill/internal/cli.Main (https://pkg.go.dev/vuln/GO-1)"},
	} {
		found, err := read(strings.NewReader(looked + c.text))
		if err != nil || len(found) != 1 || found["GO-1"].String() != c.want {
			t.Errorf("%s: %v, %v, want %s", name, found, err, c.want)
		}
	}
}

// What did not look finds nothing, which must not be read as good news.
func TestReadWantsALook(t *testing.T) {
	for _, text := range []string{"", `{"config": {}}`, looked + `{"finding": `} {
		if found, err := read(strings.NewReader(text)); err == nil {
			t.Errorf("%q is read as %v", text, found)
		}
	}
}

func TestJudge(t *testing.T) {
	for name, c := range map[string]struct {
		found   map[string]finding
		reasons map[string]string
		want    string // part of the error; empty: none
	}{
		"nothing":          {},
		"not called":       {found: map[string]finding{"GO-1": {}}},
		"called":           {found: map[string]finding{"GO-1": {called: "f"}}, want: "GO-1 is called"},
		"explained":        {found: map[string]finding{"GO-1": {called: "f"}}, reasons: map[string]string{"GO-1": "why"}},
		"another":          {found: map[string]finding{"GO-1": {called: "f"}, "GO-2": {called: "g"}}, reasons: map[string]string{"GO-1": "why"}, want: "GO-2 is called"},
		"gone":             {reasons: map[string]string{"GO-1": "why"}, want: "GO-1 is explained, and not called"},
		"no longer called": {found: map[string]finding{"GO-1": {}}, reasons: map[string]string{"GO-1": "why"}, want: "GO-1 is explained, and not called"},
	} {
		err := judge(c.found, c.reasons)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestReadExplained(t *testing.T) {
	path := filepath.Join(t.TempDir(), "explained")
	for text, want := range map[string]string{"# words\n\nGO-1 because\n": "because", "GO-1\n": "", "GO-1 a\nGO-1 b\n": ""} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		reasons, err := readExplained(path)
		if (err == nil) != (want != "") || reasons["GO-1"] != want {
			t.Errorf("%q: %v, %v", text, reasons, err)
		}
	}
}
