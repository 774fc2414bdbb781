package authority

import (
	"encoding/json"

	"firedrill/internal/durable"
)

// stateFile is what outlives the process: the decided answers, so that a restart while the watch is away does not bring back the
// initial ones.
type stateFile struct {
	Answers Decided `json:"answers"`
}

// loadState returns the decided answers of a state file, none when there is no file.
func loadState(path string) (Decided, error) {
	var state stateFile
	err := durable.Load(path, &state)
	return state.Answers, err
}

// saveState replaces the state file as a whole: after a crash it is the old one or the new one.
func saveState(path string, decided Decided) error {
	text, err := json.MarshalIndent(stateFile{Answers: decided}, "", "  ")
	if err != nil {
		return err
	}
	return durable.SaveText(path, append(text, '\n'))
}
