package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestCDNFailsOverByTheChecksOfEachOrigin runs the example of the CDN: a dead secondary moves nothing, a dead primary is left.
func TestCDNFailsOverByTheChecksOfEachOrigin(t *testing.T) {
	s := small{program: built(t)}
	directory := t.TempDir()
	if err := os.CopyFS(directory, os.DirFS("../../drills/cdn")); err != nil {
		t.Fatal(err)
	}
	s.topology = filepath.Join(directory, "topology.yaml")
	text, err := os.ReadFile(s.topology)
	if err == nil {
		text = bytes.Replace(text, []byte("lab: bookstore-cdn"), fmt.Appendf(nil, "lab: cdn-%d", os.Getpid()), 1)
		err = os.WriteFile(s.topology, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = run(context.Background(), s.program, "lab", "down", s.topology) })
	if code, output := run(t.Context(), s.program, "lab", "up", s.topology); code != 0 {
		t.Fatalf("lab up: %d\n%s", code, output)
	}
	says(t, s.firedrill(t, 0, "ci", "pipeline", "--file", smallFile, "--out", smallOut),
		"drill lose-cdn-secondary on secondary  passed", "drill lose-cdn-primary on primary      passed", "promote primary                        passed")
}
