package authority

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/drill"
)

// MasterOptions say how a master file is read.
type MasterOptions struct {
	File     string   // its name in error messages
	Origin   string   // the zone, where the file does not say so itself
	Failover []string // names whose addresses are only the initial answer; "@" is the zone
}

// IsMaster says whether a zone file is a master file of RFC 1035 and not one of ours: it has a SOA record or a $ directive, and ours
// begins with a key.
func IsMaster(text []byte) bool {
	for line := range bytes.Lines(text) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == ';' || line[0] == '#' {
			continue
		}
		if line[0] == '$' || bytes.ContainsAny(line[:1], "@") {
			return true
		}
		return slices.ContainsFunc(bytes.Fields(line), func(word []byte) bool { return bytes.EqualFold(word, []byte("SOA")) })
	}
	return false
}

// ParseMaster reads a zone in the master file format of RFC 1035. What we would not serve as it stands there is a mistake: delegations,
// signed zones, wildcards, $INCLUDE. The error is a *drill.Error of kind Invalid that names the mistakes.
//
// The notes say what is served otherwise than written: a "no" is remembered by resolvers for a few seconds at most.
func ParseMaster(text []byte, options MasterOptions) (*Zone, []string, error) {
	records, err := readMaster(text, options)
	if err != nil {
		return nil, nil, masterError(err)
	}
	m := masterBuilder{options: options, zone: &Zone{owners: map[string]*owner{}}}
	m.start(records)
	for _, record := range records {
		m.add(record)
	}
	m.addresses()
	for _, name := range options.Failover {
		m.failover(name)
	}
	m.finish()
	if len(m.problems) > 0 {
		return nil, nil, masterError(m.problems...)
	}
	return m.zone, m.notes, nil
}

func masterError(problems ...error) error {
	slices.SortStableFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) }) // some come out of a map
	return &drill.Error{Op: "read zone", Kind: drill.Invalid, Err: errors.Join(problems...)}
}

// readMaster returns the records of the file.
func readMaster(text []byte, options MasterOptions) ([]dns.RR, error) {
	if options.Origin != "" {
		options.Origin = dns.Fqdn(options.Origin)
	}
	parser := dns.NewZoneParser(bytes.NewReader(text), options.Origin, options.File)
	var records []dns.RR
	for record, ok := parser.Next(); ok; record, ok = parser.Next() {
		records = append(records, record)
		if len(records) > recordsMax {
			return nil, fmt.Errorf("%s: more than %d records", options.File, recordsMax)
		}
	}
	if err := parser.Err(); err != nil {
		if options.Origin == "" && !bytes.Contains(text, []byte("$ORIGIN")) {
			err = fmt.Errorf("%w (a file without $ORIGIN needs the zone's name: --origin)", err)
		}
		return nil, err
	}
	return records, nil
}

// recordsMax bounds a zone in a master file, and with it what $GENERATE can make.
const recordsMax = 200_000

type masterBuilder struct {
	options  MasterOptions
	zone     *Zone
	notes    []string
	problems []error
}

func (m *masterBuilder) problem(format string, args ...any) {
	if len(m.problems) < 20 { // more than a screen helps nobody
		m.problems = append(m.problems, fmt.Errorf(m.options.File+": "+format, args...))
	}
}

// start takes the zone's name and timers from its SOA record.
func (m *masterBuilder) start(records []dns.RR) {
	for _, record := range records {
		soa, is := record.(*dns.SOA)
		if !is {
			continue
		}
		if m.zone.soa != nil {
			m.problem("two SOA records, of %s and of %s; a file holds one zone", m.zone.soa.Hdr.Name, soa.Hdr.Name)
			return
		}
		m.zone.Name = dns.CanonicalName(soa.Hdr.Name)
		m.zone.labels = dns.CountLabel(m.zone.Name)
		m.zone.soa = dns.Copy(soa).(*dns.SOA)
	}
	if m.zone.soa == nil {
		m.problem("no SOA record")
		m.zone.soa = new(dns.SOA)
		return
	}
	soa := m.zone.soa
	written := min(soa.Hdr.Ttl, soa.Minttl)
	kept := min(max(written, uint32(negativeMin/time.Second)), uint32(negativeMax/time.Second))
	if kept != written {
		m.notes = append(m.notes, fmt.Sprintf("resolvers may remember a missing name for %d s, not for the %d s of the SOA record", kept, written))
	}
	soa.Hdr.Ttl, soa.Minttl = kept, kept
	m.zone.NegativeTTL = time.Duration(kept) * time.Second
	m.zone.TTL = m.zone.NegativeTTL
	m.zone.owners[m.zone.Name] = &owner{sets: map[uint16][]dns.RR{}}
}

func (m *masterBuilder) add(record dns.RR) {
	head := record.Header()
	name := dns.CanonicalName(head.Name)
	if problem := m.unservable(name, record); problem != "" {
		m.problem("%s %s: %s", head.Name, dns.TypeToString[head.Rrtype], problem)
		return
	}
	if head.Rrtype == dns.TypeSOA {
		return
	}
	at := m.zone.owners[name]
	if at == nil {
		at = &owner{sets: map[uint16][]dns.RR{}}
		m.zone.owners[name] = at
	}
	record = dns.Copy(record)
	record.Header().Name = ""
	if slices.ContainsFunc(at.sets[head.Rrtype], func(other dns.RR) bool { return dns.IsDuplicate(other, record) }) {
		return
	}
	at.sets[head.Rrtype] = append(at.sets[head.Rrtype], record)
}

// unservable says why a record is not taken, "" when it is.
func (m *masterBuilder) unservable(name string, record dns.RR) string {
	head := record.Header()
	switch {
	case head.Class != dns.ClassINET:
		return "only the class IN is served"
	case !dns.IsSubDomain(m.zone.Name, name):
		return "not in the zone " + m.zone.Name
	case strings.HasPrefix(name, "*"):
		return "wildcards are not served; write the names out"
	case head.Rrtype == dns.TypeNS && name != m.zone.Name:
		return "parts of the zone cannot be handed to other servers; give them a zone of their own beside this one"
	case head.Ttl > uint32(ttlMax/time.Second):
		return fmt.Sprintf("TTL %d; the most is %d", head.Ttl, int(ttlMax/time.Second))
	}
	switch head.Rrtype {
	case dns.TypeRRSIG, dns.TypeNSEC, dns.TypeNSEC3, dns.TypeNSEC3PARAM, dns.TypeDNSKEY, dns.TypeDS, dns.TypeCDS, dns.TypeCDNSKEY:
		return "signed zones are not served: an answer that moves cannot be signed beforehand"
	case dns.TypeDNAME:
		return "DNAME is not served"
	}
	return ""
}

// addresses turns A and AAAA records into addresses, which may follow decisions.
func (m *masterBuilder) addresses() {
	for name, at := range m.zone.owners {
		for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
			for _, record := range at.sets[kind] {
				address := addressIn(record)
				if problem := unusable(address); problem != "" {
					m.problem("%s: %s", name, problem)
					continue
				}
				ttl := time.Duration(record.Header().Ttl) * time.Second
				if len(at.addrs) > 0 && ttl != at.ttl {
					m.notes = append(m.notes, fmt.Sprintf("%s: its addresses have different TTLs; all are served with the lowest", name))
					ttl = min(ttl, at.ttl)
				}
				at.addrs, at.ttl = append(at.addrs, address), ttl
			}
			delete(at.sets, kind)
		}
		if len(at.addrs) > addressesMax {
			m.problem("%s: %d addresses do not fit into one answer; the limit is %d", name, len(at.addrs), addressesMax)
		}
	}
}

func addressIn(record dns.RR) netip.Addr {
	var address netip.Addr
	switch record := record.(type) {
	case *dns.A:
		address, _ = netip.AddrFromSlice(record.A.To4())
	case *dns.AAAA:
		address, _ = netip.AddrFromSlice(record.AAAA)
	}
	return address
}

func (m *masterBuilder) failover(written string) {
	name, err := absolute(written, m.zone.Name)
	at := m.zone.owners[name]
	if err == nil && at == nil { // written in full without the final dot
		name = dns.CanonicalName(written)
		at = m.zone.owners[name]
	}
	switch {
	case err != nil:
		m.problem("failover: %v", err)
	case at == nil || len(at.addrs) == 0:
		m.problem("failover: %s has no address in the zone; the name must lead somewhere before the first decision", name)
	case at.ttl > failoverTTLMax:
		m.problem("failover: %s has a TTL of %d s; the most is %d, or a failover takes longer than a minute", name, int(at.ttl/time.Second), int(failoverTTLMax/time.Second))
	default:
		at.failover = true
	}
}

// finish checks what concerns the zone as a whole.
func (m *masterBuilder) finish() {
	if m.zone.Name == "" {
		return
	}
	apex := m.zone.owners[m.zone.Name]
	for _, record := range apex.sets[dns.TypeNS] {
		server := dns.CanonicalName(record.(*dns.NS).Ns)
		m.zone.Servers = append(m.zone.Servers, server)
		if at := m.zone.owners[server]; dns.IsSubDomain(m.zone.Name, server) && (at == nil || len(at.addrs) == 0) {
			m.problem("%s is a name server of the zone and has no address in it", server)
		}
	}
	if len(m.zone.Servers) == 0 {
		m.problem("%s has no NS record", m.zone.Name)
	}
	if len(m.zone.owners) > namesMax {
		m.problem("more than %d names", namesMax)
	}
	for name, at := range m.zone.owners {
		if alias := at.sets[dns.TypeCNAME]; len(alias) > 1 || (len(alias) == 1 && (len(at.sets) > 1 || len(at.addrs) > 0 || name == m.zone.Name)) {
			m.problem("%s: an alias stands alone at its name, and never at the top of a zone (RFC 1034, 3.6.2)", name)
		}
	}
	m.zone.between()
}
