package pause

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
	"firedrill/internal/attack/cgroups"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Name is the name of the kind.
const Name = "pause"

const (
	stopWithin  = 2 * time.Second // a process in an uninterruptible sleep stops when that is over
	stopLook    = time.Millisecond
	sentenceMax = 20 // processes named in the evidence; the rest is counted
)

// Kind is the pause attack. Its zero value is ready to use.
type Kind struct{ hooks hooks }

// hooks are the crash points and the planted bugs of tests.
type hooks struct {
	mark      func(string)
	trustPID  bool // planted: whoever has the number is let go on
	forgetful bool // planted: others are not asked whether they still need it stopped
	late      bool // planted: stopped first, written down afterwards
}

func (h hooks) step(name string) {
	if h.mark != nil {
		h.mark(name)
	}
}

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	return drill.AttackKind{
		Name:    Name,
		Group:   "state",
		Summary: "Stop processes for a while, as a hang does: they are there and do nothing",
		Flags:   flags(),
		Remains: string(attack.RemainsUntilStart),
		Needs:   []string{"pidfd", "journal"},
	}
}

func flags() []drill.AttackFlag {
	all := append([]drill.AttackFlag{attack.LengthFlag()}, attack.ProcessFlags()...)
	for i := range all {
		if all[i].Name == "process" {
			all[i].Usage = "name, regular expression or number of the process; this or --cgroup"
		}
	}
	return append(all, attack.CgroupFlag("a whole control group, at once by the kernel's freezer where there is one"))
}

// Order implements attack.Kind.
func (k Kind) Order(flags attack.Values) (attack.Order, error) {
	if err := flags.Check(k.Describe()); err != nil {
		return nil, err
	}
	length, err := flags.Length()
	if err != nil {
		return nil, attack.Refuse(Name, "", "%w", err)
	}
	order := Order{Length: length, Cgroup: flags.Text("cgroup", ""), hooks: k.hooks}
	if order.Cgroup != "" {
		if len(flags) > len(flags["length"])+1 {
			return nil, attack.Refuse(Name, "", "--cgroup means all in it: it goes with no other flag but --length")
		}
		return order, nil
	}
	if order.Which, err = flags.Processes(); err != nil {
		return nil, attack.Refuse(Name, "see: firedrill help attack pause", "%w", err)
	}
	return order, nil
}

// Order is a pause as a user asks for it.
type Order struct {
	Length time.Duration
	Which  procs.Selector
	Cgroup string // instead of Which; empty for none
	hooks  hooks
}

// Names implements attack.Order.
func (Order) Names() []string { return nil }

// Survey implements attack.Surveying.
func (o Order) Survey(_ context.Context, facts *attack.Facts) error {
	if o.Cgroup != "" {
		err := facts.SurveyGroup(Name, cgroups.Freezer, o.Cgroup)
		if errors.Is(err, cgroups.ErrNone) {
			return facts.SurveyGroup(Name, cgroups.Members, o.Cgroup)
		}
		facts.Group.Freezer = err == nil
		return err
	}
	all, err := procs.Survey()
	facts.Processes = all
	return err
}

// Plan implements attack.Order.
func (o Order) Plan(facts attack.Facts) (attack.Plan, error) {
	plan := attack.Plan{GUID: facts.GUID, Attack: Name, Host: facts.Host, Length: o.Length}
	at, err := aim.At(Name, o.Which, facts, o.Cgroup != "")
	if err != nil {
		return attack.Plan{}, err
	}
	plan.Steps = []attack.Step{&step{aim: at, hooks: o.hooks, seen: map[procs.ID]bool{}}}
	if facts.Group.Freezer {
		plan.Steps = []attack.Step{&freeze{group: facts.Group.Group, members: len(at.Meant), hooks: o.hooks}}
	}
	return plan, nil
}

// step is the one step.
type step struct {
	aim     aim.Aim
	hooks   hooks
	journal *attack.Journal

	mu      sync.Mutex // guards the fields below
	held    []procs.Process
	seen    map[procs.ID]bool // seen stopped
	escaped int               // times that one of them was found going on
}

// Lines implements attack.Step.
func (s *step) Lines() []string {
	return s.aim.Lines(func(p procs.Process) string { return "stop " + p.String() }, "stop what comes up meanwhile and matches")
}

// Remains implements attack.Step.
func (*step) Remains() attack.Remains { return attack.RemainsUntilStart }

// ByHand implements attack.ByHand.
func (*step) ByHand() string {
	return "take it back with: firedrill halt; or by hand with: kill -CONT PID; ps -eo pid,stat,comm shows stopped processes with T"
}

// Keep implements attack.Recorded.
func (s *step) Keep(journal *attack.Journal) { s.journal = journal }

// Apply implements attack.Step. What matched in the plan may be gone by now: what matches now is stopped.
func (s *step) Apply(ctx context.Context, _ time.Time) error {
	if err := s.round(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.held) == 0 {
		return aim.Gone(Name, "what matched is gone, or was stopped already by somebody else")
	}
	return nil
}

// Tend implements attack.Tended.
func (s *step) Tend(ctx context.Context, report func(history.Fact)) error {
	told := 0
	tell := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, p := range s.held[told:] {
			report(&history.Note{Text: "Stopping " + p.String()})
		}
		told = len(s.held)
	}
	tell()
	return aim.Again(ctx, func(ctx context.Context) error {
		defer tell()
		return s.round(ctx)
	})
}

// round stops what matches and is not stopped yet, and again what was let go on.
func (s *step) round(ctx context.Context) error {
	s.mu.Lock()
	held := slices.Clone(s.held)
	s.mu.Unlock()
	fresh, err := s.aim.Now(func(id procs.ID) bool { return has(held, id) })
	if err != nil {
		return err
	}
	if s.hooks.late {
		_ = stopAll(fresh, s.hooks)
	}
	if fresh, err = s.record(ctx, fresh); err != nil {
		return err
	}
	for _, p := range held {
		if now, err := procs.Find(p.ID); err == nil && !now.Stopped() {
			s.mu.Lock()
			s.escaped++
			s.mu.Unlock()
			fresh = append(fresh, p)
		}
	}
	if err := stopAll(fresh, s.hooks); err != nil {
		return err
	}
	s.look(ctx, fresh)
	return nil
}

func has(all []procs.Process, id procs.ID) bool {
	return slices.ContainsFunc(all, func(p procs.Process) bool { return p.ID == id })
}

// record writes down who is going to be stopped and returns them. One that is stopped already counts only when another attack did it.
func (s *step) record(ctx context.Context, fresh []procs.Process) ([]procs.Process, error) {
	if len(fresh) == 0 {
		return nil, nil
	}
	s.hooks.step("write down")
	var ours []procs.Process
	err := s.journal.Record(ctx, func(others []attack.Change) ([]attack.Change, error) {
		var changes []attack.Change
		for _, p := range fresh {
			now, err := procs.Find(p.ID)
			if err != nil || now.Stopped() && !holds(others, p.ID) && !s.hooks.late {
				continue
			}
			undo, err := json.Marshal(p.ID)
			if err != nil {
				return nil, err
			}
			ours = append(ours, p)
			changes = append(changes, attack.Change{What: p.String() + " is stopped", Undo: undo})
		}
		return changes, nil
	})
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = append(s.held, ours...)
	return ours, nil
}

// holds reports whether one of the changes is about this very process.
func holds(changes []attack.Change, id procs.ID) bool {
	_, ok := aim.Held(changes, func(held procs.ID) bool { return held == id })
	return ok
}

func stopAll(all []procs.Process, h hooks) error {
	for _, p := range all {
		h.step("stop " + p.String())
		if err := procs.Signal(p.ID, unix.SIGSTOP); err != nil && !errors.Is(err, procs.ErrGone) {
			return aim.Explain(Name, "stop", p, err)
		}
	}
	return nil
}

// look waits until the kernel says of each that it is stopped: that is the evidence.
func (s *step) look(ctx context.Context, all []procs.Process) {
	deadline := time.Now().Add(stopWithin)
	for _, p := range all {
		for ctx.Err() == nil && time.Now().Before(deadline) {
			now, err := procs.Find(p.ID)
			if err != nil {
				break
			}
			if now.Stopped() {
				s.mu.Lock()
				s.seen[p.ID] = true
				s.mu.Unlock()
				break
			}
			<-time.After(stopLook)
		}
	}
}

// Evidence implements attack.Evidencing.
func (s *step) Evidence() (bit bool, sentences []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	named := 0
	for _, p := range s.held {
		if s.seen[p.ID] && named < sentenceMax {
			named++
			sentences = append(sentences, fmt.Sprintf("the kernel said of %s that it was stopped", p))
		}
	}
	sentences = append(sentences, fmt.Sprintf("%d of %d processes were seen stopped", len(s.seen), len(s.held)))
	if s.escaped > 0 {
		sentences = append(sentences, fmt.Sprintf("%d times one was found going on, and stopped again", s.escaped))
	}
	return len(s.seen) > 0, sentences
}

// Revert implements attack.Step.
func (s *step) Revert(ctx context.Context) error { return s.journal.Undo(ctx, Kind{hooks: s.hooks}) }

// Undo implements attack.Undoer. SIGCONT is sent even to one that does not look stopped: a SIGSTOP may be on its way to it still.
func (k Kind) Undo(_ context.Context, change attack.Change, others []attack.Change) error {
	var group frozen
	if err := json.Unmarshal(change.Undo, &group); err == nil && group.Directory != "" {
		return k.thaw(group, others)
	}
	var id procs.ID
	if err := json.Unmarshal(change.Undo, &id); err != nil {
		return fmt.Errorf("who was stopped: %w", err)
	}
	if holds(others, id) && !k.hooks.forgetful {
		return nil // the last one lets it go on
	}
	k.hooks.step("let go on")
	if k.hooks.trustPID {
		return unix.Kill(id.PID, unix.SIGCONT)
	}
	if err := procs.Signal(id, unix.SIGCONT); err != nil && !errors.Is(err, procs.ErrGone) {
		return fmt.Errorf("let process %d go on: %w", id.PID, err)
	}
	return nil
}

// Residue implements attack.Verified: what we stopped and nobody else holds must go on.
func (s *step) Residue(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	others := s.journal.Others()
	var left []string
	for _, p := range s.held {
		if now, err := procs.Find(p.ID); err == nil && now.Stopped() && !holds(others, p.ID) {
			left = append(left, p.String()+" is still stopped")
		}
	}
	return left, nil
}
