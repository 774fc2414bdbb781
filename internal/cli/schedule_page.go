//go:build !hostpart

package cli

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"html/template"
	"io/fs"
	"net/http"
	"os"
	"path"
	"slices"
	"time"

	"firedrill/internal/attest"
	"firedrill/internal/drill"
)

//go:embed schedule_page.html
var schedulePageText string

// What the page shows at most; the directory holds the rest.
const (
	pageRunsMax    = 100
	pageVerdictMax = 8 << 20
)

// shownRun is a run in the table of the page.
type shownRun struct {
	Directory, Outcome, Reason, Steps string
	Started                           time.Time
}

// shownEntry is an entry of the schedule.
type shownEntry struct{ Name, Text string }

// schedulePage serves the index, and the files of runs. It changes nothing.
func schedulePage(l *scheduler, out string) http.Handler {
	index := template.Must(template.New("index").Parse(schedulePageText)) // our own words
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		book, statuses, wrong := l.look()
		shown := struct {
			Leashed   bool
			Halted    string
			Wrong     string
			Now       time.Time
			Entries   []shownEntry
			Scheduled []scheduledRun
			Runs      []shownRun
			Word      func(int) string
		}{Leashed: l.leashed, Halted: book.Halted, Wrong: wrong, Now: time.Now().Truncate(time.Second), Runs: runsBelow(out), Word: codeWord}
		for _, status := range statuses {
			shown.Entries = append(shown.Entries, shownEntry{Name: status.Entry.Name, Text: statusText(status)})
		}
		slices.Reverse(book.Runs)
		shown.Scheduled = book.Runs[:min(len(book.Runs), pageRunsMax)]
		var page bytes.Buffer
		if err := index.Execute(&page, shown); err != nil {
			http.Error(w, "the page cannot be made", http.StatusInternalServerError)
			return
		}
		guardPage(w, "text/html; charset=utf-8")
		_, _ = w.Write(page.Bytes()) // a reader who has gone needs no error
	})
	mux.HandleFunc("GET /runs/{directory}/{file}", func(w http.ResponseWriter, r *http.Request) {
		serveRunFile(w, r, out)
	})
	return mux
}

func guardPage(w http.ResponseWriter, contentType string) {
	header := w.Header()
	header.Set("Content-Type", contentType)
	header.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
}

// runFiles are the files of a run that are shown, with their types.
var runFiles = map[string]string{
	htmlName: "text/html; charset=utf-8", logName: "text/plain; charset=utf-8", "report.md": "text/plain; charset=utf-8",
	"junit.xml": "text/plain; charset=utf-8", "verdict.json": "application/json",
	attest.FileName: "application/json", attest.SignatureName: "text/plain; charset=utf-8",
}

var runDirectory = drill.Pattern(`^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}$`)

func serveRunFile(w http.ResponseWriter, r *http.Request, out string) {
	directory, name := r.PathValue("directory"), r.PathValue("file")
	contentType, known := runFiles[name]
	if !known || !runDirectory().MatchString(directory) {
		http.NotFound(w, r)
		return
	}
	// A root keeps symbolic links from leading out of the directory.
	root, err := os.OpenRoot(out)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer root.Close()
	file, err := root.Open(path.Join(directory, name))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer file.Close()
	if about, err := file.Stat(); err != nil || !about.Mode().IsRegular() {
		http.NotFound(w, r)
		return
	}
	guardPage(w, contentType)
	http.ServeContent(w, r, "", time.Time{}, file)
}

// runsBelow lists the runs in a directory by their verdicts, the newest first. A run without one is under way, or ended with its process.
func runsBelow(out string) []shownRun {
	root, err := os.OpenRoot(out)
	if err != nil {
		return nil
	}
	defer root.Close()
	entries, err := fs.ReadDir(root.FS(), ".")
	if err != nil {
		return nil
	}
	slices.Reverse(entries) // names begin with the time
	var runs []shownRun
	for _, entry := range entries {
		if !entry.IsDir() || !runDirectory().MatchString(entry.Name()) {
			continue
		}
		if len(runs) == pageRunsMax {
			break
		}
		runs = append(runs, readRunDirectory(root, entry.Name()))
	}
	return runs
}

func readRunDirectory(root *os.Root, name string) shownRun {
	run := shownRun{Directory: name, Outcome: "no verdict", Reason: "under way, or ended with its process; firedrill judge reads its log"}
	about, err := root.Stat(path.Join(name, "verdict.json"))
	if err != nil || !about.Mode().IsRegular() || about.Size() > pageVerdictMax {
		return run
	}
	text, err := root.ReadFile(path.Join(name, "verdict.json"))
	if err != nil {
		return run
	}
	var judged struct {
		Outcome     string
		Reason      string
		Started     time.Time
		NotReverted bool `json:"not_reverted"`
		Steps       []struct{ Name, Outcome string }
	}
	if err := json.Unmarshal(text, &judged); err != nil {
		return run
	}
	run.Outcome, run.Reason, run.Started = judged.Outcome, judged.Reason, judged.Started.UTC().Truncate(time.Second)
	if judged.NotReverted {
		run.Outcome = "not reverted"
	}
	for i, step := range judged.Steps {
		if i > 0 {
			run.Steps += ", "
		}
		run.Steps += step.Name
	}
	return run
}
