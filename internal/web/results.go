package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

const (
	resultsEvery  = 10 * time.Second
	verdictMax    = 8 << 20 // bytes
	verdictName   = "verdict.json"
	logName       = "run.jsonl"
	reportName    = "report.html"
	reportsPolicy = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)

var runDirectory = drill.Pattern(`^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}$`)

// Judge judges the log of a run again. An error says why it proves nothing: it was altered, or is not there.
type Judge func(log string) (fleet.Record, error)

// ImportResults takes up runs below the directories, as firedrill pipeline, run and schedule leave them, until ctx ends. Each is taken up once,
// when its verdict is there, and judged again by its log: whoever can write a file there could write any verdict. It is kept in the history of the
// control plane.
func ImportResults(ctx context.Context, o Options) {
	tick := time.NewTicker(resultsEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		for _, directory := range o.Results {
			if err := importFrom(ctx, o, directory); err != nil && !errors.Is(err, fs.ErrNotExist) {
				o.Log.WarnContext(ctx, "results cannot be read", "directory", directory, "error", err)
			}
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func importFrom(ctx context.Context, o Options, directory string) error {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(directory)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, entry := range entries {
		if !entry.IsDir() || !runDirectory().MatchString(entry.Name()) || o.Control.Recorded(entry.Name()) {
			continue
		}
		record, ok := readRecord(root, entry.Name())
		if !ok {
			continue // no verdict yet
		}
		record = judged(record, filepath.Join(directory, entry.Name(), logName), o.Judge)
		if err := o.Control.KeepRecord(ctx, record); err != nil {
			return err
		}
	}
	return nil
}

// readRecord reads a verdict. The root keeps symbolic links from leading out of it.
func readRecord(root *os.Root, name string) (fleet.Record, bool) {
	file := path.Join(name, verdictName)
	about, err := root.Stat(file)
	if err != nil || !about.Mode().IsRegular() || about.Size() > verdictMax {
		return fleet.Record{}, false
	}
	text, err := root.ReadFile(file)
	if err != nil {
		return fleet.Record{}, false
	}
	var record fleet.Record // verdict.json has these fields, and more
	if json.Unmarshal(text, &record) != nil || record.Service == "" || record.Outcome == "" {
		return fleet.Record{}, false
	}
	record.ID = name
	return record, true
}

// judged is what the log of a run proves. What was written down beside it names the run, and counts for nothing else.
func judged(written fleet.Record, log string, judge Judge) fleet.Record {
	proven, err := judge(log)
	if err == nil && proven.Service != written.Service {
		err = fmt.Errorf("the log is of service %q", proven.Service)
	}
	if err != nil {
		return fleet.Record{ID: written.ID, Service: written.Service, Outcome: inconclusive, Reason: "its log proves nothing: " + err.Error(), Started: written.Started, Finished: written.Finished}
	}
	proven.ID = written.ID
	proven.Steps = slices.DeleteFunc(proven.Steps, func(step fleet.RecordStep) bool { return step.Name == "" })
	return proven
}

const inconclusive = "inconclusive"

// report serves the page of a run. It is a document of its own, in a sandbox: what stands in it reaches nothing of the dashboard.
func (s *server) report(w http.ResponseWriter, r *http.Request, v *visit) {
	name := r.PathValue("result")
	if !runDirectory().MatchString(name) {
		s.fail(w, r, v, http.StatusNotFound, "There is no such run", "")
		return
	}
	for _, directory := range s.Results {
		root, err := os.OpenRoot(directory)
		if err != nil {
			continue
		}
		file, err := root.Open(filepath.Join(name, reportName))
		_ = root.Close()
		if err != nil {
			continue
		}
		defer file.Close()
		if about, err := file.Stat(); err != nil || !about.Mode().IsRegular() {
			continue
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", reportsPolicy)
		http.ServeContent(w, r, "", time.Time{}, file)
		return
	}
	s.fail(w, r, v, http.StatusNotFound, "The page of this run is not there any more", "its summary is kept longer than its directory")
}
