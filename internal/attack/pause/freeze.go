package pause

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/attack/aim"
	"firedrill/internal/attack/cgroups"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// frozen is a group as a record holds it.
type frozen struct {
	Directory string `json:"directory"`
	V2        bool   `json:"v2"`
}

func (f frozen) group() cgroups.Group { return cgroups.Group{Directory: f.Directory, V2: f.V2} }

// set freezes a group or lets it go on.
func (f frozen) set(freeze bool) error {
	switch {
	case f.V2 && freeze:
		return f.group().Write(cgroups.Freezer.V2, "1")
	case f.V2:
		return f.group().Write(cgroups.Freezer.V2, "0")
	case freeze:
		return f.group().Write(cgroups.Freezer.V1, "FROZEN")
	}
	return f.group().Write(cgroups.Freezer.V1, "THAWED")
}

// asked reports whether somebody wants this very group frozen, and not only one above it.
func (f frozen) asked() (bool, error) {
	file := "freezer.self_freezing"
	if f.V2 {
		file = cgroups.Freezer.V2
	}
	number, err := f.group().Number(file)
	return number == 1, err
}

// holdsStill reports whether all in it are stopped by now.
func (f frozen) holdsStill() (bool, error) {
	if f.V2 {
		number, err := f.group().Field("cgroup.events", "frozen")
		return number == 1, err
	}
	state, err := f.group().Read(cgroups.Freezer.V1)
	return state == "FROZEN", err
}

// freeze is the step that stops a whole group.
type freeze struct {
	group   cgroups.Group
	members int // when the plan was made
	hooks   hooks
	journal *attack.Journal

	mu      sync.Mutex // guards the fields below
	held    bool
	seen    bool // seen standing still
	escaped int  // times that it was found going on
}

func (s *freeze) record() frozen { return frozen{Directory: s.group.Directory, V2: s.group.V2} }

// Lines implements attack.Step.
func (s *freeze) Lines() []string {
	return []string{fmt.Sprintf("freeze %s; %d processes are in it", s.group, s.members), "what is started in it meanwhile is frozen too"}
}

// Remains implements attack.Step.
func (*freeze) Remains() attack.Remains { return attack.RemainsUntilStart }

// ByHand implements attack.ByHand.
func (s *freeze) ByHand() string {
	how := "echo THAWED > " + s.group.Directory + "/" + cgroups.Freezer.V1
	if s.group.V2 {
		how = "echo 0 > " + s.group.Directory + "/" + cgroups.Freezer.V2
	}
	return "take it back with: firedrill halt; or by hand with: " + how
}

// Keep implements attack.Recorded.
func (s *freeze) Keep(journal *attack.Journal) { s.journal = journal }

// Apply implements attack.Step.
func (s *freeze) Apply(ctx context.Context, _ time.Time) error {
	if s.hooks.late {
		_ = s.record().set(true)
	}
	s.hooks.step("write down")
	err := s.journal.Record(ctx, func(others []attack.Change) ([]attack.Change, error) {
		already, err := s.record().asked()
		if err != nil {
			return nil, aim.ExplainGroup(Name, err)
		}
		if already && !holdsGroup(others, s.group.Directory) && !s.hooks.late {
			return nil, &drill.Error{Op: "attack " + Name, Kind: drill.Refused, Err: fmt.Errorf("%s is frozen already by somebody else", s.group)}
		}
		text, err := json.Marshal(s.record())
		s.mu.Lock()
		s.held = err == nil
		s.mu.Unlock()
		return []attack.Change{{What: s.group.String() + " is frozen", Undo: text}}, err
	})
	if err != nil {
		return err
	}
	s.hooks.step("freeze")
	if err := s.record().set(true); err != nil {
		return aim.ExplainGroup(Name, err)
	}
	return s.look(ctx)
}

// holdsGroup reports whether one of the changes is about this group.
func holdsGroup(changes []attack.Change, directory string) bool {
	_, ok := aim.Held(changes, func(held frozen) bool { return held.Directory == directory })
	return ok
}

// look waits until the kernel says that all in the group stand still: that is the evidence.
func (s *freeze) look(ctx context.Context) error {
	deadline := time.Now().Add(stopWithin)
	for ctx.Err() == nil && time.Now().Before(deadline) {
		still, err := s.record().holdsStill()
		if err != nil {
			return aim.ExplainGroup(Name, err)
		}
		if still {
			s.mu.Lock()
			s.seen = true
			s.mu.Unlock()
			return nil
		}
		<-time.After(stopLook)
	}
	return nil
}

// Tend implements attack.Tended.
func (s *freeze) Tend(ctx context.Context, report func(history.Fact)) error {
	report(&history.Note{Text: "Freezing " + s.group.String()})
	return aim.Again(ctx, func(ctx context.Context) error {
		asked, err := s.record().asked()
		if err == nil && !asked {
			s.mu.Lock()
			s.escaped++
			s.mu.Unlock()
			err = s.record().set(true)
		}
		if err != nil {
			return aim.ExplainGroup(Name, err)
		}
		s.mu.Lock()
		known := asked && s.seen
		s.mu.Unlock()
		if known {
			return nil
		}
		return s.look(ctx)
	})
}

// Evidence implements attack.Evidencing.
func (s *freeze) Evidence() (bit bool, sentences []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sentences = []string{s.group.String() + " was not seen standing still"}
	if s.seen {
		sentences = []string{fmt.Sprintf("the kernel said of %s that all in it stood still", s.group)}
	}
	if s.escaped > 0 {
		sentences = append(sentences, fmt.Sprintf("%d times it was found going on, and frozen again", s.escaped))
	}
	return s.seen, sentences
}

// Revert implements attack.Step.
func (s *freeze) Revert(ctx context.Context) error {
	s.hooks.step("revert")
	return s.journal.Undo(ctx, Kind{hooks: s.hooks})
}

// thaw takes a frozen group back.
func (k Kind) thaw(held frozen, others []attack.Change) error {
	if holdsGroup(others, held.Directory) && !k.hooks.forgetful {
		return nil // the last one lets it go on
	}
	k.hooks.step("let go on")
	if err := held.set(false); err != nil && !held.group().Gone() {
		return fmt.Errorf("let %s go on: %w", held.Directory, err)
	}
	return nil
}

// Residue implements attack.Verified.
func (s *freeze) Residue(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.held || s.group.Gone() || holdsGroup(s.journal.Others(), s.group.Directory) {
		return nil, nil
	}
	asked, err := s.record().asked()
	if err == nil && asked {
		return []string{s.group.String() + " is still frozen"}, nil
	}
	return nil, err
}
