package attack

import (
	"bytes"
	"context"
	"encoding/json"
	"path/filepath"
	"time"
)

// What the tests of this package see beyond its interface.
const (
	GuardianName = guardianName
	JournalRoot  = journalRoot
)

// DieAt has mark called before each durable effect of the journal.
func (i *Invocation) DieAt(mark func(string)) { i.mark = mark }

// GuardianWith is a guardian process with marks, and with a planted fault.
func GuardianWith(kinds []Kind, mark func(string), bug string) int {
	return guardianMain(kinds, guarding{mark: mark, blind: bug == "blind", deaf: bug == "deaf"})
}

// RecoverWith is Recover with marks.
func RecoverWith(ctx context.Context, kinds []Kind, mark func(string)) ([]string, error) {
	return recovery{dir: journalRoot, kinds: kinds, mark: mark}.all(ctx)
}

// UndoTwice recovers two times over.
func UndoTwice(ctx context.Context, kind Kind) error {
	for range 2 {
		if _, err := Recover(ctx, []Kind{kind}); err != nil {
			return err
		}
	}
	return nil
}

// WholeOf returns how many bytes of a journal are whole lines.
func WholeOf(text []byte) int64 { return parseJournal(text).whole }

// Reseal makes the checksums of an altered journal right again.
func Reseal(text []byte) ([]byte, error) {
	var sealed []byte
	for raw := range bytes.Lines(text) {
		var l line
		if err := json.Unmarshal(raw, &l); err != nil {
			return nil, err
		}
		l.Sum = sumOf(l.Entry)
		again, err := json.Marshal(l)
		if err != nil {
			return nil, err
		}
		sealed = append(append(sealed, again...), '\n')
	}
	return sealed, nil
}

// NewJournal makes a journal and returns the path of its file too.
func NewJournal(dir string) (*Journal, string, error) {
	j, err := createJournal(dir, header{Version: journalVersion, GUID: "a", Attack: "x"}, func(string) {})
	return j, filepath.Join(dir, "a"+journalSuffix), err
}

// Sleeps makes it look as if the host had slept for so long since the attack began. ignored is a planted bug: that time does not count.
func (o *Options) Sleeps(slept time.Duration, ignored bool) { o.slept, o.sleepy = slept, ignored }
