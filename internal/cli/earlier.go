//go:build !hostpart

package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// A run that goes on with others stands on their logs. It keeps a copy of each beside its own, so that its directory is whole by itself; the
// name has the end of the hash chain in it, and what counts is the chain, never the name.
const earlierPrefix = "earlier-"

// earlierLogs finds the logs that a plan stands on: beside the log, in the directories of other runs next to it, and where else the user says.
// doubts tell what was looked at and does not count; without the log the verdict cannot pass, so nothing here is an error.
func earlierLogs(plan drill.Plan, directory string, named []string) (found []verdict.Earlier, doubts []string) {
	for _, proven := range plan.Proven {
		if slices.ContainsFunc(found, func(one verdict.Earlier) bool { return one.Head == proven.Log }) {
			continue
		}
		for _, path := range earlierPlaces(proven, directory, named) {
			one, err := readEarlierLog(path)
			switch {
			case errors.Is(err, os.ErrNotExist):
				continue
			case err != nil:
				doubts = append(doubts, fmt.Sprintf("%s proves nothing: %v", path, err))
				continue
			case one.Head != proven.Log:
				if isOf(one, proven.Run) {
					doubts = append(doubts, fmt.Sprintf("%s is of run %s, but does not end with %.12s", path, proven.Run, proven.Log))
				}
				continue
			}
			found = append(found, one)
			break
		}
	}
	return found, slices.Compact(doubts)
}

// earlierPlaces are the files that may be the log of the run that proved a step.
func earlierPlaces(proven drill.ProvenStep, directory string, named []string) []string {
	var places []string
	for _, path := range named {
		if about, err := os.Stat(path); err == nil && about.IsDir() {
			path = filepath.Join(path, logName)
		}
		places = append(places, path)
	}
	if directory == "" {
		return places
	}
	places = append(places, filepath.Join(directory, earlierName(proven.Log)))
	beside, _ := filepath.Glob(filepath.Join(globQuoted(filepath.Dir(directory)), "*", logName)) // fails only for a bad pattern
	for _, path := range beside {
		if started := beginOf(path); started != nil && started.Run == proven.Run {
			places = append(places, path)
		}
	}
	return places
}

func earlierName(head string) string {
	return fmt.Sprintf("%s%.12s.jsonl", earlierPrefix, filepath.Base(head))
}

// globQuoted makes a pattern that only the path itself matches.
func globQuoted(path string) string {
	var quoted bytes.Buffer
	for _, letter := range []byte(path) {
		if bytes.IndexByte([]byte(`\*?[`), letter) >= 0 {
			quoted.WriteByte('\\')
		}
		quoted.WriteByte(letter)
	}
	return quoted.String()
}

// readEarlierLog reads a log and verifies it; a line that a power cut tore at its end was never part of it.
func readEarlierLog(path string) (verdict.Earlier, error) {
	file, err := os.Open(path)
	if err != nil {
		return verdict.Earlier{}, err
	}
	defer file.Close()
	log, err := history.Read(bufio.NewReader(file))
	if err != nil && !errors.Is(err, history.ErrTorn) {
		return verdict.Earlier{}, err
	}
	head, err := headOf(log)
	return verdict.Earlier{Head: head, Log: log}, err
}

func isOf(earlier verdict.Earlier, run string) bool {
	return slices.ContainsFunc(earlier.Log, func(event history.Event) bool {
		started, is := event.Fact.(*history.RunStarted)
		return is && started.Run == run
	})
}

// keepEarlier copies the logs that a plan stands on into the directory of the run.
func (o *runOptions) keepEarlier(directory string, plan drill.Plan) ([]verdict.Earlier, error) {
	if len(plan.Proven) == 0 {
		return nil, nil
	}
	was := o.earlier
	if about, err := os.Stat(was); err == nil && !about.IsDir() {
		was = filepath.Dir(was)
	}
	earlier, doubts := earlierLogs(plan, was, []string{o.earlier})
	for _, proven := range plan.Proven {
		if !slices.ContainsFunc(earlier, func(one verdict.Earlier) bool { return one.Head == proven.Log }) {
			return nil, &drill.Error{
				Op: "go on with " + o.earlier, Kind: drill.Refused, Hint: "Put it beside the others, or begin anew: firedrill pipeline",
				Err: fmt.Errorf("the log of run %s, which proved %s, cannot be had%s", proven.Run, proven.Name, strings.Join(append([]string{""}, doubts...), "; ")),
			}
		}
	}
	return earlier, writeEarlier(directory, earlier)
}

func writeEarlier(directory string, earlier []verdict.Earlier) error {
	for _, one := range earlier {
		var text bytes.Buffer
		writer := history.NewWriter(&text)
		for _, event := range one.Log {
			if _, err := writer.Append(event); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(directory, earlierName(one.Head)), text.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
