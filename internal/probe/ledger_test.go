package probe

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

func TestSettleCountsWhatTheAcknowledgementsPromise(t *testing.T) {
	start := time.Date(2026, 11, 22, 9, 0, 0, 0, time.UTC)
	entries := func(acked string) []writing { // 'a' acknowledged a tenth of a second after sending, '-' in doubt
		var written []writing
		for i, letter := range acked {
			sent := start.Add(time.Duration(i) * time.Second)
			w := writing{sent: sent}
			if letter == 'a' {
				w.acked = sent.Add(100 * time.Millisecond)
			}
			written = append(written, w)
		}
		return written
	}
	for _, c := range []struct {
		name    string
		acked   string
		present []int
		want    history.Ledger
	}{
		{"nothing written", "", nil, history.Ledger{}},
		{"all there", "aaa", []int{3, 1, 2}, history.Ledger{Sent: 3, Acked: 3}},
		{"in doubt is not lost", "a-a", []int{1, 3}, history.Ledger{Sent: 3, Acked: 2, InDoubt: 1}},
		{"in doubt and there", "a-a", []int{1, 2, 3}, history.Ledger{Sent: 3, Acked: 2, InDoubt: 1}},
		{"lost in the middle", "aaaaa", []int{1, 2, 5}, history.Ledger{Sent: 5, Acked: 5, Lost: 2, Span: 2 * second}},
		{"lost at the end", "aaa", []int{1}, history.Ledger{Sent: 3, Acked: 3, Lost: 2, Span: 2 * second}},
		{"all lost", "aaa", nil, history.Ledger{Sent: 3, Acked: 3, Lost: 3, Span: drill.Seconds(2100 * time.Millisecond)}},
		{"two gaps, the longer counts", "aaaaaa", []int{1, 3, 6}, history.Ledger{Sent: 6, Acked: 6, Lost: 3, Span: 2 * second}},
		{"duplicated", "aaa", []int{1, 2, 2, 2, 3, 3}, history.Ledger{Sent: 3, Acked: 3, Duplicated: 2}},
		{
			"never sent", "a", []int{1, 9},
			history.Ledger{Sent: 1, Unread: "the service lists entry 9, which was never sent: it does not list what this writer wrote"},
		},
	} {
		if diff := cmp.Diff(c.want, settle(entries(c.acked), c.present)); diff != "" {
			t.Errorf("%s: %s", c.name, diff)
		}
	}
}

// shelf is a service that keeps entries; forget names those that it acknowledges and loses.
type shelf struct {
	mu      sync.Mutex
	entries map[string][]int
	forget  func(seq int) bool
	refuse  func(seq int) bool
	broken  int // readings that fail first
	stale   int // readings that lack the newest entry
	old     int // readings that lack the first entry
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Method == http.MethodPost {
		var e entry
		if err := json.NewDecoder(r.Body).Decode(&e); err != nil || (s.refuse != nil && s.refuse(e.Seq)) {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		if s.forget == nil || !s.forget(e.Seq) {
			s.entries[e.Writer] = append(s.entries[e.Writer], e.Seq)
		}
		w.WriteHeader(http.StatusCreated)
		return
	}
	if s.broken > 0 {
		s.broken--
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	list := s.entries[r.URL.Query().Get("writer")]
	if s.stale > 0 && len(list) > 0 {
		s.stale--
		list = list[:len(list)-1]
	}
	if s.old > 0 && len(list) > 0 {
		s.old--
		list = list[1:]
	}
	_ = json.NewEncoder(w).Encode(list)
}

func TestLedgerFindsWhatWasAcknowledgedAndLost(t *testing.T) {
	for _, c := range []struct {
		name  string
		shelf *shelf
		check func(history.Ledger) bool
	}{
		{"honest", &shelf{}, func(l history.Ledger) bool { return l.Lost == 0 && l.Acked == l.Sent && l.Unread == "" }},
		{"slow to come back", &shelf{broken: 2, stale: 1}, func(l history.Ledger) bool { return l.Lost == 0 && l.Unread == "" }},
		{"refuses some", &shelf{refuse: func(seq int) bool { return seq%2 == 0 }}, func(l history.Ledger) bool {
			return l.Lost == 0 && l.InDoubt > 0 && l.Acked+l.InDoubt == l.Sent && l.Unread == ""
		}},
		// The planted twin: a service that acknowledges and forgets.
		{"forgets one", &shelf{forget: func(seq int) bool { return seq == 3 }}, func(l history.Ledger) bool {
			return l.Lost == 1 && l.Span > 0 && l.Unread == ""
		}},
		{"reads an old value once", &shelf{old: 1}, func(l history.Ledger) bool { return l.Stale == 1 && l.Lost == 0 && l.Unread == "" }},
		{"never comes back", &shelf{broken: 1 << 30}, func(l history.Ledger) bool { return l.Unread != "" && l.Acked > 0 && l.Lost == 0 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.shelf.entries = map[string][]int{}
			server := httptest.NewServer(c.shelf)
			t.Cleanup(server.Close)
			spec := Spec{Name: "ledger", Kind: Ledger, URL: server.URL + "/ledger", Every: 15 * ms, Timeout: 10 * second, ReadBack: 2 * second}
			specs := []Spec{spec, {Name: "clock", Kind: Heartbeat, Every: 20 * ms}}
			if c.name == "slow to come back" {
				specs[0].ReadBack = drill.Seconds(patience)
			}
			events := run(t, specs, atLeast(10))
			ledgers := facts[*history.Ledger](events)
			if len(ledgers) != 1 || !c.check(*ledgers[0]) {
				t.Errorf("ledgers: %s", dump(slices.DeleteFunc(events, func(e history.Event) bool { return e.Fact.Kind() != history.KindLedger })))
			}
		})
	}
}

// memory is a store that acknowledges all and loses some; a blind one lists whatever was sent.
type memory struct {
	lose    func(seq int) bool
	blind   bool
	kept, n []int
}

func (m *memory) write(_ context.Context, e entry) error {
	m.n = append(m.n, e.Seq)
	if !m.lose(e.Seq) {
		m.kept = append(m.kept, e.Seq)
	}
	return nil
}

func (m *memory) read(context.Context, string) ([]int, error) {
	if m.blind {
		return m.n, nil
	}
	return m.kept, nil
}

func (m *memory) close() {}

// accountOf writes n entries to a store and returns what the ledger says.
func accountOf(t *testing.T, s store, n int) (account history.Ledger) {
	t.Helper()
	r := &runner{source: "test", started: time.Now(), outlet: newOutlet()}
	var drained sync.WaitGroup
	drained.Go(func() {
		r.outlet.drain(func(event history.Event) { account = *event.Fact.(*history.Ledger) })
	})
	l := &ledger{runner: r, spec: Spec{Kind: Ledger, ReadBack: 20 * ms}, writer: "w", store: s}
	for range n {
		l.try(t.Context(), slot{})
	}
	l.stop(t.Context())
	r.outlet.close(r.now(), "test")
	drained.Wait()
	return account
}

// A ledger that believes a store which lists what it never kept would say that nothing is lost; the count is what tells them apart.
func TestExactlyThirtySevenAreLost(t *testing.T) {
	lose := func(seq int) bool { return seq > 60 && seq <= 97 }
	if got := accountOf(t, &memory{lose: lose}, 200); got.Lost != 37 || got.Acked != 200 || got.Span <= 0 {
		t.Errorf("the ledger says %+v, want 37 lost of 200", got)
	}
	if got := accountOf(t, &memory{lose: lose, blind: true}, 200); got.Lost == 37 {
		t.Error("a blind ledger counts as one that sees")
	}
}
