package deploy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pkg/sftp"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
)

// clear removes what an earlier deployment left half done. We hold the lock, so nobody else is at it.
func (t *target) clear(ctx context.Context) error {
	_, err := t.script(ctx, "", `cd "$1" && rm -rf releases/.tmp-* .current-new`, t.directory())
	return err
}

// wholeScript compares all digests at once, and gives a whole upload its name. Everything is on the disk before: a power cut must not
// leave a release of empty files. LC_ALL: elsewhere than in C, sed takes bytes that are no characters for nothing that it knows. openssl uses what the
// processor has for SHA-256, which Debian's sha256sum does not; where it says something else, for whatever reason, sha256sum is asked. Names come over standard input, each ended by NUL. What was compared is sealed (seal.go).
//
//	$1 directory   $2 name of the upload, or of a release that only is compared   $3 release   $4 digest of all digests; "" compares nothing
//	$5 digest of the digest list
const wholeScript = `cd "$1/releases" || exit 1
kept=$1 tree=$1/releases/$2 release=$3 list=$5 times=
{ sync -f "$2" 2>/dev/null || sync; } </dev/null & # the disk writes while the digests are computed
if [ -n "$4" ]; then
rm -f "$kept/.seal"
cat >"$kept/.seal-names" || exit 1
` + sealTimes + `digests() { cd "$tree" && xargs -0 "$@" <"$kept/.seal-names" 2>/dev/null | LC_ALL=C sed 's/^\\//;s/ .*//' | sha256sum; }
 got=
 ! command -v openssl >/dev/null || got=$(digests openssl dgst -sha256 -r)
 [ "${got%% *}" = "$4" ] || got=$(digests sha256sum)
 [ "${got%% *}" = "$4" ] || { echo differs; exit 0; }
fi
wait
if [ "$2" != "$3" ]; then
 [ ! -e "$3" ] || { echo "release $3 exists already" >&2; exit 1; }
 mv "$2" "$3" || exit 1
fi
` + sealWrite + `echo whole`

// publish brings the release beside the others, compares every digest on the host, and gives it its name. What the host has already in the
// release that runs is copied there and does not travel; when that is all of it, the release that runs is compared and stays.
func (t *target) publish(ctx context.Context) error {
	r := t.run
	t.release = r.result.Release
	files := append(slices.Clone(r.files), file{path: digestsFile, mode: 0o644, size: int64(len(r.manifest)), digest: sumOf(r.manifest), text: []byte(r.manifest)})
	if t.record.digests == sumOf(r.manifest) && t.canCompare() && !r.request.hooks.anew {
		whole, err := r.request.hooks.trusting, error(nil)
		if !whole {
			whole, err = t.sealed(ctx, path.Join(t.directory(), "releases", t.state.Release), t.record.digests)
		}
		if !whole && err == nil {
			t.compared = "every digest is the same"
			whole, err = t.whole(ctx, t.state.Release, t.state.Release, files)
		}
		if err != nil {
			return err
		}
		if whole {
			t.release = t.state.Release
			return nil
		}
	}
	name := ".tmp-" + t.release
	dir := path.Join(t.directory(), "releases", name)
	err := t.fill(ctx, dir, files)
	if err == nil {
		err = t.finish(ctx, dir, name, files)
	}
	if err != nil {
		return errors.Join(err, t.clear(context.WithoutCancel(ctx)))
	}
	return nil
}

// fill makes the directory of an upload: copies on the host what it has, and sends the rest.
func (t *target) fill(ctx context.Context, dir string, files []file) error {
	t.sent = files
	if !t.record.tools["tar"] {
		return t.uploadSFTP(ctx, dir, files)
	}
	if _, err := t.script(ctx, "", `umask 022; mkdir "$1"`, dir); err != nil {
		return err
	}
	if t.record.digests != "" && t.canCompare() {
		base := path.Join(t.directory(), "releases", t.state.Release)
		known, err := t.published(ctx, base)
		if err != nil {
			return err
		}
		same, moved, travel := known.split(files)
		if err := t.copyThere(ctx, base, dir, same, moved); err != nil {
			return err
		}
		t.sent = travel
	}
	return t.uploadTar(ctx, dir, t.sent)
}

// published reads with what a release on the host was published.
func (t *target) published(ctx context.Context, base string) (kept, error) {
	text, err := t.script(ctx, "", `head -c "$1" "$2" 2>/dev/null; exit 0`, strconv.Itoa(manifestMax), path.Join(base, digestsFile))
	return parseManifest(text), err
}

// copyThere copies on the host. Copies, not links: what a program writes into the release that runs must not change the one to go back to.
// That it worked shows when the digests are compared.
func (t *target) copyThere(ctx context.Context, base, dir string, same []file, moved []move) error {
	var names, pairs strings.Builder
	for _, f := range same {
		names.WriteString("./" + f.path + "\x00")
	}
	if names.Len() > 0 {
		if _, err := t.script(ctx, names.String(), copyScript, base, dir); err != nil {
			return err
		}
	}
	for _, one := range moved {
		pairs.WriteString(path.Join(base, one.from) + "\x00" + path.Join(dir, one.to) + "\x00")
	}
	if pairs.Len() > 0 {
		if _, err := t.script(ctx, pairs.String(), moveScript); err != nil {
			return err
		}
	}
	return nil
}

const (
	copyScript = `cd "$1" && tar --null -T - -cf - 2>/dev/null | tar -x -p -o -f - -C "$2" 2>/dev/null; exit 0`
	moveScript = `xargs -0 -n 2 sh -c 'mkdir -p "${2%/*}" && cp -p "$1" "$2"' sh 2>/dev/null; exit 0`
)

// canCompare reports whether the host can compute digests by itself.
func (t *target) canCompare() bool {
	return t.record.tools["sha256sum"] && t.record.tools["xargs"] && !t.run.request.hooks.unverified
}

// whole compares all digests on the host; where that finds them equal and name is an upload, the upload becomes the release.
func (t *target) whole(ctx context.Context, name, release string, files []file) (bool, error) {
	sums, want := sha256.New(), ""
	var names strings.Builder
	if t.canCompare() {
		for _, f := range regular(files) {
			_, _ = io.WriteString(sums, f.digest+"\n")
			names.WriteString("./" + f.path + "\x00")
		}
		want = hex.EncodeToString(sums.Sum(nil))
	}
	out, err := t.script(ctx, names.String(), wholeScript, t.directory(), name, release, want, sumOf(t.run.manifest))
	return strings.TrimSpace(out) == "whole", err
}

// finish compares the upload and gives it its name. A copy of a file that someone changed in the release that runs is replaced by ours.
func (t *target) finish(ctx context.Context, dir, name string, files []file) error {
	for try := 0; ; try++ {
		if t.canCompare() {
			if whole, err := t.whole(ctx, name, t.release, files); whole || err != nil {
				return err
			}
		}
		bad, err := t.damaged(ctx, dir, files)
		if err != nil {
			return err
		}
		if len(bad) == 0 && !t.canCompare() {
			_, err := t.whole(ctx, name, t.release, nil)
			return err
		}
		if len(bad) == 0 {
			return t.run.failed(t.host.Name, drill.Failed, errors.New("upload: the host computes other digests each time"))
		}
		for _, one := range bad {
			if try > 0 || slices.ContainsFunc(t.sent, func(f file) bool { return f.path == one.path }) {
				return t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: %s arrived damaged: SHA-256 %s, want %s", one.path, one.found, one.digest))
			}
		}
		if err := t.resend(ctx, dir, bad); err != nil {
			return err
		}
	}
}

// resend replaces copies by what we have.
func (t *target) resend(ctx context.Context, dir string, bad []damage) error {
	var names strings.Builder
	var files []file
	for _, one := range bad {
		names.WriteString("./" + one.path + "\x00")
		files = append(files, one.file)
	}
	line := "cd " + remote.Quote(dir) + " && xargs -0 rm -f"
	if _, err := t.client.Run(ctx, remote.Command{Line: line, Stdin: strings.NewReader(names.String())}); err != nil {
		return err
	}
	t.sent = append(slices.Clone(t.sent), files...)
	return t.uploadTar(ctx, dir, files)
}

// gzipPays says whether a stream to the host is packed: not for a few bytes, and not on a network that carries faster than gzip packs.
func (t *target) gzipPays(ctx context.Context, files []file) bool {
	if t.run.request.hooks.gzip {
		return t.record.tools["gzip"]
	}
	var bytes int64
	for _, f := range files {
		bytes += f.size
	}
	if !t.record.tools["gzip"] || bytes < gzipLeast {
		return false
	}
	took, err := t.client.RoundTrip(ctx)
	return err == nil && took > gzipRoundTrip
}

const (
	gzipLeast     = 64 << 10             // starting a program on the host costs more than carrying this
	gzipRoundTrip = 3 * time.Millisecond // nearer hosts stand in the same network, which carries 100 MB/s: as fast as gzip packs
)

// uploadTar sends all files as one stream: for many small ones that is the difference between seconds and minutes.
func (t *target) uploadTar(ctx context.Context, dir string, files []file) error {
	if len(files) == 0 {
		return nil
	}
	if small, err := t.uploadSmall(ctx, dir, files); small || err != nil {
		return err
	}
	packed := make(chan error, 1)
	reader, writer := io.Pipe()
	unpack := ""
	var w io.Writer = bufio.NewWriterSize(writer, 64<<10)
	flush := w.(*bufio.Writer).Flush
	if t.gzipPays(ctx, files) {
		unpack = "gzip -dc | "
		squeezed, _ := gzip.NewWriterLevel(writer, gzip.BestSpeed) // fails only for a level that does not exist
		w, flush = squeezed, squeezed.Close
	}
	go func() {
		err := pack(ctx, w, t.run.contents, files, t.run.stamp)
		err = errors.Join(err, flush())
		_ = writer.CloseWithError(err)
		packed <- err
	}()
	var errOut bytes.Buffer
	// -o: the files belong to the user who is logged in, whatever the archive says.
	line := "umask 022; " + unpack + "tar -x -p -o -f - -C " + remote.Quote(dir)
	exit, err := t.client.Run(ctx, remote.Command{Line: line, Stdin: reader, Stderr: &errOut})
	_ = reader.Close()
	packErr := <-packed
	if err != nil {
		return err
	}
	if exit.Code != 0 {
		return t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: tar on the host ended with code %d: %s", exit.Code, strings.TrimSpace(errOut.String())))
	}
	if packErr != nil {
		return t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: %w", packErr))
	}
	return nil
}

// smallMax is what is sent through the shell that we have: a login shell of its own takes longer to start than this to arrive.
const smallMax = 1 << 20

// uploadSmall sends a few files without starting anything more than tar.
func (t *target) uploadSmall(ctx context.Context, dir string, files []file) (done bool, err error) {
	var size int64
	for _, f := range files {
		size += f.size + 1024 // of the archive's own
	}
	if size > smallMax || t.run.request.hooks.gzip {
		return false, nil
	}
	var archive strings.Builder
	if err := pack(ctx, &archive, t.run.contents, files, t.run.stamp); err != nil {
		return true, t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: %w", err))
	}
	_, err = t.script(ctx, archive.String(), `umask 022; exec tar -x -p -o -f - -C "$1"`, dir)
	var ended scriptError
	if errors.As(err, &ended) {
		err = t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: tar on the host: %w", ended))
	}
	return true, err
}

func (t *target) uploadSFTP(ctx context.Context, dir string, files []file) error {
	client, err := t.client.SFTP(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	if err := uploadSFTP(ctx, client, dir, t.run.contents, files); err != nil {
		return t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: %w", err))
	}
	return nil
}

func uploadSFTP(ctx context.Context, client *sftp.Client, dir string, from contents, files []file) error {
	for _, sub := range append([]string{"."}, directories(files)...) {
		name := path.Join(dir, sub)
		if err := client.Mkdir(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := client.Chmod(name, 0o755); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return eachFile(ctx, from, files, func(f file, r io.Reader) error { return uploadOne(client, path.Join(dir, f.path), f, r) })
}

func uploadOne(client *sftp.Client, name string, f file, content io.Reader) error {
	if f.link != "" {
		return client.Symlink(f.link, name)
	}
	to, err := client.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	if _, err := to.ReadFrom(content); err != nil {
		return errors.Join(err, to.Close())
	}
	return errors.Join(to.Chmod(f.mode), to.Close())
}

func regular(files []file) []file {
	return slices.DeleteFunc(slices.Clone(files), func(f file) bool { return f.link != "" || f.dir })
}

// damage is a file on the host that has another digest than ours; found is "" when it cannot be read.
type damage struct {
	file
	found string
}

// damaged compares the digest of every file with ours, one by one.
func (t *target) damaged(ctx context.Context, dir string, files []file) ([]damage, error) {
	if t.run.request.hooks.unverified {
		return nil, nil
	}
	digests := t.digestsThere
	if !t.canCompare() {
		digests = t.digestsHere
	}
	all := regular(files)
	if len(all) == 0 {
		return nil, nil
	}
	found, err := digests(ctx, dir, all)
	if err != nil {
		return nil, err
	}
	var bad []damage
	for _, f := range all {
		if found[f.path] != f.digest {
			bad = append(bad, damage{file: f, found: found[f.path]})
		}
	}
	return bad, nil
}

// digestLine is a line of sha256sum; a backslash before it says that the name, which we do not need, is escaped.
var digestLine = drill.Pattern(`(?m)^\\?([0-9a-f]{64}) [ *]`)

// digestsThere lets the host compute the digests. The names go over standard input, each ended by NUL, and come back in order; for a file that
// is not there, a line that says so comes instead.
func (t *target) digestsThere(ctx context.Context, dir string, files []file) (map[string]string, error) {
	var names strings.Builder
	for _, f := range files {
		names.WriteString("./" + f.path + "\x00")
	}
	var out, errOut bytes.Buffer
	line := "cd " + remote.Quote(dir) + ` && xargs -0 -n 500 sh -c 'for f; do if [ -f "$f" ]; then printf "%s\0" "$f"; else printf "%s\0" /dev/null; fi; done' sh | xargs -0 sha256sum`
	exit, err := t.client.Run(ctx, remote.Command{Line: line, Stdin: strings.NewReader(names.String()), Stdout: &out, Stderr: &errOut})
	if err != nil {
		return nil, err
	}
	lines := digestLine().FindAllStringSubmatch(out.String(), -1)
	if exit.Code != 0 || len(lines) != len(files) {
		return nil, t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: %d of %d files can be read back: sha256sum ended with code %d: %s",
			len(lines), len(files), exit.Code, strings.TrimSpace(errOut.String())))
	}
	digests := make(map[string]string, len(files))
	for i, f := range files {
		digests[f.path] = lines[i][1]
	}
	return digests, nil
}

// digestsHere reads every file back, for hosts without sha256sum.
func (t *target) digestsHere(ctx context.Context, dir string, files []file) (map[string]string, error) {
	client, err := t.client.SFTP(ctx)
	if errors.Is(err, remote.ErrNoSFTP) {
		return t.digestsByCat(ctx, dir, files)
	}
	if err != nil {
		return nil, err
	}
	defer client.Close()
	digests := make(map[string]string, len(files))
	for _, f := range files {
		from, err := client.Open(path.Join(dir, f.path))
		if err != nil {
			return nil, t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: read back %s: %w", f.path, err))
		}
		sum := sha256.New()
		_, err = from.WriteTo(sum)
		if err = errors.Join(err, from.Close()); err != nil {
			return nil, t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: read back %s: %w", f.path, err))
		}
		digests[f.path] = hex.EncodeToString(sum.Sum(nil))
	}
	return digests, nil
}

func (t *target) digestsByCat(ctx context.Context, dir string, files []file) (map[string]string, error) {
	digests := make(map[string]string, len(files))
	for _, f := range files {
		sum := sha256.New()
		exit, err := t.client.Run(ctx, remote.Command{Line: "cat < " + remote.Quote(path.Join(dir, f.path)), Stdout: sum})
		if err != nil {
			return nil, err
		}
		if exit.Code != 0 {
			return nil, t.run.failed(t.host.Name, drill.Failed, fmt.Errorf("upload: read back %s: code %d", f.path, exit.Code))
		}
		digests[f.path] = hex.EncodeToString(sum.Sum(nil))
	}
	return digests, nil
}
