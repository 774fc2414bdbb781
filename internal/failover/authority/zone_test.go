package authority

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"firedrill/internal/drill"
)

const bookstoreZone = `zone: bookstore.example.test
servers: [ns]
records:
  ns: {a: [10.77.0.53]}
  cdn: {a: [10.77.3.1, 10.77.3.2, 10.77.3.3, 10.77.3.4], ttl: 1s, rotate: {every: 3s, take: 2}}
failover:
  "@": {ttl: 1s, initial: [10.77.1.10]}
  api: {initial: [10.77.1.10, "2001:db8::10"]}
`

func TestMistakesInAZoneNamePlaceAndCure(t *testing.T) {
	head := "zone: example.test\nservers: [ns]\nrecords:\n  ns: {a: [10.0.0.1]}\n"
	for _, c := range []struct{ text, want string }{
		{head + "  db: {aa: [10.0.0.2]}\n", `zone.yaml:5:8: records.db.aa: unknown field; did you mean "aaaa"?`},
		{head + "  db: {a: [10.0.0.300]}\n", `zone.yaml:5:12: records.db.a[0]: "10.0.0.300" is not an IP address`},
		{head + "  db: {a: ['2001:db8::1']}\n", "zone.yaml:5:8: records.db.a: 2001:db8::1 is not an IPv4 address; write it under aaaa"},
		{head + "  db: {aaaa: [10.0.0.1]}\n", "zone.yaml:5:8: records.db.aaaa: 10.0.0.1 is not an IPv6 address"},
		{head + "  db: {a: [10.0.0.2], cname: ns}\n", "zone.yaml:5:23: records.db.cname: an alias stands alone"},
		{head + "  db: {cname: absent}\n", "zone.yaml:5:8: records.db.cname: absent.example.test. does not exist in this zone"},
		{head + "  db: {cname: db}\n", "zone.yaml:5:8: records.db.cname: more than 8 aliases in a row"},
		{head + "  db: {ttl: 1s}\n", "zone.yaml:5:3: records.db: nothing stands here"},
		{head + "  db.: {a: [10.0.0.2]}\n", "zone.yaml:5:3: records.db.: db. is not in the zone"},
		{head + "  NS: {a: [10.0.0.2]}\n", "zone.yaml:5:3: records.NS: the name stands here twice"},
		{head + "  '*': {a: [10.0.0.2]}\n", "zone.yaml:5:3: records.*: \"*\" holds a character"},
		{head + "  db: {a: [10.0.0.2], ttl: 1500ms}\n", "zone.yaml:5:23: records.db.ttl: 1.5s is not a TTL for this; write whole seconds"},
		{head + "  db: {a: [10.0.0.2], rotate: {every: 3s, take: 2}}\n", "zone.yaml:5:23: records.db.rotate: take is 2; write 1 to 1"},
		{head + "  db: {a: [10.0.0.2], rotate: {every: 100ms, take: 1}}\n", "every is 100ms; write 1s or more"},
		{head + "negative_ttl: 60s\n", "zone.yaml:5:1: negative_ttl: 1m0s is not a TTL for this; write whole seconds from 1s to 5s"},
		{head + "failover:\n  '@': {initial: [10.0.0.1], ttl: 5m}\n", "zone.yaml:6:30: failover.@.ttl: 5m0s is not a TTL for this; write whole seconds from 0s to 1m0s"},
		{head + "failover:\n  '@': {initial: []}\n", "zone.yaml:6:9: failover.@.initial: no address"},
		{head + "failover:\n  '@': {initial: [0.0.0.0]}\n", "0.0.0.0 is no address of a host"},
		{head + "failover:\n  '@': {ttl: 1s}\n", "initial is missing"},
		{head + "failover:\n  ns: {initial: [10.0.0.2]}\n", "zone.yaml:6:3: failover.ns: the name has addresses"},
		{"zone: example.test\nservers: [ns]\n", "zone.yaml:2:1: servers: ns.example.test. has no address; write one under records"},
		{"zone: example.test\nservers: []\n", "zone.yaml:2:1: servers: a zone needs at least one name server"},
		{"zone: .\nservers: [ns.example.net.]\n", "zone.yaml:1:1: zone: \".\" is not the name of a zone"},
		{"zone: [\n", "zone.yaml:"},
		{"", "zone.yaml:1:1: the file is empty"},
	} {
		_, err := ParseZone([]byte(c.text), "zone.yaml")
		if err == nil || !strings.Contains(err.Error(), c.want) || drill.KindOf(err) != drill.Invalid {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
}

func TestNameServersMayStandElsewhere(t *testing.T) {
	zone := mustZone(t, "zone: example.test\nservers: [ns1.example.net., ns2.example.net.]\n")
	reply := zone.Answer(new(dns.Msg).SetQuestion("example.test.", dns.TypeNS), nil, time.Time{}, false)
	if len(reply.Answer) != 2 || len(reply.Extra) != 0 {
		t.Errorf("NS: %v", reply)
	}
}

func TestRotationIsAFunctionOfTheTime(t *testing.T) {
	zone := mustZone(t, bookstoreZone)
	at := func(second int64) string {
		reply := zone.Answer(new(dns.Msg).SetQuestion("cdn.bookstore.example.test.", dns.TypeA), nil, time.Unix(second, 0), false)
		var found []string
		for _, record := range reply.Answer {
			found = append(found, record.(*dns.A).A.String()[len("10.77.3."):])
		}
		return strings.Join(found, " ")
	}
	var got []string
	for second := range int64(9) {
		got = append(got, at(second))
	}
	if diff := cmp.Diff([]string{"1 2", "1 2", "1 2", "3 4", "3 4", "3 4", "1 2", "1 2", "1 2"}, got); diff != "" {
		t.Error(diff)
	}
	if at(-1) == "" || at(1_795_392_000) != at(1_795_392_000) {
		t.Error("the same time gives different answers, or none before 1970")
	}
}

func TestEveryAddressTakesItsTurn(t *testing.T) {
	var addresses []netip.Addr
	for count := 1; count <= 7; count++ {
		addresses = append(addresses, netip.AddrFrom4([4]byte{10, 0, 0, byte(count)}))
		for take := 1; take <= count; take++ {
			seen := map[netip.Addr]int{}
			r := rotation{every: time.Second, take: take}
			for second := range int64(count) {
				served := r.at(time.Unix(second, 0), addresses)
				if len(served) != take || len(slices.Compact(slices.Clone(served))) != take {
					t.Fatalf("%d of %d: %v", take, count, served)
				}
				for _, address := range served {
					seen[address]++
				}
			}
			for _, address := range addresses {
				if seen[address] != take {
					t.Errorf("%d of %d: %s was served %d times in a full turn; want %d", take, count, address, seen[address], take)
				}
			}
		}
	}
}

func FuzzParseZone(f *testing.F) {
	f.Add(bookstoreZone)
	f.Add("zone: example.test\nservers: [ns]\nrecords:\n  ns: {a: 10.0.0.1, txt: [\"\\x00\"], mx: [{preference: 1, host: m}]}\n  a.b: {cname: a.b}\n")
	f.Add("zone: .\nservers: [.]\n")
	f.Add("a: &a [*a]\n")
	f.Fuzz(func(t *testing.T, text string) {
		zone, err := ParseZone([]byte(text), "zone.yaml")
		if err != nil {
			if drill.KindOf(err) != drill.Invalid {
				t.Fatalf("kind %v: %v", drill.KindOf(err), err)
			}
			return
		}
		// What is read can be served: each name answers each type with a packet, and none with SERVFAIL.
		for name := range zone.owners {
			for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeNS, dns.TypeSOA, dns.TypeTXT, dns.TypeMX, dns.TypeANY} {
				reply := zone.Answer(new(dns.Msg).SetQuestion(name, qtype), nil, time.Unix(1, 0), true)
				if _, err := reply.Pack(); err != nil {
					t.Fatalf("%s %s: %v", name, dns.TypeToString[qtype], err)
				}
				if reply.Rcode != dns.RcodeSuccess {
					t.Fatalf("%s %s: %s", name, dns.TypeToString[qtype], dns.RcodeToString[reply.Rcode])
				}
			}
		}
	})
}

func FuzzCompose(f *testing.F) {
	for _, qname := range []string{"bookstore.example.test.", "Cdn.bookstore.EXAMPLE.test.", "absent.bookstore.example.test.", "."} {
		query := new(dns.Msg).SetQuestion(qname, dns.TypeA)
		query.SetEdns0(4096, true)
		packet, err := query.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet, false)
	}
	server, err := New(Options{Zone: mustZone(f, bookstoreZone), Listen: "127.0.0.1:0"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, packet []byte, overTCP bool) {
		query := new(dns.Msg)
		if query.Unpack(packet) != nil || len(query.Question) == 0 {
			return
		}
		answer := server.compose(query, time.Unix(1, 0), overTCP)
		reply := new(dns.Msg)
		if err := reply.Unpack(answer); err != nil {
			t.Fatalf("the answer is malformed: %v", err)
		}
		if reply.Id != query.Id || !reply.Response || reply.Rcode == dns.RcodeServerFailure {
			t.Fatalf("no proper reply: %v", reply)
		}
		if !overTCP && len(answer) > udpMax {
			t.Fatalf("%d bytes over UDP", len(answer))
		}
		if len(comeByTCP(query)) > max(udpMax, len(packet)+11) {
			t.Fatal("the reply to a source over its rate floods it")
		}
	})
}
