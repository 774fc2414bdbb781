package bookstore

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

// record is one committed statement, a line of the stand-in's log.
type record struct {
	Number    uint64   `json:"n"` // 1, 2, 3, ...
	Statement string   `json:"statement"`
	Args      []string `json:"args,omitempty"`
	Sum       uint32   `json:"sum"` // over the previous record's sum and this one: two logs with the same sum have the same content
}

// seal sets the sum of r as the successor of a record with the sum before.
func (r *record) seal(before uint32) { r.Sum = r.sumAfter(before) }

func (r *record) sumAfter(before uint32) uint32 {
	text, err := json.Marshal([]any{before, r.Number, r.Statement, append([]string{}, r.Args...)}) // no difference between nil and none
	if err != nil {
		panic(fmt.Sprintf("bookstore: a record of strings cannot be written: %v", err)) // our own bug
	}
	return crc32.Checksum(text, crc32.MakeTable(crc32.Castagnoli)) // the table is made once, at the first call
}

// logFile is what the log needs of a file; a test puts one in its place that forgets what was not synced.
type logFile interface {
	io.Writer
	Sync() error
	Close() error
}

// journal is the append-only log of a stand-in database. It is not safe for concurrent use.
type journal struct {
	file    logFile
	records []record // all of them: a demo's database is small, and a standby may ask for any
	planted plantedBug
	failed  error // the first failure to write or sync; nothing is written after it, for what the disk holds is unknown
}

const journalName = "statements.jsonl"

// openJournal opens the log in dir, creating both, and reads what it holds. A last line that is torn was never acknowledged and is cut
// off; any other damage is an error.
func openJournal(dir string) (*journal, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create database directory: %w", err)
	}
	path := filepath.Join(dir, journalName)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open database log: %w", err)
	}
	records, whole, err := readJournal(file)
	if err == nil {
		err = file.Truncate(whole)
	}
	if err == nil {
		err = syncDirectory(dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("database log %s: %w", path, err), file.Close())
	}
	return &journal{file: file, records: records}, nil
}

// readJournal returns the whole records and how many bytes they take.
func readJournal(r io.Reader) (records []record, whole int64, err error) {
	lines := bufio.NewReader(r)
	sum := uint32(0)
	for {
		line, readErr := lines.ReadBytes('\n')
		if readErr != nil && !errors.Is(readErr, io.EOF) {
			return nil, 0, readErr
		}
		if len(line) == 0 {
			return records, whole, nil
		}
		next, damage := parseRecord(line, uint64(len(records))+1, sum)
		if damage != nil {
			if errors.Is(damage, errTorn) {
				return records, whole, nil // torn by a crash, before it was acknowledged
			}
			return nil, 0, fmt.Errorf("line %d: %w", len(records)+1, damage)
		}
		records = append(records, next)
		sum = next.Sum
		whole += int64(len(line))
	}
}

// errTorn is a line without an end, which only the last one can be.
var errTorn = errors.New("torn line")

func parseRecord(line []byte, number uint64, before uint32) (record, error) {
	var next record
	if !bytes.HasSuffix(line, []byte("\n")) {
		return next, errTorn
	}
	if err := json.Unmarshal(line, &next); err != nil {
		return next, fmt.Errorf("no record: %w", err)
	}
	return next, next.follows(number, before)
}

// follows says whether r is the record with this number, behind a record with the sum before, and one that we can replay.
func (r *record) follows(number uint64, before uint32) error {
	if r.Number != number {
		return fmt.Errorf("record %d where %d belongs", r.Number, number)
	}
	if r.sumAfter(before) != r.Sum {
		return fmt.Errorf("record %d: its sum does not fit", number)
	}
	if s := statementNamed(r.Statement); s == nil || !s.writes() || len(r.Args) != s.params {
		return fmt.Errorf("record %d: unknown statement %q", number, r.Statement)
	}
	return nil
}

func (j *journal) sum() uint32 { return j.sumAt(uint64(len(j.records))) }

// sumAt is the sum of the record with this number, 0 before the first.
func (j *journal) sumAt(number uint64) uint32 {
	if number == 0 {
		return 0
	}
	return j.records[number-1].Sum
}

// append writes r, a sealed successor of the last record, and returns once it is on the disk.
func (j *journal) append(r record) error {
	if j.failed != nil {
		return j.failed
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := j.file.Write(append(line, '\n')); err != nil {
		j.failed = fmt.Errorf("write database log: %w", err)
		return j.failed
	}
	if j.planted == ackBeforeSync {
		j.records = append(j.records, r)
		return nil
	}
	if err := j.file.Sync(); err != nil {
		j.failed = fmt.Errorf("sync database log: %w", err)
		return j.failed
	}
	j.records = append(j.records, r)
	return nil
}

func syncDirectory(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// promotedName is a file that says that this directory once was a standby's and is a primary's now, across restarts.
const promotedName = "promoted"

func wasPromoted(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, promotedName))
	return err == nil
}

func rememberPromotion(dir string) error {
	if err := os.WriteFile(filepath.Join(dir, promotedName), nil, 0o600); err != nil {
		return err
	}
	return syncDirectory(dir)
}
