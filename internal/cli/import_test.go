package cli

import (
	"bytes"
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
