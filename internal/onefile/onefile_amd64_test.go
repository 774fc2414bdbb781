package onefile

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// linked builds a program that says its name and its arguments, at the given address.
func linked(t *testing.T, name, address string) []byte {
	t.Helper()
	dir := t.TempDir()
	source := fmt.Sprintf("package main\n\nimport (\n\t\"fmt\"\n\t\"os\"\n)\n\nvar big [1 << 20]byte\n\nfunc main() {\n\tbig[len(os.Args)] = 1\n\tfmt.Printf(\"%s %%q\\n\", os.Args[1:])\n}\n", name)
	for file, text := range map[string]string{"main.go": source, "go.mod": "module " + name + "\n\ngo 1.26\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-ldflags=-s -w -T "+address, "-o", "program", ".")
	build.Dir, build.Env = dir, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	program, err := os.ReadFile(filepath.Join(dir, "program"))
	if err != nil {
		t.Fatal(err)
	}
	return program
}

const low, middle, high = "0x401000", "0x10001000", "0x20001000"

func executable(t *testing.T, file []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "joined")
	if err := os.WriteFile(path, file, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEachCommandLineStartsItsProgram(t *testing.T) {
	attack, host, whole := linked(t, "attack", low), linked(t, "host", middle), linked(t, "whole", high)
	rules := []Rule{{Index: 0, Word: "a link", To: Host}, {Index: 2, Word: "list", To: Whole}, {Index: 1, Word: "attack", To: Attack}, {Index: 1, Word: "halt", To: Host}}
	joined, err := Join(attack, host, whole, rules)
	if err != nil {
		t.Fatal(err)
	}
	path := executable(t, joined)
	for _, test := range []struct {
		args []string // with the name
		want string
	}{
		{[]string{"x"}, "whole []"},
		{[]string{"x", "attack"}, `attack ["attack"]`},
		{[]string{"x", "attack", "blackhole", "-l", "1"}, `attack ["attack" "blackhole" "-l" "1"]`},
		{[]string{"x", "attack", "list"}, `whole ["attack" "list"]`},
		{[]string{"x", "attack", "lists"}, `attack ["attack" "lists"]`},
		{[]string{"x", "attac"}, `whole ["attac"]`},
		{[]string{"x", "attacks"}, `whole ["attacks"]`},
		{[]string{"x", ""}, `whole [""]`},
		{[]string{"x", "halt"}, `host ["halt"]`},
		{[]string{"x", "version", "attack"}, `whole ["version" "attack"]`},
		{[]string{"a link"}, "host []"},
		{[]string{"a link", "version"}, `host ["version"]`},
	} {
		command := &exec.Cmd{Path: path, Args: test.args}
		out, err := command.CombinedOutput()
		if got := strings.TrimSpace(string(out)); got != test.want || err != nil {
			t.Errorf("%q: got %q, %v, want %q", test.args, got, err, test.want)
		}
	}
}

// The kernel starts a program without any argument with one that is empty, so no rule may read past the arguments there are.
func TestNoArgumentsStartTheWholeProgram(t *testing.T) {
	joined, err := Join(linked(t, "attack", low), linked(t, "host", middle), linked(t, "whole", high), []Rule{{Index: 3, Word: "HOME=/", To: Host}})
	if err != nil {
		t.Fatal(err)
	}
	// argv[1] is the NULL behind the arguments; the environment stands above it.
	out, err := (&exec.Cmd{Path: executable(t, joined), Args: []string{"x"}, Env: []string{"HOME=/", "HOME=/", "HOME=/"}}).CombinedOutput()
	if got := strings.TrimSpace(string(out)); got != "whole []" || err != nil {
		t.Errorf("got %q, %v: the environment was read as arguments", got, err)
	}
}

func TestHostGivesTheHostPartBack(t *testing.T) {
	host := linked(t, "host", middle)
	joined, err := Join(linked(t, "attack", low), host, linked(t, "whole", high), nil)
	if err != nil {
		t.Fatal(err)
	}
	part, ok, err := HostPart(bytes.NewReader(joined), int64(len(joined)))
	if err != nil || !ok {
		t.Fatalf("HostPart: %v, %v", ok, err)
	}
	var got bytes.Buffer
	if _, err := got.ReadFrom(part); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), host) {
		t.Error("the host part is not what was put in")
	}
	if out, err := exec.Command(executable(t, got.Bytes()), "x").CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != `host ["x"]` {
		t.Errorf("alone it says %s, %v", out, err)
	}
	if _, ok, err := HostPart(bytes.NewReader(host), int64(len(host))); ok || err != nil {
		t.Errorf("a plain program: joined %v, %v", ok, err)
	}
	if _, ok, _ := HostPart(bytes.NewReader(nil), 0); ok {
		t.Error("an empty file is taken for a joined one")
	}
	broken := bytes.Clone(joined)
	for i := range 8 {
		broken[len(broken)-len(magic)-8+i] = 0xff
	}
	if _, _, err := HostPart(bytes.NewReader(broken), int64(len(broken))); err == nil {
		t.Error("a length beyond the file is taken")
	}
}

func TestJoinRefusesWhatCannotRun(t *testing.T) {
	attack, host, whole := linked(t, "attack", low), linked(t, "host", middle), linked(t, "whole", high)
	for name, test := range map[string]struct {
		attack, host, whole []byte
		rules               []Rule
		want                string
	}{
		"same addresses": {attack, attack, whole, nil, "overlap"},
		"order":          {host, attack, whole, nil, "overlap"},
		"no program":     {attack, []byte("#!/bin/sh\n"), whole, nil, "the host part"},
		"empty word":     {attack, host, whole, []Rule{{Index: 1}}, "rule"},
		"far argument":   {attack, host, whole, []Rule{{Index: 1000, Word: "x"}}, "rule"},
		"no such part":   {attack, host, whole, []Rule{{Index: 1, Word: "x", To: 9}}, "rule"},
	} {
		if _, err := Join(test.attack, test.host, test.whole, test.rules); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: got %v, want an error with %q", name, err, test.want)
		}
	}
}
