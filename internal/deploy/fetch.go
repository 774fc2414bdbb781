package deploy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// fetch brings the revision into work and lists its files.
func (r *run) fetch(ctx context.Context, work string) error {
	source := r.request.Deploy.Source
	checkout := gitCheckout{tree: filepath.Join(work, "tree"), url: located(source.Git, r.request.Base), revision: source.Revision}
	if checkout.revision == "" {
		checkout.revision = "HEAD"
	}
	commit, made, err := checkout.run(ctx)
	if err != nil {
		return r.fetchError(ctx, source, err)
	}
	patterns, err := newPatterns(source.Files)
	if err != nil {
		return &drill.Error{Op: r.op(), Kind: drill.Invalid, Err: err, Hint: "Mend source.files in the service file."}
	}
	files, err := list(checkout.tree, patterns)
	if err != nil {
		return r.failed("", drill.Failed, err)
	}
	if len(files) == 0 {
		return &drill.Error{Op: r.op(), Kind: drill.Failed, Err: fmt.Errorf("no file of %s at %s matches %s", source.Git, commit, patterns),
			Hint: "A release of 0 files is a mistake: compare source.files with `git ls-tree -r " + short(commit) + "`."}
	}
	r.files, r.tree, r.stamp = files, checkout.tree, made
	r.result.Revision, r.result.Files = commit, len(files)
	for _, f := range files {
		r.result.Bytes += f.size
	}
	r.result.Release = time.Now().UTC().Format("20060102T150405.000Z") + "-" + short(commit)
	r.say(history.Deploy{Stage: history.DeployFetched, Release: r.result.Release, Files: len(files), Bytes: r.result.Bytes})
	return nil
}

func short(commit string) string { return commit[:min(12, len(commit))] }

func (r *run) fetchError(ctx context.Context, source drill.Source, err error) error {
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
	if strings.HasPrefix(g.url, "-") || strings.HasPrefix(g.revision, "-") || strings.ContainsAny(g.revision, ": \n^~?*[\\") {
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

// git runs one git command in the tree: never a question, never a hook, never another language in its errors.
func (g gitCheckout) git(ctx context.Context, args ...string) (string, error) {
	command := exec.CommandContext(ctx, "git", append([]string{"-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false"}, args...)...)
	command.Dir = g.tree
	command.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	command.Env = without(command.Env, "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // git's own children end with it
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = 5 * time.Second
	var out, errOut bytes.Buffer
	command.Stdout, command.Stderr = &out, &errOut
	if err := command.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return "", cause
		}
		if text := strings.TrimSpace(errOut.String()); text != "" {
			return "", fmt.Errorf("git %s: %s", args[0], strings.ReplaceAll(text, "\n", "; "))
		}
		return "", fmt.Errorf("git %s: %w", args[0], err)
	}
	return out.String(), nil
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
