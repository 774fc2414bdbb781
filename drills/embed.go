// Package drills holds the example that the demo runs, as files that a user may copy and own: the service file, the lab's topology, the
// zone and the published application.
//
// It holds files and no behaviour, and nothing in it is read by any other way than these files. Its invariant: what the demo runs is
// what a user finds here.
//
// Start reading at bookstore/firedrill.yaml.
package drills

import (
	"bytes"
	"embed"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed all:bookstore
var files embed.FS

// Files returns the examples, one directory each.
func Files() fs.FS { return files }

// Unpack writes the files below the directory name of the examples into directory, which is made when missing. A script is made
// executable, for embedding forgets modes. Files that exist are not overwritten: that is an error that is fs.ErrExist.
func Unpack(name, directory string) error {
	from, err := fs.Sub(files, name)
	if err != nil {
		return err
	}
	return fs.WalkDir(from, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(directory, filepath.FromSlash(path))
		if entry.IsDir() {
			return os.MkdirAll(target, 0o755)
		}
		content, err := fs.ReadFile(from, path)
		if err != nil {
			return err
		}
		return create(target, content)
	})
}

func create(path string, content []byte) error {
	mode := fs.FileMode(0o644)
	if bytes.HasPrefix(content, []byte("#!")) {
		mode = 0o755
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	return errors.Join(err, file.Close())
}
