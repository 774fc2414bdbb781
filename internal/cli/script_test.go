package cli

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"firedrill/internal/verdict/verdicttest"
)

// The scripts are in testdata/script. Beside testscript's own commands they know:
//
//	exits CODE firedrill ARG...   run it; the exit code must be this one, nothing may be a fault of our own, and JSON must be as its schema says
//	json FILE                     the file (or stdout) must be valid JSON, or JSON lines
//
// In each script's directory lie logs of runs that tell a story: passed.jsonl, failed.jsonl, inconclusive.jsonl, residue.jsonl.
func TestScripts(t *testing.T) {
	drills, err := filepath.Abs("../../drills")
	if err != nil {
		t.Fatal(err)
	}
	logs := map[string]string{}
	for name, twist := range map[string]verdicttest.Twist{
		"passed": verdicttest.NoTwist, "failed": verdicttest.FrozenDNS, "inconclusive": verdicttest.Toothless, "residue": verdicttest.Residue,
	} {
		logs[name+".jsonl"] = writeStory(t, twist)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "json": validJSON},
		Setup: func(env *testscript.Env) error {
			env.Setenv("DRILLS", drills)
			for name, log := range logs {
				text, err := os.ReadFile(log)
				if err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(env.WorkDir, name), text, 0o600); err != nil {
					return err
				}
			}
			return nil
		},
	})
}

func exits(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	if neg || err != nil || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM [ARG...]")
	}
	code := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		var ended *exec.ExitError
		if !errors.As(err, &ended) {
			ts.Fatalf("%v", err)
		}
		code = ended.ExitCode()
	}
	if code != want {
		ts.Fatalf("exit code %d, not %d", code, want)
	}
	if args[1] == "firedrill" {
		ts.Check(fits(args[2:], ts.ReadFile("stdout")))
	}
	if told := ts.ReadFile("stderr"); want != exitInternal && (strings.Contains(told, "fault of our own") || strings.Contains(told, "goroutine ")) {
		ts.Fatalf("it broke:\n%s", told)
	}
}

func validJSON(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: json FILE")
	}
	decoder := json.NewDecoder(strings.NewReader(ts.ReadFile(args[0])))
	values := 0
	for decoder.More() {
		var value any
		ts.Check(decoder.Decode(&value))
		values++
	}
	if values == 0 {
		ts.Fatalf("%s holds no JSON", args[0])
	}
}
