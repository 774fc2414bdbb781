package blackhole

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"firedrill/internal/attack"
	"firedrill/internal/drill"
)

// Name is the name of the kind.
const Name = "blackhole"

// Kind is the blackhole attack. Its zero value is ready to use.
type Kind struct {
	hooks hooks
}

// hooks let the tests of this package die in the middle, and plant bugs. The zero value changes nothing.
type hooks struct {
	step func(name string) // called before each durable effect

	noOwner     bool // the table without the owner flag, as on an old kernel
	noGate      bool // planted bug: drops do not hang on the gate
	noSpare     bool // planted bug: spares are looked at after the drop
	pastEnd     bool // planted bug: the lease is renewed past the deadline
	plainDrop   bool // planted bug: egress is dropped in the output hook, so senders see an error
	resolveOnce bool // planted bug: names are not resolved again
	keepTable   bool // planted bug: revert forgets the table
	neverBites  bool // planted bug: the gate is never opened
	dropFirst   bool // planted bug: the chain that drops on lo dies first, and ports are kept
}

func (h hooks) mark(name string) {
	if h.step != nil {
		h.step(name)
	}
}

// Describe implements attack.Kind.
func (Kind) Describe() drill.AttackKind {
	return drill.AttackKind{
		Name:    Name,
		Group:   "network",
		Summary: "Cut all traffic between this host and addresses, names or ports; without a target, everything but what is spared",
		Flags:   append([]drill.AttackFlag{attack.LengthFlag()}, attack.TargetFlags()...),
		Remains: string(attack.RemainsNothing),
	}
}

// Order implements attack.Kind.
func (k Kind) Order(flags attack.Values) (attack.Order, error) {
	if err := flags.Check(k.Describe()); err != nil {
		return nil, err
	}
	length, err := flags.Length()
	if err != nil {
		return nil, attack.Refuse(Name, "write seconds, as -l 240", "%w", err)
	}
	targets, err := attack.ParseTargets(flags)
	if err != nil {
		return nil, attack.Refuse(Name, "see: firedrill help attack blackhole", "%w", err)
	}
	return Order{Length: length, Targets: targets, hooks: k.hooks}, nil
}

// Order is a blackhole as a user asks for it.
type Order struct {
	Length  time.Duration
	Targets attack.Targets
	hooks   hooks
}

// Names implements attack.Order.
func (o Order) Names() []string { return o.Targets.Names() }

// Device implements attack.OnDevice.
func (o Order) Device() string { return o.Targets.Device }

// Plan implements attack.Order.
func (o Order) Plan(facts attack.Facts) (attack.Plan, error) {
	if d := o.Targets.Device; d != "" && !slices.Contains(facts.Interfaces, d) {
		return attack.Plan{}, attack.Refuse(Name, "see: ip link", "there is no network device %q; there are %s", d, strings.Join(facts.Interfaces, ", "))
	}
	hit, spare := o.Targets.Resolve(facts.Names)
	if !o.Targets.All() && len(hit) == 0 {
		return attack.Plan{}, &drill.Error{Op: "attack " + Name, Kind: drill.Refused, Err: fmt.Errorf("every target is spared too, so nothing would be hit"),
			Hint: "take the target out of the list of spares, or the spare out"}
	}
	cut := &cut{guid: facts.GUID, targets: o.Targets, hit: hit, spare: spare, control: facts.Control, names: facts.Names, hooks: o.hooks}
	return attack.Plan{GUID: facts.GUID, Attack: Name, Host: facts.Host, Length: o.Length, Steps: []attack.Step{cut}}, nil
}

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
	lines := []string{fmt.Sprintf("create table inet %s, owned by this process, alive for %s at a time and never past the deadline", tableName(c.guid), lease)}
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
	lines = append(lines, "drop egress to and ingress from "+what+c.narrowed())
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
	}{{"remote ports", c.targets.EgressPorts}, {"local ports", c.targets.IngressPorts}} {
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
