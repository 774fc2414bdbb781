package fd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/aim"
	"firedrill/internal/attack/procs"
	"firedrill/internal/history"
)

const sentenceMax = 20 // processes named in the evidence; the rest is counted

// undo is what a record holds. What Session and Since are for, see heirs.
type undo struct {
	ID      procs.ID `json:"id"`
	Was     uint64   `json:"was"`     // the soft limit
	Hard    uint64   `json:"hard"`    // which is not changed
	Session int      `json:"session"` // of the process
	Since   uint64   `json:"since"`   // ticks since boot, when it was written down
}

// squeeze is the step that lowers the limits of processes.
type squeeze struct {
	aim     aim.Aim
	free    int // what each may still open
	hooks   hooks
	journal *attack.Journal

	mu      sync.Mutex // guards the fields below
	held    []*narrowed
	escaped int // times that a limit was found raised
}

// narrowed is a process whose limit we lowered.
type narrowed struct {
	procs.Process
	was   uint64
	limit uint64
	full  bool // it was seen that it can open nothing more
}

// Lines implements attack.Step.
func (s *squeeze) Lines() []string {
	return s.aim.Lines(func(p procs.Process) string { return fmt.Sprintf("let %s open %d more files, and no more", p, s.free) }, "the same for what comes up meanwhile and matches")
}

// Remains implements attack.Step.
func (*squeeze) Remains() attack.Remains { return attack.RemainsUntilStart }

// ByHand implements attack.ByHand.
func (*squeeze) ByHand() string {
	return "take it back with: firedrill halt; or by hand with: prlimit --pid PID --nofile=SOFT:HARD"
}

// Keep implements attack.Recorded.
func (s *squeeze) Keep(journal *attack.Journal) { s.journal = journal }

// Apply implements attack.Step.
func (s *squeeze) Apply(ctx context.Context, _ time.Time) error {
	if err := s.round(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) == 0 {
		return aim.Gone(Name, "what matched is gone")
	}
	return nil
}

// Tend implements attack.Tended.
func (s *squeeze) Tend(ctx context.Context, report func(history.Fact)) error {
	told := 0
	tell := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, p := range s.held[told:] {
			report(&history.Note{Text: fmt.Sprintf("Narrowing %s from %d descriptors to %d", p.Process, p.was, p.limit)})
		}
		told = len(s.held)
	}
	tell()
	return aim.Again(ctx, func(ctx context.Context) error {
		defer tell()
		return s.round(ctx)
	})
}

// round narrows who matches, and again who has closed something or was let open more.
func (s *squeeze) round(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh, err := s.aim.Now(func(id procs.ID) bool {
		return slices.ContainsFunc(s.held, func(held *narrowed) bool { return held.ID == id })
	})
	if err != nil {
		return err
	}
	if s.hooks.late {
		for _, p := range fresh {
			_ = s.narrow(&narrowed{Process: p, limit: unix.RLIM_INFINITY})
		}
	}
	if err := s.record(ctx, fresh); err != nil {
		return err
	}
	for _, p := range s.held {
		s.hooks.step("narrow " + p.String())
		if err := s.narrow(p); err != nil && !errors.Is(err, procs.ErrGone) {
			return aim.Explain(Name, "narrow", p.Process, err)
		}
	}
	return nil
}

// narrow lowers the limit of one process to what it has open, and looks whether it is full then. It never raises one.
func (s *squeeze) narrow(p *narrowed) error {
	now, err := limits(p.ID)
	if err != nil {
		return err
	}
	wanted, err := ceiling(p.ID, s.free)
	if err != nil {
		return err
	}
	if p.limit != unix.RLIM_INFINITY && now.Cur > p.limit {
		s.escaped++
	}
	p.limit = min(wanted, p.limit)
	if now.Cur > p.limit && !s.hooks.boast {
		if err := setSoft(p.ID, p.limit); err != nil {
			return err
		}
	}
	// What it opened or closed between the two looks shows now.
	now, err = limits(p.ID)
	if err != nil {
		return err
	}
	next, err := ceiling(p.ID, 0)
	if err == nil && next >= now.Cur {
		p.full = true
	}
	return err
}

// record writes down who is going to be narrowed, and holds them.
func (s *squeeze) record(ctx context.Context, fresh []procs.Process) error {
	if len(fresh) == 0 {
		return nil
	}
	s.hooks.step("write down")
	since, err := ticks()
	if err != nil {
		return err
	}
	var ours []*narrowed
	err = s.journal.Record(ctx, func(others []attack.Change) ([]attack.Change, error) {
		var changes []attack.Change
		for _, p := range fresh {
			now, err := limits(p.ID)
			if err != nil {
				continue // gone
			}
			session, _ := unix.Getsid(p.PID)
			held := undo{ID: p.ID, Was: now.Cur, Hard: now.Max, Session: session, Since: since}
			if theirs, ok := origin(others, p, now, session); ok {
				held.Was = theirs.Was
			}
			// One that we have had: it was started meanwhile, and inherited its limit.
			for _, own := range s.held {
				if own.ID.PID == p.Parent && now.Cur <= own.limit {
					held.Was = own.was
				}
			}
			text, err := json.Marshal(held)
			if err != nil {
				return nil, err
			}
			ours = append(ours, &narrowed{Process: p, was: held.Was, limit: unix.RLIM_INFINITY})
			changes = append(changes, attack.Change{What: fmt.Sprintf("%s can open fewer files, its limit was %d", p, held.Was), Undo: text})
		}
		return changes, nil
	})
	if err == nil {
		s.held = append(s.held, ours...)
	}
	return err
}

// origin finds what another attack has written down about a process, or about the one that it inherited its limit from.
func origin(others []attack.Change, p procs.Process, now unix.Rlimit, session int) (undo, bool) {
	return aim.Held(others, func(held undo) bool { return held.ID == p.ID || held.inherited(p, now, session) })
}

// inherited reports whether a process can have got its limit from the one that was narrowed: it was started later, in the same session or by
// it, and its hard limit is the same.
func (u undo) inherited(p procs.Process, now unix.Rlimit, session int) bool {
	return p.Start >= u.Since && (p.Parent == u.ID.PID || session == u.Session) && now.Max == u.Hard && now.Cur < u.Was
}

// Evidence implements attack.Evidencing. A limit that was lowered proves nothing as long as something is free below it.
func (s *squeeze) Evidence() (bit bool, sentences []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	full := 0
	for _, p := range s.held {
		if !p.full {
			continue
		}
		if full++; full <= sentenceMax {
			sentences = append(sentences, fmt.Sprintf("by the kernel's accounts %s had all descriptors below %d open, and its limit was that", p.Process, p.limit))
		}
	}
	sentences = append(sentences, fmt.Sprintf("%d of %d processes could open nothing more", full, len(s.held)))
	if s.escaped > 0 {
		sentences = append(sentences, fmt.Sprintf("%d times a limit was found raised, and lowered again", s.escaped))
	}
	return full > 0, sentences
}

// Revert implements attack.Step.
func (s *squeeze) Revert(ctx context.Context) error {
	s.hooks.step("revert")
	return s.journal.Undo(ctx, Kind{hooks: s.hooks})
}

// Undo implements attack.Undoer.
func (k Kind) Undo(_ context.Context, change attack.Change, others []attack.Change) error {
	var held undo
	if err := json.Unmarshal(change.Undo, &held); err != nil {
		return fmt.Errorf("what the limit was: %w", err)
	}
	var errs []error
	for _, id := range append(k.heirs(held), held.ID) {
		if holds(others, id) && !k.hooks.forgetful {
			continue // the last one puts it back
		}
		k.hooks.step("put back")
		if err := setSoft(id, held.Was); err != nil && !errors.Is(err, procs.ErrGone) {
			errs = append(errs, fmt.Errorf("process %d: %w", id.PID, err))
		}
	}
	return errors.Join(errs...)
}

func holds(changes []attack.Change, id procs.ID) bool {
	_, ok := aim.Held(changes, func(held undo) bool { return held.ID == id })
	return ok
}

// heirs finds the processes that were started meanwhile and inherited the limit: nobody has written them down.
func (k Kind) heirs(held undo) []procs.ID {
	all, err := procs.List()
	if err != nil || k.hooks.childless {
		return nil
	}
	var found []procs.ID
	for _, p := range all {
		if p.ID == held.ID || p.Start < held.Since {
			continue
		}
		now, err := limits(p.ID)
		session, err2 := unix.Getsid(p.PID)
		if errors.Join(err, err2) == nil && held.inherited(p, now, session) {
			found = append(found, p.ID)
		}
	}
	return found
}

// Residue implements attack.Verified.
func (s *squeeze) Residue(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	others := s.journal.Others()
	var left []string
	for _, p := range s.held {
		if now, err := limits(p.ID); err == nil && now.Cur != min(p.was, now.Max) && !holds(others, p.ID) {
			left = append(left, fmt.Sprintf("the limit of %s is %d, it was %d", p.Process, now.Cur, p.was))
		}
	}
	return left, nil
}

// ticks is the time since boot as /proc counts the starts of processes: in hundredths of a second.
func ticks() (uint64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return 0, err
	}
	const perTick = int64(10 * time.Millisecond)
	return uint64(now.Nano() / perTick), nil
}
