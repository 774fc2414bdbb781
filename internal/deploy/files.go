package deploy

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"
)

// revisionFile names the commit in each release; a file of the same name in the source gives way to it.
const revisionFile = "REVISION"

// file is one file, symbolic link or empty directory of a release.
type file struct {
	path   string // with slashes, below the release
	mode   fs.FileMode
	size   int64
	digest string // SHA-256, hex; "" for a link
	link   string // target, for a link
	dir    bool   // an empty directory
	text   []byte // content of a file that is not in the tree
	blob   string // id of the git object; "" when the file was read from a checkout
	origin string // path in the source when that is another one
}

// list walks the tree and returns what matches, in the order of the walk. A link that leads out of the tree is an error: on the host it
// would lead to something that no release vouches for.
func list(tree string, patterns patterns) ([]file, error) {
	root, err := os.OpenRoot(tree)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	var files []file
	err = filepath.WalkDir(tree, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(tree, name)
		if err != nil {
			return err
		}
		relative = filepath.ToSlash(relative)
		if entry.IsDir() {
			if relative == ".git" {
				return fs.SkipDir
			}
			if inside, err := os.ReadDir(name); err != nil || len(inside) > 0 || !patterns.match(relative) {
				return err
			}
			files = append(files, file{path: relative, mode: 0o755, dir: true})
			return nil
		}
		if !patterns.match(relative) {
			return nil
		}
		one, err := describe(root, relative, entry)
		if err != nil {
			return err
		}
		files = append(files, one)
		return nil
	})
	return files, err
}

func describe(root *os.Root, relative string, entry fs.DirEntry) (file, error) {
	info, err := entry.Info()
	if err != nil {
		return file{}, err
	}
	one := file{path: relative, mode: info.Mode().Perm(), size: info.Size()}
	switch {
	case info.Mode().IsRegular():
	case info.Mode()&fs.ModeSymlink != 0:
		one.size = 0
		if one.link, err = root.Readlink(relative); err != nil {
			return file{}, err
		}
		err = staysInside(root, relative, one.link)
	default:
		err = fmt.Errorf("%s is neither a file nor a link", relative)
	}
	return one, err
}

// staysInside refuses a link that leads out of the tree, by its text or by way of other links.
func staysInside(root *os.Root, relative, link string) error {
	to := path.Join(path.Dir(relative), link)
	if path.IsAbs(link) || to == ".." || strings.HasPrefix(to, "../") {
		return fmt.Errorf("the link %s -> %s leads out of the release", relative, link)
	}
	if _, err := root.Stat(relative); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the link %s -> %s leads out of the release: %w", relative, link, err)
	}
	return nil
}

// withRevision adds the file that names the commit.
func withRevision(files []file, commit string) []file {
	text := []byte(commit + "\n")
	sum := sha256.Sum256(text)
	revision := file{path: revisionFile, mode: 0o644, size: int64(len(text)), digest: hex.EncodeToString(sum[:]), text: text}
	return append([]file{revision}, files...)
}

// directories lists every directory that the files need, parents first.
func directories(files []file) []string {
	seen := make(map[string]bool)
	var all []string
	var add func(string)
	add = func(dir string) {
		if dir == "." || seen[dir] {
			return
		}
		seen[dir] = true
		add(path.Dir(dir))
		all = append(all, dir)
	}
	for _, f := range files {
		if add(path.Dir(f.path)); f.dir {
			add(f.path)
		}
	}
	return all
}

// from is the path of a file in the source.
func (f file) from() string {
	if f.origin != "" {
		return f.origin
	}
	return f.path
}

// pack writes the files as one tar stream. The GNU format takes names of any bytes and any length, which PAX does not.
func pack(ctx context.Context, w io.Writer, from contents, files []file, stamp time.Time) error {
	archive := tar.NewWriter(w)
	for _, dir := range directories(files) {
		if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755, ModTime: stamp, Format: tar.FormatGNU}); err != nil {
			return err
		}
	}
	err := eachFile(ctx, from, files, func(f file, r io.Reader) error {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: f.path, Mode: int64(f.mode), Size: f.size, ModTime: stamp, Format: tar.FormatGNU}
		if f.link != "" {
			header.Typeflag, header.Linkname, header.Size = tar.TypeSymlink, f.link, 0
			return archive.WriteHeader(header)
		}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		_, err := io.Copy(archive, r)
		return err
	})
	return errors.Join(err, archive.Close())
}

// eachFile visits links and files of our own making first, then those whose bytes are in the source. It passes over directories.
func eachFile(ctx context.Context, from contents, files []file, visit func(f file, r io.Reader) error) error {
	var rest []file
	for _, f := range files {
		if f.dir {
			continue
		}
		if f.link == "" && f.text == nil {
			rest = append(rest, f)
			continue
		}
		if err := visit(f, bytes.NewReader(f.text)); err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return from.each(ctx, rest, visit)
}
