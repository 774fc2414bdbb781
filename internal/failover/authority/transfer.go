package authority

import (
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/failover/tsig"
)

const (
	// envelopeMax is how many bytes of records go into one message of a transfer: names are compressed within a message, and pointers
	// reach no further than this.
	envelopeMax = 16 << 10

	// signatureMax is the room for a TSIG record: two names of the usual length and the longest MAC.
	signatureMax = 256
)

// Secondary is another name server that takes the whole zone from us and answers beside us.
type Secondary struct {
	Address string   // host:port; it is told there when the zone changes
	Key     tsig.Key // signs what it asks; the zero Key: it is known by its address
}

// serial returns the zone's serial number: it grows with every decision. All servers that know the same decisions say the same.
func (z *Zone) serial(decided Decided) uint32 {
	sum := uint64(z.soa.Serial)
	for _, decision := range decided {
		sum += decision.Serial
	}
	return uint32(sum) //nolint:gosec // serial numbers of DNS wrap around, RFC 1982
}

// Records returns the whole zone as it is handed to a secondary: the SOA record, everything else in order of name, and the SOA record
// again. A name whose addresses follow the time or the health of hosts has all of them, because a secondary knows neither.
func (z *Zone) Records(decided Decided) []dns.RR {
	var all []dns.RR
	soa := (&answerer{zone: z, decided: decided}).soa(z.Name)
	for _, name := range slices.Sorted(maps.Keys(z.owners)) {
		at := z.owners[name]
		addresses := at.addrs
		if at.failover && len(decided[name].Addresses) > 0 {
			addresses = decided[name].Addresses
		}
		for _, address := range addresses {
			all = append(all, named(name, addressRecord(address, at.ttl)))
		}
		for _, kind := range slices.Sorted(maps.Keys(at.sets)) {
			for _, record := range at.sets[kind] {
				all = append(all, named(name, dns.Copy(record)))
			}
		}
	}
	return slices.Concat([]dns.RR{soa}, all, []dns.RR{soa})
}

func named(name string, record dns.RR) dns.RR {
	record.Header().Name = name
	return record
}

// signer is what is known of the signature of a query.
type signer struct {
	key     string // name of the key that signed it; empty: none
	problem uint16 // an extended return code of TSIG; 0: none
}

// signerOf reads what the socket found out about a query's signature.
func (s *Server) signerOf(w dns.ResponseWriter, query *dns.Msg) signer {
	signature := query.IsTsig()
	if signature == nil {
		return signer{}
	}
	name := dns.CanonicalName(signature.Hdr.Name)
	key, known := s.keys[name]
	switch err := w.TsigStatus(); {
	case !known || dns.CanonicalName(signature.Algorithm) != key.Algorithm || errors.Is(err, dns.ErrSecret):
		return signer{problem: dns.RcodeBadKey}
	case errors.Is(err, dns.ErrTime):
		return signer{key: name, problem: dns.RcodeBadTime}
	case err != nil:
		return signer{problem: dns.RcodeBadSig}
	}
	return signer{key: name}
}

// sign has a reply signed with the key that signed the query.
func (s *Server) sign(reply, query *dns.Msg, by signer, now time.Time) {
	signature := query.IsTsig()
	if signature == nil || (by.key == "" && by.problem == 0) {
		return
	}
	reply.SetTsig(signature.Hdr.Name, signature.Algorithm, signature.Fudge, now.Unix())
	if by.problem == 0 {
		return
	}
	told := reply.IsTsig()
	told.Error = by.problem
	if by.problem == dns.RcodeBadTime { // the client's time in the field, and ours beside it: RFC 8945, 5.2.3
		told.TimeSigned = signature.TimeSigned
		told.OtherLen, told.OtherData = 6, hexTime(now)
	}
}

func hexTime(now time.Time) string {
	const digits = "0123456789abcdef"
	text := make([]byte, 12)
	for i, rest := 11, now.Unix(); i >= 0; i, rest = i-1, rest>>4 {
		text[i] = digits[rest&0xF]
	}
	return string(text)
}

// handleSigned answers what is signed, and zone transfers. It says whether there was anything for it to do.
func (s *Server) handleSigned(w dns.ResponseWriter, query *dns.Msg, now time.Time, overTCP bool) bool {
	by := s.signerOf(w, query)
	switch {
	case by.problem != 0:
		reply := new(dns.Msg).SetRcode(query, dns.RcodeNotAuth)
		s.sign(reply, query, by, now)
		s.writeMessage(w, reply)
	case isTransfer(query) && overTCP:
		s.transfer(w, query, by, now)
	case by.key != "":
		reply := new(dns.Msg)
		if err := reply.Unpack(s.compose(query, now, overTCP)); err != nil {
			s.log.Error("reply cannot be signed", "question", questionText(query), "error", err)
			return false
		}
		s.sign(reply, query, by, now)
		s.writeMessage(w, reply)
	default:
		return false
	}
	return true
}

func isTransfer(query *dns.Msg) bool {
	return query.Opcode == dns.OpcodeQuery && len(query.Question) == 1 &&
		(query.Question[0].Qtype == dns.TypeAXFR || query.Question[0].Qtype == dns.TypeIXFR)
}

// transfer hands the zone to a secondary, or refuses. We keep no differences: an incremental transfer is answered with the whole zone, or
// with the SOA record alone when the secondary has it already (RFC 1995, 4).
func (s *Server) transfer(w dns.ResponseWriter, query *dns.Msg, by signer, now time.Time) {
	question := query.Question[0]
	decided := *s.decided.Load()
	refusal := s.refuseTransfer(question, addressOf(w.RemoteAddr()), by, decided)
	if refusal != "" {
		s.log.Warn("zone transfer refused", "from", w.RemoteAddr().String(), "key", by.key, "reason", refusal)
		reply := new(dns.Msg).SetRcode(query, dns.RcodeRefused)
		s.sign(reply, query, by, now)
		s.writeMessage(w, reply)
		return
	}
	records := s.zone.Records(decided)
	if question.Qtype == dns.TypeIXFR && hasAlready(query, records[0].(*dns.SOA).Serial) {
		records = records[:1]
	}
	envelopes := make(chan *dns.Envelope, len(records))
	for _, part := range envelopesOf(records) {
		envelopes <- &dns.Envelope{RR: part}
	}
	close(envelopes)
	if err := new(dns.Transfer).Out(w, query, envelopes); err != nil {
		s.log.Warn("zone transfer broken off", "to", w.RemoteAddr().String(), "error", err)
		return
	}
	s.log.Info("zone transferred", "to", w.RemoteAddr().String(), "key", by.key, "serial", records[0].(*dns.SOA).Serial, "records", len(records))
}

// refuseTransfer says why a transfer is refused, "" when it is not.
func (s *Server) refuseTransfer(question dns.Question, source netip.Addr, by signer, decided Decided) string {
	if question.Qclass != dns.ClassINET || dns.CanonicalName(question.Name) != s.zone.Name {
		return "not our zone"
	}
	allowed := slices.ContainsFunc(s.options.Secondaries, func(one Secondary) bool {
		if one.Key.Name != "" {
			return by.key == one.Key.Name
		}
		host, _, err := net.SplitHostPort(one.Address)
		address, parseErr := netip.ParseAddr(host)
		return err == nil && parseErr == nil && address.Unmap() == source.Unmap()
	})
	if !allowed {
		return "neither a secondary's key nor a secondary's address"
	}
	return s.unsettled(decided)
}

// unsettled says why the zone is not handed out yet. Before the first decisions its serial number is far below all later ones, so far that
// a secondary could take it for a higher one; and its answers are only those of the file.
func (s *Server) unsettled(decided Decided) string {
	if !s.options.Follows {
		return ""
	}
	for _, name := range s.zone.FailoverNames() {
		if len(decided[name].Addresses) == 0 && !s.frozen[name] {
			return "nothing has been decided for " + name + " yet"
		}
	}
	return ""
}

// hasAlready says whether the serial number in a query for an incremental transfer is ours or later.
func hasAlready(query *dns.Msg, serial uint32) bool {
	if len(query.Ns) != 1 {
		return false
	}
	soa, ok := query.Ns[0].(*dns.SOA)
	return ok && int32(soa.Serial-serial) >= 0 //nolint:gosec // serial numbers of DNS wrap around, RFC 1982
}

// envelopesOf cuts records into parts that fit into a message each.
func envelopesOf(records []dns.RR) [][]dns.RR {
	var parts [][]dns.RR
	size, first := 0, 0
	for i, record := range records {
		length := dns.Len(record)
		if size+length > envelopeMax && i > first {
			parts = append(parts, records[first:i])
			size, first = 0, i
		}
		size += length
	}
	return append(parts, records[first:])
}
