package authority

import (
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// udpMax is the largest answer over UDP: it passes every path without fragments, which get lost and can be forged.
const udpMax = 1232

// aliasMax is how many aliases in a row are followed inside of the zone.
const aliasMax = 8

// Decided are the answers of the failover names that have been decided, by absolute name in lower case.
type Decided map[string]Decision

// Decision is one decided answer.
type Decision struct {
	Addresses []netip.Addr `json:"addresses,omitempty"`
	Serial    uint64       `json:"serial,omitempty"`
	Ill       []string     `json:"unhealthy_checks,omitempty"` // for names that are routed by health, which have nothing else
}

// Answer returns the reply to a query as it goes out, of at most the size that the client takes. It is a pure function: the same query,
// decisions and time give the same reply, on every server of the zone.
func (z *Zone) Answer(query *dns.Msg, decided Decided, now time.Time, overTCP bool) *dns.Msg {
	reply, _ := z.answer(query, decided, now, overTCP)
	return reply
}

// answer also says whether the reply varies with the time.
func (z *Zone) answer(query *dns.Msg, decided Decided, now time.Time, overTCP bool) (reply *dns.Msg, varies bool) {
	reply = new(dns.Msg).SetReply(query)
	reply.Compress = true
	size := dns.MaxMsgSize
	if !overTCP {
		size = dns.MinMsgSize
	}
	options := optionsOf(query)
	if len(options) == 1 && !overTCP {
		size = min(max(int(options[0].UDPSize()), dns.MinMsgSize), udpMax)
	}
	if query.IsTsig() != nil {
		size -= signatureMax // the reply will be signed too
	}
	switch {
	case query.Opcode != dns.OpcodeQuery:
		reply.Rcode = dns.RcodeNotImplemented
	case len(query.Question) != 1 || len(options) > 1:
		reply.Rcode = dns.RcodeFormatError
	case len(options) == 1 && options[0].Version() != 0:
		reply.Rcode = dns.RcodeBadVers
	default:
		a := answerer{zone: z, decided: decided, now: now, reply: reply}
		a.answer(query.Question[0])
		varies = a.varies
	}
	if len(options) == 1 {
		reply.SetEdns0(udpMax, options[0].Do())
	}
	reply.Truncate(size)
	return reply, varies
}

// optionsOf returns the OPT records of a message.
func optionsOf(message *dns.Msg) []*dns.OPT {
	var found []*dns.OPT
	for _, record := range message.Extra {
		if opt, ok := record.(*dns.OPT); ok {
			found = append(found, opt)
		}
	}
	return found
}

type answerer struct {
	zone    *Zone
	decided Decided
	now     time.Time
	reply   *dns.Msg
	varies  bool // with the time
}

func (a *answerer) answer(q dns.Question) {
	name := dns.CanonicalName(q.Name)
	switch {
	case q.Qclass != dns.ClassINET, !dns.IsSubDomain(a.zone.Name, name), q.Qtype == dns.TypeAXFR, q.Qtype == dns.TypeIXFR:
		a.reply.Rcode = dns.RcodeRefused
		return
	case q.Qtype == dns.TypeNone, q.Qtype == dns.TypeOPT, q.Qtype == dns.TypeTSIG:
		a.reply.Rcode = dns.RcodeFormatError
		return
	}
	a.reply.Authoritative = true
	// The question's own writing of the name is used for the records too: resolvers that vary the case to spot forgeries get it back.
	asWritten := q.Name
	for range aliasMax {
		found := a.zone.find(name)
		if found == nil {
			a.reply.Rcode = dns.RcodeNameError
			a.negative(q.Name)
			return
		}
		if alias := a.alias(found); len(alias) > 0 && q.Qtype != dns.TypeCNAME && q.Qtype != dns.TypeANY {
			a.add(asWritten, alias[0])
			asWritten = alias[0].(*dns.CNAME).Target
			name = dns.CanonicalName(asWritten)
			if !dns.IsSubDomain(a.zone.Name, name) {
				return // the client asks whoever knows it; we do not recurse
			}
			continue
		}
		records := a.records(name, found, q.Qtype)
		if len(records) == 0 {
			a.negative(q.Name)
		}
		for _, record := range records {
			a.add(asWritten, record)
		}
		return
	}
}

// records returns what a name has of a type.
func (a *answerer) records(name string, at *owner, qtype uint16) []dns.RR {
	if set, there := at.hosted[qtype]; there {
		return a.hosted(set)
	}
	switch qtype {
	case dns.TypeANY:
		return a.minimal(name, at)
	case dns.TypeA, dns.TypeAAAA:
		var records []dns.RR
		for _, address := range a.addresses(name, at) {
			if record := addressRecord(address, at.ttl); record.Header().Rrtype == qtype {
				records = append(records, record)
			}
		}
		return records
	case dns.TypeSOA:
		if name == a.zone.Name {
			return []dns.RR{a.soa("")}
		}
		return nil
	case dns.TypeNS:
		if name == a.zone.Name {
			a.glue()
		}
	}
	return at.sets[qtype]
}

// minimal answers ANY with one set of records (RFC 8482): everything at once serves only those who flood others with our answers.
func (a *answerer) minimal(name string, at *owner) []dns.RR {
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeNS, dns.TypeMX, dns.TypeTXT} {
		if records := a.records(name, at, qtype); len(records) > 0 {
			a.reply.Extra = nil
			return records
		}
	}
	return nil
}

// addresses returns what a name leads to now. A failover name leads somewhere whatever happens: to the last decision, else to its
// initial answer.
func (a *answerer) addresses(name string, at *owner) []netip.Addr {
	switch {
	case at.routed != nil:
		return a.routedAddresses(name, at)
	case at.failover && len(a.decided[name].Addresses) > 0:
		return a.decided[name].Addresses
	case at.rotation != nil:
		a.varies = true
		return at.rotation.at(a.now, at.addrs)
	}
	return at.addrs
}

// negative adds the SOA record that says how long "no" may be remembered: the smaller of its TTL and its last field (RFC 2308).
func (a *answerer) negative(asWritten string) {
	a.reply.Ns = append(a.reply.Ns, a.soa(a.apexAsWritten(asWritten)))
}

// apexAsWritten returns the part of a name that is the zone, in the case in which it was asked.
func (a *answerer) apexAsWritten(name string) string {
	labels := dns.Split(name)
	if len(labels) < a.zone.labels {
		return a.zone.Name
	}
	return name[labels[len(labels)-a.zone.labels]:]
}

func (a *answerer) soa(name string) dns.RR {
	soa := *a.zone.soa
	soa.Hdr.Name, soa.Serial = name, a.zone.serial(a.decided)
	return &soa
}

// glue adds the addresses of the zone's own name servers.
func (a *answerer) glue() {
	for _, server := range a.zone.Servers {
		at := a.zone.owners[server]
		if at == nil {
			continue
		}
		for _, address := range a.addresses(server, at) {
			record := addressRecord(address, at.ttl)
			record.Header().Name = server
			a.reply.Extra = append(a.reply.Extra, record)
		}
	}
}

// add puts a copy of a record under a name into the answer.
func (a *answerer) add(name string, record dns.RR) {
	record = dns.Copy(record)
	record.Header().Name = name
	a.reply.Answer = append(a.reply.Answer, record)
}

func addressRecord(address netip.Addr, ttl time.Duration) dns.RR {
	if address.Is4() {
		return &dns.A{Hdr: header(dns.TypeA, ttl), A: slices.Clone(address.AsSlice())}
	}
	return &dns.AAAA{Hdr: header(dns.TypeAAAA, ttl), AAAA: slices.Clone(address.AsSlice())}
}
