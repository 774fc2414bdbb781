package authority

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"firedrill/internal/failover/failovertest"
)

// fastServer returns a server that does not run, with the part of its socket that answers at once.
func fastServer(tb testing.TB) (*Server, *fastConn) {
	tb.Helper()
	s, err := New(Options{Zone: mustZone(tb, failovertest.ZoneYAML()), Listen: "127.0.0.1:0", Rate: 1 << 30})
	if err != nil {
		tb.Fatal(err)
	}
	return s, &fastConn{server: s, replies: map[string]fastReply{}}
}

// meaning is a reply in words; where names are compressed is no part of it, and neither is the case of names in records.
func meaning(tb testing.TB, packet []byte) string {
	tb.Helper()
	reply := new(dns.Msg)
	if err := reply.Unpack(packet); err != nil {
		tb.Fatalf("%x: %v", packet, err)
	}
	question := fmt.Sprint(reply.Question)
	return question + strings.ToLower(reply.String())
}

// agree asks by both ways and compares. It says whether the fast way answered.
func agree(tb testing.TB, s *Server, f *fastConn, query *dns.Msg) bool {
	tb.Helper()
	packet, err := query.Pack()
	if err != nil {
		tb.Fatal(err)
	}
	fast := f.answer(packet, netip.MustParseAddr("192.0.2.1"))
	if fast == nil {
		return false
	}
	if diff := cmp.Diff(meaning(tb, s.compose(query, time.Unix(1, 0), false)), meaning(tb, fast)); diff != "" {
		tb.Errorf("%v (-composed +at once):\n%s", query.Question, diff)
	}
	return true
}

func TestWhatIsRememberedIsWhatIsComposed(t *testing.T) {
	s, f := fastServer(t)
	quick := 0
	for serial, address := range []string{"10.77.1.10", "10.77.1.20", "2001:db8::9"} {
		if err := s.Set(apexName, addrs(address), uint64(serial+1)); err != nil { //nolint:gosec // small
			t.Fatal(err)
		}
		for range 2 { // composed, then remembered
			for _, label := range []string{"", "ns.", "db.", "dB.", "both.", "www.", "away.", "deep.below.there.", "there.", "long.", "many.", "absent."} {
				for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeNS, dns.TypeSOA, dns.TypeCNAME, dns.TypeTXT, dns.TypeMX, dns.TypeHTTPS, dns.TypeANY, dns.TypeAXFR, dns.TypePTR} {
					for _, change := range []func(*dns.Msg){
						func(*dns.Msg) {}, func(m *dns.Msg) { m.RecursionDesired = false }, func(m *dns.Msg) { m.SetEdns0(1232, false) },
						func(m *dns.Msg) { m.SetEdns0(4096, true) }, func(m *dns.Msg) { m.AuthenticatedData = true }, func(m *dns.Msg) { m.SetEdns0(600, false) },
						func(m *dns.Msg) { m.CheckingDisabled = true }, func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify },
						func(m *dns.Msg) { m.SetEdns0(1232, false); m.IsEdns0().SetVersion(1) }, func(m *dns.Msg) { m.Question[0].Name = strings.ToUpper(m.Question[0].Name) },
					} {
						query := new(dns.Msg).SetQuestion(label+failovertest.ZoneName, qtype)
						change(query)
						if agree(t, s, f, query) {
							quick++
						}
					}
				}
			}
		}
	}
	if quick < 1000 {
		t.Errorf("only %d queries were answered at once", quick)
	}
}

// TestRememberedReplyEndsWithTheDecision plants the bug: replies that outlive a decision.
func TestRememberedReplyEndsWithTheDecision(t *testing.T) {
	s, f := fastServer(t)
	query := new(dns.Msg).SetQuestion(apexName, dns.TypeA)
	if !agree(t, s, f, query) {
		t.Fatal("not answered at once")
	}
	if err := s.Set(apexName, addrs("10.77.1.20"), 1); err != nil {
		t.Fatal(err)
	}
	packet, err := query.Pack()
	if err != nil {
		t.Fatal(err)
	}
	f.decided = s.decided.Load() // as if the decision had not been noticed
	if got := meaning(t, f.answer(packet, netip.MustParseAddr("192.0.2.1"))); !strings.Contains(got, "10.77.1.10") {
		t.Error("the planted bug does not show")
	}
	f.decided = nil
	if !agree(t, s, f, query) {
		t.Error("not answered at once after a decision")
	}
}

func TestWhatFollowsTheClockIsNotRemembered(t *testing.T) {
	s, err := New(Options{Zone: mustZone(t, bookstoreZone), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	f := &fastConn{server: s, replies: map[string]fastReply{}}
	packet, err := new(dns.Msg).SetQuestion("cdn."+apexName, dns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	if f.answer(packet, netip.MustParseAddr("192.0.2.1")) != nil || len(f.replies) != 0 {
		t.Error("a name that rotates was remembered")
	}
}

func TestContractHoldsForWhatIsRemembered(t *testing.T) {
	s := start(t, Options{Zone: mustZone(t, failovertest.ZoneYAML()), Rate: 1 << 30})
	serial := uint64(0)
	failovertest.Test(t, failovertest.Subject{
		Address: s.Address().String(),
		Publish: func(addresses []netip.Addr) error {
			serial++
			return s.Set(failovertest.ZoneName, addresses, serial)
		},
	})
}

// TestReplyLeavesFromTheAddressThatWasAsked asks a server on every address at an address that is not the usual source: a client whose socket is
// connected hears a reply from there alone.
func TestReplyLeavesFromTheAddressThatWasAsked(t *testing.T) {
	for _, listen := range []string{"0.0.0.0:0", "[::]:0"} {
		s := start(t, Options{Zone: mustZone(t, failovertest.ZoneYAML()), Listen: listen})
		asked := []string{"127.0.0.7"}
		if listen == "[::]:0" {
			asked = append(asked, "::1")
		}
		for _, host := range asked {
			for _, qname := range []string{"db." + failovertest.ZoneName, "absent." + failovertest.ZoneName} { // at once, and composed
				client := dns.Client{Timeout: patience}
				reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(qname, dns.TypeA), net.JoinHostPort(host, fmt.Sprint(s.Address().Port())))
				if err != nil || reply == nil {
					t.Errorf("%s, asked at %s: %v", listen, host, err)
				}
			}
		}
	}
}

func FuzzFastAgreesWithComposed(f *testing.F) {
	s, fast := fastServer(f)
	for _, query := range []*dns.Msg{
		new(dns.Msg).SetQuestion(apexName, dns.TypeA), new(dns.Msg).SetQuestion("dB."+apexName, dns.TypeAAAA), new(dns.Msg).SetQuestion("many."+apexName, dns.TypeA).SetEdns0(1232, true),
	} {
		packet, err := query.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		reply := fast.answer(packet, netip.MustParseAddr("192.0.2.1"))
		if reply == nil {
			return
		}
		query := new(dns.Msg)
		if err := query.Unpack(packet); err != nil {
			t.Fatalf("%x is answered and is no message: %v", packet, err)
		}
		if diff := cmp.Diff(meaning(t, s.compose(query, time.Unix(1, 0), false)), meaning(t, reply)); diff != "" {
			t.Errorf("%x (-composed +at once):\n%s", packet, diff)
		}
	})
}

// BenchmarkAnswerAtOnce is the work of one remembered answer without sockets.
func BenchmarkAnswerAtOnce(b *testing.B) {
	_, f := fastServer(b)
	packet, err := new(dns.Msg).SetQuestion(apexName, dns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	source := netip.MustParseAddr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		if f.answer(packet, source) == nil {
			b.Fatal("no answer")
		}
	}
}
