package netem

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/drill"
)

const (
	bandFirst = 4  // the first that prio's own map leads nothing to
	bandLast  = 16 // the most bands that prio has
	tries     = 5  // another attack may take our band, or delete the root, between our look and our change

	// packetsMax is how many packets are on their way at once: 100 ms of a million a second. What is beyond is lost.
	packetsMax = 100_000
	drainMax   = time.Second // what is on its way when the attack ends may arrive
	drainLook  = 5 * time.Millisecond
)

// Treatment is what netem does to each packet.
type Treatment struct {
	Delay   time.Duration
	Jitter  time.Duration // more or less, evenly spread
	Corrupt bool          // one bit is flipped
}

func (t Treatment) String() string {
	if t.Corrupt {
		return "corrupt 100%"
	}
	text := "delay " + t.Delay.String()
	if t.Jitter > 0 {
		text += " " + t.Jitter.String()
	}
	return text
}

// Hooks let tests die in the middle and plant bugs. The zero value changes nothing.
type Hooks struct {
	Step func(name string) // called before each durable effect
	Keep bool              // planted bug: what was put there is not deleted
}

func (h Hooks) mark(name string) {
	if h.Step != nil {
		h.Step(name)
	}
}

// Order is what a Step puts where.
type Order struct {
	Kind  string // of the attack
	GUID  string
	How   Treatment
	Links []attack.Link
	Hooks Hooks
}

// Step puts netem below the roots of devices, where nothing leads to it but the priorities that Priorities returns.
type Step struct {
	order   Order
	journal *attack.Journal

	mu     sync.Mutex // guards the fields below
	band   uint16     // 0: not put there
	passed []string   // what the kernel counted, at the end
}

// New makes a step; it does nothing before Apply.
func New(o Order) *Step { return &Step{order: o} }

// handle is the number of our netem, the same on each device. The kernel gives numbers from 8000 on by itself.
func (s *Step) handle() uint32 {
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(s.order.GUID))
	return netlink.MakeHandle(uint16(0x4000|sum.Sum32()&0x3fff), 0)
}

// Lines implements attack.Step.
func (s *Step) Lines() []string {
	var lines []string
	for _, link := range s.order.Links {
		lines = append(lines, fmt.Sprintf("on %s, in the place of %s until the end: put prio, and below it netem (%s), to which only our table leads",
			link.Name, link.Root, s.order.How))
	}
	return lines
}

// Remains implements attack.Step: disciplines that nothing leads to.
func (*Step) Remains() attack.Remains { return attack.RemainsUntilStart }

// ByHand implements attack.ByHand.
func (s *Step) ByHand() string {
	var cures []string
	for _, link := range s.order.Links {
		cures = append(cures, "tc qdisc del dev "+link.Name+" root")
	}
	return "look with: tc qdisc; take it back with: firedrill halt, or " + strings.Join(cures, "; ")
}

// Keep implements attack.Recorded.
func (s *Step) Keep(journal *attack.Journal) { s.journal = journal }

// Priorities returns the priority that leads a packet to our netem, by the number of the device through which it leaves. It is nil before
// Apply.
func (s *Step) Priorities() map[int]uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.band == 0 {
		return nil
	}
	byDevice := map[int]uint32{}
	for _, link := range s.order.Links {
		byDevice[link.Index] = rootHandle(link.Index) | uint32(s.band)
	}
	return byDevice
}

// placed is the change as the journal has it.
type placed struct {
	Namespace uint64 `json:"net_namespace"`
	Device    string `json:"device"`
	Index     int    `json:"index"`
	Band      uint16 `json:"band"`
	Handle    uint32 `json:"handle"`
	Length    int    `json:"txqueuelen"`
}

// Apply implements attack.Step.
func (s *Step) Apply(ctx context.Context, _ time.Time) error {
	var err error
	for range tries {
		var band uint16
		if band, err = s.record(ctx); err != nil {
			return err
		}
		if err = s.put(band); err == nil {
			s.mu.Lock()
			s.band = band
			s.mu.Unlock()
			return nil
		}
		if !errors.Is(err, unix.EEXIST) && !errors.Is(err, unix.ENOENT) || ctx.Err() != nil {
			break
		}
	}
	return explain(s.order.Kind, err)
}

// record chooses a band that is free on all devices and writes down what is about to be put there.
func (s *Step) record(ctx context.Context) (band uint16, err error) {
	s.order.Hooks.mark("write down")
	err = s.journal.Record(ctx, func([]attack.Change) ([]attack.Change, error) {
		all, err := disciplines()
		if err != nil {
			return nil, err
		}
		if band = s.free(all); band == 0 {
			return nil, &drill.Error{Op: "attack " + s.order.Kind, Kind: drill.Refused, Err: fmt.Errorf("%d attacks of this sort run already", bandLast-bandFirst+1),
				Hint: "end one of them: firedrill status, firedrill halt"}
		}
		namespace, err := ownNamespace()
		if err != nil {
			return nil, err
		}
		var changes []attack.Change
		for _, link := range s.order.Links {
			undo, err := json.Marshal(placed{Namespace: namespace, Device: link.Name, Index: link.Index, Band: band, Handle: s.handle(), Length: link.Length})
			if err != nil {
				return nil, err
			}
			changes = append(changes, attack.Change{What: "netem on " + link.Name, Undo: undo})
		}
		return changes, nil
	})
	return band, err
}

// free returns the first band that no device has anything in, 0 for none.
func (s *Step) free(all []netlink.Qdisc) uint16 {
	used := map[uint32]bool{}
	for _, q := range all {
		used[q.Attrs().Parent] = true
	}
	for band := uint16(bandFirst); band <= bandLast; band++ {
		taken := false
		for _, link := range s.order.Links {
			taken = taken || used[rootHandle(link.Index)|uint32(band)]
		}
		if !taken {
			return band
		}
	}
	return 0
}

func (s *Step) put(band uint16) error {
	for _, link := range s.order.Links {
		if err := s.putRoot(link.Index); err != nil {
			return fmt.Errorf("netem: put prio on %s: %w", link.Name, err)
		}
		s.order.Hooks.mark("netem")
		how := netlink.NetemQdiscAttrs{Latency: uint32(s.order.How.Delay.Microseconds()), Jitter: uint32(s.order.How.Jitter.Microseconds()), Limit: packetsMax}
		if s.order.How.Corrupt {
			how.CorruptProb = 100
		}
		attrs := netlink.QdiscAttrs{LinkIndex: link.Index, Handle: s.handle(), Parent: rootHandle(link.Index) | uint32(band)}
		if err := netlink.QdiscAdd(netlink.NewNetem(attrs, how)); err != nil {
			return fmt.Errorf("netem: put netem on %s: %w", link.Name, err)
		}
		if err := putLength(link.Index, link.Length); err != nil {
			return fmt.Errorf("netem: %s: %w", link.Name, err)
		}
	}
	return nil
}

// putLength sets back how much a device may queue. Of one that queues nothing by itself, 0, the kernel makes more with each discipline.
func putLength(index, length int) error {
	link, err := netlink.LinkByIndex(index)
	if err != nil || link.Attrs().TxQLen == length {
		return err
	}
	if err := netlink.LinkSetTxQLen(link, length); err != nil {
		return fmt.Errorf("set txqueuelen back to %d: %w", length, err)
	}
	return nil
}

func (s *Step) putRoot(index int) error {
	s.order.Hooks.mark("prio")
	prio := netlink.NewPrio(netlink.QdiscAttrs{LinkIndex: index, Handle: rootHandle(index), Parent: netlink.HANDLE_ROOT})
	prio.Bands = bandLast
	err := netlink.QdiscAdd(prio)
	if !errors.Is(err, unix.EEXIST) {
		return err
	}
	all, listErr := disciplines()
	if listErr != nil {
		return listErr
	}
	for _, q := range of(all, index) {
		if isOurs(q, index) {
			return nil // another attack is here
		}
	}
	return err
}

// Revert implements attack.Step.
func (s *Step) Revert(ctx context.Context) error {
	s.drain(ctx)
	return s.journal.Undo(ctx, Undoer{Hooks: s.order.Hooks})
}

// drain waits until nothing is on its way any more, and remembers what the kernel counted: deleting netem loses both. By then no table leads
// there.
func (s *Step) drain(ctx context.Context) {
	s.mu.Lock()
	band := s.band
	s.band = 0
	s.mu.Unlock()
	if band == 0 {
		return
	}
	for deadline := time.Now().Add(min(drainMax, s.order.How.Delay+s.order.How.Jitter)); ; {
		all, err := disciplines()
		if err != nil {
			return
		}
		passed, waiting := s.read(all, band)
		s.mu.Lock()
		s.passed = passed
		s.mu.Unlock()
		if waiting == 0 || ctx.Err() != nil || time.Now().After(deadline) {
			return
		}
		<-time.After(drainLook)
	}
}

func (s *Step) read(all []netlink.Qdisc, band uint16) (passed []string, waiting uint32) {
	for _, link := range s.order.Links {
		for _, q := range of(all, link.Index) {
			a := q.Attrs()
			if a.Handle != s.handle() || a.Parent != rootHandle(link.Index)|uint32(band) || a.Statistics == nil {
				continue
			}
			text := fmt.Sprintf("netem on %s (%s): the kernel counted %d packets", link.Name, s.order.How, count(a.Statistics))
			if a.Statistics.Queue != nil {
				waiting += a.Statistics.Queue.Qlen
				if a.Statistics.Queue.Drops > 0 {
					text += fmt.Sprintf(", of which %d were lost", a.Statistics.Queue.Drops)
				}
			}
			passed = append(passed, text)
		}
	}
	return passed, waiting
}

func count(s *netlink.QdiscStatistics) uint32 {
	if s.Basic == nil {
		return 0
	}
	return s.Basic.Packets
}

// Evidence implements attack.Evidencing. That it bit is shown by the table, which counts what it sent here.
func (s *Step) Evidence() (bit bool, sentences []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return false, s.passed
}

// Residue implements attack.Verified.
func (s *Step) Residue(context.Context) ([]string, error) {
	all, err := disciplines()
	if err != nil {
		return nil, fmt.Errorf("netem: list queueing disciplines: %w", err)
	}
	var left []string
	for _, link := range s.order.Links {
		for _, q := range of(all, link.Index) {
			if q.Type() == "netem" && q.Attrs().Handle == s.handle() {
				left = append(left, "netem on "+link.Name)
			}
		}
	}
	return left, nil
}

func explain(kind string, err error) error {
	e := &drill.Error{Op: "attack " + kind, Kind: drill.Failed, Err: err, Hint: "see: tc qdisc; or choose --way=queue"}
	if errors.Is(err, unix.EPERM) {
		e.Kind, e.Hint = drill.Unsupported, "run it as root: sudo firedrill attack ..."
	}
	return e
}
