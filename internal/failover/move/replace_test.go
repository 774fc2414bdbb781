package move

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReplacedFileKeepsItsRights(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, test := range []struct {
		text string
		mode os.FileMode // before; 0: there is none
		want os.FileMode
	}{{"first", 0, 0o644}, {"second", 0o600, 0o600}, {"third", 0o664, 0o664}} {
		if test.mode != 0 {
			if err := os.Chmod(path, test.mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := Replace(path, []byte(test.text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path, 1<<20)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || string(got) != test.text || info.Mode().Perm() != test.want {
			t.Errorf("%q, %v, %v, %v; want %q, %v", got, err, statErr, info.Mode().Perm(), test.text, test.want)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("left beside it: %v, %v", left, err)
	}
}

func TestReplaceLeavesTheFileWhereItCannot(t *testing.T) {
	directory := t.TempDir()
	if err := Replace(filepath.Join(directory, "absent", "file"), nil, 0o644); err == nil {
		t.Error("a file was put into no directory")
	}
	if err := Replace(directory, []byte("text"), 0o644); err == nil {
		t.Error("a directory was replaced")
	}
}

func TestReadRefusesWhatIsTooLarge(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(strings.Repeat("x", 1<<20+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path, 1<<20); err == nil || !strings.Contains(err.Error(), "larger than 1 MiB") {
		t.Errorf("%v", err)
	}
}
