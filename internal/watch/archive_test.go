package watch

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firedrill/internal/history"
)

func answerAt(i int) history.Event {
	return history.New(time.Unix(int64(i), 0).UTC(), source, &history.Answer{Serial: uint64(i)})
}

func serials(t *testing.T, a *archive, since time.Time) []uint64 {
	t.Helper()
	var all []uint64
	if err := a.past(since, func(e history.Event) { all = append(all, e.Fact.(*history.Answer).Serial) }); err != nil {
		t.Fatal(err)
	}
	return all
}

func opened(t *testing.T, path string, limit int64) *archive {
	t.Helper()
	a, err := openArchive(path, limit)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// More than memory keeps, over restarts, one of them in the middle of a line.
func TestHistoryIsKeptOverRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json.history")
	const each = keptMax/2 + 1
	for run := range 3 {
		a := opened(t, path, archiveMax)
		for i := range each {
			a.add(answerAt(run*each + i))
		}
		a.drain()
		if err := a.lastError(); err != nil {
			t.Fatal(err)
		}
		_ = a.file.Close()
		file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err == nil {
			_, err = file.WriteString(`{"at":"2026-`) // the watch was killed as it wrote
		}
		if err != nil || file.Close() != nil {
			t.Fatal(err)
		}
	}
	a := opened(t, path, archiveMax)
	defer func() { _ = a.file.Close() }()
	a.add(answerAt(3 * each)) // pending, and told all the same
	got := serials(t, a, time.Time{})
	if len(got) != 3*each+1 {
		t.Fatalf("%d events, want %d", len(got), 3*each+1)
	}
	for i, serial := range got {
		if serial != uint64(i) {
			t.Fatalf("event %d has serial %d", i, serial)
		}
	}
	if got := serials(t, a, time.Unix(3*each, 0)); len(got) != 1 {
		t.Errorf("since the last one: %d events", len(got))
	}
}

func TestHistoryFilesAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	const limit = 4096
	a := opened(t, path, limit)
	defer func() { _ = a.file.Close() }()
	const n = 1000
	for i := range n {
		a.add(answerAt(i))
		a.drain()
	}
	for _, name := range []string{path, a.before()} {
		if info, err := os.Stat(name); err != nil || info.Size() > limit {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	got := serials(t, a, time.Time{})
	if len(got) < 5 || got[len(got)-1] != n-1 {
		t.Fatalf("%d events, the last is %v", len(got), got[len(got)-1:])
	}
	for i, serial := range got { // none is missing between the oldest and the newest
		if want := uint64(n - len(got) + i); serial != want {
			t.Fatalf("event %d has serial %d, want %d", i, serial, want)
		}
	}
}

func TestHistoryThatCannotBeWrittenIsTold(t *testing.T) {
	a := opened(t, filepath.Join(t.TempDir(), "history"), archiveMax)
	_ = a.file.Close()
	a.add(answerAt(1))
	a.drain()
	if a.lastError() == nil {
		t.Error("an event was not written, in silence")
	}
	for i := range pendingMax {
		a.add(answerAt(i))
	}
	if err := a.lastError(); err == nil || !strings.Contains(err.Error(), "are lost") {
		t.Errorf("an event was lost in silence: %v", err)
	}
	if _, err := openArchive(filepath.Join(t.TempDir(), "missing", "history"), archiveMax); err == nil {
		t.Error("a directory that is not there is taken")
	}
}

// A turn of the files that failed half way, or a file that somebody took away, must not end the history for good.
func TestHistoryGoesOnAfterItsFileWasTakenAway(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history")
	a := opened(t, path, 200)
	defer func() { _ = a.file.Close() }()
	for i := range 3 {
		a.add(answerAt(i))
	}
	a.drain()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for i := 3; i < 6; i++ {
		a.add(answerAt(i))
	}
	a.drain()
	if err := a.lastError(); err != nil {
		t.Fatal(err)
	}
	if got := serials(t, a, time.Unix(5, 0)); len(got) != 1 || got[0] != 5 {
		t.Errorf("of the newest event there is %v", got)
	}
}
