package deploy

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/deploy/remote/remotetest"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// TestMain keeps what tests write off the disk where it can: every deployment has it synced, and others write there too.
func TestMain(m *testing.M) {
	flag.Parse()
	var memory syscall.Statfs_t
	const noExec = 8 // ST_NOEXEC of statfs(2)
	if flag.Lookup("test.bench").Value.String() == "" && syscall.Statfs("/dev/shm", &memory) == nil && memory.Flags&noExec == 0 && memory.Bavail*uint64(memory.Bsize) > 256<<20 {
		_ = os.Setenv("TMPDIR", "/dev/shm")
	}
	os.Exit(m.Run())
}

// world is a repository, a host, and an application on it that answers from `current`.
type world struct {
	t       *testing.T
	repo    string
	dir     string // deploy.directory on the host
	account remotetest.Account
	app     *httptest.Server
	request Request
	output  bytes.Buffer

	mu    sync.Mutex // guards facts
	facts []history.Deploy
	notes []string
}

func newWorld(t *testing.T, serve remotetest.Make, wish remotetest.Wish) *world {
	t.Helper()
	if wish.Home == "" {
		wish.Home = t.TempDir() // without what a person's login shell does at its start
	}
	w := &world{t: t, repo: t.TempDir(), dir: filepath.Join(t.TempDir(), "apps", "book store's"), account: serve(t, wish)}
	w.app = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		text, err := os.ReadFile(filepath.Join(w.dir, "current", "status"))
		if err != nil || strings.TrimSpace(string(text)) != "200" || in.Host != "bookstore.example.test" {
			http.Error(out, "sick", http.StatusBadGateway)
		}
	}))
	t.Cleanup(w.app.Close)
	w.git("init", "-q", "-b", "main")
	w.commit("one", map[string]string{"status": "200\n", "version": "1\n", "bin/run": "#!/bin/sh\n", "a dir/né\nw": "odd name\n", ".gitignore": "x\n"})
	port := w.app.Listener.Addr().(*net.TCPAddr).Port
	w.request = Request{
		Cache: t.TempDir(), Service: "bookstore", Endpoint: "http://bookstore.example.test/version", Output: &w.output,
		Environment: drill.Environment{Name: "green", Hosts: []drill.Host{w.account.Host}},
		Deploy: drill.Deploy{
			Source: drill.Source{Git: w.repo, Revision: "main"}, Directory: w.dir,
			Restart: "echo restarted $(cat version)", Healthy: drill.Healthy{HTTP: "/version", Port: port, Within: drill.Seconds(time.Minute)},
		},
	}
	return w
}

func (w *world) git(args ...string) string {
	w.t.Helper()
	command := exec.Command("git", args...)
	command.Dir = w.repo
	command.Env = append(os.Environ(), "GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@example.test", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@example.test")
	out, err := command.CombinedOutput()
	if err != nil {
		w.t.Fatalf("git %v: %v: %s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit writes the files and returns the commit.
func (w *world) commit(message string, files map[string]string) string {
	w.t.Helper()
	for name, text := range files {
		path := filepath.Join(w.repo, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			w.t.Fatal(err)
		}
		mode := os.FileMode(0o644)
		if strings.HasPrefix(text, "#!") {
			mode = 0o755
		}
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			w.t.Fatal(err)
		}
	}
	w.git("add", "-A", "-f")
	w.git("commit", "-q", "--allow-empty", "-m", message)
	return w.git("rev-parse", "HEAD")
}

func (w *world) dial(ctx context.Context, host drill.Host) (*remote.Client, error) {
	return remote.Dial(ctx, host, w.account.Options)
}

func (w *world) report(fact history.Fact) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch fact := fact.(type) {
	case *history.Deploy:
		w.facts = append(w.facts, *fact)
	case *history.Note:
		w.notes = append(w.notes, fact.Text)
	}
}

func (w *world) deploy() (Result, error) {
	w.t.Helper()
	w.facts = nil
	return Run(w.t.Context(), w.request, w.dial, w.report)
}

func (w *world) mustDeploy() Result {
	w.t.Helper()
	result, err := w.deploy()
	if err != nil {
		w.t.Fatalf("deploy: %v\n%s", err, drill.HintOf(err))
	}
	if len(w.notes) > 0 {
		w.t.Errorf("notes: %q", w.notes)
	}
	return result
}

func (w *world) stages() []string {
	var stages []string
	for _, fact := range w.facts {
		stages = append(stages, fact.Stage)
	}
	return stages
}

// current returns the release that current leads to, and fails unless it is whole: every file of the commit, byte for byte.
func (w *world) current() string {
	w.t.Helper()
	release, err := w.whole()
	if err != nil {
		w.t.Fatal(err)
	}
	return release
}

func (w *world) whole() (string, error) {
	link, err := os.Readlink(filepath.Join(w.dir, "current"))
	if err != nil {
		return "", err
	}
	root := filepath.Join(w.dir, link)
	text, err := os.ReadFile(filepath.Join(root, "REVISION"))
	if err != nil {
		return "", err
	}
	commit := strings.TrimSpace(string(text))
	for _, line := range strings.Split(strings.TrimRight(w.git("ls-tree", "-r", "-z", commit), "\x00"), "\x00") {
		meta, name, _ := strings.Cut(line, "\t")
		fields := strings.Fields(meta)
		if filepath.Base(name) == ".gitignore" || fields[0] == "120000" {
			continue
		}
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return "", err
		}
		if blob := gitBlob(w.t, w.repo, fields[2]); !bytes.Equal(got, blob) {
			return "", fmt.Errorf("%s in %s has %d bytes that are not those of the commit (%d)", name, link, len(got), len(blob))
		}
		info, err := os.Stat(filepath.Join(root, name))
		if err != nil {
			return "", err
		}
		if executable := info.Mode()&0o100 != 0; executable != (fields[0] == "100755") {
			return "", fmt.Errorf("%s has mode %s, want %s", name, info.Mode(), fields[0])
		}
	}
	return filepath.Base(link), nil
}

func gitBlob(t *testing.T, repo, id string) []byte {
	t.Helper()
	command := exec.Command("git", "cat-file", "blob", id)
	command.Dir = repo
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (w *world) releases() []string {
	w.t.Helper()
	entries, err := os.ReadDir(filepath.Join(w.dir, "releases"))
	if err != nil {
		w.t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// eachServer runs a test on our own SSH server and on Debian's sshd.
func eachServer(t *testing.T, test func(t *testing.T, serve remotetest.Make)) {
	t.Run("own server", func(t *testing.T) { test(t, remotetest.Serve) })
	t.Run("openssh", func(t *testing.T) { test(t, remotetest.OpenSSH) })
}

var stagesOfSuccess = []string{history.DeployFetched, history.DeployPublish, history.DeploySwitched, history.DeployRestart, history.DeployHealthy}

func TestDeployPublishesSwitchesRestartsAndWaitsForHealth(t *testing.T) {
	eachServer(t, func(t *testing.T, serve remotetest.Make) {
		home, _ := os.UserHomeDir() // once with the login shell as it is
		w := newWorld(t, serve, remotetest.Wish{Home: home})
		head := w.git("rev-parse", "HEAD")
		result := w.mustDeploy()
		if got := w.current(); got != result.Release {
			t.Errorf("current is %q, want %q", got, result.Release)
		}
		if result.Revision != head || result.Files != 4 {
			t.Errorf("got revision %s and %d files, want %s and 4 (.gitignore is left out)", result.Revision, result.Files, head)
		}
		if diff := cmp.Diff(stagesOfSuccess, w.stages()); diff != "" {
			t.Errorf("stages (-want +got):\n%s", diff)
		}
		if got, want := w.output.String(), "test-host | restarted 1\n"; got != want {
			t.Errorf("output %q, want %q", got, want)
		}
		client, err := w.dial(t.Context(), w.account.Host)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		release, revision, err := Current(t.Context(), client, w.request.Deploy)
		if err != nil || release != result.Release || revision != head {
			t.Errorf("Current is %q, %q, %v; want %q, %q", release, revision, err, result.Release, head)
		}
	})
}

func TestUnhealthyReleaseGoesBackToTheLastGoodOne(t *testing.T) {
	eachServer(t, func(t *testing.T, serve remotetest.Make) {
		w := newWorld(t, serve, remotetest.Wish{})
		good := w.mustDeploy()
		w.commit("sick", map[string]string{"status": "500\n", "version": "2\n"})
		// The sick one uses up its time; the good one must be found healthy within the same on a busy machine too.
		w.request.Deploy.Healthy.Within = drill.Seconds(4 * time.Second)
		result, err := w.deploy()
		if drill.KindOf(err) != drill.Failed {
			t.Fatalf("got %v, want Failed", err)
		}
		if got := w.current(); got != good.Release {
			t.Errorf("current is %q, want %q", got, good.Release)
		}
		want := []string{history.DeployFetched, history.DeployPublish, history.DeploySwitched, history.DeployRestart, history.DeployFailed,
			history.DeployRestart, history.DeployHealthy, history.DeployRestored}
		if diff := cmp.Diff(want, w.stages()); diff != "" {
			t.Errorf("stages (-want +got):\n%s", diff)
		}
		if host := result.Hosts[0]; !host.Restored || host.Release != good.Release {
			t.Errorf("result %+v does not say that %s runs again", host, good.Release)
		}
		if !strings.Contains(err.Error(), "502") {
			t.Errorf("error %q does not say what the service answered", err)
		}
	})
}

func TestRestartThatHangsIsKilledAndGoesBack(t *testing.T) {
	eachServer(t, func(t *testing.T, serve remotetest.Make) {
		w := newWorld(t, serve, remotetest.Wish{})
		good := w.mustDeploy()
		w.commit("hangs", map[string]string{"version": "hang\n"})
		pid := filepath.Join(t.TempDir(), "pid")
		w.request.Deploy.Restart = `if [ "$(cat version)" = hang ]; then sleep 987 & echo $! > ` + pid + `; wait; fi`
		var text []byte
		for limit := time.Second; limit < time.Minute; limit *= 4 { // a busy machine may not even have started it within the first
			w.request.Deploy.Timeout = drill.Seconds(limit)
			_, err := w.deploy()
			if drill.KindOf(err) != drill.Failed {
				t.Fatalf("got %v, want Failed", err)
			}
			if got := w.current(); got != good.Release {
				t.Errorf("current is %q, want %q", got, good.Release)
			}
			if text, _ = os.ReadFile(pid); len(text) > 0 {
				break
			}
		}
		if len(text) == 0 {
			t.Fatal("the restart command never ran")
		}
		if remotetest.Lives(strings.TrimSpace(string(text))) {
			t.Errorf("process %s of the restart command is still there", text)
		}
	})
}

func TestFailureOnTheSecondHostTakesTheFirstBack(t *testing.T) {
	w := many(t, 2)
	w.mustDeploy()
	w.sickOn("h1")
	_, err := w.deploy()
	if drill.KindOf(err) != drill.Failed || !strings.Contains(err.Error(), "h1") {
		t.Fatalf("got %v, want Failed on h1", err)
	}
	if got := w.runs(); got != "1 1" {
		t.Errorf("the hosts run %q, want 1 on both again", got)
	}
}

func TestUnreachableHostIsFoundBeforeAnythingIsSwitched(t *testing.T) {
	w := many(t, 2)
	w.mustDeploy()
	w.sickOn()
	_, err := Run(t.Context(), w.request, func(ctx context.Context, host drill.Host) (*remote.Client, error) {
		if host.Name == "h1" {
			return nil, &drill.Error{Op: "connect", Host: host.Name, Kind: drill.Unreachable, Err: errors.New("planted")}
		}
		return w.dial(ctx, host)
	}, w.report)
	if drill.KindOf(err) != drill.Unreachable || !strings.Contains(err.Error(), "h1") {
		t.Fatalf("got %v, want Unreachable on h1", err)
	}
	if got := w.runs(); got != "1 1" {
		t.Errorf("the hosts run %q, want 1 on both still", got)
	}
}

func TestRollbackLeadsToTheReleaseBefore(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	one := w.mustDeploy()
	if _, err := Rollback(t.Context(), w.request, w.dial, w.report); drill.KindOf(err) != drill.Refused {
		t.Fatalf("rollback without an earlier release: got %v, want Refused", err)
	}
	w.commit("two", map[string]string{"version": "2\n"})
	two := w.mustDeploy()
	result, err := Rollback(t.Context(), w.request, w.dial, w.report)
	if err != nil {
		t.Fatal(err)
	}
	if got := w.current(); got != one.Release || result.Release != one.Release {
		t.Errorf("current is %q, result says %q, want %q", got, result.Release, one.Release)
	}
	if _, err := Rollback(t.Context(), w.request, w.dial, w.report); err != nil {
		t.Fatal(err)
	}
	if got := w.current(); got != two.Release {
		t.Errorf("after a second rollback current is %q, want %q", got, two.Release)
	}
}

func TestPruneKeepsWhatRunsAndWhereToGoBack(t *testing.T) {
	log := record{State: State{Release: "b"}, releases: []string{"a", "b", "c", "d", "e", "f"}, good: []string{"a", "b"}}
	if diff := cmp.Diff([]string{"c", "d"}, log.victims(2, "a")); diff != "" {
		t.Errorf("victims (-want +got):\n%s", diff)
	}
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	w.request.Deploy.KeepReleases = 1
	var last Result
	for i := range 3 {
		w.commit("next", map[string]string{"version": fmt.Sprintln(i)})
		last = w.mustDeploy()
	}
	if got := w.releases(); len(got) != 2 || got[1] != last.Release {
		t.Errorf("releases %q, want the one before and %q", got, last.Release)
	}
}

func TestSourceMistakesNameTheCure(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	base := w.request.Deploy.Source
	for name, test := range map[string]struct {
		source drill.Source
		kind   drill.ErrorKind
		says   string
	}{
		"no such revision":   {drill.Source{Git: base.Git, Revision: "nope"}, drill.Invalid, "git ls-remote"},
		"no such repository": {drill.Source{Git: base.Git + "-gone", Revision: "main"}, drill.Invalid, "git ls-remote"},
		"option as revision": {drill.Source{Git: base.Git, Revision: "--upload-pack=x"}, drill.Invalid, "not a commit"},
		"0 files":            {drill.Source{Git: base.Git, Revision: "main", Files: []string{"*.py"}}, drill.Failed, "0 files"},
		"leading slash":      {drill.Source{Git: base.Git, Revision: "main", Files: []string{"/version"}}, drill.Invalid, "source.files"},
	} {
		t.Run(name, func(t *testing.T) {
			w.request.Deploy.Source = test.source
			_, err := w.deploy()
			if drill.KindOf(err) != test.kind || !strings.Contains(drill.HintOf(err)+err.Error(), test.says) {
				t.Errorf("got %s: %v (%s); want %s with %q", drill.KindOf(err), err, drill.HintOf(err), test.kind, test.says)
			}
			if _, err := os.Lstat(w.dir); err == nil {
				t.Error("the host was touched")
			}
		})
	}
}

func TestRevisionsOfEveryKindAreFetched(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	one := w.git("rev-parse", "HEAD")
	w.git("tag", "-a", "v1", "-m", "v1")
	two := w.commit("two", map[string]string{"version": "2\n"})
	for revision, want := range map[string]string{"": two, "main": two, "v1": one, one: one, one[:10]: one} {
		checkout := gitCheckout{tree: filepath.Join(t.TempDir(), "tree"), url: w.repo, revision: revision}
		if revision == "" {
			checkout.revision = "HEAD"
		}
		if got, _, err := checkout.run(t.Context()); err != nil || got != want {
			t.Errorf("revision %q: got %s, %v; want %s", revision, got, err, want)
		}
	}
}

func TestLinkOutOfTheTreeIsRefused(t *testing.T) {
	for name, links := range map[string][][2]string{
		"absolute":      {{"l", "/etc/passwd"}},
		"above":         {{"d/l", "../../x"}},
		"by another":    {{"s/t/d", "../.."}, {"s/t/l", "d/../x"}},
		"dangling, out": {{"l", "../gone"}},
	} {
		t.Run(name, func(t *testing.T) {
			tree := t.TempDir()
			for _, link := range links {
				path := filepath.Join(tree, link[0])
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(link[1], path)); err != nil {
					t.Fatal(err)
				}
			}
			all, err := newPatterns(nil)
			if err != nil {
				t.Fatal(err)
			}
			if files, err := list(tree, all); err == nil || !strings.Contains(err.Error(), "leads out") {
				t.Errorf("got %v, %v; want a refusal", files, err)
			}
		})
	}
}

func TestLinkInsideTheTreeIsKept(t *testing.T) {
	eachServer(t, func(t *testing.T, serve remotetest.Make) {
		w := newWorld(t, serve, remotetest.Wish{})
		if err := os.Symlink("../version", filepath.Join(w.repo, "bin", "version")); err != nil {
			t.Fatal(err)
		}
		w.commit("link", nil)
		result := w.mustDeploy()
		if got, err := os.Readlink(filepath.Join(w.dir, "current", "bin", "version")); err != nil || got != "../version" {
			t.Errorf("link is %q, %v", got, err)
		}
		if result.Files != 5 {
			t.Errorf("%d files, want 5", result.Files)
		}
	})
}

func TestTwoDeploymentsExcludeEachOther(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	w.mustDeploy()
	client, err := w.dial(t.Context(), w.account.Host)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	lock, err := client.Lock(t.Context(), filepath.Join(w.dir, ".lock"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.deploy(); drill.KindOf(err) != drill.Refused {
		t.Errorf("got %v, want Refused while another holds the lock", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	w.mustDeploy()
}

// output returns what a command prints.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v: %s", name, args, err, out)
	}
	return string(out)
}
