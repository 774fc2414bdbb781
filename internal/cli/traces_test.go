//go:build !hostpart

package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"firedrill/internal/drill"
	"firedrill/internal/report"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestTracesGoWhereTheVariablesOfOpenTelemetrySay(t *testing.T) {
	type request struct {
		path, key, kind string
		body            []byte
	}
	got := make(chan request, 1)
	answer := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		got <- request{r.URL.Path, r.Header.Get("X-Key"), r.Header.Get("Content-Type"), body}
		http.Error(w, "no room", answer)
	}))
	defer server.Close()
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	in := report.Input{Plan: plan, Log: log, Verdict: verdict.Judge(plan, log)}
	for _, c := range []struct {
		env  []string
		path string
	}{
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", server.URL, "OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b, other=c"}, "/v1/traces"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", server.URL + "/to/", "OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20b"}, "/to/v1/traces"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://nowhere.invalid", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", server.URL + "/as/it/is", "OTEL_EXPORTER_OTLP_HEADERS", "x-key=no", "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "x-key=a%20b"}, "/as/it/is"},
	} {
		to, err := exporterFrom(environment(c.env...))
		if err != nil {
			t.Fatal(err)
		}
		if err := to.send(t.Context(), in); err != nil {
			t.Fatal(err)
		}
		heard := <-got
		if heard.path != c.path || heard.key != "a b" || heard.kind != "application/json" || !json.Valid(heard.body) || !strings.Contains(string(heard.body), `"resourceSpans"`) {
			t.Errorf("%v: heard %s, %s, %s, want %s", c.env, heard.path, heard.key, heard.kind, c.path)
		}
	}

	// What is not taken is said, with what was said against it and how to send it again.
	answer = http.StatusInsufficientStorage
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.URL)
	ended, cancel := context.WithCancel(t.Context())
	cancel() // a run that was interrupted is told too
	var said bytes.Buffer
	sendTrace(ended, &said, "out", in)
	if text := said.String(); len(got) != 1 || !strings.Contains(text, "no room") || !strings.Contains(text, "firedrill report --format otlp out/run.jsonl") {
		t.Errorf("said %q", text)
	}
	<-got
	t.Setenv("OTEL_SDK_DISABLED", "true")
	said.Reset()
	if sendTrace(t.Context(), &said, "out", in); said.Len() > 0 || len(got) > 0 {
		t.Errorf("switched off, and said %q", said.String())
	}
}

func TestVariablesOfOpenTelemetryThatAreWrongAreNamed(t *testing.T) {
	for name, env := range map[string][]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT":        {"OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"},
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://"},
		"OTEL_EXPORTER_OTLP_PROTOCOL":        {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://a", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"},
		"OTEL_EXPORTER_OTLP_TIMEOUT":         {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://a", "OTEL_EXPORTER_OTLP_TIMEOUT", "10s"},
		"OTEL_EXPORTER_OTLP_HEADERS":         {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://a", "OTEL_EXPORTER_OTLP_HEADERS", "secret"},
		"OTEL_EXPORTER_OTLP_CERTIFICATE":     {"OTEL_EXPORTER_OTLP_ENDPOINT", "http://a", "OTEL_EXPORTER_OTLP_CERTIFICATE", "/dev/null"},
	} {
		_, err := exporterFrom(environment(env...))
		if drill.KindOf(err) != drill.Invalid || drill.HintOf(err) == "" || !strings.Contains(err.Error(), name) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if to, err := exporterFrom(environment()); to != nil || err != nil {
		t.Errorf("without an endpoint: %v, %v", to, err)
	}
}
