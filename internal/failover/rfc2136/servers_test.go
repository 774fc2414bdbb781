package rfc2136

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/authority"
	"firedrill/internal/failover/failovertest"
	"firedrill/internal/failover/nameservers"
	"firedrill/internal/failover/tsig"
)

const (
	patience   = 30 * time.Second
	testSecret = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="
	zoneName   = failovertest.ZoneName
)

func testKey(name string) tsig.Key {
	return tsig.Key{Name: dns.CanonicalName(name), Algorithm: dns.HmacSHA256, Secret: testSecret}
}

// need returns the path of a program, and skips the test where it is missing, unless the gate asks for it.
func need(t testing.TB, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "bind") {
			t.Fatalf("%s is not installed; apt-get install bind9 knot pdns-server pdns-backend-sqlite3 sqlite3", program)
		}
		t.Skipf("%s is not installed", program)
	}
	return path
}

// run runs a program until the test ends.
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

// do runs a program to its end.
func do(t testing.TB, program string, arguments ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), program, arguments...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%s", program, arguments, err, out)
	}
}

func write(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
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

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// await polls until the server has loaded the zone.
func await(t testing.TB, address string) {
	t.Helper()
	client := dns.Client{Timeout: time.Second}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		reply, _, err := client.Exchange(new(dns.Msg).SetQuestion(zoneName, dns.TypeSOA), address)
		if err == nil && reply.Rcode == dns.RcodeSuccess && len(reply.Answer) == 1 {
			return
		}
	}
	t.Fatalf("no answer from %s in %v", address, patience)
}

// startBIND runs a primary and a secondary.
func startBIND(t testing.TB) []string {
	t.Helper()
	named := need(t, "named")
	first, second := freePort(t), freePort(t)
	common := `key "firedrill" { algorithm hmac-sha256; secret "` + testSecret + `"; };
options { directory %q; pid-file none; session-keyfile none; managed-keys-directory %q; listen-on port %d { 127.0.0.1; }; listen-on-v6 { none; };
	recursion no; dnssec-validation no; minimal-responses yes; notify %s; max-records-per-type 0; notify-rate 1000; serial-query-rate 1000; notify-delay 0; };
controls { };
`
	directory := t.TempDir()
	write(t, filepath.Join(directory, "zone"), failovertest.ZoneFile())
	run(t, named, "-g", "-c", write(t, filepath.Join(directory, "named.conf"), fmt.Sprintf(common+`zone %q {
	type primary; file "zone"; allow-transfer { 127.0.0.1; }; also-notify { 127.0.0.1 port %d; };
	update-policy { grant firedrill name bookstore.example.test A AAAA; grant firedrill name _firedrill.bookstore.example.test TXT; };
};
`, directory, directory, first, "explicit", zoneName, second)))
	await(t, local(first))
	directory = t.TempDir()
	run(t, named, "-g", "-c", write(t, filepath.Join(directory, "named.conf"), fmt.Sprintf(common+`zone %q {
	type secondary; file "zone"; primaries { 127.0.0.1 port %d; }; min-refresh-time 1;
};
`, directory, directory, second, "no", zoneName, first)))
	await(t, local(second))
	return []string{local(first), local(second)}
}

// startKnot runs a primary and a secondary.
func startKnot(t testing.TB) []string {
	t.Helper()
	knotd := need(t, "knotd")
	port, second, directory := freePort(t), freePort(t), t.TempDir()
	write(t, filepath.Join(directory, "zone"), failovertest.ZoneFile())
	run(t, knotd, "-c", write(t, filepath.Join(directory, "knot.conf"), fmt.Sprintf(`server:
    listen: 127.0.0.1@%d
    rundir: %q
log:
  - target: stderr
    any: info
database:
    storage: %q
key:
  - id: firedrill
    algorithm: hmac-sha256
    secret: %s
remote:
  - id: second
    address: 127.0.0.1@%d
acl:
  - id: transfer
    address: 127.0.0.1
    action: transfer
  - id: failover
    key: firedrill
    action: update
    update-type: [A, AAAA, TXT]
    update-owner: name
    update-owner-match: equal
    update-owner-name: [bookstore.example.test., _firedrill.bookstore.example.test.]
zone:
  - domain: %s
    storage: %q
    file: zone
    acl: [failover, transfer]
    notify: second
    zonefile-sync: -1
    journal-content: changes
`, port, directory, directory, testSecret, second, zoneName, directory)))
	await(t, local(port))
	return []string{local(port), startKnotSecondary(t, second, port)}
}

// startKnotSecondary runs a secondary of whatever server is the primary.
func startKnotSecondary(t testing.TB, port, primary int) string {
	t.Helper()
	directory := t.TempDir()
	run(t, need(t, "knotd"), "-c", write(t, filepath.Join(directory, "knot.conf"), fmt.Sprintf(`server:
    listen: 127.0.0.1@%d
    rundir: %q
log:
  - target: stderr
    any: info
database:
    storage: %q
remote:
  - id: first
    address: 127.0.0.1@%d
acl:
  - id: told
    address: 127.0.0.1
    action: notify
zone:
  - domain: %s
    storage: %q
    file: zone
    master: first
    acl: told
    refresh-max-interval: 2
    zonefile-sync: -1
`, port, directory, directory, primary, zoneName, directory)))
	await(t, local(port))
	return local(port)
}

// startPowerDNS runs it without its caches: an old answer that is cached while a change is written is told for 20 s more. Its secondary is a Knot.
func startPowerDNS(t testing.TB) []string {
	t.Helper()
	server, util, sqlite := need(t, "pdns_server"), need(t, "pdnsutil"), need(t, "sqlite3")
	port, second, directory := freePort(t), freePort(t), t.TempDir()
	database := filepath.Join(directory, "pdns.sqlite3")
	do(t, sqlite, database, ".read /usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql")
	write(t, filepath.Join(directory, "pdns.conf"), fmt.Sprintf(`launch=gsqlite3
gsqlite3-database=%s
gsqlite3-dnssec=yes
local-address=127.0.0.1
local-port=%d
dnsupdate=yes
primary=yes
socket-dir=%s
security-poll-suffix=
max-tcp-connections-per-client=0
max-tcp-connections=200
cache-ttl=0
query-cache-ttl=0
`, database, port, directory))
	zone := strings.TrimSuffix(zoneName, ".")
	configuration := "--config-dir=" + directory
	do(t, util, configuration, "load-zone", zone, write(t, filepath.Join(directory, "zone"), failovertest.ZoneFile()))
	do(t, util, configuration, "import-tsig-key", "firedrill", "hmac-sha256", testSecret)
	do(t, util, configuration, "set-meta", zone, "TSIG-ALLOW-DNSUPDATE", "firedrill")
	do(t, util, configuration, "set-meta", zone, "ALLOW-DNSUPDATE-FROM", "127.0.0.0/8")
	do(t, util, configuration, "set-kind", zone, "primary")
	do(t, util, configuration, "set-meta", zone, "NOTIFY-DNSUPDATE", "1")
	do(t, util, configuration, "set-meta", zone, "ALSO-NOTIFY", local(second))
	run(t, server, configuration, "--daemon=no", "--guardian=no", "--disable-syslog")
	await(t, local(port))
	return []string{local(port), startKnotSecondary(t, second, port)}
}

// startStatic runs a server of the zone that takes no updates and follows nobody.
func startStatic(t testing.TB) string {
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
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	return server.Address().String()
}

func mustNew(t testing.TB, options Options) *Publisher {
	t.Helper()
	if options.Key.Name == "" {
		options.Key = testKey("firedrill")
	}
	publisher, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	return publisher
}

// meddle changes the address as someone would who does not know of us.
func meddle(server string, to netip.Addr) error {
	message := new(dns.Msg).SetUpdate(zoneName)
	message.RemoveRRset([]dns.RR{&dns.A{Hdr: dns.RR_Header{Name: zoneName, Rrtype: dns.TypeA}}})
	message.Insert([]dns.RR{addressRecord(zoneName, to, 1)})
	key := testKey("firedrill")
	key.Sign(message, time.Now())
	client := dns.Client{Net: "tcp", Timeout: patience, TsigSecret: key.Secrets()}
	reply, _, err := client.Exchange(message, server)
	if err == nil && reply.Rcode != dns.RcodeSuccess {
		err = fmt.Errorf("update: %s", dns.RcodeToString[reply.Rcode])
	}
	return err
}

// awaitAll waits until every server has heard of an address. A secondary that hears of it only after it was put right again shows it for a moment then,
// and nobody can help that.
func awaitAll(ctx context.Context, servers []string, to netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for _, server := range servers {
		for {
			got, err := asked(ctx, server)
			if err == nil && slices.Equal(got, []netip.Addr{to}) {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("%s leads to %v, %w; want %s", server, got, err, to)
			}
		}
	}
	return nil
}

// asked returns the addresses that a client gets, over UDP.
func asked(ctx context.Context, server string) ([]netip.Addr, error) {
	client := dns.Client{Timeout: patience}
	reply, _, err := client.ExchangeContext(ctx, new(dns.Msg).SetQuestion(zoneName, dns.TypeA), server)
	if err != nil {
		return nil, err
	}
	if reply.Rcode != dns.RcodeSuccess {
		return nil, fmt.Errorf("%s", dns.RcodeToString[reply.Rcode])
	}
	return nameservers.State{A: reply.Answer}.Addresses(), nil
}

// others returns what else stands in the zone, without the serial number.
func others(ctx context.Context, server string) (string, error) {
	var said []string
	for name, kind := range map[string]uint16{"db." + zoneName: dns.TypeA, "www." + zoneName: dns.TypeCNAME, zoneName: dns.TypeNS, "both." + zoneName: dns.TypeAAAA} {
		client := dns.Client{Timeout: patience}
		reply, _, err := client.ExchangeContext(ctx, new(dns.Msg).SetQuestion(name, kind), server)
		if err != nil {
			return "", err
		}
		said = append(said, fmt.Sprint(reply.Answer))
	}
	slices.Sort(said)
	return strings.Join(said, "\n"), nil
}

func TestContractHolds(t *testing.T) {
	for name, start := range map[string]func(testing.TB) []string{"BIND": startBIND, "Knot": startKnot, "PowerDNS": startPowerDNS} {
		t.Run(name, func(t *testing.T) {
			all := start(t)
			servers, static := all, startStatic(t)
			if name != "BIND" { // Knot and PowerDNS tell their secondaries a second later: the contract, which changes much, is for the primary
				servers = all[:1]
			}
			failovertest.TestBackend(t, failovertest.BackendSubject{
				Backend: mustNew(t, Options{Server: servers[0], Servers: servers, TTL: time.Second}),
				Another: mustNew(t, Options{Server: servers[0], Servers: servers, TTL: time.Second, Zone: zoneName}),
				Lagging: mustNew(t, Options{Server: servers[0], Servers: append([]string{static}, servers...), Verify: 2 * time.Second}),
				Laggard: static, Name: "bookstore.example.test", Blue: netip.MustParseAddr("10.77.1.10"), Green: netip.MustParseAddr("10.77.1.20"),
				Ask: func(ctx context.Context) ([]netip.Addr, error) { return asked(ctx, servers[0]) },
				Meddle: func(to netip.Addr) error {
					return errors.Join(meddle(servers[0], to), awaitAll(t.Context(), servers, to))
				},
				Others: func(ctx context.Context) (string, error) { return others(ctx, servers[0]) },
			})
			followed(t, all)
			compared(t, servers[0])
			refusals(t, servers[0])
		})
	}
}

// followed publishes, which must not return before the secondary gives the new answer, with its mark.
func followed(t *testing.T, servers []string) {
	t.Helper()
	p := mustNew(t, Options{Server: servers[0], Servers: servers, TTL: time.Second})
	for serial, to := range []string{"10.77.1.10", "10.77.1.20"} {
		change := failover.Change{Name: zoneName, Addresses: []netip.Addr{netip.MustParseAddr(to)}, Serial: 1<<60 + uint64(serial)}
		if err := p.Publish(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		for _, server := range servers {
			if got, err := asked(t.Context(), server); err != nil || !slices.Equal(got, change.Addresses) {
				t.Errorf("%s leads to %v, %v; want %s", server, got, err, to)
			}
		}
		served := p.Served(t.Context(), zoneName)
		if len(served) != len(servers) || slices.ContainsFunc(served, func(s failover.Served) bool { return s.Err != nil || s.Serial != change.Serial }) {
			t.Errorf("served: %+v", served)
		}
	}
}

// compared sends an update that was made from what the zone says no longer: the server itself must refuse it, whole. The planted bug is the same update
// without its prerequisites, which undoes what somebody else has changed meanwhile.
func compared(t *testing.T, server string) {
	t.Helper()
	mine, theirs := netip.MustParseAddr("10.77.1.30"), netip.MustParseAddr("10.77.1.40")
	p := mustNew(t, Options{Server: server, TTL: time.Second, Zone: zoneName})
	read, err := nameservers.Read(t.Context(), p.options.Server, zoneName)
	if err == nil {
		err = meddle(server, theirs)
	}
	if err != nil {
		t.Fatal(err)
	}
	change := failover.Change{Name: zoneName, Addresses: []netip.Addr{mine}, Serial: 1 << 61}
	for _, row := range []struct {
		compares bool
		leads    netip.Addr
	}{{true, theirs}, {false, mine}} {
		message := p.update(zoneName, read, change)
		if !row.compares {
			message.Answer = nil
		}
		rcode, err := p.send(t.Context(), message)
		if err != nil || lostRace(rcode) != row.compares || !row.compares && rcode != dns.RcodeSuccess {
			t.Errorf("an update of what was read before, compared: %v: %s, %v", row.compares, dns.RcodeToString[rcode], err)
		}
		if got, err := asked(t.Context(), server); err != nil || !slices.Equal(got, []netip.Addr{row.leads}) {
			t.Errorf("compared: %v: leads to %v, %v; want %v", row.compares, got, err, row.leads)
		}
	}
}

// refusals tries what a server must not take from us, and what it then has to be told.
func refusals(t *testing.T, server string) {
	t.Helper()
	change := failover.Change{Name: zoneName, Addresses: []netip.Addr{netip.MustParseAddr("10.77.1.20")}, Serial: 1 << 62}
	for name, row := range map[string]struct {
		options Options
		change  failover.Change
		kind    drill.ErrorKind
	}{
		"another secret": {Options{Server: server, Key: tsig.Key{Name: "firedrill.", Algorithm: dns.HmacSHA256, Secret: "b3RoZXItb3RoZXItb3RoZXI="}}, change, drill.Refused},
		"an unknown key": {Options{Server: server, Key: testKey("absent")}, change, drill.Refused},
		"another zone":   {Options{Server: server, Zone: "elsewhere.test"}, change, drill.Invalid},
		"an alias":       {Options{Server: server}, failover.Change{Name: "www." + zoneName, Addresses: change.Addresses, Serial: 1}, drill.Invalid},
		"nobody there":   {Options{Server: local(freePort(t))}, change, drill.Unreachable},
	} {
		err := mustNew(t, row.options).Publish(t.Context(), row.change)
		if drill.KindOf(err) != row.kind {
			t.Errorf("%s: %v (%s); want %s", name, err, drill.KindOf(err), row.kind)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, options := range []Options{{}, {Server: "ns", TTL: time.Hour}, {Server: "ns", TTL: time.Millisecond}} {
		if _, err := New(options); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%+v: %v", options, err)
		}
	}
	if got := nameservers.WithPort("2001:db8::1"); got != "[2001:db8::1]:53" {
		t.Error(got)
	}
}

// TestNoSwapWithoutComparison plants the bug: an update without prerequisites lets an old decision undo a newer one.
func TestNoSwapWithoutComparison(t *testing.T) {
	p := mustNew(t, Options{Server: "192.0.2.1"})
	change := failover.Change{Name: zoneName, Addresses: []netip.Addr{netip.MustParseAddr("10.77.1.20")}, Serial: 7}
	current := nameservers.State{A: []dns.RR{addressRecord(zoneName, netip.MustParseAddr("10.77.1.10"), 5)}}
	compares := func(m *dns.Msg) bool {
		found := map[string]uint16{}
		for _, prerequisite := range m.Answer {
			found[prerequisite.Header().Name+dns.TypeToString[prerequisite.Header().Rrtype]] = prerequisite.Header().Class
		}
		return found[zoneName+"A"] == dns.ClassINET && found[zoneName+"AAAA"] == dns.ClassNONE && found[nameservers.MarkName(zoneName)+"TXT"] == dns.ClassNONE
	}
	message := p.update(zoneName, current, change)
	if !compares(message) || len(message.Ns) != 5 {
		t.Errorf("the update does not compare what was read: %v", message)
	}
	if current.A[0].Header().Ttl != 5 {
		t.Error("what was read was changed")
	}
	message.Answer = message.Answer[:1]
	if compares(message) {
		t.Error("an update without prerequisites was not noticed")
	}
}
