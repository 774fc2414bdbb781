package probe

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// keepSamples runs a keep-alive client until it has seen enough samples.
func keepSamples(t *testing.T, url string, enough func([]history.Sample) bool) []history.Sample {
	t.Helper()
	var all []history.Sample
	run(t, []Spec{{Name: "keep", Kind: HTTP, URL: url, Keep: true, Every: 20 * ms, Timeout: 300 * ms}}, func(events []history.Event) bool {
		all = nil
		for _, e := range events {
			if s, is := e.Fact.(*history.Sample); is {
				all = append(all, *s)
			}
		}
		return enough(all)
	})
	return all
}

func TestKeptConnectionsAreUsedAgain(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "well") }))
	defer server.Close()
	samples := keepSamples(t, server.URL, func(all []history.Sample) bool { return len(all) >= 10 })
	reused := 0
	for _, s := range samples {
		if !s.OK {
			t.Errorf("failed: %+v", s)
		}
		if s.Reused {
			reused++
		}
	}
	if reused < len(samples)/2 {
		t.Errorf("%d of %d samples went over a connection that was there", reused, len(samples))
	}
}

// A server that closes idle connections has no outage: a client that keeps them asks again on another.
func TestConnectionClosedWhileIdleIsNoOutage(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "well") }))
	defer server.Close()
	closed := false
	samples := keepSamples(t, server.URL, func(all []history.Sample) bool {
		if len(all) == 5 && !closed {
			closed = true
			server.CloseClientConnections()
		}
		return len(all) >= 12
	})
	failed := 0
	for _, s := range samples {
		if !s.OK {
			failed++
		}
	}
	if failed > 1 { // one may have been under way
		t.Errorf("%d samples failed", failed)
	}
}

// One that hangs is left: the next request gets a connection of its own, and is served when the service is back.
func TestHungConnectionIsLeft(t *testing.T) {
	var hang atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if hang.Load() {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, "well")
	}))
	defer server.Close()
	var back time.Time
	samples := keepSamples(t, server.URL, func(all []history.Sample) bool {
		timeouts := 0
		for _, s := range all {
			if s.Cause == history.CauseTimeout {
				timeouts++
			}
		}
		switch {
		case len(all) >= 5 && timeouts == 0:
			hang.Store(true)
		case timeouts >= 3 && back.IsZero():
			hang.Store(false)
			back = time.Now()
		}
		return !back.IsZero() && slices.ContainsFunc(all, func(s history.Sample) bool { return s.OK && s.Scheduled.After(back) })
	})
	if !slices.ContainsFunc(samples, func(s history.Sample) bool { return s.Cause == history.CauseTimeout }) {
		t.Error("nothing hung")
	}
}

// pairOfServers are two on one port, of different addresses of this host, as a name leads to one or the other.
func pairOfServers(t *testing.T, blue, green http.HandlerFunc) (first, second *httptest.Server, port string) {
	t.Helper()
	for range 20 { // until a port is free at both
		one, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ = net.SplitHostPort(one.Addr().String())
		two, err := net.Listen("tcp", "127.0.0.2:"+port)
		if err != nil {
			_ = one.Close()
			continue
		}
		first, second = httptest.NewUnstartedServer(blue), httptest.NewUnstartedServer(green)
		for server, listener := range map[*httptest.Server]net.Listener{first: one, second: two} {
			_ = server.Listener.Close()
			server.Listener = listener
			server.Start()
			t.Cleanup(server.Close)
		}
		return first, second, port
	}
	t.Fatal("no port is free at two addresses")
	return nil, nil, ""
}

// A side is ill and the name is led to the other one: who connects anew is served at once, who keeps connections stays with the ill side until that
// closes them. Both are shown, because a failover by name alone is over for the first only.
func TestClientsThatKeepConnectionsFailOverLater(t *testing.T) {
	var ill atomic.Bool
	blue, _, port := pairOfServers(t, func(w http.ResponseWriter, _ *http.Request) {
		if ill.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
		fmt.Fprint(w, "blue")
	}, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "green") })
	server := nameServer(t, func(w dns.ResponseWriter, q *dns.Msg) {
		address := "127.0.0.1"
		if ill.Load() {
			address = "127.0.0.2"
		}
		reply(w, q, "api.example.test. 0 A "+address)
	})
	spec := Spec{Name: "x", Kind: HTTP, URL: "http://api.example.test:" + port, Resolver: server, Every: second, Timeout: drill.Seconds(patience)}
	kept := spec
	kept.Keep = true
	keeps, is := (&runner{}).task(kept).(*keeper)
	if !is {
		t.Fatal("a client that keeps its connections is none")
	}
	defer keeps.stop(t.Context())
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	led := func(r result) string {
		host, _, _ := strings.Cut(strings.TrimPrefix(fmt.Sprint(r.address), "127.0.0."), ":")
		return strings.TrimSpace(map[string]string{"1": "blue", "2": "green"}[host] + " " + r.cause)
	}
	both := func(times int) string {
		var said []string
		for range times {
			said = append(said, led(try(t, spec))+"/"+led(keeps.attempt(ctx)))
		}
		return strings.Join(said, ", ")
	}
	if got := both(2); got != "blue/blue, blue/blue" {
		t.Errorf("before: %s", got)
	}
	ill.Store(true)
	if got, want := both(3), "green/blue status, green/blue status, green/blue status"; got != want {
		t.Errorf("once the name has moved: %s; want %s", got, want)
	}
	blue.CloseClientConnections()
	if got := both(2); got != "green/green, green/green" {
		t.Errorf("once the ill side has closed its connections: %s", got)
	}
}
