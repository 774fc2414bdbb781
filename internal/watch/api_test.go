package watch

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/probe"
)

const token = "a secret of some length"

// patience bounds how long a test waits for what must happen; it decides nothing.
const patience = 30 * time.Second

// nobody is a SourceStarter without hosts behind it.
type nobody struct{}

func (nobody) Start(ctx context.Context, _ drill.Host, _ []probe.Spec) (Stream, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// serve runs a watch without hosts and serves its interface.
func serve(t *testing.T, options Options) (*Watch, *httptest.Server) {
	t.Helper()
	options.Sources = nobody{}
	w, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() {
		if err := w.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	server := httptest.NewUnstartedServer(w.Handler())
	server.Config.ReadTimeout = 50 * time.Millisecond // a stream must outlive it
	server.Start()
	t.Cleanup(func() {
		cancel()
		parts.Wait()
		server.Close()
	})
	return w, server
}

func call(t *testing.T, method, url, bearer, body string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if bearer != "" {
		request.Header.Set("Authorization", bearer)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

func TestSwitchTakesOnlyTheTokenAndGoodOrders(t *testing.T) {
	frozen := bookstore()
	second := frozen.Failover[0]
	second.Name, second.Frozen = "frozen.example.test", true
	frozen.Failover = append(frozen.Failover, second)
	w, server := serve(t, Options{Service: frozen, Token: token})
	switchURL := func(name string) string { return server.URL + "/v1/names/" + name + "/switch" }
	good := "Bearer " + token
	for _, row := range []struct {
		name, url, bearer, body string
		status                  int
		says                    string
	}{
		{"no token", switchURL(failoverName), "", `{"to":"green"}`, 403, "token"},
		{"wrong token", switchURL(failoverName), "Bearer wrong", `{"to":"green"}`, 403, "token"},
		{"prefix of the token", switchURL(failoverName), good[:len(good)-1], `{"to":"green"}`, 403, "token"},
		{"token without Bearer", switchURL(failoverName), token, `{"to":"green"}`, 403, "token"},
		{"no JSON", switchURL(failoverName), good, `to green`, 400, "not understood"},
		{"unknown field", switchURL(failoverName), good, `{"to":"green","now":true}`, 400, "not understood"},
		{"no target", switchURL(failoverName), good, `{}`, 400, "not understood"},
		{"unknown name", switchURL("other.example.test"), good, `{"to":"green"}`, 404, "no such failover name"},
		{"unknown environment", switchURL(failoverName), good, `{"to":"purple"}`, 404, "purple"},
		{"frozen name", switchURL("frozen.example.test"), good, `{"to":"green"}`, 409, "frozen"},
	} {
		status, body := call(t, http.MethodPost, row.url, row.bearer, row.body)
		var refused refusal
		if err := json.Unmarshal([]byte(body), &refused); err != nil || status != row.status || !strings.Contains(refused.Error, row.says) {
			t.Errorf("%s: %d %s", row.name, status, body)
		}
		if row.status != 404 && refused.Cure == "" {
			t.Errorf("%s: refused without a cure: %s", row.name, body)
		}
	}
	before, err := w.State(t.Context())
	if err != nil || before.Names[0].Active != "blue" {
		t.Fatalf("a refused switch moved the answer: %+v, %v", before.Names[0], err)
	}
	status, body := call(t, http.MethodPost, switchURL(failoverName), good, `{"to":"green","reason":"release 8"}`)
	if want := fmt.Sprintf(`{"serial":%d}`, before.Names[0].Serial+1); status != 200 || strings.TrimSpace(body) != want {
		t.Fatalf("switch: %d %s, want %s", status, body, want)
	}
	after, err := w.State(t.Context())
	if name := after.Names[0]; err != nil || name.Active != "green" || name.Preferred != "green" || name.Reason != "release 8" {
		t.Fatalf("after the switch: %+v, %v", name, err)
	}
}

func TestWithoutTokenNobodyMaySwitch(t *testing.T) {
	_, server := serve(t, Options{Service: bookstore()})
	for _, bearer := range []string{"", "Bearer ", "Bearer x"} {
		if status, body := call(t, http.MethodPost, server.URL+"/v1/names/"+failoverName+"/switch", bearer, `{"to":"green"}`); status != 403 {
			t.Errorf("%q: %d %s", bearer, status, body)
		}
	}
}

func TestUnhealthyTargetIsRefusedUnlessForced(t *testing.T) {
	w, server := serve(t, Options{Service: bookstore(), Token: token})
	if err := w.ask(t.Context(), func(time.Time) {
		for _, a := range w.core.alarms {
			a.bad = a.alarm.Rule.Host == green
		}
	}); err != nil {
		t.Fatal(err)
	}
	url := server.URL + "/v1/names/" + failoverName + "/switch"
	if status, body := call(t, http.MethodPost, url, "Bearer "+token, `{"to":"green"}`); status != 409 || !strings.Contains(body, "cure") {
		t.Errorf("unhealthy target: %d %s", status, body)
	}
	if status, body := call(t, http.MethodPost, url, "Bearer "+token, `{"to":"green","force":true}`); status != 200 {
		t.Errorf("forced: %d %s", status, body)
	}
}

func TestStateHealthAndHistoryAreServed(t *testing.T) {
	w, server := serve(t, Options{Service: bookstore(), Token: token})
	status, body := call(t, http.MethodGet, server.URL+"/healthz", "", "")
	if status != 200 || !strings.Contains(body, "ok") {
		t.Errorf("healthz: %d %s", status, body)
	}
	status, body = call(t, http.MethodGet, server.URL+"/v1/state", "", "")
	var snapshot Snapshot
	if err := json.Unmarshal([]byte(body), &snapshot); err != nil || status != 200 || len(snapshot.Alarms) != 6 || len(snapshot.Hosts) != 2 || len(snapshot.Names) != 1 {
		t.Errorf("state: %d %s, %v", status, body, err)
	}
	for _, to := range []string{"green", "blue"} {
		if status, body := call(t, http.MethodPost, server.URL+"/v1/names/"+failoverName+"/switch", "Bearer "+token, `{"to":"`+to+`"}`); status != 200 {
			t.Fatalf("switch to %s: %d %s", to, status, body)
		}
	}
	for query, want := range map[string]int{"": 2, "?kinds=answer": 2, "?kinds=alarm": 0, "?since=2999-01-01T00:00:00Z": 0} {
		status, body := call(t, http.MethodGet, server.URL+"/v1/history"+query, "", "")
		if got := strings.Count(body, "\n"); status != 200 || got != want {
			t.Errorf("history%s: %d, %d lines, want %d", query, status, got, want)
		}
	}
	for _, path := range []string{"/v1/history?since=yesterday", "/v1/history?kinds=alarms", "/v1/events?kinds=everything"} {
		if status, body := call(t, http.MethodGet, server.URL+path, "", ""); status != 400 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	for _, path := range []string{"/", "/v1/names/x/switch"} {
		if status, _ := call(t, http.MethodGet, server.URL+path, "", ""); status != 404 && status != 405 {
			t.Errorf("GET %s: %d", path, status)
		}
	}
	_ = w
}

// openStream follows the events of a kind and returns a reader of them.
func openStream(t *testing.T, url string) *json.Decoder {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return json.NewDecoder(bufio.NewReader(response.Body))
}

func TestFollowedStreamOutlivesTheReadTimeoutAndMissesNothing(t *testing.T) {
	_, server := serve(t, Options{Service: bookstore(), Token: token})
	stream := openStream(t, server.URL+"/v1/events?follow=1&kinds=answer")
	var first history.Event
	if err := stream.Decode(&first); err != nil {
		t.Fatal(err)
	}
	last := first.Fact.(*history.Answer)
	to := map[string]string{"blue": "green", "green": "blue"}
	for begun := time.Now(); time.Since(begun) < 6*server.Config.ReadTimeout; {
		status, body := call(t, http.MethodPost, server.URL+"/v1/names/"+failoverName+"/switch", "Bearer "+token, `{"to":"`+to[last.Environment]+`"}`)
		if status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		var event history.Event
		if err := stream.Decode(&event); err != nil {
			t.Fatalf("after %s: %v", time.Since(begun), err)
		}
		answer := event.Fact.(*history.Answer)
		if answer.Serial != last.Serial+1 || answer.Environment != to[last.Environment] {
			t.Fatalf("answer %+v after %+v", answer, last)
		}
		last = answer
	}
}

func TestStreamWithoutFollowEnds(t *testing.T) {
	_, server := serve(t, Options{Service: bookstore()})
	status, body := call(t, http.MethodGet, server.URL+"/v1/events", "", "")
	if got := strings.Count(body, "\n"); status != 200 || got != 7 {
		t.Errorf("%d, %d lines, want 6 alarms and 1 answer", status, got)
	}
}

// pipes is a listener whose connections hold no byte that is not read: the slowest network there is.
type pipes struct {
	connections chan net.Conn
	closing     sync.Once
	closed      chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case connection := <-p.connections:
		return connection, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.closing.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func TestFollowerThatDoesNotReadIsCutOffWhileTheWatchGoesOn(t *testing.T) {
	w, _ := serve(t, Options{Service: bookstore()})
	listener := &pipes{connections: make(chan net.Conn), closed: make(chan struct{})}
	server := &http.Server{Handler: w.Handler(), ReadHeaderTimeout: patience}
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	defer serving.Wait()
	defer server.Close()
	ours, theirs := net.Pipe()
	defer ours.Close()
	listener.connections <- theirs
	if _, err := io.WriteString(ours, "GET /v1/events?follow=1 HTTP/1.1\r\nHost: watch\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	followers := func() (count int) {
		if err := w.ask(t.Context(), func(time.Time) { count = len(w.hub.followers) }); err != nil {
			t.Fatal(err)
		}
		return count
	}
	until(t, "the follower is in", func() bool { return followers() == 1 })
	flood := make([]history.Event, followerBuffer+100)
	for i := range flood {
		flood[i] = history.New(time.Now(), source, &history.Note{Text: strings.Repeat("x", 100)})
	}
	if err := w.ask(t.Context(), func(time.Time) { w.publish(flood) }); err != nil {
		t.Fatal(err)
	}
	if got := followers(); got != 0 {
		t.Errorf("%d followers after a flood that nobody read", got)
	}
}

// until polls for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for !holds() {
		select {
		case <-poll.C:
		case <-deadline.C:
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestWatchListensAndEndsInGrace(t *testing.T) {
	w, err := New(Options{Service: bookstore(), Sources: nobody{}, Listen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	<-w.Ready()
	stream := openStream(t, "http://"+w.Addr().String()+"/v1/events?follow=1")
	for range 7 {
		var event history.Event
		if err := stream.Decode(&event); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("end: %v", err)
	}
	var event history.Event
	if err := stream.Decode(&event); !errors.Is(err, io.EOF) {
		t.Errorf("the stream of a watch that ended: %+v, %v; want its end", event, err)
	}
}

func TestAddressInUseIsRefusedWithCure(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	w, err := New(Options{Service: bookstore(), Sources: nobody{}, Listen: taken.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context()); drill.KindOf(err) != drill.Invalid || !strings.Contains(drill.HintOf(err), "--listen") {
		t.Errorf("error %v, hint %q", err, drill.HintOf(err))
	}
}

func TestStateFileThatCannotBeWrittenIsRefusedAtTheStart(t *testing.T) {
	w, err := New(Options{Service: bookstore(), Sources: nobody{}, StateFile: t.TempDir() + "/missing/state.json"})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Run(t.Context()); drill.KindOf(err) != drill.Invalid || !strings.Contains(drill.HintOf(err), "--state") {
		t.Errorf("error %v, hint %q", err, drill.HintOf(err))
	}
}
