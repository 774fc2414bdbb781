package history

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
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
	var events []Event
	last, err := scan(r, func(event Event) error {
		if sample, is := event.Fact.(*Sample); is {
			copied := *sample
			event.Fact = &copied
		}
		events = append(events, event)
		return nil
	})
	return events, last, err
}

// Scan reads and verifies a log, and gives each event to take as it is read; it returns the hash of the last verified line. The fact of a
// sample is used again for the next one: take must copy what it keeps of it. An error of take ends the reading and is returned.
func Scan(r io.Reader, take func(Event) error) (head string, err error) {
	last, err := scan(r, take)
	return hex.EncodeToString(last[:]), err
}

// Continue reads and verifies whole lines of a log that follow on line number after, whose hash is head; before the first line that is 0 and Unwritten. It
// returns the hash of the last line.
func Continue(head string, after int64, text []byte) (events []Event, last string, err error) {
	var prev [sha256.Size]byte
	if n, err := hex.Decode(prev[:], []byte(head)); err != nil || n != len(prev) || len(head) != 2*len(prev) {
		return nil, "", fmt.Errorf("history: %q is no hash: %w", head, ErrAltered)
	}
	quick, digest := quickReader{texts: map[string]string{}}, sha256.New()
	for line := range bytes.Lines(text) {
		after++
		if line[len(line)-1] != '\n' {
			return events, hex.EncodeToString(prev[:]), fmt.Errorf("history: line %d: %w", after, ErrTorn)
		}
		body, sum, err := verify(line, prev, after, digest)
		if err != nil {
			return events, hex.EncodeToString(prev[:]), err
		}
		event, err := decode(append(bytes.Clone(body), '}'), after, &quick)
		if err != nil {
			return events, hex.EncodeToString(prev[:]), err
		}
		if sample, is := event.Fact.(*Sample); is {
			copied := *sample
			event.Fact = &copied
		}
		events, prev = append(events, event), sum
	}
	return events, hex.EncodeToString(prev[:]), nil
}

// Unwritten is what the first line of a log follows on.
const Unwritten = "0000000000000000000000000000000000000000000000000000000000000000"

// StatedHash is the hash that a line of a log carries, which is not verified; empty: it is no such line.
func StatedHash(line []byte) string {
	line = bytes.TrimSuffix(line, []byte("\n"))
	split := len(line) - hashTail
	if split <= 0 || !bytes.HasPrefix(line[split:], []byte(hashMember)) {
		return ""
	}
	return string(line[split+len(hashMember) : len(line)-2])
}

// chunkSize is how many bytes of verified lines are handed over at once: reading and comparing hashes takes one core, decoding another.
const chunkSize = 256 << 10

// chunk is lines whose hashes are compared, without their hash.
type chunk struct {
	bytes []byte
	lines []verifiedLine
	err   error // after the lines
}

type verifiedLine struct {
	end int // in bytes
	sum [sha256.Size]byte
}

func scan(r io.Reader, take func(Event) error) (prev [sha256.Size]byte, err error) {
	const chunks = 4
	filled, free, done := make(chan *chunk, chunks), make(chan *chunk, chunks), make(chan struct{})
	for range chunks {
		free <- new(chunk)
	}
	finished := make(chan struct{})
	var broken any // what r panicked with; read after filled is closed
	go func() {
		defer close(finished)
		defer close(filled)
		defer func() { broken = recover() }()
		fillChunks(r, free, filled, done)
	}()
	defer func() {
		close(done)
		<-finished // r is the caller's again
	}()
	quick := quickReader{texts: map[string]string{}}
	number := int64(0)
	for c := range filled {
		from := 0
		for _, line := range c.lines {
			number++
			event, err := decode(c.bytes[from:line.end], number, &quick)
			if err != nil {
				return prev, err
			}
			from, prev = line.end, line.sum
			if err := take(event); err != nil {
				return prev, err
			}
		}
		if c.err != nil {
			return prev, c.err
		}
		free <- c
	}
	if broken != nil {
		panic(broken) // where the caller of Scan can meet it
	}
	return prev, nil
}

// fillChunks reads lines and compares their hashes, until the log or the reading ends.
func fillChunks(r io.Reader, free <-chan *chunk, filled chan<- *chunk, done <-chan struct{}) {
	reader, digest := bufio.NewReaderSize(r, scanBufSize), sha256.New()
	var prev [sha256.Size]byte
	number := int64(0)
	for {
		var c *chunk
		select {
		case c = <-free:
		case <-done:
			return
		}
		*c = chunk{bytes: c.bytes[:0], lines: c.lines[:0]}
		ended := false
		for len(c.bytes) < chunkSize && c.err == nil && !ended {
			var line []byte
			line, c.err = readLine(reader)
			switch {
			case errors.Is(c.err, io.EOF) && len(line) == 0:
				c.err, ended = nil, true
				continue
			case errors.Is(c.err, io.EOF):
				c.err = fmt.Errorf("history: line %d: %w", number+1, ErrTorn)
				continue
			case c.err != nil:
				c.err = fmt.Errorf("history: line %d: %w", number+1, c.err)
				continue
			}
			number++
			var body []byte
			if body, prev, c.err = verify(line, prev, number, digest); c.err == nil {
				c.bytes = append(append(c.bytes, body...), '}')
				c.lines = append(c.lines, verifiedLine{end: len(c.bytes), sum: prev})
			}
		}
		failed := c.err != nil
		filled <- c // as large as there are chunks: this never waits
		if failed || ended {
			return
		}
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

var closing = []byte("}")

// verify compares the hash of a line with its text and the hash before it; body is the line's object without its closing brace.
func verify(line []byte, prev [sha256.Size]byte, number int64, digest hash.Hash) (body []byte, sum [sha256.Size]byte, err error) {
	line = bytes.TrimSuffix(line, []byte("\n"))
	split := len(line) - hashTail
	if split <= 0 || !bytes.HasPrefix(line[split:], []byte(hashMember)) || !bytes.HasSuffix(line, []byte(`"}`)) {
		return nil, sum, fmt.Errorf("history: line %d is not a line of a chained log: %w", number, ErrAltered)
	}
	var stated [sha256.Size]byte
	if _, err := hex.Decode(stated[:], line[split+len(hashMember):len(line)-2]); err != nil {
		return nil, sum, fmt.Errorf("history: line %d: bad hash: %w", number, ErrAltered)
	}
	digest.Reset()
	digest.Write(prev[:])
	digest.Write(line[:split])
	digest.Write(closing)
	digest.Sum(sum[:0])
	if sum != stated {
		return nil, sum, fmt.Errorf("history: line %d does not follow from the line before it (changed, dropped or moved): %w", number, ErrAltered)
	}
	return line[:split], sum, nil
}

// decode reads the event of a verified line.
func decode(body []byte, number int64, quick *quickReader) (event Event, err error) {
	if !quick.read(body[:len(body)-1], &event) {
		if err := json.Unmarshal(body, &event); err != nil {
			return Event{}, fmt.Errorf("history: line %d: %w", number, err)
		}
	}
	if event.Seq != number {
		return Event{}, fmt.Errorf("history: line %d carries sequence number %d: %w", number, event.Seq, ErrAltered)
	}
	return event, nil
}
