package traffic

import (
	"encoding/binary"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
)

// sinkMark is the packet mark of what was cut on its way out and is on its way to be dropped on lo. All attacks share it, so that two of
// them do not send the same packet around twice.
const sinkMark = attack.OwnMark + 1

// The names of sets, chains and counters in our table.
const (
	setAlive      = "alive"
	setHit4       = "hit4"
	setHit6       = "hit6"
	setHitNets4   = "hit_nets4"
	setHitNets6   = "hit_nets6"
	setSpare4     = "spare4"
	setSpare6     = "spare6"
	setSpareNets4 = "spare_nets4"
	setSpareNets6 = "spare_nets6"
	setRemote     = "remote_ports"
	setLocal      = "local_ports"
	setSource     = "source_ports"

	chainOut      = "out"
	chainOutHit   = "out_hit"
	chainOutSink  = "out_sink"
	chainIn       = "in"
	chainInHit    = "in_hit"
	chainInDrop   = "in_drop"
	chainThru     = "thru"
	chainThruHit  = "thru_hit"
	chainThruDrop = "thru_drop"
	chainLocal    = "local"     // what comes in for a socket of this host: only where the attack is narrower than that
	chainOutScope = "out_scope" // whose is it?
	chainInScope  = "in_scope"

	counterEgress  = "egress"
	counterIngress = "ingress"
	counterForward = "forward"
)

// Priorities: egress before destination NAT, so that a service VIP is seen as the application wrote it; ingress before anything else.
const (
	priorityOut = -150
	priorityIn  = -300
)

// seen returns the name of the set that holds who was hit, with a counter each. The kernel fills it, so reading the counters costs as
// much as there were addresses hit, not as there are targets.
func seen(direction string, f family) string { return "seen_" + direction + f.suffix }

// directions are those of seen.
func directions() [3]string { return [3]string{"out", "in", "thru"} }

// features are what a kernel may lack.
type features struct {
	owner  bool // table flag owner: Linux 5.12
	socket bool // expression socket
	fib    bool // expression fib
	queue  bool // expression queue; without it there is the older target
}

// family is IPv4 or IPv6 as a packet has it.
type family struct {
	proto        byte
	suffix       string
	source, dest uint32 // offsets in the network header
	size         uint32
	loopback     []byte
}

func families() [2]family {
	return [2]family{
		{proto: unix.NFPROTO_IPV4, suffix: "4", source: 12, dest: 16, size: 4, loopback: []byte{127, 0, 0, 1}},
		{proto: unix.NFPROTO_IPV6, suffix: "6", source: 8, dest: 24, size: 16, loopback: []byte{15: 1}},
	}
}

// rule is one nftables rule of a chain.
type rule struct {
	chain string
	exprs []expr.Any
}

// layout makes all rules of an attack. It is pure; order within a chain is the order of the slice.
type layout struct {
	cut      *cut
	features features
	rules    []rule
	hasSet   map[string]bool
}

func (l *layout) add(chain string, parts ...[]expr.Any) {
	var exprs []expr.Any
	for _, part := range parts {
		exprs = append(exprs, part...)
	}
	l.rules = append(l.rules, rule{chain: chain, exprs: exprs})
}

// build lists the rules. Chain in comes last everywhere: what the output chain sent to lo must not outlive the chain that drops it there.
func (l *layout) build() []rule {
	l.outgoing()
	if !l.cut.scoped() { // what is routed belongs to no socket of ours
		l.routed()
	}
	l.incoming()
	return l.rules
}

// hit returns the families that can be hit at all. Rules for the other one would only cost time.
func (l *layout) hit() []family {
	var can []family
	for _, f := range families() {
		if l.cut.targets.All() || l.hasSet["hit"+f.suffix] || l.hasSet["hit_nets"+f.suffix] {
			can = append(can, f)
		}
	}
	return can
}

func (l *layout) gate(chain string) {
	if !l.cut.hooks.NoGate {
		l.add(chain, metaInto(expr.MetaKeyNFPROTO), lookup(setAlive, true), accept())
	}
}

func (l *layout) outgoing() {
	if l.cut.effect.ingressOnly() && !l.cut.scoped() { // a scope's flows are learnt from what it sends
		return
	}
	l.gate(chainOut)
	l.add(chainOut, metaIs(expr.MetaKeyMARK, native(sinkMark)), accept()) // another attack cut it already
	l.device(chainOut, expr.MetaKeyOIFNAME)
	l.targets(chainOut, chainOutHit, expr.MetaKeyOIFNAME, func(f family) uint32 { return f.dest })

	l.add(chainOutHit, metaIs(expr.MetaKeyMARK, native(attack.OwnMark)), accept())
	l.vital(chainOutHit)
	l.refusals(chainOutHit)
	for _, c := range l.cut.control {
		l.add(chainOutHit, addressIs(c.Remote.Addr().AsSlice(), false), protocolIs(unix.IPPROTO_TCP), portIs(true, c.Local.Port()), accept())
	}
	if !l.cut.hooks.NoSpare {
		l.spares(chainOutHit, false)
	}
	if l.cut.scoped() {
		l.narrow(chainOutHit, chainOutScope, false)
		l.scopeOut()
	} else {
		l.narrow(chainOutHit, chainOutSink, false)
	}

	if l.cut.effect.ingressOnly() {
		l.add(chainOutSink, accept())
		return
	}
	l.admit(chainOutSink)
	l.add(chainOutSink, count(counterEgress))
	l.addSeen(chainOutSink, "out", false)
	if l.cut.hooks.NoSpare {
		l.spares(chainOutSink, false)
	}
	if l.cut.hooks.PlainDrop || l.cut.hooks.NoneOfThem || l.cut.effect.Refuse != "" || l.cut.effect.treats() {
		l.end(chainOutSink)
		return
	}
	l.sink()
}

// sink makes a packet vanish as if it had left: see the package's comment.
func (l *layout) sink() {
	l.add(chainOutSink, setMark(sinkMark))
	// Should the drop on lo ever be missing, a datagram to port 0 still reaches no service of this host.
	if !l.cut.hooks.DropFirst {
		l.add(chainOutSink, protocolIs(unix.IPPROTO_UDP), writePort(0))
	}
	for _, f := range l.hit() {
		l.add(chainOutSink, familyIs(f), writeDestination(f))
	}
}

func (l *layout) incoming() {
	// Before the gate: a packet that was marked a moment ago must not arrive at a local service because the gate has shut meanwhile.
	l.add(chainIn, metaIs(expr.MetaKeyIIFNAME, deviceName("lo")), metaIs(expr.MetaKeyMARK, native(sinkMark)), drop())
	if l.cut.effect.EgressOnly && !l.throughVIP() {
		return
	}
	in := chainIn
	if l.cut.scoped() {
		in = chainLocal
	}
	l.gate(in)
	if l.throughVIP() {
		l.virtual()
	}
	if l.cut.effect.EgressOnly {
		return
	}
	if l.cut.effect.Refuse != "" {
		// What we refuse to our own senders comes to them through lo, in the name of the target.
		l.add(in, metaIs(expr.MetaKeyIIFNAME, deviceName("lo")), accept())
	}
	l.device(in, expr.MetaKeyIIFNAME)
	l.targets(in, chainInHit, expr.MetaKeyIIFNAME, func(f family) uint32 { return f.source })

	if l.features.socket {
		for _, protocol := range []byte{unix.IPPROTO_UDP, unix.IPPROTO_TCP} {
			l.add(chainInHit, protocolIs(protocol), socketMarkIs(attack.OwnMark), accept())
		}
	}
	l.vital(chainInHit)
	for _, c := range l.cut.control {
		l.add(chainInHit, addressIs(c.Remote.Addr().AsSlice(), true), protocolIs(unix.IPPROTO_TCP), portIs(false, c.Local.Port()), accept())
	}
	if !l.cut.hooks.NoSpare {
		l.spares(chainInHit, true)
		if l.cut.targets.All() {
			l.spares(chainInHit, false) // routed through this host to a spare
		}
	}
	if l.cut.scoped() {
		l.narrow(chainInHit, chainInScope, true)
		l.scopeIn()
	} else {
		l.narrow(chainInHit, chainInDrop, true)
	}

	l.admit(chainInDrop)
	l.add(chainInDrop, count(counterIngress))
	l.addSeen(chainInDrop, "in", true)
	l.end(chainInDrop)
}

// throughVIP says whether virtual has rules.
func (l *layout) throughVIP() bool {
	return l.features.fib && l.cut.targets.Device == "" && !l.cut.targets.All() && !l.cut.scoped() && !l.cut.effect.treats()
}

// virtual cuts what a container sends to a target that destination NAT turns into something else later: a service VIP. What is for this
// host itself is left alone, or a CIDR that holds our own address would cut everything.
func (l *layout) virtual() {
	for _, f := range families() {
		for _, set := range []string{setHit4, setHit6, setHitNets4, setHitNets6} {
			if l.hasSet[set] && set[len(set)-1:] == f.suffix {
				l.add(chainIn, familyIs(f), loadAddress(f, f.dest), lookup(set, false), notLocal(), jumpTo(chainThruHit))
			}
		}
	}
}

func (l *layout) routed() {
	if l.cut.effect.ingressOnly() {
		return // what is routed comes in first
	}
	l.gate(chainThru)
	source := func(f family) uint32 { return f.source }
	dest := func(f family) uint32 { return f.dest }
	entry := chainThru
	for _, offset := range []func(family) uint32{dest, source} {
		if d := l.cut.targets.Device; d == "" {
			l.targets(entry, chainThruHit, 0, offset)
		} else {
			for _, key := range []expr.MetaKey{expr.MetaKeyIIFNAME, expr.MetaKeyOIFNAME} {
				l.targets(entry, chainThruHit, 0, offset, metaIs(key, deviceName(d)))
			}
		}
		if l.cut.targets.All() || l.cut.effect.EgressOnly {
			break // the first one has taken everything, or all that goes to a target
		}
	}
	l.vital(chainThruHit)
	l.spares(chainThruHit, false)
	l.spares(chainThruHit, true)
	l.narrow(chainThruHit, chainThruDrop, false)
	l.admit(chainThruDrop)
	l.add(chainThruDrop, count(counterForward))
	l.addSeenRouted()
	l.end(chainThruDrop)
}

// device leaves alone what does not go through the device named.
func (l *layout) device(chain string, key expr.MetaKey) {
	if d := l.cut.targets.Device; d != "" {
		l.add(chain, metaIsNot(key, deviceName(d)), accept())
	}
}

// targets sends what is aimed at a target on to another chain. Loopback is never "everything", and never part of a CIDR.
func (l *layout) targets(chain, to string, loopback expr.MetaKey, offset func(family) uint32, when ...[]expr.Any) {
	match := func(parts ...[]expr.Any) { l.add(chain, append(append([][]expr.Any{}, when...), parts...)...) }
	if !l.cut.targets.All() {
		for _, f := range families() {
			if set := "hit" + f.suffix; l.hasSet[set] {
				match(familyIs(f), loadAddress(f, offset(f)), lookup(set, false), jumpTo(to))
			}
		}
	}
	all := l.cut.targets.All()
	if loopback != 0 && (all || l.hasSet[setHitNets4] || l.hasSet[setHitNets6]) {
		l.add(chain, metaIs(loopback, deviceName("lo")), accept())
	}
	if all {
		match(jumpTo(to))
		return
	}
	for _, f := range families() {
		if set := "hit_nets" + f.suffix; l.hasSet[set] {
			match(familyIs(f), loadAddress(f, offset(f)), lookup(set, false), jumpTo(to))
		}
	}
}

// spares lets pass what comes from (source) or goes to a spare.
func (l *layout) spares(chain string, source bool) {
	for _, f := range l.hit() {
		offset := f.dest
		if source {
			offset = f.source
		}
		for _, set := range []string{"spare" + f.suffix, "spare_nets" + f.suffix} {
			if l.hasSet[set] {
				l.add(chain, familyIs(f), loadAddress(f, offset), lookup(set, false), accept())
			}
		}
	}
}

// vital lets pass what keeps the link itself alive. Without neighbour discovery a sender would soon be told that the host is
// unreachable, and without DHCP the host would lose its address: both are other disasters than the one asked for.
func (l *layout) vital(chain string) {
	if can := l.hit(); can[len(can)-1].proto != unix.NFPROTO_IPV6 {
		return // no target is IPv6, and "everything" is both
	}
	for _, types := range [][2]byte{{130, 137}, {143, 143}} { // multicast listener and neighbour discovery
		l.add(chain, protocolIs(unix.IPPROTO_ICMPV6), loadTransport(0, 1), between(types[0:1], types[1:2]), accept())
	}
	if !l.cut.targets.All() {
		return
	}
	for _, ports := range [][2]uint16{{67, 68}, {546, 547}} { // DHCP and DHCPv6
		first, last := binaryutil.BigEndian.PutUint16(ports[0]), binaryutil.BigEndian.PutUint16(ports[1])
		l.add(chain, protocolIs(unix.IPPROTO_UDP), loadPort(true), between(first, last), loadPort(false), between(first, last), accept())
	}
}

// narrow sends on what has the protocol and ports asked for, and lets the rest pass. incoming says which end is the remote one: for
// what comes in the source is.
func (l *layout) narrow(chain, to string, incoming bool) {
	t := l.cut.targets
	ported := l.hasSet[setRemote] || l.hasSet[setLocal] || l.hasSet[setSource]
	if t.Protocol == "" && !ported {
		l.add(chain, jumpTo(to))
		return
	}
	protocols := map[attack.Protocol][]byte{
		attack.ProtocolTCP:  {unix.IPPROTO_TCP},
		attack.ProtocolUDP:  {unix.IPPROTO_UDP},
		attack.ProtocolICMP: {unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6},
		"":                  {unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, unix.IPPROTO_DCCP},
	}[t.Protocol]
	for _, protocol := range protocols {
		if !ported {
			l.add(chain, protocolIs(protocol), jumpTo(to))
		}
		if l.hasSet[setSource] {
			only := append(loadPort(!incoming), lookup(setSource, false)...)
			if l.hasSet[setRemote] {
				only = append(append(only, loadPort(incoming)...), lookup(setRemote, false)...)
			}
			l.add(chain, protocolIs(protocol), only, jumpTo(to))
			continue
		}
		if l.hasSet[setRemote] {
			l.add(chain, protocolIs(protocol), loadPort(incoming), lookup(setRemote, false), jumpTo(to))
		}
		if l.hasSet[setLocal] {
			l.add(chain, protocolIs(protocol), loadPort(!incoming), lookup(setLocal, false), jumpTo(to))
		}
	}
}

func (l *layout) addSeen(chain, direction string, source bool) {
	for _, f := range l.hit() {
		offset := f.dest
		if source {
			offset = f.source
		}
		l.add(chain, familyIs(f), loadAddress(f, offset), []expr.Any{&expr.Dynset{SrcRegKey: 1, SetName: seen(direction, f),
			Operation: uint32(unix.NFT_DYNSET_OP_UPDATE), Exprs: []expr.Any{&expr.Counter{}}}})
	}
}

// addSeenRouted counts a routed packet for the end that is a target, for the one it goes to when both are.
func (l *layout) addSeenRouted() {
	for _, f := range l.hit() {
		var sets []string
		for _, set := range []string{"hit" + f.suffix, "hit_nets" + f.suffix} {
			if l.hasSet[set] {
				sets = append(sets, set)
			}
		}
		update := []expr.Any{&expr.Dynset{SrcRegKey: 1, SetName: seen("thru", f), Operation: uint32(unix.NFT_DYNSET_OP_UPDATE), Exprs: []expr.Any{&expr.Counter{}}}}
		if l.cut.targets.All() {
			l.add(chainThruDrop, familyIs(f), loadAddress(f, f.dest), update)
			continue
		}
		notTo := append(familyIs(f), loadAddress(f, f.dest)...)
		for _, set := range sets {
			l.add(chainThruDrop, familyIs(f), loadAddress(f, f.dest), lookup(set, false), update)
			notTo = append(notTo, lookup(set, true)...)
		}
		for _, set := range sets {
			l.add(chainThruDrop, notTo, loadAddress(f, f.source), lookup(set, false), update)
		}
	}
}

// The small change of rules. Each returns expressions that work on register 1.

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

func native64(v uint64) []byte { return binary.NativeEndian.AppendUint64(nil, v) }

func deviceName(name string) []byte {
	return append([]byte(name), make([]byte, unix.IFNAMSIZ-len(name))...)
}

func metaInto(key expr.MetaKey) []expr.Any { return []expr.Any{&expr.Meta{Key: key, Register: 1}} }

func metaIs(key expr.MetaKey, value []byte) []expr.Any {
	return append(metaInto(key), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: value})
}

func metaIsNot(key expr.MetaKey, value []byte) []expr.Any {
	return append(metaInto(key), &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: value})
}

func familyIs(f family) []expr.Any { return metaIs(expr.MetaKeyNFPROTO, []byte{f.proto}) }

func protocolIs(protocol byte) []expr.Any { return metaIs(expr.MetaKeyL4PROTO, []byte{protocol}) }

func loadAddress(f family, offset uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: f.size}}
}

func loadTransport(offset, size uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: offset, Len: size}}
}

func loadPort(source bool) []expr.Any {
	if source {
		return loadTransport(0, 2)
	}
	return loadTransport(2, 2)
}

func portIs(source bool, port uint16) []expr.Any {
	return append(loadPort(source), &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)})
}

func addressIs(address []byte, source bool) []expr.Any {
	f := families()[0]
	if len(address) == 16 {
		f = families()[1]
	}
	offset := f.dest
	if source {
		offset = f.source
	}
	exprs := append(familyIs(f), loadAddress(f, offset)...)
	return append(exprs, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: address})
}

func between(first, last []byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: first}, &expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: last}}
}

func lookup(set string, invert bool) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: set, Invert: invert}}
}

func socketMarkIs(mark uint32) []expr.Any {
	return []expr.Any{&expr.Socket{Key: expr.SocketKeyMark, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: native(mark)}}
}

// notLocal holds for addresses that are not this host's own.
func notLocal() []expr.Any {
	return []expr.Any{&expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native(unix.RTN_LOCAL)}}
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

func drop() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}} }

func jumpTo(chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: chain}}
}

func count(counter string) []expr.Any {
	return []expr.Any{&expr.Objref{Type: int(nftables.ObjTypeCounter), Name: counter}}
}

func setMark(mark uint32) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: 1, Data: native(mark)}, &expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1}}
}

func writePort(port uint16) []expr.Any {
	return []expr.Any{&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}}
}

func writeDestination(f family) []expr.Any {
	write := &expr.Payload{OperationType: expr.PayloadWrite, SourceRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: f.dest, Len: f.size}
	if f.proto == unix.NFPROTO_IPV4 {
		write.CsumType, write.CsumOffset = expr.CsumTypeInet, 10 // the header's own checksum, or it is dropped as broken and not by our rule
	}
	return []expr.Any{&expr.Immediate{Register: 1, Data: f.loopback}, write}
}
