package timetravel

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/attack/traffic"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Name is the name of the kind.
const Name = "time_travel"

const (
	offsetDefault = "86400"
	offsetMin     = time.Second
	offsetMax     = 10 * 365 * 24 * time.Hour // the kernel refuses what ends before 1970
	exact         = 5 * time.Millisecond      // how near the clock must come back; measured: 0.07 ms
	still         = time.Millisecond          // what is nearer than this is not set again: setting costs as much
	lookEvery     = time.Second
	ntpPort       = 123
)

// Kind is the time travel attack. Its zero value sets the clock of this machine.
type Kind struct{ hooks hooks }

// hooks are the clock, the crash points and the planted bugs of tests.
type hooks struct {
	clock  clock // nil: the kernel's
	mark   func(string)
	byStep bool // planted: undone by the amount of the offset, wherever the clock is
	late   bool // planted: shifted first, written down afterwards
}

func (h hooks) step(name string) {
	if h.mark != nil {
		h.mark(name)
	}
}

func (h hooks) of() clock {
	if h.clock != nil {
		return h.clock
	}
	return kernel{}
}

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	return drill.AttackKind{
		Name:    Name,
		Group:   "state",
		Summary: "Shift the clock of this host, and bring it back exactly",
		Flags: []drill.AttackFlag{
			attack.LengthFlag(),
			{Name: "offset", Short: "o", Type: attack.TypeSeconds, Default: offsetDefault, Usage: "seconds to shift the clock by, or a duration such as 36h; negative for the past; 1 or more either way",
				Unit: "s", Range: &drill.Range{Min: -offsetMax.Seconds(), Max: offsetMax.Seconds()}},
			{Name: "ntp", Short: "n", Type: attack.TypeBool, Usage: "cut NTP off (UDP port 123), so that nothing corrects the clock meanwhile"},
		},
		Remains: string(attack.RemainsUntilStart),
		Needs:   []string{"sys_time", "pidfd", "journal"},
	}
}

// Check implements attack.Checker.
func (k Kind) Check(context.Context) error { return k.hooks.of().check() }

// Order implements attack.Kind.
func (k Kind) Order(flags attack.Values) (attack.Order, error) {
	if err := flags.Check(k.Describe()); err != nil {
		return nil, err
	}
	length, err := flags.Length()
	if err != nil {
		return nil, attack.Refuse(Name, "", "%w", err)
	}
	offset, err := parseOffset(flags.Text("offset", offsetDefault))
	if err != nil {
		return nil, attack.Refuse(Name, "write seconds, as -o -3600, or a duration such as 36h", "--offset: %w", err)
	}
	ntp, err := flags.Bool("ntp")
	if err != nil {
		return nil, attack.Refuse(Name, "", "%w", err)
	}
	return Order{Length: length, Offset: offset, CutNTP: ntp, hooks: k.hooks}, nil
}

// parseOffset reads a plain number as seconds and anything else as a duration; both may be negative, and neither is 0.
func parseOffset(text string) (time.Duration, error) {
	var offset time.Duration
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		offset = time.Duration(seconds) * time.Second
	} else if offset, err = time.ParseDuration(text); err != nil {
		return 0, fmt.Errorf("%q is not a number of seconds", text)
	}
	if size := max(offset, -offset); size < offsetMin || size > offsetMax {
		return 0, fmt.Errorf("%q: it must be at least a second and at most ten years, either way", text)
	}
	return offset, nil
}

// Order is a time travel as a user asks for it.
type Order struct {
	Length time.Duration
	Offset time.Duration
	CutNTP bool
	hooks  hooks
}

// Names implements attack.Order.
func (Order) Names() []string { return nil }

// Plan implements attack.Order.
func (o Order) Plan(facts attack.Facts) (attack.Plan, error) {
	plan := attack.Plan{GUID: facts.GUID, Attack: Name, Host: facts.Host, Length: o.Length}
	if o.CutNTP {
		cut := traffic.Order{Kind: Name, Length: o.Length, Targets: attack.Targets{Protocol: attack.ProtocolUDP, EgressPorts: []attack.PortRange{{First: ntpPort, Last: ntpPort}}}}
		cutting, err := cut.Plan(facts)
		if err != nil {
			return attack.Plan{}, err
		}
		plan.Steps = cutting.Steps
	}
	plan.Steps = append(plan.Steps, &step{offset: o.Offset, hooks: o.hooks})
	return plan, nil
}

// undo is what a record holds.
type undo struct {
	Base   time.Duration `json:"base_ns"`   // clock minus time since boot as they would be without any attack
	Offset time.Duration `json:"offset_ns"` // what this attack adds
}

// step is the one step.
type step struct {
	offset  time.Duration
	hooks   hooks
	journal *attack.Journal

	mu    sync.Mutex // guards the fields below
	base  time.Duration
	made  bool
	shown bool // the clock was seen shifted
	lost  bool // it was seen set back by somebody else
}

// Lines implements attack.Step.
func (s *step) Lines() []string { return []string{"shift the clock by " + s.offset.String()} }

// Remains implements attack.Step.
func (*step) Remains() attack.Remains { return attack.RemainsUntilStart }

// ByHand implements attack.ByHand.
func (*step) ByHand() string {
	return "take it back with: firedrill halt; or set the clock by hand: chronyc makestep, or systemctl restart systemd-timesyncd"
}

// Keep implements attack.Recorded.
func (s *step) Keep(journal *attack.Journal) { s.journal = journal }

// Apply implements attack.Step.
func (s *step) Apply(ctx context.Context, _ time.Time) error {
	clock := s.hooks.of()
	if s.hooks.late {
		if err := clock.shift(s.offset); err != nil {
			return err
		}
	}
	s.hooks.step("write down")
	var wanted time.Duration
	err := s.journal.Record(ctx, func(others []attack.Change) ([]attack.Change, error) {
		base, more, err := sum(others)
		if err == nil && len(others) == 0 {
			base, err = clock.skew()
		}
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		s.base, s.made = base, true
		s.mu.Unlock()
		wanted = base + more + s.offset
		record, err := json.Marshal(undo{Base: base, Offset: s.offset})
		return []attack.Change{{What: "the clock is shifted by " + s.offset.String(), Undo: record}}, err
	})
	if err != nil || s.hooks.late {
		return err
	}
	s.hooks.step("shift")
	if err := aim(clock, wanted); err != nil {
		return err
	}
	return s.look()
}

// sum adds up what attacks hold. They all have the base of the first.
func sum(changes []attack.Change) (base, offsets time.Duration, err error) {
	for _, change := range changes {
		var held undo
		if err := json.Unmarshal(change.Undo, &held); err != nil {
			return 0, 0, fmt.Errorf("what another attack did to the clock: %w", err)
		}
		base, offsets = held.Base, offsets+held.Offset
	}
	return base, offsets, nil
}

// aim sets the clock so that its skew is wanted, unless it is.
func aim(c clock, wanted time.Duration) error {
	now, err := c.skew()
	if err != nil {
		return err
	}
	if by := wanted - now; max(by, -by) >= still {
		return c.shift(by)
	}
	return nil
}

// look sees whether the clock is shifted; half of the offset tells it from a correction and from other attacks.
func (s *step) look() error {
	now, err := s.hooks.of().skew()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	away := now - s.base
	if shifted := max(away, -away) > max(s.offset, -s.offset)/2; shifted {
		s.shown = true
	} else {
		s.lost = true
	}
	return nil
}

// Tend implements attack.Tended.
func (s *step) Tend(ctx context.Context, _ func(history.Fact)) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := s.look(); err != nil {
			return err
		}
	}
}

// Evidence implements attack.Evidencing.
func (s *step) Evidence() (bit bool, sentences []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shown {
		sentences = append(sentences, fmt.Sprintf("the clock was seen shifted by about %s against the time since boot", s.offset))
	}
	if s.lost {
		sentences = append(sentences, "somebody else, NTP perhaps, set the clock back before the end; --ntp cuts NTP off")
	}
	return s.shown && !s.lost, sentences
}

// Revert implements attack.Step.
func (s *step) Revert(ctx context.Context) error { return s.journal.Undo(ctx, Kind{hooks: s.hooks}) }

// Undo implements attack.Undoer: the clock is set to what it would show without this attack.
func (k Kind) Undo(_ context.Context, change attack.Change, others []attack.Change) error {
	var held undo
	if err := json.Unmarshal(change.Undo, &held); err != nil {
		return fmt.Errorf("what was done to the clock: %w", err)
	}
	_, more, err := sum(others)
	if err != nil {
		return err
	}
	k.hooks.step("take back")
	if k.hooks.byStep {
		return k.hooks.of().shift(-held.Offset)
	}
	return aim(k.hooks.of(), held.Base+more)
}

// Residue implements attack.Verified.
func (s *step) Residue(context.Context) ([]string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.made {
		return nil, nil
	}
	_, more, err := sum(s.journal.Others())
	now, err2 := s.hooks.of().skew()
	if err := errors.Join(err, err2); err != nil {
		return nil, err
	}
	if off := now - s.base - more; max(off, -off) > exact {
		return []string{fmt.Sprintf("the clock is off by %s", off)}, nil
	}
	return nil, nil
}
