package deploy

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/deploy/remote/remotetest"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// inPlaceWorld is a host on which an application stands that Jenkins put there, with data of its own.
func inPlaceWorld(t *testing.T, serve remotetest.Make, wish remotetest.Wish) *world {
	t.Helper()
	w := newWorld(t, serve, wish)
	w.request.Deploy.Layout = "in-place"
	w.request.Deploy.Healthy = drill.Healthy{}
	w.request.Deploy.Restart = "cat " + shellQuoted(filepath.Join(w.dir, "version"))
	for name, text := range map[string]string{"version": "0\n", "old/lib.py": "old\n", "data/db.sqlite": "data\n", "né \\ w\n'x": "found\n"} {
		path := filepath.Join(w.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		w.write(path, text)
	}
	if err := os.Chmod(filepath.Join(w.dir, "version"), 0o640); err != nil {
		t.Fatal(err)
	}
	return w
}

func shellQuoted(text string) string { return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" }

// placed lists what is in place: path to mode and content, without what is ours. Directories are listed when they are empty.
func (w *world) inPlace() map[string]string {
	w.t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(w.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(w.dir, path)
		info, err := entry.Info()
		if err != nil {
			return err
		}
		switch {
		case name == keptInPlace:
			return fs.SkipDir
		case entry.IsDir():
			if inside, err := os.ReadDir(path); err == nil && len(inside) == 0 {
				found[name+"/"] = "empty"
			}
		case info.Mode()&fs.ModeSymlink != 0:
			to, err := os.Readlink(path)
			found[name] = "-> " + to
			return err
		default:
			text, err := os.ReadFile(path)
			found[name] = fmt.Sprintf("%o %s", info.Mode().Perm(), text)
			return err
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return found
}

func (w *world) wantInPlace(what string, want map[string]string) {
	w.t.Helper()
	if diff := cmp.Diff(want, w.inPlace()); diff != "" {
		w.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// with returns the files and more; an empty text takes one away.
func with(files map[string]string, more ...string) map[string]string {
	all := make(map[string]string)
	for name, text := range files {
		all[name] = text
	}
	for i := 0; i < len(more); i += 2 {
		if all[more[i]] = more[i+1]; more[i+1] == "" {
			delete(all, more[i])
		}
	}
	return all
}

var firstInPlace = []string{"version", "644 1\n", "status", "644 200\n", "bin/run", "755 #!/bin/sh\n", "a dir/né\nw", "644 odd name\n"}

func TestInPlaceExchangesFilesAndGoesBackByteForByte(t *testing.T) {
	eachServer(t, func(t *testing.T, serve remotetest.Make) {
		w := inPlaceWorld(t, serve, remotetest.Wish{})
		found := w.inPlace()
		one := w.mustDeploy()
		first := with(found, firstInPlace...)
		w.wantInPlace("after the first deployment", first)
		if got := w.output.String(); !strings.HasSuffix(got, "| 1\n") {
			t.Errorf("the service started with %q", got)
		}
		w.git("rm", "-q", "-r", "bin", "status")
		if err := os.Symlink("version", filepath.Join(w.repo, "link")); err != nil {
			t.Fatal(err)
		}
		w.commit("two", map[string]string{"version": "2\n", "né \\ w\n'x": "ours\n"})
		w.write(filepath.Join(w.dir, "version"), "edited by hand\n")
		edited := w.inPlace()
		two := w.mustDeploy()
		second := with(first, "version", "644 2\n", "né \\ w\n'x", "644 ours\n", "link", "-> version", "status", "", "bin/run", "")
		w.wantInPlace("after the second deployment", second)
		client := w.account.Dial(t)
		if release, revision, err := Current(t.Context(), client, w.request.Deploy); release != two.Release || revision != two.Revision || err != nil {
			t.Errorf("Current is %q, %q, %v; want %q, %q", release, revision, err, two.Release, two.Revision)
		}
		for i, want := range []struct {
			release string
			files   map[string]string
		}{{one.Release, edited}, {two.Release, second}, {one.Release, edited}} {
			result, err := Rollback(t.Context(), w.request, w.dial, w.report)
			if err != nil || result.Release != want.release {
				t.Fatalf("rollback %d: %q, %v (%s); want %q", i, result.Release, err, drill.HintOf(err), want.release)
			}
			w.wantInPlace(fmt.Sprintf("after rollback %d", i), want.files)
		}
	})
}

func TestInPlaceFailureGoesBackToWhatWasFound(t *testing.T) {
	w := inPlaceWorld(t, remotetest.Serve, remotetest.Wish{})
	found := w.inPlace()
	w.request.Deploy.Restart = "[ $(cat " + shellQuoted(filepath.Join(w.dir, "version")) + ") != 1 ]"
	result, err := w.deploy()
	if drill.KindOf(err) != drill.Failed || !result.Hosts[0].Restored {
		t.Fatalf("got %+v, %v; want a failure and what was found", result, err)
	}
	w.wantInPlace("after the failure", found)
	w.commit("two", map[string]string{"version": "2\n"})
	good := w.mustDeploy()
	w.git("revert", "-n", "HEAD")
	w.commit("as one", nil)
	if _, err := w.deploy(); err == nil {
		t.Fatal("version 1 passes for healthy")
	}
	w.wantInPlace("after the second failure", with(with(found, firstInPlace...), "version", "644 2\n"))
	if release, _, err := Current(t.Context(), w.account.Dial(t), w.request.Deploy); release != good.Release || err != nil {
		t.Errorf("Current is %q, %v; want %q", release, err, good.Release)
	}
	if _, err := Rollback(t.Context(), w.request, w.dial, w.report); err != nil {
		t.Fatalf("roll back: %v", err)
	}
	w.wantInPlace("after a rollback", found)
}

func TestInPlaceUnchangedIsLeftAlone(t *testing.T) {
	w := inPlaceWorld(t, remotetest.Serve, remotetest.Wish{})
	w.mustDeploy()
	for i, want := range []string{"no file was touched", "no file was touched"} {
		w.mustDeploy()
		if got := w.travelled(); !strings.Contains(got, want) {
			t.Errorf("%d: said %q, want %q", i, got, want)
		}
	}
	for name, spoil := range map[string]func(path string) error{
		"content": func(path string) error { return os.WriteFile(path, []byte("9\n"), 0o644) },
		"mode":    func(path string) error { return os.Chmod(path, 0o755) },
		"gone":    os.Remove,
	} {
		if err := spoil(filepath.Join(w.dir, "version")); err != nil {
			t.Fatal(err)
		}
		w.mustDeploy()
		if got := w.inPlace()["version"]; got != "644 1\n" {
			t.Errorf("%s: version is %q", name, got)
		}
		if got := w.travelled(); !strings.HasPrefix(got, "1 files") {
			t.Errorf("%s: said %q", name, got)
		}
	}
}

func TestInPlaceCleanSparesWhatIsShared(t *testing.T) {
	w := inPlaceWorld(t, remotetest.Serve, remotetest.Wish{})
	found := w.inPlace()
	w.request.Deploy.Clean = true
	w.request.Deploy.Shared = []string{"data/db.sqlite", "log/"}
	w.commit("sample", map[string]string{"data/db.sqlite": "sample\n"})
	w.mustDeploy()
	w.wantInPlace("after clean", with(nil, append(firstInPlace, "data/db.sqlite", "644 data\n", "log/", "empty")...))
	if _, err := Rollback(t.Context(), w.request, w.dial, w.report); err != nil {
		t.Fatal(err)
	}
	w.wantInPlace("after the rollback", with(found, "log/", "empty"))
	w.request.Deploy.Shared = []string{"secret.yml"}
	if _, err := w.deploy(); drill.KindOf(err) != drill.Refused || !strings.Contains(drill.HintOf(err), filepath.Join(w.dir, "secret.yml")) {
		t.Errorf("got %v (%s), want a refusal that says where the file belongs", err, drill.HintOf(err))
	}
}

func TestInPlaceRefusesWhatIsInTheWay(t *testing.T) {
	for name, make := range map[string]func(dir string) error{
		"a directory where a file belongs":   func(dir string) error { return os.Mkdir(filepath.Join(dir, "status"), 0o755) },
		"a file where a directory belongs":   func(dir string) error { return os.WriteFile(filepath.Join(dir, "bin"), nil, 0o644) },
		"a link that leads out of the place": func(dir string) error { return os.Symlink(t.TempDir(), filepath.Join(dir, "bin")) },
	} {
		t.Run(name, func(t *testing.T) {
			w := inPlaceWorld(t, remotetest.Serve, remotetest.Wish{})
			if err := make(w.dir); err != nil {
				t.Fatal(err)
			}
			found := w.inPlace()
			if _, err := w.deploy(); drill.KindOf(err) != drill.Refused || drill.HintOf(err) == "" {
				t.Errorf("got %v, want a refusal with a hint", err)
			}
			w.wantInPlace("afterwards", found)
		})
	}
}

func TestInPlaceNeverShowsHalfAFile(t *testing.T) {
	// halves deploys one file to and fro while somebody reads it, and counts what is neither the one nor the other.
	halves := func(t *testing.T, plant func(wait string) func(script string) string) int {
		w := inPlaceWorld(t, remotetest.Serve, remotetest.Wish{})
		w.request.Deploy.Restart = ""
		texts := []string{strings.Repeat("a", 1<<20), strings.Repeat("b", 1<<20)}
		w.commit("a", map[string]string{"big": texts[0]})
		w.mustDeploy()
		on := newOnlooker(t, func() bool {
			text, err := os.ReadFile(filepath.Join(w.dir, "big"))
			return err == nil && slices.Contains(texts, string(text))
		})
		if plant != nil {
			w.request.hooks.inPlace = plant(on.wait())
		}
		w.commit("b", map[string]string{"big": texts[1]})
		w.mustDeploy()
		for range 4 {
			if _, err := Rollback(t.Context(), w.request, w.dial, nil); err != nil {
				t.Error(err)
			}
		}
		return on.stop()
	}
	if got := halves(t, nil); got != 0 {
		t.Errorf("%d times half a file was seen", got)
	}
	t.Run("planted: copying over it is seen", func(t *testing.T) {
		got := halves(t, func(wait string) func(string) string {
			copying := filepath.Join(t.TempDir(), "copying")
			program := "#!/bin/sh\nfor to; do :; done\nwhile [ $# -gt 1 ]; do\n head -c 1000 \"$1\" >\"$to/$1\"\n " + wait + "\n cat \"$1\" >\"$to/$1\"\n shift\ndone\n"
			if err := os.WriteFile(copying, []byte(program), 0o755); err != nil {
				t.Fatal(err)
			}
			return func(script string) string { return strings.ReplaceAll(script, "mv -f -- ", copying+" ") }
		})
		if got == 0 {
			t.Error("nobody saw it")
		}
	})
}

// dyingPath makes a PATH whose programs count their calls; from a call on, each kills its caller, as when the host goes down. die is a command
// after which that begins, once.
func dyingPath(t *testing.T) (path, die string, dieAt func(call int), calls func() int) {
	t.Helper()
	dir := t.TempDir()
	counter, at := filepath.Join(dir, "counter"), filepath.Join(dir, "at")
	for _, name := range []string{"mv", "rm", "tar", "mkdir", "rmdir", "sync", "cp", "cat", "find"} {
		script := "#!/bin/sh\necho x >>" + counter + "\n[ $(wc -l <" + counter + ") -lt $(/bin/cat " + at + ") ] || { kill -9 $PPID; exit 9; }\n" +
			"PATH=/usr/bin:/bin exec " + name + " \"$@\"\n"
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dieAt = func(call int) {
		if err := os.WriteFile(at, fmt.Appendln(nil, call), 0o644); err != nil {
			t.Fatal(err)
		}
		_ = os.Remove(counter)
	}
	calls = func() int {
		text, _ := os.ReadFile(counter)
		return strings.Count(string(text), "\n")
	}
	dieAt(never)
	die = fmt.Sprintf("[ -e %[1]s ] || { : >%[1]s; echo 1 >%[2]s; }", shellQuoted(filepath.Join(dir, "died")), shellQuoted(at))
	return dir + ":/usr/bin:/bin", die, dieAt, calls
}

const never = 1_000_000

// survives deploys to a host that dies at a call of a program, and says what is wrong with what follows: a deployment of something else, and
// then a rollback, which leads to what was good before the host died.
func survives(t *testing.T, plant func(die string) func(script string) string, at func(calls int) int) string {
	t.Helper()
	path, die, dieAt, calls := dyingPath(t)
	w := inPlaceWorld(t, remotetest.Serve, remotetest.Wish{Path: path})
	w.request.Deploy.Restart = ""
	link := func(to string) {
		_ = os.Remove(filepath.Join(w.repo, "link"))
		if err := os.Symlink(to, filepath.Join(w.repo, "link")); err != nil {
			t.Fatal(err)
		}
	}
	link("version")
	w.commit("link", nil)
	w.mustDeploy()
	good := w.inPlace()
	w.git("rm", "-q", "-r", "bin")
	link("status")
	w.commit("two", map[string]string{"version": "2\n", "new/file": "new\n"})
	dieAt(never)
	w.mustDeploy()
	total := calls()
	if _, err := Rollback(t.Context(), w.request, w.dial, nil); err != nil {
		t.Fatal(err)
	}
	if plant != nil {
		w.request.hooks.inPlace = plant(die)
	}
	dieAt(at(total))
	_, err := w.deploy()
	dieAt(never)
	w.commit("three", map[string]string{"version": "3\n", "new/file": "", "three": "3\n"})
	w.notes = nil
	ctx, cancel := context.WithCancel(t.Context())
	_, thirdErr := Run(ctx, w.request, w.dial, func(fact history.Fact) {
		if stage, is := fact.(*history.Deploy); is && stage.Stage == history.DeploySwitched {
			cancel() // what comes is not good: it goes back
		}
	})
	cancel()
	if err != nil && strings.Contains(drill.HintOf(thirdErr), "A person is needed") {
		return fmt.Sprintf("died at %d of %d (%v), then could not go back: %v", at(total), total, err, thirdErr)
	}
	if diff := cmp.Diff(good, w.inPlace()); diff != "" && err != nil {
		return fmt.Sprintf("died at %d of %d (%v), then went back (%v); -good +found:\n%s", at(total), total, err, thirdErr, diff)
	}
	w.mustDeploy()
	want := with(good, "version", "644 3\n", "new/file", "644 ", "three", "644 3\n", "bin/run", "", "link", "-> status")
	if diff := cmp.Diff(want, w.inPlace()); diff != "" {
		return "the next deployment brought something else (-want +got):\n" + diff
	}
	return ""
}

func TestInPlaceSurvivesTheDeathOfTheHostAtAnyStep(t *testing.T) {
	const parts = 8
	for part := range parts {
		t.Run(fmt.Sprintf("%d of %d", part, parts), func(t *testing.T) {
			t.Parallel()
			if wrong := survives(t, nil, func(calls int) int { return 1 + calls*part/parts }); wrong != "" {
				t.Error(wrong)
			}
		})
	}
}

func TestInPlaceSurvivesADeathBetweenKeepingAndExchanging(t *testing.T) {
	const exchanges = `rm -f "$kept/state" "$kept/.seal" && move`
	if !strings.Contains(inPlacePut, exchanges) {
		t.Fatal("the exchange begins otherwise")
	}
	plant := func(die string) func(string) string {
		return func(script string) string { return strings.Replace(script, exchanges, die+"\n"+exchanges, 1) }
	}
	if wrong := survives(t, plant, func(int) int { return never }); wrong != "" {
		t.Error(wrong)
	}
	t.Run("planted: the same file is no mistake of mv(1) alone", func(t *testing.T) {
		careless := func(die string) func(string) string {
			return func(script string) string {
				script = strings.Replace(script, ` || [ "$f" -ef "$to" ]`, "", 1)
				return strings.Replace(script, exchanges, die+"\n"+exchanges, 1)
			}
		}
		if survives(t, careless, func(int) int { return never }) == "" {
			t.Error("nobody saw it")
		}
	})
}

func TestInPlaceDeathWithoutAnUndoIsSeen(t *testing.T) {
	wrong := survives(t, func(die string) func(string) string {
		return func(script string) string {
			script = strings.Replace(script, `mv "$new" "$1/undo/$n"`, `rm -rf "$new"`, 1)
			return strings.Replace(script, `cd "$place" && xargs -0 -r rm -rf --`, die+"\n"+`cd "$place" && xargs -0 -r rm -rf --`, 1) // the files are exchanged by then
		}
	}, func(int) int { return never })
	if wrong == "" {
		t.Error("a deployment that keeps no undo passes")
	}
}

func TestInPlaceGoesBackByArchivesToo(t *testing.T) {
	// cp(1) of a host that makes no links, or cannot.
	dir := t.TempDir()
	cp := "#!/bin/sh\nfor a; do [ \"$a\" != -l ] || exit 1; done\nPATH=/usr/bin:/bin exec cp \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "cp"), []byte(cp), 0o755); err != nil {
		t.Fatal(err)
	}
	w := inPlaceWorld(t, remotetest.Serve, remotetest.Wish{Path: dir + ":/usr/bin:/bin"})
	found := w.inPlace()
	w.mustDeploy()
	if _, err := os.Stat(filepath.Join(w.dir, keptInPlace, "backup", "1", "files.tar")); err != nil {
		t.Errorf("no archive: %v", err)
	}
	if _, err := Rollback(t.Context(), w.request, w.dial, nil); err != nil {
		t.Fatal(err)
	}
	w.wantInPlace("after the rollback", found)
}

func TestInPlaceExchangesMoreFilesThanFitIntoOneCommand(t *testing.T) {
	w := inPlaceWorld(t, remotetest.Serve, remotetest.Wish{})
	w.request.Deploy.Restart = ""
	found := w.inPlace()
	files, first := make(map[string]string), with(found, firstInPlace...)
	for i := range 450 { // more than one command takes, in one directory and in several, with names that a shell passes over
		name := fmt.Sprintf([]string{"many/f%d", "many/.f%d", "many/..f%d", "d%d/f", "many/* %d"}[i%5], i)
		files[name], first[name] = "1\n", "644 1\n"
	}
	w.commit("many", files)
	w.mustDeploy()
	w.wantInPlace("after the deployment", first)
	w.git("rm", "-q", "-r", "many")
	w.commit("fewer", map[string]string{"version": "2\n"})
	second := with(first, "version", "644 2\n")
	for name := range files {
		if strings.HasPrefix(name, "many/") {
			delete(second, name)
		}
	}
	w.mustDeploy()
	w.wantInPlace("after files went", second)
	if _, err := Rollback(t.Context(), w.request, w.dial, nil); err != nil {
		t.Fatal(err)
	}
	w.wantInPlace("after the rollback", first)
}
