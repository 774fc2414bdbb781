//go:build !hostpart

package cli

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLintLooksAtInstancesOfRDS has Amazon's own client ask our server, which shows the databases of a service file as RDS does.
func TestLintLooksAtInstancesOfRDS(t *testing.T) {
	directory := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(directory, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	say := func(more string) {
		write("status.json", `{"members": [{"host": "db-a", "role": "primary", "timeline": 1, "position": 1}`+more+`]}`)
	}
	const standby = `, {"host": "db-b", "role": "standby", "timeline": 1, "position": 1, "streaming": true}`
	say(standby)
	text, err := os.ReadFile("../../drills/bookstore/firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	shown := write("shown.yaml", string(text)+`
databases:
  books:
    driver: exec
    hosts: [{name: db-a, address: 10.77.2.10}, {name: db-b, address: 10.77.2.11}]
    exec: {status: [cat, status.json], write: ["false"], fence: ["false"], promote: ["false"], rebuild: ["false"]}
`)
	log, ctx := new(lockedBuffer), t.Context()
	ctx, cancel := context.WithCancel(ctx)
	command := newServerCommand(streams{in: strings.NewReader(""), out: io.Discard, err: log})
	command.SetArgs([]string{"--listen", "127.0.0.1:0", "--dns-listen", "127.0.0.1:0", "--data", filepath.Join(directory, "data"), "--databases", shown})
	ended := make(chan error, 1)
	go func() { ended <- command.ExecuteContext(ctx) }()
	url := awaitLog(t, log, `msg="server ready" listen=(\S+)`)
	defer func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}()
	file := write("firedrill.yaml", string(text)+`
aws: {region: eu-west-2, endpoint: "`+url+`", credentials_file: data/credentials}
databases:
  books:
    driver: rds
    rds: {instance: books}
    sql: {database: books, user: nobody, password_file: not-needed}
`)
	found := func(code int) []string {
		t.Helper()
		got, out, errOut := runRoot(nil, "lint", "--json", "--file", file)
		var report lintReport
		if err := json.Unmarshal([]byte(out), &report); err != nil || got != code {
			t.Fatalf("exit code %d, want %d: %v\n%s%s", got, code, err, out, errOut)
		}
		var rules []string
		for _, f := range report.Findings {
			if strings.HasPrefix(f.Rule, "rds-") {
				rules = append(rules, f.Rule)
				if f.Line == 0 || f.File != file {
					t.Errorf("%+v has no place in the file", f)
				}
			}
		}
		return rules
	}
	// Nothing makes backups of what our server shows, and a bookstore that must be back after seconds asks too much of RDS.
	if got := found(exitFailed); !slices.Equal(got, []string{"rds-no-backups", "rds-rto-out-of-reach"}) {
		t.Errorf("of a pair: %v", got)
	}
	say("")
	if got := found(exitFailed); !slices.Contains(got, "rds-no-standby") {
		t.Errorf("without a standby: %v", got)
	}
	if code, out, _ := runRoot(nil, "lint", "--file", file, "--offline"); code != exitPassed || strings.Contains(out, "rds-") {
		t.Errorf("offline: %d\n%s", code, out)
	}
	write("firedrill.yaml", strings.Replace(string(text), "service:", "aws: {region: eu-west-2, endpoint: \""+url+"\", credentials_file: data/credentials}\nservice:", 1)+
		"databases: {books: {driver: rds, rds: {instance: papers}, sql: {database: books, user: nobody, password_file: not-needed}}}\n")
	if code, out, errOut := runRoot(nil, "lint", "--file", file); code != exitInconclusive || !strings.Contains(out, "not looked at: books") {
		t.Errorf("an instance that is not there: exit code %d\n%s%s", code, out, errOut)
	}
}
