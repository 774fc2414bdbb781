package control

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/history"
)

// What is signed begins with words of its own, so that nothing is taken for something else.
const (
	auditEntryWords     = "firedrill audit entry 1\n"
	auditVoucherWords   = "firedrill audit voucher 1\n"
	auditStatementWords = "firedrill audit statement 1\n"
	auditRemovedWords   = "firedrill audit removed 1\n"
)

// signed is a text with its signature. The bytes are what is signed.
type signed struct {
	Text      json.RawMessage `json:"text,omitempty"`
	Signature []byte          `json:"signature,omitempty"` // Ed25519
}

func sign(words string, value any, key ed25519.PrivateKey) signed {
	text := encode(value)
	return signed{text, ed25519.Sign(key, append([]byte(words), text...))}
}

// open reads what was signed into value. An error that wraps history.ErrAltered says that it was not signed with that key.
func (s signed) open(words string, key ed25519.PublicKey, value any) error {
	if len(key) != ed25519.PublicKeySize || !ed25519.Verify(key, append([]byte(words), s.Text...), s.Signature) {
		return fmt.Errorf("the signature is another's: %w", history.ErrAltered)
	}
	return json.Unmarshal(s.Text, value)
}

// auditEntry is some lines of one server as they lie before all servers: lines that follow each other in one of its files. Each entry names the one
// before by place and by digest, and its signature stands for all that the server has written up to here.
type auditEntry struct {
	Fleet  string `json:"fleet"`
	Server string `json:"server"`
	Chain  string `json:"chain"` // chainOf(Key)
	Key    []byte `json:"key"`   // public, Ed25519
	Life   int    `json:"life"`  // from 1; another one begins with a directory that was brought back from an older copy

	Number uint64 `json:"number"`           // in this life, from 1
	After  uint64 `json:"after,omitempty"`  // place in the stream of the entry before
	Before string `json:"before,omitempty"` // SHA-256 of the entry before

	File    string    `json:"file"`
	First   int64     `json:"first"` // line of the file
	Last    int64     `json:"last"`
	Start   string    `json:"start"` // hash of the line before the first
	Head    string    `json:"head"`  // hash of the last line
	Lines   int64     `json:"lines"` // of this life up to here
	From    time.Time `json:"from"`
	Until   time.Time `json:"until"`
	LeftOut bool      `json:"left_out,omitempty"` // one line that is too long to be carried

	Removed *AuditCheckpoint `json:"removed,omitempty"` // of a first entry: what its server had removed before
	Fork    *auditFork       `json:"fork,omitempty"`    // of a first entry: where the life before was left
}

// auditFork is the last line that a life has in common with the one before. The zero value: there is none.
type auditFork struct {
	Life int    `json:"life"`
	File string `json:"file,omitempty"`
	Line int64  `json:"line,omitempty"`
	Head string `json:"head,omitempty"`
}

// chainOf names a chain by the key that signs it.
func chainOf(key []byte) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:16])
}

func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

const (
	auditStream  = "AUDIT"
	auditSubject = "fd.audit"
)

func auditSubjectOf(chain string, life int) string {
	return auditSubject + "." + chain + "." + strconv.Itoa(life)
}

// auditSubjectParts is the inverse of auditSubjectOf.
func auditSubjectParts(subject string) (chain string, life int, err error) {
	chain = token(subject, 2)
	life, err = strconv.Atoi(token(subject, 3))
	if err != nil || life < 1 || auditSubjectOf(chain, life) != subject {
		return "", 0, fmt.Errorf("%q is the subject of no audit log: %w", subject, history.ErrAltered)
	}
	return chain, life, nil
}

// packed is an entry as it lies in the stream: what is signed on a line of its own, then the lines as they stand in the file.
func (e auditEntry) packed(key ed25519.PrivateKey, lines []byte) (message []byte, digest string) {
	one := sign(auditEntryWords, e, key)
	return append(append(encode(one), '\n'), lines...), digestOf(one.Text)
}

// heldEntry is an entry that was read and found to be what its server wrote.
type heldEntry struct {
	auditEntry
	digest string
	events []history.Event
	hashes []string // of the lines
	size   int
}

// openEntry reads an entry. Its own signature, its place among the chains and its lines are verified; that it follows on the one before is not.
func openEntry(subject string, message []byte) (held heldEntry, err error) {
	altered := func(format string, args ...any) error {
		return fmt.Errorf(format+": %w", append(args, history.ErrAltered)...)
	}
	head, lines, cut := bytes.Cut(message, []byte("\n"))
	var one signed
	if !cut || json.Unmarshal(head, &one) != nil || json.Unmarshal(one.Text, &held.auditEntry) != nil {
		return held, altered("it is no entry of an audit log")
	}
	held.size, held.digest = len(message), digestOf(one.Text)
	if err := one.open(auditEntryWords, held.Key, &held.auditEntry); err != nil {
		return held, err
	}
	e := held.auditEntry
	switch {
	case chainOf(e.Key) != e.Chain || auditSubjectOf(e.Chain, e.Life) != subject:
		return held, altered("it says that it is life %d of chain %s, and lies as %s", e.Life, e.Chain, subject)
	case e.Number < 1 || e.First < 1 || e.Last < e.First || e.First == 1 && e.Start != history.Unwritten || e.LeftOut && (e.First != e.Last || len(lines) > 0):
		return held, altered("its numbers cannot be")
	case e.LeftOut:
		held.events = []history.Event{history.New(e.From, "control", &history.Note{Text: "this line is too long to be carried; it lies in " + e.File + " of its server"})}
		held.hashes = []string{e.Head}
		return held, nil
	}
	events, last, err := history.Continue(e.Start, e.First-1, lines)
	if err != nil {
		return held, err
	}
	if last != e.Head || e.First+int64(len(events))-1 != e.Last {
		return held, altered("it ends with line %d, %s, and was to end with line %d, %s", e.First+int64(len(events))-1, last, e.Last, e.Head)
	}
	held.events = events
	for line := range bytes.Lines(lines) {
		held.hashes = append(held.hashes, history.StatedHash(line))
	}
	return held, nil
}

// hashAt is the hash of a line of the entry's file; empty: it does not hold that line.
func (h heldEntry) hashAt(file string, line int64) string {
	if file != h.File || line < h.First || line > h.Last {
		return ""
	}
	return h.hashes[line-h.First]
}

// auditChain is what is kept of a chain beside its entries, in a bucket.
type auditChain struct {
	Chain     string            `json:"chain"`
	Voucher   signed            `json:"voucher"`
	Statement signed            `json:"statement"`
	Removed   map[string]signed `json:"removed,omitempty"` // by life
}

// auditVoucher says that a chain is of a server of this fleet. It is signed with the key of orders, which all servers have and nobody else.
type auditVoucher struct {
	Fleet  string   `json:"fleet"`
	Chain  string   `json:"chain"`
	Key    []byte   `json:"key"`
	Names  []string `json:"names"` // that the server has had, the newest last
	Serial uint64   `json:"serial"`
}

// auditStatement says how far a server has written at a time, signed with its own key.
type auditStatement struct {
	Fleet   string    `json:"fleet"`
	Chain   string    `json:"chain"`
	Life    int       `json:"life"`
	Number  uint64    `json:"number"`
	File    string    `json:"file"`
	Line    int64     `json:"line"`
	Head    string    `json:"head"`
	At      time.Time `json:"at"`
	Stopped bool      `json:"stopped,omitempty"`
}

// auditRemoved stands for entries that were removed because of their age, signed with the key of a server of this fleet.
type auditRemoved struct {
	Fleet  string    `json:"fleet"`
	Chain  string    `json:"chain"`
	Life   int       `json:"life"`
	Key    []byte    `json:"key"`    // of who removed them
	Number uint64    `json:"number"` // of the last one
	Digest string    `json:"digest"`
	Place  uint64    `json:"place"` // in the stream
	File   string    `json:"file"`
	Line   int64     `json:"line"`
	Head   string    `json:"head"`
	Lines  int64     `json:"lines"` // of this life up to there
	From   time.Time `json:"from"`
	Until  time.Time `json:"until"`
	At     time.Time `json:"at"`
}

// knownChain is what a server remembers of a chain in a file of its own, so that nothing can be taken out of the engine without being missed.
type knownChain struct {
	Key   []byte            `json:"key"`
	Names []string          `json:"names"`
	Lives map[int]knownLife `json:"lives"`
}

type knownLife struct {
	File string    `json:"file"`
	Line int64     `json:"line"`
	Head string    `json:"head"`
	At   time.Time `json:"at"` // of that line
}

func (k knownChain) clone() knownChain {
	copied := knownChain{Key: k.Key, Names: slices.Clone(k.Names), Lives: map[int]knownLife{}}
	for life, at := range k.Lives {
		copied.Lives[life] = at
	}
	return copied
}

// name is what the chain's server is called now.
func (k knownChain) name() string {
	if len(k.Names) == 0 {
		return ""
	}
	return k.Names[len(k.Names)-1]
}

// spool reads what a server has written in its own directory, line by line and file by file.
type spool struct {
	directory string
	file      string
	offset    int64
	line      int64
	head      string // hash of the line before offset
}

// find is the place behind a line of a file; ok: it is there, with that hash.
func (s *spool) find(file string, line int64, head string) (ok bool, err error) {
	names, err := auditNames(s.directory)
	if err != nil || !slices.Contains(names, file) {
		return false, err
	}
	at, text := int64(0), []byte(nil)
	if text, err = readWhole(s.directory, file); err != nil {
		return false, err
	}
	number := int64(0)
	for one := range bytes.Lines(text) {
		at += int64(len(one))
		if number++; number == line && one[len(one)-1] == '\n' && history.StatedHash(one) == head {
			s.file, s.offset, s.line, s.head = file, at, line, head
			return true, nil
		}
	}
	return false, nil
}

// spooled are whole lines of one file.
type spooled struct {
	file        string
	first, last int64
	start, head string
	text        []byte
	events      []history.Event
}

var errSpool = errors.New("the audit log of this server cannot be read on")

// next reads lines on, of one file and so many bytes at most, one line at least. Nothing: there is none yet.
func (s *spool) next(most int) (read spooled, err error) {
	for {
		names, err := auditNames(s.directory) // before the file is read: who writes goes on in another file, and never back
		if err != nil {
			return read, err
		}
		if s.file == "" {
			if len(names) == 0 {
				return read, nil
			}
			s.file, s.offset, s.line, s.head = names[0], 0, 0, history.Unwritten
		}
		text, err := readPart(s.directory, s.file, s.offset, most)
		if err != nil {
			return read, err
		}
		if len(text) > 0 {
			count := int64(bytes.Count(text, []byte("\n")))
			events, head, err := history.Continue(s.head, s.line, text)
			if err != nil {
				return read, fmt.Errorf("%w: %s: %w", errSpool, s.file, err)
			}
			read = spooled{file: s.file, first: s.line + 1, last: s.line + count, start: s.head, head: head, text: text, events: events}
			return read, nil
		}
		at := slices.IndexFunc(names, func(name string) bool { return name > s.file })
		if at < 0 {
			return read, nil
		}
		s.file, s.offset, s.line, s.head = names[at], 0, 0, history.Unwritten
	}
}

// taken goes on behind what was read.
func (s *spool) taken(read spooled) {
	s.offset, s.line, s.head = s.offset+int64(len(read.text)), read.last, read.head
}

// before reports whether a place of one server's files lies before another one, or is the same.
func notBehind(file string, line int64, otherFile string, otherLine int64) bool {
	return strings.Compare(file, otherFile) < 0 || file == otherFile && line <= otherLine
}
