package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"firedrill/internal/history"
	"firedrill/internal/report"
	"firedrill/internal/verdict/verdicttest"
)

// writeStory writes the log of a story, chained, and returns its name.
func writeStory(t *testing.T, twist verdicttest.Twist) string {
	t.Helper()
	_, log := verdicttest.Bookstore(twist)
	var out bytes.Buffer
	writer := history.NewWriter(&out)
	for _, event := range log {
		if _, err := writer.Append(event); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(t.TempDir(), "run.jsonl")
	if err := os.WriteFile(name, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// runJudgeOrReport runs one of the two commands and returns the exit code with what it wrote.
func runJudgeOrReport(t *testing.T, in string, args ...string) (code int, out, errOut string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	s := streams{in: strings.NewReader(in), out: &stdout, err: &stderr}
	command := newJudgeCommand(s)
	if args[0] == "report" {
		command = newReportCommand(s)
	}
	command.SilenceErrors, command.SilenceUsage = true, true
	command.SetOut(&stdout)
	command.SetErr(&stderr)
	command.SetArgs(args[1:])
	return finish(s, command.Execute()), stdout.String(), stderr.String()
}

func TestJudgeExitsAsTheVerdictSays(t *testing.T) {
	for twist, want := range map[verdicttest.Twist]int{
		verdicttest.NoTwist: exitPassed, verdicttest.FrozenDNS: exitFailed, verdicttest.Toothless: exitInconclusive, verdicttest.Residue: exitNotReverted,
	} {
		name := writeStory(t, twist)
		if code, out, errOut := runJudgeOrReport(t, "", "judge", name); code != want || errOut != "" || !strings.Contains(out, "bookstore") {
			t.Errorf("%q: exit code %d, want %d; %q %q", twist, code, want, out, errOut)
		}
		code, out, _ := runJudgeOrReport(t, "", "judge", "--json", name)
		var decoded struct {
			Exit int `json:"exit_code"`
		}
		if err := json.Unmarshal([]byte(out), &decoded); err != nil || code != want || decoded.Exit != want {
			t.Errorf("%q: --json: exit code %d, in the JSON %d, want %d (%v)", twist, code, decoded.Exit, want, err)
		}
	}
}

func TestJudgeRefusesALogThatWasAltered(t *testing.T) {
	name := writeStory(t, verdicttest.FrozenDNS)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	forged := strings.Replace(string(text), `"ok":false`, `"ok":true`, 1)
	if forged == string(text) {
		t.Fatal("nothing was forged")
	}
	for what, log := range map[string]string{"forged": forged, "not a log": "hello\n", "empty": ""} {
		code, out, errOut := runJudgeOrReport(t, log, "judge", "-")
		if code != exitUsage || out != "" || errOut == "" {
			t.Errorf("%s: exit code %d, out %q, err %q", what, code, out, errOut)
		}
	}
	if code, _, errOut := runJudgeOrReport(t, "", "judge", filepath.Join(t.TempDir(), "no.jsonl")); code != exitUsage || !strings.Contains(errOut, "no.jsonl") {
		t.Errorf("a missing file: exit code %d, %q", code, errOut)
	}
}

func TestReportWritesEveryFormat(t *testing.T) {
	name := writeStory(t, verdicttest.FrozenDNS)
	for _, format := range report.Formats {
		code, onScreen, _ := runJudgeOrReport(t, "", "report", name, "--format", string(format))
		if code != exitPassed || onScreen == "" {
			t.Errorf("%s: exit code %d", format, code)
		}
		file := filepath.Join(t.TempDir(), "report")
		if code, out, _ := runJudgeOrReport(t, "", "report", name, "--format", string(format), "--out", file); code != exitPassed || out != "" {
			t.Errorf("%s: --out: exit code %d, out %q", format, code, out)
		}
		if written, err := os.ReadFile(file); err != nil || string(written) != onScreen {
			t.Errorf("%s: the file differs from standard output (%v)", format, err)
		}
	}
}

// A log from standard input is read as often as one that is a file, lies in no memory, and leaves nothing behind.
func TestALogFromStandardInputIsReportedLikeAFile(t *testing.T) {
	name := writeStory(t, verdicttest.FrozenDNS)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	spool := t.TempDir()
	t.Setenv("TMPDIR", spool)
	for _, format := range report.Formats {
		_, want, _ := runJudgeOrReport(t, "", "report", name, "--format", string(format))
		code, got, errOut := runJudgeOrReport(t, string(text), "report", "-", "--format", string(format))
		if want = strings.ReplaceAll(want, name, "-"); code != exitPassed || got != want {
			t.Errorf("%s: exit code %d, %d bytes where the file gives %d: %s", format, code, len(got), len(want), errOut)
		}
	}
	open, kept, err := spooled(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	in, err := judgedForReport(streams{err: io.Discard}, "-", open, nil)
	if err != nil || len(in.Log) > 0 || in.Events == nil {
		t.Errorf("%d events are held in memory (%v)", len(in.Log), err)
	}
	if err := kept.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(spool); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v (%v)", left, err)
	}
	torn := text[:len(text)-20]
	if code, out, errOut := runJudgeOrReport(t, string(torn), "report", "-", "--format", "csv"); code != exitPassed || out == "" || !strings.Contains(errOut, "power cut") {
		t.Errorf("a torn log: exit code %d, %q", code, errOut)
	}
	t.Setenv("TMPDIR", filepath.Join(spool, "gone"))
	if code, _, errOut := runJudgeOrReport(t, string(text), "report", "-"); code != exitUsage || !strings.Contains(errOut, "TMPDIR") {
		t.Errorf("no room for it: exit code %d, %q", code, errOut)
	}
}

func TestAReportThatCannotBeWrittenLeavesNothing(t *testing.T) {
	name := writeStory(t, verdicttest.NoTwist)
	directory := t.TempDir()
	file := filepath.Join(directory, "report.html")
	if err := os.WriteFile(file, []byte("the old one"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, _, errOut := runJudgeOrReport(t, "", "report", name, "--format", "pdf", "--out", file); code != exitUsage || !strings.Contains(errOut, "pdf") {
		t.Errorf("exit code %d, %q", code, errOut)
	}
	if left, err := os.ReadDir(directory); err != nil || len(left) != 1 {
		t.Errorf("left in the directory: %v (%v)", left, err)
	}
	if kept, err := os.ReadFile(file); err != nil || string(kept) != "the old one" {
		t.Errorf("the old report is %q (%v)", kept, err)
	}
}

// The dashboard believes a log and nothing beside it.
func TestRecordOfALogIsItsVerdict(t *testing.T) {
	for twist, want := range map[verdicttest.Twist]string{verdicttest.NoTwist: "passed", verdicttest.FrozenDNS: "failed", verdicttest.Toothless: "inconclusive"} {
		record, err := recordOf(writeStory(t, twist))
		if err != nil || record.Outcome != want || record.Service != "bookstore" || len(record.Steps) == 0 {
			t.Errorf("%q: %+v, %v", twist, record, err)
		}
	}
	altered := writeStory(t, verdicttest.FrozenDNS)
	text, err := os.ReadFile(altered)
	if err == nil {
		err = os.WriteFile(altered, bytes.Replace(text, []byte(`"ok":false`), []byte(`"ok":true`), 1), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if record, err := recordOf(altered); err == nil {
		t.Errorf("an altered log is %+v", record)
	}
	if _, err := recordOf(filepath.Join(t.TempDir(), "run.jsonl")); err == nil {
		t.Error("a log that is not there proves something")
	}
}

// What is shown of a log is read a second time: it must be what was judged, and no more.
func TestALogIsReadAgainAsItWasJudged(t *testing.T) {
	name := writeStory(t, verdicttest.NoTwist)
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(writeStory(t, verdicttest.FrozenDNS))
	if err != nil {
		t.Fatal(err)
	}
	now := text
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(now)), nil }
	half := bytes.LastIndexByte(text[:len(text)/2], '\n') + 1
	for what, row := range map[string]struct {
		first, second []byte
		changed       bool
	}{
		"the same":                    {text, text, false},
		"a run that goes on":          {text[:half], text, false},
		"torn, and then mended":       {text[:half+10], text, false},
		"another run in its place":    {text, other, true},
		"a log that was cut":          {text, text[:half], true},
		"an altered line":             {text, bytes.Replace(text, []byte(`"ok":true`), []byte(`"ok":false`), 1), true},
		"nothing, and then something": {nil, text, true},
	} {
		now = row.first
		log := readOnce(open)
		now = row.second
		seen := int64(0)
		err := log.again(open)(func(history.Event) error { seen++; return nil })
		if (err != nil) != row.changed || !row.changed && seen != log.events {
			t.Errorf("%s: %v after %d of %d events", what, err, seen, log.events)
		}
	}
	now = text
	log, stop := readOnce(open), io.ErrUnexpectedEOF
	if err := log.again(open)(func(history.Event) error { return stop }); err != stop { //nolint:errorlint // the very error
		t.Errorf("who is shown the log has ended it with %v, and is told %v", stop, err)
	}
}
