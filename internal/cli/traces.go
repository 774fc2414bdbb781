//go:build !hostpart

package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/report"
)

// The variables by which OpenTelemetry's exporters are told where traces go (opentelemetry.io/docs/specs/otel/protocol/exporter). Of two,
// the one for traces alone is heard.
const (
	tracesEndpoint = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" // as it is
	otlpEndpoint   = "OTEL_EXPORTER_OTLP_ENDPOINT"        // with the path of traces behind it
	otlpVariable   = "OTEL_EXPORTER_OTLP_"
	tracesVariable = "OTEL_EXPORTER_OTLP_TRACES_"
	tracesPath     = "v1/traces"

	tracesTimeout = 10 * time.Second // as the specification has it
	tracesSaidMax = 500              // of what a receiver says against it
)

// exporter sends traces of runs.
type exporter struct {
	url     string
	headers map[string]string
	timeout time.Duration
	client  *http.Client
}

// exporterFrom reads the variables. Without an endpoint it is nil, and nothing is sent.
func exporterFrom(getenv func(string) string) (*exporter, error) {
	either := func(name string) string { return cmp.Or(getenv(tracesVariable+name), getenv(otlpVariable+name)) }
	if strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true") || getenv("OTEL_TRACES_EXPORTER") == "none" {
		return nil, nil
	}
	name, endpoint := tracesEndpoint, getenv(tracesEndpoint)
	if endpoint == "" {
		if name, endpoint = otlpEndpoint, getenv(otlpEndpoint); endpoint == "" {
			return nil, nil
		}
	}
	wrong := func(name, hint, format string, args ...any) error {
		return &drill.Error{Op: "send traces", Kind: drill.Invalid, Err: fmt.Errorf("$%s: %w", name, fmt.Errorf(format, args...)), Hint: hint}
	}
	at, err := url.Parse(endpoint)
	if err != nil || at.Scheme != "http" && at.Scheme != "https" || at.Host == "" {
		return nil, wrong(name, "write it as http://collector:4318", "%q is no URL of HTTP", endpoint)
	}
	if name == otlpEndpoint {
		at = at.JoinPath(tracesPath)
	}
	if protocol := either("PROTOCOL"); protocol == "grpc" {
		return nil, wrong(otlpVariable+"PROTOCOL", "name the receiver for HTTP, port 4318 as a rule, and set http/json", "traces are sent over HTTP, not as grpc")
	}
	e := &exporter{url: at.String(), headers: map[string]string{}, timeout: tracesTimeout, client: &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if text := either("TIMEOUT"); text != "" {
		milliseconds, err := strconv.Atoi(text)
		if err != nil || milliseconds <= 0 || milliseconds > 600_000 {
			return nil, wrong(otlpVariable+"TIMEOUT", "write milliseconds, as 10000", "%q", text)
		}
		e.timeout = time.Duration(milliseconds) * time.Millisecond
	}
	for pair := range strings.SplitSeq(either("HEADERS"), ",") {
		key, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
		plain, err := url.PathUnescape(strings.TrimSpace(value))
		if pair == "" {
			continue
		}
		if !ok || key == "" || err != nil {
			return nil, wrong(otlpVariable+"HEADERS", "write it as key=value,key=value", "a pair has no key or no value") // it may be a secret: not shown
		}
		e.headers[strings.TrimSpace(key)] = plain
	}
	if file := either("CERTIFICATE"); file != "" {
		text, err := os.ReadFile(file)
		pool := x509.NewCertPool()
		if err != nil || !pool.AppendCertsFromPEM(text) {
			return nil, wrong(otlpVariable+"CERTIFICATE", "name a file of certificates, in PEM", "%w", cmp.Or(err, errors.New("there is no certificate in "+file)))
		}
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
		e.client.Transport = transport
	}
	return e, nil
}

// send gives a trace to the receiver. It is tried once: a run does not wait for who watches it.
func (e *exporter) send(ctx context.Context, in report.Input) error {
	var body bytes.Buffer
	if err := report.Write(&body, report.OTLP, in); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, e.timeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url, &body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "firedrill")
	for key, value := range e.headers {
		request.Header.Set(key, value)
	}
	response, err := e.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(response.Body, tracesSaidMax)) // the answer counts
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("%s answers %s: %s", e.url, response.Status, strings.TrimSpace(string(said)))
	}
	return nil
}

// sendTrace tells what watches over runs elsewhere, if it was asked for, and says on out when that fails: the verdict stands all the same.
func sendTrace(ctx context.Context, out io.Writer, directory string, in report.Input) {
	to, err := exporterFrom(os.Getenv)
	if err == nil && to != nil {
		err = to.send(context.WithoutCancel(ctx), in)
	}
	if err == nil {
		return
	}
	hint := cmp.Or(drill.HintOf(err), "send it later: firedrill report --format otlp "+filepath.Join(directory, logName))
	fmt.Fprintf(out, "firedrill: the trace of this run was not sent: %v; %s\n", err, hint)
}
