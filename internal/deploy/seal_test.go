package deploy

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"firedrill/internal/deploy/remote/remotetest"
)

// loosely is a seal as others keep one: by what an editor can put back.
var loosely = strings.Replace(sealedScript, `[ "${got%% *}" != "$times" ] || echo "$age"`,
	`cd "$2" && for f in $(tr '\0' '\n' <"$1/.seal-names"); do [ "$(stat -c '%s %Y' "$f")" = "$(cat "$1/loose/$f")" ] || exit 0; done; echo "$age"`, 1)

func TestSealSeesWhatSizeAndTimeHide(t *testing.T) {
	// sameSize changes a file, and puts size and modification time back.
	sameSize := func(w *world) {
		name := filepath.Join(w.dir, "current", "status")
		before, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		w.write(name, "666\n")
		if err := os.Chtimes(name, before.ModTime(), before.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
	newest := func(w *world) { // a file that was made before the release, moved into it
		old := filepath.Join(w.dir, "old")
		w.write(old, "9\n")
		w.mustDeploy()
		if err := os.Rename(old, filepath.Join(w.dir, "current", "version")); err != nil {
			t.Fatal(err)
		}
	}
	for name, change := range map[string]func(*world){"edited in place": sameSize, "moved in": newest} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, remotetest.Serve, remotetest.Wish{})
			w.request.Deploy.Healthy.HTTP = ""
			w.commit("plain names", map[string]string{"a dir/né\nw": "odd name\n"})
			one := w.mustDeploy()
			change(w)
			two := w.mustDeploy()
			if w.current() == one.Release || two.Release == one.Release {
				t.Error("the changed release still runs")
			}
		})
	}

	t.Run("planted: size and time do not see it", func(t *testing.T) {
		w := newWorld(t, remotetest.Serve, remotetest.Wish{})
		w.git("rm", "-q", "-r", "a dir")
		w.commit("no odd names", nil)
		w.request.Deploy.Healthy.HTTP = ""
		w.mustDeploy()
		for _, name := range []string{"REVISION", "bin/run", "status", "version", ".firedrill-digests"} {
			keep := filepath.Join(w.dir, "loose", name)
			if err := os.MkdirAll(filepath.Dir(keep), 0o755); err != nil {
				t.Fatal(err)
			}
			w.write(keep, output(t, "stat", "-c", "%s %Y", filepath.Join(w.dir, "current", name)))
		}
		sameSize(w)
		w.request.hooks.sealedScript = loosely
		w.mustDeploy()
		if _, err := w.whole(); err == nil {
			t.Error("a changed release passes for whole")
		}
	})
}

func TestSealSaysWhatItRestsOnAndEnds(t *testing.T) {
	w := newWorld(t, remotetest.OpenSSH, remotetest.Wish{})
	w.mustDeploy()
	w.mustDeploy()
	if got := w.travelled(); !strings.Contains(got, "no file was touched since every digest was compared") {
		t.Errorf("said %q", got)
	}
	seal := filepath.Join(w.dir, ".seal")
	text, err := os.ReadFile(seal)
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(text))
	for name, at := range map[string]string{"of the day before yesterday": "1700000000", "of a clock that went back": "9700000000", "torn": "17000x"} {
		w.write(seal, strings.Join([]string{fields[0], fields[1], at, fields[3]}, " ")+"\n")
		w.mustDeploy()
		if got := w.travelled(); !strings.Contains(got, "every digest is the same") {
			t.Errorf("%s: said %q", name, got)
		}
	}
}
