package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestUnitsAreWhatSystemdReads has the units that are shipped read by systemd itself, and one with a planted mistake refused.
func TestUnitsAreWhatSystemdReads(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "systemd") {
			t.Fatal(err)
		}
		t.Skip("systemd-analyze is not installed: apt-get install systemd")
	}
	units, err := filepath.Glob("../../packaging/*.service")
	if err != nil || len(units) == 0 {
		t.Fatalf("no units: %v", err)
	}
	// A tree with the units that ours stand on, and our program where they expect it.
	root := t.TempDir()
	own, program := filepath.Join(root, "etc/systemd/system"), filepath.Join(root, "usr/bin/firedrill")
	if err := errors.Join(
		os.MkdirAll(own, 0o755), os.MkdirAll(filepath.Dir(program), 0o755), os.WriteFile(program, []byte("#!/bin/sh\n"), 0o755),
		exec.Command("cp", "-r", "--parents", "/usr/lib/systemd/system", root).Run(),
	); err != nil {
		t.Fatal(err)
	}
	verify := func(name, text string) (string, bool) {
		if err := os.WriteFile(filepath.Join(own, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		output, err := exec.Command(analyze, "verify", "--man=no", "--root="+root, name).CombinedOutput()
		return string(output), err == nil && strings.TrimSpace(string(output)) == ""
	}
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		if said, clean := verify(filepath.Base(unit), string(text)); !clean {
			t.Errorf("%s:\n%s", unit, said)
		}
		for old, planted := range map[string]string{"\nExecStart=/usr/bin/": "\nExecStart=/usr/nowhere/", "\n[Service]\n": "\n[Service]\nRestrat=always\n"} {
			if _, clean := verify("planted.service", strings.Replace(string(text), old, planted, 1)); clean {
				t.Errorf("%s with %q in place of %q is taken for clean", unit, planted, old)
			}
		}
	}
}
