package attacktest

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// Ship builds the program as make build does, and returns where it is: figures are those of what users have.
func Ship(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "firedrill")
	build := exec.Command("go", "run", "firedrill/tools/build", "-o", path)
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("build: %v\n%s", err, out)
	}
	return path
}
