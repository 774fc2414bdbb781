package attack

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTargetsReadTheListsOfTheArticle(t *testing.T) {
	got, err := ParseTargets(Values{
		"hostname":  {"^api.example.test,cdn.example.test,db.example.test", "10.0.0.7"},
		"ipaddress": {"192.0.2.0/24, ^192.0.2.7", "::ffff:198.51.100.1", "10.1.2.3/8"}, "egress_port": {"8080-8085,443", "444"}, "ipprotocol": {"TCP"}})
	if err != nil {
		t.Fatal(err)
	}
	want := Targets{
		Hit:      []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("198.51.100.1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.0.0.7/32")},
		Spare:    []netip.Prefix{netip.MustParsePrefix("192.0.2.7/32")},
		HitNames: []string{"cdn.example.test", "db.example.test"}, SpareNames: []string{"api.example.test"},
		EgressPorts: []PortRange{{443, 444}, {8080, 8085}}, Protocol: ProtocolTCP,
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestTargetsRefuseWhatTheyCannotMean(t *testing.T) {
	for _, v := range []Values{
		{"ipaddress": {"10.0.0.300"}}, {"ipaddress": {"10.0.0.0/33"}}, {"ipaddress": {"fe80::1%eth0"}}, {"ipaddress": {"^"}}, {"ipaddress": {"::ffff:10.0.0.0/90"}},
		{"hostname": {"a b"}}, {"hostname": {"http://x"}}, {"hostname": {"a..b"}}, {"hostname": {strings.Repeat("a", 64)}}, {"hostname": {"x:80"}},
		{"egress_port": {"0"}}, {"egress_port": {"70000"}}, {"ingress_port": {"90-80"}}, {"ingress_port": {"http"}},
		{"ipprotocol": {"SCTP"}}, {"ipprotocol": {"ICMP"}, "egress_port": {"80"}},
	} {
		if got, err := ParseTargets(v); err == nil {
			t.Errorf("%v is %+v, want an error", v, got)
		}
	}
}

func TestSpareWinsOverTarget(t *testing.T) {
	targets, err := ParseTargets(Values{"ipaddress": {"192.0.2.1,192.0.2.2,^192.0.2.0/31"}, "hostname": {"db,^control"}})
	if err != nil {
		t.Fatal(err)
	}
	shared := netip.MustParseAddr("192.0.2.9")
	hit, spare := targets.Resolve(map[string]Resolution{"db": {Addresses: []netip.Addr{shared, netip.MustParseAddr("192.0.2.10")}}, "control": {Addresses: []netip.Addr{shared}}})
	text := func(named []Named) (all []string) {
		for _, n := range named {
			all = append(all, n.String())
		}
		return all
	}
	if got, want := text(hit), []string{"192.0.2.2", "192.0.2.10"}; !slices.Equal(got, want) {
		t.Errorf("hit %v, want %v", got, want)
	}
	if got, want := text(spare), []string{"192.0.2.0/31", "192.0.2.9"}; !slices.Equal(got, want) {
		t.Errorf("spare %v, want %v", got, want)
	}
}

// FuzzTargets: no input panics; what is read holds what the contract says of it; and a merged list of CIDRs covers exactly what the
// list covered.
func FuzzTargets(f *testing.F) {
	for _, seed := range []string{"10.0.0.0/8,10.1.0.0/16,^10.1.1.1", "::/0,::1,^::2", "1.2.3.4/32,1.2.3.4", "0.0.0.0/0,255.255.255.255", "^,,^^1.1.1.1", "1-65535,5,0-3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if ranges, err := ParsePorts(Values{"p": {text}}.List("p")); err == nil {
			for i, r := range ranges {
				if r.First == 0 || r.First > r.Last || (i > 0 && int(ranges[i-1].Last)+1 >= int(r.First)) {
					t.Errorf("ports %q: %v", text, ranges)
				}
			}
		}
		targets, err := ParseTargets(Values{"ipaddress": {text}, "hostname": {text}})
		if err != nil {
			return
		}
		merged := MergeNets(targets.Hit)
		for i, p := range merged {
			if p != p.Masked() || (i > 0 && merged[i-1].Overlaps(p)) {
				t.Errorf("%q merges to %v", text, merged)
			}
		}
		cover := NewCover(targets.Hit)
		for _, p := range targets.Hit {
			if !cover.Holds(p) {
				t.Errorf("%q: cover does not hold %s", text, p)
			}
			if !slices.ContainsFunc(merged, func(m netip.Prefix) bool { return m.Contains(p.Addr()) && m.Bits() <= p.Bits() }) {
				t.Errorf("%q: %s is lost in %v", text, p, merged)
			}
		}
	})
}

func TestCoverHoldsWhatLiesWithin(t *testing.T) {
	cover := NewCover([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("fd00::/8")})
	for text, want := range map[string]bool{"10.255.255.255/32": true, "10.0.0.0/8": true, "10.0.0.0/7": false, "11.0.0.0/32": false, "192.0.2.1/32": true,
		"192.0.2.0/31": false, "fd12::1/128": true, "fe80::1/128": false} {
		if got := cover.Holds(netip.MustParsePrefix(text)); got != want {
			t.Errorf("%s: %t, want %t", text, got, want)
		}
	}
	if (*Cover)(nil).Holds(netip.MustParsePrefix("::/0")) {
		t.Error("a nil cover holds something")
	}
}
