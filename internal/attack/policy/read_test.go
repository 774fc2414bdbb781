package policy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
)

// place is a directory of ours with a policy file in it, and what was done to it.
type place struct {
	name    string
	root    bool // only root can do this
	do      func(t *testing.T, file string)
	why     string // "" when it must be read
	missing bool   // no file, no bounds
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var places = []place{
	{name: "a file of its owner's", do: func(*testing.T, string) {}},
	{name: "readable by its owner only", do: func(t *testing.T, file string) { must(t, os.Chmod(file, 0o600)) }},
	{name: "no file", do: func(t *testing.T, file string) { must(t, os.Remove(file)) }, missing: true},
	{name: "no directory", do: func(t *testing.T, file string) { must(t, os.RemoveAll(filepath.Dir(file))) }, missing: true},
	{name: "writable by all", do: func(t *testing.T, file string) { must(t, os.Chmod(file, 0o646)) }, why: "can be written by others"},
	{name: "writable by its group", do: func(t *testing.T, file string) { must(t, os.Chmod(file, 0o664)) }, why: "can be written by others"},
	{name: "in a directory that all can write", do: func(t *testing.T, file string) { must(t, os.Chmod(filepath.Dir(file), 0o777)) }, why: "can be written by others"},
	{name: "no file in a directory that all can write", do: func(t *testing.T, file string) {
		must(t, os.Remove(file))
		must(t, os.Chmod(filepath.Dir(file), 0o1777))
	}, why: "can be written by others"},
	{name: "of another user", root: true, do: func(t *testing.T, file string) { must(t, os.Chown(file, 12345, 0)) }, why: "belongs to user 12345"},
	{name: "in a directory of another user", root: true, do: func(t *testing.T, file string) { must(t, os.Chown(filepath.Dir(file), 12345, 0)) }, why: "belongs to user 12345"},
	{name: "a symbolic link", do: func(t *testing.T, file string) {
		must(t, os.Rename(file, file+".real"))
		must(t, os.Symlink(file+".real", file))
	}, why: "symbolic link"},
	{name: "a link to nowhere", do: func(t *testing.T, file string) {
		must(t, os.Remove(file))
		must(t, os.Symlink("/nonexistent", file))
	}, why: "symbolic link"},
	{name: "in a directory that is a link", do: func(t *testing.T, file string) {
		must(t, os.Rename(filepath.Dir(file), filepath.Dir(file)+".real"))
		must(t, os.Symlink(filepath.Dir(file)+".real", filepath.Dir(file)))
	}, why: "symbolic link"},
	{name: "a pipe", do: func(t *testing.T, file string) {
		must(t, os.Remove(file))
		must(t, unix.Mkfifo(file, 0o600))
	}, why: "not a plain file"},
	{name: "a directory", do: func(t *testing.T, file string) {
		must(t, os.Remove(file))
		must(t, os.Mkdir(file, 0o700))
	}, why: "not a plain file"},
	{name: "not YAML", do: func(t *testing.T, file string) { must(t, os.WriteFile(file, []byte("deny: [\n"), 0o600)) }, why: "cannot be understood"},
	{name: "empty", do: func(t *testing.T, file string) { must(t, os.Truncate(file, 0)) }, why: "cannot be understood"},
	{name: "endless", do: func(t *testing.T, file string) { must(t, os.Truncate(file, sizeMax+1)) }, why: "larger than"},
}

// wrongReads holds a reader against all places and returns what it does wrong.
func wrongReads(t *testing.T, read func(path string) (*Policy, error)) (wrong []string) {
	t.Helper()
	for _, p := range places {
		if p.root && os.Geteuid() != 0 {
			continue // an ordinary user's own file stands for it: TestTheUsersOwnFileIsNotRoots
		}
		dir := filepath.Join(t.TempDir(), "firedrill")
		must(t, os.Mkdir(dir, 0o755))
		file := filepath.Join(dir, "policy.yaml")
		must(t, os.WriteFile(file, []byte("deny: all\n"), 0o644))
		p.do(t, file)
		got, err := read(file)
		switch {
		case p.why == "" && (err != nil || (got == nil) != p.missing):
			wrong = append(wrong, p.name+": not read as it should be")
		case p.why == "":
		case err == nil:
			wrong = append(wrong, p.name+": read")
		case !strings.Contains(err.Error(), "not attacking: ") || !strings.Contains(err.Error(), p.why) || drill.KindOf(err) != drill.Refused || drill.HintOf(err) == "":
			wrong = append(wrong, p.name+": "+err.Error()+" ("+drill.HintOf(err)+")")
		}
	}
	return wrong
}

func TestOnlyAFileThatIsItsOwnersAloneIsTrusted(t *testing.T) {
	read := func(path string) (*Policy, error) {
		return Reader{Path: path, Owner: uint32(os.Geteuid()), Kinds: func() []string { return known }}.Read()
	}
	for _, wrong := range wrongReads(t, read) {
		t.Error(wrong)
	}
}

// The planted bug: reading the file as any other.
func TestReadingWithoutLookingIsCaught(t *testing.T) {
	read := func(path string) (*Policy, error) {
		info, err := os.Stat(path)
		if os.IsNotExist(err) {
			return nil, nil
		}
		if err == nil && !info.Mode().IsRegular() {
			return nil, os.ErrInvalid
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		return Parse(text, path, known)
	}
	caught := strings.Join(wrongReads(t, read), "\n")
	for _, name := range []string{"writable by all", "writable by its group", "a symbolic link", "in a directory that is a link", "in a directory that all can write"} {
		if !strings.Contains(caught, name+": read") {
			t.Errorf("%s: nothing catches this bug; caught are\n%s", name, caught)
		}
	}
}

func TestTheUsersOwnFileIsNotRoots(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o755))
	file := filepath.Join(dir, "policy.yaml")
	must(t, os.WriteFile(file, []byte("deny: all\n"), 0o644))
	_, err := Reader{Path: file, Owner: uint32(os.Geteuid()) + 1, Kinds: func() []string { return known }}.Read()
	if err == nil || !strings.Contains(err.Error(), "not to root") || !strings.Contains(drill.HintOf(err), "chown root") {
		t.Errorf("%v (%s)", err, drill.HintOf(err))
	}
}

func TestRootOutsideOfAUserNamespaceIsToldFromTheUsersInside(t *testing.T) {
	for text, everyone := range map[string]bool{
		"         0          0 4294967295\n":                                true,
		"         0       1000          1\n":                                false,
		"         0       1000          1\n         1     100000   65536\n": false,
		"         0     100000      65536\n":                                false,
		"      1000          0          1\n":                                true,
		"":                                                                  false,
		"rubbish":                                                           true,
	} {
		file := filepath.Join(t.TempDir(), "uid_map")
		must(t, os.WriteFile(file, []byte(text), 0o600))
		if got := mapsEveryone(file); got != everyone {
			t.Errorf("%q: %v", text, got)
		}
	}
	if !mapsEveryone("/nonexistent") {
		t.Error("without knowing it must be everyone")
	}
}
