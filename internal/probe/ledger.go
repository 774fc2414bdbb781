package probe

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// readEvery is how long the ledger waits before it reads back again: a service that has just come back is not helped by a storm.
const readEvery = 250 * time.Millisecond

// readTimeout is how long one reading may take.
const readTimeout = 5 * time.Second

// readSpan is how often the ledger looks, while it writes, whether a reader sees what was acknowledged: seldom enough to be no load.
const readSpan = time.Second

// entry is what is written: {"writer": id, "seq": n}.
type entry struct {
	Writer string `json:"writer"`
	Seq    int    `json:"seq"`
}

// writing is what the writer itself knows of an entry; the service under test is not asked to keep it.
type writing struct {
	sent   time.Time
	acked  time.Time // zero: in doubt, it may be there or not
	missed bool      // a reading that began after the acknowledgement did not hold it
}

// store is where entries are written and read back. Its methods may be called concurrently.
type store interface {
	write(ctx context.Context, e entry) error               // nil only when it was acknowledged
	read(ctx context.Context, writer string) ([]int, error) // the numbers of the writer's entries that are there
	close()
}

// ledger writes numbered entries and at the end reads them back: what was acknowledged and is not there is lost.
type ledger struct {
	runner *runner
	spec   Spec
	writer string
	store  store

	mu      sync.Mutex // guards the fields below
	written []writing  // by number, from 1
	read    time.Time  // when a reading last began
}

func newLedger(r *runner, spec Spec) *ledger {
	writer := spec.Writer
	if writer == "" {
		writer = r.source + "-" + rand.Text()[:12] // a second run must not find the entries of the first
	}
	l := &ledger{runner: r, spec: spec, writer: writer, store: httpStore{spec}}
	if isSQL(spec.URL) {
		l.store = newSQLStore(spec)
	}
	return l
}

// try writes the next entry.
func (l *ledger) try(ctx context.Context, _ slot) {
	l.mu.Lock()
	l.written = append(l.written, writing{sent: l.runner.now()})
	seq := len(l.written)
	l.mu.Unlock()
	if err := l.store.write(ctx, entry{Writer: l.writer, Seq: seq}); err != nil {
		return
	}
	l.mu.Lock()
	now := l.runner.now()
	l.written[seq-1].acked = now
	due := now.Sub(l.read) >= readSpan
	if due {
		l.read = now
	}
	count := len(l.written)
	l.mu.Unlock()
	if due {
		l.look(ctx, count)
	}
}

// look reads, and marks what was acknowledged before the reading began and is not in it: stale if it turns up in the end, else lost.
func (l *ledger) look(ctx context.Context, count int) {
	began := l.runner.now()
	present, err := l.store.read(ctx, l.writer)
	if err != nil {
		return // whether it can be read is for the probes to tell
	}
	there := make(map[int]bool, len(present))
	for _, seq := range present {
		there[seq] = true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.written[:count] {
		w := &l.written[i]
		if !w.acked.IsZero() && w.acked.Before(began) && !there[i+1] {
			w.missed = true
		}
	}
}

// stop reads the entries back, by whatever the name leads to then, and tells the account. It tries again while reading fails or entries
// are missing, until the time for it is over: a replica that is still catching up has lost nothing.
func (l *ledger) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, l.spec.readBack())
	defer cancel()
	defer l.store.close()
	l.mu.Lock()
	written := slices.Clone(l.written)
	l.mu.Unlock()
	account := history.Ledger{Unread: "no reading was made"}
	for {
		present, err := l.readBack(ctx)
		switch {
		case err == nil:
			account = settle(written, present)
		case account.Unread != "":
			account = settle(written, nil)
			account.Lost, account.Span = 0, 0
			account.Unread = err.Error()
		}
		if account.Unread == "" && account.Lost == 0 {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(readEvery):
			continue
		}
		break
	}
	l.runner.emit(l.runner.now(), &account)
}

func (l *ledger) readBack(ctx context.Context) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	present, err := l.store.read(ctx, l.writer)
	if err != nil {
		return nil, fmt.Errorf("read back: %w", err)
	}
	return present, nil
}

// httpStore is an API that takes entries by POST and lists them by GET.
type httpStore struct{ spec Spec }

// write takes only a status of 200 to 299 for an acknowledgement.
func (s httpStore) write(ctx context.Context, e entry) error {
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.spec.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	return s.exchange(ctx, request, nil)
}

func (s httpStore) read(ctx context.Context, writer string) ([]int, error) {
	target, err := url.Parse(s.spec.URL)
	if err != nil {
		return nil, err
	}
	query := target.Query()
	query.Set("writer", writer)
	target.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	var present numbers
	err = s.exchange(ctx, request, &present)
	return present, err
}

// exchange sends a request; answer is decoded into unless it is nil.
func (s httpStore) exchange(ctx context.Context, request *http.Request, answer *numbers) error {
	outcome := exchange(ctx, s.spec, request, func(response *http.Response, outcome result) result {
		if response.StatusCode/100 != 2 {
			return outcome.failed(history.CauseStatus, "status %d", response.StatusCode)
		}
		if answer == nil {
			return outcome
		}
		if err := json.NewDecoder(response.Body).Decode(answer); err != nil {
			return outcome.failed(history.CauseContent, "not a list of numbers: %v", err)
		}
		return outcome
	})
	if outcome.cause != "" {
		return fmt.Errorf("%s: %s", outcome.cause, outcome.detail)
	}
	return nil
}

func (s httpStore) close() {}

// settle holds what was written against what is there.
func settle(written []writing, present []int) history.Ledger {
	account := history.Ledger{Sent: len(written)}
	times := make([]int, len(written))
	for _, seq := range present {
		if seq < 1 || seq > len(written) {
			account.Unread = fmt.Sprintf("the service lists entry %d, which was never sent: it does not list what this writer wrote", seq)
			return account
		}
		times[seq-1]++
		if times[seq-1] == 2 {
			account.Duplicated++
		}
	}
	type acknowledgement struct {
		at   time.Time
		lost bool
	}
	var acks []acknowledgement
	for i, w := range written {
		if w.acked.IsZero() {
			account.InDoubt++
			continue
		}
		account.Acked++
		acks = append(acks, acknowledgement{at: w.acked, lost: times[i] == 0})
		if w.missed && times[i] > 0 {
			account.Stale++
		}
	}
	slices.SortStableFunc(acks, func(a, b acknowledgement) int { return cmp.Compare(a.at.UnixNano(), b.at.UnixNano()) })
	var survived time.Time // last surviving acknowledgement so far; before the first of all, the first sending
	if len(written) > 0 {
		survived = written[0].sent
	}
	for _, ack := range acks {
		if !ack.lost {
			survived = ack.at
			continue
		}
		account.Lost++
		account.Span = max(account.Span, drill.Seconds(ack.at.Sub(survived)))
	}
	return account
}

// numbers reads [1,2,3], and {"seqs":[1,2,3]} of services that never answer with a bare list.
type numbers []int

// UnmarshalJSON reads either form.
func (n *numbers) UnmarshalJSON(text []byte) error {
	var bare []int
	if json.Unmarshal(text, &bare) == nil {
		*n = bare
		return nil
	}
	var wrapped struct {
		Seqs *[]int `json:"seqs"`
	}
	if err := json.Unmarshal(text, &wrapped); err != nil {
		return err
	}
	if wrapped.Seqs == nil {
		return errors.New("no seqs")
	}
	*n = *wrapped.Seqs
	return nil
}
