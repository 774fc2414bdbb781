package authority

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
)

// Limits and defaults of a zone. Resolvers keep what we say for as long as we say, so what may have to change is short-lived.
const (
	ttlDefault         = 5 * time.Second
	ttlMax             = 24 * time.Hour
	negativeDefault    = 2 * time.Second
	negativeMin        = time.Second     // less, and each missing type is asked for again at once
	negativeMax        = 5 * time.Second // a name that is missed once stays missing this long in resolvers
	failoverTTLDefault = 5 * time.Second
	failoverTTLMax     = time.Minute // a longer one makes every failover longer than a minute
	namesMax           = 10_000      // names in a zone
	addressesMax       = 2_000       // addresses of a name: what fits in one answer over TCP, with room
	textMax            = 255         // bytes of one string in a TXT record
)

// Zone is what is served. It does not change once read; only the decided answers of its failover names do.
type Zone struct {
	Name        string // absolute and in lower case: "bookstore.example.test."
	TTL         time.Duration
	NegativeTTL time.Duration
	Servers     []string // absolute
	Secondaries []SecondaryName

	health health
	held   map[string][]dns.RR // hosted zones: what each record holds, by its ID
	soa    *dns.SOA            // with the zone's own serial number, to which those of the decisions are added
	labels int
	owners map[string]*owner // by absolute name in lower case; names that exist only because of longer ones are empty
}

// SecondaryName is a secondary as the zone file writes it. Without a key it is known by its address.
type SecondaryName struct {
	Address string // host:port
	Key     string // name of the key that it signs with
}

// owner is a name with what stands there.
type owner struct {
	sets     map[uint16][]dns.RR // with the owner's name empty: it is taken from the question
	addrs    []netip.Addr        // A and AAAA together
	ttl      time.Duration       // of addrs
	rotation *rotation
	failover bool                          // addrs is only the initial answer
	routed   *failover.RecordSet           // addrs are all of its addresses
	hosted   map[uint16]failover.RecordSet // of a hosted zone, which has nothing else here
}

// rotation says which part of the addresses is served when: a pure function of the time, so that all servers of a zone agree.
type rotation struct {
	every time.Duration
	take  int
}

// at returns the addresses served at now: the next take of them in each span of every, beginning again at the end of the list.
func (r rotation) at(now time.Time, addresses []netip.Addr) []netip.Addr {
	count := len(addresses)
	if r.take >= count {
		return addresses
	}
	turn := now.UnixNano() / int64(r.every)
	first := int((turn % int64(count)) * int64(r.take) % int64(count))
	first = (first + count) % count // times before 1970
	served := make([]netip.Addr, 0, r.take)
	for i := range r.take {
		served = append(served, addresses[(first+i)%count])
	}
	return served
}

type zoneFile struct {
	Zone        string         `yaml:"zone,required"`
	TTL         *drill.Seconds `yaml:"ttl"`
	NegativeTTL *drill.Seconds `yaml:"negative_ttl"`
	Servers     []string       `yaml:"servers,required"`
	Secondaries []secondary    `yaml:"secondaries"`
	Records     []recordFile   `yaml:"records,keyed"`
	Failover    []failoverFile `yaml:"failover,keyed"`
	Checks      []checkFile    `yaml:"checks,keyed"`
	Routed      []routedFile   `yaml:"routed,keyed"`
}

type secondary struct {
	Address string `yaml:"address,required"`
	Key     string `yaml:"key"`
}

type recordFile struct {
	Name   string         `yaml:"-"`
	A      []netip.Addr   `yaml:"a"`
	AAAA   []netip.Addr   `yaml:"aaaa"`
	CNAME  string         `yaml:"cname"`
	TXT    []string       `yaml:"txt"`
	MX     []mxFile       `yaml:"mx"`
	TTL    *drill.Seconds `yaml:"ttl"`
	Rotate *rotateFile    `yaml:"rotate"`
}

type mxFile struct {
	Preference int    `yaml:"preference"`
	Host       string `yaml:"host,required"`
}

type rotateFile struct {
	Every drill.Seconds `yaml:"every,required"`
	Take  int           `yaml:"take,required"`
}

type failoverFile struct {
	Name    string         `yaml:"-"`
	TTL     *drill.Seconds `yaml:"ttl"`
	Initial []netip.Addr   `yaml:"initial,required"`
}

// FileForm is what a zone file is read into, for its JSON Schema.
func FileForm() any { return zoneFile{} }

// ParseZone reads a zone file. file is its name in error messages. The error is a *drill.Error of kind Invalid that names line, column
// and cure of each mistake.
func ParseZone(text []byte, file string) (*Zone, error) {
	var read zoneFile
	if err := drill.Decode(text, file, &read); err != nil {
		return nil, err
	}
	b := zoneBuilder{file: file, places: placesOf(text)}
	zone := b.build(read)
	if err := b.err(); err != nil {
		return nil, err
	}
	return zone, nil
}

// FailoverNames returns the names whose answers are decided elsewhere, absolute and in lower case.
func (z *Zone) FailoverNames() []string {
	var names []string
	for _, name := range slices.Sorted(maps.Keys(z.owners)) {
		if z.owners[name].failover {
			names = append(names, name)
		}
	}
	return names
}

// Initial returns the answer that a failover name has until one is decided; nil for any other name.
func (z *Zone) Initial(name string) []netip.Addr {
	if o := z.owners[dns.CanonicalName(name)]; o != nil && o.failover {
		return slices.Clone(o.addrs)
	}
	return nil
}

// absolute returns a name of the file as an absolute one in lower case: "@" is the zone, a final dot means that it is absolute already.
func absolute(name, zone string) (string, error) {
	full := name
	switch {
	case name == "@":
		full = zone
	case !strings.HasSuffix(name, "."):
		full = name + "." + zone
	}
	if _, ok := dns.IsDomainName(full); !ok || name == "" || strings.HasPrefix(name, ".") {
		return "", fmt.Errorf("%q is not a domain name", name)
	}
	if strings.ContainsAny(full, "*\\ \t\"();@$") {
		return "", fmt.Errorf("%q holds a character that is not served here; write letters, digits, - and _", name)
	}
	return dns.CanonicalName(full), nil
}
