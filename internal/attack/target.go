package attack

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"firedrill/internal/drill"
)

// Targets is the traffic that a network attack hits, in the language that all of them share: addresses, CIDRs, names, ports, protocol
// and device, and what to spare. A spare always wins over a target.
type Targets struct {
	Hit          []netip.Prefix // addresses (as /32 or /128) and CIDRs, in the order given
	Spare        []netip.Prefix
	HitNames     []string // host names, resolved at the start and again while the attack runs
	SpareNames   []string
	Device       string      // empty: all devices
	EgressPorts  []PortRange // remote ports; empty together with IngressPorts: all
	IngressPorts []PortRange // local ports
	SourcePorts  []PortRange // local ports too; unlike IngressPorts, a flow must match these and EgressPorts
	Protocol     Protocol    // empty: all
	Scope        Scope       // whose traffic; empty: the whole host's
}

// Protocol is tcp, udp or icmp; empty means all.
type Protocol string

// The protocols that can be named. ICMP means ICMPv6 too.
const (
	ProtocolTCP  Protocol = "tcp"
	ProtocolUDP  Protocol = "udp"
	ProtocolICMP Protocol = "icmp"
)

// PortRange holds ports from First to Last, both of them included; 1 <= First <= Last.
type PortRange struct{ First, Last uint16 }

// String prints 80 or 8080-8085.
func (r PortRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// TargetFlags are the flags of the target language, in the order of help pages.
func TargetFlags() []drill.AttackFlag {
	return []drill.AttackFlag{
		{Name: "ipaddress", Short: "i", Type: TypeList, Usage: "addresses or CIDRs, only traffic to and from these; ^ before one spares it; @FILE reads one per line"},
		{Name: "hostname", Short: "h", Type: TypeList, Usage: "host names, only traffic to and from these, resolved again meanwhile; ^ before one spares it"},
		{Name: "device", Short: "d", Type: TypeString, Usage: "network device, only traffic through it (default: all)"},
		{Name: "egress_port", Short: "p", Type: TypeList, Usage: "remote ports or ranges as 8080-8085, only flows to these"},
		{Name: "ingress_port", Short: "n", Type: TypeList, Usage: "local ports or ranges, only flows to these"},
		{Name: "ipprotocol", Short: "P", Type: TypeString, Usage: "TCP, UDP or ICMP, only this protocol (default: all)", OneOf: []string{"TCP", "UDP", "ICMP"}},
	}
}

// TargetFlagsNamed returns those flags of the target language that a kind has, in its order. src_port is one that TargetFlags does not hold.
func TargetFlagsNamed(names ...string) []drill.AttackFlag {
	all := append(TargetFlags(), drill.AttackFlag{Name: "src_port", Short: "s", Type: TypeList,
		Usage: "local ports or ranges, only packets from these; together with remote ports, only those that match both"})
	flags := make([]drill.AttackFlag, 0, len(names))
	for _, name := range names {
		flags = append(flags, all[slices.IndexFunc(all, func(f drill.AttackFlag) bool { return f.Name == name })])
	}
	return flags
}

// ParseTargets reads the flags of TargetFlags. Flags that a kind does not have are simply not given.
func ParseTargets(v Values) (Targets, error) {
	var t Targets
	for _, item := range v.List("ipaddress") {
		if err := t.addAddress(item); err != nil {
			return Targets{}, err
		}
	}
	for _, item := range v.List("hostname") {
		if err := t.addName(item); err != nil {
			return Targets{}, err
		}
	}
	t.Device = v.Text("device", "")
	var err error
	if t.Scope, err = ParseScope(v); err != nil {
		return Targets{}, err
	}
	if t.EgressPorts, err = ParsePorts(v.List("egress_port")); err != nil {
		return Targets{}, fmt.Errorf("--egress_port: %w", err)
	}
	if t.IngressPorts, err = ParsePorts(v.List("ingress_port")); err != nil {
		return Targets{}, fmt.Errorf("--ingress_port: %w", err)
	}
	if t.SourcePorts, err = ParsePorts(v.List("src_port")); err != nil {
		return Targets{}, fmt.Errorf("--src_port: %w", err)
	}
	switch text := strings.ToLower(v.Text("ipprotocol", "")); Protocol(text) {
	case "", ProtocolTCP, ProtocolUDP, ProtocolICMP:
		t.Protocol = Protocol(text)
	default:
		return Targets{}, fmt.Errorf("--ipprotocol=%s: write TCP, UDP or ICMP", text)
	}
	if t.Protocol == ProtocolICMP && len(t.EgressPorts)+len(t.IngressPorts)+len(t.SourcePorts) > 0 {
		return Targets{}, fmt.Errorf("ICMP has no ports: leave out --ipprotocol or the ports")
	}
	return t, nil
}

func (t *Targets) addAddress(item string) error {
	text, spare := strings.CutPrefix(item, "^")
	prefix, err := ParsePrefix(text)
	if err != nil {
		return fmt.Errorf("--ipaddress: %w", err)
	}
	t.add(prefix, spare)
	return nil
}

func (t *Targets) add(prefix netip.Prefix, spare bool) {
	if spare {
		t.Spare = append(t.Spare, prefix)
	} else {
		t.Hit = append(t.Hit, prefix)
	}
}

func (t *Targets) addName(item string) error {
	text, spare := strings.CutPrefix(item, "^")
	text = strings.TrimSpace(text)
	// An address in the place of a name needs no resolver; jobs are often written so.
	if addr, err := netip.ParseAddr(text); err == nil {
		prefix, err := ParsePrefix(addr.String())
		if err != nil {
			return fmt.Errorf("--hostname: %w", err)
		}
		t.add(prefix, spare)
		return nil
	}
	if err := checkName(text); err != nil {
		return fmt.Errorf("--hostname: %w", err)
	}
	if spare {
		t.SpareNames = append(t.SpareNames, text)
	} else {
		t.HitNames = append(t.HitNames, text)
	}
	return nil
}

// nameMax is the longest host name that DNS can carry.
const nameMax = 253

func checkName(name string) error {
	bare := strings.TrimSuffix(name, ".")
	if bare == "" || len(bare) > nameMax {
		return fmt.Errorf("%q is not a host name", name)
	}
	for label := range strings.SplitSeq(bare, ".") {
		if label == "" || len(label) > 63 {
			return fmt.Errorf("%q is not a host name", name)
		}
	}
	if at := strings.IndexFunc(bare, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}); at >= 0 {
		return fmt.Errorf("%q is not a host name: look at %q", name, bare[at:])
	}
	return nil
}

// ParsePrefix reads an address or a CIDR. An address becomes a prefix of one address; IPv4 in IPv6 becomes IPv4; host bits are cleared.
func ParsePrefix(text string) (netip.Prefix, error) {
	text = strings.TrimSpace(text)
	if strings.Contains(text, "%") {
		return netip.Prefix{}, fmt.Errorf("%q names a zone; leave it out and use --device", text)
	}
	if strings.Contains(text, "/") {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return netip.Prefix{}, fmt.Errorf("%q is not an address or CIDR, as 10.0.0.0/8 or 2001:db8::/32", text)
		}
		if prefix.Addr().Is4In6() {
			if prefix.Bits() < 96 {
				return netip.Prefix{}, fmt.Errorf("%q mixes IPv4 and IPv6", text)
			}
			prefix = netip.PrefixFrom(prefix.Addr().Unmap(), prefix.Bits()-96)
		}
		return prefix.Masked(), nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not an address or CIDR, as 192.0.2.7 or 10.0.0.0/8", text)
	}
	addr = addr.Unmap()
	return netip.PrefixFrom(addr, addr.BitLen()), nil
}

// ParsePorts reads ports and ranges and merges what overlaps or touches; the result is sorted.
func ParsePorts(items []string) ([]PortRange, error) {
	var ranges []PortRange
	for _, item := range items {
		first, last, isRange := strings.Cut(item, "-")
		if !isRange {
			last = first
		}
		low, err1 := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
		high, err2 := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
		if err1 != nil || err2 != nil || low == 0 || low > high {
			return nil, fmt.Errorf("%q is not a port or range, as 443 or 8080-8085", item)
		}
		ranges = append(ranges, PortRange{First: uint16(low), Last: uint16(high)})
	}
	slices.SortFunc(ranges, func(a, b PortRange) int { return cmp.Compare(a.First, b.First) })
	var merged []PortRange
	for _, r := range ranges {
		if n := len(merged); n > 0 && int(r.First) <= int(merged[n-1].Last)+1 {
			merged[n-1].Last = max(merged[n-1].Last, r.Last)
			continue
		}
		merged = append(merged, r)
	}
	return merged, nil
}

// Names returns every name that must be resolved, sorted.
func (t Targets) Names() []string {
	names := slices.Concat(t.HitNames, t.SpareNames)
	slices.Sort(names)
	return slices.Compact(names)
}

// All reports whether no target is named: then everything is hit that is not spared.
func (t Targets) All() bool { return len(t.Hit) == 0 && len(t.HitNames) == 0 }

// Named is an address or CIDR and the host name that it came from, if any.
type Named struct {
	Prefix netip.Prefix
	Name   string
}

// String prints the address alone, or the CIDR.
func (n Named) String() string { return PrefixString(n.Prefix) }

// PrefixString prints a prefix of one address as that address.
func PrefixString(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// Resolve joins the addresses given with those that the names lead to, each once, in the order given. What is both hit and spared is
// spared.
func (t Targets) Resolve(names map[string]Resolution) (hit, spare []Named) {
	spare = join(t.Spare, t.SpareNames, names, nil)
	hit = join(t.Hit, t.HitNames, names, NewCover(prefixesOf(spare)))
	return hit, spare
}

func join(given []netip.Prefix, names []string, resolved map[string]Resolution, without *Cover) []Named {
	seen := newSeen(len(given))
	joined := make([]Named, 0, len(given))
	take := func(prefix netip.Prefix, name string) {
		if !without.Holds(prefix) && seen.first(prefix) {
			joined = append(joined, Named{Prefix: prefix, Name: name})
		}
	}
	for _, prefix := range given {
		take(prefix, "")
	}
	for _, name := range names {
		for _, addr := range resolved[name].Addresses {
			addr = addr.Unmap()
			take(netip.PrefixFrom(addr, addr.BitLen()), name)
		}
	}
	return joined
}

// seen remembers prefixes. Single IPv4 addresses have a map of their own: among 100,000 of them that is several times faster.
type seen struct {
	single4 map[uint32]struct{}
	others  map[netip.Prefix]struct{}
}

func newSeen(size int) seen {
	return seen{single4: make(map[uint32]struct{}, size), others: map[netip.Prefix]struct{}{}}
}

// first reports whether prefix was not seen before.
func (s seen) first(prefix netip.Prefix) bool {
	if addr := prefix.Addr(); addr.Is4() && prefix.IsSingleIP() {
		raw, before := addr.As4(), len(s.single4)
		s.single4[binary.BigEndian.Uint32(raw[:])] = struct{}{}
		return len(s.single4) > before
	}
	before := len(s.others)
	s.others[prefix] = struct{}{}
	return len(s.others) > before
}

func prefixesOf(named []Named) []netip.Prefix {
	prefixes := make([]netip.Prefix, len(named))
	for i, n := range named {
		prefixes[i] = n.Prefix
	}
	return prefixes
}

// Cover answers whether an address or CIDR lies within a set of others. A nil Cover holds nothing.
type Cover struct {
	single map[netip.Addr]bool
	nets   []netip.Prefix // sorted, none within another
}

// NewCover makes a cover of prefixes.
func NewCover(prefixes []netip.Prefix) *Cover {
	cover := &Cover{single: make(map[netip.Addr]bool, len(prefixes))}
	var nets []netip.Prefix
	for _, p := range prefixes {
		if p.IsSingleIP() {
			cover.single[p.Addr()] = true
		} else {
			nets = append(nets, p)
		}
	}
	cover.nets = MergeNets(nets)
	return cover
}

// Holds reports whether all of prefix is covered by one member.
func (c *Cover) Holds(prefix netip.Prefix) bool {
	if c == nil {
		return false
	}
	if prefix.IsSingleIP() && c.single[prefix.Addr()] {
		return true
	}
	at, found := slices.BinarySearchFunc(c.nets, prefix.Addr(), func(n netip.Prefix, a netip.Addr) int { return n.Addr().Compare(a) })
	if !found {
		at--
	}
	return at >= 0 && c.nets[at].Contains(prefix.Addr()) && c.nets[at].Bits() <= prefix.Bits()
}

// MergeNets sorts CIDRs and leaves out those that lie within another, because the kernel refuses a set with overlaps as a whole.
func MergeNets(nets []netip.Prefix) []netip.Prefix {
	sorted := slices.Clone(nets)
	slices.SortFunc(sorted, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	var merged []netip.Prefix
	for _, p := range sorted {
		if n := len(merged); n > 0 && merged[n-1].Overlaps(p) {
			continue
		}
		merged = append(merged, p)
	}
	return merged
}
