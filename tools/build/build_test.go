package main

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// hostCommands are command lines for the host part: each must be known there, and say what the whole program says.
var hostCommands = [][]string{
	{"attack", "--help"}, {"attack", "blackhole", "--help"}, {"attack", "nonsense"}, {"attack", "blackhole", "--nonsense"}, {"attack"},
	{"halt", "--help"}, {"status", "--help"}, {"recover", "--help"}, {"probe", "--help"}, {"probe", "nonsense"},
}

func TestBothPartsSayTheSame(t *testing.T) {
	if testing.Short() {
		return // three builds
	}
	dir := t.TempDir()
	joined, plain := filepath.Join(dir, "firedrill"), filepath.Join(dir, "plain", "firedrill")
	if err := build(joined); err != nil {
		t.Fatal(err)
	}
	if err := goBuild(plain, "-ldflags=-s -w"); err != nil {
		t.Fatal(err)
	}
	for _, args := range append(hostCommands, []string{"attack", "list"}, []string{"version", "--json"}, []string{"help", "attack"}) {
		got, gotErr := exec.Command(joined, args...).CombinedOutput()
		want, wantErr := exec.Command(plain, args...).CombinedOutput()
		if string(got) != string(want) || (gotErr == nil) != (wantErr == nil) {
			t.Errorf("firedrill %q: got %v\n%s\nwant %v\n%s", args, gotErr, got, wantErr, want)
		}
	}
}
