//go:build engines

package ci

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// site is a lab in which the CI server stands beside the hosts that it deploys to: the engines run on its host ci, the pipeline is real.
type site struct {
	program, topology string
}

const (
	shopDirectory = "/srv/shop" // the repository that the CI server checks out
	engineHome    = "/srv/engines"
)

// siteRepository makes versions 6 to 9 of the application.
const siteRepository = `set -e
cd /srv/bookstore_api
export GIT_AUTHOR_NAME=b GIT_AUTHOR_EMAIL=b@example.test GIT_COMMITTER_NAME=b GIT_COMMITTER_EMAIL=b@example.test
git init -q -b main .
for v in 6 7 8 9; do
  sed -i "s/^version: .*/version: $v/" bookstore.yaml
  git add -A && git commit -q -m "version $v" && git tag "v$v"
done
mkdir -p ` + shopDirectory + ` ` + engineHome

// shopRepository makes a repository of what lies there.
const shopRepository = `set -e
cd ` + shopDirectory + `
git init -q -b main . && git add -A && git -c user.name=b -c user.email=b@example.test commit -q -m all
git remote add origin https://git.example.test/shop/bookstore.git`

// upSite brings the lab up with the given files in the repository, and the engines where a CI server has them.
func upSite(t *testing.T, files map[string]string, engines ...string) site {
	t.Helper()
	root := t.TempDir()
	s := site{program: filepath.Join(root, "firedrill"), topology: filepath.Join(root, "topology.yaml")}
	build := exec.Command("go", "build", "-o", s.program, "firedrill")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, output)
	}
	small := os.DirFS("../internal/e2e/testdata/small")
	topology, err := fs.ReadFile(small, "topology.yaml")
	if err != nil {
		t.Fatal(err)
	}
	service, err := fs.ReadFile(small, "firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	zone, err := os.ReadFile("../drills/bookstore/zone.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(
		os.WriteFile(s.topology, bytes.Replace(topology, []byte("lab: LAB"), fmt.Appendf(nil, "lab: site-%d", os.Getpid()), 1), 0o644),
		os.WriteFile(filepath.Join(root, "firedrill.yaml"), service, 0o644), os.WriteFile(filepath.Join(root, "zone.yaml"), zone, 0o644),
		os.CopyFS(filepath.Join(root, "app"), os.DirFS("../drills/bookstore/app")),
	); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = exec.Command(s.program, "lab", "down", s.topology).Run() })
	if output, err := exec.Command(s.program, "lab", "up", s.topology).CombinedOutput(); err != nil {
		t.Fatalf("lab up: %v\n%s", err, output)
	}
	s.must(t, "sh", "-c", siteRepository)
	repository := filepath.Join(root, "shop")
	files["firedrill.yaml"] = string(service)
	for name, text := range files {
		path := filepath.Join(repository, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(filepath.Join(repository, "ci"), os.DirFS(".")); err != nil {
		t.Fatal(err)
	}
	s.send(t, repository, shopDirectory)
	for _, engine := range engines {
		s.send(t, engine, engineHome)
	}
	s.must(t, "sh", "-c", shopRepository)
	s.must(t, "firedrill", "deploy", "--first", "--revision", "v6", "--file", "/etc/firedrill/firedrill.yaml", "--out", "/tmp/first", "blue", "green")
	return s
}

// command is a command on the CI server's host.
func (s site) command(ctx context.Context, host string, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, s.program, append([]string{"lab", "exec", s.topology, host, "--"}, args...)...)
}

// on runs a command to its end, with what it said.
func (s site) on(t *testing.T, host string, args ...string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), engineMax)
	defer cancel()
	output, err := s.command(ctx, host, args...).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return exit.ExitCode(), string(output)
	case err != nil:
		t.Fatalf("%v: %v\n%s", args, err, output)
	}
	return 0, string(output)
}

func (s site) must(t *testing.T, args ...string) string {
	t.Helper()
	code, output := s.on(t, "ci", args...)
	if code != 0 {
		t.Fatalf("%v: exit status %d\n%s", args, code, output)
	}
	return output
}

// send copies a file or a directory to the CI server's host: a directory's content, with links as they are.
func (s site) send(t *testing.T, from, to string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), engineMax)
	defer cancel()
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(packed(writer, from)) }()
	cmd := s.command(ctx, "ci", "tar", "-x", "-C", to)
	cmd.Stdin = reader
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("send %s: %v\n%s", from, err, output)
	}
}

func packed(out io.Writer, from string) error {
	root := from
	if about, err := os.Stat(from); err != nil {
		return err
	} else if !about.IsDir() {
		root = filepath.Dir(from)
	}
	archive := tar.NewWriter(out)
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		about, err := entry.Info()
		if err != nil {
			return err
		}
		link := ""
		if about.Mode()&fs.ModeSymlink != 0 {
			if link, err = os.Readlink(path); err != nil {
				return err
			}
		}
		header, err := tar.FileInfoHeader(about, link)
		if err != nil {
			return err
		}
		if header.Name, err = filepath.Rel(root, path); err != nil {
			return err
		}
		if err := archive.WriteHeader(header); err != nil || !about.Mode().IsRegular() {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		_, err = io.Copy(archive, file)
		return err
	})
	return errors.Join(err, archive.Close())
}

// served is which environment is answered, and which version the two serve.
func (s site) served(t *testing.T) string {
	t.Helper()
	return strings.Join(strings.Fields(s.must(t, "sh", "-c", `case $(dig +short @10.77.0.53 bookstore.example.test) in 10.77.1.10) echo blue ;; 10.77.1.20) echo green ;; esac
for address in 10.77.1.10 10.77.1.20; do curl -sS http://$address/version | sed 's/.*"version":\([0-9]*\).*/ \1/'; done`)), " ")
}

// leftOver is what the kernels of the two hosts still hold of an attack.
func (s site) leftOver(t *testing.T) string {
	t.Helper()
	var left string
	for _, host := range []string{"blue", "green"} {
		if _, rules := s.on(t, host, "nft", "list", "ruleset"); strings.Contains(rules, "firedrill") {
			left += host + ":\n" + rules
		}
	}
	return left
}

const siteWorkflow = `on: push
jobs:
  deploy:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - id: drill
        uses: ./ci/github
        with: {file: @FILE@, revision: @REVISION@}
      - if: always()
        shell: bash
        env: {OUTCOME: "${{ steps.drill.outputs.outcome }}", DIRECTORY: "${{ steps.drill.outputs.directory }}", CODE: "${{ steps.drill.outputs.exit-code }}"}
        run: |
          echo "told outcome=$OUTCOME code=$CODE"
          mkdir -p /tmp/kept && cp "$DIRECTORY"/* /tmp/kept/
`

func workflow(file, revision string) string {
	return strings.NewReplacer("@FILE@", file, "@REVISION@", revision).Replace(siteWorkflow)
}

// failing is the service with a pipeline whose last drill cannot pass.
func failing(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../internal/e2e/testdata/small/firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(string(text), "pipeline: [deploy idle, drill lose-db on idle, promote]", "pipeline: [deploy idle, promote, drill never on active]", 1)
}

// TestGitHubActionRunsTheRealPipeline runs the action in act, on a host that reaches the others over SSH: a deployment that passes, one whose
// gate says no and is taken back, and one that the server calls off.
func TestGitHubActionRunsTheRealPipeline(t *testing.T) {
	act := engine(t, "act", "act", getAct)
	s := upSite(t, map[string]string{
		".github/workflows/pass.yml": workflow("firedrill.yaml", "v7"), ".github/workflows/fail.yml": workflow("failing.yaml", "v8"),
		"failing.yaml": failing(t),
	}, act)
	run := func(name string) (int, string) {
		return s.on(t, "ci", "sh", "-c", "rm -rf /tmp/kept; cd "+shopDirectory+" && HOME=/root exec "+engineHome+"/act push -W .github/workflows/"+name+" -P ubuntu-latest=-self-hosted --pull=false")
	}
	code, output := run("pass.yml")
	if code != 0 || !strings.Contains(output, "::notice title=bookstore%3A passed::") || !strings.Contains(output, "told outcome=passed code=0") {
		t.Fatalf("exit status %d\n%s", code, output)
	}
	if got := s.served(t); got != "green 6 7" {
		t.Errorf("served: %s", got)
	}
	s.checkKept(t, true)

	code, output = run("fail.yml")
	if code == 0 || !strings.Contains(output, "::error title=bookstore%3A failed::") || !strings.Contains(output, "told outcome=failed code=1") {
		t.Errorf("exit status %d\n%s", code, output)
	}
	if got := s.served(t); got != "green 6 7" {
		t.Errorf("after the gate said no, served: %s", got)
	}
	s.checkKept(t, false)

	s.calledOff(t, "cd "+shopDirectory+" && HOME=/root exec "+engineHome+"/act push -W .github/workflows/pass.yml -P ubuntu-latest=-self-hosted --pull=false")
}

// checkKept looks at the files of the run that the job kept.
func (s site) checkKept(t *testing.T, passes bool) {
	t.Helper()
	var suites struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
	}
	text := s.must(t, "cat", "/tmp/kept/junit.xml")
	if err := xml.Unmarshal([]byte(text), &suites); err != nil || suites.Tests == 0 || (suites.Failures+suites.Errors == 0) != passes {
		t.Errorf("JUnit of a job that passes %t: %+v %v", passes, suites, err)
	}
	word := map[bool]string{true: "bookstore: PASSED", false: "bookstore: FAILED"}[passes]
	if report := s.must(t, "cat", "/tmp/kept/report.md"); !strings.Contains(report, word) {
		t.Errorf("the report lacks %q:\n%s", word, report)
	}
	if code, _ := s.on(t, "ci", "firedrill", "judge", "/tmp/kept/run.jsonl"); (code == 0) != passes {
		t.Errorf("judged again: exit status %d", code)
	}
}

// calledOff starts a job and has the server call it off while the impact is in force: then nothing may be left on the hosts. How much the
// engine lets a job say at its end is its own affair.
func (s site) calledOff(t *testing.T, line string) {
	t.Helper()
	_, output := s.on(t, "ci", "sh", "-c", `sh -c '`+line+`' >/tmp/off.log 2>&1 & p=$!
for i in $(seq 900); do grep -q "in force   on" /tmp/off.log && break; sleep 0.1; done
grep -q "in force   on" /tmp/off.log || { cat /tmp/off.log; exit 9; }
kill -TERM $p; wait $p; echo "ended $?"; cat /tmp/off.log`)
	if !strings.Contains(output, "in force   on") {
		t.Fatalf("the job did not come to its attack:\n%s", output)
	}
	left := s.leftOver(t)
	for deadline := time.Now().Add(time.Minute); left != "" && time.Now().Before(deadline); left = s.leftOver(t) {
	}
	if left != "" {
		t.Errorf("left after the job was called off:\n%s\n%s", left, output)
	}
	t.Logf("%.400s", output)
}

// TestScriptsRevertFirstWhenTheServerSaysSo gives the real pipeline the signal of a server through each wiring's own script.
func TestScriptsRevertFirstWhenTheServerSaysSo(t *testing.T) {
	s := upSite(t, map[string]string{})
	_, output := s.on(t, "ci", "sh", "-c", `cd `+shopDirectory+`
export FIREDRILL_PROGRAM=firedrill FIREDRILL_FILE=firedrill.yaml FIREDRILL_OUT=/tmp/out FIREDRILL_REVISION=v7 GITHUB_OUTPUT=/tmp/output GITHUB_STEP_SUMMARY=/tmp/summary
bash ci/github/run.sh >/tmp/off.log 2>&1 & p=$!
for i in $(seq 900); do grep -q "in force   on" /tmp/off.log && break; sleep 0.1; done
kill -TERM $p; wait $p; echo "ended $?"; cat /tmp/off.log /tmp/output /tmp/summary`)
	for _, want := range []string{"ended 143", "(interrupted); nothing is left", "nothing in force: ok", "outcome=interrupted", "exit-code=143", "bookstore: INTERRUPTED"} {
		if !strings.Contains(output, want) {
			t.Errorf("it lacks %q:\n%s", want, output)
		}
	}
	if left := s.leftOver(t); left != "" {
		t.Errorf("left:\n%s", left)
	}
	if got := s.served(t); got != "blue 6 7" {
		t.Errorf("served: %s", got)
	}
	// The job that is started again goes on where this one was called off.
	if output := s.must(t, "sh", "-c", "cd "+shopDirectory+" && firedrill pipeline --resume /tmp/out/github-*/2* --out /tmp/out"); !strings.Contains(output, "── 2/3 drill lose-db on green") || !strings.Contains(output, "PASSED") {
		t.Errorf("%s", output)
	}
	if got := s.served(t); got != "green 6 7" {
		t.Errorf("after going on, served: %s", got)
	}
}

func TestGitLabJobRunsTheRealPipeline(t *testing.T) {
	gitlab := engine(t, "gitlab", "glci/node_modules/.bin/gitlab-ci-local", getGitLab)
	s := upSite(t, map[string]string{
		".gitlab-ci.yml": "include:\n  - local: ci/gitlab/firedrill.gitlab-ci.yml\ndeploy:\n  extends: .firedrill\n  variables: {FIREDRILL_REVISION: v7}\n" +
			"spoil:\n  extends: .firedrill\n  variables: {FIREDRILL_FILE: failing.yaml, FIREDRILL_REVISION: v8}\n",
		"failing.yaml": failing(t),
	}, filepath.Join(filepath.Dir(gitlab), "../.."))
	line := "cd " + shopDirectory + " && HOME=/root exec node " + engineHome + "/node_modules/.bin/gitlab-ci-local --force-shell-executor --shell-isolation "
	for _, test := range []struct {
		job, word, served string
		passes            bool
	}{{"deploy", "bookstore: PASSED", "green 6 7", true}, {"spoil", "bookstore: FAILED", "green 6 7", false}} {
		code, output := s.on(t, "ci", "sh", "-c", line+test.job)
		if (code == 0) != test.passes || !strings.Contains(output, test.word) {
			t.Fatalf("%s: exit status %d\n%s", test.job, code, output)
		}
		if got := s.served(t); got != test.served {
			t.Errorf("%s: served: %s", test.job, got)
		}
		s.must(t, "sh", "-c", "rm -rf /tmp/kept; mkdir /tmp/kept; cp $(find "+shopDirectory+"/.gitlab-ci-local/artifacts/"+test.job+" -type f | grep -E '/(junit.xml|report.md|run.jsonl)$') /tmp/kept/")
		s.checkKept(t, test.passes)
	}
	s.calledOff(t, line+"deploy")
}
