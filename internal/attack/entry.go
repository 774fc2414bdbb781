package attack

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"

	"firedrill/internal/attack/procs"
)

// Change is one change on the host as data: enough to take it back without anything else of the attack.
type Change struct {
	What     string          `json:"what"`               // a sentence for people, as "process 12 (gunicorn) is stopped"
	Survives bool            `json:"survives,omitempty"` // a restart of the host does not undo it
	Undo     json.RawMessage `json:"undo"`               // what the kind's Undo needs; each kind has its own struct
}

// journalVersion is raised when an old build could misread a new journal; it refuses then.
const journalVersion = 1

// entry is one line of a journal: exactly one of its fields is set.
type entry struct {
	Header   *header   `json:"header,omitempty"`   // the first line
	Guardian *procs.ID `json:"guardian,omitempty"` // who watches
	Change   *numbered `json:"change,omitempty"`   // about to be made
	Done     int       `json:"done,omitempty"`     // the number of a change that was taken back
}

// header says whose journal it is.
type header struct {
	Version  int      `json:"version"`
	GUID     string   `json:"guid"`
	Attack   string   `json:"attack"`
	Boot     string   `json:"boot"`          // boot ID of the kernel
	PIDs     string   `json:"pid_namespace"` // in which the numbers of processes mean something
	Worker   procs.ID `json:"worker"`
	Made     int64    `json:"made_ns"`     // since boot, time asleep included
	Deadline int64    `json:"deadline_ns"` // likewise; no clock that can be set decides when an impact ends
}

// numbered is a change with its number, counted from 1.
type numbered struct {
	Number int `json:"number"`
	Change
}

// line is how an entry lies in the file. The sum is over the bytes of the entry as they are written.
type line struct {
	Sum   string          `json:"sum"`
	Entry json.RawMessage `json:"entry"`
}

func sumOf(raw []byte) string {
	return fmt.Sprintf("%08x", crc32.Checksum(raw, crc32.MakeTable(crc32.Castagnoli)))
}

func encodeEntry(e entry) ([]byte, error) {
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(line{Sum: sumOf(raw), Entry: raw})
	return append(text, '\n'), err
}

func decodeEntry(text []byte) (entry, error) {
	var l line
	if err := json.Unmarshal(text, &l); err != nil {
		return entry{}, err
	}
	if sumOf(l.Entry) != l.Sum {
		return entry{}, errors.New("wrong checksum")
	}
	var e entry
	err := json.Unmarshal(l.Entry, &e)
	return e, err
}

// record is what the text of a journal says.
type record struct {
	header   *header // nil when not even that was written: then nothing was changed
	guardian *procs.ID
	changes  []numbered
	done     map[int]bool
	whole    int64 // bytes up to the end of the last whole line
	damaged  bool  // a line that had been synced is not whole
}

// parseJournal reads a journal. A last line without its end was being written when the power went: its change was never made, because a
// change waits for its line. Any other line that is not whole is damage; what the whole ones say is returned all the same.
func parseJournal(text []byte) record {
	r := record{done: map[int]bool{}}
	var offset int64
	for len(text) > 0 {
		end := bytes.IndexByte(text, '\n')
		if end < 0 {
			return r
		}
		e, err := decodeEntry(text[:end])
		text = text[end+1:]
		offset += int64(end) + 1
		if err != nil {
			r.damaged = true
			continue
		}
		r.whole = offset
		r.add(e)
	}
	return r
}

func (r *record) add(e entry) {
	switch {
	case e.Header != nil:
		r.header = e.Header
	case e.Guardian != nil:
		r.guardian = e.Guardian
	case e.Change != nil:
		r.changes = append(r.changes, *e.Change)
	case e.Done > 0:
		r.done[e.Done] = true
	}
	r.damaged = r.damaged || r.header == nil
}

// open returns the changes that were not taken back, in the order in which they were made.
func (r *record) open() []numbered {
	var open []numbered
	for _, change := range r.changes {
		if !r.done[change.Number] {
			open = append(open, change)
		}
	}
	return open
}
