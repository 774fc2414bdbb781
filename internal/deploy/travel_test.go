package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"firedrill/internal/deploy/remote/remotetest"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// travelled returns what the last deployment said about what travelled.
func (w *world) travelled() string {
	for _, fact := range w.facts {
		if fact.Stage == history.DeployPublish {
			return fact.Detail
		}
	}
	return ""
}

func (w *world) write(path, text string) {
	w.t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		w.t.Fatal(err)
	}
}

func TestUnchangedReleaseStaysAndNothingTravels(t *testing.T) {
	eachServer(t, func(t *testing.T, serve remotetest.Make) {
		w := newWorld(t, serve, remotetest.Wish{})
		one := w.mustDeploy()
		two := w.mustDeploy()
		if one.Release != two.Release || w.current() != one.Release {
			t.Errorf("%s was published although %s is the same", two.Release, one.Release)
		}
		if got := w.travelled(); !strings.Contains(got, "nothing travelled") {
			t.Errorf("said %q", got)
		}
	})
}

func TestOnlyWhatChangedTravels(t *testing.T) {
	eachServer(t, func(t *testing.T, serve remotetest.Make) {
		w := newWorld(t, serve, remotetest.Wish{})
		one := w.mustDeploy()
		big := strings.Repeat("x", 100_000)
		w.commit("big", map[string]string{"big": big})
		w.mustDeploy()
		if err := os.Rename(filepath.Join(w.repo, "big"), filepath.Join(w.repo, "a dir", "moved")); err != nil {
			t.Fatal(err)
		}
		w.commit("moved", map[string]string{"version": "3\n", "bin/run": "#!/bin/sh\n"})
		three := w.mustDeploy()
		if got := w.current(); got != three.Release || got == one.Release {
			t.Errorf("current is %q, want %q", got, three.Release)
		}
		if got := w.travelled(); !strings.HasPrefix(got, "3 files") { // REVISION, version, and the list of digests
			t.Errorf("said %q, want 3 files", got)
		}
	})
}

func TestGzippedStreamArrivesWhole(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	w.request.hooks.gzip = true
	result := w.mustDeploy()
	if got := w.current(); got != result.Release {
		t.Errorf("current is %q, want %q", got, result.Release)
	}
}

func TestReleaseThatSomeoneChangedIsNotKept(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	one := w.mustDeploy()
	tamper := func() { w.write(filepath.Join(w.dir, "current", "a dir", "né\nw"), "changed by hand\n") }
	tamper()
	two := w.mustDeploy()
	if w.current() == one.Release || two.Release == one.Release {
		t.Error("the changed release still runs")
	}
	tamper()
	w.commit("next", map[string]string{"version": "2\n"})
	w.mustDeploy()
	w.current() // what was copied from the changed release was replaced

	t.Run("planted: who believes the list keeps it", func(t *testing.T) {
		tamper()
		w.request.hooks.trusting = true
		w.mustDeploy()
		if _, err := w.whole(); err == nil {
			t.Error("a changed release passes for whole")
		}
	})
}

func TestWritingIntoTheReleaseLeavesTheOneBeforeAlone(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	one := w.mustDeploy()
	w.commit("next", map[string]string{"version": "2\n"})
	w.mustDeploy()
	w.write(filepath.Join(w.dir, "current", "status"), "500\n")
	text, err := os.ReadFile(filepath.Join(w.dir, "releases", one.Release, "status"))
	if err != nil || string(text) != "200\n" {
		t.Errorf("the release before holds %q, %v: both share the file", text, err)
	}
}

func TestAttributesThatChangeBytesAreHonoured(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	w.request.Deploy.Source.NoDefaultExcludes = true
	w.commit("eol", map[string]string{".gitattributes": "*.bat text eol=crlf\n", "run.bat": "echo\n"})
	w.mustDeploy()
	text, err := os.ReadFile(filepath.Join(w.dir, "current", "run.bat"))
	if err != nil || string(text) != "echo\r\n" {
		t.Errorf("run.bat is %q, %v; a checkout would write CRLF", text, err)
	}
}

func TestCacheOfARemoteRepositoryServesOldAndNew(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	cache, url := t.TempDir(), "file://"+w.repo
	one, err := readSnapshot(t.Context(), cache, url, "main")
	if err != nil {
		t.Fatal(err)
	}
	want := w.commit("two", map[string]string{"version": "2\n"})
	two, err := readSnapshot(t.Context(), cache, url, "main")
	if err != nil || two.commit != want {
		t.Errorf("got %s, %v; want %s", two.commit, err, want)
	}
	if err := os.Rename(w.repo, w.repo+"-gone"); err != nil {
		t.Fatal(err)
	}
	if again, err := readSnapshot(t.Context(), cache, url, one.commit); err != nil || again.commit != one.commit {
		t.Errorf("without the repository: got %s, %v; want %s from the cache", again.commit, err, one.commit)
	}
}

func TestTornDigestCacheIsHarmless(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	w.mustDeploy()
	file := filepath.Join(w.request.Cache, "digests")
	text, err := os.ReadFile(file)
	if err != nil || len(text) < 100 {
		t.Fatalf("no cache: %d bytes, %v", len(text), err)
	}
	w.write(file, string(text[:len(text)-30]))
	w.commit("next", map[string]string{"version": "2\n"})
	w.mustDeploy()
	w.current()
}

func FuzzManifest(f *testing.F) {
	f.Add(manifestOf([]file{{path: "a", mode: 0o644, digest: sumOf("x")}, {path: "l", link: "a"}}))
	f.Add("f 644 " + sumOf("") + " ../out\x00f 9 x y\x00")
	f.Fuzz(func(t *testing.T, text string) {
		for path, one := range parseManifest(text).files {
			if strings.HasPrefix(path, "/") || strings.Contains("/"+path+"/", "/../") || len(one.digest) != 64 {
				t.Errorf("%q was taken with digest %q", path, one.digest)
			}
		}
	})
}

func TestPlacesInARelease(t *testing.T) {
	files := []file{{path: "build/a/x"}, {path: "build/b/y"}}
	for name, test := range map[string]struct {
		source drill.Source
		files  []file
		want   string // paths, or the error
	}{
		"as they are":            {drill.Source{}, files, "build/a/x build/b/y"},
		"without prefix":         {drill.Source{RemovePrefix: "build/"}, files, "a/x b/y"},
		"outside of the prefix":  {drill.Source{RemovePrefix: "build/a"}, files, "build/b/y is not in build/a"},
		"prefix is whole names":  {drill.Source{RemovePrefix: "bui"}, files, "is not in bui"},
		"flat":                   {drill.Source{Flatten: true}, files, "x y"},
		"flat, twice one name":   {drill.Source{Flatten: true}, append(files, file{path: "x"}), "build/a/x and x would both"},
		"flat, one name is ours": {drill.Source{Flatten: true}, []file{{path: "d/REVISION"}}, "which is ours"},
	} {
		placed, err := (&run{request: Request{Deploy: drill.Deploy{Source: test.source}}}).placed(test.files)
		if err != nil {
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("%s: %v, want %q", name, err, test.want)
			}
			continue
		}
		var paths []string
		for _, f := range placed {
			paths = append(paths, f.path)
		}
		if got := strings.Join(paths, " "); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestEmptyDirectoriesAndExclusions(t *testing.T) {
	eachServer(t, func(t *testing.T, serve remotetest.Make) {
		w := newWorld(t, serve, remotetest.Wish{})
		w.git("update-index", "--add", "--cacheinfo", "160000,"+w.git("rev-parse", "HEAD")+",vendor/module")
		w.git("commit", "-q", "-m", "a submodule is an empty directory of a checkout")
		w.request.Deploy.Source.Exclude = []string{"bin/, **/né*"}
		for _, layout := range []string{"", "in-place"} {
			w.request.Deploy.Layout, w.request.Deploy.Healthy, w.request.Deploy.Restart = layout, drill.Healthy{}, ""
			for _, wanted := range []bool{false, true} {
				w.request.Deploy.Source.EmptyDirs = wanted
				if result := w.mustDeploy(); result.Files != 2 {
					t.Errorf("%d files, want 2", result.Files)
				}
				root := w.dir
				if layout == "" {
					root = filepath.Join(w.dir, "current")
				}
				info, err := os.Stat(filepath.Join(root, "vendor", "module"))
				if there := err == nil && info.IsDir(); there != wanted {
					t.Errorf("layout %q, empty_dirs: %t, there: %t", layout, wanted, there)
				}
				if _, err := os.Stat(filepath.Join(root, "bin")); err == nil {
					t.Error("bin was published although it is left out")
				}
			}
		}
	})
}

func TestSharedFilesOutliveReleases(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	w.request.Deploy.Shared = []string{"config/secret.yml", "uploads/"}
	w.commit("sample", map[string]string{"config/secret.yml": "sample\n", "uploads/keep": "\n"})
	if _, err := w.deploy(); drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "config/secret.yml") {
		t.Fatalf("got %v, want a refusal that names the missing file", err)
	}
	if err := os.MkdirAll(filepath.Join(w.dir, "shared", "config"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.write(filepath.Join(w.dir, "shared", "config", "secret.yml"), "real\n")
	w.mustDeploy()
	w.write(filepath.Join(w.dir, "current", "uploads", "book"), "mine\n")
	w.commit("next", map[string]string{"version": "2\n"})
	w.mustDeploy()
	for name, want := range map[string]string{"config/secret.yml": "real\n", "uploads/book": "mine\n"} {
		if text, err := os.ReadFile(filepath.Join(w.dir, "current", name)); err != nil || string(text) != want {
			t.Errorf("%s is %q, %v; want %q", name, text, err, want)
		}
	}
}
