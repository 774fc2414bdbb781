package failovertest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

const (
	// answerMax is how long a server may take before it counts as silent. On loopback it takes less than a millisecond.
	answerMax = 5 * time.Second

	// silenceMin is how long we listen for a reply that must not come.
	silenceMin = 200 * time.Millisecond

	udpPlainMax = 512  // RFC 1035
	udpMax      = 1232 // what passes everywhere without fragments
	negativeMax = 5    // seconds for which "no" may be remembered
)

// Subject is a server under test.
type Subject struct {
	Address string // host:port, UDP and TCP; it serves the zone of this package

	// Publish makes the zone's own name lead to addresses; nil if the subject has no decided answers.
	Publish func(addresses []netip.Addr) error
	// Hurt makes the server's work on the next query panic; nil if it cannot be hurt.
	Hurt func()
}

// Check is one clause of the contract.
type Check struct {
	Name string
	Run  func(ctx context.Context, s Subject) error
}

// Checks returns the whole contract.
func Checks() []Check {
	return []Check{
		{"answers over UDP and TCP", checkBothTransports},
		{"is authoritative and does not recurse", checkAuthoritative},
		{"has SOA and NS at the top", checkApex},
		{"says NXDOMAIN for what does not exist, not for long", checkNameError},
		{"says no data for a missing type", checkNoData},
		{"says no data between names", checkBetween},
		{"refuses other zones", checkOutside},
		{"preserves the case of the question", checkCase},
		{"truncates what does not fit", checkTruncation},
		{"sends OPT only if asked", checkOptions},
		{"says BADVERS for another EDNS", checkBadVersion},
		{"answers ANY with little", checkAny},
		{"says NOTIMP for other opcodes", checkOpcodes},
		{"says FORMERR unless there is one question", checkQuestionCount},
		{"survives malformed packets", checkMalformed},
		{"never answers a reply", checkReplies},
		{"follows aliases inside of the zone only", checkAliases},
		{"serves texts byte by byte", checkText},
		{"refuses zone transfers", checkTransfer},
		{"answers many queries on one connection", checkPipelining},
		{"answers while others hold connections", checkIdleConnections},
		{"serves a new answer at once and always one", checkPublish},
		{"answers in spite of a panic", checkPanic},
	}
}

// Test runs the whole contract against a subject.
func Test(t *testing.T, s Subject) {
	t.Helper()
	for _, check := range Checks() {
		t.Run(check.Name, func(t *testing.T) {
			if err := check.Run(t.Context(), s); err != nil {
				t.Error(err)
			}
		})
	}
}

func name(label string) string {
	if label == "@" {
		return ZoneName
	}
	return label + "." + ZoneName
}

// question returns a query without EDNS.
func question(qname string, qtype uint16) *dns.Msg {
	query := new(dns.Msg).SetQuestion(qname, qtype)
	query.RecursionDesired = true // as stubs ask, though nothing here recurses
	return query
}

func (s Subject) ask(ctx context.Context, network string, query *dns.Msg) (*dns.Msg, error) {
	client := dns.Client{Net: network, Timeout: answerMax, UDPSize: dns.MaxMsgSize}
	reply, _, err := client.ExchangeContext(ctx, query, s.Address)
	if err != nil {
		return nil, fmt.Errorf("%s, %s: %w", network, describe(query), err)
	}
	if !reply.Response || reply.Id != query.Id {
		return nil, fmt.Errorf("%s, %s: not a reply to it", network, describe(query))
	}
	if reply.Rcode == dns.RcodeServerFailure {
		return nil, fmt.Errorf("%s, %s: SERVFAIL, which resolvers remember", network, describe(query))
	}
	return reply, nil
}

func describe(query *dns.Msg) string {
	if len(query.Question) == 0 {
		return "no question"
	}
	return query.Question[0].Name + " " + dns.TypeToString[query.Question[0].Qtype]
}

// expect is ask over UDP with the return code checked.
func (s Subject) expect(ctx context.Context, qname string, qtype uint16, rcode int) (*dns.Msg, error) {
	query := question(qname, qtype)
	reply, err := s.ask(ctx, "udp", query)
	if err != nil {
		return nil, err
	}
	if reply.Rcode != rcode {
		return nil, fmt.Errorf("%s: %s; want %s", describe(query), dns.RcodeToString[reply.Rcode], dns.RcodeToString[rcode])
	}
	return reply, nil
}

func addressesIn(records []dns.RR) []string {
	var found []string
	for _, record := range records {
		switch record := record.(type) {
		case *dns.A:
			found = append(found, record.A.String())
		case *dns.AAAA:
			found = append(found, record.AAAA.String())
		}
	}
	slices.Sort(found)
	return found
}

func checkBothTransports(ctx context.Context, s Subject) error {
	for _, network := range []string{"udp", "tcp"} {
		for qname, want := range map[string]string{name("db"): "10.77.2.10", name("@"): "10.77.1.10", name("both"): "10.77.4.1"} {
			reply, err := s.ask(ctx, network, question(qname, dns.TypeA))
			if err != nil {
				return err
			}
			if got := addressesIn(reply.Answer); len(got) != 1 || got[0] != want || reply.Truncated {
				return fmt.Errorf("%s over %s: %v; want %s", qname, network, got, want)
			}
			if ttl := reply.Answer[0].Header().Ttl; ttl > 60 {
				return fmt.Errorf("%s: TTL %d; a failover takes at least as long", qname, ttl)
			}
		}
	}
	reply, err := s.expect(ctx, name("both"), dns.TypeAAAA, dns.RcodeSuccess)
	if err != nil {
		return err
	}
	if got := addressesIn(reply.Answer); len(got) != 1 || got[0] != "2001:db8::4:1" {
		return fmt.Errorf("AAAA of both: %v", got)
	}
	return nil
}

func checkAuthoritative(ctx context.Context, s Subject) error {
	for _, qname := range []string{name("@"), name("db"), name("www"), name("absent")} {
		reply, err := s.ask(ctx, "udp", question(qname, dns.TypeA))
		if err != nil {
			return err
		}
		if !reply.Authoritative || reply.RecursionAvailable || !reply.RecursionDesired {
			return fmt.Errorf("%s: AA %v, RA %v, RD %v; want AA, no RA, and RD as asked", qname, reply.Authoritative, reply.RecursionAvailable, reply.RecursionDesired)
		}
	}
	return nil
}

func checkApex(ctx context.Context, s Subject) error {
	reply, err := s.expect(ctx, ZoneName, dns.TypeSOA, dns.RcodeSuccess)
	if err != nil {
		return err
	}
	if len(reply.Answer) != 1 {
		return fmt.Errorf("SOA: %d records", len(reply.Answer))
	}
	if err := shortNo(reply.Answer[0]); err != nil {
		return err
	}
	reply, err = s.expect(ctx, ZoneName, dns.TypeNS, dns.RcodeSuccess)
	if err != nil {
		return err
	}
	if len(reply.Answer) != 1 || !strings.EqualFold(reply.Answer[0].(*dns.NS).Ns, name("ns")) {
		return fmt.Errorf("NS: %v", reply.Answer)
	}
	return nil
}

// shortNo says whether a SOA record lets resolvers forget a "no" soon.
func shortNo(record dns.RR) error {
	soa, ok := record.(*dns.SOA)
	if !ok {
		return fmt.Errorf("%v where a SOA record belongs", record)
	}
	if ttl := soa.Hdr.Ttl; ttl < 1 || ttl > negativeMax || soa.Minttl < 1 || soa.Minttl > negativeMax {
		return fmt.Errorf("SOA with TTL %d and minimum %d: resolvers remember a no for the smaller; keep both at 1 to %d", ttl, soa.Minttl, negativeMax)
	}
	if !strings.EqualFold(soa.Hdr.Name, ZoneName) {
		return fmt.Errorf("SOA of %s; want that of the zone", soa.Hdr.Name)
	}
	return nil
}

// negative says whether a reply is a proper "no".
func negative(reply *dns.Msg) error {
	if len(reply.Answer) != 0 || len(reply.Ns) != 1 {
		return fmt.Errorf("%s: %d answers and %d records of authority; want none and the SOA", reply.Question[0].Name, len(reply.Answer), len(reply.Ns))
	}
	return shortNo(reply.Ns[0])
}

func checkNameError(ctx context.Context, s Subject) error {
	for _, qname := range []string{name("absent"), name("a.b.c.absent"), name("x.db"), name("_https._tcp.absent")} {
		reply, err := s.expect(ctx, qname, dns.TypeA, dns.RcodeNameError)
		if err != nil {
			return err
		}
		if err := negative(reply); err != nil {
			return err
		}
	}
	return nil
}

func checkNoData(ctx context.Context, s Subject) error {
	for _, qname := range []string{name("@"), name("db"), name("ns")} {
		for _, qtype := range []uint16{dns.TypeAAAA, dns.TypeHTTPS, dns.TypeMX, dns.TypeTXT, dns.TypeSRV} {
			reply, err := s.expect(ctx, qname, qtype, dns.RcodeSuccess)
			if err != nil {
				return fmt.Errorf("a type that a name lacks: %w (a resolver may then forget the name's address too)", err)
			}
			if err := negative(reply); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkBetween(ctx context.Context, s Subject) error {
	for _, qname := range []string{name("below.there"), name("there")} {
		reply, err := s.expect(ctx, qname, dns.TypeA, dns.RcodeSuccess)
		if err != nil {
			return err
		}
		if err := negative(reply); err != nil {
			return err
		}
	}
	return nil
}

func checkOutside(ctx context.Context, s Subject) error {
	for _, qname := range []string{"www.elsewhere.example.", "example.test.", ".", "notbookstore.example.test.", `db\.bookstore.example.test.`} {
		reply, err := s.expect(ctx, qname, dns.TypeA, dns.RcodeRefused)
		if err != nil {
			return err
		}
		if reply.Authoritative || len(reply.Answer)+len(reply.Ns) != 0 {
			return fmt.Errorf("%s: refused, and yet it says something", qname)
		}
	}
	query := question(name("db"), dns.TypeA)
	query.Question[0].Qclass = dns.ClassCHAOS
	reply, err := s.ask(ctx, "udp", query)
	if err == nil && reply.Rcode != dns.RcodeRefused {
		err = fmt.Errorf("class CH: %s; want REFUSED", dns.RcodeToString[reply.Rcode])
	}
	return err
}

func checkCase(ctx context.Context, s Subject) error {
	for _, qname := range []string{"dB.BooKstOre.eXample.tEst.", "BOOKSTORE.EXAMPLE.TEST.", "aBsent.bookStore.example.test."} {
		query := question(qname, dns.TypeA)
		reply, err := s.ask(ctx, "udp", query)
		if err != nil {
			return err
		}
		if len(reply.Question) != 1 || reply.Question[0] != query.Question[0] {
			return fmt.Errorf("the question came back as %v, not as %q: resolvers that vary the case take it for a forgery", reply.Question, qname)
		}
		for _, record := range reply.Answer {
			if !strings.EqualFold(record.Header().Name, qname) {
				return fmt.Errorf("%s is answered for %s", record.Header().Name, qname)
			}
		}
		if strings.EqualFold(qname, name("db")) && len(reply.Answer) != 1 {
			return fmt.Errorf("%s: %d answers; the case of a name means nothing", qname, len(reply.Answer))
		}
	}
	return nil
}

func checkTruncation(ctx context.Context, s Subject) error {
	for _, c := range []struct {
		advertised uint16 // 0: no EDNS
		most       int
	}{{0, udpPlainMax}, {100, udpPlainMax}, {800, 800}, {1232, udpMax}, {4096, udpMax}, {65535, udpMax}} {
		query := question(name("many"), dns.TypeA)
		if c.advertised > 0 {
			query.SetEdns0(c.advertised, false)
		}
		packet, err := s.exchangeRaw(ctx, query)
		if err != nil {
			return err
		}
		reply := new(dns.Msg)
		if err := reply.Unpack(packet); err != nil {
			return fmt.Errorf("client takes %d: %w", c.advertised, err)
		}
		if len(packet) > c.most {
			return fmt.Errorf("client takes %d: answer of %d bytes; at most %d", c.advertised, len(packet), c.most)
		}
		if !reply.Truncated {
			return fmt.Errorf("client takes %d: %d of %d addresses and no TC: it never asks for the rest", c.advertised, len(reply.Answer), manyCount)
		}
	}
	reply, err := s.ask(ctx, "tcp", question(name("many"), dns.TypeA))
	if err != nil {
		return err
	}
	if len(reply.Answer) != manyCount || reply.Truncated {
		return fmt.Errorf("over TCP: %d of %d addresses, TC %v", len(reply.Answer), manyCount, reply.Truncated)
	}
	return nil
}

func checkOptions(ctx context.Context, s Subject) error {
	for _, network := range []string{"udp", "tcp"} {
		reply, err := s.ask(ctx, network, question(name("db"), dns.TypeA))
		if err != nil {
			return err
		}
		if reply.IsEdns0() != nil {
			return errors.New("OPT in the reply to a query without: old clients take it for malformed")
		}
		query := question(name("db"), dns.TypeA)
		query.SetEdns0(4096, true)
		query.IsEdns0().Option = append(query.IsEdns0().Option, &dns.EDNS0_LOCAL{Code: dns.EDNS0LOCALSTART, Data: []byte("ours")})
		reply, err = s.ask(ctx, network, query)
		if err != nil {
			return err
		}
		opt := reply.IsEdns0()
		if opt == nil || reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != 1 {
			return fmt.Errorf("query with EDNS: OPT %v, %s, %d answers", opt != nil, dns.RcodeToString[reply.Rcode], len(reply.Answer))
		}
		if opt.UDPSize() > udpMax || opt.UDPSize() < udpPlainMax || opt.Version() != 0 || !opt.Do() || len(opt.Option) != 0 {
			return fmt.Errorf("OPT: %v; want a size of %d to %d, version 0, DO as asked and no option", opt, udpPlainMax, udpMax)
		}
	}
	return nil
}

func checkBadVersion(ctx context.Context, s Subject) error {
	query := question(name("db"), dns.TypeA)
	query.SetEdns0(1232, false)
	query.IsEdns0().SetVersion(1)
	reply, err := s.ask(ctx, "udp", query)
	if err != nil {
		return err
	}
	opt := reply.IsEdns0()
	if reply.Rcode != dns.RcodeBadVers || opt == nil || opt.Version() != 0 || len(reply.Answer) != 0 {
		return fmt.Errorf("EDNS version 1: %s, OPT %v, %d answers; want BADVERS, version 0, no answer", dns.RcodeToString[reply.Rcode], opt, len(reply.Answer))
	}
	return nil
}

func checkAny(ctx context.Context, s Subject) error {
	for _, qname := range []string{name("@"), name("both")} {
		reply, err := s.expect(ctx, qname, dns.TypeANY, dns.RcodeSuccess)
		if err != nil {
			return err
		}
		types := map[uint16]bool{}
		for _, record := range reply.Answer {
			types[record.Header().Rrtype] = true
		}
		if len(types) != 1 || reply.Truncated {
			return fmt.Errorf("ANY of %s: %d kinds of records, TC %v; want one (RFC 8482)", qname, len(types), reply.Truncated)
		}
	}
	_, err := s.expect(ctx, name("absent"), dns.TypeANY, dns.RcodeNameError)
	return err
}

func checkOpcodes(ctx context.Context, s Subject) error {
	for _, opcode := range []int{dns.OpcodeIQuery, dns.OpcodeStatus, 6, 15} {
		query := question(name("db"), dns.TypeA)
		query.Opcode = opcode
		reply, err := s.ask(ctx, "udp", query)
		if err != nil {
			return err
		}
		if reply.Rcode != dns.RcodeNotImplemented || reply.Opcode != opcode {
			return fmt.Errorf("opcode %d: %s with opcode %d; want NOTIMP", opcode, dns.RcodeToString[reply.Rcode], reply.Opcode)
		}
	}
	update := new(dns.Msg).SetUpdate(ZoneName)
	update.Insert([]dns.RR{&dns.A{Hdr: dns.RR_Header{Name: name("evil"), Rrtype: dns.TypeA, Class: dns.ClassINET}, A: []byte{10, 0, 0, 1}}})
	reply, err := s.ask(ctx, "udp", update)
	if err != nil {
		return err
	}
	if reply.Rcode == dns.RcodeSuccess {
		return errors.New("UPDATE from anybody was taken")
	}
	_, err = s.expect(ctx, name("evil"), dns.TypeA, dns.RcodeNameError)
	return err
}

func checkQuestionCount(ctx context.Context, s Subject) error {
	for count := range 3 {
		if count == 1 {
			continue
		}
		query := question(name("db"), dns.TypeA)
		query.Question = slices.Repeat(query.Question, count)
		reply, err := s.ask(ctx, "udp", query)
		if err != nil {
			return err
		}
		if reply.Rcode != dns.RcodeFormatError {
			return fmt.Errorf("%d questions: %s; want FORMERR", count, dns.RcodeToString[reply.Rcode])
		}
	}
	return nil
}

func checkAliases(ctx context.Context, s Subject) error {
	reply, err := s.expect(ctx, name("www"), dns.TypeA, dns.RcodeSuccess)
	if err != nil {
		return err
	}
	if got := addressesIn(reply.Answer); len(reply.Answer) != 2 || len(got) != 1 || got[0] != "10.77.2.10" {
		return fmt.Errorf("www: %v; want the alias and the address of db", reply.Answer)
	}
	reply, err = s.expect(ctx, name("away"), dns.TypeA, dns.RcodeSuccess)
	if err != nil {
		return err
	}
	if len(reply.Answer) != 1 || reply.Answer[0].Header().Rrtype != dns.TypeCNAME {
		return fmt.Errorf("away: %v; want the alias alone", reply.Answer)
	}
	reply, err = s.expect(ctx, name("www"), dns.TypeCNAME, dns.RcodeSuccess)
	if err == nil && len(reply.Answer) != 1 {
		err = fmt.Errorf("CNAME of www: %v", reply.Answer)
	}
	return err
}

func checkText(ctx context.Context, s Subject) error {
	reply, err := s.ask(ctx, "tcp", question(name("long"), dns.TypeTXT))
	if err != nil {
		return err
	}
	if len(reply.Answer) != 1 {
		return fmt.Errorf("TXT: %d records", len(reply.Answer))
	}
	text, ok := reply.Answer[0].(*dns.TXT)
	want := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(longText)
	if !ok || strings.Join(text.Txt, "") != want {
		return fmt.Errorf("TXT: %v; want %s", reply.Answer[0], want)
	}
	return nil
}
