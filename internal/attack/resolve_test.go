package attack

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"
)

// The names that are asked for, and whom, are those that another reader of resolv.conf finds.
func TestResolverFollowsResolvConf(t *testing.T) {
	for _, text := range []string{
		"", "nameserver 192.0.2.1\n", "nameserver 192.0.2.1\nnameserver 2001:db8::1\nsearch example.test corp.example.test.\n",
		"# a comment\n; another\nnameserver\nsearch a.test\ndomain b.test\noptions ndots:2 rotate timeout:1\n", "options ndots:0\nsearch a.test\n",
		"options ndots:99\nsearch a.test\n", "options ndots:x edns0\nsearch a.test\n", "domain a.test\nsearch b.test c.test\n",
	} {
		path := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := readResolverConf(path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := dns.ClientConfigFromReader(strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "ndots:x") {
			want.Ndots = 1 // that reader takes what is no number for 0; the C library leaves the default
		}
		if !slices.Equal(got.servers, want.Servers) {
			t.Errorf("%q: servers %v, want %v", text, got.servers, want.Servers)
		}
		for _, name := range []string{"db", "db.", "db.example.test", "db.example.test.", "a.b.c"} {
			if diff := cmp.Diff(want.NameList(name), got.fullNames(name)); diff != "" {
				t.Errorf("%q, %q (-want +got):\n%s", text, name, diff)
			}
		}
	}
}

// nameServer answers on loopback with what answer makes of the question, in both networks.
func nameServer(t *testing.T, answer dns.HandlerFunc) string {
	t.Helper()
	packets, streams := bothPorts(t)
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: answer}, {Listener: streams, Handler: answer}} {
		up := make(chan struct{})
		server.NotifyStartedFunc = func() { close(up) }
		go func() { _ = server.ActivateAndServe() }()
		<-up
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return packets.LocalAddr().String()
}

// bothPorts finds a port that is free for datagrams and for streams: another program may have one of the two.
func bothPorts(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	const tries = 100
	for range tries {
		streams, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		packets, err := net.ListenPacket("udp", streams.Addr().String())
		if err == nil {
			return packets, streams
		}
		_ = streams.Close()
	}
	t.Fatalf("none of %d ports was free for both", tries)
	return nil, nil
}

func reply(question *dns.Msg, addresses int) *dns.Msg {
	answer := new(dns.Msg)
	answer.SetReply(question)
	for i := range addresses {
		answer.Answer = append(answer.Answer, &dns.A{Hdr: dns.RR_Header{Name: question.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: uint32(60 - i%2)},
			A: net.IPv4(192, 0, 2, byte(i))})
	}
	return answer
}

func TestExchangeTakesOnlyTheAnswer(t *testing.T) {
	asked := dnsmessage.Question{Name: dnsmessage.MustNewName("db.example.test."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	for name, test := range map[string]struct {
		answer    dns.HandlerFunc
		addresses int
	}{
		"at once": {func(w dns.ResponseWriter, q *dns.Msg) { _ = w.WriteMsg(reply(q, 2)) }, 2},
		"too long for a datagram": {func(w dns.ResponseWriter, q *dns.Msg) {
			answer := reply(q, 200)
			if w.RemoteAddr().Network() == "udp" {
				answer.Truncate(int(q.IsEdns0().UDPSize()))
			}
			_ = w.WriteMsg(answer)
		}, 200},
		"after strangers": {func(w dns.ResponseWriter, q *dns.Msg) {
			wrong := reply(q, 1)
			wrong.Id++
			_ = w.WriteMsg(wrong)
			other := reply(q, 1)
			other.Question[0].Name = "evil.example.test."
			_ = w.WriteMsg(other)
			_ = w.WriteMsg(q) // our own question, sent back
			_, _ = w.Write([]byte("nonsense"))
			_ = w.WriteMsg(reply(q, 3))
		}, 3},
		"in other letters": {func(w dns.ResponseWriter, q *dns.Msg) {
			q.Question[0].Name = "DB.example.TEST."
			_ = w.WriteMsg(reply(q, 1))
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			answer, err := exchange(context.Background(), asked, nameServer(t, test.answer))
			if err != nil {
				t.Fatal(err)
			}
			found, err := fromAnswer("db.example.test.", answer)
			if err != nil || len(found.Addresses) != test.addresses {
				t.Errorf("%d addresses, %v, want %d", len(found.Addresses), err, test.addresses)
			}
			if want := 59 * time.Second; test.addresses > 1 && found.TTL != min(want, ttlMax) {
				t.Errorf("TTL %s, want %s, the shortest", found.TTL, min(want, ttlMax))
			}
		})
	}
}

func TestExchangeEndsWithItsContext(t *testing.T) {
	asked := dnsmessage.Question{Name: dnsmessage.MustNewName("db.example.test."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	ctx, cancel := context.WithCancel(context.Background())
	server := nameServer(t, func(dns.ResponseWriter, *dns.Msg) { cancel() })
	if _, err := exchange(ctx, asked, server); err == nil {
		t.Error("silence is taken for an answer")
	}
}
