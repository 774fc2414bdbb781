package traffic

import (
	"encoding/binary"
	"iter"
	"net/netip"

	"github.com/google/nftables"

	"firedrill/internal/attack"
)

// chunk is a part of a set's elements, small enough for one message to an unprivileged socket.
type chunk struct {
	set      string
	elements []nftables.SetElement
}

// content is what a set holds at the start.
type content struct {
	key      nftables.SetDatatype
	interval bool
	elements func(yield func(nftables.SetElement) bool)
	pairs    bool // elements come as begin and end and must stay together
	count    int
	grows    bool
}

func (c content) set(table *nftables.Table, name string) *nftables.Set {
	set := &nftables.Set{Table: table, Name: name, KeyType: c.key, Interval: c.interval}
	if !c.interval && !c.grows {
		set.Size = uint32(c.count) // known for good: the kernel takes a hash table that need not grow
	}
	return set
}

// load is everything that an attack puts into its sets, in the order in which it is put there.
type load struct {
	names []string
	sets  map[string]content
}

func newLoad(c *cut) *load {
	l := &load{sets: map[string]content{}}
	// Names may lead to more addresses later, so their sets must exist from the start.
	l.addresses("spare", c.spare, len(c.targets.SpareNames) > 0)
	l.ports(setRemote, c.targets.EgressPorts)
	l.ports(setLocal, c.targets.IngressPorts)
	l.ports(setSource, c.targets.SourcePorts)
	l.addresses("hit", c.hit, len(c.targets.HitNames) > 0)
	return l
}

func (l *load) put(name string, c content) {
	l.names = append(l.names, name)
	l.sets[name] = c
}

func (l *load) addresses(what string, named []attack.Named, grows bool) {
	single, nets := split(named)
	for _, f := range families() {
		var addrs []netip.Addr
		for _, addr := range single {
			if addr.BitLen() == int(f.size)*8 {
				addrs = append(addrs, addr)
			}
		}
		if len(addrs) > 0 || grows {
			l.put(what+f.suffix, content{key: keyType(f), count: len(addrs), grows: grows, elements: func(yield func(nftables.SetElement) bool) {
				for _, addr := range addrs {
					if !yield(nftables.SetElement{Key: addr.AsSlice()}) {
						return
					}
				}
			}})
		}
		var within []netip.Prefix
		for _, p := range nets {
			if p.Addr().BitLen() == int(f.size)*8 {
				within = append(within, p)
			}
		}
		if len(within) > 0 {
			l.put(what+"_nets"+f.suffix, content{key: keyType(f), interval: true, pairs: true, count: 2 * len(within), elements: intervals(within)})
		}
	}
}

// intervals yields the begin and the end of each CIDR. A missing end would mean "up to the last address", so it is left out only there.
// Neighbours that touch are joined: the end of one and the begin of the next would be the same key.
func intervals(nets []netip.Prefix) iter.Seq[nftables.SetElement] {
	return func(yield func(nftables.SetElement) bool) {
		for i := 0; i < len(nets); i++ {
			first := nets[i].Addr()
			next := after(nets[i])
			for i+1 < len(nets) && next == nets[i+1].Addr() {
				i++
				next = after(nets[i])
			}
			if !yield(nftables.SetElement{Key: first.AsSlice()}) {
				return
			}
			if next.IsValid() && !yield(nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true}) {
				return
			}
		}
	}
}

// after returns the first address behind a CIDR, the zero Addr when there is none.
func after(p netip.Prefix) netip.Addr {
	last := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 1 << (7 - bit%8)
	}
	addr, _ := netip.AddrFromSlice(last)
	return addr.Next()
}

func (l *load) ports(name string, ranges []attack.PortRange) {
	if len(ranges) == 0 {
		return
	}
	l.put(name, content{key: nftables.TypeInetService, interval: true, pairs: true, count: 2 * len(ranges), elements: func(yield func(nftables.SetElement) bool) {
		for _, r := range ranges {
			if !yield(nftables.SetElement{Key: binary.BigEndian.AppendUint16(nil, r.First)}) {
				return
			}
			// A range up to 65535 has no end, as with addresses.
			if end := r.Last + 1; end != 0 && !yield(nftables.SetElement{Key: binary.BigEndian.AppendUint16(nil, end), IntervalEnd: true}) {
				return
			}
		}
	}})
}

func isTarget(name string) bool {
	switch name {
	case setHit4, setHit6, setHitNets4, setHitNets6:
		return true
	}
	return false
}

// spares returns all that must be in place before the first drop: spares and ports.
func (l *load) spares() []chunk {
	var chunks []chunk
	for _, name := range l.names {
		if !isTarget(name) {
			for c := range l.chunks(name) {
				chunks = append(chunks, c)
			}
		}
	}
	return chunks
}

// first returns the targets that are cut with the first batch, at most chunkMax in all.
func (l *load) first() []chunk {
	for c := range l.targets() {
		return []chunk{c}
	}
	return nil
}

// rest yields the targets that follow.
func (l *load) rest() iter.Seq[chunk] {
	return func(yield func(chunk) bool) {
		skipped := false
		for c := range l.targets() {
			if !skipped {
				skipped = true
				continue
			}
			if !yield(c) {
				return
			}
		}
	}
}

func (l *load) targets() iter.Seq[chunk] {
	return func(yield func(chunk) bool) {
		for _, name := range l.names {
			if !isTarget(name) {
				continue
			}
			for c := range l.chunks(name) {
				if !yield(c) {
					return
				}
			}
		}
	}
}

// chunks yields a set's elements, at most chunkMax at a time; a begin and its end are never parted.
func (l *load) chunks(name string) iter.Seq[chunk] {
	return func(yield func(chunk) bool) {
		content := l.sets[name]
		part := make([]nftables.SetElement, 0, min(chunkMax, content.count))
		for e := range content.elements {
			if len(part) >= chunkMax && !e.IntervalEnd {
				if !yield(chunk{set: name, elements: part}) {
					return
				}
				part = make([]nftables.SetElement, 0, chunkMax)
			}
			part = append(part, e)
		}
		if len(part) > 0 {
			yield(chunk{set: name, elements: part})
		}
	}
}
