package backup

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

var made = time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)

// tree is a directory with some of everything that a server keeps.
func tree(t *testing.T) string {
	t.Helper()
	directory := t.TempDir()
	for name, content := range map[string]string{"fleet/identity.json": "secret", "fleet/jetstream/a/1.blk": strings.Repeat("x", 100_000), "users.json": "{}", "empty": "", "name with\nlines": "odd", "lock": "7"} {
		path := filepath.Join(directory, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(content), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Join(directory, "hollow"), 0o750), os.Chmod(filepath.Join(directory, "users.json"), 0o640)); err != nil {
		t.Fatal(err)
	}
	return directory
}

func skipLock(name string) bool { return name == "lock" }

func packed(t *testing.T, directory string) (*bytes.Buffer, Manifest) {
	t.Helper()
	out := new(bytes.Buffer)
	about, err := Pack(t.Context(), directory, out, skipLock, Manifest{Made: made, Tool: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	return out, about
}

// contents are modes and contents of all that is below a directory.
func contents(t *testing.T, directory string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == directory {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		text := []byte(nil)
		if !entry.IsDir() {
			text, err = os.ReadFile(path)
		}
		all[strings.TrimPrefix(path, directory)] = info.Mode().String() + " " + string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestWhatWasPackedIsUnpacked(t *testing.T) {
	directory := tree(t)
	out, about := packed(t, directory)
	to := t.TempDir()
	got, err := Unpack(t.Context(), out, to)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(about, got); diff != "" {
		t.Error(diff)
	}
	want := contents(t, directory)
	delete(want, "/lock")
	if diff := cmp.Diff(want, contents(t, to)); diff != "" {
		t.Error(diff)
	}
	if about.Bytes() != 100_011 || len(about.Files) != 5 {
		t.Errorf("%d bytes in %d files", about.Bytes(), len(about.Files))
	}
}

type entry struct {
	header  tar.Header
	content string
}

func entries(t *testing.T, backup []byte) (all []entry) {
	t.Helper()
	compressed, err := gzip.NewReader(bytes.NewReader(backup))
	if err != nil {
		t.Fatal(err)
	}
	archive := tar.NewReader(compressed)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, entry{*header, string(text)})
	}
}

func archived(t *testing.T, all []entry) *bytes.Buffer {
	t.Helper()
	out := new(bytes.Buffer)
	compressed := gzip.NewWriter(out)
	archive := tar.NewWriter(compressed)
	for _, one := range all {
		if one.header.Typeflag == tar.TypeReg {
			one.header.Size = int64(len(one.content))
		}
		if err := archive.WriteHeader(&one.header); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(archive, one.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(archive.Close(), compressed.Close()); err != nil {
		t.Fatal(err)
	}
	return out
}

// The planted faults: what was changed, left out, added or cut off is found, and nothing gets out of the directory.
func TestADamagedBackupIsRefused(t *testing.T) {
	out, _ := packed(t, tree(t))
	whole := out.Bytes()
	file := func(name string) entry {
		return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o600}, "x"}
	}
	first := func(all []entry) int {
		for i := range all {
			if all[i].header.Typeflag == tar.TypeReg && all[i].content != "" {
				return i
			}
		}
		return -1
	}
	before := func(e entry) func([]entry) []entry {
		return func(all []entry) []entry { return append([]entry{e}, all...) }
	}
	for name, test := range map[string]struct {
		change func([]entry) []entry
		says   string
	}{
		"one byte of a file":    {func(all []entry) []entry { i := first(all); all[i].content = "X" + all[i].content[1:]; return all }, "is not what was packed"},
		"a file left out":       {func(all []entry) []entry { i := first(all); return append(all[:i:i], all[i+1:]...) }, "is missing"},
		"a file added":          {before(file("more")), "was put into the backup later"},
		"a file twice":          {func(all []entry) []entry { i := first(all); return append(all[:i+1:i+1], all[i:]...) }, "twice"},
		"the end left out":      {func(all []entry) []entry { return all[:len(all)-1] }, "cut off"},
		"something after it":    {func(all []entry) []entry { return append(all, file("more")) }, "follows the end"},
		"a way out":             {before(file("../outside")), "no name of a file"},
		"a way out by the root": {before(file("/outside")), "no name of a file"},
		"a link":                {before(entry{tar.Header{Typeflag: tar.TypeSymlink, Name: "link", Linkname: "/etc"}, ""}), "neither"},
		"another version": {func(all []entry) []entry {
			i := len(all) - 1
			all[i].content = strings.Replace(all[i].content, `"version":1`, `"version":2`, 1)
			return all
		}, "version 2"},
	} {
		t.Run(name, func(t *testing.T) {
			to := filepath.Join(t.TempDir(), "to")
			if err := os.Mkdir(to, 0o700); err != nil {
				t.Fatal(err)
			}
			if _, err := Unpack(t.Context(), archived(t, test.change(entries(t, whole))), to); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
			if _, err := os.Lstat(filepath.Join(filepath.Dir(to), "outside")); err == nil {
				t.Error("it wrote outside of the directory")
			}
		})
	}
	for _, length := range []int{0, 1, 100, len(whole) / 2, len(whole) - 10, len(whole) - 1} {
		if _, err := Unpack(t.Context(), bytes.NewReader(whole[:length]), t.TempDir()); err == nil {
			t.Errorf("%d of %d bytes are taken for whole", length, len(whole))
		}
	}
}

func TestPackRefusesWhatItCannotKeep(t *testing.T) {
	for name, test := range map[string]struct {
		make func(directory string) error
		says string
	}{
		"a link":       {func(directory string) error { return os.Symlink("/etc/passwd", filepath.Join(directory, "link")) }, "neither a file"},
		"a pipe":       {func(directory string) error { return unix.Mkfifo(filepath.Join(directory, "pipe"), 0o600) }, "neither a file"},
		"its own name": {func(directory string) error { return os.WriteFile(filepath.Join(directory, ManifestName), nil, 0o600) }, "a name of the backup itself"},
	} {
		t.Run(name, func(t *testing.T) {
			directory := tree(t)
			if err := test.make(directory); err != nil {
				t.Fatal(err)
			}
			if _, err := Pack(t.Context(), directory, io.Discard, skipLock, Manifest{}); err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("got %v, want %q", err, test.says)
			}
		})
	}
	// A file that somebody writes to while it is read.
	directory, random := tree(t), make([]byte, 1<<20)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(directory, "fleet/large")
	write := func() {
		if err := os.WriteFile(path, random, 0o600); err != nil {
			t.Error(err)
		}
	}
	write()
	random = append(random, random...)
	if _, err := Pack(t.Context(), directory, &halfWay{do: write}, skipLock, Manifest{}); err == nil || !strings.Contains(err.Error(), "changed while it was read") {
		t.Errorf("a file that changes: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Pack(ended, directory, io.Discard, skipLock, Manifest{}); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

// halfWay does something once, when a quarter of a megabyte was written.
type halfWay struct {
	written int
	do      func()
}

func (h *halfWay) Write(text []byte) (int, error) {
	const quarter = 1 << 18
	if h.written < quarter && h.written+len(text) >= quarter {
		h.do()
	}
	h.written += len(text)
	return len(text), nil
}
