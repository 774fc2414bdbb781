package authority

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"firedrill/internal/drill"
	"firedrill/internal/failover/failovertest"
)

func TestMasterFileIsServedLikeOurOwn(t *testing.T) {
	text := []byte(failovertest.ZoneFile())
	if !IsMaster(text) || IsMaster([]byte(failovertest.ZoneYAML())) {
		t.Fatal("the formats are not told apart")
	}
	master, notes, err := ParseMaster(text, MasterOptions{File: "zone", Failover: []string{"@"}})
	if err != nil || len(notes) > 0 {
		t.Fatal(err, notes)
	}
	ours := mustZone(t, failovertest.ZoneYAML())
	for _, label := range []string{"", "ns.", "db.", "both.", "www.", "away.", "deep.below.there.", "below.there.", "long.", "many.", "absent."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeNS, dns.TypeSOA, dns.TypeCNAME, dns.TypeTXT, dns.TypeMX} {
			query := new(dns.Msg).SetQuestion(label+failovertest.ZoneName, qtype)
			got, want := master.Answer(query, nil, time.Unix(1, 0), true), ours.Answer(query, nil, time.Unix(1, 0), true)
			if label == "long." && len(got.Answer) == 1 { // where a long text is cut is no part of its meaning
				got.Answer[0].(*dns.TXT).Txt = []string{strings.Join(got.Answer[0].(*dns.TXT).Txt, "")}
				want.Answer[0].(*dns.TXT).Txt = []string{strings.Join(want.Answer[0].(*dns.TXT).Txt, "")}
			}
			if diff := cmp.Diff(want.String(), got.String()); diff != "" {
				t.Errorf("%s %s (-ours +master):\n%s", label, dns.TypeToString[qtype], diff)
			}
		}
	}
	if names := master.FailoverNames(); !slices.Equal(names, []string{failovertest.ZoneName}) {
		t.Errorf("failover names %v", names)
	}
}

const masterHead = "$ORIGIN example.test.\n$TTL 30\n@ IN SOA ns hostmaster 7 3600 600 1209600 3\n@ NS ns\nns A 10.0.0.53\n"

func TestMistakesInMasterFilesAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"":                               "no SOA",
		"$ORIGIN example.test.\n@ 5 A x": "bad A",
		"@ IN SOA ns h 1 2 3 4 5":        "--origin",
		masterHead + "sub NS ns":         "zone of their own",
		masterHead + "* A 10.0.0.1":      "wildcards",
		masterHead + "www.other.test. A 10.0.0.1":                          "not in the zone",
		masterHead + "a CNAME ns\na A 10.0.0.1":                            "alias stands alone",
		masterHead + "@ NS ns2":                                            "no address",
		masterHead + "@ SOA ns h 1 2 3 4 5\nb.example. SOA ns h 1 2 3 4 5": "two SOA",
		masterHead + "x A 224.0.0.1":                                       "no address of a host",
		masterHead + "x 100000 A 10.0.0.1":                                 "TTL 100000",
		masterHead + "@ DNSKEY 257 3 13 AAAA":                              "signed",
		"$ORIGIN example.test.\n@ 5 SOA ns h 1 2 3 4 5\n":                  "no NS",
	} {
		_, _, err := ParseMaster([]byte(text), MasterOptions{File: "the.zone"})
		if drill.KindOf(err) != drill.Invalid || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v; want %q", text, err, want)
		}
	}
	for name, want := range map[string]string{"absent": "no address", "": "not a domain name", "slow": "longer than a minute"} {
		_, _, err := ParseMaster([]byte(masterHead+"slow 3600 A 10.0.0.1\n"), MasterOptions{File: "the.zone", Failover: []string{name}})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("failover %q: %v; want %q", name, err, want)
		}
	}
}

func TestLongNoOfAMasterFileIsCutAndSaid(t *testing.T) {
	text := strings.Replace(masterHead, "1209600 3", "1209600 3600", 1)
	zone, notes, err := ParseMaster([]byte(text), MasterOptions{File: "the.zone"})
	if err != nil || len(notes) != 1 || zone.NegativeTTL != negativeMax {
		t.Errorf("%v, notes %v, negative TTL %v", err, notes, zone.NegativeTTL)
	}
	if reply := zone.Answer(new(dns.Msg).SetQuestion("example.test.", dns.TypeSOA), nil, time.Unix(1, 0), true); reply.Answer[0].(*dns.SOA).Serial != 7 {
		t.Errorf("SOA %v; want the serial number of the file", reply.Answer[0])
	}
}

func FuzzParseMaster(f *testing.F) {
	f.Add(failovertest.ZoneFile())
	f.Add(masterHead + "$GENERATE 1-3 h$ A 10.0.0.$\n")
	f.Fuzz(func(t *testing.T, text string) {
		zone, _, err := ParseMaster([]byte(text), MasterOptions{File: "zone", Origin: "example.test."})
		if err != nil {
			return
		}
		for _, record := range zone.Records(nil) {
			query := new(dns.Msg).SetQuestion(record.Header().Name, record.Header().Rrtype)
			if reply := zone.Answer(query, nil, time.Unix(1, 0), true); reply.Rcode != dns.RcodeSuccess || len(reply.Answer) == 0 {
				t.Errorf("%v is in the zone and not answered: %v", record, reply)
			}
		}
	})
}
