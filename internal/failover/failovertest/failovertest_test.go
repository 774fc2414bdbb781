package failovertest_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"firedrill/internal/failover/authority"
	"firedrill/internal/failover/failovertest"
)

// patience is how long a test waits for what must happen; it is no measurement.
const patience = 30 * time.Second

// twin is a server with a planted bug: it answers right, and then alter breaks the reply. A nil reply is silence.
type twin struct {
	zone  *authority.Zone
	alter func(query, reply *dns.Msg, overTCP bool) *dns.Msg
	hurt  atomic.Bool
}

func (b *twin) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	_, overTCP := w.RemoteAddr().(*net.TCPAddr)
	if b.hurt.Swap(false) {
		return // what is left of a handler that panicked: silence
	}
	if reply := b.alter(query, b.zone.Answer(query, nil, time.Unix(0, 0), overTCP), overTCP); reply != nil {
		_ = w.WriteMsg(reply)
	}
}

func startTwin(t *testing.T, b *twin) failovertest.Subject {
	t.Helper()
	zone, err := authority.ParseZone([]byte(failovertest.ZoneYAML()), "zone.yaml")
	if err != nil {
		t.Fatal(err)
	}
	b.zone = zone
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var opened, served sync.WaitGroup
	t.Cleanup(served.Wait) // runs last
	for _, server := range []*dns.Server{{PacketConn: udp}, {Listener: tcp}} {
		opened.Add(1)
		server.Handler, server.UDPSize, server.NotifyStartedFunc = b, 4096, opened.Done
		served.Go(func() { _ = server.ActivateAndServe() })
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	opened.Wait()
	return failovertest.Subject{Address: tcp.Addr().String(), Hurt: func() { b.hurt.Store(true) }}
}

func TestEachPlantedBugIsCaught(t *testing.T) {
	lower := func(m *dns.Msg) { m.Question[0].Name = strings.ToLower(m.Question[0].Name) }
	for _, c := range []struct {
		bug    string
		caught string // the check that must fail
		alter  func(query, reply *dns.Msg, overTCP bool) *dns.Msg
	}{
		{"NXDOMAIN for AAAA", "says no data for a missing type", func(q, r *dns.Msg, _ bool) *dns.Msg {
			if q.Question[0].Qtype == dns.TypeAAAA && len(r.Answer) == 0 {
				r.Rcode = dns.RcodeNameError
			}
			return r
		}},
		{"no TC", "truncates what does not fit", func(_, r *dns.Msg, _ bool) *dns.Msg { r.Truncated = false; return r }},
		{"fragments", "truncates what does not fit", func(q, r *dns.Msg, overTCP bool) *dns.Msg {
			if !overTCP && r.Truncated {
				r.Answer = append(r.Answer, r.Answer...)
			}
			return r
		}},
		{"lower-cases the name", "preserves the case of the question", func(_, r *dns.Msg, _ bool) *dns.Msg { lower(r); return r }},
		{"silent on panic", "answers in spite of a panic", func(_, r *dns.Msg, _ bool) *dns.Msg { return r }},
		{"recurses", "is authoritative and does not recurse", func(_, r *dns.Msg, _ bool) *dns.Msg { r.RecursionAvailable = true; return r }},
		{"not authoritative", "is authoritative and does not recurse", func(_, r *dns.Msg, _ bool) *dns.Msg { r.Authoritative = false; return r }},
		{"no SOA", "says NXDOMAIN for what does not exist, not for long", func(_, r *dns.Msg, _ bool) *dns.Msg { r.Ns = nil; return r }},
		{"long no", "says NXDOMAIN for what does not exist, not for long", func(_, r *dns.Msg, _ bool) *dns.Msg {
			for _, record := range r.Ns {
				record.Header().Ttl = 3600
			}
			return r
		}},
		{"NXDOMAIN between names", "says no data between names", func(q, r *dns.Msg, _ bool) *dns.Msg {
			if strings.HasPrefix(q.Question[0].Name, "there.") {
				r.Rcode = dns.RcodeNameError
			}
			return r
		}},
		{"SERVFAIL outside", "refuses other zones", func(_, r *dns.Msg, _ bool) *dns.Msg {
			if r.Rcode == dns.RcodeRefused {
				r.Rcode = dns.RcodeServerFailure
			}
			return r
		}},
		{"OPT unasked", "sends OPT only if asked", func(q, r *dns.Msg, _ bool) *dns.Msg {
			if q.IsEdns0() == nil {
				r.SetEdns0(1232, false)
			}
			return r
		}},
		{"EDNS of any version", "says BADVERS for another EDNS", func(_, r *dns.Msg, _ bool) *dns.Msg {
			if r.Rcode == dns.RcodeBadVers {
				r.Rcode = dns.RcodeSuccess
			}
			return r
		}},
		{"all for ANY", "answers ANY with little", func(q, r *dns.Msg, _ bool) *dns.Msg {
			if q.Question[0].Qtype == dns.TypeANY && len(r.Answer) > 0 {
				r.Answer = append(r.Answer, &dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET}, Txt: []string{"x"}})
			}
			return r
		}},
		{"UDP alone", "answers over UDP and TCP", func(_, r *dns.Msg, overTCP bool) *dns.Msg {
			if overTCP {
				r.Answer = nil
			}
			return r
		}},
		{"no aliases", "follows aliases inside of the zone only", func(_, r *dns.Msg, _ bool) *dns.Msg {
			if len(r.Answer) == 2 {
				r.Answer = r.Answer[:1]
			}
			return r
		}},
		{"gives the zone away", "refuses zone transfers", func(q, r *dns.Msg, _ bool) *dns.Msg {
			if q.Question[0].Qtype == dns.TypeAXFR {
				r.Rcode = dns.RcodeSuccess
			}
			return r
		}},
	} {
		t.Run(c.bug, func(t *testing.T) {
			subject := startTwin(t, &twin{alter: c.alter})
			found := false
			for _, check := range failovertest.Checks() {
				if check.Name != c.caught {
					continue
				}
				found = true
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				err := check.Run(ctx, subject)
				cancel()
				if err == nil {
					t.Errorf("the check %q did not catch it", c.caught)
				}
			}
			if !found {
				t.Errorf("there is no check %q", c.caught)
			}
		})
	}
}

// TestContractHoldsForBIND keeps the contract honest: what a server of thirty years' standing does not do, ours need not.
func TestContractHoldsForBIND(t *testing.T) {
	failovertest.Test(t, failovertest.Subject{Address: startBIND(t, need(t, "named"))})
}

// need returns the path of a name server or one of its tools, and skips the test where it is missing, unless the gate asks for it.
func need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "bind") {
			t.Fatalf("%s is not installed; apt-get install bind9 dnsutils unbound knot pdns-server pdns-backend-sqlite3 sqlite3 haproxy nginx", program)
		}
		t.Skipf("%s is not installed", program)
	}
	return path
}

func startOurs(t testing.TB) string {
	t.Helper()
	zone, err := authority.ParseZone([]byte(failovertest.ZoneYAML()), "zone.yaml")
	if err != nil {
		t.Fatal(err)
	}
	server, err := authority.New(authority.Options{Zone: zone, Listen: "127.0.0.1:0", Rate: 1 << 30})
	if err == nil {
		err = server.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return server.Address().String()
}

// TestOursAndBINDSayTheSame asks both for every name with every type, over UDP and TCP, with and without EDNS.
func TestOursAndBINDSayTheSame(t *testing.T) {
	bind, ours := startBIND(t, need(t, "named")), startOurs(t)
	for _, label := range []string{"", "ns.", "db.", "DB.", "both.", "www.", "away.", "deep.below.there.", "below.there.", "there.", "long.", "many.", "absent.", "x.db.", "x.www."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeNS, dns.TypeSOA, dns.TypeCNAME, dns.TypeTXT, dns.TypeMX, dns.TypeHTTPS, dns.TypePTR, dns.TypeDS} {
			for _, size := range []uint16{0, 1232} {
				for _, network := range []string{"udp", "tcp"} {
					query := new(dns.Msg).SetQuestion(label+failovertest.ZoneName, qtype)
					if size > 0 {
						query.SetEdns0(size, false)
					}
					if diff := cmp.Diff(said(t, network, bind, query), said(t, network, ours, query)); diff != "" {
						t.Errorf("%s%s %s over %s, EDNS %d (-BIND +ours):\n%s", label, failovertest.ZoneName, dns.TypeToString[qtype], network, size, diff)
					}
				}
			}
		}
	}
}

// said returns what a reply means: how many records of a truncated one still fit is each server's own choice.
func said(t *testing.T, network, server string, query *dns.Msg) []string {
	t.Helper()
	client := dns.Client{Net: network, Timeout: patience}
	reply, _, err := client.Exchange(query, server)
	if err != nil {
		t.Fatal(err)
	}
	meaning := []string{fmt.Sprintf("%s AA=%v TC=%v RA=%v OPT=%v", dns.RcodeToString[reply.Rcode], reply.Authoritative, reply.Truncated, reply.RecursionAvailable, reply.IsEdns0() != nil)}
	if reply.Truncated {
		return meaning
	}
	for part, records := range map[string][]dns.RR{"answer": reply.Answer, "authority": reply.Ns} {
		for _, record := range records {
			text := record.String()
			if txt, ok := record.(*dns.TXT); ok { // where a long text is cut is no part of its meaning
				text = strings.Join(txt.Txt, "")
			}
			meaning = append(meaning, part+": "+strings.ToLower(text))
		}
	}
	slices.Sort(meaning)
	return meaning
}

func TestDigReadsOurAnswers(t *testing.T) {
	dig := need(t, "dig")
	host, port, err := net.SplitHostPort(startOurs(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"+short", "db.bookstore.example.test"}, "10.77.2.10"},
		{[]string{"+short", "+tcp", "Bookstore.Example.Test"}, "10.77.1.10"},
		{[]string{"+noall", "+comments", "+ednsopt=100:abcd", "AAAA", "db.bookstore.example.test"}, "status: NOERROR"},
		{[]string{"+noall", "+comments", "+edns=3", "+noednsnegotiation", "db.bookstore.example.test"}, "status: BADVERS"},
		{[]string{"+noall", "+comments", "+ignore", "+noedns", "many.bookstore.example.test"}, "flags: qr aa tc"},
		{[]string{"+noall", "+answer", "many.bookstore.example.test"}, "10.78.0.199"}, // comes again over TCP by itself
		{[]string{"+noall", "+comments", "+opcode=NOTIFY", "bookstore.example.test", "SOA"}, "status: NOTIMP"},
		{[]string{"+noall", "+comments", "example.org"}, "status: REFUSED"},
	} {
		out, err := exec.CommandContext(t.Context(), dig, append([]string{"@" + host, "-p", port}, c.args...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) || strings.Contains(string(out), "Warning") {
			t.Errorf("dig %s: %v\n%s\nwant %s", strings.Join(c.args, " "), err, out, c.want)
		}
	}
}

func startBIND(t testing.TB, named string) string {
	t.Helper()
	directory := t.TempDir()
	port := freePort(t)
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(directory, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("zone", failovertest.ZoneFile())
	startNamed(t, named, directory, fmt.Sprintf(`options {
	directory %q; pid-file none; session-keyfile none; managed-keys-directory %q;
	listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; allow-transfer { none; }; notify no; dnssec-validation no;
	minimal-any yes; minimal-responses yes; max-udp-size 1232; edns-udp-size 1232; max-records-per-type 0; zero-no-soa-ttl no;
};
controls { };
zone %q { type primary; file "zone"; };
`, directory, directory, port, failovertest.ZoneName))
	awaitAnswer(t, address)
	return address
}

// startNamed runs BIND with a configuration until the test ends.
func startNamed(t testing.TB, named, directory, configuration string) {
	t.Helper()
	file := filepath.Join(directory, "named.conf")
	if err := os.WriteFile(file, []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, named, "-g", "-c", file)
}

// run runs a program until the test ends, and shows what it said if the test failed.
func run(t testing.TB, program string, arguments ...string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, program, arguments...)
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(program), said.String())
		}
	})
}

func freePort(t testing.TB) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// awaitAnswer polls until the server has loaded the zone.
func awaitAnswer(t testing.TB, address string) {
	t.Helper()
	client := dns.Client{Timeout: time.Second}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(failovertest.ZoneName, dns.TypeSOA), address)
		if err == nil && reply.Rcode == dns.RcodeSuccess {
			return
		}
	}
	t.Fatalf("no answer from %s in %v", address, patience)
}
