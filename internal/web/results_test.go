package web

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"firedrill/internal/fleet"
)

// What a directory says of itself is not what the dashboard shows: a verdict is a file that anybody there can write.
func TestAVerdictCountsForWhatItsLogProves(t *testing.T) {
	const name = "20261129T053112Z-35fbe1"
	directory := t.TempDir()
	if err := os.Mkdir(filepath.Join(directory, name), 0o755); err != nil {
		t.Fatal(err)
	}
	text := `{"service": "shop", "outcome": "passed", "reason": "all is well", "steps": [{"name": "drill lose-db", "kind": "drill", "outcome": "passed", "rto": {"seconds": 1}}]}`
	if err := os.WriteFile(filepath.Join(directory, name, verdictName), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(directory)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	written, ok := readRecord(root, name)
	if !ok || written.ID != name || written.Service != "shop" {
		t.Fatalf("%+v, %t", written, ok)
	}
	for what, test := range map[string]struct {
		proven fleet.Record
		err    error
		want   string
		steps  int
	}{
		"the log proves it":       {fleet.Record{Service: "shop", Outcome: "passed", Steps: []fleet.RecordStep{{Name: "drill lose-db"}, {}}}, nil, "passed", 1},
		"the log proves less":     {fleet.Record{Service: "shop", Outcome: "failed"}, nil, "failed", 0},
		"the log was altered":     {fleet.Record{Service: "shop", Outcome: "passed"}, errors.New("line 7 was altered"), inconclusive, 0},
		"the log is of another":   {fleet.Record{Service: "bank", Outcome: "passed"}, nil, inconclusive, 0},
		"the log is of no drills": {fleet.Record{}, errors.New("it is no log of drills"), inconclusive, 0},
	} {
		got := judged(written, "run.jsonl", func(string) (fleet.Record, error) { return test.proven, test.err })
		if got.Outcome != test.want || got.ID != name || got.Service != "shop" || len(got.Steps) != test.steps || got.Outcome == inconclusive && got.Reason == "" {
			t.Errorf("%s: %+v", what, got)
		}
	}
}
