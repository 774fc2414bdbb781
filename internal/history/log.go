package history

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// A line of a chained log is the event's JSON with one more member at its end:
//
//	{"seq":7,"at":"...","kind":"alarm","data":{...},"hash":"<64 hex digits>"}
//
// hash is SHA-256 over the hash of the line before (32 zero bytes for the first) followed by the bytes of the line without that
// member. So the bytes on disk are what is verified, not a second encoding of them.
const (
	hashMember  = `,"hash":"`
	hashTail    = len(hashMember) + 2*sha256.Size + len(`"}`)
	lineMax     = 16 << 20 // one event; a plan with a thousand hosts stays far below
	scanBufSize = 1 << 20
)

// Writer appends events to a log. It is safe for use by several goroutines.
type Writer struct {
	mu   sync.Mutex // guards the fields below
	out  io.Writer
	seq  int64
	prev [sha256.Size]byte
	err  error // the first failed write; a log with a hole must not go on
}

// NewWriter starts a new log on out. Every event is one Write call, so that a file opened for appending holds whole lines only.
func NewWriter(out io.Writer) *Writer { return &Writer{out: out} }

// Append gives the event its sequence number, chains it and writes it. It returns the event as written. After an error every further
// call returns the same error.
func (w *Writer) Append(event Event) (Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return event, w.err
	}
	event.Seq = w.seq + 1
	event.At = event.At.UTC().Round(0)
	body, err := json.Marshal(event)
	if err != nil {
		return event, fmt.Errorf("history: append event %d: %w", event.Seq, err)
	}
	sum := chain(w.prev, body)
	line := make([]byte, 0, len(body)+hashTail)
	line = append(line, body[:len(body)-1]...)
	line = append(line, hashMember...)
	line = hex.AppendEncode(line, sum[:])
	line = append(line, '"', '}', '\n')
	if _, err := w.out.Write(line); err != nil {
		w.err = fmt.Errorf("history: append event %d: %w", event.Seq, err)
		return event, w.err
	}
	w.seq, w.prev = event.Seq, sum
	return event, nil
}

// Head returns the number of events and the hash of the last one, in hex: what a report must name so that a log cut at its end is
// noticed.
func (w *Writer) Head() (seq int64, hash string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seq, hex.EncodeToString(w.prev[:])
}

func chain(prev [sha256.Size]byte, body []byte) [sha256.Size]byte {
	sum := sha256.New()
	sum.Write(prev[:])
	sum.Write(body)
	return [sha256.Size]byte(sum.Sum(nil))
}

// ErrAltered is wrapped by every error of Read that says that the log is not what was written.
var ErrAltered = errors.New("the log was altered")

// ErrTorn is wrapped when only the last line is incomplete, as after a power cut. The events before it are returned with it.
var ErrTorn = errors.New("the last line of the log is incomplete")

// Read reads and verifies a whole log. On an error the events verified so far are returned with it.
func Read(r io.Reader) ([]Event, error) {
	events, _, err := ReadHead(r)
	return events, err
}

// ReadHead is Read, and returns the hash of the last verified line too, in hex as Writer.Head does.
func ReadHead(r io.Reader) (events []Event, head string, err error) {
	events, last, err := read(r)
	return events, hex.EncodeToString(last[:]), err
}

func read(r io.Reader) ([]Event, [sha256.Size]byte, error) {
	var (
		events []Event
		prev   [sha256.Size]byte
		number int64
	)
	reader := bufio.NewReaderSize(r, scanBufSize)
	for {
		line, err := readLine(reader)
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return events, prev, nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return events, prev, fmt.Errorf("history: line %d: %w", number+1, err)
		}
		if errors.Is(err, io.EOF) {
			return events, prev, fmt.Errorf("history: line %d: %w", number+1, ErrTorn)
		}
		number++
		event, sum, err := verify(line, prev, number)
		if err != nil {
			return events, prev, err
		}
		events, prev = append(events, event), sum
	}
}

func readLine(reader *bufio.Reader) ([]byte, error) {
	var whole []byte
	for {
		part, err := reader.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			if len(whole)+len(part) > lineMax {
				return nil, fmt.Errorf("longer than %d bytes", lineMax)
			}
			whole = append(whole, part...)
			continue
		}
		if whole != nil {
			return append(whole, part...), err
		}
		return part, err
	}
}

func verify(line []byte, prev [sha256.Size]byte, number int64) (Event, [sha256.Size]byte, error) {
	var none [sha256.Size]byte
	line = bytes.TrimSuffix(line, []byte("\n"))
	split := len(line) - hashTail
	if split <= 0 || !bytes.HasPrefix(line[split:], []byte(hashMember)) || !bytes.HasSuffix(line, []byte(`"}`)) {
		return Event{}, none, fmt.Errorf("history: line %d is not a line of a chained log: %w", number, ErrAltered)
	}
	stated, err := hex.DecodeString(string(line[split+len(hashMember) : len(line)-2]))
	if err != nil {
		return Event{}, none, fmt.Errorf("history: line %d: bad hash: %w", number, ErrAltered)
	}
	body := make([]byte, 0, split+1)
	body = append(append(body, line[:split]...), '}')
	sum := chain(prev, body)
	if !bytes.Equal(sum[:], stated) {
		return Event{}, none, fmt.Errorf("history: line %d does not follow from the line before it (changed, dropped or moved): %w", number, ErrAltered)
	}
	var event Event
	if err := json.Unmarshal(body, &event); err != nil {
		return Event{}, none, fmt.Errorf("history: line %d: %w", number, err)
	}
	if event.Seq != number {
		return Event{}, none, fmt.Errorf("history: line %d carries sequence number %d: %w", number, event.Seq, ErrAltered)
	}
	return event, sum, nil
}
