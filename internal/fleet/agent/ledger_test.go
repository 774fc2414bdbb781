package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"firedrill/internal/drill"
)

// A disk that was full for a while tears a line in the middle; what is taken after that is remembered all the same.
func TestAnOrderIsTakenOnceThoughTheLineBeforeItIsTorn(t *testing.T) {
	directory := t.TempDir()
	now := time.Now()
	expires := now.Add(time.Hour)
	l, err := openLedger(directory, now)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.take("first", expires); err != nil {
		t.Fatal(err)
	}
	if err := tear(directory, `{"id":"torn","exp`); err != nil {
		t.Fatal(err)
	}
	if err := l.take("second", expires); err != nil {
		t.Fatal(err)
	}
	if err := l.close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // a start that tears the last line itself changes nothing
		l, err = openLedger(directory, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"first", "second"} {
			if err := l.take(id, expires); drill.KindOf(err) != drill.Refused {
				t.Errorf("order %s is taken twice: %v", id, err)
			}
		}
		if err := l.close(); err != nil {
			t.Fatal(err)
		}
		if err := tear(directory, `{"id`); err != nil {
			t.Fatal(err)
		}
	}
}

func tear(directory, text string) error {
	file, err := os.OpenFile(filepath.Join(directory, "ledger.jsonl"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteString(text)
	return err
}
