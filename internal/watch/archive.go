package watch

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// archiveMax is how long one file of the history grows, in bytes: some 100,000 alarms. Two are kept, the one that is written and the one before.
const archiveMax = 32 << 20

// lineMax bounds one event; the longest, an alarm with all its datapoints, is some kilobytes.
const lineMax = 1 << 20

// pendingMax bounds the events that wait for a disk; more of them are lost, and that is told.
const pendingMax = 10_000

// archive keeps past events in a file, over a restart. A line that was cut off by a crash is left out; nothing else is. It writes in a goroutine of
// its own, so that a disk that hangs does not stop the watch.
type archive struct {
	path string
	max  int64
	wake chan struct{}

	files sync.Mutex // guards file and size, and is held while the disk works; taken before mu
	file  *os.File
	size  int64

	mu      sync.Mutex // guards the fields below; never held while the disk works
	pending []history.Event
	err     error // of the last write
}

// openArchive opens the file or makes it.
func openArchive(path string, limit int64) (*archive, error) {
	a := &archive{path: path, max: limit, wake: make(chan struct{}, 1)}
	if err := a.open(); err != nil {
		return nil, &drill.Error{Op: "watch", Kind: drill.Invalid, Err: fmt.Errorf("history file: %w", err), Hint: "Make its directory writable, or leave out --state."}
	}
	return a, nil
}

// open opens the file to append, and ends a line that was cut off, so that the next one is whole.
func (a *archive) open() error {
	file, err := os.OpenFile(a.path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err != nil {
		return errors.Join(err, file.Close())
	}
	a.file, a.size = file, info.Size()
	last := []byte{'\n'}
	if a.size > 0 {
		if _, err := file.ReadAt(last, a.size-1); err != nil {
			return errors.Join(err, file.Close())
		}
	}
	if last[0] != '\n' {
		return a.write([]byte{'\n'})
	}
	return nil
}

// add takes an event to be written. What cannot be written is told by lastError, and tried anew with the next.
func (a *archive) add(event history.Event) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.pending) >= pendingMax {
		a.err = fmt.Errorf("%d events wait to be written to %s, and newer ones are lost", len(a.pending), a.path)
		return
	}
	a.pending = append(a.pending, event)
	select {
	case a.wake <- struct{}{}:
	default: // it is awake
	}
}

// run writes what is added until stop is closed, and then what is left.
func (a *archive) run(stop <-chan struct{}) {
	for open := true; open; {
		select {
		case <-stop:
			open = false
		case <-a.wake:
		}
		a.drain()
	}
	a.files.Lock()
	defer a.files.Unlock()
	_ = a.file.Close() // each line was written when it came
}

// drain writes what is pending.
func (a *archive) drain() {
	a.files.Lock()
	defer a.files.Unlock()
	a.mu.Lock()
	batch := slices.Clone(a.pending)
	a.mu.Unlock()
	written := 0
	var err error
	for _, event := range batch {
		var line []byte
		if line, err = json.Marshal(event); err == nil {
			err = a.append(append(line, '\n'))
		}
		if err != nil {
			break
		}
		written++
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.pending, a.err = slices.Delete(a.pending, 0, written), err
}

func (a *archive) append(line []byte) error {
	if a.size > 0 && a.size+int64(len(line)) > a.max {
		// It is not there when somebody took it away, or when the last try came so far and no further.
		if err := os.Rename(a.path, a.before()); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		old := a.file
		if err := a.open(); err != nil {
			return err // the old one is still written, under its new name
		}
		_ = old.Close() // written whole
	}
	return a.write(line)
}

func (a *archive) write(line []byte) error {
	n, err := a.file.Write(line)
	a.size += int64(n)
	return err
}

func (a *archive) before() string { return a.path + ".1" }

func (a *archive) lastError() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// past calls found with each event since a time, oldest first, of what is there at this moment. Nobody who adds waits for it.
func (a *archive) past(since time.Time, found func(history.Event)) error {
	a.files.Lock()
	before, errBefore := os.Open(a.before())
	now, errNow := os.Open(a.path)
	size := a.size
	a.mu.Lock()
	pending := slices.Clone(a.pending)
	a.mu.Unlock()
	a.files.Unlock()
	var errs []error
	if errBefore == nil {
		errs = append(errs, readArchive(before, since, found), before.Close())
	} else if !errors.Is(errBefore, os.ErrNotExist) {
		errs = append(errs, errBefore)
	}
	if errNow == nil {
		errs = append(errs, readArchive(io.LimitReader(now, size), since, found), now.Close())
	}
	for _, event := range pending {
		if !event.At.Before(since) {
			found(event)
		}
	}
	return errors.Join(append(errs, errNow)...)
}

func readArchive(from io.Reader, since time.Time, found func(history.Event)) error {
	scanner := bufio.NewScanner(from)
	scanner.Buffer(nil, lineMax)
	for scanner.Scan() {
		var event history.Event
		if json.Unmarshal(scanner.Bytes(), &event) != nil || event.Fact == nil {
			continue // cut off by a crash
		}
		if !event.At.Before(since) {
			found(event)
		}
	}
	return scanner.Err()
}
