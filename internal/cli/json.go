package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
)

func printJSON(s streams, value any) error {
	encoder := json.NewEncoder(s.out)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// printLine prints a value as one JSON line.
func printLine(s streams, value any) error {
	if err := json.NewEncoder(s.out).Encode(value); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
