package attack

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"firedrill/internal/attack/cgroups"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Remains says what is left of a step if every process of ours dies at once.
type Remains string

// What can remain. Plans print these words, and help pages explain them.
const (
	RemainsNothing       Remains = "nothing"          // the kernel takes it back with the process
	RemainsUntilDeadline Remains = "until deadline"   // the kernel takes it back at the deadline, at the latest
	RemainsUntilStart    Remains = "until next start" // the next start of any firedrill command takes it back
	RemainsOneWay        Remains = "one-way"          // there is nothing to take back
)

// Kind is one kind of attack. Implementations hold no state; package kinds lists them all.
type Kind interface {
	// Describe returns the kind as data: help pages, completion and the compiler of service files are made from it.
	Describe() drill.AttackKind
	// Order makes a typed order out of flags. Unknown flags, wrong units and contradictions are errors of kind drill.Invalid.
	Order(flags Values) (Order, error)
}

// Order is what a user asks for. Each kind has its own struct.
type Order interface {
	// Names returns the host names that must be resolved before Plan, sorted and without duplicates.
	Names() []string
	// Plan makes the order concrete. It is pure: no I/O, no clock, and equal inputs give equal plans.
	Plan(facts Facts) (Plan, error)
}

// Checker is a Kind that can tell before the start that this host or user lacks what it needs.
type Checker interface {
	Check(ctx context.Context) error
}

// OnDevice is an Order that may name a network device; only then the devices are among the facts.
type OnDevice interface {
	Device() string
}

// Surveying is an Order whose plan depends on what the host has: processors, memory, room on a volume.
type Surveying interface {
	// Survey adds to the facts what the order needs to know, and nothing else. It changes nothing on the host.
	Survey(ctx context.Context, facts *Facts) error
}

// Sweeper is a Kind that can leave something behind after all of us died: on a kernel too old to take it back at once.
type Sweeper interface {
	// Sweep takes back what dead attacks left, and says what. It never touches what belongs to a live one; alive answers for a GUID.
	Sweep(ctx context.Context, alive func(guid string) bool) (removed []string, err error)
	// Residue says what of this kind is on the host now, of live attacks too.
	Residue(ctx context.Context) ([]string, error)
}

// LateSweeper is a Sweeper whose leftovers hurt nobody: its steps sweep by themselves once they are in force, so that the time until then
// stays short.
type LateSweeper interface {
	Sweeper
	SweepsLate()
}

// Facts are what a plan depends on and that is not in the order.
type Facts struct {
	GUID       string                `json:"guid"`                 // names the attack, unique on the host
	Host       string                `json:"host"`                 // our name
	Names      map[string]Resolution `json:"names,omitempty"`      // for each name that the order asked for
	Control    []Connection          `json:"control,omitempty"`    // connections through which we are controlled; never hit
	Interfaces []string              `json:"interfaces,omitempty"` // names of the network devices, sorted
	Systemd    bool                  `json:"systemd,omitempty"`    // systemd is the init of this host
	Processes  []procs.Process       `json:"processes,omitempty"`  // all that run; only for a Surveying order that asks for them
	Cores      []int                 `json:"cores,omitempty"`      // processors that we may run on, sorted; only for a Surveying order
	Memory     uint64                `json:"memory,omitempty"`     // bytes that can be taken without swapping, by /proc and our cgroups
	Volume     Volume                `json:"volume,omitzero"`      // where a Surveying order writes
	Scope      ScopeFacts            `json:"scope,omitzero"`       // what the scope of a network attack means here
	Shaping    ShapingFacts          `json:"shaping,omitzero"`     // how packets can be delayed; only for an order that does
	Group      Group                 `json:"group,omitzero"`       // the control group that a Surveying order names
	Units      []Unit                `json:"units,omitempty"`      // of systemd: the one that a Surveying order names, then those that go with it
	Room       Room                  `json:"room,omitzero"`        // of what a Surveying order uses up
	Consent    bool                  `json:"consent,omitempty"`    // a person said --yes to this very attack
}

// Group is a control group and who is in it or below it.
type Group struct {
	cgroups.Group
	Processes []int `json:"processes"` // sorted
	Tasks     int   `json:"tasks"`     // threads of them; only where they are counted
	Freezer   bool  `json:"freezer"`   // it can be frozen as a whole; only where that is asked
}

// Unit is a unit of systemd, in its words.
type Unit struct {
	Name      string `json:"name"`
	Load      string `json:"load"`   // loaded, not-found, masked
	Active    string `json:"active"` // active, inactive, failed, ...
	Enabled   string `json:"enabled,omitempty"`
	Because   string `json:"because,omitempty"`   // why it goes with the one that is named
	Processes []int  `json:"processes,omitempty"` // sorted
}

// Room is how much there is of something that the whole host shares.
type Room struct {
	Used int `json:"used"`
	Max  int `json:"max"` // what the tightest limit on us leaves in all
}

// Volume is a mounted file system as df sees it: what root alone may use is neither used nor available.
type Volume struct {
	Directory string `json:"directory"`
	Block     uint64 `json:"block_bytes"`
	Used      uint64 `json:"used_bytes"`
	Available uint64 `json:"available_bytes"`
}

// Percent is the share of the volume that is used, as df prints it but not rounded.
func (v Volume) Percent() float64 {
	if v.Used+v.Available == 0 {
		return 100
	}
	return 100 * float64(v.Used) / float64(v.Used+v.Available)
}

// Resolution is what a host name leads to.
type Resolution struct {
	Addresses []netip.Addr  `json:"addresses"`
	TTL       time.Duration `json:"ttl"` // how long it may be believed; ResolveEvery bounds it
}

// Connection is a TCP connection of this host as its address pairs.
type Connection struct {
	Local  netip.AddrPort `json:"local"`
	Remote netip.AddrPort `json:"remote"`
}

// Plan is an order made concrete for one host.
type Plan struct {
	GUID   string
	Attack string        // the kind
	Host   string        // where
	Length time.Duration // of the impact, from the first change to the last; 0 when the host goes down
	Delay  time.Duration // before the first step; a cancelled delay changes nothing
	Late   time.Duration // how late what cannot be taken back may still begin: this process may have been frozen meanwhile; 0 for no bound
	Steps  []Step        // applied in this order, reverted in the opposite one

	Pods   []history.AttackPod // of an attack on pods
	PartOf string              // the attack on several pods that this is a part of
}

// OneWay reports whether something of the plan cannot be taken back: the host goes down, or a process is gone.
func (p Plan) OneWay() bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Remains() == RemainsOneWay })
}

// Remains returns the worst that any step leaves behind.
func (p Plan) Remains() Remains {
	rank := []Remains{RemainsNothing, RemainsUntilDeadline, RemainsUntilStart, RemainsOneWay}
	worst := 0
	for _, step := range p.Steps {
		worst = max(worst, slices.Index(rank, step.Remains()))
	}
	return rank[worst]
}

// Lines returns the plan as text, one line for each thing that a step does.
func (p Plan) Lines() []string {
	var lines []string
	for _, step := range p.Steps {
		lines = append(lines, step.Lines()...)
	}
	return lines
}

// String prints the plan as --dry-run shows it.
func (p Plan) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s on %s, guid %s", p.Attack, p.Host, p.GUID)
	if p.Delay > 0 {
		fmt.Fprintf(&b, ", after %s", p.Delay)
	}
	if p.Length > 0 {
		fmt.Fprintf(&b, ", for %s", p.Length)
	}
	fmt.Fprintf(&b, "\nif all of us die, remains: %s\n", p.Remains())
	for _, line := range p.Lines() {
		b.WriteString("  " + line + "\n")
	}
	return b.String()
}

// Step is one reversible change. A kind brings its own cure: whatever Apply does, Revert undoes.
type Step interface {
	// Lines says what the step will do, before it does it.
	Lines() []string
	// Remains says what is left if all of us die while the step is in force.
	Remains() Remains
	// Apply makes the change. After an error Revert is called all the same. The impact must not outlast deadline, whatever happens to us.
	Apply(ctx context.Context, deadline time.Time) error
	// Revert takes the change back. It may be called twice, without Apply, and after an Apply that ended halfway; it returns nil only
	// when the host is as it was.
	Revert(ctx context.Context) error
}

// Tended is a Step that needs attention while it is in force: a lease to renew, names to resolve again.
type Tended interface {
	// Tend works until ctx ends. report takes facts that are seen on the way and never blocks. A returned ErrLapsed means that the kernel
	// has ended the impact already; any other error ends the attack.
	Tend(ctx context.Context, report func(history.Fact)) error
}

// Learning is a Step whose targets are names: whoever sees that a name leads to new addresses tells it, before it uses them.
type Learning interface {
	// Learn takes what a name leads to now. The name may be none of the step's. When it returns nil, new addresses are hit or spared.
	Learn(name string, addrs []netip.Addr, report func(history.Fact)) error
}

// Targeting is a Step with targets: what was cut and what was spared, in the order in which a log shows it.
type Targeting interface {
	Targets() []history.AttackTarget
}

// Worded is a Step whose targets are told of in words of its own.
type Worded interface {
	// Wording returns how a line begins before "egress traffic to ADDRESS", as "Dropping all".
	Wording() string
}

// Answers says what a canary of a target can expect while a step is in force.
type Answers string

// What a canary can expect.
const (
	AnswersNone    Answers = ""        // silence
	AnswersRefusal Answers = "refusal" // a refusal, which therefore proves that the path is cut
	AnswersSome    Answers = "some"    // some tries get through, so none proves anything
)

// Answering is a Step under which a target may answer; without it, none does.
type Answering interface {
	Answers() Answers
}

// Answers returns what a canary can expect while the plan is in force: the most that any step lets through.
func (p Plan) Answers() Answers {
	rank := []Answers{AnswersNone, AnswersRefusal, AnswersSome}
	most := 0
	for _, step := range p.Steps {
		if answering, ok := step.(Answering); ok {
			most = max(most, slices.Index(rank, answering.Answers()))
		}
	}
	return rank[most]
}

// Counting is a Step whose effect the kernel counts.
type Counting interface {
	// Hits returns totals since Apply.
	Hits(ctx context.Context) (history.AttackHits, error)
}

// Evidencing is a Step whose effect is proven by other figures of the kernel than packets.
type Evidencing interface {
	// Evidence is asked for once, after Revert: whether what was read while the step was in force shows that it bit, and the figures as
	// sentences.
	Evidence() (bit bool, sentences []string)
}

// Concluding is a Step that adds to the account of the whole what it knows, after Revert and after its Evidence was asked for.
type Concluding interface {
	// Conclude returns whether a canary that it tried is lost: it does not answer after the revert.
	Conclude(account *history.AttackAccount) (lost bool)
}

// ByHand is a Step that can tell what a person should do when it cannot be reverted.
type ByHand interface {
	ByHand() string
}

// Verified is a Step that can be looked for after Revert, with fresh eyes.
type Verified interface {
	// Residue says what is still there; nothing when all is as before.
	Residue(ctx context.Context) ([]string, error)
}
