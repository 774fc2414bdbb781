package failovertest

import (
	"fmt"
	"net/netip"
	"strings"
)

// ZoneName is the zone that the subject must serve.
const ZoneName = "bookstore.example.test."

// manyCount is the number of addresses of the name "many": too many for any answer over UDP.
const manyCount = 200

// longText is longer than one string of a TXT record, and holds what must be escaped.
var longText = strings.Repeat("0123456789", 30) + ` "quoted" \ end`

// manyAddresses returns the addresses of the name "many".
func manyAddresses() []netip.Addr {
	addresses := make([]netip.Addr, manyCount)
	for i := range addresses {
		addresses[i] = netip.AddrFrom4([4]byte{10, 78, byte(i >> 8), byte(i)})
	}
	return addresses
}

// ZoneYAML returns the zone in the format of firedrill authority.
func ZoneYAML() string {
	var many []string
	for _, address := range manyAddresses() {
		many = append(many, address.String())
	}
	return fmt.Sprintf(`zone: bookstore.example.test
ttl: 5s
negative_ttl: 2s
servers: [ns]
records:
  ns: {a: [10.77.0.53]}
  db: {a: [10.77.2.10], ttl: 1s}
  both: {a: [10.77.4.1], aaaa: ["2001:db8::4:1"], txt: [plain]}
  www: {cname: db}
  away: {cname: www.elsewhere.example.}
  deep.below.there: {a: [10.77.5.1]}
  long: {txt: ['%s']}
  many: {a: [%s]}
failover:
  "@": {ttl: 1s, initial: [10.77.1.10]}
`, longText, strings.Join(many, ", "))
}

// ZoneFile returns the same zone as RFC 1035 writes it.
func ZoneFile() string {
	text := strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(longText[:250]) + `" "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(longText[250:])
	lines := []string{
		"$ORIGIN " + ZoneName,
		"$TTL 5",
		"@ 2 IN SOA ns hostmaster 1 60 10 1209600 2",
		"@ IN NS ns",
		"@ 1 IN A 10.77.1.10",
		"ns IN A 10.77.0.53",
		"db 1 IN A 10.77.2.10",
		"both IN A 10.77.4.1",
		"both IN AAAA 2001:db8::4:1",
		"both IN TXT plain",
		"www IN CNAME db",
		"away IN CNAME www.elsewhere.example.",
		"deep.below.there IN A 10.77.5.1",
		`long IN TXT "` + text + `"`,
	}
	for _, address := range manyAddresses() {
		lines = append(lines, "many IN A "+address.String())
	}
	return strings.Join(lines, "\n") + "\n"
}
