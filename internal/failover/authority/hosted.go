package authority

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/failover"
)

// Hosted is a zone as whoever keeps it by sets of records has it, Route 53 for one: each name and type has records, and routing and health
// choose among them.
type Hosted struct {
	Name string                                   // absolute
	Sets map[string]map[uint16]failover.RecordSet // by absolute name and type; records hold an ID or an alias
	Held map[string][]dns.RR                      // what the record of an ID holds; the owner's name is taken from the question
	SOA  *dns.SOA
}

// NewHosted returns the zone. Its records are chosen by what Decided says for the zone's own name. The error says what cannot be served.
func NewHosted(h Hosted) (*Zone, error) {
	name := dns.CanonicalName(h.Name)
	if _, ok := dns.IsDomainName(name); !ok || name == "." || h.SOA == nil {
		return nil, fmt.Errorf("%q with SOA %v is no zone", h.Name, h.SOA)
	}
	zone := &Zone{
		Name: name, labels: dns.CountLabel(name), held: h.Held, owners: map[string]*owner{name: {}},
		NegativeTTL: time.Duration(h.SOA.Minttl) * time.Second,
	}
	soa := *h.SOA
	zone.soa = &soa
	for written, sets := range h.Sets {
		full := dns.CanonicalName(written)
		if !dns.IsSubDomain(name, full) {
			return nil, fmt.Errorf("%s is not in the zone %s", full, name)
		}
		zone.owners[full] = &owner{hosted: maps.Clone(sets)}
	}
	zone.between()
	return zone, nil
}

// find returns what stands at a name: its own, or what a wildcard beside it says for all names that do not exist (RFC 4592). nil: nothing.
func (z *Zone) find(name string) *owner {
	if at := z.owners[name]; at != nil || z.held == nil {
		return at
	}
	for name != z.Name {
		next, end := dns.NextLabel(name, 0)
		if end {
			return nil
		}
		name = name[next:]
		if z.owners[name] != nil { // the closest name that exists: only a wildcard directly below it counts
			return z.owners["*."+name]
		}
	}
	return nil
}

// alias returns the CNAME record of an owner, chosen by health where several share it.
func (a *answerer) alias(at *owner) []dns.RR {
	if set, there := at.hosted[dns.TypeCNAME]; there {
		return a.hosted(set)
	}
	return at.sets[dns.TypeCNAME]
}

// hosted chooses for one query among the records of a set, and returns what the chosen ones hold.
func (a *answerer) hosted(set failover.RecordSet) []dns.RR {
	ill := a.decided[a.zone.Name].Ill
	a.varies = a.varies || set.Routing != failover.RoutingFailover
	lot := uint64(a.reply.Id)<<48 ^ uint64(a.now.UnixNano()) //nolint:gosec // any number will do
	var all []dns.RR
	for _, record := range set.Chosen(func(check string) bool { return !slices.Contains(ill, check) }, lot) {
		all = append(all, a.zone.held[record.ID]...)
	}
	return all
}
