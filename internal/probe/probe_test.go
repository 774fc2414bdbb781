package probe

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must happen; it is no measurement.
const patience = 30 * time.Second

const (
	ms     = drill.Seconds(time.Millisecond)
	second = drill.Seconds(time.Second)
)

// run starts Run and stops it when the test has collected what enough accepts.
func run(t *testing.T, specs []Spec, enough func([]history.Event) bool) []history.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var seen []history.Event
	met := false
	err := Run(ctx, "here", specs, func(e history.Event) {
		seen = append(seen, e)
		if !met && enough(seen) {
			met = true
			cancel()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if !met && !enough(seen) {
		t.Fatalf("not seen in %v; events: %s", patience, dump(seen))
	}
	return seen
}

func dump(events []history.Event) string {
	text, _ := json.MarshalIndent(events, "", " ")
	return string(text)
}

func facts[F history.Fact](events []history.Event) []F {
	var found []F
	for _, e := range events {
		if fact, ok := e.Fact.(F); ok {
			found = append(found, fact)
		}
	}
	return found
}

func atLeast(n int) func([]history.Event) bool {
	return func(events []history.Event) bool { return len(events) >= n }
}

// tries returns the samples that say something of the service. On a busy machine some are our own fault.
func tries(events []history.Event) []*history.Sample {
	return slices.DeleteFunc(facts[*history.Sample](events), func(s *history.Sample) bool { return s.Cause == history.CauseProber })
}

func atLeastTries(n int) func([]history.Event) bool {
	return func(events []history.Event) bool { return len(tries(events)) >= n }
}

// silentListener accepts connections in the kernel and never says a word.
func silentListener(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	return listener
}

func closedPort(t *testing.T) string {
	t.Helper()
	listener := silentListener(t)
	_ = listener.Close()
	return listener.Addr().String()
}

func TestEachFailureNamesItsFirstCause(t *testing.T) {
	web := http.NewServeMux()
	web.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "all is well") })
	web.HandleFunc("/500", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	web.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/ok", http.StatusFound) })
	web.HandleFunc("/host", func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })
	web.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		_, _ = io.WriteString(w, "short")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	web.HandleFunc("/early", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = io.WriteString(w, "late")
	})
	plain := httptest.NewServer(web)
	t.Cleanup(plain.Close)
	secure := httptest.NewUnstartedServer(web)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	silent, closed := silentListener(t).Addr().String(), closedPort(t)
	address := strings.TrimPrefix(plain.URL, "http://")

	for _, c := range []struct {
		name   string
		spec   Spec
		cause  string
		status int
	}{
		{"fine", Spec{Kind: HTTP, URL: plain.URL + "/ok"}, "", 200},
		{"content holds", Spec{Kind: HTTP, URL: plain.URL + "/ok", Contains: "is well"}, "", 200},
		{"host header", Spec{Kind: HTTP, URL: plain.URL + "/host", Host: "bookstore.example.test", Contains: "bookstore.example.test"}, "", 200},
		{"early hints", Spec{Kind: HTTP, URL: plain.URL + "/early", Contains: "late"}, "", 200},
		{"expected status", Spec{Kind: HTTP, URL: plain.URL + "/500", Status: 500}, "", 500},
		{"status", Spec{Kind: HTTP, URL: plain.URL + "/500"}, history.CauseStatus, 500},
		{"redirect is not followed", Spec{Kind: HTTP, URL: plain.URL + "/moved"}, history.CauseStatus, 302},
		{"content", Spec{Kind: HTTP, URL: plain.URL + "/ok", Contains: "on fire"}, history.CauseContent, 200},
		{"cut body", Spec{Kind: HTTP, URL: plain.URL + "/cut"}, history.CauseReset, 200},
		{"refused", Spec{Kind: HTTP, URL: "http://" + closed}, history.CauseRefused, 0},
		{"no response", Spec{Kind: HTTP, URL: "http://" + silent, Timeout: 50 * ms}, history.CauseTimeout, 0},
		{"untrusted", Spec{Kind: HTTP, URL: secure.URL + "/ok"}, history.CauseTLS, 0},
		{"plain where TLS belongs", Spec{Kind: HTTP, URL: "https://" + address}, history.CauseTLS, 0},
		{"handshake hangs", Spec{Kind: HTTP, URL: "https://" + silent, Timeout: 50 * ms}, history.CauseTimeout, 0},
		{"connects", Spec{Kind: TCP, Address: address}, "", 0},
		{"connect refused", Spec{Kind: TCP, Address: closed}, history.CauseRefused, 0},
		{"resolver refuses", Spec{Kind: TCP, Address: "db.example.test:5432", Resolver: closed}, history.CauseResolve, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.spec.Name, c.spec.Every = c.name, 20*ms
			if c.spec.Timeout == 0 {
				c.spec.Timeout = 10 * second
			}
			sample := tries(run(t, []Spec{c.spec}, atLeastTries(1)))[0]
			if sample.Cause != c.cause || sample.OK != (c.cause == "") || sample.Status != c.status {
				t.Errorf("cause %q, OK %v, status %d (%s); want %q, %d", sample.Cause, sample.OK, sample.Status, sample.Detail, c.cause, c.status)
			}
			if c.cause != history.CauseResolve && sample.Address == "" {
				t.Error("the address tried is missing")
			}
			if !sample.OK && sample.Detail == "" {
				t.Error("a failed sample says nothing of what happened")
			}
		})
	}
}

// closedLoop is the planted twin of runner.loop: it sends the next try when the last has ended, and calls that its schedule.
func closedLoop(ctx context.Context, r *runner, spec Spec, work task) {
	for ctx.Err() == nil {
		r.fly(ctx, spec, work, slot{Scheduled: r.now()})
		select {
		case <-ctx.Done():
		case <-time.After(spec.Every.Duration()):
		}
	}
}

// onSchedule checks what the open loop promises: one sample for each moment of the grid, without a hole.
func onSchedule(samples []*history.Sample, every time.Duration) string {
	slices.SortFunc(samples, func(a, b *history.Sample) int { return a.Scheduled.Compare(b.Scheduled) })
	for i := 1; i < len(samples); i++ {
		if gap := samples[i].Scheduled.Sub(samples[i-1].Scheduled); gap != every {
			return "samples are " + gap.String() + " apart, not " + every.String()
		}
	}
	return ""
}

func TestScheduleHoldsWhateverHangs(t *testing.T) {
	spec := Spec{Name: "hung", Kind: HTTP, URL: "http://" + silentListener(t).Addr().String(), Every: 10 * ms, Timeout: 100 * ms}
	open := facts[*history.Sample](run(t, []Spec{spec}, atLeast(40)))
	if problem := onSchedule(open, 10*time.Millisecond); problem != "" {
		t.Errorf("open loop: %s", problem)
	}

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := &runner{source: "here", started: time.Now(), outlet: newOutlet()}
	var waiting []*history.Sample
	var drained sync.WaitGroup
	drained.Go(func() {
		r.outlet.drain(func(e history.Event) {
			waiting = append(waiting, e.Fact.(*history.Sample))
			if len(waiting) == 3 {
				cancel()
			}
		})
	})
	closedLoop(ctx, r, spec, r.task(spec))
	r.outlet.close(r.now(), "here")
	drained.Wait()
	if onSchedule(waiting, 10*time.Millisecond) == "" {
		t.Error("the planted closed loop was not caught")
	}
}

// stuck never ends its tries until it is let go, whatever their timeout.
type stuck struct{ release chan struct{} }

func (s stuck) try(context.Context, slot) { <-s.release }
func (s stuck) stop(context.Context)      {}

func TestTriesOverTheBoundAreOurOwnFault(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r := &runner{source: "here", started: time.Now(), outlet: newOutlet()}
	spec := Spec{Name: "stuck", Kind: TCP, Every: ms, Timeout: 3 * ms}
	work := stuck{release: make(chan struct{})}
	faults := 0
	var drained sync.WaitGroup
	drained.Go(func() {
		r.outlet.drain(func(e history.Event) {
			if s, ok := e.Fact.(*history.Sample); ok && s.Cause == history.CauseProber {
				if faults++; faults == 5 {
					close(work.release)
					cancel()
				}
			}
		})
	})
	r.loop(ctx, spec, work)
	r.outlet.close(r.now(), "here")
	drained.Wait()
	if faults < 5 {
		t.Errorf("%d samples say that the prober was at fault; want 5", faults)
	}
}

// bomb panics in its tries.
type bomb struct{}

func (bomb) try(context.Context, slot) { panic("planted") }
func (bomb) stop(context.Context)      {}

func TestPanicOfATryIsOurOwnFault(t *testing.T) {
	r := &runner{source: "here", started: time.Now(), outlet: newOutlet()}
	r.fly(t.Context(), Spec{Name: "bomb", Every: second}, bomb{}, slot{Scheduled: r.now()})
	r.outlet.close(r.now(), "here")
	var seen []history.Event
	r.outlet.drain(func(e history.Event) { seen = append(seen, e) })
	if samples := facts[*history.Sample](seen); len(samples) != 1 || samples[0].Cause != history.CauseProber {
		t.Errorf("events %s; want one sample of cause %q", dump(seen), history.CauseProber)
	}
}

func TestMissedMomentsAreRecordedAsOurOwnFault(t *testing.T) {
	r := &runner{source: "here", started: time.Now(), outlet: newOutlet()}
	spec := Spec{Name: "frozen", Every: 100 * ms}
	start := r.now()
	if last := r.missed(spec, slot{Scheduled: start, Lag: time.Second}); !last.Equal(start) {
		t.Errorf("after a second, moments up to %v were dealt with at once", last.Sub(start))
	}
	long := (missedMax + 50) * 100 * time.Millisecond
	if last := r.missed(spec, slot{Scheduled: start, Lag: long}); !last.Equal(start.Add(long)) {
		t.Errorf("after a long freeze, moments up to %v were dealt with; want %v", last.Sub(start), long)
	}
	r.outlet.close(r.now(), "here")
	var seen []history.Event
	r.outlet.drain(func(e history.Event) { seen = append(seen, e) })
	if got := len(facts[*history.Sample](seen)); got != 2 {
		t.Errorf("%d samples; want 2", got)
	}
	if got := len(facts[*history.Note](seen)); got != 1 {
		t.Errorf("%d notes on what is missing; want 1", got)
	}
}

// TestFrozenProberRecordsEveryMoment starts a loop whose schedule began in the past, as after a freeze.
func TestFrozenProberRecordsEveryMoment(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	spec := Spec{Name: "frozen", Kind: Heartbeat, Every: 10 * ms}
	r := &runner{source: "here", started: time.Now().Add(-2 * time.Second), outlet: newOutlet()}
	var seen []*history.Sample
	sent := 0
	var drained sync.WaitGroup
	drained.Go(func() {
		r.outlet.drain(func(e history.Event) {
			s := e.Fact.(*history.Sample)
			seen = append(seen, s)
			if s.OK {
				if sent++; sent == 5 {
					cancel()
				}
			}
		})
	})
	r.loop(ctx, spec, r.task(spec))
	r.outlet.close(r.now(), "here")
	drained.Wait()
	if problem := onSchedule(seen, 10*time.Millisecond); problem != "" {
		t.Error(problem)
	}
	for _, s := range seen {
		if s.Lag.Duration() > lateMin && s.Cause != history.CauseProber {
			t.Errorf("a sample that was %v late counts", s.Lag)
		}
	}
}

func TestSlowReceiverLosesNothingSilently(t *testing.T) {
	o := newOutlet()
	now := time.Now()
	for range queueMax + 7 {
		o.put(history.New(now, "here", &history.Sample{}))
	}
	o.close(now, "here")
	samples, notes := 0, 0
	o.drain(func(e history.Event) {
		switch fact := e.Fact.(type) {
		case *history.Sample:
			samples++
		case *history.Note:
			notes++
			if !strings.HasPrefix(fact.Text, "7 events") {
				t.Errorf("note %q; want one on 7 events", fact.Text)
			}
		}
	})
	if samples != queueMax || notes != 1 {
		t.Errorf("%d samples and %d notes; want %d and 1", samples, notes, queueMax)
	}
}

func TestHeartbeatTellsTheBootOnce(t *testing.T) {
	events := run(t, []Spec{{Name: "alive", Kind: Heartbeat, Every: 5 * ms}}, atLeastTries(4))
	told := 0
	for _, s := range tries(events) {
		if !s.OK {
			t.Errorf("a heartbeat is not OK: %+v", s)
		}
		if strings.HasPrefix(s.Detail, "boot_id ") {
			told++
		}
	}
	if told != 1 {
		t.Errorf("the boot id was told %d times; want once", told)
	}
}

func TestWrongSpecsAreRefusedBeforeAnythingIsSent(t *testing.T) {
	good := Spec{Name: "a", Kind: Heartbeat, Every: second}
	for want, specs := range map[string][]Spec{
		"no probes":            nil,
		"name is missing":      {{Kind: Heartbeat, Every: second}},
		"two probes are named": {good, good},
		"kind \"htp\"":         {{Name: "a", Kind: "htp", Every: second}},
		"every is 0s":          {{Name: "a", Kind: Heartbeat}},
		"is not host:port":     {{Name: "a", Kind: TCP, Address: "db", Every: second}},
		"is not http://":       {{Name: "a", Kind: HTTP, URL: "ftp://db", Every: second}},
		"are needed":           {{Name: "a", Kind: DNS, Address: "10.0.0.1", Every: second}},
		"which says who":       {{Name: "a", Kind: Served, URL: "http://10.0.0.1/", Query: "shop.test", Every: second}},
		"tries under way":      {{Name: "a", Kind: Heartbeat, Every: ms, Timeout: 60 * second}},
		"timeout is 1h":        {{Name: "a", Kind: Heartbeat, Every: second, Timeout: 3600 * second}},
	} {
		err := Run(t.Context(), "here", specs, func(history.Event) { t.Error("an event was emitted") })
		if err == nil || !strings.Contains(err.Error(), want) || drill.KindOf(err) != drill.Invalid {
			t.Errorf("error %v; want %q", err, want)
		}
	}
}
