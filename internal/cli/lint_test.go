//go:build !hostpart

package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLintTellsTrapsWithTheirPlace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "firedrill.yaml")
	text, err := os.ReadFile("../../drills/bookstore/firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		old, new string
		args     []string
		code     int
		says     string
	}{
		{"", "", nil, exitPassed, "0 errors"},
		{"", "", []string{"--strict"}, exitFailed, "firedrill.yaml:47:14: failover.bookstore.example.test.servers: warning"},
		{"missing: breaching, ", "", nil, exitFailed, "dead-host-unnoticed"},
		{"rto: 15s", "rto: 4s", []string{"--json"}, exitFailed, `"rule": "rto-out-of-reach"`},
		{"service:", "servce:", nil, exitUsage, "unknown field"},
		{"", "", []string{"--name", "www.example.test", "--offline"}, exitPassed, "0 errors"},
		{"service:", "aws: {endpoint: \"http://127.0.0.1:1\", credentials_file: keys}\nservice:", []string{"--name", "www.example.test"}, exitInconclusive, "not looked at: www.example.test"},
	} {
		changed := strings.Replace(string(text), row.old, row.new, 1)
		for path, content := range map[string]string{file: changed, filepath.Join(filepath.Dir(file), "keys"): "[default]\naws_access_key_id = A\naws_secret_access_key = s\n"} {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		code, out, errOut := runRoot(nil, append([]string{"lint", "--file", file}, row.args...)...)
		if code != row.code || !strings.Contains(out+errOut, row.says) {
			t.Errorf("%q %v: exit code %d, want %d with %q:\n%s%s", row.new, row.args, code, row.code, row.says, out, errOut)
		}
		if strings.Join(row.args, "") == "--json" {
			var report lintReport
			if err := json.Unmarshal([]byte(out), &report); err != nil || report.Errors != 1 || len(report.Findings) < 2 || report.Findings[0].Line == 0 {
				t.Errorf("%v: %+v", err, report)
			}
		}
	}
}
