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

// entry is what is written: {"writer": id, "seq": n}.
type entry struct {
	Writer string `json:"writer"`
	Seq    int    `json:"seq"`
}

// writing is what the writer itself knows of an entry; the service under test is not asked to keep it.
type writing struct {
	sent  time.Time
	acked time.Time // zero: in doubt, it may be there or not
}

// ledger writes numbered entries and at the end reads them back: what was acknowledged and is not there is lost.
type ledger struct {
	runner *runner
	spec   Spec
	writer string

	mu      sync.Mutex // guards the fields below
	written []writing  // by number, from 1
}

func newLedger(r *runner, spec Spec) *ledger {
	writer := spec.Writer
	if writer == "" {
		writer = r.source + "-" + rand.Text()[:12] // a second run must not find the entries of the first
	}
	return &ledger{runner: r, spec: spec, writer: writer}
}

// try writes the next entry. Only a status of 200 to 299 is an acknowledgement.
func (l *ledger) try(ctx context.Context, _ slot) {
	l.mu.Lock()
	l.written = append(l.written, writing{sent: l.runner.now()})
	seq := len(l.written)
	l.mu.Unlock()
	body, err := json.Marshal(entry{Writer: l.writer, Seq: seq})
	if err != nil {
		return
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, l.spec.URL, bytes.NewReader(body))
	if err != nil {
		return
	}
	request.Header.Set("Content-Type", "application/json")
	outcome := exchange(ctx, l.spec, request, func(response *http.Response, outcome result) result {
		if response.StatusCode/100 != 2 {
			return outcome.failed(history.CauseStatus, "status %d", response.StatusCode)
		}
		return outcome
	})
	if outcome.cause != "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.written[seq-1].acked = l.runner.now()
}

// stop reads the entries back, by whatever the name leads to then, and tells the account. It tries again while reading fails or entries
// are missing, until the time for it is over: a replica that is still catching up has lost nothing.
func (l *ledger) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, l.spec.readBack())
	defer cancel()
	l.mu.Lock()
	written := slices.Clone(l.written)
	l.mu.Unlock()
	account := history.Ledger{Unread: "no reading was made"}
	for {
		present, err := l.read(ctx)
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

// read returns the numbers of our entries that are there.
func (l *ledger) read(ctx context.Context) ([]int, error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	target, err := url.Parse(l.spec.URL)
	if err != nil {
		return nil, err
	}
	query := target.Query()
	query.Set("writer", l.writer)
	target.RawQuery = query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	var present numbers
	outcome := exchange(ctx, l.spec, request, func(response *http.Response, outcome result) result {
		if response.StatusCode/100 != 2 {
			return outcome.failed(history.CauseStatus, "status %d", response.StatusCode)
		}
		if err := json.NewDecoder(response.Body).Decode(&present); err != nil {
			return outcome.failed(history.CauseContent, "not a list of numbers: %v", err)
		}
		return outcome
	})
	if outcome.cause != "" {
		return nil, fmt.Errorf("read back: %s: %s", outcome.cause, outcome.detail)
	}
	return present, nil
}

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
