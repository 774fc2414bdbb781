package authority

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"go.yaml.in/yaml/v4"

	"firedrill/internal/drill"
)

// soaMailbox is the mailbox in the SOA record that RFC 2142 reserves for those who run a zone.
const soaMailbox = "hostmaster."

const dnsPort = 53

// Timers of the SOA record, in seconds. A secondary that missed being told looks by itself after the first.
const (
	soaRefresh = 60
	soaRetry   = 10
	soaExpire  = 1_209_600
)

// zoneBuilder makes a Zone of what was read, and collects every mistake on the way.
type zoneBuilder struct {
	file     string
	places   map[string][2]int // path in the file to line and column
	mistakes []drill.Mistake
	zone     *Zone
}

func (b *zoneBuilder) mistake(path, format string, args ...any) {
	place, ok := b.places[path]
	if !ok {
		place = [2]int{1, 1}
	}
	b.mistakes = append(b.mistakes, drill.Mistake{File: b.file, Line: place[0], Column: place[1], Path: path, Problem: fmt.Sprintf(format, args...)})
}

func (b *zoneBuilder) err() error {
	if len(b.mistakes) == 0 {
		return nil
	}
	slices.SortStableFunc(b.mistakes, func(x, y drill.Mistake) int { return (x.Line-y.Line)*10_000 + x.Column - y.Column })
	text := make([]string, len(b.mistakes))
	for i, mistake := range b.mistakes {
		text[i] = mistake.Error()
	}
	return &drill.Error{Kind: drill.Invalid, Err: fmt.Errorf("%s", strings.Join(text, "\n"))}
}

// placesOf returns where each key of a file stands. The text has been decoded before, so it is YAML of bounded size.
func placesOf(text []byte) map[string][2]int {
	places := map[string][2]int{}
	var document yaml.Node
	if err := yaml.Unmarshal(text, &document); err != nil || len(document.Content) == 0 {
		return places
	}
	var walk func(node *yaml.Node, path string, depth int)
	walk = func(node *yaml.Node, path string, depth int) {
		if node.Kind != yaml.MappingNode || depth > 3 {
			return
		}
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			inner := strings.TrimPrefix(path+"."+key.Value, ".")
			places[inner] = [2]int{key.Line, key.Column}
			walk(node.Content[i+1], inner, depth+1)
		}
	}
	walk(document.Content[0], "", 0)
	return places
}

func (b *zoneBuilder) build(read zoneFile) *Zone {
	name, err := absolute(strings.TrimSuffix(read.Zone, ".")+".", "")
	if err != nil || name == "." {
		b.mistake("zone", "%q is not the name of a zone; write one such as bookstore.example.test", read.Zone)
		return nil
	}
	b.zone = &Zone{Name: name, labels: dns.CountLabel(name), owners: map[string]*owner{name: {}}}
	b.zone.TTL = b.ttl("ttl", read.TTL, ttlDefault, 0, ttlMax)
	b.zone.NegativeTTL = b.ttl("negative_ttl", read.NegativeTTL, negativeDefault, negativeMin, negativeMax)
	if len(read.Records)+len(read.Failover)+len(read.Routed) > namesMax {
		b.mistake("records", "more than %d names", namesMax)
		return nil
	}
	for _, record := range read.Records {
		b.record(record)
	}
	for _, failover := range read.Failover {
		b.failover(failover)
	}
	b.checks(read.Checks)
	for _, routed := range read.Routed {
		b.routed(routed)
	}
	b.servers(read.Servers)
	b.secondaries(read.Secondaries)
	b.zone.between()
	for _, record := range read.Records {
		b.alias(record)
	}
	if len(b.mistakes) == 0 {
		b.zone.soa = newSOA(b.zone)
	}
	return b.zone
}

// ttl returns the TTL in whole seconds, which is all that DNS can say.
func (b *zoneBuilder) ttl(path string, written *drill.Seconds, fallback, least, most time.Duration) time.Duration {
	if written == nil {
		return fallback
	}
	value := written.Duration()
	if value < least || value > most || value%time.Second != 0 {
		b.mistake(path, "%v is not a TTL for this; write whole seconds from %v to %v", value, least, most)
	}
	return value
}

// owned returns the owner for a name of the file, nil after a mistake.
func (b *zoneBuilder) owned(path, name string) *owner {
	full, err := absolute(name, b.zone.Name)
	switch {
	case err != nil:
		b.mistake(path, "%v", err)
		return nil
	case !dns.IsSubDomain(b.zone.Name, full):
		b.mistake(path, "%s is not in the zone %s; leave out the final dot, or name it below the zone", full, b.zone.Name)
		return nil
	}
	if b.zone.owners[full] == nil {
		b.zone.owners[full] = &owner{}
	}
	found := b.zone.owners[full]
	if found.sets == nil {
		found.sets = map[uint16][]dns.RR{}
	}
	return found
}

func (b *zoneBuilder) record(read recordFile) {
	path := "records." + read.Name
	at := b.owned(path, read.Name)
	if at == nil {
		return
	}
	if len(at.addrs) > 0 || len(at.sets) > 0 {
		b.mistake(path, "the name stands here twice, in another writing; keep one")
		return
	}
	ttl := b.ttl(path+".ttl", read.TTL, b.zone.TTL, 0, ttlMax)
	at.ttl = ttl
	b.addresses(path, at, read)
	if read.CNAME != "" {
		b.cname(path, at, read, ttl)
	}
	for _, text := range read.TXT {
		at.sets[dns.TypeTXT] = append(at.sets[dns.TypeTXT], &dns.TXT{Hdr: header(dns.TypeTXT, ttl), Txt: chunks(escapeText(text))})
	}
	for _, mx := range read.MX {
		host, err := absolute(mx.Host, b.zone.Name)
		if err != nil || mx.Preference < 0 || mx.Preference > 65535 {
			b.mistake(path+".mx", "preference %d, host %q: write a preference of 0 to 65535 and a host name", mx.Preference, mx.Host)
			continue
		}
		at.sets[dns.TypeMX] = append(at.sets[dns.TypeMX], &dns.MX{Hdr: header(dns.TypeMX, ttl), Preference: uint16(mx.Preference), Mx: host})
	}
	if len(at.addrs) == 0 && len(at.sets) == 0 {
		b.mistake(path, "nothing stands here; write a, aaaa, cname, txt or mx")
	}
}

func (b *zoneBuilder) addresses(path string, at *owner, read recordFile) {
	for _, address := range read.A {
		if !address.Is4() {
			b.mistake(path+".a", "%s is not an IPv4 address; write it under aaaa", address)
		}
	}
	for _, address := range read.AAAA {
		if !address.Is6() || address.Is4In6() || address.Zone() != "" {
			b.mistake(path+".aaaa", "%s is not an IPv6 address without a zone; an IPv4 address belongs under a", address)
		}
	}
	at.addrs = slices.Concat(read.A, read.AAAA)
	b.countAddresses(path, at.addrs)
	if read.Rotate == nil {
		return
	}
	every := read.Rotate.Every.Duration()
	switch {
	case len(read.A) == 0 || len(read.AAAA) > 0:
		b.mistake(path+".rotate", "only a name with a and without aaaa can rotate")
	case read.Rotate.Take < 1 || read.Rotate.Take > len(read.A):
		b.mistake(path+".rotate", "take is %d; write 1 to %d, the number of addresses", read.Rotate.Take, len(read.A))
	case every < time.Second:
		b.mistake(path+".rotate", "every is %v; write 1s or more: a TTL has no smaller unit", every)
	}
	at.rotation = &rotation{every: max(every, time.Second), take: read.Rotate.Take}
}

func (b *zoneBuilder) countAddresses(path string, addresses []netip.Addr) {
	if len(addresses) > addressesMax {
		b.mistake(path, "%d addresses do not fit into one answer; the limit is %d", len(addresses), addressesMax)
	}
}

func (b *zoneBuilder) cname(path string, at *owner, read recordFile, ttl time.Duration) {
	target, err := absolute(read.CNAME, b.zone.Name)
	switch {
	case err != nil:
		b.mistake(path+".cname", "%v", err)
	case read.Name == "@" || len(read.A)+len(read.AAAA)+len(read.TXT)+len(read.MX) > 0:
		b.mistake(path+".cname", "an alias stands alone at its name, and never at the top of a zone (RFC 1034, 3.6.2)")
	default:
		at.sets[dns.TypeCNAME] = []dns.RR{&dns.CNAME{Hdr: header(dns.TypeCNAME, ttl), Target: target}}
	}
}

// alias says whether an alias of the zone leads somewhere: an alias to nowhere is answered as if the alias itself did not exist.
func (b *zoneBuilder) alias(read recordFile) {
	target := read.CNAME
	for range aliasMax {
		full, err := absolute(target, b.zone.Name)
		if target == "" || err != nil || !dns.IsSubDomain(b.zone.Name, full) {
			return
		}
		at := b.zone.owners[full]
		if at == nil {
			b.mistake("records."+read.Name+".cname", "%s does not exist in this zone", full)
			return
		}
		next := at.sets[dns.TypeCNAME]
		if len(next) == 0 {
			return
		}
		target = next[0].(*dns.CNAME).Target
	}
	b.mistake("records."+read.Name+".cname", "more than %d aliases in a row; let it lead to the address", aliasMax)
}

func (b *zoneBuilder) failover(read failoverFile) {
	path := "failover." + read.Name
	at := b.owned(path, read.Name)
	if at == nil {
		return
	}
	if at.failover || len(at.addrs) > 0 || len(at.sets[dns.TypeCNAME]) > 0 {
		b.mistake(path, "the name has addresses or an alias under records already; keep one")
		return
	}
	if len(read.Initial) == 0 {
		b.mistake(path+".initial", "no address; the name must lead somewhere before the first decision")
	}
	for _, address := range read.Initial {
		if problem := unusable(address); problem != "" {
			b.mistake(path+".initial", "%s", problem)
		}
	}
	b.countAddresses(path, read.Initial)
	at.failover, at.addrs = true, read.Initial
	at.ttl = b.ttl(path+".ttl", read.TTL, failoverTTLDefault, 0, failoverTTLMax)
}

// unusable says why no name may lead to an address, "" when it may.
func unusable(address netip.Addr) string {
	switch {
	case !address.IsValid():
		return "an address is missing"
	case address.Is4In6() || address.Zone() != "":
		return fmt.Sprintf("%s cannot be written into an answer; write a plain IPv4 or IPv6 address", address)
	case address.IsUnspecified() || address.IsMulticast():
		return fmt.Sprintf("%s is no address of a host", address)
	}
	return ""
}

func (b *zoneBuilder) servers(names []string) {
	if len(names) == 0 {
		b.mistake("servers", "a zone needs at least one name server; better two")
	}
	apex := b.zone.owners[b.zone.Name]
	if apex.sets == nil {
		apex.sets = map[uint16][]dns.RR{}
	}
	for _, name := range names {
		full, err := absolute(name, b.zone.Name)
		if err != nil {
			b.mistake("servers", "%v", err)
			continue
		}
		if at := b.zone.owners[full]; dns.IsSubDomain(b.zone.Name, full) && (at == nil || len(at.addrs) == 0) {
			b.mistake("servers", "%s has no address; write one under records", full)
		}
		b.zone.Servers = append(b.zone.Servers, full)
		apex.sets[dns.TypeNS] = append(apex.sets[dns.TypeNS], &dns.NS{Hdr: header(dns.TypeNS, b.zone.TTL), Ns: full})
	}
}

func (b *zoneBuilder) secondaries(read []secondary) {
	for i, one := range read {
		address, err := WithPort(one.Address)
		if err != nil {
			b.mistake("secondaries", "secondaries[%d]: %v", i, err)
			continue
		}
		b.zone.Secondaries = append(b.zone.Secondaries, SecondaryName{Address: address, Key: one.Key})
	}
}

// WithPort returns the address of a name server, an IP address with or without a port, with its port. A name would have to be looked up
// first, in the DNS that we are.
func WithPort(address string) (string, error) {
	if ip, err := netip.ParseAddr(strings.Trim(address, "[]")); err == nil {
		return netip.AddrPortFrom(ip, dnsPort).String(), nil
	}
	full, err := netip.ParseAddrPort(address)
	if err != nil {
		return "", fmt.Errorf("%q is no IP address, nor one with a port; write one such as 10.77.0.54 or 10.77.0.54:5353", address)
	}
	return full.String(), nil
}

// newSOA returns the SOA record of a zone in our own format.
func newSOA(zone *Zone) *dns.SOA {
	return &dns.SOA{
		Hdr: header(dns.TypeSOA, zone.NegativeTTL), Ns: zone.Servers[0], Mbox: soaMailbox + zone.Name, Serial: 1,
		Refresh: soaRefresh, Retry: soaRetry, Expire: soaExpire, Minttl: uint32(zone.NegativeTTL / time.Second),
	}
}

// between adds the names that exist only because a longer one does: they have no records, but they are no NXDOMAIN (RFC 8020).
func (z *Zone) between() {
	var missing []string
	for name := range z.owners {
		for {
			next, end := dns.NextLabel(name, 0)
			if end || name == z.Name {
				break
			}
			name = name[next:]
			missing = append(missing, name)
		}
	}
	for _, name := range missing {
		if z.owners[name] == nil && dns.IsSubDomain(z.Name, name) {
			z.owners[name] = &owner{}
		}
	}
}

func header(rrtype uint16, ttl time.Duration) dns.RR_Header {
	return dns.RR_Header{Rrtype: rrtype, Class: dns.ClassINET, Ttl: uint32(ttl / time.Second)}
}

// chunks cuts a text into the strings of a TXT record.
func chunks(text []string) []string {
	var parts []string
	length := 0
	var part strings.Builder
	for _, unit := range text {
		if length == textMax {
			parts = append(parts, part.String())
			part.Reset()
			length = 0
		}
		part.WriteString(unit)
		length++
	}
	return append(parts, part.String())
}

// escapeText returns a text byte by byte, in the writing that the DNS library wants for strings.
func escapeText(text string) []string {
	units := make([]string, 0, len(text))
	for i := range len(text) {
		switch c := text[i]; {
		case c == '"' || c == '\\':
			units = append(units, `\`+string(c))
		case c < ' ' || c > '~':
			units = append(units, fmt.Sprintf(`\%03d`, c))
		default:
			units = append(units, string(c))
		}
	}
	return units
}
