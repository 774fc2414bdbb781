//go:build engines

// Package ci holds the wiring for CI servers, and these tests run it in their engines: make ci-engines.
package ci

import (
	"bufio"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Versions of the engines. They are tools for a test, not dependencies: they stand in no go.mod.
const (
	actModule    = "github.com/nektos/act@v0.2.89"
	gitlabModule = "gitlab-ci-local@4.61.1"
	engineMax    = 10 * time.Minute // getting an engine, building it, and running it on a busy machine
)

// standIn is a program in the place of firedrill that leaves the log of a real run and ends as judging that log does. Everything but the
// pipeline itself is done by the real program: the reports, the annotations, the exit status.
const standIn = `#!/bin/bash
set -u
case $1 in
pipeline | run) ;;
*) exec "$REAL_FIREDRILL" "$@" ;;
esac
printf '%s\n' "$*" >>"$STAND_IN_CALLS"
while [ $# -gt 0 ]; do
  case $1 in --out) out=$2; shift ;; esac
  shift
done
[ -n "${STAND_IN_USAGE:-}" ] && exit 2
run="$out/20261123T120000Z-0a1b2c"
mkdir -p "$run"
cp "$STAND_IN_LOG" "$run/run.jsonl"
for pair in html:report.html markdown:report.md junit:junit.xml json:verdict.json; do
  "$REAL_FIREDRILL" report "$run/run.jsonl" --format "${pair%%:*}" --out "$run/${pair#*:}" || exit 70
done
exec "$REAL_FIREDRILL" judge "$run/run.jsonl"
`

// engine returns where engines are kept, and says that one cannot be had in place of pretending.
func engine(t *testing.T, name, program string, get func(ctx context.Context, directory string) *exec.Cmd) string {
	t.Helper()
	directory := os.Getenv("FIREDRILL_ENGINES")
	if directory == "" {
		directory = filepath.Join(t.TempDir(), "engines")
	}
	program = filepath.Join(directory, program)
	if _, err := os.Stat(program); err == nil {
		return program
	}
	ctx, cancel := context.WithTimeout(t.Context(), engineMax)
	defer cancel()
	if output, err := get(ctx, directory).CombinedOutput(); err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), name) {
			t.Fatalf("%s cannot be had: %v\n%s", name, err, output)
		}
		t.Skipf("%s cannot be had: %v", name, err)
	}
	return program
}

// world is a repository of a user, with our wiring in it.
type world struct {
	directory, calls string
	environment      []string
}

func newWorld(t *testing.T, log string, files map[string]string) world {
	t.Helper()
	root := t.TempDir()
	w := world{directory: filepath.Join(root, "repository"), calls: filepath.Join(root, "calls")}
	real := filepath.Join(root, "firedrill")
	build := exec.Command("go", "run", "firedrill/tools/build", "-o", real)
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	if err := os.MkdirAll(w.directory, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(w.directory, "ci"), os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(root, "stand-in")
	files["firedrill.yaml"] = "service: bookstore\n"
	for name, text := range files {
		path := filepath.Join(w.directory, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(strings.ReplaceAll(text, "@STAND-IN@", program)), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(program, []byte(standIn), 0o755); err != nil {
		t.Fatal(err)
	}
	home := filepath.Join(root, "home")
	if err := os.Mkdir(home, 0o755); err != nil {
		t.Fatal(err)
	}
	w.environment = append(os.Environ(), "HOME="+home, "REAL_FIREDRILL="+real, "STAND_IN_LOG="+log, "STAND_IN_CALLS="+w.calls)
	for _, arguments := range [][]string{
		{"init", "-q", "-b", "main"}, {"add", "-A"}, {"-c", "user.name=t", "-c", "user.email=t@example.test", "commit", "-q", "-m", "all"},
		{"remote", "add", "origin", "https://git.example.test/shop/bookstore.git"},
	} {
		git := exec.Command("git", arguments...)
		git.Dir, git.Env = w.directory, w.environment
		if output, err := git.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", arguments, err, output)
		}
	}
	return w
}

// run starts an engine and returns its output and whether the job passed.
func (w world) run(t *testing.T, name string, arguments ...string) (string, bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), engineMax)
	defer cancel()
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, name, arguments...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = w.directory, w.environment, &output, &output
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s: %v\n%s", name, err, output.String())
	}
	return output.String(), err == nil
}

// logs are the runs that the engines are shown: a passed one, and one that is cut short, which proves nothing.
func logs(t *testing.T) (passed, cut string) {
	t.Helper()
	passed, err := filepath.Abs("../internal/report/testdata/run.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(passed)
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	cut = filepath.Join(t.TempDir(), "cut.jsonl")
	if err := os.WriteFile(cut, bytes.Join(lines[:len(lines)/2], nil), 0o644); err != nil {
		t.Fatal(err)
	}
	return passed, cut
}

const githubWorkflow = `on: push
jobs:
  deploy:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - id: drill
        uses: ./ci/github
        with: {file: firedrill.yaml, program: "@STAND-IN@", revision: "a b$(touch pwned)"}
      - if: always()
        shell: bash
        env: {OUTCOME: "${{ steps.drill.outputs.outcome }}", DIRECTORY: "${{ steps.drill.outputs.directory }}", CODE: "${{ steps.drill.outputs.exit-code }}"}
        run: |
          echo "told outcome=$OUTCOME code=$CODE directory=${DIRECTORY##*/}"
          ls "$DIRECTORY"
`

func getAct(ctx context.Context, directory string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", "install", actModule)
	cmd.Dir = os.TempDir() // outside of our module
	cmd.Env = append(os.Environ(), "GOBIN="+directory, "GOFLAGS=")
	return cmd
}

func TestGitHubActionGatesSummarisesAndAnnotates(t *testing.T) {
	act := engine(t, "act", "act", getAct)
	passed, cut := logs(t)
	for _, test := range []struct {
		name, log, usage string
		passes           bool
		want             []string
	}{
		{"passed", passed, "", true, []string{"::notice title=bookstore%3A passed::", "told outcome=passed code=0 directory=20261123T120000Z-0a1b2c", "report.html"}},
		{"inconclusive", cut, "", false, []string{"::error title=bookstore%3A inconclusive::", "told outcome=inconclusive code=3"}},
		{"no run", passed, "1", false, []string{"::error title=firedrill::No run: usage (exit status 2)", "told outcome=usage code=2 directory="}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, test.log, map[string]string{".github/workflows/deploy.yml": githubWorkflow})
			if test.usage != "" {
				w.environment = append(w.environment, "STAND_IN_USAGE=1")
			}
			output, ok := w.run(t, act, "push", "-P", "ubuntu-latest=-self-hosted", "--pull=false")
			if ok != test.passes {
				t.Errorf("the job passed: %t\n%s", ok, output)
			}
			for _, want := range test.want {
				if !strings.Contains(output, want) {
					t.Errorf("the log lacks %q:\n%s", want, output)
				}
			}
			calls, err := os.ReadFile(w.calls)
			if err != nil || !strings.Contains(string(calls), "--revision=a b$(touch pwned)") {
				t.Errorf("called with %q (%v)", calls, err)
			}
			if _, err := os.Stat(filepath.Join(w.directory, "pwned")); err == nil {
				t.Error("an input ran as a command")
			}
		})
	}
}

// TestGitHubScriptWritesTheSummary runs the script as the runner does: act keeps the summary to itself.
func TestGitHubScriptWritesTheSummary(t *testing.T) {
	passed, _ := logs(t)
	w := newWorld(t, passed, map[string]string{"program": "@STAND-IN@"})
	program, err := os.ReadFile(filepath.Join(w.directory, "program"))
	if err != nil {
		t.Fatal(err)
	}
	summary := filepath.Join(t.TempDir(), "summary.md")
	w.environment = append(w.environment, "GITHUB_STEP_SUMMARY="+summary, "GITHUB_OUTPUT="+filepath.Join(t.TempDir(), "output"),
		"FIREDRILL_PROGRAM="+string(program), "FIREDRILL_FILE=firedrill.yaml", "FIREDRILL_OUT=out", "FIREDRILL_DRILL=-x y", "FIREDRILL_REVISION=")
	if output, ok := w.run(t, "bash", "ci/github/run.sh"); !ok {
		t.Errorf("failed:\n%s", output)
	}
	text, err := os.ReadFile(summary)
	if err != nil || !strings.Contains(string(text), "bookstore: PASSED") {
		t.Errorf("the summary is %q (%v)", text, err)
	}
	if calls, err := os.ReadFile(w.calls); err != nil || !strings.HasSuffix(string(calls), "-- -x y\n") {
		t.Errorf("called with %q (%v)", calls, err)
	}
}

// patient is a firedrill that takes its time to revert.
const patient = `#!/bin/bash
trap 'sleep 0.3; echo reverted; exit 143' TERM
echo in force
while :; do sleep 0.05; done
`

func TestGitHubScriptPassesTheSignalOnAndWaits(t *testing.T) {
	root := t.TempDir()
	program := filepath.Join(root, "patient")
	if err := os.WriteFile(program, []byte(patient), 0o755); err != nil {
		t.Fatal(err)
	}
	script, err := filepath.Abs("github/run.sh")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), engineMax)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", script)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "FIREDRILL_PROGRAM="+program, "FIREDRILL_FILE=f", "FIREDRILL_OUT=out", "GITHUB_OUTPUT=", "GITHUB_STEP_SUMMARY=")
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var output strings.Builder
	lines := bufio.NewScanner(pipe)
	for lines.Scan() {
		output.WriteString(lines.Text() + "\n")
		if lines.Text() == "in force" {
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}
	}
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 143 || !strings.Contains(output.String(), "reverted") {
		t.Errorf("exit status %d:\n%s", code, output.String())
	}
}

const gitlabFile = `include:
  - local: ci/gitlab/firedrill.gitlab-ci.yml
deploy:
  extends: .firedrill
  variables: {FIREDRILL_PROGRAM: "@STAND-IN@", FIREDRILL_REVISION: "a b"}
`

func getGitLab(ctx context.Context, directory string) *exec.Cmd {
	return exec.CommandContext(ctx, "npm", "install", "--no-fund", "--no-audit", "--prefix", filepath.Join(directory, "glci"), gitlabModule)
}

func TestGitLabJobGatesAndKeepsItsReports(t *testing.T) {
	gitlab := engine(t, "gitlab", "glci/node_modules/.bin/gitlab-ci-local", getGitLab)
	passed, cut := logs(t)
	for _, test := range []struct {
		name, log string
		passes    bool
		want      string
	}{{"passed", passed, true, "bookstore: PASSED"}, {"inconclusive", cut, false, "bookstore: INCONCLUSIVE"}} {
		t.Run(test.name, func(t *testing.T) {
			w := newWorld(t, test.log, map[string]string{".gitlab-ci.yml": gitlabFile})
			output, ok := w.run(t, gitlab, "--force-shell-executor", "--shell-isolation", "deploy")
			if ok != test.passes {
				t.Errorf("the job passed: %t\n%s", ok, output)
			}
			if !strings.Contains(output, test.want) {
				t.Errorf("the log lacks %q:\n%s", test.want, output)
			}
			if calls, err := os.ReadFile(w.calls); err != nil || !strings.Contains(string(calls), "--revision=a b") {
				t.Errorf("called with %q (%v)", calls, err)
			}
			for _, name := range []string{"junit.xml", "report.md", "report.html", "run.jsonl"} {
				if kept := find(t, filepath.Join(w.directory, ".gitlab-ci-local", "artifacts"), name); kept == "" {
					t.Errorf("%s is not among the artefacts", name)
				}
			}
			checkJUnit(t, find(t, filepath.Join(w.directory, ".gitlab-ci-local", "artifacts"), "junit.xml"), test.passes)
		})
	}
}

// find returns a file below a directory by its name.
func find(t *testing.T, directory, name string) string {
	t.Helper()
	found := ""
	_ = filepath.WalkDir(directory, func(path string, _ os.DirEntry, err error) error {
		if err == nil && filepath.Base(path) == name {
			found = path
		}
		return nil
	})
	return found
}

func checkJUnit(t *testing.T, path string, passes bool) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	var suites struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
	}
	if err := xml.Unmarshal(text, &suites); err != nil || suites.Tests == 0 || (suites.Failures+suites.Errors == 0) != passes {
		t.Errorf("JUnit of a job that passes %t: %+v %v", passes, suites, err)
	}
}
