package deploy

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"firedrill/internal/deploy/remote/remotetest"
	"firedrill/internal/drill"
	"firedrill/internal/tether/tethertest"
)

// oddNames are what a file may be called, and what shells, tar, sha256sum and line-based protocols stumble over.
var oddNames = []string{
	" before", "after ", "two  spaces", "\nat the start", "at the end\n", "new\nline", "tab\t", "return\r", "back\\slash", "back\\nslash", "quote'", `double"`,
	"-rf", "--", "*", "?", "[a]", "$(touch x)", "`touch x`", "$HOME", "a;b", "a&b", "|", "<>", "#hash", "!bang", "~tilde/x", "{a,b}", "%s%n", "é", "日本",
	"\xff\xfe not UTF-8", "dir\xff/\xe9", strings.Repeat("n", 255), "deep/" + strings.Repeat("d/", 60) + "f", "0", "./hidden/.x",
}

func TestOddNamesArriveByteForByte(t *testing.T) {
	for name, test := range map[string]struct {
		layout string
		serve  remotetest.Make
		wish   remotetest.Wish
	}{
		"releases":           {"", remotetest.OpenSSH, remotetest.Wish{}},
		"in place":           {"in-place", remotetest.OpenSSH, remotetest.Wish{}},
		"without tar":        {"", remotetest.Serve, remotetest.Wish{Path: pathWithout(t, "tar")}},
		"without sha256sum":  {"", remotetest.Serve, remotetest.Wish{Path: pathWithout(t, "sha256sum")}},
		"with cat alone":     {"", remotetest.Serve, remotetest.Wish{Path: pathWithout(t, "sha256sum"), NoSFTP: true}},
		"copied on the host": {"", remotetest.Serve, remotetest.Wish{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, test.serve, test.wish)
			w.request.Deploy.Layout, w.request.Deploy.Healthy, w.request.Deploy.Restart = test.layout, drill.Healthy{}, ""
			w.request.Deploy.Source.NoDefaultExcludes = true
			files := map[string]string{"version": "1\n"}
			for _, name := range oddNames {
				files[filepath.Clean(name)] = "content of " + name
			}
			w.git("rm", "-q", "-r", ".")
			w.commit("odd", files)
			w.mustDeploy()
			root := w.dir
			if test.layout == "" {
				root = filepath.Join(w.dir, "current")
			}
			w.wantFiles(root, files)
			w.mustDeploy() // compared as it stands
			files["version"] = "2\n"
			delete(files, "new\nline")
			w.git("rm", "-q", "new\nline")
			w.commit("next", map[string]string{"version": "2\n"})
			result := w.mustDeploy()
			w.wantFiles(root, files)
			if result.Files != len(files) {
				t.Errorf("%d files, want %d", result.Files, len(files))
			}
		})
	}
}

// wantFiles compares all regular files below a directory, but for those of our own making.
func (w *world) wantFiles(root string, want map[string]string) {
	w.t.Helper()
	for name, text := range want {
		if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(got) != text {
			w.t.Errorf("%q holds %q, %v; want %q", name, got, err, text)
		}
	}
	resolved, err := filepath.EvalSymlinks(root)
	if err != nil {
		w.t.Fatal(err)
	}
	err = filepath.WalkDir(resolved, func(path string, entry os.DirEntry, err error) error {
		name, _ := filepath.Rel(resolved, path)
		switch {
		case err != nil:
			return err
		case name == keptInPlace:
			return filepath.SkipDir
		case entry.IsDir(), name == revisionFile, name == digestsFile:
			return nil
		}
		if _, wanted := want[name]; !wanted {
			w.t.Errorf("%q is there too", name)
		}
		return nil
	})
	if err != nil {
		w.t.Error(err)
	}
}

func TestLinkOutOfTheTreeNeverReachesAHost(t *testing.T) {
	for name, to := range map[string]string{"absolute": "/etc/passwd", "above": "../../outside"} {
		w := newWorld(t, remotetest.Serve, remotetest.Wish{})
		if err := os.Symlink(to, filepath.Join(w.repo, "bin", "link")); err != nil {
			t.Fatal(err)
		}
		w.commit("link", nil)
		if _, err := w.deploy(); err == nil || !strings.Contains(err.Error(), "leads out of the release") {
			t.Errorf("%s: got %v, want a refusal", name, err)
		}
		if _, err := os.Lstat(w.dir); err == nil {
			t.Errorf("%s: the host was touched", name)
		}
	}
}

func TestClocksThatDifferDoNotDecideWhereToGoBack(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	w.request.Deploy.KeepReleases, w.request.Deploy.Healthy = 1, drill.Healthy{}
	var deployed []string
	for i, skew := range []time.Duration{0, 2 * 365 * 24 * time.Hour, -2 * 365 * 24 * time.Hour, time.Minute} { // four CI hosts
		w.request.hooks.now = func() time.Time { return time.Now().Add(skew) }
		w.commit("next", map[string]string{"version": strconv.Itoa(i)})
		deployed = append(deployed, w.mustDeploy().Release)
		if got := w.current(); got != deployed[i] {
			t.Fatalf("%s runs after %s was deployed", got, deployed[i])
		}
		if i == 0 {
			continue
		}
		for _, want := range []string{deployed[i-1], deployed[i]} {
			if result, err := Rollback(t.Context(), w.request, w.dial, w.report); err != nil || result.Release != want {
				t.Fatalf("went back to %q, %v; want %q", result.Release, err, want)
			}
			w.current()
		}
	}
}

// The clock of a host decides nothing, also when it is set between two deployments: neither which releases are kept, nor which one to go back to.
func TestHostWhoseClockIsOffIsDeployedToAllTheSame(t *testing.T) {
	w := newWorld(t, remotetest.OpenSSH, remotetest.Wish{Skewed: true})
	w.request.Deploy.KeepReleases, w.request.Deploy.Healthy = 2, drill.Healthy{}
	var deployed []string
	for i, skew := range []time.Duration{3 * time.Hour, -400 * 24 * time.Hour, 400 * 24 * time.Hour, -time.Minute} {
		w.account.Skew(t, skew)
		offset, bound, err := w.account.Dial(t).ClockOffset(t.Context())
		if err != nil || (offset-skew).Abs() > bound {
			t.Fatalf("the clock is %s off, to %s, want %s (%v)", offset, bound, skew, err)
		}
		w.commit("next", map[string]string{"version": strconv.Itoa(i)})
		deployed = append(deployed, w.mustDeploy().Release)
		if got := w.current(); got != deployed[i] {
			t.Fatalf("%s runs after %s was deployed", got, deployed[i])
		}
		if kept := w.releases(); !slices.Equal(kept, deployed[max(0, i-1):]) {
			t.Errorf("kept are %v, want the newest two of %v", kept, deployed)
		}
	}
	for _, want := range deployed[2:] {
		if result, err := Rollback(t.Context(), w.request, w.dial, w.report); err != nil || result.Release != want || w.current() != want {
			t.Errorf("went back to %q, %v; want %q", result.Release, err, want)
		}
	}
}

func TestFullDiskLeavesWhatRuns(t *testing.T) {
	if !tethertest.Apart(t) {
		return
	}
	for name, layout := range map[string]string{"releases": "", "in place": "in-place"} {
		w := newWorld(t, remotetest.OpenSSH, remotetest.Wish{})
		w.request.Deploy.Layout, w.request.Deploy.Healthy, w.request.Deploy.Restart = layout, drill.Healthy{}, ""
		w.request.Deploy.KeepReleases = 1
		if err := errors.Join(os.MkdirAll(w.dir, 0o755), syscall.Mount("tmpfs", w.dir, "tmpfs", 0, "size=2m")); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = syscall.Unmount(w.dir, syscall.MNT_DETACH) })
		good := map[string]string{"version": "1\n", "data": strings.Repeat("1", 300<<10)}
		next := map[string]string{"version": "2\n", "data": strings.Repeat("2", 300<<10)}
		w.git("rm", "-q", "-r", ".")
		w.commit("good", good)
		w.mustDeploy()
		root := w.dir
		if layout == "" {
			root = filepath.Join(w.dir, "current")
		}
		// The disk fills up at the upload, then at all that follows.
		for _, free := range []int{0, 100, 304, 330} {
			ballast := filepath.Join(w.dir, keptInPlace, "ballast")
			if layout == "" {
				ballast = filepath.Join(w.dir, "ballast")
			}
			fillUp(t, w.dir, ballast, free<<10)
			w.commit("next", next)
			_, err := w.deploy()
			if err == nil {
				good, next = next, map[string]string{"version": "3\n", "data": strings.Repeat("3", 300<<10)}
			} else if !strings.Contains(err.Error(), "No space left") {
				t.Errorf("%s, %d KiB free: the error does not say why: %v", name, free, err)
			}
			w.wantThere(root, good)
			if err := os.Remove(ballast); err != nil {
				t.Fatal(err)
			}
		}
		w.notes = nil
		w.commit("last", map[string]string{"version": "9\n", "data": strings.Repeat("9", 300<<10)})
		w.mustDeploy()
		w.wantThere(root, map[string]string{"version": "9\n"})
	}
}

func (w *world) wantThere(root string, want map[string]string) {
	w.t.Helper()
	for name, text := range want {
		if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(got) != text {
			w.t.Errorf("%s has %d bytes, %v; want %d of %.4q", name, len(got), err, len(text), text)
		}
	}
}

// fillUp leaves so many bytes of a file system.
func fillUp(t *testing.T, dir, ballast string, free int) {
	t.Helper()
	var room syscall.Statfs_t
	if err := syscall.Statfs(dir, &room); err != nil {
		t.Fatal(err)
	}
	size := max(0, int(room.Bavail)*int(room.Bsize)-free)
	if err := os.WriteFile(ballast, make([]byte, size), 0o600); err != nil {
		t.Fatal(err)
	}
}
