package traffic

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/attack/herd"
	"firedrill/internal/attack/netem"
	"firedrill/internal/attack/procs"
	"firedrill/internal/drill"
)

// Order is a network attack as a user asks for it.
type Order struct {
	Kind    string
	Length  time.Duration
	Targets attack.Targets
	Effect  Effect
	Hooks   Hooks

	processes procs.Selector // of the scope
}

// NewOrder reads what all network kinds share, the length and the targets, out of the flags; the caller adds what its kind has of its own.
func NewOrder(described drill.AttackKind, flags attack.Values, hooks Hooks) (Order, error) {
	if err := flags.Check(described); err != nil {
		return Order{}, err
	}
	length, err := flags.Length()
	if err != nil {
		return Order{}, attack.Refuse(described.Name, "write seconds, as -l 240", "%w", err)
	}
	targets, err := attack.ParseTargets(flags)
	if err != nil {
		return Order{}, attack.Refuse(described.Name, "see: firedrill help attack "+described.Name, "%w", err)
	}
	order := Order{Kind: described.Name, Length: length, Targets: targets, Hooks: hooks}
	if name := targets.Scope.Process; name != "" {
		if order.processes, err = (procs.Query{Process: name, Children: true}).Selector(); err != nil {
			return Order{}, attack.Refuse(described.Name, "look with: pgrep -a NAME", "%w", err)
		}
	}
	return order, nil
}

// Names implements attack.Order.
func (o Order) Names() []string { return o.Targets.Names() }

// Device implements attack.OnDevice.
func (o Order) Device() string { return o.Targets.Device }

// Survey implements attack.Surveying: it finds out what the scope means here, and in which ways packets can be treated.
func (o Order) Survey(ctx context.Context, facts *attack.Facts) error {
	if o.Effect.treats() && o.Effect.Way != WayQueue {
		found, err := netem.Survey()
		if err != nil {
			return err
		}
		facts.Shaping = found
	}
	if o.Targets.Scope.Process != "" {
		all, err := procs.Survey()
		if err != nil {
			return err
		}
		facts.Processes = all
	}
	return survey(ctx, o.Kind, o.Targets.Scope, &facts.Scope)
}

// Plan implements attack.Order.
func (o Order) Plan(facts attack.Facts) (attack.Plan, error) {
	if d := o.Targets.Device; d != "" && !slices.Contains(facts.Interfaces, d) {
		return attack.Plan{}, attack.Refuse(o.Kind, "see: ip link", "there is no network device %q; there are %s", d, strings.Join(facts.Interfaces, ", "))
	}
	hit, spare := o.Targets.Resolve(facts.Names)
	if !o.Targets.All() && len(hit) == 0 {
		return attack.Plan{}, &drill.Error{Op: "attack " + o.Kind, Kind: drill.Refused, Err: fmt.Errorf("every target is spared too, so nothing would be hit"),
			Hint: "take the target out of the list of spares, or the spare out"}
	}
	chosen, err := o.choose(facts, hit)
	if err != nil {
		return attack.Plan{}, err
	}
	cut := &cut{kind: o.Kind, guid: facts.GUID, effect: chosen.effect, whyQueue: chosen.why, shape: chosen.shape, targets: o.Targets, hit: hit, spare: spare, control: facts.Control, names: facts.Names, scope: facts.Scope, hooks: o.Hooks}
	plan := attack.Plan{GUID: facts.GUID, Attack: o.Kind, Host: facts.Host, Length: o.Length, Steps: []attack.Step{cut}}
	if chosen.shape != nil {
		plan.Steps = []attack.Step{chosen.shape, cut} // nothing leads there before our table is in force, nor after
	}
	if cut.herd, err = o.gather(facts); err != nil {
		return attack.Plan{}, err
	}
	if cut.herd != nil {
		plan.Steps = slices.Insert(plan.Steps, 0, attack.Step(cut.herd))
	}
	return plan, nil
}

// gather makes the step that gathers the processes of the scope; nil when it names none.
func (o Order) gather(facts attack.Facts) (*herd.Step, error) {
	if o.Targets.Scope.Process == "" {
		return nil, nil
	}
	meant, spared, err := attack.MeantProcesses(o.Kind, o.processes, facts)
	if err != nil {
		return nil, err
	}
	return herd.New(herd.Order{Kind: o.Kind, GUID: facts.GUID, Which: o.processes, Meant: meant, Spared: spared, Undoer: o.undoer(), Hooks: o.Hooks.herd()}), nil
}

// undoer takes back all that the steps of an order can leave in a journal.
func (o Order) undoer() attack.Undoer {
	return netem.Undoer{Herd: herd.Undoer{Hooks: o.Hooks.herd()}}
}

func (h Hooks) herd() herd.Hooks { return herd.Hooks{Step: h.Step, Keep: h.Scatter} }

// shown bounds how many addresses a plan prints; a list of 100,000 is not for reading.
const shown = 12

func describe(named []attack.Named) string {
	parts := make([]string, 0, shown+1)
	for i, n := range named {
		if i == shown {
			parts = append(parts, fmt.Sprintf("and %d more", len(named)-shown))
			break
		}
		text := n.String()
		if n.Name != "" {
			text += " (" + n.Name + ")"
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// Lines implements attack.Step.
func (c *cut) Lines() []string {
	lines := []string{fmt.Sprintf("create table inet %s, owned by this process, alive for %s at a time and never past the deadline", TableName(c.guid), lease)}
	for _, n := range c.control {
		lines = append(lines, fmt.Sprintf("spare our SSH connection: %s to port %d", n.Remote.Addr(), n.Local.Port()))
	}
	if len(c.spare) > 0 {
		lines = append(lines, "spare "+describe(c.spare))
	}
	what := "everything but loopback, neighbour discovery and DHCP"
	if !c.targets.All() {
		what = describe(c.hit)
	}
	ways := " egress to and ingress from "
	switch {
	case c.effect.EgressOnly:
		ways = " egress to "
	case c.effect.ingressOnly():
		ways = " ingress from "
	}
	lines = append(lines, c.effect.verb()+ways+what+c.narrowed())
	lines = append(lines, c.wayLines()...)
	if again := c.targets.Names(); len(again) > 0 {
		lines = append(lines, "resolve again, and only ever add: "+strings.Join(again, ", "))
	}
	return lines
}

func (c *cut) narrowed() string {
	var parts []string
	for _, ports := range []struct {
		what   string
		ranges []attack.PortRange
	}{{"remote ports", c.targets.EgressPorts}, {"local ports", c.targets.IngressPorts}, {"source ports", c.targets.SourcePorts}} {
		if len(ports.ranges) == 0 {
			continue
		}
		var texts []string
		for _, r := range ports.ranges {
			texts = append(texts, r.String())
		}
		parts = append(parts, ports.what+" "+strings.Join(texts, ", "))
	}
	if c.targets.Protocol != "" {
		parts = append(parts, strings.ToUpper(string(c.targets.Protocol)))
	}
	if c.targets.Device != "" {
		parts = append(parts, "device "+c.targets.Device)
	}
	if text := scopeText(c.targets.Scope, c.scope); text != "" {
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return ""
	}
	return "; only " + strings.Join(parts, "; only ")
}

// split parts addresses from CIDRs, because a hash set is many times faster than an interval set, and leaves out addresses that a CIDR
// covers.
func split(named []attack.Named) (single []netip.Addr, nets []netip.Prefix) {
	for _, n := range named {
		if !n.Prefix.IsSingleIP() {
			nets = append(nets, n.Prefix)
		}
	}
	nets = attack.MergeNets(nets)
	cover := attack.NewCover(nets)
	for _, n := range named {
		if n.Prefix.IsSingleIP() && (len(nets) == 0 || !cover.Holds(n.Prefix)) {
			single = append(single, n.Prefix.Addr())
		}
	}
	return single, nets
}
