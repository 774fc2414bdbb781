package authority

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"firedrill/internal/history"
)

const apexName = "bookstore.example.test."

func addrs(texts ...string) []netip.Addr {
	var found []netip.Addr
	for _, text := range texts {
		found = append(found, netip.MustParseAddr(text))
	}
	return found
}

func served(s *Server, name string) string { return fmt.Sprint(s.Served(name)) }

func newServer(t *testing.T, options Options) *Server {
	t.Helper()
	options.Zone, options.Listen = mustZone(t, bookstoreZone), "127.0.0.1:0"
	server, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	return server
}

func TestOldDecisionsAreIgnored(t *testing.T) {
	s := newServer(t, Options{})
	for _, c := range []struct {
		address string
		serial  uint64
		stale   bool
		want    string
	}{
		{"10.77.1.20", 5, false, "10.77.1.20"},
		{"10.77.1.20", 5, false, "10.77.1.20"}, // told again after a reconnect
		{"10.77.1.10", 5, true, "10.77.1.20"},  // another watch with the same number
		{"10.77.1.10", 4, true, "10.77.1.20"},
		{"10.77.1.10", 6, false, "10.77.1.10"},
	} {
		err := s.Set("Bookstore.Example.Test", addrs(c.address), c.serial)
		if errors.Is(err, ErrStale) != c.stale || (err != nil) != c.stale {
			t.Errorf("serial %d: error %v; stale %v", c.serial, err, c.stale)
		}
		if got := served(s, apexName); got != "["+c.want+"]" {
			t.Errorf("serial %d: served %s; want %s", c.serial, got, c.want)
		}
	}
}

func TestNothingUnusableIsPublished(t *testing.T) {
	s := newServer(t, Options{})
	for name, addresses := range map[string][]netip.Addr{
		apexName: nil, "cdn.bookstore.example.test.": addrs("10.0.0.1"), "elsewhere.test.": addrs("10.0.0.1"),
		"api.bookstore.example.test.": addrs("224.0.0.1"),
	} {
		if err := s.Set(name, addresses, 1); err == nil {
			t.Errorf("%s %v was published", name, addresses)
		}
	}
	if got := served(s, apexName); got != "[10.77.1.10]" {
		t.Errorf("served %s; want the initial answer", got)
	}
}

func TestFrozenAnswerNeverChanges(t *testing.T) {
	for _, written := range []string{"@", "bookstore.example.test", "Bookstore.Example.Test."} {
		s := newServer(t, Options{Frozen: []string{written}})
		if err := s.Set(apexName, addrs("10.77.1.20"), 1); err != nil {
			t.Error(err)
		}
		if got := served(s, apexName); got != "[10.77.1.10]" {
			t.Errorf("--freeze %s: served %s", written, got)
		}
		if err := s.Set("api.bookstore.example.test.", addrs("10.77.1.20"), 1); err != nil || served(s, "api."+apexName) != "[10.77.1.20]" {
			t.Errorf("another name froze too: %v", err)
		}
	}
	if _, err := New(Options{Zone: mustZone(t, bookstoreZone), Frozen: []string{"cdn"}}); err == nil {
		t.Error("a name that is no failover name was frozen")
	}
}

func TestAnswersOutliveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "answers.json")
	first := newServer(t, Options{StateFile: path})
	if err := first.Set(apexName, addrs("10.77.1.20"), 7); err != nil {
		t.Fatal(err)
	}
	second := newServer(t, Options{StateFile: path})
	if got := served(second, apexName); got != "[10.77.1.20]" {
		t.Errorf("after a restart: %s", got)
	}
	if err := second.Set(apexName, addrs("10.77.1.10"), 6); !errors.Is(err, ErrStale) {
		t.Errorf("after a restart an old decision is taken: %v", err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 1 {
		t.Errorf("left beside the state file: %v, %v", entries, err)
	}
}

func TestBrokenStateFileCostsNoAnswer(t *testing.T) {
	for _, text := range []string{
		"", "{", `{"answers":{"bookstore.example.test.":{"addresses":[],"serial":9}}}`, `{"answers":{"x.":{"addresses":["10.0.0.1"]}}}`, `[]`,
		`{"answers":{"bookstore.example.test.":{"addresses":["nonsense"],"serial":9}}}`,
	} {
		path := filepath.Join(t.TempDir(), "answers.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		s := newServer(t, Options{StateFile: path, Log: slog.New(slog.NewTextHandler(&said, nil))})
		if got := served(s, apexName); got != "[10.77.1.10]" {
			t.Errorf("%s: served %s", text, got)
		}
		if !strings.Contains(said.String(), "ignored") {
			t.Errorf("%s: nothing was said of it", text)
		}
	}
}

func TestStateFileThatCannotBeWrittenCostsNoAnswer(t *testing.T) {
	s := newServer(t, Options{StateFile: filepath.Join(t.TempDir(), "absent", "answers.json")})
	if err := s.Set(apexName, addrs("10.77.1.20"), 1); err == nil {
		t.Error("nothing was said of the state file")
	}
	if got := served(s, apexName); got != "[10.77.1.20]" {
		t.Errorf("served %s", got)
	}
}

func ask(t *testing.T, s *Server, network string, qname string) *dns.Msg {
	t.Helper()
	client := dns.Client{Net: network, Timeout: patience}
	reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(qname, dns.TypeA), s.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	return reply
}

func TestSourceOverItsRateIsSentToTCP(t *testing.T) {
	s := start(t, Options{Zone: mustZone(t, bookstoreZone), Rate: 1})
	truncated := 0
	for range 10 {
		reply := ask(t, s, "udp", apexName)
		if reply.Truncated {
			truncated++
			if len(reply.Answer) != 0 || reply.Rcode != dns.RcodeSuccess {
				t.Errorf("over the rate: %v", reply)
			}
		}
	}
	if truncated == 0 {
		t.Error("ten queries at once against a rate of one a second, and none was sent to TCP")
	}
	if reply := ask(t, s, "tcp", apexName); len(reply.Answer) != 1 || reply.Truncated {
		t.Errorf("over TCP: %v", reply)
	}
}

func TestRateIsKeptForEachSource(t *testing.T) {
	l := newLimiter(10)
	now := time.Unix(1, 0)
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	admitted := 0
	for range 100 {
		if l.admit(a, now) {
			admitted++
		}
	}
	if admitted != 10*burstFactor {
		t.Errorf("%d admitted at once; want the burst of %d", admitted, 10*burstFactor)
	}
	if !l.admit(b, now) {
		t.Error("one source uses up the rate of another")
	}
	if !l.admit(a, now.Add(time.Second)) || !l.admit(netip.MustParseAddr("2001:db8::1"), now) {
		t.Error("a bucket does not fill again")
	}
	if l.admit(a, now) && l.admit(a, now.Add(-time.Hour)) && len(l.buckets) != bucketsMax {
		t.Error("a clock that goes back changes the size of the table")
	}
	if sourceOf(netip.MustParseAddr("2001:db8:0:11::1")) != sourceOf(netip.MustParseAddr("2001:db8:0:22::2")) {
		t.Error("one customer's IPv6 network is many sources")
	}
	if sourceOf(netip.MustParseAddr("::ffff:10.0.0.1")) != a {
		t.Error("an IPv4 address is another source on a socket for both")
	}
}

func TestOneSourceCannotTakeAllConnections(t *testing.T) {
	l := newBoundedListener(nil)
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for range connsPerSource {
		if !l.take(a) {
			t.Fatal("refused below the limit")
		}
	}
	if l.take(a) || !l.take(b) {
		t.Error("the limit is not that of one source")
	}
	l.yield(a)
	if !l.take(a) {
		t.Error("a closed connection still counts")
	}
}

func TestIdleConnectionsOverTheLimitAreClosed(t *testing.T) {
	s := start(t, Options{Zone: mustZone(t, bookstoreZone)})
	for range connsPerSource {
		conn, err := net.Dial("tcp", s.Address().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	extra, err := net.Dial("tcp", s.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer extra.Close()
	if err := extra.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := extra.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection over the limit stays open: %v", err)
	}
	if reply := ask(t, s, "udp", apexName); len(reply.Answer) != 1 {
		t.Error("no answer over UDP meanwhile")
	}
}

func TestPanicTwiceIsARefusal(t *testing.T) {
	s := newServer(t, Options{})
	s.zone.owners[apexName] = nil // the plain way breaks too: a hole that cannot be
	s.zone.soa = nil
	packet := s.compose(new(dns.Msg).SetQuestion(apexName, dns.TypeA), time.Unix(1, 0), false)
	reply := new(dns.Msg)
	if err := reply.Unpack(packet); err != nil || reply.Rcode != dns.RcodeRefused {
		t.Errorf("%v, %v; want REFUSED", reply, err)
	}
}

// fakeWatch streams events; each connection gets the lines that next returns.
type fakeWatch struct {
	mu      sync.Mutex
	streams [][]string // what each connection is told before it is cut; the last one stays open
	opened  int
	closing chan struct{}
}

func (w *fakeWatch) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	w.mu.Lock()
	if in.URL.Path != "/v1/events" || in.URL.RawQuery != "follow=1&kinds=answer" {
		w.mu.Unlock()
		out.WriteHeader(http.StatusNotFound)
		return
	}
	last := w.opened >= len(w.streams)-1
	lines := w.streams[min(w.opened, len(w.streams)-1)]
	w.opened++
	w.mu.Unlock()
	for _, line := range lines {
		fmt.Fprintln(out, line)
	}
	_ = http.NewResponseController(out).Flush()
	if last {
		select {
		case <-w.closing:
		case <-in.Context().Done():
		}
	}
}

func answerLine(serial uint64, address string, decided bool) string {
	text, err := history.New(time.Unix(1, 0), "watch", &history.Answer{
		Name: "bookstore.example.test", Addresses: []string{address}, Serial: serial, Decided: decided,
	}).MarshalJSON()
	if err != nil {
		panic(err)
	}
	return string(text)
}

func TestFollowTakesDecisionsAndOutlivesTheWatch(t *testing.T) {
	watch := &fakeWatch{closing: make(chan struct{}), streams: [][]string{
		{answerLine(1, "10.77.1.10", true), "", "not an event", `{"at":"2026-11-22T09:00:00Z","kind":"newer.kind","data":{}}`, answerLine(2, "10.77.1.20", true)},
		{},
		{answerLine(2, "10.77.1.20", true), answerLine(9, "10.77.9.9", false), answerLine(1, "10.77.1.10", true), answerLine(3, "10.77.1.30", true)},
	}}
	httpServer := httptest.NewServer(watch)
	t.Cleanup(httpServer.Close)
	t.Cleanup(func() { close(watch.closing) })
	s := newServer(t, Options{})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var seen []string
	err := Follow(ctx, httpServer.URL, slog.New(slog.DiscardHandler), func(a history.Answer) error {
		err := s.Apply(a)
		seen = append(seen, served(s, apexName))
		if len(seen) == 5 {
			cancel()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"[10.77.1.10]", "[10.77.1.20]", "[10.77.1.20]", "[10.77.1.20]", "[10.77.1.30]"}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
}

func TestFollowRefusesWhatIsNoURL(t *testing.T) {
	for _, base := range []string{"", "control:7070", "ftp://control", "http://"} {
		if err := Follow(t.Context(), base, slog.New(slog.DiscardHandler), nil); err == nil {
			t.Errorf("%q was followed", base)
		}
	}
}

func TestStopCanBeCalledTwiceAndFreesThePort(t *testing.T) {
	s := start(t, Options{Zone: mustZone(t, bookstoreZone)})
	<-s.Ready()
	for range 2 {
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	again := start(t, Options{Zone: mustZone(t, bookstoreZone), Listen: s.Address().String()})
	if reply := ask(t, again, "udp", apexName); len(reply.Answer) != 1 {
		t.Error("no answer on the freed port")
	}
}
