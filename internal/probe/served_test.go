package probe

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/history"
)

var bothHosts = map[string]netip.Addr{
	"api-blue": netip.MustParseAddr("10.77.1.10"), "api-green": netip.MustParseAddr("10.77.1.20"), "api-six": netip.MustParseAddr("fd00::6"),
}

func TestWhoServedIsReadFromAHeader(t *testing.T) {
	for _, test := range []struct {
		said []string
		want string
	}{
		{[]string{"api-blue"}, "10.77.1.10"},
		{[]string{"10.77.1.20"}, "10.77.1.20"},
		{[]string{"10.77.1.20:80"}, "10.77.1.20"},
		{[]string{"[fd00::6]:80"}, "fd00::6"},
		{[]string{"::ffff:10.77.1.20"}, "10.77.1.20"},
		// nginx tried one after the other: the last one has served.
		{[]string{"10.77.1.10:80, 10.77.1.20:80"}, "10.77.1.20"},
		{[]string{"10.77.1.10:80", "10.77.1.20:80"}, "10.77.1.20"},
		{[]string{"api-red"}, ""},
		{[]string{"10.77.1.30:80"}, ""},
		{[]string{"unix:/run/app.sock"}, ""},
		{[]string{""}, ""},
		{nil, ""},
	} {
		got := ""
		if address := (Spec{Hosts: bothHosts}).whoServed(test.said); address.IsValid() {
			got = address.String()
		}
		if got != test.want {
			t.Errorf("%q: %q served; want %q", test.said, got, test.want)
		}
	}
}

func TestWitnessTellsWhoServes(t *testing.T) {
	var serves atomic.Value
	serves.Store("api-blue")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if name := serves.Load().(string); name != "" {
			w.Header().Set("X-Served-By", name)
		}
		w.WriteHeader(http.StatusServiceUnavailable) // who serves is told by a failing host too
	}))
	defer server.Close()
	spec := Spec{
		Name: "answer", Kind: Served, URL: server.URL, Query: "shop.test", Header: "X-Served-By", Hosts: bothHosts, Every: 20 * ms, Timeout: 200 * ms,
		Repeat: 3600 * second,
	}
	next := map[string]string{"10.77.1.10": "10.77.1.20:80", "10.77.1.20": "", "": "api-blue"}
	events := run(t, []Spec{spec}, func(events []history.Event) bool {
		serves.Store(next[strings.Join(events[len(events)-1].Fact.(*history.Answer).Addresses, " ")])
		return len(events) == 4
	})
	var got []string
	for _, a := range facts[*history.Answer](events) {
		if a.Server != server.URL || a.Name != "shop.test" || a.Decided {
			t.Errorf("answer is not marked as seen at %s: %+v", server.URL, a)
		}
		if got = append(got, strings.Join(a.Addresses, " ")); a.Error != "" {
			got[len(got)-1] = "error"
		}
	}
	if diff := cmp.Diff([]string{"10.77.1.10", "10.77.1.20", "error", "10.77.1.10"}, got); diff != "" {
		t.Error(diff)
	}
}
