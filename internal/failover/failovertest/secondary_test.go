package failovertest_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/failover/authority"
	"firedrill/internal/failover/failovertest"
	"firedrill/internal/failover/tsig"
)

const secretForTests = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="

func keyForTests(name string) tsig.Key {
	return tsig.Key{Name: dns.CanonicalName(name), Algorithm: dns.HmacSHA256, Secret: secretForTests}
}

// startAuthority runs our server with the contract's zone.
func startAuthority(t testing.TB, options authority.Options) *authority.Server {
	t.Helper()
	zone, err := authority.ParseZone([]byte(failovertest.ZoneYAML()), "zone.yaml")
	if err != nil {
		t.Fatal(err)
	}
	options.Zone, options.Rate = zone, 1<<30
	if options.Listen == "" {
		options.Listen = "127.0.0.1:0"
	}
	server, err := authority.New(options)
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
	return server
}

// watchAnswers asks a server without a pause until the test ends or stop is called, and reports everything that is not an answer with one
// address. A query that got no reply is asked again once: UDP may lose one on a busy machine, a server may not lose two.
func watchAnswers(t testing.TB, address string) (stop func() (asked int)) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var looking sync.WaitGroup
	asked := 0
	looking.Go(func() {
		client := dns.Client{Timeout: 5 * time.Second}
		for ctx.Err() == nil {
			query := new(dns.Msg).SetQuestion(failovertest.ZoneName, dns.TypeA)
			reply, _, err := client.Exchange(query, address)
			if err != nil {
				reply, _, err = client.Exchange(query, address)
			}
			if err != nil || reply.Rcode != dns.RcodeSuccess || len(reply.Answer) != 1 {
				t.Errorf("while the answer changed: %v, %v", reply, err)
				return
			}
			asked++
		}
	})
	once := sync.OnceValue(func() int { cancel(); looking.Wait(); return asked })
	t.Cleanup(func() { once() })
	return once
}

// awaitAddress polls until a server answers with an address.
func awaitAddress(t testing.TB, address, want string) {
	t.Helper()
	client := dns.Client{Timeout: time.Second}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	var last any
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(failovertest.ZoneName, dns.TypeA), address)
		if last = err; err == nil {
			last = reply.Answer
			if len(reply.Answer) == 1 && reply.Answer[0].(*dns.A).A.String() == want {
				return
			}
		}
	}
	t.Fatalf("%s never answered %s; last %v", address, want, last)
}

// TestBINDFollowsAsASecondary has BIND take the zone, signed, and follow every flip by NOTIFY, without one query that is not answered.
func TestBINDFollowsAsASecondary(t *testing.T) {
	named := need(t, "named")
	key := keyForTests("xfr")
	port := freePort(t)
	secondary := net.JoinHostPort("127.0.0.1", fmt.Sprint(port))
	ours := startAuthority(t, authority.Options{Follows: true, Secondaries: []authority.Secondary{{Address: secondary, Key: key}}})
	serial := uint64(1_790_000_000)
	set := func(address string) {
		t.Helper()
		serial++
		if err := ours.Set(failovertest.ZoneName, []netip.Addr{netip.MustParseAddr(address)}, serial); err != nil {
			t.Fatal(err)
		}
	}
	set("10.77.1.10")
	directory := t.TempDir()
	startNamed(t, named, directory, fmt.Sprintf(`key "xfr" { algorithm hmac-sha256; secret %q; };
options {
	directory %q; pid-file none; session-keyfile none; managed-keys-directory %q;
	listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; }; recursion no; notify no; dnssec-validation no;
	minimal-any yes; minimal-responses yes; max-udp-size 1232; edns-udp-size 1232; max-records-per-type 0; zero-no-soa-ttl no; allow-transfer { none; };
	serial-query-rate 1000; transfers-per-ns 20;
};
controls { };
zone %q { type secondary; file "copy"; masterfile-format text; primaries { 127.0.0.1 port %d key xfr; }; min-refresh-time 1; };
`, key.Secret, directory, directory, port, failovertest.ZoneName, ours.Address().Port()))
	awaitAnswer(t, secondary)
	t.Run("contract", func(t *testing.T) { failovertest.Test(t, failovertest.Subject{Address: secondary}) })
	stopSecondary, stopOurs := watchAnswers(t, secondary), watchAnswers(t, ours.Address().String())
	for i := range 20 {
		set([]string{"10.77.1.20", "10.77.1.10"}[i%2])
		if i%5 == 4 { // the others come in bursts
			awaitAddress(t, secondary, []string{"10.77.1.20", "10.77.1.10"}[i%2])
		}
	}
	if asked := stopSecondary(); asked == 0 {
		t.Error("the secondary was not asked")
	}
	stopOurs()
	text, err := os.ReadFile(filepath.Join(directory, "copy"))
	if err == nil && !strings.Contains(string(text), "10.78.0.199") {
		t.Errorf("the copy is not whole: %d bytes", len(text))
	}
}

// TestUnboundFollowsThroughItsCache asks through a caching resolver while the answer flips: each answer is one of the two, the last flip is
// seen, and when the server is gone and comes back the name resolves again.
func TestUnboundFollowsThroughItsCache(t *testing.T) {
	unbound := need(t, "unbound")
	ours := startAuthority(t, authority.Options{})
	resolver := startUnbound(t, unbound, ours.Address().String())
	stop := watchAnswers(t, resolver)
	serial := uint64(0)
	for i := range 6 {
		serial++
		want := []string{"10.77.1.20", "10.77.1.10"}[i%2]
		if err := ours.Set(failovertest.ZoneName, []netip.Addr{netip.MustParseAddr(want)}, serial); err != nil {
			t.Fatal(err)
		}
		if i >= 4 {
			awaitAddress(t, resolver, want)
		}
	}
	if stop() == 0 {
		t.Error("nothing was asked")
	}
}

// startUnbound runs a caching resolver that finds the contract's zone at one server.
func startUnbound(t testing.TB, unbound, server string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(server)
	if err != nil {
		t.Fatal(err)
	}
	directory, listen := t.TempDir(), freePort(t)
	file := filepath.Join(directory, "unbound.conf")
	text := fmt.Sprintf(`server:
	interface: 127.0.0.1@%d
	port: %d
	do-daemonize: no
	username: ""
	chroot: ""
	directory: %q
	pidfile: ""
	use-syslog: no
	logfile: ""
	do-not-query-localhost: no
	module-config: "iterator"
	local-zone: "test." nodefault
	so-rcvbuf: 0
stub-zone:
	name: %q
	stub-addr: %s@%s
remote-control:
	control-enable: no
`, listen, listen, directory, failovertest.ZoneName, host, port)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, unbound, "-d", "-p", "-c", file)
	address := net.JoinHostPort("127.0.0.1", fmt.Sprint(listen))
	awaitAnswer(t, address)
	return address
}
