package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

const (
	database = "golang.org/x/vulndb"
	checker  = "golang.org/x/vuln/cmd/govulncheck@v1.9.0"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "vuln:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	reasons, err := readExplained(filepath.Join("tools", "vuln", "explained"))
	if err != nil {
		return err
	}
	directory, err := os.MkdirTemp("", "firedrill-vuln-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(directory)
	module, err := newest(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("the database is %s %s\n", database, module.Version)
	if _, err := command(ctx, "go", "run", database+"/cmd/indexdb@"+module.Version, "-vulns", filepath.Join(module.Dir, "data", "osv"), "-out", directory); err != nil {
		return err
	}
	text, err := command(ctx, "go", "run", checker, "-db", "file://"+directory, "-format", "json", "./...")
	if err != nil {
		return err
	}
	found, err := read(bytes.NewReader(text))
	if err != nil {
		return err
	}
	for _, id := range slices.Sorted(maps.Keys(found)) {
		fmt.Println(found[id])
	}
	if err := judge(found, reasons); err != nil {
		return err
	}
	fmt.Println("nothing that is called is known to be vulnerable, but for what is explained")
	return nil
}

// newest is the database of today.
func newest(ctx context.Context) (module struct{ Version, Dir string }, err error) {
	text, err := command(ctx, "go", "mod", "download", "-json", database+"@latest")
	if err != nil {
		return module, err
	}
	if err := json.Unmarshal(text, &module); err != nil || module.Dir == "" {
		return module, fmt.Errorf("what go mod download says of %s is not understood: %w", database, err)
	}
	return module, nil
}

// command runs one with the toolchain that go.mod names, and returns what it prints.
func command(ctx context.Context, name string, arguments ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, name, arguments...)
	c.Env = append(os.Environ(), "GOTOOLCHAIN=auto", "GOFLAGS=")
	c.Stderr = os.Stderr
	text, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(c.Args, " "), err)
	}
	return text, nil
}

// finding is one vulnerability.
type finding struct {
	id     string
	where  string // module and version that has it
	fixed  string // version without it; empty: there is none
	called string // the function of ours that reaches it; empty: no code that has it is called
}

func (f finding) String() string {
	fixed, called := "in no version yet", "not called"
	if f.fixed != "" {
		fixed = "in " + f.fixed
	}
	if f.called != "" {
		called = "called from " + f.called
	}
	return fmt.Sprintf("%s: %s, fixed %s, %s (https://pkg.go.dev/vuln/%s)", f.id, f.where, fixed, called, f.id)
}

// message is what govulncheck says of one thing: https://pkg.go.dev/golang.org/x/vuln/internal/govulncheck#Message.
type message struct {
	Finding *struct {
		OSV   string `json:"osv"`
		Fixed string `json:"fixed_version"`
		Trace []struct {
			Module   string `json:"module"`
			Version  string `json:"version"`
			Package  string `json:"package"`
			Function string `json:"function"`
			Receiver string `json:"receiver"`
		} `json:"trace"` // from what has it to what calls it
	} `json:"finding"`
	SBOM *struct {
		GoVersion string `json:"go_version"`
	} `json:"SBOM"`
}

// read gathers the findings, one for each vulnerability: called, where any trace of it is. A text that does not say what was looked at is an error: no finding
// would be no news.
func read(text io.Reader) (map[string]finding, error) {
	found := map[string]finding{}
	looked := false
	for decoder := json.NewDecoder(text); ; {
		var m message
		if err := decoder.Decode(&m); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("what govulncheck prints is not understood: %w", err)
		}
		if m.SBOM != nil {
			looked = true
			fmt.Printf("the standard library is that of %s\n", m.SBOM.GoVersion)
		}
		if m.Finding == nil || len(m.Finding.Trace) == 0 {
			continue
		}
		first, last := m.Finding.Trace[0], m.Finding.Trace[len(m.Finding.Trace)-1]
		f := finding{id: m.Finding.OSV, where: first.Module + " " + first.Version, fixed: m.Finding.Fixed}
		if first.Function != "" {
			f.called = last.Package + "." + last.Function
		}
		if had, is := found[f.id]; !is || had.called == "" {
			found[f.id] = f
		}
	}
	if !looked {
		return nil, errors.New("govulncheck does not say what it looked at")
	}
	return found, nil
}

// judge holds what was found against what is explained.
func judge(found map[string]finding, reasons map[string]string) error {
	var problems []error
	for _, id := range slices.Sorted(maps.Keys(found)) {
		if found[id].called != "" && reasons[id] == "" {
			problems = append(problems, fmt.Errorf("%s is called: take a version without it, or say in tools/vuln/explained why it harms nobody", id))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(reasons)) {
		if found[id].called == "" {
			problems = append(problems, fmt.Errorf("%s is explained, and not called: remove its line from tools/vuln/explained", id))
		}
	}
	return errors.Join(problems...)
}

// readExplained reads a line for each vulnerability that may be there: its name, and why.
func readExplained(path string) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	reasons := map[string]string{}
	for number, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		id, why, _ := strings.Cut(line, " ")
		if why = strings.TrimSpace(why); why == "" || reasons[id] != "" {
			return nil, fmt.Errorf("%s:%d: write each name once, and after it why it harms nobody", path, number+1)
		}
		reasons[id] = why
	}
	return reasons, nil
}
