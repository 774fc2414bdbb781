package deploy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// fetch finds the revision and lists what of it belongs to the release, with digests.
func (r *run) fetch(ctx context.Context, work string) error {
	source := r.request.Deploy.Source
	patterns, err := patternsOf(source)
	if err != nil {
		return &drill.Error{Op: r.op(), Kind: drill.Invalid, Err: err, Hint: "Mend source.files and source.exclude in the service file."}
	}
	found, err := r.open(ctx, work, patterns)
	if err != nil {
		return r.fetchError(ctx, source, err)
	}
	var files []file
	for _, f := range found.files {
		if !r.ours(f.path) && (!f.dir || source.EmptyDirs) && patterns.match(f.path) {
			files = append(files, f)
		}
	}
	count := counted(files)
	if count == 0 {
		return &drill.Error{Op: r.op(), Kind: drill.Failed, Err: fmt.Errorf("no file of %s at %s matches %s", source.Git, found.commit, patterns),
			Hint: "A release of 0 files is a mistake: compare source.files with `git ls-tree -r " + short(found.commit) + "`."}
	}
	if files, err = r.placed(files); err != nil {
		return &drill.Error{Op: r.op(), Kind: drill.Invalid, Err: err, Hint: "Mend source in the service file."}
	}
	if err := openDigests(r.request.Cache).fill(ctx, found.contents, files); err != nil {
		return r.fetchError(ctx, source, err)
	}
	if r.request.Deploy.InPlace() {
		r.files = withoutShared(files, r.request.Deploy.Shared)
	} else {
		r.files = withShared(withRevision(files, found.commit), r.request.Deploy.Shared)
	}
	r.contents, r.stamp, r.manifest = found.contents, found.made, manifestOf(r.files)
	r.result.Revision, r.result.Files = found.commit, count
	for _, f := range files {
		r.result.Bytes += f.size
	}
	now := time.Now
	if r.request.hooks.now != nil {
		now = r.request.hooks.now
	}
	r.result.Release = now().UTC().Format("20060102T150405.000Z") + "-" + short(found.commit)
	r.say(history.Deploy{Stage: history.DeployFetched, Release: r.result.Release, Files: count, Bytes: r.result.Bytes})
	return nil
}

// ours reports whether a path of a release is of our own making.
func (r *run) ours(name string) bool {
	if r.request.Deploy.InPlace() {
		return name == keptInPlace || strings.HasPrefix(name, keptInPlace+"/")
	}
	return name == revisionFile || name == digestsFile
}

// counted is how many files a release has: empty directories do not count.
func counted(files []file) int {
	count := 0
	for _, f := range files {
		if !f.dir {
			count++
		}
	}
	return count
}

// open reads the commit out of git's objects when these are what a checkout would write, else makes a checkout in work.
func (r *run) open(ctx context.Context, work string, patterns patterns) (snapshot, error) {
	source := r.request.Deploy.Source
	url, revision := located(source.Git, r.request.Base), source.Revision
	if revision == "" {
		revision = "HEAD"
	}
	if found, err := readSnapshot(ctx, r.request.Cache, url, revision); err == nil || ctx.Err() != nil {
		return found, err
	}
	// Whatever kept us from it: git's own way works, or says best why not.
	checkout := gitCheckout{tree: filepath.Join(work, "tree"), url: url, revision: revision}
	commit, made, err := checkout.run(ctx)
	if err != nil {
		return snapshot{}, err
	}
	files, err := list(checkout.tree, patterns)
	if err != nil {
		return snapshot{}, &drill.Error{Op: r.op(), Kind: drill.Failed, Err: err}
	}
	return snapshot{commit: commit, made: made, files: files, contents: checkedOut{tree: checkout.tree}}, nil
}

func short(commit string) string { return commit[:min(12, len(commit))] }

func (r *run) fetchError(ctx context.Context, source drill.Source, err error) error {
	var known *drill.Error
	if errors.As(err, &known) {
		return err
	}
	out := &drill.Error{Op: r.op(), Kind: drill.Failed, Err: fmt.Errorf("fetch revision %q of %s: %w", source.Revision, source.Git, err)}
	text := err.Error()
	switch {
	case ctx.Err() != nil:
		out.Kind = drill.Interrupted
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			out.Kind = drill.Timeout
		}
	case errors.Is(err, exec.ErrNotFound):
		out.Kind, out.Hint = drill.Unsupported, "Install git where firedrill runs: apt-get install git"
	case strings.Contains(text, "dubious ownership"):
		out.Kind, out.Hint = drill.Refused, "The repository belongs to another user. If you trust it: git config --global --add safe.directory "+source.Git
	case strings.Contains(text, "couldn't find remote ref"), strings.Contains(text, "no such remote ref"), strings.Contains(text, "is not a commit"),
		strings.Contains(text, "unknown revision"):
		out.Kind, out.Hint = drill.Invalid, fmt.Sprintf("See what there is: git ls-remote %s ; a short commit id must be written in full.", source.Git)
	case strings.Contains(text, "does not exist"), strings.Contains(text, "not appear to be a git repository"), strings.Contains(text, "not found"):
		out.Kind, out.Hint = drill.Invalid, "State a path or URL of a git repository as source.git; try it: git ls-remote "+source.Git
	default:
		out.Hint = "Try it by hand, as the same user: git ls-remote " + source.Git
	}
	return out
}

// located makes a relative path absolute; a URL and an scp-like address stay as they are.
func located(git, base string) string {
	if strings.Contains(git, "://") || filepath.IsAbs(git) {
		return git
	}
	if host, _, ok := strings.Cut(git, ":"); ok && !strings.Contains(host, "/") {
		return git
	}
	if path, err := filepath.Abs(filepath.Join(base, git)); err == nil {
		return path
	}
	return git
}

// gitCheckout is a revision of a repository in a directory of its own.
type gitCheckout struct {
	tree, url, revision string
}

// run returns the full commit id and when it was made. Only the one revision is fetched when the other side allows that, as all do for a
// branch, a tag and HEAD; everything otherwise.
func (g gitCheckout) run(ctx context.Context) (commit string, made time.Time, err error) {
	if strings.HasPrefix(g.url, "-") || badRevision(g.revision) {
		return "", made, fmt.Errorf("%q is not a commit, branch or tag", g.revision)
	}
	if err := os.MkdirAll(g.tree, 0o700); err != nil {
		return "", made, err
	}
	if _, err := g.git(ctx, "init", "-q"); err != nil {
		return "", made, err
	}
	name := "FETCH_HEAD"
	if _, err := g.git(ctx, "fetch", "-q", "--no-tags", "--depth=1", "--", g.url, g.revision); err != nil {
		if !isHex(g.revision) {
			return "", made, err
		}
		if _, err := g.git(ctx, "fetch", "-q", "--", g.url, "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"); err != nil {
			return "", made, err
		}
		name = g.revision
	}
	out, err := g.git(ctx, "log", "-1", "--format=%H %ct", name, "--")
	if err != nil {
		return "", made, err
	}
	commit, seconds, _ := strings.Cut(strings.TrimSpace(out), " ")
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return "", made, fmt.Errorf("git log answered %q", out)
	}
	if _, err := g.git(ctx, "checkout", "-q", "--detach", commit); err != nil {
		return "", made, err
	}
	return commit, time.Unix(unix, 0), nil
}

func isHex(revision string) bool {
	return len(revision) >= 4 && strings.Trim(strings.ToLower(revision), "0123456789abcdef") == ""
}

func (g gitCheckout) git(ctx context.Context, args ...string) (string, error) {
	return gitIn(ctx, g.tree, args...)
}

// without drops variables by which a caller (a git hook, for one) would turn our git to another repository.
func without(environment []string, names ...string) []string {
	var kept []string
	for _, line := range environment {
		name, _, _ := strings.Cut(line, "=")
		drop := false
		for _, unwanted := range names {
			drop = drop || name == unwanted
		}
		if !drop {
			kept = append(kept, line)
		}
	}
	return kept
}
