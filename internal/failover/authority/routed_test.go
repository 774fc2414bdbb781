package authority

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/history"
)

const routedZone = `zone: bookstore.example.test
servers: [ns]
records:
  ns: {a: [10.77.0.53]}
checks:
  blue-status: {alarm: blue-StatusCheckFailed}
  blue-db:     {alarm: blue-db-failed, insufficient_data: Unhealthy}
  blue:        {healthy: 2, of: [blue-status, blue-db]}
  green:       {alarm: green-StatusCheckFailed}
  spare:       {alarm: blue-StatusCheckFailed, inverted: true}
routed:
  shop:
    routing: failover
    ttl: 1s
    records:
      blue:  {addresses: [10.77.1.10], check: blue}
      green: {addresses: [10.77.1.20], check: green, secondary: true}
  lots:
    routing: weighted
    records:
      blue:  {addresses: [10.77.1.10], check: blue, weight: 3}
      green: {addresses: [10.77.1.20], check: green, weight: 1}
  all:
    routing: multivalue
    records:
      blue:  {addresses: [10.77.1.10], check: blue}
      green: {addresses: [10.77.1.20, "2001:db8::20"], check: green}
      spare: {addresses: [10.77.1.30], check: spare}
`

// leads returns the addresses that a name is answered with, over many queries.
func leads(t *testing.T, s *Server, name string) string {
	t.Helper()
	var all []string
	for id := range 60 {
		query := new(dns.Msg).SetQuestion(name+".bookstore.example.test.", dns.TypeA)
		query.Id = uint16(id) //nolint:gosec // small
		reply := new(dns.Msg)
		if err := reply.Unpack(s.compose(query, time.Unix(int64(id), 0), false)); err != nil || len(reply.Answer) == 0 {
			t.Fatalf("%s: %v, %v", name, reply, err)
		}
		for _, record := range reply.Answer {
			all = append(all, strings.TrimPrefix(record.(*dns.A).A.String(), "10.77.1."))
		}
	}
	slices.Sort(all)
	return strings.Join(slices.Compact(all), " ")
}

func TestRoutedNamesFollowTheAlarms(t *testing.T) {
	state := filepath.Join(t.TempDir(), "answers.json")
	s, err := New(Options{Zone: mustZone(t, routedZone), Listen: "127.0.0.1:0", StateFile: state})
	if err != nil {
		t.Fatal(err)
	}
	fast := &fastConn{server: s, replies: map[string]fastReply{}}
	for _, row := range []struct{ alarm, to, shop, lots, all string }{
		{"", "", "10", "10 20", "10 20"}, // nothing is known: all are healthy but the inverted one
		{"blue-db-failed", "INSUFFICIENT_DATA", "20", "20", "20"},
		{"blue-db-failed", "OK", "10", "10 20", "10 20"},
		{"blue-StatusCheckFailed", "ALARM", "20", "20", "20 30"},
		{"blue-StatusCheckFailed", "INSUFFICIENT_DATA", "20", "20", "20 30"}, // as it was
		{"green-StatusCheckFailed", "ALARM", "10", "10 20", "30"},            // both are ill: fail open
		{"nobody-looks-at-it", "ALARM", "10", "10 20", "30"},
		{"blue-StatusCheckFailed", "OK", "10", "10", "10"},
	} {
		if err := s.ApplyAlarm(history.Alarm{Name: row.alarm, To: row.to}); row.alarm != "" && err != nil {
			t.Error(err)
		}
		got := [3]string{leads(t, s, "shop"), leads(t, s, "lots"), leads(t, s, "all")}
		if want := [3]string{row.shop, row.lots, row.all}; got != want {
			t.Errorf("after %s %s: %v; want %v", row.alarm, row.to, got, want)
		}
		if !agree(t, s, fast, new(dns.Msg).SetQuestion("shop."+apexName, dns.TypeA)) {
			t.Error("a failover record is not answered at once")
		}
		if agree(t, s, fast, new(dns.Msg).SetQuestion("lots."+apexName, dns.TypeA)) {
			t.Error("a lot was drawn once and for all")
		}
	}
	again, err := New(Options{Zone: mustZone(t, routedZone), Listen: "127.0.0.1:0", StateFile: state})
	if err != nil || leads(t, again, "lots") != "10" {
		t.Errorf("after a restart: %s, %v", leads(t, again, "lots"), err)
	}
	if records := fmt.Sprint(mustZone(t, routedZone).Records(nil)); !strings.Contains(records, "10.77.1.30") || !strings.Contains(records, "2001:db8::20") {
		t.Errorf("a secondary, which knows no health, gets %s", records)
	}
}

func TestLotsAreDrawnByWeightOverTheWire(t *testing.T) {
	s := start(t, Options{Zone: mustZone(t, routedZone), Rate: 1 << 30})
	count := map[string]int{}
	for range 400 {
		count[ask(t, s, "udp", "lots."+apexName).Answer[0].(*dns.A).A.String()]++
	}
	if blue := count["10.77.1.10"]; blue < 220 || blue > 380 { // 300 is the mean, 8.7 the deviation
		t.Errorf("%v; want about three of four for blue", count)
	}
}

func TestAlarmsComeWithTheStream(t *testing.T) {
	s, err := New(Options{Zone: mustZone(t, routedZone), Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	event, err := history.New(time.Unix(1, 0), "watch", &history.Alarm{Name: "blue-StatusCheckFailed", To: "ALARM"}).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan string, 10)
	api := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		asked <- in.URL.RawQuery
		fmt.Fprintln(out, string(event))
	}))
	defer api.Close()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	err = FollowAlarms(ctx, api.URL, slog.New(slog.DiscardHandler), s.Apply, func(a history.Alarm) error {
		defer stop()
		return s.ApplyAlarm(a)
	})
	if query := <-asked; err != nil || query != "follow=1&kinds=answer,alarm" || leads(t, s, "shop") != "20" {
		t.Errorf("%v, asked %s, leads to %s", err, query, leads(t, s, "shop"))
	}
}

func TestMistakesInRoutedNamesAreNamed(t *testing.T) {
	for change, want := range map[[2]string]string{
		{"check: green}", "check: absent}"}:                                         `no check "absent"`,
		{"of: [blue-status, blue-db]", "of: [absent]"}:                              `no check "absent" to count`,
		{"healthy: 2, of", "healthy: 2, alarm: x, of"}:                              "write alarm",
		{"routing: weighted", "routing: latency"}:                                   "latency",
		{"weight: 3", "weight: 999"}:                                                "weight 999",
		{"secondary: true", "secondary: false"}:                                     "one primary",
		{"insufficient_data: Unhealthy", "insufficient_data: x"}:                    "LastKnownStatus",
		{"ns: {a: [10.77.0.53]}", "ns: {a: [10.77.0.53]}\n  shop: {a: [10.0.0.1]}"}: "keep one",
		{"addresses: [10.77.1.30]", "addresses: [0.0.0.0]"}:                         "no address of a host",
	} {
		_, err := ParseZone([]byte(strings.Replace(routedZone, change[0], change[1], 1)), "zone.yaml")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", change[1], err, want)
		}
	}
	if mustZone(t, bookstoreZone).Watches() || !mustZone(t, routedZone).Watches() {
		t.Error("which zones look at alarms is wrong")
	}
}
