package authority

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/failover/failovertest"
	"firedrill/internal/failover/tsig"
)

const testSecret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="

func testKey(name string) tsig.Key {
	return tsig.Key{Name: dns.CanonicalName(name), Algorithm: dns.HmacSHA256, Secret: testSecret}
}

// transferred asks for the zone and returns the records, or why there are none.
func transferred(t *testing.T, s *Server, query *dns.Msg, key tsig.Key) ([]dns.RR, error) {
	t.Helper()
	transfer := dns.Transfer{TsigSecret: key.Secrets(), ReadTimeout: patience, DialTimeout: patience}
	key.Sign(query, time.Now())
	envelopes, err := transfer.In(query, s.Address().String())
	if err != nil {
		return nil, err
	}
	var records []dns.RR
	for envelope := range envelopes {
		if envelope.Error != nil {
			return nil, envelope.Error
		}
		records = append(records, envelope.RR...)
	}
	return records, nil
}

func TestOnlySecondariesGetTheZone(t *testing.T) {
	zone := mustZone(t, failovertest.ZoneYAML())
	for _, row := range []struct {
		name      string
		secondary []Secondary
		with      tsig.Key
		given     bool
	}{
		{"nobody is a secondary", nil, tsig.Key{}, false},
		{"known by its address", []Secondary{{Address: "127.0.0.1:1"}}, tsig.Key{}, true},
		{"another address", []Secondary{{Address: "127.0.0.2:1"}}, tsig.Key{}, false},
		{"known by its key", []Secondary{{Address: "192.0.2.1:53", Key: testKey("xfr")}}, testKey("xfr"), true},
		{"the address alone where a key is asked", []Secondary{{Address: "127.0.0.1:1", Key: testKey("xfr")}}, tsig.Key{}, false},
		{"another secret", []Secondary{{Address: "127.0.0.1:1", Key: testKey("xfr")}}, tsig.Key{Name: "xfr.", Algorithm: dns.HmacSHA256, Secret: "b3RoZXItb3RoZXItb3RoZXI="}, false},
		{"another algorithm", []Secondary{{Address: "127.0.0.1:1", Key: testKey("xfr")}}, tsig.Key{Name: "xfr.", Algorithm: dns.HmacSHA1, Secret: testSecret}, false},
		{"an unknown key", []Secondary{{Address: "127.0.0.1:1", Key: testKey("xfr")}}, testKey("other"), false},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := start(t, Options{Zone: zone, Secondaries: notTold(row.secondary)})
			records, err := transferred(t, s, new(dns.Msg).SetAxfr(failovertest.ZoneName), row.with)
			if (err == nil && len(records) > 200) != row.given {
				t.Errorf("%d records, %v; given should be %t", len(records), err, row.given)
			}
			if _, err := transferred(t, s, new(dns.Msg).SetAxfr("elsewhere.test."), row.with); err == nil {
				t.Error("another zone was given")
			}
		})
	}
}

// notTold returns secondaries as they are: nobody listens at their addresses, and that must hold up nothing.
func notTold(all []Secondary) []Secondary { return all }

func TestTransferHoldsTheWholeZoneAsItIsServed(t *testing.T) {
	s := start(t, Options{Zone: mustZone(t, failovertest.ZoneYAML()), Secondaries: []Secondary{{Address: "127.0.0.1:1"}}})
	if err := s.Set(apexName, addrs("10.77.1.20", "10.77.1.21"), 9); err != nil {
		t.Fatal(err)
	}
	records, err := transferred(t, s, new(dns.Msg).SetAxfr(apexName), tsig.Key{})
	if err != nil {
		t.Fatal(err)
	}
	first, last := records[0].(*dns.SOA), records[len(records)-1].(*dns.SOA)
	if first.Serial != 10 || last.Serial != 10 {
		t.Errorf("serial numbers %d and %d; want 10", first.Serial, last.Serial)
	}
	got := map[string]bool{}
	for _, record := range records[1 : len(records)-1] {
		asked, err := dns.Exchange(new(dns.Msg).SetQuestion(record.Header().Name, record.Header().Rrtype), s.Address().String())
		if err == nil && asked.Truncated {
			client := dns.Client{Net: "tcp", Timeout: patience}
			asked, _, err = client.Exchange(new(dns.Msg).SetQuestion(record.Header().Name, record.Header().Rrtype), s.Address().String())
		}
		if err != nil || !slices.ContainsFunc(asked.Answer, func(other dns.RR) bool { return dns.IsDuplicate(other, record) }) {
			t.Fatalf("%v is transferred and not served: %v", record, err)
		}
		got[record.String()] = true
		if len(got) > 40 {
			break // the many addresses of one name are alike
		}
	}
	if served := s.Served(apexName); !slices.Equal(served, addrs("10.77.1.20", "10.77.1.21")) {
		t.Errorf("served %v", served)
	}
	if !strings.Contains(fmt.Sprint(records), "10.77.1.21") {
		t.Error("the decided answer is not in the transfer")
	}
}

func TestIncrementalTransferIsTheSOAWhenNothingChanged(t *testing.T) {
	s := start(t, Options{Zone: mustZone(t, failovertest.ZoneYAML()), Secondaries: []Secondary{{Address: "127.0.0.1:1"}}})
	if err := s.Set(apexName, addrs("10.77.1.20"), 9); err != nil {
		t.Fatal(err)
	}
	client := dns.Client{Net: "tcp", Timeout: patience}
	for serial, whole := range map[uint32]bool{9: true, 10: false, 11: false, 1<<31 + 100: true} {
		reply, _, err := client.Exchange(new(dns.Msg).SetIxfr(apexName, serial, "ns.", "mail."), s.Address().String())
		if err != nil {
			t.Fatal(err)
		}
		if (len(reply.Answer) > 1) != whole {
			t.Errorf("to one who has %d: %d records", serial, len(reply.Answer))
		}
	}
}

func TestUndecidedZoneIsNotHandedOut(t *testing.T) {
	s := start(t, Options{Zone: mustZone(t, failovertest.ZoneYAML()), Secondaries: []Secondary{{Address: "127.0.0.1:1"}}, Follows: true})
	if records, err := transferred(t, s, new(dns.Msg).SetAxfr(apexName), tsig.Key{}); err == nil {
		t.Errorf("%d records before the first decision", len(records))
	}
	if err := s.Set(apexName, addrs("10.77.1.20"), 1_790_000_000); err != nil {
		t.Fatal(err)
	}
	if _, err := transferred(t, s, new(dns.Msg).SetAxfr(apexName), tsig.Key{}); err != nil {
		t.Error(err)
	}
}

func TestSignedQueriesGetSignedAnswersAndBadOnesTheirReason(t *testing.T) {
	key := testKey("ask")
	s := start(t, Options{Zone: mustZone(t, failovertest.ZoneYAML()), Keys: tsig.Keys{key.Name: key}})
	for _, network := range []string{"udp", "tcp"} {
		query := new(dns.Msg).SetQuestion(apexName, dns.TypeA)
		query.SetEdns0(1232, false)
		key.Sign(query, time.Now())
		client := dns.Client{Net: network, Timeout: patience, TsigSecret: key.Secrets()}
		reply, _, err := client.Exchange(query, s.Address().String()) // verifies the signature
		if err != nil || len(reply.Answer) != 1 || reply.IsTsig() == nil {
			t.Errorf("%s: %v, %v", network, reply, err)
		}
		for want, broken := range map[uint16]func(*dns.Msg) tsig.Key{
			dns.RcodeBadKey: func(m *dns.Msg) tsig.Key { other := testKey("absent"); other.Sign(m, time.Now()); return other },
			dns.RcodeBadSig: func(m *dns.Msg) tsig.Key {
				key.Sign(m, time.Now())
				return tsig.Key{Name: key.Name, Secret: "b3RoZXItb3RoZXItb3RoZXI="}
			},
			dns.RcodeBadTime: func(m *dns.Msg) tsig.Key { key.Sign(m, time.Now().Add(-time.Hour)); return key },
		} {
			query := new(dns.Msg).SetQuestion(apexName, dns.TypeA)
			client := dns.Client{Net: network, Timeout: patience, TsigSecret: broken(query).Secrets()}
			reply, _, _ := client.Exchange(query, s.Address().String()) // the error says that the reply is not signed, which is meant
			if reply == nil || reply.Rcode != dns.RcodeNotAuth || reply.IsTsig() == nil || reply.IsTsig().Error != want || len(reply.Answer) != 0 {
				t.Errorf("%s: want NOTAUTH with %s: %v", network, dns.RcodeToString[int(want)], reply)
			}
		}
	}
}

// fakeSecondary hears NOTIFY messages, the first of which it leaves without a reply.
type fakeSecondary struct {
	mu     sync.Mutex // guards the fields below
	heard  []uint32
	signed int
	enough chan struct{}
	want   uint32
}

func (f *fakeSecondary) ServeDNS(w dns.ResponseWriter, m *dns.Msg) {
	f.mu.Lock()
	defer f.mu.Unlock()
	soa, ok := dns.RR(nil), len(m.Answer) == 1
	if ok {
		soa = m.Answer[0]
	}
	if m.Opcode != dns.OpcodeNotify || !ok {
		return
	}
	if m.IsTsig() != nil && w.TsigStatus() == nil {
		f.signed++
	}
	f.heard = append(f.heard, soa.(*dns.SOA).Serial)
	if len(f.heard) == 1 {
		return // lost
	}
	reply := new(dns.Msg).SetReply(m)
	if given := m.IsTsig(); given != nil {
		reply.SetTsig(given.Hdr.Name, given.Algorithm, given.Fudge, time.Now().Unix())
	}
	_ = w.WriteMsg(reply)
	if soa.(*dns.SOA).Serial == f.want {
		close(f.enough)
	}
}

func TestSecondaryIsToldUntilItHasHeard(t *testing.T) {
	key := testKey("tell")
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fake := &fakeSecondary{enough: make(chan struct{}), want: 43}
	server := &dns.Server{PacketConn: udp, Handler: fake, TsigSecret: key.Secrets(), MsgAcceptFunc: func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }}
	var serving sync.WaitGroup
	opened := make(chan struct{})
	server.NotifyStartedFunc = func() { close(opened) }
	serving.Go(func() { _ = server.ActivateAndServe() })
	<-opened
	defer serving.Wait()
	defer func() { _ = server.ShutdownContext(context.Background()) }()
	s := start(t, Options{
		Zone: mustZone(t, failovertest.ZoneYAML()), Follows: true, Secondaries: []Secondary{{Address: udp.LocalAddr().String(), Key: key}},
	})
	for _, serial := range []uint64{40, 41, 42} {
		if err := s.Set(apexName, addrs("10.77.1.20"), serial); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case <-fake.enough:
	case <-time.After(patience):
		t.Fatal("the last change was never told")
	}
	fake.mu.Lock()
	defer fake.mu.Unlock()
	if fake.signed != len(fake.heard) || slices.Contains(fake.heard, 1) {
		t.Errorf("heard %v, %d of them signed; want all signed, and nothing before the first decision", fake.heard, fake.signed)
	}
}

// TestInstancesAgree gives the same decisions to two servers in different orders, with repeats and stale ones between, and asks both at
// the same times.
func TestInstancesAgree(t *testing.T) {
	zone := mustZone(t, bookstoreZone)
	decisions := []struct {
		name, address string
		serial        uint64
	}{
		{apexName, "10.77.1.20", 5}, {"api." + apexName, "10.77.9.1", 3}, {apexName, "10.77.1.10", 6}, {"api." + apexName, "10.77.9.2", 8}, {apexName, "10.77.1.30", 9},
	}
	orders := [][]int{{0, 1, 2, 3, 4}, {4, 3, 2, 1, 0}, {1, 1, 4, 0, 3, 3}, {3, 4}, {2, 0, 4, 1, 3, 2}}
	questions := []string{apexName, "api." + apexName, "cdn." + apexName, "absent." + apexName}
	var want []string
	for _, order := range orders {
		s, err := New(Options{Zone: zone, Listen: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range order {
			d := decisions[i]
			_ = s.Set(d.name, []netip.Addr{netip.MustParseAddr(d.address)}, d.serial) // stale ones are refused
		}
		var got []string
		for _, question := range questions {
			for second := range int64(20) {
				query := new(dns.Msg).SetQuestion(question, dns.TypeA)
				query.Id = uint16(second)
				got = append(got, string(s.compose(query, time.Unix(second, 0), false)))
			}
		}
		if want == nil {
			want = got
		}
		if !slices.Equal(got, want) {
			t.Errorf("after the order %v the answers differ", order)
		}
	}
}
