package attack

import "context"

// What the tests of this package see beyond its interface.
const (
	GuardianName = guardianName
	JournalRoot  = journalRoot
)

var ParseJournal = parseJournal

// DieAt has mark called before each durable effect of the journal.
func (i *Invocation) DieAt(mark func(string)) { i.mark = mark }

// GuardianWith is a guardian process with marks, and with a planted fault.
func GuardianWith(kinds []Kind, mark func(string), blind bool) int {
	return guardianMain(kinds, guarding{mark: mark, blind: blind})
}

// RecoverWith is Recover with marks.
func RecoverWith(ctx context.Context, kinds []Kind, mark func(string)) ([]string, error) {
	return recovery{dir: journalRoot, kinds: kinds, mark: mark}.all(ctx)
}

// UndoTwice undoes the only journal that is there, two times over.
func UndoTwice(ctx context.Context, kind Kind) error {
	for range 2 {
		if _, err := Recover(ctx, []Kind{kind}); err != nil {
			return err
		}
	}
	return nil
}
