package deploy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/deploy/remote/remotetest"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// cuts is how often the connection is cut against Debian's sshd, and by how many at a time.
const (
	cuts      = 100
	cutAtOnce = 4
)

func TestCutAtAnyByteLeavesCurrentOnOneWholeRelease(t *testing.T) {
	for i := range cutAtOnce {
		t.Run(fmt.Sprintf("openssh %d", i), func(t *testing.T) {
			t.Parallel()
			cutAndLook(t, remotetest.OpenSSH, "", cuts/cutAtOnce)
		})
	}
	t.Run("own server", func(t *testing.T) {
		t.Parallel()
		cutAndLook(t, remotetest.Serve, "", 10)
	})
	t.Run("in place", func(t *testing.T) {
		t.Parallel()
		cutAndLook(t, remotetest.OpenSSH, "in-place", 10)
	})
}

// cutAndLook deploys two releases in turn over connections that break, and looks after each whether one of them is whole.
func cutAndLook(t *testing.T, serve remotetest.Make, layout string, times int) {
	w := newWorld(t, serve, remotetest.Wish{})
	w.request.Deploy.Layout = layout
	cutter := new(remotetest.Cutter)
	w.account.Options.DialNet = cutter.DialNet
	var releases [2]map[string]string // files by their content
	var commits [2]string
	for i, status := range []string{"200\n", "500\n"} { // the second one does not pass, so that it goes back
		big := make([]byte, 40_000)
		_, _ = rand.Read(big)
		releases[i] = map[string]string{"status": status, "version": fmt.Sprintln(i), "bin/run": "#!/bin/sh\n", "a dir/né\nw": "odd name\n", "big": string(big)}
		commits[i] = w.commit("a release", releases[i])
	}
	w.request.Deploy.Healthy.Times = 1
	if layout != "" {
		w.request.Deploy.Healthy, w.request.Deploy.Restart = drill.Healthy{}, "grep -q 200 "+shellQuoted(filepath.Join(w.dir, "status"))
	}
	deploy := func(which int) error {
		w.request.Deploy.Source.Revision = commits[which]
		_, err := w.deploy()
		return err
	}
	cutter.CutAfter()
	if err := deploy(0); err != nil {
		t.Fatal(err)
	}
	if layout == "" { // so that it does not stay as it is
		w.request.hooks.anew = true
	}
	w.request.Deploy.Healthy.Within = drill.Seconds(100e6)
	cutter.CutAfter()
	_ = deploy(1)
	total := cutter.Spent()
	seed := mathrand.Uint64()
	random := mathrand.New(mathrand.NewPCG(seed, 0))
	cut, tries := 0, 0
	for ; tries < times || cut < times/2 && tries < 20*times; tries++ { // a deployment that has less to say ends before its cut, and one that finds a lock says next to nothing
		i := tries
		at := []int64{1 + random.Int64N(total)}
		if i%2 == 1 { // after the upload, and while going back
			at = []int64{total - random.Int64N(total/4), 1 + random.Int64N(total/4)}
		}
		cutter.CutAfter(at...)
		_ = deploy(i % 2)
		cut += len(at) - cutter.Left()
		if err := w.wholeAmong(commits, releases); err != nil {
			t.Fatalf("SEED=%d cut %d at %d of %d bytes: %v", seed, i, at, total, err)
		}
	}
	if cut < times/2 {
		t.Errorf("%d cuts hit in %d deployments", cut, tries)
	}
	cutter.CutAfter()
	w.request.Deploy.Healthy = drill.Healthy{}
	err := deploy(0)
	for began := time.Now(); errors.Is(err, remote.ErrLocked) && time.Since(began) < 2*time.Minute; {
		err = deploy(0) // a cut one keeps its lock for up to a minute
	}
	if err != nil {
		t.Fatalf("the next deployment: %v (%s)", err, drill.HintOf(err))
	}
	if err := w.wholeAmong(commits, releases); err != nil {
		t.Error(err)
	}
	left, err := filepath.Glob(filepath.Join(w.dir, "releases", ".tmp-*"))
	more, _ := filepath.Glob(filepath.Join(w.dir, keptInPlace, "undo*"))
	if err != nil || len(left)+len(more) > 0 {
		t.Errorf("%q is left of cut uploads, %v", append(left, more...), err)
	}
}

// wholeAmong looks whether what a host says that it runs is there, byte for byte. In place it says nothing while files are exchanged.
func (w *world) wholeAmong(commits [2]string, releases [2]map[string]string) error {
	root, commit := w.dir, ""
	if w.request.Deploy.InPlace() {
		text, err := os.ReadFile(filepath.Join(w.dir, keptInPlace, "state"))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		line, _, _ := strings.Cut(string(text), "\n")
		_, commit, _ = strings.Cut(line, " ")
	} else {
		root = filepath.Join(w.dir, "current")
		text, err := os.ReadFile(filepath.Join(root, "REVISION"))
		if err != nil {
			return err
		}
		commit = strings.TrimSpace(string(text))
	}
	which := slices.Index(commits[:], commit)
	if which < 0 {
		return fmt.Errorf("%q runs, which is no release", commit)
	}
	for name, want := range releases[which] {
		if got, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(got) != want {
			return fmt.Errorf("%s has %d bytes that are not those of release %d (%d): %w", name, len(got), which, len(want), err)
		}
	}
	return nil
}

// damagingPath makes a PATH whose tar unpacks and then adds a byte to one file, as a bad disk would.
func damagingPath(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\n/usr/bin/env PATH=/usr/bin:/bin tar \"$@\" || exit\nfor d; do :; done\nprintf x >>\"$d/version\"\n"
	if err := os.WriteFile(filepath.Join(dir, "tar"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir + ":/usr/bin:/bin"
}

func TestDamagedUploadIsNeverPublished(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{Path: damagingPath(t)})
	_, err := w.deploy()
	if err == nil || !strings.Contains(err.Error(), "version arrived damaged") {
		t.Errorf("got %v, want the damage named", err)
	}
	if got := w.releases(); len(got) != 0 {
		t.Errorf("releases %q, want none", got)
	}
	if _, err := os.Lstat(filepath.Join(w.dir, "current")); err == nil {
		t.Error("current exists")
	}

	t.Run("planted: without digests the check of this test sees it", func(t *testing.T) {
		w.request.hooks.unverified = true
		if _, err := w.deploy(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.whole(); err == nil {
			t.Error("a damaged release passes for whole")
		}
	})
}

// onlooker looks at something again and again while it is changed. A planted bug waits in the middle of its change until it was looked at, so
// that no luck is needed to see it.
type onlooker struct {
	waits, looked string // files: the change waits; it was looked at meanwhile
	end           chan struct{}
	bad           chan int
}

// newOnlooker begins to look; good says whether what is there is whole.
func newOnlooker(t *testing.T, good func() bool) *onlooker {
	t.Helper()
	dir := t.TempDir()
	o := &onlooker{waits: filepath.Join(dir, "waits"), looked: filepath.Join(dir, "looked"), end: make(chan struct{}), bad: make(chan int, 1)}
	t.Cleanup(func() {
		select {
		case <-o.end:
		default:
			close(o.end)
		}
	})
	go func() {
		count := 0
		for {
			_, err := os.Lstat(o.waits)
			if !good() {
				count++
			}
			if err == nil {
				_ = os.WriteFile(o.looked, nil, 0o600)
			}
			select {
			case <-o.end:
				o.bad <- count
				return
			default:
			}
		}
	}()
	return o
}

// wait is a command that ends when somebody has looked since it began.
func (o *onlooker) wait() string {
	return fmt.Sprintf("rm -f %[2]s; : >%[1]s; n=0; while [ ! -e %[2]s ] && [ $n -lt 6000 ]; do sleep 0.01; n=$((n+1)); done; rm -f %[1]s", shellQuoted(o.waits), shellQuoted(o.looked))
}

// stop returns how often what was there was not whole.
func (o *onlooker) stop() int {
	close(o.end)
	return <-o.bad
}

// switches moves current to and fro while someone looks at it, and returns how often it led nowhere.
func switches(t *testing.T, w *world, releases []string, plant func(wait string) string) (missing int) {
	t.Helper()
	on := newOnlooker(t, func() bool {
		_, err := os.Stat(filepath.Join(w.dir, "current", "REVISION"))
		return err == nil
	})
	if plant != nil {
		w.request.hooks.switchScript = plant(on.wait())
	}
	r := newRun(w.request, w.dial, w.report)
	target := r.newTarget(w.account.Host, false)
	if err := target.connect(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer target.disconnect()
	for i := range 40 {
		if err := target.switchTo(t.Context(), releases[i%2]); err != nil {
			t.Error(err)
		}
	}
	return on.stop()
}

func TestSwitchIsNeverSeenHalf(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	one := w.mustDeploy()
	w.commit("two", nil)
	two := w.mustDeploy()
	releases := []string{one.Release, two.Release}
	if missing := switches(t, w, releases, nil); missing != 0 {
		t.Errorf("current led nowhere %d times", missing)
	}

	t.Run("planted: a switch in two steps is seen", func(t *testing.T) {
		missing := switches(t, w, releases, func(wait string) string {
			return `cd "$1" && rm current && { ` + wait + `; } && ln -s "releases/$2" current && echo "current $(readlink current)"`
		})
		if missing == 0 {
			t.Error("nobody saw the gap")
		}
	})
}

// pathWithout makes a PATH with every program of the machine but some.
func pathWithout(t *testing.T, names ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, from := range []string{"/usr/bin", "/bin", "/usr/sbin"} {
		entries, err := os.ReadDir(from)
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			if !slices.Contains(names, entry.Name()) {
				_ = os.Symlink(filepath.Join(from, entry.Name()), filepath.Join(dir, entry.Name())) // the first one of a name counts
			}
		}
	}
	return dir
}

func TestPoorHostsAreServedToo(t *testing.T) {
	for name, wish := range map[string]remotetest.Wish{
		"no SFTP":                     {NoSFTP: true},
		"no tar":                      {Path: pathWithout(t, "tar")},
		"no tar, no sha256sum":        {Path: pathWithout(t, "tar", "sha256sum")},
		"no sha256sum, no SFTP":       {Path: pathWithout(t, "sha256sum"), NoSFTP: true},
		"no flock, timeout or setsid": {Path: pathWithout(t, "flock", "timeout", "setsid")},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, remotetest.Serve, wish)
			if err := os.Symlink("../version", filepath.Join(w.repo, "bin", "version")); err != nil {
				t.Fatal(err)
			}
			w.commit("link", nil)
			result := w.mustDeploy()
			if got := w.current(); got != result.Release {
				t.Errorf("current is %q, want %q", got, result.Release)
			}
			if got, err := os.Readlink(filepath.Join(w.dir, "current", "bin", "version")); err != nil || got != "../version" {
				t.Errorf("link is %q, %v", got, err)
			}
		})
	}
}

func TestHostWithoutTarAndSFTPSaysWhatHelps(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{NoSFTP: true, Path: pathWithout(t, "tar")})
	if _, err := w.deploy(); drill.KindOf(err) != drill.Unsupported || drill.HintOf(err) == "" {
		t.Errorf("got %v (%s), want Unsupported with a hint", err, drill.HintOf(err))
	}
}

func TestCancelAfterTheSwitchGoesBack(t *testing.T) {
	w := newWorld(t, remotetest.Serve, remotetest.Wish{})
	good := w.mustDeploy()
	w.commit("two", map[string]string{"version": "2\n"})
	ctx, cancel := context.WithCancel(t.Context())
	_, err := Run(ctx, w.request, w.dial, func(fact history.Fact) {
		if stage, ok := fact.(*history.Deploy); ok && stage.Stage == history.DeploySwitched {
			cancel()
		}
	})
	if drill.KindOf(err) != drill.Interrupted || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Interrupted", err)
	}
	if got := w.current(); got != good.Release {
		t.Errorf("current is %q, want %q", got, good.Release)
	}
}
