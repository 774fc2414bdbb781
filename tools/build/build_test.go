package main

import (
	"os/exec"
	"path/filepath"
	"strings"
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

// The part that starts first cannot read the rules of a host's owner: it must leave the attack to the one that can.
func TestRulesOfTheHostHoldInTheJoinedProgram(t *testing.T) {
	if testing.Short() {
		return // three builds
	}
	joined := filepath.Join(t.TempDir(), "firedrill")
	if err := build(joined); err != nil {
		t.Fatal(err)
	}
	const attacks = "drop egress to and ingress from 192.0.2.1"
	rules := func(text string) string {
		return "mkdir /etc/firedrill && echo '" + text + "' > /etc/firedrill/policy.yaml"
	}
	for write, want := range map[string]string{
		":":                        attacks,
		"mkdir /etc/firedrill":     attacks,
		rules("deny: blackhole"):   "this host denies blackhole",
		rules("deny: certificate"): attacks,
		rules("deny: nonsense"):    "there is no attack",
		"mkdir /etc/firedrill && ln -s /nowhere /etc/firedrill/policy.yaml": "symbolic link",
		"ln -s /nowhere /etc/firedrill":                                     "symbolic link",
		"ln -s /usr /etc/firedrill":                                         "symbolic link",
		"mkdir -m 777 /etc/firedrill":                                       "can be written by others",
	} {
		script := "mount -t tmpfs none /etc && " + write + ` && exec "$0" attack blackhole --dry-run -i 192.0.2.1`
		out, _ := exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, joined).CombinedOutput() // a refusal is an exit status too
		if !strings.Contains(string(out), want) {
			t.Errorf("after %q: %s\nwant: %s", write, out, want)
		}
	}
}
