package probe

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

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
