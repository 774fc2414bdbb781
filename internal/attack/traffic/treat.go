package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
	"firedrill/internal/attack/netem"
	"firedrill/internal/attack/nfqueue"
	"firedrill/internal/drill"
)

// Way is how packets are delayed or corrupted. The empty one is no way: packets are not treated.
type Way string

// The ways.
const (
	WayNetem Way = "netem" // by a queueing discipline of the kernel, on their way out
	WayQueue Way = "queue" // by this process, in a queue between the kernel and us
)

// WayFlag is the flag of kinds that treat packets.
func WayFlag() drill.AttackFlag {
	return drill.AttackFlag{Name: "way", Short: "w", Type: attack.TypeString, Default: "auto",
		Usage: "netem: by the kernel, on the way out; queue: by this process; auto: netem where the kernel has it",
		OneOf: []string{string(WayNetem), string(WayQueue), "auto"}}
}

// ParseWay reads the flag of WayFlag.
func ParseWay(kind string, flags attack.Values) (Way, error) {
	switch text := strings.ToLower(flags.Text("way", "auto")); Way(text) {
	case WayNetem, WayQueue:
		return Way(text), nil
	case "auto":
		return "", nil
	default:
		return "", attack.Refuse(kind, "write netem, queue or auto", "--way=%s is no way", text)
	}
}

// choice is the way in which an effect is carried out.
type choice struct {
	effect Effect
	shape  *netem.Step // only in the way of netem
	why    string      // the queue was chosen though the kernel has netem
}

// choose decides on the way: netem where the kernel has it and what it needs can be put back exactly, else the queue.
func (o Order) choose(facts attack.Facts, hit []attack.Named) (choice, error) {
	chosen := choice{effect: o.Effect}
	e := &chosen.effect
	if !e.treats() {
		return chosen, nil
	}
	if e.Way == WayQueue {
		e.EgressOnly = !e.ingressOnly()
		return chosen, nil
	}
	links, err := o.links(facts, hit)
	switch {
	case err == nil:
		e.Way, e.EgressOnly = WayNetem, true
		chosen.shape = netem.New(netem.Order{Kind: o.Kind, GUID: facts.GUID, How: netem.Treatment(e.Treat), Links: links,
			Hooks: netem.Hooks{Step: o.Hooks.Step, Keep: o.Hooks.KeepRoot}})
		return chosen, nil
	case e.Way == WayNetem:
		return choice{}, err
	case facts.Shaping.Netem:
		chosen.why = err.Error()
	}
	e.Way = WayQueue
	e.EgressOnly = !e.ingressOnly()
	return chosen, nil
}

// links returns the devices through which targets can be reached, or why netem cannot be used there.
func (o Order) links(facts attack.Facts, hit []attack.Named) ([]attack.Link, error) {
	refuse := func(kind drill.ErrorKind, hint, format string, args ...any) error {
		return &drill.Error{Op: "attack " + o.Kind, Kind: kind, Hint: hint, Err: fmt.Errorf(format, args...)}
	}
	if !facts.Shaping.Netem {
		return nil, refuse(drill.Unsupported, "modprobe sch_prio sch_netem; or leave --way out: a queue of this process does it too", "this kernel has no netem")
	}
	// What goes to an address of this host goes through its loopback device, and nothing else does. As everywhere, a CIDR does not mean it.
	toUs := slices.ContainsFunc(hit, func(n attack.Named) bool {
		return n.Prefix.IsSingleIP() && slices.ContainsFunc(facts.Shaping.Links, func(l attack.Link) bool { return slices.Contains(l.Addrs, n.Prefix.Addr()) })
	})
	var links []attack.Link
	for _, link := range facts.Shaping.Links {
		if d := o.Targets.Device; d != "" && d != link.Name {
			continue
		}
		if link.Loopback && !toUs {
			continue
		}
		if link.Taken != "" {
			return nil, refuse(drill.Refused, "tc qdisc del dev "+link.Name+" root, name another device with --device, or choose --way=queue",
				"the root queueing discipline of %s could not be put back exactly: %s", link.Name, link.Taken)
		}
		links = append(links, link)
	}
	if len(links) == 0 {
		return nil, refuse(drill.Refused, "see: ip addr; or choose --way=queue", "no device with an address is up, through which targets could be reached")
	}
	return links, nil
}

// drainWithin bounds how long a revert waits for held packets to be let go: it is one system call for a thousand of them.
const drainWithin = time.Second

func (e Effect) treats() bool { return e.Treat != nfqueue.Treatment{} }

// ingressOnly: what is held on its way out still fills the socket of its sender, which then sends a hundredth of what it could. So a queue
// delays what comes back instead, and the sender sees the same round trip.
func (e Effect) ingressOnly() bool { return e.Way == WayQueue && e.Treat.Delay > 0 }

func (e Effect) treatment() string {
	if e.Treat.Delay > 0 {
		return "delay by " + e.Treat.String()
	}
	return "corrupt"
}

// wayLines say in which way packets are treated.
func (c *cut) wayLines() []string {
	var lines []string
	if c.whyQueue != "" {
		lines = append(lines, "not by netem: "+c.whyQueue)
	}
	if c.effect.Way == WayQueue {
		lines = append(lines, "do it in a queue of this process; when it dies the kernel passes by, and only what was in the queue is lost")
	}
	return lines
}

// treat sends a packet that is hit to where it is treated.
func (l *layout) treat(chain string) {
	if l.cut.effect.Way == WayNetem {
		byDevice := l.cut.shape.Priorities()
		for _, index := range slices.Sorted(maps.Keys(byDevice)) {
			l.add(chain, metaIs(expr.MetaKeyOIF, native(uint32(index))), []expr.Any{&expr.Immediate{Register: 1, Data: native(byDevice[index])},
				&expr.Meta{Key: expr.MetaKeyPRIORITY, SourceRegister: true, Register: 1}}, accept())
		}
		return
	}
	number := l.cut.getHolder().Number()
	if l.features.queue {
		l.add(chain, []expr.Any{&expr.Queue{Num: number, Total: 1, Flag: expr.QueueFlagBypass}})
		return
	}
	// The older target takes three words of 16 bits, padded to 8 bytes: queue, how many, flags; the one flag is to pass when nobody listens.
	info := make(xt.Unknown, 0, 8)
	for _, word := range []uint16{number, 1, 1, 0} {
		info = binary.NativeEndian.AppendUint16(info, word)
	}
	l.add(chain, []expr.Any{&expr.Target{Name: "NFQUEUE", Rev: 3, Info: &info}})
}

// openQueue opens the queue before a rule leads to it.
func (c *cut) openQueue() error {
	if c.effect.Way != WayQueue {
		return nil
	}
	c.hooks.mark("queue")
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(c.guid))
	holder, err := nfqueue.Hold(sum.Sum32(), c.effect.Treat, c.hooks.Queue)
	if err != nil {
		return explainQueue(c.kind, err)
	}
	c.mu.Lock()
	c.holder = holder
	c.mu.Unlock()
	return nil
}

func explainQueue(kind string, err error) error {
	if errors.Is(err, unix.EPERM) {
		return explain(kind, err)
	}
	return &drill.Error{Op: "attack " + kind, Kind: drill.Unsupported, Err: err,
		Hint: "this kernel has neither netem nor queues: modprobe sch_netem sch_prio, or modprobe nfnetlink_queue; firedrill doctor says more"}
}

func (c *cut) getHolder() *nfqueue.Holder {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.holder
}

// heedQueue ends the attack when its queue has ended.
func (c *cut) heedQueue(ctx context.Context) error {
	holder := c.getHolder()
	if holder == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return nil
	case <-holder.Ended():
		return fmt.Errorf("%s: %w", c.kind, holder.Failed())
	}
}

// Evidence implements attack.Evidencing: what the queue did to packets.
func (c *cut) Evidence() (bit bool, sentences []string) {
	holder := c.getHolder()
	if holder == nil {
		return false, nil
	}
	f := holder.Figures()
	if c.effect.Treat.Corrupt {
		return f.Corrupted > 0, []string{fmt.Sprintf("corrupted %d packets in a queue of this process", f.Corrupted)}
	}
	if f.Packets == 0 {
		return false, []string{"no packet came into the queue"}
	}
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return true, []string{fmt.Sprintf("held %d packets in a queue of this process, asked for %s: mean %.2f ms, median %.2f ms, 99%% within %.2f ms, longest %.2f ms",
		f.Packets, c.effect.Treat, ms(f.Mean()), ms(f.Percentile(0.5)), ms(f.Percentile(0.99)), ms(f.Max))}
}

var _ attack.Evidencing = (*cut)(nil)
