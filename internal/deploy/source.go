package deploy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"firedrill/internal/drill"
)

// contents gives the bytes of files, in any order.
type contents interface {
	// each calls visit for every regular file that is listed, with a reader that holds exactly its bytes and is valid only during the call.
	each(ctx context.Context, files []file, visit func(f file, r io.Reader) error) error
}

// snapshot is one commit of the source: what it holds, and where the bytes are.
type snapshot struct {
	commit   string
	made     time.Time
	files    []file // all of them, without digests; in the order of the tree
	contents contents
	links    bool // links are described and were checked
}

// errNeedsCheckout says that only git itself can tell what the files of a commit look like on the disk.
var errNeedsCheckout = errors.New("needs a checkout")

// repository is a place where git objects are; nothing in it is ever changed but by a fetch into our own cache.
type repository struct{ dir string }

// CacheDir is where fetched objects and digests are kept between deployments, for this user alone; "" when there is no such place.
func CacheDir() string {
	base, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	dir := filepath.Join(base, "firedrill")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return ""
	}
	return dir
}

func keyOf(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}

// readSnapshot finds the revision without a checkout: in a repository on this machine where it is, of any other in a cache that only the
// missing objects are fetched into.
func readSnapshot(ctx context.Context, cache, url, revision string) (snapshot, error) {
	if strings.HasPrefix(url, "-") || badRevision(revision) {
		return snapshot{}, fmt.Errorf("%q is not a commit, branch or tag", revision)
	}
	if info, err := os.Stat(url); err == nil && info.IsDir() {
		return repository{dir: url}.snapshot(ctx, revision)
	}
	if cache == "" {
		return snapshot{}, errNeedsCheckout
	}
	dir := filepath.Join(cache, "git-"+keyOf(url))
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return snapshot{}, errNeedsCheckout
	}
	defer lock.Close() // which lets go of the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return snapshot{}, errNeedsCheckout // someone else fetches; we do not wait for them
	}
	repo := repository{dir: dir}
	name, err := repo.fetch(ctx, url, revision)
	if err != nil {
		return snapshot{}, err
	}
	return repo.snapshot(ctx, name)
}

func badRevision(revision string) bool {
	return strings.HasPrefix(revision, "-") || strings.ContainsAny(revision, ": \n^~?*[\\")
}

var fullCommit = drill.Pattern(`^[0-9a-f]{40}([0-9a-f]{24})?$`)

// fetch brings the revision into the cache and returns the name that it has there.
func (repo repository) fetch(ctx context.Context, url, revision string) (string, error) {
	if _, err := os.Stat(filepath.Join(repo.dir, "HEAD")); err != nil {
		if _, err := gitIn(ctx, "", "init", "-q", "--bare", "--", repo.dir); err != nil {
			return "", err
		}
	}
	if fullCommit().MatchString(revision) {
		if _, err := gitIn(ctx, repo.dir, "cat-file", "-e", revision+"^{tree}"); err == nil {
			return revision, nil
		}
	}
	if _, err := gitIn(ctx, repo.dir, "fetch", "-q", "--no-tags", "--depth=1", "--", url, revision); err != nil {
		return "", err
	}
	return "FETCH_HEAD", nil
}

// snapshot lists the commit.
func (repo repository) snapshot(ctx context.Context, revision string) (snapshot, error) {
	out, err := gitIn(ctx, repo.dir, "log", "-1", "--no-show-signature", "--format=%H %ct", "--end-of-options", revision, "--")
	if err != nil {
		return snapshot{}, err
	}
	commit, seconds, _ := strings.Cut(strings.TrimSpace(out), " ")
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return snapshot{}, fmt.Errorf("git log answered %q", out)
	}
	// Without sizes (-l): git would open every object for them, which takes longer than all else when nothing changed.
	listing, err := gitIn(ctx, repo.dir, "ls-tree", "-r", "-z", "--full-tree", commit)
	if err != nil {
		return snapshot{}, err
	}
	s := snapshot{commit: commit, made: time.Unix(unix, 0), contents: remember(blobs(repo), rememberMax)}
	for entry := range strings.SplitSeq(strings.TrimSuffix(listing, "\x00"), "\x00") {
		one, ok, err := parseEntry(entry)
		if err != nil {
			return snapshot{}, err
		}
		if ok {
			s.files = append(s.files, one)
		}
	}
	return s, repo.plain(ctx, s)
}

// sizeUnknown is the size of a file of which no more than its object is known.
const sizeUnknown = -1

// parseEntry reads "100644 blob ID\tPATH". A submodule is an empty directory, as in a checkout.
func parseEntry(entry string) (one file, ok bool, err error) {
	if entry == "" {
		return file{}, false, nil
	}
	meta, name, found := strings.Cut(entry, "\t")
	fields := strings.Fields(meta)
	if !found || len(fields) != 3 {
		return file{}, false, fmt.Errorf("git ls-tree answered %q", entry)
	}
	one = file{path: name, mode: 0o644, blob: fields[2], size: sizeUnknown}
	switch fields[0] {
	case "160000":
		return file{path: name, mode: 0o755, dir: true}, true, nil
	case "120000":
		return file{}, false, errNeedsCheckout // whether it leads out of the tree only a tree can tell
	case "100755":
		one.mode = 0o755
	}
	return one, true, nil
}

// altering are the attributes by which git changes bytes at a checkout: line ends, encodings, filters such as LFS.
var altering = drill.Pattern(`filter|crlf|ident|encoding`)

// plain makes sure that the objects are what a checkout would write.
func (repo repository) plain(ctx context.Context, s snapshot) error {
	var attributes []file
	for _, f := range s.files {
		if path.Base(f.path) == ".gitattributes" {
			attributes = append(attributes, f)
		}
	}
	return s.contents.each(ctx, attributes, func(_ file, r io.Reader) error {
		text, err := io.ReadAll(r)
		if err == nil && altering().Match(text) {
			err = errNeedsCheckout
		}
		return err
	})
}

// blobs reads file contents out of a repository, all through one git process.
type blobs repository

func (b blobs) each(ctx context.Context, files []file, visit func(f file, r io.Reader) error) (err error) {
	if len(files) == 0 {
		return nil
	}
	var names strings.Builder
	for _, f := range files {
		names.WriteString(f.blob + "\n")
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	command := gitCommand(ctx, b.dir, "cat-file", "--batch", "--buffer")
	command.Stdin = strings.NewReader(names.String())
	var errOut bytes.Buffer
	command.Stderr = &errOut
	out, err := command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := command.Start(); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			cancel() // it may still have much to say
		}
		if waitErr := command.Wait(); err == nil && waitErr != nil {
			err = fmt.Errorf("git cat-file: %w: %s", waitErr, strings.TrimSpace(errOut.String()))
		}
	}()
	reader := bufio.NewReaderSize(out, 256<<10)
	for _, f := range files {
		if err := oneBlob(reader, f, visit); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return nil
}

func oneBlob(reader *bufio.Reader, f file, visit func(f file, r io.Reader) error) error {
	header, err := reader.ReadString('\n')
	if err != nil {
		return fmt.Errorf("git cat-file: %w", err)
	}
	text, ok := strings.CutPrefix(strings.TrimSuffix(header, "\n"), f.blob+" blob ")
	size, err := strconv.ParseInt(text, 10, 64)
	if !ok || err != nil || (f.size != sizeUnknown && f.size != size) {
		return fmt.Errorf("git cat-file answered %q for the blob %s of %d bytes", header, f.blob, f.size)
	}
	f.size = size
	body := io.LimitReader(reader, f.size)
	if err := visit(f, body); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, body); err != nil {
		return err
	}
	_, err = reader.Discard(1)
	return err
}

// checkedOut reads file contents out of a directory.
type checkedOut struct{ tree string }

func (c checkedOut) each(ctx context.Context, files []file, visit func(f file, r io.Reader) error) error {
	for _, f := range files {
		if err := c.one(ctx, f, visit); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return nil
}

func (c checkedOut) one(ctx context.Context, f file, visit func(f file, r io.Reader) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	opened, err := os.Open(filepath.Join(c.tree, filepath.FromSlash(f.from())))
	if err != nil {
		return err
	}
	defer opened.Close()
	return visit(f, opened)
}

// gitCommand prepares one git command: never a question, never a hook, never another language in its errors.
func gitCommand(ctx context.Context, dir string, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, "git", append([]string{"-c", "core.hooksPath=/dev/null", "-c", "core.autocrlf=false"}, args...)...)
	command.Dir = dir
	command.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	if dir != "" { // the directory that was named, and none above it
		command.Env = append(command.Env, "GIT_CEILING_DIRECTORIES="+filepath.Dir(dir))
	}
	command.Env = without(command.Env, "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // git's own children end with it
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	command.WaitDelay = 5 * time.Second
	return command
}

// gitIn runs one git command in a directory and returns what it prints.
func gitIn(ctx context.Context, dir string, args ...string) (string, error) {
	command := gitCommand(ctx, dir, args...)
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

// digests remembers the SHA-256 and the size of git objects between deployments. An object never changes, so neither do they; a wrong line only
// makes an upload fail its check.
type digests struct {
	file  string
	known map[string]digest // by object
}

type digest struct {
	sum  string
	size int64
}

const digestsMax = 64 << 20 // a cache that grew beyond this is started anew

func openDigests(cache string) *digests {
	d := &digests{known: make(map[string]digest)}
	if cache == "" {
		return d
	}
	d.file = filepath.Join(cache, "digests")
	text, err := os.ReadFile(d.file)
	if err != nil || len(text) > digestsMax {
		_ = os.Remove(d.file)
		return d
	}
	d.known = make(map[string]digest, bytes.Count(text, []byte("\n")))
	for line := range strings.Lines(string(text)) {
		id, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		sum, last, _ := strings.Cut(rest, " ")
		length, ended := strings.CutSuffix(last, ".")
		size, err := strconv.ParseInt(length, 10, 64)
		if ended && err == nil && size >= 0 && len(sum) == sha256.Size*2 { // else the line is torn, or of an older format
			d.known[id] = digest{sum: sum, size: size}
		}
	}
	return d
}

// fill puts digest and size into each file, reading only those that are not known yet.
func (d *digests) fill(ctx context.Context, from contents, files []file) error {
	var missing []file
	for i, f := range files {
		if f.link != "" || f.text != nil || f.dir {
			continue
		}
		if known, ok := d.known[f.blob]; ok && f.blob != "" {
			files[i].digest, files[i].size = known.sum, known.size
		} else {
			missing = append(missing, f)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	read := make(map[string]digest, len(missing))
	var fresh strings.Builder
	err := from.each(ctx, missing, func(f file, r io.Reader) error {
		sum := sha256.New()
		size, err := io.Copy(sum, r)
		if err != nil {
			return err
		}
		one := digest{sum: hex.EncodeToString(sum.Sum(nil)), size: size}
		read[f.path] = one
		if _, known := d.known[f.blob]; f.blob != "" && !known {
			d.known[f.blob] = one
			fmt.Fprintf(&fresh, "%s %s %d.\n", f.blob, one.sum, one.size)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, f := range files {
		if one, ok := read[f.path]; ok {
			files[i].digest, files[i].size = one.sum, one.size
		}
	}
	d.save(fresh.String())
	return nil
}

// save appends in one write; a cache that cannot be written is only slower.
func (d *digests) save(lines string) {
	if d.file == "" || lines == "" {
		return
	}
	out, err := os.OpenFile(d.file, os.O_WRONLY|os.O_CREATE|os.O_APPEND, fs.FileMode(0o600))
	if err != nil {
		return
	}
	_, _ = io.WriteString(out, "\n"+lines) // the newline ends a line that was torn
	_ = out.Close()
}
