package control

import (
	"bytes"
	"cmp"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/durable"
	"firedrill/internal/history"
)

const (
	auditSuffix     = ".jsonl"
	auditNameForm   = "20060102T150405.000000000Z"
	auditTailMax    = 2 * auditLineMax
	auditRotateAt   = 64 << 20                         // bytes
	auditRotateAge  = 30 * 24 * time.Hour              // what a server writes for years must be able to grow old
	auditKeyFile    = "audit.key"                      // beside the directory of the logs
	checkpointFile  = "checkpoint.json"                // beside the logs
	checkpointWords = "firedrill audit checkpoint 1\n" // before what is signed: an order is never taken for one
)

// The first line of a log says where the one before ends, so that a log that is taken away whole is missed too.
const (
	auditFollows = "this log follows "
	auditBegins  = "this log is the first one"
)

// auditLog is what this server writes down for people: one file after the other, each a chain, and each naming the end of the one before.
type auditLog struct {
	directory, boot string

	wrote chan struct{} // something was written

	mu     sync.Mutex // guards the fields below
	file   *os.File
	writer *history.Writer
	name   string
	size   int64
	began  time.Time
	late   []lateLine // what could not be written yet, the oldest first
	lost   int        // of them, those that were too many

	silenced bool // planted bug: what cannot be written is let go
}

// lateLine is a line that waits for room on the disk.
type lateLine struct {
	at   time.Time
	text string
}

// auditLateMax bounds what is remembered of a disk that stays full.
const auditLateMax = 20_000

// openAuditLog starts a log of its own for this start.
func openAuditLog(directory, boot string) (*auditLog, error) {
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return nil, err
	}
	a := &auditLog{directory: directory, boot: boot, wrote: make(chan struct{}, 1)}
	return a, a.next(time.Now())
}

// next goes on in a new file. The lock is held, or nobody else knows the log.
func (a *auditLog) next(now time.Time) error {
	names, err := auditNames(a.directory)
	if err != nil {
		return err
	}
	opening := auditBegins
	if len(names) > 0 {
		last := names[len(names)-1]
		end, err := auditEndOf(filepath.Join(a.directory, last))
		if err != nil {
			return fmt.Errorf("audit log %s: %w", last, err)
		}
		opening = auditFollows + fmt.Sprintf("%s, which ends with line %d, %s", last, end.Lines, end.Head)
		// Names are the order, also when the clock was set back meanwhile.
		if before, err := auditNameTime(last); err == nil && !now.After(before) {
			now = before.Add(1)
		}
	} else if pruned, ok, err := loadCheckpoint(a.directory); err == nil && ok {
		opening = auditFollows + fmt.Sprintf("%s, which ends with line %d, %s", pruned.Last, pruned.LastLines, pruned.Head)
	}
	name := now.UTC().Format(auditNameForm) + "-" + a.boot[:8] + auditSuffix
	file, err := os.OpenFile(filepath.Join(a.directory, name), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	fresh := &auditLog{writer: history.NewWriter(file)}
	if err := fresh.append(now, opening); err != nil {
		return errors.Join(err, file.Close(), os.Remove(file.Name()))
	}
	if a.file != nil {
		_ = a.file.Close() // each line was written by itself
	}
	a.file, a.writer, a.name, a.size, a.began = file, fresh.writer, name, fresh.size, now
	return nil
}

func (a *auditLog) append(at time.Time, text string) error {
	a.size += int64(len(text)) + 256 // about what stands around it
	_, err := a.writer.Append(history.New(at, "control", &history.Note{Text: text}))
	return err
}

// record writes a line. One that cannot be written is remembered, with its time, and written as soon as that can be done.
func (a *auditLog) record(text string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.late) == auditLateMax {
		a.lost++
		return a.writeLate()
	}
	a.late = append(a.late, lateLine{time.Now(), text})
	err := a.writeLate()
	if err != nil && a.silenced {
		a.late = nil
	}
	select {
	case a.wrote <- struct{}{}:
	default: // it is known that there is something
	}
	return err
}

// waits reports whether there are lines that could not be written yet.
func (a *auditLog) waits() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.late) > 0
}

// onward goes on in a new file.
func (a *auditLog) onward(now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.next(now)
}

// catchUp writes what could not be written before.
func (a *auditLog) catchUp() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.writeLate()
}

func (a *auditLog) writeLate() error {
	for len(a.late) > 0 {
		line := a.late[0]
		if err := a.append(line.at, line.text); err != nil {
			// A disk that was full for a while must not silence the log until the next start: it goes on in a new file, which says where this one ends.
			again := a.next(time.Now())
			if again == nil {
				again = a.append(line.at, line.text)
			}
			if again != nil {
				return errors.Join(err, again)
			}
		}
		if a.late = a.late[1:]; len(a.late) == 0 && a.lost > 0 {
			a.late, a.lost = append(a.late, lateLine{time.Now(), fmt.Sprintf("%d lines are missing here: nothing could be written, and they were too many to remember", a.lost)}), 0
		}
	}
	return nil
}

// rotate goes on in a new file when this one is old or large.
func (a *auditLog) rotate(now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now.Sub(a.began) < auditRotateAge && a.size < auditRotateAt {
		return nil
	}
	return a.next(now)
}

func (a *auditLog) current() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.name
}

func (a *auditLog) close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return errors.Join(a.writeLate(), a.file.Close())
}

// auditNames are the logs that are there, the oldest first.
func auditNames(directory string) ([]string, error) {
	entries, err := os.ReadDir(directory)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), auditSuffix) {
			names = append(names, entry.Name())
		}
	}
	slices.Sort(names) // they begin with the time
	return names, nil
}

// auditNameTime is when a log was begun, by its name.
func auditNameTime(name string) (time.Time, error) {
	text, _, _ := strings.Cut(name, "-")
	return time.Parse(auditNameForm, text)
}

// auditEnding is where a log ends.
type auditEnding struct {
	Lines int64
	Head  string
}

// auditEndOf reads the end of a log, without looking at what is before its last whole line.
func auditEndOf(path string) (auditEnding, error) {
	end := auditEnding{Head: hex.EncodeToString(make([]byte, sha256.Size))}
	file, err := os.Open(path)
	if err != nil {
		return end, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return end, err
	}
	from := max(0, info.Size()-auditTailMax)
	text, err := io.ReadAll(io.NewSectionReader(file, from, auditTailMax))
	if err != nil {
		return end, err
	}
	whole := bytes.LastIndexByte(text, '\n')
	if whole < 0 {
		return end, nil // nothing was written, or not to its end
	}
	line := text[bytes.LastIndexByte(text[:whole], '\n')+1 : whole]
	var last struct {
		Seq  int64  `json:"seq"`
		Hash string `json:"hash"`
	}
	if err := json.Unmarshal(line, &last); err != nil || len(last.Hash) != len(end.Head) {
		return end, fmt.Errorf("its last line is none: %w", cmp.Or(err, history.ErrAltered))
	}
	return auditEnding{last.Seq, last.Hash}, nil
}

// AuditCheckpoint stands for logs that were removed because they were too old: what is left follows on it, and who kept a copy of them can show that
// it is what was removed.
type AuditCheckpoint struct {
	Fleet     string    `json:"fleet"`
	Files     int       `json:"files"` // removed so far
	Lines     int64     `json:"lines"` // in all of them
	From      time.Time `json:"from,omitzero"`
	Until     time.Time `json:"until,omitzero"`
	Last      string    `json:"last"`       // the newest of them
	LastLines int64     `json:"last_lines"` // of that
	Head      string    `json:"head"`       // hash of its last line
	Chain     string    `json:"chain"`      // SHA-256 over the chain before, the name and the head of each, one after the other
	At        time.Time `json:"at"`
}

// signedCheckpoint is the file. The bytes are what is signed.
type signedCheckpoint struct {
	Checkpoint json.RawMessage `json:"checkpoint"`
	Signature  []byte          `json:"signature"` // Ed25519, with a key of this server that signs nothing else, and outlives the keys of the fleet
}

func saveCheckpoint(directory string, checkpoint AuditCheckpoint, key ed25519.PrivateKey) error {
	text := encode(checkpoint)
	return durable.Save(filepath.Join(directory, checkpointFile), signedCheckpoint{Checkpoint: text, Signature: ed25519.Sign(key, append([]byte(checkpointWords), text...))})
}

// loadCheckpoint reads the checkpoint without regard to its signature.
func loadCheckpoint(directory string) (checkpoint AuditCheckpoint, ok bool, err error) {
	var kept signedCheckpoint
	if err := durable.Load(filepath.Join(directory, checkpointFile), &kept); err != nil || len(kept.Checkpoint) == 0 {
		return checkpoint, false, err
	}
	err = json.Unmarshal(kept.Checkpoint, &checkpoint)
	return checkpoint, err == nil, err
}

func publicHalf(key ed25519.PrivateKey) ed25519.PublicKey {
	return ed25519.PublicKey(key[ed25519.SeedSize:])
}

// auditSeed is the file of the key that signs checkpoints.
type auditSeed struct {
	Seed []byte `json:"seed"`
}

// loadAuditKey reads the key of a server's directory.
func loadAuditKey(directory string) (key ed25519.PrivateKey, known bool, err error) {
	var kept auditSeed
	if err := durable.Load(filepath.Join(directory, auditKeyFile), &kept); err != nil || len(kept.Seed) != ed25519.SeedSize {
		return nil, false, err
	}
	return ed25519.NewKeyFromSeed(kept.Seed), true, nil
}

// openAuditKey reads the key, or makes one at the first start.
func openAuditKey(directory string) (ed25519.PrivateKey, error) {
	key, known, err := loadAuditKey(directory)
	if known || err != nil {
		return key, err
	}
	seed := make([]byte, ed25519.SeedSize)
	if _, err := rand.Read(seed); err != nil {
		return nil, err
	}
	return ed25519.NewKeyFromSeed(seed), durable.Save(filepath.Join(directory, auditKeyFile), auditSeed{seed})
}

// verifyCheckpoint reads the checkpoint, if it is this server's.
func verifyCheckpoint(directory, fleet string, key ed25519.PublicKey) (checkpoint AuditCheckpoint, ok bool, err error) {
	var kept signedCheckpoint
	if err := durable.Load(filepath.Join(directory, checkpointFile), &kept); err != nil {
		return checkpoint, false, err
	}
	if len(kept.Checkpoint) == 0 {
		return checkpoint, false, nil
	}
	if !ed25519.Verify(key, append([]byte(checkpointWords), kept.Checkpoint...), kept.Signature) {
		return checkpoint, false, fmt.Errorf("%s: the signature is not this server's: %w", checkpointFile, history.ErrAltered)
	}
	if err := json.Unmarshal(kept.Checkpoint, &checkpoint); err != nil {
		return checkpoint, false, err
	}
	if checkpoint.Fleet != fleet {
		return checkpoint, false, fmt.Errorf("%s is of fleet %s: %w", checkpointFile, checkpoint.Fleet, history.ErrAltered)
	}
	return checkpoint, true, nil
}

// auditFile is a log that was read whole.
type auditFile struct {
	auditEnding
	Name        string
	From, Until time.Time
	Follows     string // the first line; empty: the log is of a version that did not write it
}

// readAudit reads a log and holds its chain.
func readAudit(directory, name string) (auditFile, error) {
	one := auditFile{Name: name}
	file, err := os.Open(filepath.Join(directory, name))
	if err != nil {
		return one, err
	}
	defer file.Close()
	one.Head, err = history.Scan(file, func(event history.Event) error {
		if one.Lines++; one.Lines == 1 {
			one.From = event.At
			if note, ok := event.Fact.(*history.Note); ok && (strings.HasPrefix(note.Text, auditFollows) || note.Text == auditBegins) {
				one.Follows = note.Text
			}
		}
		one.Until = event.At
		return nil
	})
	if errors.Is(err, history.ErrTorn) {
		err = nil // a power cut; what follows names the last whole line
	}
	if err != nil {
		err = fmt.Errorf("audit log %s: %w", name, err)
	}
	return one, err
}

// follows holds the first line of a log against what is before it. A log of an older version says nothing, which is no proof of anything.
func (f auditFile) follows(last string, end auditEnding, first bool) error {
	want := auditFollows + fmt.Sprintf("%s, which ends with line %d, %s", last, end.Lines, end.Head)
	if first {
		want = auditBegins
	}
	if f.Follows != "" && f.Follows != want {
		return fmt.Errorf("audit log %s does not follow on what is before it: it says %q, and that would be %q: %w", f.Name, f.Follows, want, history.ErrAltered)
	}
	return nil
}

// AuditProof is what the audit log of a server proves.
type AuditProof struct {
	Files    int              `json:"files"`
	Lines    int64            `json:"lines"`
	From     time.Time        `json:"from,omitzero"`
	Until    time.Time        `json:"until,omitzero"`
	Head     string           `json:"head,omitempty"`     // hash of the last line
	Removed  *AuditCheckpoint `json:"removed,omitempty"`  // what was removed because of its age
	Unlinked []string         `json:"unlinked,omitempty"` // logs of an older version, which do not say what they follow
}

// VerifyAudit reads the audit log below a server's directory of the fleet: each log's chain, that each follows on the one before, and the first on what
// was removed before it. An error that wraps history.ErrAltered says that it is not what was written.
func VerifyAudit(directory string) (AuditProof, error) {
	var proof AuditProof
	var id identity
	key, known, err := loadAuditKey(directory)
	if err := errors.Join(err, durable.Load(filepath.Join(directory, identityFile), &id)); err != nil {
		return proof, &drill.Error{Op: "audit", Kind: drill.Invalid, Err: err}
	}
	if id.Fleet == "" || !known {
		return proof, &drill.Error{Op: "audit", Kind: drill.Invalid, Err: fmt.Errorf("there is no server in %s", directory), Hint: "name the server's directory with --data"}
	}
	logs := filepath.Join(directory, auditDirectory)
	removed, pruned, err := verifyCheckpoint(logs, id.Fleet, publicHalf(key))
	if err != nil {
		return proof, err
	}
	names, err := auditNames(logs)
	if err != nil {
		return proof, err
	}
	last, end := removed.Last, auditEnding{removed.LastLines, removed.Head}
	if pruned {
		proof.Removed = &removed
		names = slices.DeleteFunc(names, func(name string) bool { return name <= removed.Last }) // a server that went down while it removed them
	}
	for i, name := range names {
		one, err := readAudit(logs, name)
		if err == nil {
			err = one.follows(last, end, i == 0 && !pruned)
		}
		if err != nil {
			return proof, err
		}
		if one.Follows == "" {
			proof.Unlinked = append(proof.Unlinked, name)
		}
		if proof.Files++; proof.Files == 1 {
			proof.From = one.From
		}
		proof.Lines, proof.Until, proof.Head = proof.Lines+one.Lines, one.Until, one.Head
		last, end = name, one.auditEnding
	}
	return proof, nil
}

// pruneAudit removes logs of which the newest line is older than a time, and keeps a checkpoint in their place. What is not as it was written is
// not removed: it may be all that is left to show what was done.
func (c *Control) pruneAudit(before time.Time, dry bool) (files int, err error) {
	directory := filepath.Join(c.options.Directory, auditDirectory)
	names, err := auditNames(directory)
	if err != nil {
		return 0, err
	}
	checkpoint, pruned, err := verifyCheckpoint(directory, c.keys.now().Fleet, publicHalf(c.auditKey))
	if err != nil {
		return 0, err
	}
	current := c.audit.current()
	var old []string
	for i, name := range names {
		if name == current || i == len(names)-1 {
			break
		}
		begins, err := auditNameTime(names[i+1])
		if err != nil || !begins.Before(before) || !c.shared.hasShipped(name) && !c.options.Hasty {
			break
		}
		old = append(old, name)
	}
	if dry {
		return len(old), nil
	}
	for _, name := range old {
		if !pruned || name > checkpoint.Last {
			one, err := readAudit(directory, name)
			if err == nil {
				err = one.follows(checkpoint.Last, auditEnding{checkpoint.LastLines, checkpoint.Head}, !pruned)
			}
			if err != nil {
				return files, err
			}
			checkpoint = checkpoint.with(one, c.keys.now().Fleet)
			if !c.options.Untold {
				if err := saveCheckpoint(directory, checkpoint, c.auditKey); err != nil {
					return files, err
				}
			}
			pruned = true
		}
		if err := os.Remove(filepath.Join(directory, name)); err != nil {
			return files, err
		}
		files++
	}
	return files, nil
}

// with is the checkpoint with one more log.
func (p AuditCheckpoint) with(one auditFile, fleet string) AuditCheckpoint {
	if p.Files == 0 {
		p.From = one.From
	}
	sum := sha256.Sum256([]byte(p.Chain + "\n" + one.Name + "\n" + one.Head))
	p.Fleet, p.Files, p.Lines, p.Last, p.LastLines, p.Head, p.Chain, p.At = fleet, p.Files+1, p.Lines+one.Lines, one.Name, one.Lines, one.Head, hex.EncodeToString(sum[:]), time.Now()
	if !one.Until.IsZero() {
		p.Until = one.Until
	}
	return p
}

// readWhole reads a log.
func readWhole(directory, name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(directory, name))
}

// readPart reads whole lines of a log from a place on: so many bytes at most, and one line at least if there is one.
func readPart(directory, name string, from int64, most int) ([]byte, error) {
	file, err := os.Open(filepath.Join(directory, name))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	for size := most; ; size *= 2 {
		text, err := io.ReadAll(io.NewSectionReader(file, from, int64(size)))
		if err != nil {
			return nil, err
		}
		end := bytes.LastIndexByte(text, '\n')
		if size > most { // a line that is longer comes alone
			end = bytes.IndexByte(text, '\n')
		}
		if end >= 0 {
			return text[:end+1], nil
		}
		if len(text) < size {
			return nil, nil
		}
	}
}
