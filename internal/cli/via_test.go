//go:build !hostpart

package cli

import (
	"context"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/probe"
)

// seenVia runs a probe at a place that a shell line leads to, until it was seen to be served five times, and returns the clock that was measured
// and what was seen.
func seenVia(t *testing.T, line string) (history.Clock, []history.Sample, error) {
	t.Helper()
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer service.Close()
	c := &crew{source: "here", file: filepath.Join(t.TempDir(), "firedrill.yaml")}
	ctx, cancel := context.WithTimeout(t.Context(), probePatience)
	defer cancel()
	var clock history.Clock
	var samples []history.Sample
	client := drill.Client{Name: "far", Via: []string{"sh", "-c", line, "sh"}}
	spec := probe.Spec{Name: "far", Kind: probe.HTTP, URL: service.URL, Every: drill.Seconds(20 * time.Millisecond), Timeout: drill.Seconds(10 * time.Second)}
	err := c.probes(ctx, client, []probe.Spec{spec}, func(event history.Event) {
		switch fact := event.Fact.(type) {
		case *history.Clock:
			clock = *fact
		case *history.Sample:
			if fact.OK {
				samples = append(samples, *fact)
			}
			if len(samples) >= 5 {
				cancel()
			}
		}
	})
	return clock, samples, err
}

// A client stands wherever a program leads: its times are those of the conductor, whatever its clock says.
func TestClientsAreReachedThroughPrograms(t *testing.T) {
	const ahead = `case "$*" in *--clock) while read -r _; do echo $(($(date +%s) + 1000)).5; done ;; *) exec firedrill "$@" ;; esac`
	for line, want := range map[string]time.Duration{`exec firedrill "$@"`: 0, ahead: 1000 * time.Second} {
		began := time.Now()
		clock, samples, err := seenVia(t, line)
		if err != nil || len(samples) < 5 {
			t.Errorf("%s: %d samples, %v", line, len(samples), err)
			continue
		}
		bound := clock.Error.Duration() + time.Second // the shell says half of a second in place of what it is
		if clock.Host != "far" || (clock.Offset.Duration()-want).Abs() > bound {
			t.Errorf("%s: the clock is %+v; want %s", line, clock, want)
		}
		if at := samples[0].Scheduled.Add(want); at.Before(began.Add(-bound)) || at.After(time.Now().Add(bound)) {
			t.Errorf("%s: it says %s of a try made after %s", line, at, began)
		}
	}
}

func TestProgramsThatDoNotLeadToAClientAreNamed(t *testing.T) {
	for line, says := range map[string]string{
		"echo no such pod >&2; exit 1":                                              "no such pod",
		"while read -r _; do echo soon; done":                                       "soon",
		`case "$*" in *--clock) exec firedrill "$@" ;; esac; echo gone >&2; exit 3`: "gone",
	} {
		_, _, err := seenVia(t, line)
		if drill.KindOf(err) != drill.Unreachable || !strings.Contains(err.Error(), says) || !strings.Contains(drill.HintOf(err), "version") {
			t.Errorf("%s: %v (%v); want %q and the cure", line, err, drill.KindOf(err), says)
		}
	}
	c := &crew{source: "here", file: "firedrill.yaml"}
	err := c.probes(t.Context(), drill.Client{Name: "far", Via: []string{"/no/such/program"}}, nil, func(history.Event) {})
	if drill.KindOf(err) != drill.Unreachable || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("a program that is not there: %v", err)
	}
}
