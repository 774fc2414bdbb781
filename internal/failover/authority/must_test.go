package authority

import (
	"context"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"firedrill/internal/failover/failovertest"
)

// mustList is what a name server for failovers must do, clause by clause. Each names what holds it: a clause of the contract, which is run here
// over the wire, or a test by its name.
var mustList = map[string]string{
	"UDP and TCP on the same port":                            "answers over UDP and TCP",
	"TC when it does not fit; everything over TCP":            "truncates what does not fit",
	"EDNS is capped at 1,232":                                 "truncates what does not fit",
	"OPT only if asked":                                       "sends OPT only if asked",
	"BADVERS for EDNS other than 0":                           "says BADVERS for another EDNS",
	"REFUSED outside of the zone":                             "refuses other zones",
	"AA, and no recursion":                                    "is authoritative and does not recurse",
	"SOA and NS at the apex":                                  "has SOA and NS at the top",
	"the question's case is preserved (0x20)":                 "preserves the case of the question",
	"ANY is answered with little (RFC 8482)":                  "answers ANY with little",
	"a no is kept for 1 to 5 s":                               "says NXDOMAIN for what does not exist, not for long",
	"NODATA for AAAA and HTTPS, not NXDOMAIN":                 "says no data for a missing type",
	"a new answer at once":                                    "serves a new answer at once and always one",
	"a panic costs no answer":                                 "answers in spite of a panic",
	"zones are handed to secondaries only":                    "refuses zone transfers",
	"AXFR":                                                    "TestTransferHoldsTheWholeZoneAsItIsServed",
	"NOTIFY":                                                  "TestSecondaryIsToldUntilItHasHeard",
	"TSIG":                                                    "TestSignedQueriesGetSignedAnswersAndBadOnesTheirReason",
	"a rate limit for each source":                            "TestRateIsKeptForEachSource",
	"over its rate a source is sent to TCP, and not silenced": "TestSourceOverItsRateIsSentToTCP",
	"two or more instances agree":                             "TestInstancesAgree",
	"a zone file is served":                                   "TestMasterFileIsServedLikeOurOwn",
	"never SERVFAIL, never silence":                           "TestNothingIsAnsweredWithServfail",
	"the name is never without an answer":                     "TestNothingUnusableIsPublished",
	"an older decision changes nothing":                       "TestOldDecisionsAreIgnored",
	"answers outlive a restart":                               "TestAnswersOutliveARestart",
	"the last answer outlives the watch":                      "TestFollowTakesDecisionsAndOutlivesTheWatch",
	"fail open, on_all_unhealthy, failback":                   "TestDecideFollowsTheTruthTable",
	"what is unknown is healthy at the start":                 "TestUnknownHostsCountAsHealthyAtTheStart",
	"min-hold": "TestHoldEndsAndAClockSetBackEndsItToo",
	"Route 53's tables: failover, weighted, multivalue": "TestRecordsAreChosenAsRoute53Does",
	"Route 53's tables: calculated, inverted, disabled": "TestChecksAreHealthyAsRoute53SaysSo",
	"routed names follow the alarms over the wire":      "TestRoutedNamesFollowTheAlarms",
}

// testsIn are the names of the tests in a folder.
func testsIn(t *testing.T, folder string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*_test.go"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s: %v", folder, err)
	}
	found := map[string]bool{}
	for _, file := range files {
		syntax, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range syntax.Decls {
			if function, is := declaration.(*ast.FuncDecl); is && function.Recv == nil {
				found[function.Name.Name] = true
			}
		}
	}
	return found
}

func TestEachClauseOfTheMustListIsHeld(t *testing.T) {
	here, policy := testsIn(t, "."), testsIn(t, "..")
	server, err := New(Options{Zone: mustZone(t, failovertest.ZoneYAML()), Listen: "127.0.0.1:0", Rate: 1_000_000})
	if err != nil {
		t.Fatal(err)
	}
	var hurt atomic.Bool
	server.beforeAnswer = func(*dns.Msg) {
		if hurt.Swap(false) {
			panic("planted")
		}
	}
	if err := server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	serial := uint64(0)
	subject := failovertest.Subject{
		Address: server.Address().String(), Hurt: func() { hurt.Store(true) },
		Publish: func(addresses []netip.Addr) error {
			serial++
			return server.Set(failovertest.ZoneName, addresses, serial)
		},
	}
	checks := map[string]failovertest.Check{}
	for _, check := range failovertest.Checks() {
		checks[check.Name] = check
	}
	for clause, holder := range mustList {
		check, ofContract := checks[holder]
		switch {
		case ofContract:
			if err := check.Run(t.Context(), subject); err != nil {
				t.Errorf("%s: %v", clause, err)
			}
		case !here[holder] && !policy[holder]:
			t.Errorf("%s: nothing holds it: there is no %s", clause, holder)
		}
	}
}

// sweep asks all sorts of things, seeded, and returns the first that was met with SERVFAIL or silence.
func sweep(ctx context.Context, address string, seed uint64) error {
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // to be played again
	labels := []string{"", "db.", "www.", "absent.", "away.", "many.", "a.b.c.", "deep.below.there.", "below.there.", "*.", "_firedrill.", "_tcp.", strings.Repeat("l", 63) + ".", "\\000\\255."}
	parents := []string{failovertest.ZoneName, "elsewhere.test.", "test.", ""}
	client := dns.Client{Timeout: patience, UDPSize: dns.MaxMsgSize}
	for range 600 {
		name := dns.Fqdn(labels[random.IntN(len(labels))] + parents[random.IntN(len(parents))])
		if _, valid := dns.IsDomainName(name); !valid {
			continue
		}
		query := new(dns.Msg).SetQuestion(name, uint16(random.UintN(300))) //nolint:gosec // small
		query.Opcode = []int{0, 0, 0, 0, 1, 2, 4, 5}[random.IntN(8)]
		query.Question[0].Qclass = []uint16{1, 1, 1, 3, 255}[random.IntN(5)]
		query.RecursionDesired, query.CheckingDisabled = random.IntN(2) == 0, random.IntN(2) == 0
		if random.IntN(2) == 0 {
			query.SetEdns0(uint16(random.UintN(5000)), random.IntN(2) == 0) //nolint:gosec // small
		}
		client.Net = []string{"udp", "tcp"}[random.IntN(2)]
		asked := fmt.Sprintf("%s %s, opcode %d, over %s", name, dns.Type(query.Question[0].Qtype), query.Opcode, client.Net)
		reply, _, err := client.ExchangeContext(ctx, query, address)
		if err != nil {
			return fmt.Errorf("%s: %w", asked, err)
		}
		if reply.Rcode == dns.RcodeServerFailure {
			return fmt.Errorf("%s: SERVFAIL, which resolvers remember", asked)
		}
	}
	return nil
}

// Whatever is asked, before and after decisions, the answer is no SERVFAIL and no silence. The planted bug is a server that gives up after a
// panic, as a plain DNS server does.
func TestNothingIsAnsweredWithServfail(t *testing.T) {
	server := start(t, Options{Zone: mustZone(t, failovertest.ZoneYAML()), Rate: 1_000_000})
	for seed := range uint64(3) {
		if err := sweep(t.Context(), server.Address().String(), seed); err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if err := server.Set(failovertest.ZoneName, []netip.Addr{netip.MustParseAddr("10.77.1.20")}, seed+1); err != nil {
			t.Fatal(err)
		}
	}
	broken := &dns.Server{Addr: "127.0.0.1:0", Net: "udp", Handler: dns.HandlerFunc(func(out dns.ResponseWriter, query *dns.Msg) {
		rcode := dns.RcodeSuccess
		if query.Question[0].Qtype > 250 { // something that it does not understand
			rcode = dns.RcodeServerFailure
		}
		_ = out.WriteMsg(new(dns.Msg).SetRcode(query, rcode))
	})}
	started := make(chan struct{})
	broken.NotifyStartedFunc = func() { close(started) }
	ended := make(chan error, 1)
	go func() { ended <- broken.ListenAndServe() }()
	<-started
	if err := sweep(t.Context(), broken.PacketConn.LocalAddr().String(), 0); err == nil {
		t.Error("a server that says SERVFAIL was not noticed")
	}
	if err := broken.Shutdown(); err != nil {
		t.Error(err)
	}
	<-ended
}
