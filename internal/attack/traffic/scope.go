package traffic

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"firedrill/internal/attack"
)

// Where an attack is narrower than its host, whose a packet is decides last of all, in chains of its own:
//
//	output ... ──▶ out_scope: its socket is the scope's? ──▶ remember the flow ──────────────▶ hit
//	                          somebody else's? ──▶ pass                                       ▲
//	                          nobody's: a known flow, or a port on which the scope waits? ────┘
//	input  ... ──▶ in_scope:  the same questions, asked of where it goes
//
// What comes in is looked at in the input hook, not in prerouting: only there the kernel has found the socket of an established flow.
// Conntrack is not needed: switching it on would change how the whole host treats its packets, and cost all of it.

const (
	setPorts = "scope_ports" // on which the scope's sockets wait for whoever comes: protocol and local port

	// flowTimeout is for how long a flow of the scope is known after its last packet: longer than the kernel tries to send what a process
	// left behind when it closed its socket, at the usual spacing of tries.
	flowTimeout = 5 * time.Minute
	// socketsEvery is how often the waiting sockets are looked for: one that a process opens meanwhile is reached for so long.
	socketsEvery = 250 * time.Millisecond
)

// setFlows returns the name of the set of flows: protocol, remote address, remote port, local port.
func setFlows(f family) string { return "scope_flows" + f.suffix }

// setHeld returns the name of the set of flows that processes brought along.
func setHeld(f family) string { return "scope_held" + f.suffix }

// scopeOut sends on what the scope's sockets send.
func (l *layout) scopeOut() {
	is, isNot := l.cut.owner()
	for _, f := range l.hit() {
		for _, protocol := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
			// In a rule of its own: a full set ends a rule.
			for _, one := range is {
				l.add(chainOutScope, one, familyIs(f), protocolIs(protocol), loadFlow(f, false), []expr.Any{&expr.Dynset{SrcRegKey: unix.NFT_REG32_00,
					SetName: setFlows(f), Operation: uint32(unix.NFT_DYNSET_OP_UPDATE), Timeout: flowTimeout}})
			}
		}
	}
	for _, one := range is {
		l.add(chainOutScope, one, jumpTo(chainOutSink))
	}
	if isNot != nil {
		l.add(chainOutScope, isNot, accept())
	}
	l.known(chainOutScope, chainOutSink, false)
	l.add(chainOutScope, accept())
}

// scopeIn sends on what comes in for the scope's sockets.
func (l *layout) scopeIn() {
	if l.cut.hooks.NoReplies {
		l.add(chainInScope, accept())
		return
	}
	is, isNot := l.cut.owner()
	for _, one := range is {
		l.add(chainInScope, one, jumpTo(chainInDrop))
	}
	if isNot != nil {
		l.add(chainInScope, isNot, accept())
	}
	l.known(chainInScope, chainInDrop, true)
	l.add(chainInScope, accept())
}

// known sends on what belongs to a known flow, or to a port on which the scope waits.
func (l *layout) known(chain, to string, incoming bool) {
	local := uint32(0)
	if incoming {
		local = 2
	}
	for _, protocol := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		for _, f := range l.hit() {
			l.add(chain, familyIs(f), protocolIs(protocol), loadFlow(f, incoming),
				[]expr.Any{&expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: setFlows(f)}}, jumpTo(to))
			if l.cut.herd != nil {
				l.add(chain, familyIs(f), protocolIs(protocol), loadFlow(f, incoming),
					[]expr.Any{&expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: setHeld(f)}}, jumpTo(to))
			}
		}
		l.add(chain, protocolIs(protocol), []expr.Any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG32_00},
			&expr.Payload{DestRegister: unix.NFT_REG32_01, Base: expr.PayloadBaseTransportHeader, Offset: local, Len: 2},
			&expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: setPorts}}, jumpTo(to))
	}
}

// loadFlow puts a flow into the registers from the first 32-bit one on. incoming says which end is the remote one.
func loadFlow(f family, incoming bool) []expr.Any {
	address, remote, local := f.dest, uint32(2), uint32(0)
	if incoming {
		address, remote, local = f.source, 0, 2
	}
	ports := unix.NFT_REG32_01 + f.size/4
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: unix.NFT_REG32_00},
		&expr.Payload{DestRegister: unix.NFT_REG32_01, Base: expr.PayloadBaseNetworkHeader, Offset: address, Len: f.size},
		&expr.Payload{DestRegister: ports, Base: expr.PayloadBaseTransportHeader, Offset: remote, Len: 2},
		&expr.Payload{DestRegister: ports + 1, Base: expr.PayloadBaseTransportHeader, Offset: local, Len: 2},
	}
}

// scopeSets are the sets that a narrower attack needs besides.
func (c *cut) scopeSets(table *nftables.Table) []*nftables.Set {
	if !c.scoped() {
		return nil
	}
	port, protocol := nftables.TypeInetService, nftables.TypeInetProto
	sets := []*nftables.Set{{Table: table, Name: setPorts, KeyType: nftables.MustConcatSetType(protocol, port), Concatenation: true}}
	for _, f := range families() {
		sets = append(sets, &nftables.Set{Table: table, Name: setFlows(f), KeyType: nftables.MustConcatSetType(protocol, keyType(f), port, port),
			Concatenation: true, Dynamic: true, HasTimeout: true})
		if c.herd != nil {
			sets = append(sets, &nftables.Set{Table: table, Name: setHeld(f), KeyType: nftables.MustConcatSetType(protocol, keyType(f), port, port), Concatenation: true})
		}
	}
	return sets
}

// port is where a socket waits for whoever comes.
type port struct {
	protocol byte
	number   uint16
}

func (p port) element() nftables.SetElement {
	key := make([]byte, 8) // each part on four bytes
	key[0] = p.protocol
	binary.BigEndian.PutUint16(key[4:], p.number)
	return nftables.SetElement{Key: key}
}

// addHeld puts flows that processes brought along into a new table.
func (t *table) addHeld(flows []socket) {
	for _, f := range families() {
		var elements []nftables.SetElement
		for _, s := range flows {
			remote := s.remote.Addr().AsSlice()
			if len(remote) != int(f.size) {
				continue
			}
			key := append([]byte{s.protocol, 0, 0, 0}, remote...)
			for _, number := range []uint16{s.remote.Port(), s.local.Port()} {
				key = append(binary.BigEndian.AppendUint16(key, number), 0, 0)
			}
			elements = append(elements, nftables.SetElement{Key: key})
		}
		for part := range slices.Chunk(elements, chunkMax/4) { // their keys are longer than those of addresses
			t.conn.SetAddElements(t.sets[setHeld(f)], part)
		}
	}
}

// addPorts puts the ports into a new table.
func (t *table) addPorts(ports map[port]bool) {
	if len(ports) == 0 {
		return
	}
	elements := make([]nftables.SetElement, 0, len(ports))
	for p := range ports {
		elements = append(elements, p.element())
	}
	t.conn.SetAddElements(t.sets[setPorts], elements)
}

// followSockets looks for the scope's sockets again and again until ctx ends.
func (c *cut) followSockets(ctx context.Context) error {
	tick := time.NewTicker(socketsEvery)
	defer tick.Stop()
	for {
		if err := c.renewPorts(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// renewPorts makes the set of ports what it should be now. Ports that are not waited on any more leave it: somebody else may take them.
func (c *cut) renewPorts() error {
	now, err := c.waitingPorts()
	if err != nil {
		return err
	}
	var gone, fresh []nftables.SetElement
	for p := range c.ports {
		if !now[p] {
			gone = append(gone, p.element())
		}
	}
	for p := range now {
		if !c.ports[p] {
			fresh = append(fresh, p.element())
		}
	}
	c.ports = now
	return c.getTable().exchange(setPorts, gone, fresh)
}

// exchange deletes and adds elements in one batch.
func (t *table) exchange(set string, gone, fresh []nftables.SetElement) error {
	if len(gone)+len(fresh) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn == nil {
		return attack.ErrLapsed
	}
	t.conn.SetDeleteElements(t.sets[set], gone)
	t.conn.SetAddElements(t.sets[set], fresh)
	if err := t.conn.Flush(); err != nil {
		return fmt.Errorf("traffic: change %s: %w", set, err)
	}
	return nil
}
