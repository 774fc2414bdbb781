package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"firedrill/internal/history"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

// writeResumed writes two runs, the second of which went on with the first, as they lie below --out, and returns their logs.
func writeResumed(t *testing.T) (earlier, log string) {
	t.Helper()
	out := t.TempDir()
	before, _, _, after := verdicttest.Resumed()
	for name, events := range map[string][]history.Event{"20261120T101500Z-0a1b2c": before, "20261120T111500Z-0d1e2f": after} {
		var text bytes.Buffer
		writer := history.NewWriter(&text)
		for _, event := range events {
			if _, err := writer.Append(event); err != nil {
				t.Fatal(err)
			}
		}
		directory := filepath.Join(out, name)
		if err := os.Mkdir(directory, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(directory, logName), text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(out, "20261120T101500Z-0a1b2c", logName), filepath.Join(out, "20261120T111500Z-0d1e2f", logName)
}

func TestJudgeVerifiesTheLogsThatARunWentOnWith(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(t *testing.T, earlier, log string)
		want  int
		says  string
	}{
		"beside it": {func(*testing.T, string, string) {}, exitPassed, ""},
		"a copy in its own directory": {func(t *testing.T, earlier, log string) {
			one, err := readEarlierLog(earlier)
			if err != nil {
				t.Fatal(err)
			}
			if err := writeEarlier(filepath.Dir(log), []verdict.Earlier{one}); err != nil {
				t.Fatal(err)
			}
			if err := os.Remove(earlier); err != nil {
				t.Fatal(err)
			}
		}, exitPassed, ""},
		"torn at its end": {func(t *testing.T, earlier, _ string) {
			change(t, earlier, func(text string) string { return text + `{"seq":` })
		}, exitPassed, ""},
		"missing": {func(t *testing.T, earlier, _ string) {
			if err := os.Remove(earlier); err != nil {
				t.Fatal(err)
			}
		}, exitInconclusive, ""},
		"altered": {func(t *testing.T, earlier, _ string) {
			change(t, earlier, func(text string) string { return strings.Replace(text, `"ok":true`, `"ok":false`, 1) })
		}, exitInconclusive, "proves nothing"},
		"shortened": {func(t *testing.T, earlier, _ string) {
			change(t, earlier, func(text string) string { return text[:strings.LastIndex(text[:len(text)-1], "\n")+1] })
		}, exitInconclusive, "does not end with"},
		"swapped": {func(t *testing.T, earlier, log string) {
			text, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			change(t, earlier, func(string) string { return string(text) })
		}, exitInconclusive, ""},
	} {
		t.Run(name, func(t *testing.T) {
			earlier, log := writeResumed(t)
			test.spoil(t, earlier, log)
			code, out, errOut := runJudgeOrReport(t, "", "judge", log)
			if code != test.want || !strings.Contains(errOut, test.says) {
				t.Errorf("exit code %d, want %d: %s%s", code, test.want, errOut, out)
			}
		})
	}
}

func TestJudgeTakesTheEarlierLogThatIsNamed(t *testing.T) {
	earlier, log := writeResumed(t)
	moved := filepath.Join(t.TempDir(), "elsewhere.jsonl")
	if err := os.Rename(earlier, moved); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if code, out, _ := runJudgeOrReport(t, string(text), "judge", "-"); code != exitInconclusive || !strings.Contains(out, "is not here") {
		t.Errorf("without it: exit code %d: %s", code, out)
	}
	if code, out, errOut := runJudgeOrReport(t, string(text), "judge", "-", "--earlier", moved); code != exitPassed {
		t.Errorf("with it: exit code %d: %s%s", code, errOut, out)
	}
}

func change(t *testing.T, name string, edit func(string) string) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(edit(string(text))), 0o600); err != nil {
		t.Fatal(err)
	}
}
