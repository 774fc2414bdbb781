package bookstore

import (
	"bytes"
	"encoding/json"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTornLineIsForgottenAndDamageIsNot(t *testing.T) {
	whole := journalText(t, 3)
	lines := bytes.SplitAfter(whole, []byte("\n"))
	last := len(whole) - len(lines[2])
	for cut := last; cut < len(whole); cut++ {
		records, length, err := readJournal(bytes.NewReader(whole[:cut]))
		if err != nil || len(records) != 2 || length != int64(last) {
			t.Fatalf("cut at %d: %d records, %d bytes, %v", cut, len(records), length, err)
		}
	}
	for i := range last {
		damaged := bytes.Clone(whole)
		damaged[i] ^= 1
		if records, _, err := readJournal(bytes.NewReader(damaged)); err == nil {
			t.Fatalf("damage at %d was read as %d records", i, len(records))
		}
	}
}

func journalText(t testing.TB, records int) []byte {
	t.Helper()
	var text bytes.Buffer
	sum := uint32(0)
	for i := range records {
		r := record{Number: uint64(i) + 1, Statement: addLedger.name, Args: []string{"w", strconv.Itoa(i)}}
		if i == 0 {
			r = record{Number: 1, Statement: createLedger.name}
		}
		r.seal(sum)
		sum = r.Sum
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		text.Write(append(line, '\n'))
	}
	return text.Bytes()
}

func FuzzReadJournal(f *testing.F) {
	f.Add(journalText(f, 3))
	f.Add([]byte("{\"n\":1}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		records, whole, err := readJournal(bytes.NewReader(text))
		if err != nil {
			return
		}
		again, length, err := readJournal(bytes.NewReader(text[:whole]))
		if err != nil || length != whole {
			t.Fatalf("read again: %d of %d bytes, %v", length, whole, err)
		}
		if diff := cmp.Diff(records, again); diff != "" {
			t.Fatal(diff)
		}
		tables := newTables()
		for _, r := range records {
			statementNamed(r.Statement).apply(tables, r.Args) // must not panic
		}
	})
}
