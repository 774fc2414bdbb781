package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

const (
	auditDirectory = "audit"
	auditChunk     = 64 << 10
	auditLineMax   = 1 << 20
	auditReadMax   = 8 << 20 // of a log, for one look at it
)

// localPage is a part of what this server wrote, the newest line first.
type localPage struct {
	Lines []history.Event
	Next  string // where the lines before these begin; empty: there are none
}

// localAudit reads what this server wrote backwards from a place that a page before named; an empty place is the end. contains keeps lines that hold a text,
// without regard to case. It reads no more than it shows, or eight megabytes: then the page may be empty and name a place all the same.
func (c *Control) localAudit(place string, count int, contains string) (localPage, error) {
	directory := filepath.Join(c.options.Directory, auditDirectory)
	names, err := auditNames(directory)
	if err != nil {
		return localPage{}, err
	}
	at, end := len(names)-1, int64(-1)
	if place != "" {
		name, offset, _ := strings.Cut(place, ":")
		found, known := slices.BinarySearch(names, name)
		parsed, err := strconv.ParseInt(offset, 10, 64)
		if !known || err != nil || parsed < 0 {
			return localPage{}, &drill.Error{Op: "audit", Kind: drill.Invalid, Err: fmt.Errorf("%q is no place in the audit log", place)}
		}
		at, end = found, parsed
	}
	page := localPage{}
	read := int64(0)
	lacks := lacksText(contains)
	for ; at >= 0; at, end = at-1, -1 {
		left, err := auditBackwards(filepath.Join(directory, names[at]), end, lacks, func(event history.Event, _, size int64) bool {
			read += size
			note, _ := event.Fact.(*history.Note)
			if contains == "" || note != nil && strings.Contains(strings.ToLower(note.Text), strings.ToLower(contains)) {
				page.Lines = append(page.Lines, event)
			}
			return len(page.Lines) < count && read < auditReadMax
		})
		if err != nil {
			return page, err
		}
		if len(page.Lines) >= count || read >= auditReadMax {
			switch {
			case left > 0:
				page.Next = fmt.Sprintf("%s:%d", names[at], left)
			case at > 0:
				page.Next = auditEnd(directory, names[at-1])
			}
			return page, nil
		}
	}
	return page, nil
}

// lacksText returns what says of a line, before it is decoded, that it does not hold a text, without regard to case. Where a line may hold it in other
// letters, or as an escape, it says no: who decodes the line knows.
func lacksText(text string) func(line []byte) bool {
	needle := []byte(strings.ToLower(text))
	if len(needle) == 0 || slices.ContainsFunc(needle, func(b byte) bool { return b < ' ' || b >= utf8.RuneSelf || strings.ContainsRune(`"\\<>&`, rune(b)) }) {
		return func([]byte) bool { return false }
	}
	var lower []byte
	return func(line []byte) bool {
		lower = lower[:0]
		for i, b := range line {
			if b >= utf8.RuneSelf || b == 'u' && i > 0 && line[i-1] == '\\' {
				return false
			}
			if 'A' <= b && b <= 'Z' {
				b += 'a' - 'A'
			}
			lower = append(lower, b)
		}
		return !bytes.Contains(lower, needle)
	}
}

// auditEnd is the place behind the last line of a log.
func auditEnd(directory, name string) string {
	info, err := os.Stat(filepath.Join(directory, name))
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s:%d", name, info.Size())
}

// auditBackwards gives the lines of a log before end (-1: all), the last one first, and returns where the one begins that was given last.
// A line that is not whole, or is no event, is not given; one of which it is known that it is not wanted is given as an event of nothing.
func auditBackwards(path string, end int64, unwanted func(line []byte) bool, take func(event history.Event, begin, size int64) (more bool)) (left int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	if end < 0 || end > info.Size() {
		end = info.Size()
	}
	var held []byte // what was read and lies before end
	from := end
	for {
		at := bytes.LastIndexByte(held[:max(0, len(held)-1)], '\n') // the one before the one that ends the last line
		if at < 0 && from > 0 {
			if len(held) > auditLineMax {
				return 0, errors.New("a line of the audit log is too long")
			}
			size := min(int64(auditChunk), from)
			chunk := make([]byte, size, int(size)+len(held))
			if _, err := file.ReadAt(chunk, from-size); err != nil && !errors.Is(err, io.EOF) {
				return 0, err
			}
			held, from = append(chunk, held...), from-size
			continue
		}
		line := held[at+1:]
		if len(line) == 0 {
			return 0, nil
		}
		held = held[:at+1]
		end = from + int64(len(held))
		var event history.Event
		if unwanted(line) {
			if !take(event, end, int64(len(line))) {
				return end, nil
			}
			continue
		}
		if line[len(line)-1] == '\n' && json.Unmarshal(line, &event) == nil && !take(event, end, int64(len(line))) {
			return end, nil
		}
	}
}
