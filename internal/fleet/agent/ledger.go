package agent

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/drill"
	"firedrill/internal/durable"
)

// ledgerMax is how many orders the file holds before those that have expired are left out.
const ledgerMax = 10_000

// taken is a line of the ledger.
type taken struct {
	ID      string    `json:"id"`
	Expires time.Time `json:"expires"`
}

// floor is what the orders that were left out have in common: none expires later.
type floor struct {
	Expires time.Time `json:"expires"`
}

// ledger remembers which orders were taken. The file is locked while it is open, because two agents with two ledgers would take an order twice.
type ledger struct {
	file  *os.File
	known map[string]bool
	floor time.Time // an order that expires at or before this is refused: it may have been taken, and left out since

	forgetful bool // planted bug: what was taken is not looked at
}

// openLedger opens the ledger of a directory. A line that was torn by a power cut is of an order that was not answered, and so not begun.
func openLedger(directory string, now time.Time) (*ledger, error) {
	path := filepath.Join(directory, "ledger.jsonl")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|os.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, errors.Join(&drill.Error{Op: "agent", Kind: drill.Refused, Err: fmt.Errorf("another agent runs with %s", directory), Hint: "one host needs one; see: systemctl status firedrill-agent"}, file.Close())
	}
	l := &ledger{file: file, known: map[string]bool{}}
	var low floor
	if err := durable.Load(filepath.Join(directory, "ledger-floor.json"), &low); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	l.floor = low.Expires
	keep, err := l.read()
	if err == nil && len(keep) > ledgerMax {
		err = l.shorten(directory, keep, now)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("agent: ledger: %w", err), file.Close())
	}
	return l, nil
}

func (l *ledger) read() ([]taken, error) {
	var all []taken
	lines := bufio.NewScanner(l.file)
	for lines.Scan() {
		var t taken
		if json.Unmarshal(lines.Bytes(), &t) != nil || t.ID == "" {
			continue
		}
		l.known[t.ID] = true
		all = append(all, t)
	}
	return all, lines.Err()
}

// shorten leaves out what has expired. The floor is on the disk first: in between an order is refused twice over.
func (l *ledger) shorten(directory string, all []taken, now time.Time) error {
	var text []byte
	low := floor{Expires: l.floor}
	for _, t := range all {
		if now.Before(t.Expires) {
			line, err := json.Marshal(t)
			if err != nil {
				return err
			}
			text = append(append(text, line...), '\n')
		} else if t.Expires.After(low.Expires) {
			low.Expires = t.Expires
		}
	}
	if err := durable.Save(filepath.Join(directory, "ledger-floor.json"), low); err != nil {
		return err
	}
	l.floor = low.Expires
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	if _, err := l.file.Write(text); err != nil {
		return err
	}
	return l.file.Sync()
}

// take writes an order down, once. It returns when the line is on the disk.
func (l *ledger) take(id string, expires time.Time) error {
	if !l.forgetful && (l.known[id] || !expires.After(l.floor)) {
		return &drill.Error{Op: "order " + id, Kind: drill.Refused, Err: errors.New("not attacking: it was taken before, and an order is carried out once")}
	}
	line, err := json.Marshal(taken{ID: id, Expires: expires})
	if err != nil {
		return err
	}
	// A line that a full disk or a power cut tore before this one must not swallow it.
	if _, err := fmt.Fprintf(l.file, "\n%s\n", line); err != nil {
		return fmt.Errorf("agent: ledger: %w", err)
	}
	if err := l.file.Sync(); err != nil {
		return fmt.Errorf("agent: ledger: %w", err)
	}
	l.known[id] = true
	return nil
}

func (l *ledger) close() error { return l.file.Close() }
