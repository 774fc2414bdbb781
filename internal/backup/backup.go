package backup

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ManifestName is the last entry of a backup. It is no name that a directory to be packed may have at its top.
const ManifestName = "firedrill-backup.json"

const (
	version     = 1
	manifestMax = 256 << 20 // bytes: some millions of files
)

// Manifest says what a backup holds.
type Manifest struct {
	Version int       `json:"version"`
	Made    time.Time `json:"made"`
	Tool    string    `json:"tool"` // version of the program that made it
	Files   []File    `json:"files"`
}

// File is one file of the directory.
type File struct {
	Name   string `json:"name"` // below the directory, with slashes
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

// Bytes is the size of all files together.
func (m Manifest) Bytes() (sum int64) {
	for _, file := range m.Files {
		sum += file.Size
	}
	return sum
}

// Pack writes all that is in a directory, but for what skip names, as a compressed tar archive. Nobody may write to the directory meanwhile: a file
// that changes is an error. So is what is neither a file nor a directory.
func Pack(ctx context.Context, directory string, w io.Writer, skip func(name string) bool, about Manifest) (Manifest, error) {
	about.Version, about.Files = version, []File{}
	compressed := gzip.NewWriter(w)
	archive := tar.NewWriter(compressed)
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(directory, path)
		name := filepath.ToSlash(relative)
		if err != nil || name == "." {
			return err
		}
		if skip != nil && skip(name) {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		switch {
		case name == ManifestName:
			return fmt.Errorf("%s is a name of the backup itself", path)
		case info.IsDir():
			return archive.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: int64(info.Mode().Perm()), ModTime: info.ModTime()})
		case !info.Mode().IsRegular():
			return fmt.Errorf("%s is neither a file nor a directory", path)
		}
		file, err := packFile(archive, path, name)
		about.Files = append(about.Files, file)
		return err
	})
	if err != nil {
		return about, err
	}
	text, err := json.Marshal(about)
	if err != nil {
		return about, err
	}
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: ManifestName, Mode: 0o600, Size: int64(len(text)), ModTime: about.Made}); err != nil {
		return about, err
	}
	_, err = archive.Write(text)
	return about, errors.Join(err, archive.Close(), compressed.Close())
}

func packFile(archive *tar.Writer, path, name string) (File, error) {
	content, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return File{}, err
	}
	defer content.Close()
	before, err := content.Stat()
	if err != nil {
		return File{}, err
	}
	if err := archive.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: int64(before.Mode().Perm()), Size: before.Size(), ModTime: before.ModTime()}); err != nil {
		return File{}, err
	}
	digest := sha256.New()
	copied, err := io.Copy(io.MultiWriter(archive, digest), io.LimitReader(content, before.Size()))
	if err != nil {
		return File{}, fmt.Errorf("%s: %w", path, err)
	}
	after, err := content.Stat()
	if err == nil && (copied != before.Size() || after.Size() != before.Size() || !after.ModTime().Equal(before.ModTime())) {
		err = fmt.Errorf("%s changed while it was read: something uses the directory", path)
	}
	return File{Name: name, Size: copied, SHA256: hex.EncodeToString(digest.Sum(nil))}, err
}

// Unpack writes what a backup holds into an empty directory, and compares it with what the backup says of itself. After an error the directory
// holds something, which is not to be used.
func Unpack(ctx context.Context, r io.Reader, directory string) (Manifest, error) {
	root, err := os.OpenRoot(directory) // no entry gets out of it
	if err != nil {
		return Manifest{}, err
	}
	defer root.Close()
	compressed, err := gzip.NewReader(r)
	if err != nil {
		return Manifest{}, fmt.Errorf("no backup: %w", err)
	}
	archive := tar.NewReader(compressed)
	found := map[string]File{}
	var about *Manifest
	for {
		if err := ctx.Err(); err != nil {
			return Manifest{}, err
		}
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Manifest{}, fmt.Errorf("the backup is damaged: %w", err)
		}
		if about != nil {
			return Manifest{}, fmt.Errorf("%q follows the end of the backup", header.Name)
		}
		if header.Name == ManifestName {
			if about, err = readManifest(archive); err != nil {
				return Manifest{}, err
			}
			continue
		}
		if err := unpackEntry(root, archive, header, found); err != nil {
			return Manifest{}, fmt.Errorf("%q: %w", header.Name, err)
		}
	}
	if _, err := io.Copy(io.Discard, compressed); err != nil { // its checksum comes last
		return Manifest{}, fmt.Errorf("the backup is damaged: %w", err)
	}
	if about == nil {
		return Manifest{}, errors.New("the backup has no end: it was cut off")
	}
	for _, want := range about.Files {
		switch got, there := found[want.Name]; {
		case !there:
			return *about, fmt.Errorf("%s is missing in the backup", want.Name)
		case got != want:
			return *about, fmt.Errorf("%s is not what was packed", want.Name)
		}
		delete(found, want.Name)
	}
	for name := range found {
		return *about, fmt.Errorf("%s was put into the backup later", name)
	}
	return *about, nil
}

func readManifest(r io.Reader) (*Manifest, error) {
	var about Manifest
	if err := json.NewDecoder(io.LimitReader(r, manifestMax)).Decode(&about); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestName, err)
	}
	if about.Version != version {
		return nil, fmt.Errorf("the backup is of version %d, and this program knows version %d", about.Version, version)
	}
	return &about, nil
}

func unpackEntry(root *os.Root, archive io.Reader, header *tar.Header, found map[string]File) error {
	name, mode := strings.TrimSuffix(header.Name, "/"), fs.FileMode(header.Mode).Perm()
	if !fs.ValidPath(name) {
		return errors.New("no name of a file")
	}
	switch header.Typeflag {
	case tar.TypeDir:
		return errors.Join(root.MkdirAll(filepath.FromSlash(name), 0o700), root.Chmod(filepath.FromSlash(name), mode|0o700))
	case tar.TypeReg:
	default:
		return errors.New("neither a file nor a directory")
	}
	if _, twice := found[name]; twice {
		return errors.New("it is there twice")
	}
	file, err := root.OpenFile(filepath.FromSlash(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	digest := sha256.New()
	size, err := io.Copy(io.MultiWriter(file, digest), archive)
	err = errors.Join(err, file.Chmod(mode), file.Sync(), file.Close())
	found[name] = File{Name: name, Size: size, SHA256: hex.EncodeToString(digest.Sum(nil))}
	return err
}
