package agent

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"firedrill/internal/fleet"
)

// The directory of releases may belong to anybody on the host, while the agent is root: what it tells of it are files there, and no others.
func TestALookReadsFilesOfTheDirectoryAlone(t *testing.T) {
	const secret = "root:$6$secret"
	for name, test := range map[string]struct {
		make func(t *testing.T, path string)
		says string // part of the error; empty for none
		want string // what is read then
	}{
		"nothing there": {func(*testing.T, string) {}, "", ""},
		"a file":        {func(t *testing.T, path string) { write(t, path, "ann@ci 2026-11-29\n") }, "", "ann@ci 2026-11-29"},
		"a link to another file": {func(t *testing.T, path string) {
			elsewhere := filepath.Join(t.TempDir(), "shadow")
			write(t, elsewhere, secret)
			if err := os.Symlink(elsewhere, path); err != nil {
				t.Fatal(err)
			}
		}, "is a link", ""},
		"a pipe that nobody writes to": {func(t *testing.T, path string) {
			if err := unix.Mkfifo(path, 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is no file", ""},
		"a directory":   {func(t *testing.T, path string) { _ = os.MkdirAll(path, 0o755) }, "is no file", ""},
		"a large file":  {func(t *testing.T, path string) { write(t, path, strings.Repeat("x", lookFileMax+1)) }, "longer", ""},
		"the most that": {func(t *testing.T, path string) { write(t, path, strings.Repeat("x", lookFileMax)) }, "", strings.Repeat("x", lookFileMax)},
	} {
		t.Run(name, func(t *testing.T) {
			directory := t.TempDir()
			path := fleet.ReservationFile(directory)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			test.make(t, path)
			var seen fleet.Looked
			err := lookAtReleases(directory, &seen)
			if test.says == "" && (err != nil || seen.Reserved != test.want) {
				t.Errorf("read %q, %v; want %q", seen.Reserved, err, test.want)
			}
			if test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says) || strings.Contains(err.Error()+seen.Reserved, secret)) {
				t.Errorf("read %q, %v; want an error with %q", seen.Reserved, err, test.says)
			}
		})
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
