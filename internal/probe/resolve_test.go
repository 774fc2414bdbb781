package probe

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// nameServer is a fake DNS server on loopback.
func nameServer(t *testing.T, handler dns.HandlerFunc) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	server := &dns.Server{PacketConn: conn, Handler: handler, NotifyStartedFunc: func() { close(started) }}
	var served sync.WaitGroup
	served.Go(func() { _ = server.ActivateAndServe() })
	<-started
	t.Cleanup(func() { _ = server.Shutdown(); served.Wait() })
	return conn.LocalAddr().String()
}

func reply(w dns.ResponseWriter, query *dns.Msg, records ...string) {
	answer := new(dns.Msg).SetReply(query)
	for _, text := range records {
		record, err := dns.NewRR(text)
		if err == nil && record.Header().Rrtype == query.Question[0].Qtype || strings.Contains(text, "CNAME") {
			answer.Answer = append(answer.Answer, record)
		}
	}
	_ = w.WriteMsg(answer)
}

func TestEachTryResolvesAfresh(t *testing.T) {
	var asked atomic.Int32
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(service.Close)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(service.URL, "http://"))
	server := nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Add(1)
		reply(w, q, "api.example.test. 3600 A 127.0.0.1")
	})
	events := run(t, []Spec{{Name: "api", Kind: HTTP, URL: "http://api.example.test:" + port, Resolver: server, Every: 20 * ms, Timeout: 10 * second}}, atLeastTries(5))
	for _, s := range tries(events) {
		if !s.OK {
			t.Errorf("sample failed: %+v", s)
		}
	}
	if int(asked.Load()) != len(tries(events)) {
		t.Errorf("%d questions for %d samples: the name is cached", asked.Load(), len(events))
	}
}

func TestResolverFollowsAliasesAndFallsBackToIPv6(t *testing.T) {
	server := nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		switch strings.ToLower(q.Question[0].Name) {
		case "www.example.test.":
			reply(w, q, "www.example.test. 1 CNAME app.example.test.")
		case "app.example.test.":
			reply(w, q, "app.example.test. 1 A 192.0.2.7")
		case "six.example.test.":
			reply(w, q, "six.example.test. 1 AAAA 2001:db8::7")
		case "loop.example.test.":
			reply(w, q, "loop.example.test. 1 CNAME pool.example.test.")
		case "pool.example.test.":
			reply(w, q, "pool.example.test. 1 CNAME loop.example.test.")
		default:
			_ = w.WriteMsg(new(dns.Msg).SetRcode(q, dns.RcodeNameError))
		}
	})
	for name, want := range map[string]string{
		"www.example.test": "192.0.2.7", "six.example.test": "2001:db8::7", "gone.example.test": "no address",
		"loop.example.test": "aliases", "10.1.2.3": "10.1.2.3",
	} {
		found, err := resolve(t.Context(), server, name)
		got := ""
		for _, address := range found {
			got += address.String()
		}
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, want) {
			t.Errorf("%s: %s; want %s", name, got, want)
		}
	}
}

func TestHostsFileIsReadAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hosts")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("2001:db8::1 db # six\n10.0.0.1\tdb db.example.test\n")
	want := []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2001:db8::1")}
	if diff := cmp.Diff(want, inHostsFile(path, "DB"), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	write("10.0.0.2 db.example.test\n")
	if got := inHostsFile(path, "db.example.test."); len(got) != 1 || got[0].String() != "10.0.0.2" {
		t.Errorf("after the change: %v", got)
	}
}

func TestWitnessTellsEachChange(t *testing.T) {
	var address atomic.Value
	address.Store("10.77.1.10")
	server := nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		now := address.Load().(string)
		if now == "" {
			return
		}
		reply(w, q, "bookstore.example.test. 1 A "+now)
	})
	spec := Spec{Name: "answer", Kind: DNS, Address: server, Query: "bookstore.example.test", Every: 20 * ms, Timeout: 200 * ms, Repeat: 3600 * second}
	next := map[string]string{"10.77.1.10": "10.77.1.20", "10.77.1.20": "", "": "10.77.1.10"}
	events := run(t, []Spec{spec}, func(events []history.Event) bool {
		last := events[len(events)-1].Fact.(*history.Answer)
		at := ""
		if len(last.Addresses) == 1 {
			at = last.Addresses[0]
		}
		address.Store(next[at])
		return len(events) == 4
	})
	var got []string
	for _, a := range facts[*history.Answer](events) {
		if a.Server != server || a.Decided {
			t.Errorf("answer is not marked as seen on %s: %+v", server, a)
		}
		if (a.Error == "") != (a.TTL != nil && *a.TTL == drill.Seconds(time.Second)) {
			t.Errorf("an answer that may be kept for a second says %v: %+v", a.TTL, a)
		}
		if got = append(got, strings.Join(a.Addresses, " ")); a.Error != "" {
			got[len(got)-1] = "error"
		}
	}
	if diff := cmp.Diff([]string{"10.77.1.10", "10.77.1.20", "error", "10.77.1.10"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestWitnessIgnoresOldNewsAndRepeatsItself(t *testing.T) {
	r := &runner{source: "here", started: time.Now(), outlet: newOutlet()}
	w := &witness{runner: r, spec: Spec{Repeat: 5 * second}}
	start := r.now()
	tell := func(after time.Duration, address string) {
		w.tell(slot{Scheduled: start.Add(after)}, start.Add(after), history.Answer{Addresses: []string{address}})
	}
	tell(1*time.Second, "new")
	tell(0, "old")
	tell(2*time.Second, "new")
	tell(6*time.Second, "new")
	longer := drill.Seconds(10 * time.Second)
	w.tell(slot{Scheduled: start.Add(7 * time.Second)}, start.Add(7*time.Second), history.Answer{Addresses: []string{"new"}, TTL: &longer})
	r.outlet.close(r.now(), "here")
	var got []string
	r.outlet.drain(func(e history.Event) {
		got = append(got, e.At.Sub(start).String()+" "+e.Fact.(*history.Answer).Addresses[0])
	})
	if diff := cmp.Diff([]string{"1s new", "6s new", "7s new"}, got); diff != "" {
		t.Error(diff)
	}
}
