//go:build engines

package ci

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// jenkins is how ci/testdata/jenkins.groovy is started, with a Java that is there: Debian's groovy takes the first word of another package.
const jenkins = `export JAVA_HOME=$(dirname "$(dirname "$(readlink -f "$(command -v java)")")"); exec groovy `

// groovy says that Jenkinsfiles cannot be run in place of pretending.
func groovy(t *testing.T) {
	t.Helper()
	for _, program := range []string{"groovy", "java"} {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "groovy") {
			t.Fatalf("%s is not installed: apt-get install groovy default-jre-headless", program)
		}
		t.Skipf("%s is not installed: apt-get install groovy default-jre-headless", program)
	}
}

// TestJenkinsfileRunsTheRealPipeline runs our Jenkinsfile on a host that reaches the others over SSH: a deployment that passes, one whose
// gate says no and is taken back, and one that the server aborts. Its post section keeps the reports of all three.
func TestJenkinsfileRunsTheRealPipeline(t *testing.T) {
	groovy(t)
	s := upSite(t, map[string]string{"failing.yaml": failing(t)})
	build := func(parameter string) string {
		return "cd " + shopDirectory + " && rm -rf /tmp/kept /tmp/archive && " + jenkins +
			"ci/testdata/jenkins.groovy ci/jenkins/Jenkinsfile . /tmp/archive " + parameter
	}
	kept := func() {
		s.must(t, "sh", "-c", "mkdir /tmp/kept && cp /tmp/archive/firedrill-out/*/* /tmp/kept/")
	}
	code, output := s.on(t, "ci", "sh", "-c", build("REVISION=v7"))
	if code != 0 || !strings.Contains(output, "Finished: SUCCESS") || !strings.Contains(output, "PASSED") {
		t.Fatalf("exit status %d\n%s", code, output)
	}
	if got := s.served(t); got != "green 6 7" {
		t.Errorf("served: %s", got)
	}
	kept()
	s.checkKept(t, true)

	s.must(t, "sh", "-c", "cd "+shopDirectory+" && cp firedrill.yaml good.yaml && cp failing.yaml firedrill.yaml")
	code, output = s.on(t, "ci", "sh", "-c", build("REVISION=v8"))
	if code != 1 || !strings.Contains(output, "Finished: FAILURE") || !strings.Contains(output, "script returned exit code 1") {
		t.Errorf("exit status %d\n%s", code, output)
	}
	if got := s.served(t); got != "green 6 7" {
		t.Errorf("after the gate said no, served: %s", got)
	}
	kept()
	s.checkKept(t, false)

	s.must(t, "sh", "-c", "cd "+shopDirectory+" && cp good.yaml firedrill.yaml")
	s.calledOff(t, build("REVISION=v7"))
	log := s.must(t, "cat", "/tmp/off.log")
	for _, want := range []string{"Sending interrupt signal", "nothing is left", "Archiving artifacts", "Finished: ABORTED"} {
		if !strings.Contains(log, want) {
			t.Errorf("the aborted build lacks %q:\n%s", want, log)
		}
	}
	if report := s.must(t, "sh", "-c", "cat /tmp/archive/firedrill-out/*/report.md"); !strings.Contains(report, "INTERRUPTED") {
		t.Errorf("the report of the aborted build:\n%s", report)
	}
}

// A step that the engine does not know, and a step that fails, are seen: an engine that passes everything would prove nothing of our file.
func TestJenkinsEngineFailsWhatJenkinsFails(t *testing.T) {
	groovy(t)
	engine, err := filepath.Abs("testdata/jenkins.groovy")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		file string
		code int
		says string
	}{
		"passes":                {`pipeline { agent { label 'x' }; stages { stage('a') { steps { sh 'echo hi' } } }; post { always { echo 'posted' } } }`, 0, "posted"},
		"an unknown step":       {`pipeline { agent { label 'x' }; stages { stage('a') { steps { slackSend 'hi' } } } }`, 2, "slackSend"},
		"an unknown argument":   {`pipeline { agent { label 'x' }; stages { stage('a') { steps { junit results: 'x' } } } }`, 2, "Invalid parameter"},
		"an unknown section":    {`pipeline { agent { label 'x' }; phases { }; stages { stage('a') { steps { sh 'true' } } } }`, 2, "phases"},
		"no agent":              {`pipeline { stages { stage('a') { steps { sh 'true' } } } }`, 2, "agent"},
		"a step that fails":     {`pipeline { agent { label 'x' }; stages { stage('a') { steps { sh 'exit 3' } } }; post { failure { echo 'posted' } } }`, 1, "posted"},
		"no test results":       {`pipeline { agent { label 'x' }; stages { stage('a') { steps { sh 'true' } } }; post { always { junit allowEmptyResults: false, testResults: '*.xml' } } }`, 1, "No test report"},
		"the line that follows": {`pipeline { agent { label 'x' }; stages { stage('a') { steps { sh "false\necho on" } } } }`, 1, "Finished: FAILURE"},
	} {
		root := t.TempDir()
		file := filepath.Join(root, "Jenkinsfile")
		if err := os.WriteFile(file, []byte(test.file), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "sh", "-c", jenkins+`"$@"`, "sh", engine, file, root, filepath.Join(root, "archive"))
		output, _ := cmd.CombinedOutput()
		if code := cmd.ProcessState.ExitCode(); code != test.code || !strings.Contains(string(output), test.says) {
			t.Errorf("%s: exit status %d, want %d:\n%s", name, code, test.code, output)
		}
	}
}
