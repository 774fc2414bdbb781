package move

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// Read returns a file that is to be replaced, and refuses one that is larger than most.
func Read(path string, most int64) ([]byte, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > most {
		err = fmt.Errorf("%s: larger than %d MiB", path, most>>20)
	}
	if err != nil {
		return nil, err
	}
	return os.ReadFile(path)
}

// Replace puts a text in the place of a file in one step, synced, with the owner and the rights of the file before, or those given when there
// is none: who reads it at any moment reads the old text or the new one.
func Replace(path string, text []byte, otherwise fs.FileMode) error {
	info, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(path), ".firedrill-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // gone already when all went well
	_, err = file.Write(text)
	if err == nil {
		err = likeBefore(file, info, otherwise)
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

func likeBefore(file *os.File, before fs.FileInfo, otherwise fs.FileMode) error {
	if before == nil {
		return file.Chmod(otherwise)
	}
	if owner, ok := before.Sys().(*syscall.Stat_t); ok {
		if err := file.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return file.Chmod(before.Mode().Perm())
}
