package programs

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
	"firedrill/internal/failover/database/databasetest"
	"firedrill/internal/history"
)

// files is a database of files, which programs move.
type files struct {
	dir, program string
	driver       *Driver
}

func newFiles(t *testing.T, lie string) *files {
	t.Helper()
	program, err := filepath.Abs("testdata/database.sh")
	if err != nil {
		t.Fatal(err)
	}
	f := &files{dir: t.TempDir(), program: program}
	if err := os.WriteFile(filepath.Join(f.dir, "lie"), []byte(lie), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.run(t.Context(), "init"); err != nil {
		t.Fatal(err)
	}
	hosts := []drill.Host{databasetest.Host("db-a", "192.0.2.1"), databasetest.Host("db-b", "192.0.2.2")}
	line := func(args ...string) []string { return append([]string{"sh", program}, args...) }
	f.driver = New(Options{
		Hosts: hosts, Dir: f.dir,
		Status: line("status"), Write: line("write", "{host}"), Fence: line("fence", "{host}"), Promote: line("promote", "{to}", "{from}"), Rebuild: line("rebuild", "{host}", "{from}"),
	})
	f.driver.tryMax, f.driver.shownMax = time.Minute, time.Second
	return f
}

func (f *files) run(ctx context.Context, args ...string) (string, error) {
	command := exec.CommandContext(ctx, "sh", append([]string{f.program}, args...)...)
	command.Dir = f.dir
	out, err := command.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (f *files) subject() *databasetest.Subject {
	do := func(what string) func(context.Context, string) error {
		return func(ctx context.Context, host string) error {
			_, err := f.run(ctx, what, host)
			return err
		}
	}
	return &databasetest.Subject{
		Driver: f.driver, Hosts: [2]string{"db-a", "db-b"}, PowerOff: do("off"), Boot: do("boot"),
		Add: func(ctx context.Context) error { _, err := f.run(ctx, "add"); return err },
		Rows: func(ctx context.Context) (int, error) {
			text, err := f.run(ctx, "rows")
			if err != nil {
				return 0, err
			}
			return strconv.Atoi(text)
		},
	}
}

func TestContract(t *testing.T) { databasetest.Run(t, newFiles(t, "").subject()) }

// A program that says that it has done its part, and has not, is caught by trying: by which clause, is up to what it lies about.
func TestProgramsThatLieAreCaught(t *testing.T) {
	for _, lie := range []string{"write", "fence", "promote", "lose", "unfence", "rebuild", "boot"} {
		t.Run(lie, func(t *testing.T) {
			t.Parallel()
			subject := newFiles(t, lie).subject()
			for _, check := range databasetest.Checks() {
				if err := check.Run(t.Context(), subject); err != nil {
					t.Logf("%s: %v", check.Name, err)
					return
				}
			}
			t.Error("no clause of the contract noticed")
		})
	}
}

// What a lie leads to when a person orders a move: a fence that lies is found before anything is promoted, an old primary that is let back in after.
func TestLiesEndAMoveAndSayWhy(t *testing.T) {
	for lie, want := range map[string]struct {
		says, told string
		kind       drill.ErrorKind
	}{
		"fence":   {"it acknowledged a write after that", "looked chosen refused", drill.Refused},
		"promote": {"after 1s the status is", "looked chosen fenced promoting failed", drill.Failed},
		"unfence": {"two servers take writes", "looked chosen fenced promoting promoted written split", drill.Failed},
	} {
		t.Run(lie, func(t *testing.T) {
			t.Parallel()
			var told []string
			mover := database.Mover{Name: "books", Driver: newFiles(t, lie).driver, Tell: func(s *history.DatabaseStep) { told = append(told, s.Step) }}
			_, err := mover.Move(t.Context(), database.Order{Planned: true}, database.Seen{})
			if err == nil || !strings.Contains(err.Error(), want.says) || drill.KindOf(err) != want.kind || drill.HintOf(err) == "" {
				t.Errorf("%v (%v), want %q (%v) with a hint", err, drill.KindOf(err), want.says, want.kind)
			}
			if got := strings.Join(told, " "); got != want.told {
				t.Errorf("told %q, want %q", got, want.told)
			}
		})
	}
}

func TestAnswersThatAreNotUnderstoodAreErrors(t *testing.T) {
	hosts := []string{"db-a", "db-b"}
	for text, want := range map[string]string{
		`{"members": [{"host": "db-a", "role": "primary", "timeline": 2, "position": 7}]}`:        "db-a primary 2/7, db-b down (the status program says nothing of it)",
		`{"members": [{"host": "db-a", "role": "master"}]}`:                                       `role "master" is none of`,
		`{"members": [{"host": "db-c", "role": "primary"}]}`:                                      `"db-c" is not in the service file`,
		`{"members": [{"host": "db-a", "role": "standby"}, {"host": "db-a", "role": "primary"}]}`: "told twice",
		`{"members": [{"host": "db-a", "role": "primary", "lag": 3}]}`:                            "unknown field",
		`{"members": []} {}`: "more than one value",
		``:                   "EOF",
		`ok`:                 "invalid character",
	} {
		status, err := read([]byte(text), hosts)
		got := status.String()
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// A program that hangs is killed with what it started.
func TestProgramThatHangsIsKilled(t *testing.T) {
	dir := t.TempDir()
	var pid []byte
	for timeout := 200 * time.Millisecond; pid == nil; timeout *= 2 { // until it lives long enough to have started something
		d := New(Options{Dir: dir, Timeout: timeout, Status: []string{"sh", "-c", "sleep 3600 & echo $! > new; mv new pid; wait"}})
		if _, err := d.Status(t.Context()); drill.KindOf(err) != drill.Timeout {
			t.Fatalf("%v", err)
		}
		pid, _ = os.ReadFile(filepath.Join(dir, "pid"))
	}
	path := fmt.Sprintf("/proc/%s/stat", strings.TrimSpace(string(pid)))
	for t.Context().Err() == nil {
		text, err := os.ReadFile(path)
		if err != nil || strings.Contains(string(text), ") Z ") {
			return
		}
	}
}
