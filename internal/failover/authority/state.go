package authority

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// stateMax bounds what is read from a state file.
const stateMax = 16 << 20

// stateFile is what outlives the process: the decided answers, so that a restart while the watch is away does not bring back the
// initial ones.
type stateFile struct {
	Answers Decided `json:"answers"`
}

// loadState returns the decided answers of a state file, none when there is no file.
func loadState(path string) (Decided, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if info.Size() > stateMax {
		return nil, fmt.Errorf("%s: larger than %d MiB", path, stateMax>>20)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var state stateFile
	if err := json.Unmarshal(text, &state); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return state.Answers, nil
}

// saveState replaces the state file as a whole: after a crash it is the old one or the new one.
func saveState(path string, decided Decided) error {
	text, err := json.MarshalIndent(stateFile{Answers: decided}, "", "  ")
	if err != nil {
		return err
	}
	directory := filepath.Dir(path)
	file, err := os.CreateTemp(directory, filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name()) // gone already when all went well
	_, err = file.Write(append(text, '\n'))
	err = errors.Join(err, file.Sync(), file.Close())
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return err
	}
	return syncDirectory(directory)
}

func syncDirectory(path string) error {
	directory, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}
