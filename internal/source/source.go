package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// Source is one alarm of another system.
type Source interface {
	// Look asks once what state the alarm is in. An error means that nothing is known, and says what the operator can do about it.
	Look(ctx context.Context) (Reading, error)
	// String names the system and where it is, as "prometheus at http://prometheus:9090".
	String() string
}

// Reading is what a system says of an alarm.
type Reading struct {
	Raised bool
	// Unknown says that the system itself does not know, as INSUFFICIENT_DATA there; Raised is then false.
	Unknown bool
	Since   time.Time // when the state was entered, by the other system's clock; zero where it does not tell
	Reason  string
	Data    json.RawMessage // what it answered about the alarm; may be nil
}

// bodyMax bounds an answer: some thousand alerts.
const bodyMax = 8 << 20

// Open returns the source that a service file describes. Paths of secrets count from directory. Errors are of kind drill.Invalid.
func Open(alarm string, s drill.AlarmSource, directory string) (Source, error) {
	opened, err := open(s, directory)
	if err != nil {
		return nil, &drill.Error{Op: "alarm " + alarm, Kind: drill.Invalid, Err: err}
	}
	return opened, nil
}

func open(s drill.AlarmSource, directory string) (Source, error) {
	if s.CloudWatch != "" {
		return newCloudWatch(s, directory)
	}
	asker, err := newAsker(s, directory)
	if err != nil {
		return nil, err
	}
	if s.HTTP != "" {
		return newDocument(s, asker)
	}
	match, err := parseMatchers(s.Match)
	if err != nil {
		return nil, err
	}
	if s.Alertmanager != "" {
		watchdog, err := parseMatchers(s.Watchdog)
		return &alertmanager{base: strings.TrimSuffix(s.Alertmanager, "/"), match: match, watchdog: watchdog, ask: asker}, err
	}
	if s.Prometheus != "" {
		return &prometheus{base: strings.TrimSuffix(s.Prometheus, "/"), match: match, ask: asker}, nil
	}
	return nil, errors.New("the source names no system; write one of prometheus, alertmanager, cloudwatch, http")
}

// asker gets JSON documents.
type asker struct {
	client *http.Client
	token  string
}

func newAsker(s drill.AlarmSource, directory string) (asker, error) {
	read := func(path string) ([]byte, error) {
		if !filepath.IsAbs(path) {
			path = filepath.Join(directory, path)
		}
		return os.ReadFile(path)
	}
	a := asker{}
	if s.TokenFile != "" {
		text, err := read(s.TokenFile)
		if err != nil {
			return a, fmt.Errorf("token_file: %w", err)
		}
		if a.token = strings.TrimSpace(string(text)); a.token == "" || strings.ContainsAny(a.token, "\r\n") {
			return a, fmt.Errorf("token_file: %s: one line with the token is wanted", s.TokenFile)
		}
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.CAFile != "" {
		text, err := read(s.CAFile)
		if err != nil {
			return a, fmt.Errorf("ca_file: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return a, fmt.Errorf("ca_file: %s holds no certificate", s.CAFile)
		}
	}
	// Redirects are not followed: the token is for the address that was written.
	a.client = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return a, nil
}

// get reads a JSON document into out.
func (a asker) get(ctx context.Context, address string, out any) error {
	return a.getHeader(ctx, address, out, nil)
}

// getHeader also returns the header of the answer, where one is asked for.
func (a asker) getHeader(ctx context.Context, address string, out any, header *http.Header) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "firedrill")
	if a.token != "" {
		request.Header.Set("Authorization", "Bearer "+a.token)
	}
	answer, err := a.client.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if header != nil {
		*header = answer.Header
	}
	text, err := io.ReadAll(io.LimitReader(answer.Body, bodyMax+1))
	switch {
	case err != nil:
		return fmt.Errorf("%s: the answer was cut short: %w", address, err)
	case answer.StatusCode != http.StatusOK:
		return fmt.Errorf("%s: it answers %s", address, answer.Status)
	case len(text) > bodyMax:
		return fmt.Errorf("%s: the answer is longer than %d MiB; ask for less", address, bodyMax>>20)
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("%s: the answer is no such JSON: %w", address, err)
	}
	return nil
}
