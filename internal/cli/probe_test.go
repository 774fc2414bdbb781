package cli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// probePatience is how long a test waits for what must happen; it is no measurement.
const probePatience = 30 * time.Second

// probeProcess is the command with its ends in our hands.
type probeProcess struct {
	t      *testing.T
	in     *io.PipeWriter
	events *bufio.Scanner
	out    *io.PipeReader
	ended  chan error
}

func launchProbe(t *testing.T, request string) *probeProcess {
	t.Helper()
	inRead, inWrite := io.Pipe()
	outRead, outWrite := io.Pipe()
	p := &probeProcess{t: t, in: inWrite, out: outRead, events: bufio.NewScanner(outRead), ended: make(chan error, 1)}
	command := newProbeCommand(streams{in: inRead, out: outWrite, err: io.Discard})
	command.SetArgs(nil)
	command.SilenceErrors, command.SilenceUsage = true, true
	go func() {
		p.ended <- command.ExecuteContext(t.Context())
		_ = outWrite.Close()
	}()
	if _, err := io.WriteString(inWrite, request+"\n"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = inWrite.Close(); _ = outRead.Close() })
	return p
}

func (p *probeProcess) next() (history.Event, bool) {
	p.t.Helper()
	if !p.events.Scan() {
		return history.Event{}, false
	}
	var event history.Event
	if err := json.Unmarshal(p.events.Bytes(), &event); err != nil {
		p.t.Fatalf("%s: %v", p.events.Bytes(), err)
	}
	return event, true
}

func (p *probeProcess) wait() error {
	p.t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(probePatience):
		p.t.Fatal("the command does not end")
		return nil
	}
}

func TestProbeReadsTheLedgerBackBeforeItEnds(t *testing.T) {
	var mu sync.Mutex
	var written []int
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if r.Method == http.MethodPost {
			var entry struct {
				Seq int `json:"seq"`
			}
			_ = json.NewDecoder(r.Body).Decode(&entry)
			written = append(written, entry.Seq)
			return
		}
		_ = json.NewEncoder(w).Encode(written)
	}))
	t.Cleanup(service.Close)
	p := launchProbe(t, `{"source":"client","probes":[{"name":"ledger","kind":"ledger","url":"`+service.URL+`","every_seconds":0.02,"timeout_seconds":10},`+
		`{"name":"beat","kind":"heartbeat","every_seconds":0.05}]}`)
	var last history.Event
	for beats := 0; ; beats++ {
		event, ok := p.next()
		if !ok {
			break
		}
		if event.Source != "client" {
			t.Errorf("source %q", event.Source)
		}
		if last = event; beats == 4 {
			_ = p.in.Close()
		}
	}
	if err := p.wait(); err != nil {
		t.Error(err)
	}
	ledger, ok := last.Fact.(*history.Ledger)
	if !ok || ledger.Acked == 0 || ledger.Lost != 0 || ledger.Unread != "" {
		t.Errorf("the last event is %+v; want a whole ledger", last.Fact)
	}
}

func TestProbeEndsWhenNobodyReads(t *testing.T) {
	p := launchProbe(t, `{"source":"client","probes":[{"name":"beat","kind":"heartbeat","every_seconds":0.01}]}`)
	if _, ok := p.next(); !ok {
		t.Fatal("no event")
	}
	_ = p.out.CloseWithError(errors.New("gone"))
	if err := p.wait(); drill.KindOf(err) != drill.Unreachable {
		t.Errorf("error %v; want one on the output", err)
	}
}

func TestProbeRefusesWhatItDoesNotUnderstand(t *testing.T) {
	for input, want := range map[string]string{
		"":                             "EOF",
		"{}\n":                         "source is missing",
		`{"source":"a","probs":[]}`:    "unknown field",
		`{"source":"a","probes":[]}`:   "no probes are given",
		`{"source":"a","probes":[{}]}`: "name is missing",
		strings.Repeat("x", 2<<20):     "longer than",
	} {
		command := newProbeCommand(streams{in: strings.NewReader(input), out: io.Discard, err: io.Discard})
		command.SetArgs(nil)
		command.SilenceErrors, command.SilenceUsage = true, true
		err := command.ExecuteContext(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || drill.KindOf(err) != drill.Invalid {
			t.Errorf("%.40q: error %v; want %q", input, err, want)
		}
	}
}

// lockedBuffer takes log lines from many goroutines.
type lockedBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write appends.
func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

// String returns all so far.
func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
