package attack

import (
	"context"
	"errors"
	"time"

	"firedrill/internal/drill"
)

// kept is what a run holds for changes that the kernel does not take back; its zero value holds nothing.
type kept struct {
	journal  *Journal
	guardian *guardian
}

// keep opens a journal and starts a guardian if a step of the plan needs them. When it fails, nothing was changed and nothing may be.
func (r *run) keep(ctx context.Context, deadline time.Time) error {
	var recorded []Recorded
	for _, step := range r.plan.Steps {
		if needs, ok := step.(Recorded); ok {
			recorded = append(recorded, needs)
		}
	}
	if len(recorded) == 0 {
		return nil
	}
	mark := r.options.mark
	if mark == nil {
		mark = func(string) {}
	}
	dir, err := journalDir()
	if err != nil {
		return err
	}
	h, err := headerFor(r.plan, deadline)
	if err != nil {
		return err
	}
	journal, err := createJournal(dir, h, mark)
	if err != nil {
		return unwritable(dir, err)
	}
	guardian, err := startGuardian(ctx, journal)
	if err != nil {
		return &drill.Error{Op: "guardian", Kind: drill.Unsupported, Err: errors.Join(err, journal.remove(), journal.file.Close()),
			Hint: "the host must let this program start itself again, by /proc/self/exe"}
	}
	r.kept = kept{journal: journal, guardian: guardian}
	for _, step := range recorded {
		step.Keep(journal)
	}
	return nil
}

// heed ends the attack when its guardian is gone.
func (k kept) heed(ctx context.Context, cancel context.CancelCauseFunc) {
	if k.guardian == nil {
		return
	}
	select {
	case <-ctx.Done():
	case <-k.guardian.gone:
		cancel(errGuardianLost)
	}
}

// goingBack tells the guardian that we take back what we did.
func (k kept) goingBack() {
	if k.guardian != nil {
		k.guardian.goingBack()
	}
}

// letGo ends journal and guardian. When the impact is not reverted the journal stays, and the guardian tries what we could not.
func (k kept) letGo(reverted bool) {
	if k.journal == nil {
		return
	}
	if reverted {
		// A journal that cannot be removed is not impact: the next start undoes what is undone already, and tries again.
		_ = k.journal.remove()
	}
	k.guardian.stop()
	_ = k.journal.file.Close()
}
