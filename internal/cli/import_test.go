package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"firedrill/internal/drill"
)

func TestImportPrintsAServiceFileAndCountsWhatIsLeft(t *testing.T) {
	var out, errOut bytes.Buffer
	if err := importJenkins(streams{in: strings.NewReader(""), out: &out, err: &errOut}, "../jenkins/testdata/bookstore.xml"); err != nil {
		t.Fatal(err)
	}
	service, err := drill.ParseService(out.Bytes(), "firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(service.Drills) != 2 || len(service.Pipeline) != 6 {
		t.Errorf("%d drills, %d steps", len(service.Drills), len(service.Pipeline))
	}
	if !strings.Contains(errOut.String(), "things could not be carried over") {
		t.Errorf("standard error: %q", errOut.String())
	}
	if err := importJenkins(streams{in: strings.NewReader("<project/>"), out: &out, err: &errOut}, "-"); drill.KindOf(err) != drill.Invalid {
		t.Errorf("a job that publishes nothing: %v", err)
	}
}

func TestImportOfAnExperimentSaysWhatBecameOfIt(t *testing.T) {
	const experiment = "../chaostoolkit/testdata/01-cut-database-by-iptables.json"
	run := func(asList, asJSON bool) (string, string) {
		var out, errOut bytes.Buffer
		if err := importChaosToolkit(streams{in: strings.NewReader(""), out: &out, err: &errOut}, experiment, asList, asJSON); err != nil {
			t.Fatal(err)
		}
		return out.String(), errOut.String()
	}
	file, counted := run(false, false)
	service, err := drill.ParseService([]byte(file), "firedrill.yaml")
	if err != nil || len(service.Drills) != 1 || len(service.Probes) != 2 {
		t.Errorf("%v, %d drills, %d probes", err, len(service.Drills), len(service.Probes))
	}
	if !strings.Contains(counted, "changed") || !strings.Contains(counted, "lost") {
		t.Errorf("standard error: %q", counted)
	}
	if list, _ := run(true, false); !strings.Contains(list, "line 24: action \"cut the database\" -> attack blackhole") {
		t.Errorf("the list:\n%s", list)
	}
	whole, _ := run(false, true)
	var result struct {
		File  string `json:"file"`
		Notes []struct {
			Became string `json:"became"`
			Line   int    `json:"line"`
		} `json:"notes"`
	}
	if err := json.Unmarshal([]byte(whole), &result); err != nil || result.File != file || len(result.Notes) == 0 || result.Notes[0].Line == 0 {
		t.Errorf("%v:\n%s", err, whole)
	}
	if err := importChaosToolkit(streams{in: strings.NewReader("[]"), out: &bytes.Buffer{}, err: &bytes.Buffer{}}, "-", false, false); drill.KindOf(err) != drill.Invalid {
		t.Errorf("what is no experiment: %v", err)
	}
}
