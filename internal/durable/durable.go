package durable

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// loadMax bounds what is read back: a file that is larger is not ours.
const loadMax = 256 << 20

// Save replaces the file by the value as JSON, readable by its owner alone, and returns when it is on the disk.
func Save(path string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	return SaveText(path, append(text, '\n'))
}

// SaveText is Save for bytes.
func SaveText(path string, text []byte) error {
	directory := filepath.Dir(path)
	file, err := os.CreateTemp(directory, "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	defer os.Remove(file.Name()) // gone already when all went well
	_, err = file.Write(text)
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err == nil {
		err = syncDirectory(directory)
	}
	if err != nil {
		return fmt.Errorf("save %s: %w", path, err)
	}
	return nil
}

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

// Load reads the value back. Without the file the value stays as it is.
func Load(path string, value any) error {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Size() > loadMax {
		return fmt.Errorf("%s: larger than %d MiB", path, loadMax>>20)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, value); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
