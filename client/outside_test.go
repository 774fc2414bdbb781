package client

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The program of docs/fleet.md is built as a module of somebody else, as it is told there.
func TestTheProgramOfThePageIsBuiltOutsideOfTheModule(t *testing.T) {
	t.Parallel()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "fleet.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begins := strings.Cut(string(page), "```go\n")
	program, _, ends := strings.Cut(rest, "```")
	if !begins || !ends || strings.Contains(rest, "```go\n") {
		t.Fatal("docs/fleet.md does not have one program")
	}
	sums, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	directory := t.TempDir()
	for name, text := range map[string]string{"main.go": program, "go.mod": "module example.com/ours\n\ngo 1.26.0\n", "go.sum": string(sums)} {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"mod", "edit", "-require", "firedrill@v0.0.0", "-replace", "firedrill=" + root}, {"build", "-mod=mod", "-o", os.DevNull, "."}} {
		command := exec.Command("go", args...)
		command.Dir = directory
		command.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=")
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}
