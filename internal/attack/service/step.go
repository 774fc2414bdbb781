package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

const lookEvery = time.Second // whether one was started by somebody; a look costs systemd a question for each unit

// undo is what a record holds.
type undo struct {
	Unit    string `json:"unit"`    // that was active
	Enabled string `json:"enabled"` // whether it is started at boot, in systemd's words; never changed
}

// step is the one step.
type step struct {
	units   []attack.Unit // the first is the one that was named
	hooks   hooks
	journal *attack.Journal

	mu      sync.Mutex // guards the fields below
	held    []undo
	seen    map[string]bool // seen stopped
	escaped int             // times that one was found started
}

// Lines implements attack.Step.
func (s *step) Lines() []string {
	var lines []string
	for _, unit := range s.units {
		line := fmt.Sprintf("stop %s, which is %s", unit.Name, unit.Active)
		switch {
		case unit.Because != "" && !runs(unit.Active):
			continue
		case unit.Because != "":
			line += " and " + unit.Because
		}
		lines = append(lines, line)
	}
	return append(lines, "start what was active again at the end")
}

// Remains implements attack.Step.
func (*step) Remains() attack.Remains { return attack.RemainsUntilStart }

// ByHand implements attack.ByHand.
func (s *step) ByHand() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return "take it back with: firedrill halt; or by hand with: systemctl start " + strings.Join(names(s.held), " ")
}

// Keep implements attack.Recorded.
func (s *step) Keep(journal *attack.Journal) { s.journal = journal }

// Apply implements attack.Step.
func (s *step) Apply(ctx context.Context, _ time.Time) error {
	if s.hooks.late {
		_ = s.hooks.manager().order(ctx, "stop", []string{s.units[0].Name})
	}
	if err := s.record(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	held := names(s.held)
	s.seen = map[string]bool{}
	s.mu.Unlock()
	if !slices.Contains(held, s.units[0].Name) {
		return &drill.Error{Op: "attack " + Name, Kind: drill.Refused, Err: fmt.Errorf("%s does not run: there is nothing to stop", s.units[0].Name),
			Hint: "systemctl status " + s.units[0].Name}
	}
	s.hooks.step("stop " + s.units[0].Name)
	if s.hooks.boast {
		return nil
	}
	// What would start it again goes first.
	slices.Reverse(held)
	if err := s.hooks.manager().order(ctx, "stop", held); err != nil {
		return err
	}
	return s.look(ctx)
}

// record writes down what runs, or what another attack has stopped. Undo begins with the last: sockets must come before what they start,
// which refuse to while it runs.
func (s *step) record(ctx context.Context) error {
	s.hooks.step("write down")
	units := slices.Clone(s.units)
	slices.SortStableFunc(units, func(a, b attack.Unit) int { return rank(a.Name) - rank(b.Name) })
	return s.journal.Record(ctx, func(others []attack.Change) ([]attack.Change, error) {
		var changes []attack.Change
		for _, unit := range units {
			now, err := s.hooks.manager().show(ctx, unit.Name)
			if err != nil {
				return nil, err
			}
			if !runs(now["ActiveState"]) && !holds(others, unit.Name) && !s.hooks.late || s.hooks.alone && unit.Because != "" {
				continue
			}
			held := undo{Unit: unit.Name, Enabled: now["UnitFileState"]}
			text, err := json.Marshal(held)
			if err != nil {
				return nil, err
			}
			s.mu.Lock()
			s.held = append(s.held, held)
			s.mu.Unlock()
			changes = append(changes, attack.Change{What: unit.Name + " is stopped", Undo: text})
		}
		return changes, nil
	})
}

func rank(unit string) int {
	if strings.HasSuffix(unit, ".service") {
		return 0
	}
	return 1
}

func names(all []undo) []string {
	var units []string
	for _, held := range all {
		units = append(units, held.Unit)
	}
	return units
}

// holds reports whether one of the changes is about this unit.
func holds(changes []attack.Change, unit string) bool {
	return slices.ContainsFunc(changes, func(c attack.Change) bool {
		var held undo
		return json.Unmarshal(c.Undo, &held) == nil && held.Unit == unit
	})
}

// look sees which are stopped: that is the evidence. It stops again what somebody has started.
func (s *step) look(ctx context.Context) error {
	s.mu.Lock()
	held := names(s.held)
	s.mu.Unlock()
	var again []string
	for _, unit := range held {
		state, err := s.hooks.manager().state(ctx, unit)
		if err != nil {
			return err
		}
		s.mu.Lock()
		if runs(state) {
			again = append(again, unit)
			s.escaped++
		} else {
			s.seen[unit] = true
		}
		s.mu.Unlock()
	}
	if len(again) == 0 || s.hooks.boast {
		return nil
	}
	return s.hooks.manager().order(ctx, "stop", again)
}

// Tend implements attack.Tended.
func (s *step) Tend(ctx context.Context, report func(history.Fact)) error {
	s.mu.Lock()
	for _, unit := range names(s.held) {
		report(&history.Note{Text: "Stopping " + unit})
	}
	s.mu.Unlock()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.look(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// Evidence implements attack.Evidencing.
func (s *step) Evidence() (bit bool, sentences []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, unit := range names(s.held) {
		if s.seen[unit] {
			sentences = append(sentences, fmt.Sprintf("systemd said of %s that it did not run", unit))
		}
	}
	if s.escaped > 0 {
		sentences = append(sentences, fmt.Sprintf("%d times one was found started, and stopped again", s.escaped))
	}
	if len(sentences) == 0 {
		sentences = []string{s.units[0].Name + " was not seen stopped"}
	}
	return s.seen[s.units[0].Name], sentences
}

// Revert implements attack.Step.
func (s *step) Revert(ctx context.Context) error {
	s.hooks.step("revert")
	return s.journal.Undo(ctx, Kind{hooks: s.hooks})
}

// Undo implements attack.Undoer.
func (k Kind) Undo(ctx context.Context, change attack.Change, others []attack.Change) error {
	var held undo
	if err := json.Unmarshal(change.Undo, &held); err != nil {
		return fmt.Errorf("what was stopped: %w", err)
	}
	if holds(others, held.Unit) && !k.hooks.forgetful {
		return nil // the last one starts it
	}
	manager := k.hooks.manager()
	now, err := manager.show(ctx, held.Unit)
	if err != nil {
		return err
	}
	if now["LoadState"] != loaded {
		return nil // removed or masked by somebody meanwhile: it is theirs now
	}
	k.hooks.step("start " + held.Unit)
	if k.hooks.enables {
		if _, err := manager.run(ctx, "enable", held.Unit); err != nil {
			return err
		}
	}
	return manager.start(ctx, held.Unit)
}

// Residue implements attack.Verified.
func (s *step) Residue(ctx context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	others := s.journal.Others()
	var left []string
	var errs []error
	for _, held := range s.held {
		now, err := s.hooks.manager().show(ctx, held.Unit)
		switch {
		case err != nil:
			errs = append(errs, err)
		case now["LoadState"] != loaded || holds(others, held.Unit):
		case !runs(now["ActiveState"]):
			left = append(left, fmt.Sprintf("%s is %s", held.Unit, now["ActiveState"]))
		case now["UnitFileState"] != held.Enabled:
			left = append(left, fmt.Sprintf("%s is %s, it was %s", held.Unit, now["UnitFileState"], held.Enabled))
		}
	}
	return left, errors.Join(errs...)
}
