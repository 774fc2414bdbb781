package watch

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/history"
)

const (
	readMax     = 10 * time.Second // for a request with its body; ours are a few lines
	writeMax    = 10 * time.Second // for one write to a follower; a reader that takes none of it is gone
	idleConnMax = 2 * time.Minute
	askMax      = 2 * time.Second // the loop answers in microseconds, and within saveMax while it waits for the disk
	bodyMax     = 64 << 10
)

// Handler returns the HTTP interface:
//
//	GET  /v1/state                         Snapshot
//	GET  /v1/events[?follow=1&kinds=a,b]   JSON lines of history.Event: the current state, with follow then live
//	GET  /v1/history[?since=TIME&kinds=a]  JSON lines of past alarms, answers and hosts, oldest first; at most keptMax, or what the history file keeps
//	POST /v1/names/{name}/switch           {"to":"green","reason":"...","force":false} with Authorization: Bearer TOKEN; {"serial":N}
//	POST /v1/mute                          {"alarms":["..."],"seconds":300,"reason":"..."} with the token; {"until":TIME}; no alarms: all
//	POST /v1/hold                          {"alarms":["..."],"names":["..."],"seconds":60,"reason":"..."} with the token; see Hold
//	POST /v1/metrics                       values over OTLP/HTTP, in protobuf or JSON, with the token, for metrics with otlp:
//	GET  /metrics                          OpenMetrics: alarms, hosts, answers
//	GET  /healthz                          200 while the loop runs
//
// Refusals are {"error":"...","cure":"..."}: 400 not understood, 403 no or a wrong token, 404 no such name or environment, 409 refused.
func (w *Watch) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/state", w.serveState)
	mux.HandleFunc("GET /v1/events", w.serveEvents)
	mux.HandleFunc("GET /v1/history", w.serveHistory)
	mux.HandleFunc("POST /v1/names/{name}/switch", w.serveSwitch)
	mux.HandleFunc("POST /v1/mute", w.serveMute)
	mux.HandleFunc("POST /v1/hold", w.serveHold)
	mux.HandleFunc("POST /v1/metrics", w.serveOTLP)
	mux.HandleFunc("GET /metrics", w.serveMetrics)
	mux.HandleFunc("GET /healthz", w.serveHealth)
	return mux
}

type refusal struct {
	Error string `json:"error"`
	Cure  string `json:"cure,omitempty"`
}

func reply(out http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil {
		status, text = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written"}`)
	}
	out.Header().Set("Content-Type", "application/json")
	out.Header().Set("X-Content-Type-Options", "nosniff")
	out.WriteHeader(status)
	_, _ = out.Write(append(text, '\n')) // a reader that has gone needs no answer
}

func (w *Watch) serveState(out http.ResponseWriter, request *http.Request) {
	snapshot, err := w.State(request.Context())
	if err != nil {
		reply(out, http.StatusServiceUnavailable, refusal{Error: err.Error()})
		return
	}
	reply(out, http.StatusOK, snapshot)
}

func (w *Watch) serveHealth(out http.ResponseWriter, request *http.Request) {
	ctx, cancel := context.WithTimeout(request.Context(), askMax)
	defer cancel()
	if err := w.ask(ctx, func(time.Time) {}); err != nil {
		reply(out, http.StatusServiceUnavailable, refusal{Error: fmt.Sprintf("the loop does not answer: %v", err)})
		return
	}
	health := struct {
		Status     string `json:"status"`
		StateError string `json:"state_error,omitempty"`
	}{Status: "ok"}
	if kept := w.hub.archive; kept != nil && kept.lastError() != nil {
		health.StateError = "history: " + kept.lastError().Error()
	}
	if err := w.saver.lastError(); err != nil {
		health.StateError = err.Error()
	}
	reply(out, http.StatusOK, health)
}

// kindsOf reads the parameter kinds. A kind that is not known is a mistake: whoever waits for it would wait for ever.
func kindsOf(request *http.Request) ([]history.Kind, error) {
	text := request.URL.Query().Get("kinds")
	if text == "" {
		return nil, nil
	}
	told := []history.Kind{history.KindAlarm, history.KindAnswer, history.KindHost, history.KindDatapoint, history.KindNote, history.KindDatabaseStep}
	var kinds []history.Kind
	for word := range strings.SplitSeq(text, ",") {
		kind := history.Kind(strings.TrimSpace(word))
		if !slices.Contains(told, kind) {
			return nil, fmt.Errorf("kinds: %q is not told here; choose among %v", kind, told)
		}
		kinds = append(kinds, kind)
	}
	return kinds, nil
}

func (w *Watch) serveEvents(out http.ResponseWriter, request *http.Request) {
	kinds, err := kindsOf(request)
	if err != nil {
		reply(out, http.StatusBadRequest, refusal{Error: err.Error()})
		return
	}
	current, live, leave, err := w.Follow(request.Context(), kinds...)
	if err != nil {
		reply(out, http.StatusServiceUnavailable, refusal{Error: err.Error(), Cure: "Try again later."})
		return
	}
	defer leave()
	lines := newLines(out)
	if lines.write(current...) != nil || request.URL.Query().Get("follow") == "" {
		return
	}
	for {
		select {
		case <-request.Context().Done():
			return
		case event, ok := <-live:
			if !ok || lines.write(event) != nil {
				return
			}
		}
	}
}

func (w *Watch) serveHistory(out http.ResponseWriter, request *http.Request) {
	kinds, err := kindsOf(request)
	var since time.Time
	if text := request.URL.Query().Get("since"); err == nil && text != "" {
		if since, err = time.Parse(time.RFC3339, text); err != nil {
			err = fmt.Errorf("since: %q is not a time such as 2026-01-02T15:04:05Z", text)
		}
	}
	if err != nil {
		reply(out, http.StatusBadRequest, refusal{Error: err.Error()})
		return
	}
	filter := follower{kinds: kinds}
	var past []history.Event
	if kept := w.hub.archive; kept != nil && kept.lastError() == nil {
		err = kept.past(since, func(e history.Event) {
			if filter.wants(e.Fact.Kind()) {
				past = append(past, e)
			}
		})
	} else if err = w.ask(request.Context(), func(time.Time) { past = w.hub.past() }); err == nil {
		past = slices.DeleteFunc(past, func(e history.Event) bool { return e.At.Before(since) || !filter.wants(e.Fact.Kind()) })
	}
	if err != nil {
		reply(out, http.StatusServiceUnavailable, refusal{Error: err.Error()})
		return
	}
	_ = newLines(out).write(past...) // a reader that has gone needs no answer
}

// lines writes events as JSON lines, each with a deadline of its own.
type lines struct {
	out     io.Writer
	control *http.ResponseController
}

func newLines(out http.ResponseWriter) *lines {
	out.Header().Set("Content-Type", "application/jsonl")
	out.Header().Set("Cache-Control", "no-store")
	out.WriteHeader(http.StatusOK)
	return &lines{out: out, control: http.NewResponseController(out)}
}

func (l *lines) write(events ...history.Event) error {
	// Not every server can set a deadline (a recorder in a test cannot); then the reader is bounded by its buffer alone.
	if err := l.control.SetWriteDeadline(time.Now().Add(writeMax)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	for _, event := range events {
		text, err := json.Marshal(event)
		if err != nil {
			return err
		}
		if _, err := l.out.Write(append(text, '\n')); err != nil {
			return err
		}
	}
	return l.control.Flush()
}

// allowed compares in constant time, over hashes so that not even the length shows.
func (w *Watch) allowed(request *http.Request) bool {
	given, ok := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer ")
	if !ok || w.options.Token == "" {
		return false
	}
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(w.options.Token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// admit refuses those without the token.
func (w *Watch) admit(out http.ResponseWriter, request *http.Request, what string) bool {
	if w.allowed(request) {
		return true
	}
	cure := "Send the token of the watch's token file as Authorization: Bearer TOKEN."
	if w.options.Token == "" {
		cure = "Start the watch with a token file: without one nobody may change anything."
	}
	reply(out, http.StatusForbidden, refusal{Error: what + " needs the token", Cure: cure})
	return false
}

func (w *Watch) serveMute(out http.ResponseWriter, request *http.Request) {
	if !w.admit(out, request, "muting") {
		return
	}
	var body struct {
		Alarms  []string `json:"alarms"`
		Seconds float64  `json:"seconds"`
		Reason  string   `json:"reason"`
	}
	decoder := json.NewDecoder(http.MaxBytesReader(out, request.Body, bodyMax))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil || !(body.Seconds > 0 && body.Seconds <= muteMax.Seconds()) {
		reply(out, http.StatusBadRequest, refusal{Error: "the body is not understood", Cure: `Send {"alarms":["..."],"seconds":300,"reason":"..."}; a day is the longest.`})
		return
	}
	until, err := w.Mute(request.Context(), body.Alarms, time.Duration(body.Seconds*float64(time.Second)), body.Reason)
	if err != nil {
		reply(out, statusOf(err), refusal{Error: err.Error(), Cure: drill.HintOf(err)})
		return
	}
	reply(out, http.StatusOK, struct {
		Until time.Time `json:"until"`
	}{until})
}

func (w *Watch) serveSwitch(out http.ResponseWriter, request *http.Request) {
	if !w.admit(out, request, "switching") {
		return
	}
	var body struct {
		To     string `json:"to"`
		Reason string `json:"reason"`
		Force  bool   `json:"force"`
	}
	decoder := json.NewDecoder(http.MaxBytesReader(out, request.Body, bodyMax))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&body); err != nil || body.To == "" {
		reply(out, http.StatusBadRequest, refusal{Error: "the body is not understood", Cure: `Send {"to":"green","reason":"..."}.`})
		return
	}
	order := failover.Order{To: body.To, Reason: body.Reason, Force: body.Force}
	serial, err := w.Switch(request.Context(), request.PathValue("name"), order)
	if err != nil {
		reply(out, statusOf(err), refusal{Error: err.Error(), Cure: drill.HintOf(err)})
		return
	}
	reply(out, http.StatusOK, struct {
		Serial uint64 `json:"serial"`
	}{serial})
}

func statusOf(err error) int {
	var known *drill.Error
	switch {
	case errors.Is(err, errUnknownName):
		return http.StatusNotFound
	case !errors.As(err, &known):
		return http.StatusServiceUnavailable
	case known.Kind == drill.Invalid:
		return http.StatusNotFound
	case known.Kind == drill.Refused:
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}
