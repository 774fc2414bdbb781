package deploy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
)

const (
	tryTimeout = time.Second            // of one request; a healthy service answers its own check well within
	tryPause   = 200 * time.Millisecond // between requests: three in a row span longer than a worker takes to crash at its first request
	bodyMax    = 64 << 10
)

// awaitHealth asks the host's own address until the service answers as stated, several times in a row and each time over a new connection:
// an old process that is about to end would go on answering over an old one.
func awaitHealth(ctx context.Context, host drill.Host, healthy drill.Healthy, endpoint string) (detail string, err error) {
	within := orDefault(healthy.Within, healthWithin)
	times := healthy.Times
	if times == 0 {
		times = healthTimes
	}
	limited, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	check := newCheck(host, healthy, endpoint)
	defer check.client.CloseIdleConnections()
	began := time.Now()
	inRow, tries, last := 0, 0, errors.New("it was not asked")
	for {
		tries++
		if err := check.try(limited); err == nil {
			if inRow++; inRow >= times {
				return fmt.Sprintf("%s: %d times in a row, %d tries, %d ms", check.url, times, tries, time.Since(began).Milliseconds()), nil
			}
		} else if limited.Err() == nil {
			inRow, last = 0, err
		}
		select {
		case <-time.After(tryPause):
			continue
		case <-limited.Done():
		}
		if ctx.Err() != nil {
			return "", &drill.Error{Op: "health", Host: host.Name, Kind: drill.Interrupted, Err: context.Cause(ctx)}
		}
		return "", &drill.Error{Op: "health", Host: host.Name, Kind: drill.Failed,
			Err: fmt.Errorf("not %d times in a row healthy within %s (%d tries); last: %w", times, within, tries, last)}
	}
}

type check struct {
	client *http.Client
	url    string
	host   string
	status int
}

func newCheck(host drill.Host, healthy drill.Healthy, endpoint string) check {
	port, status := healthy.Port, healthy.Status
	if port == 0 {
		port = 80
	}
	if status == 0 {
		status = http.StatusOK
	}
	name := ""
	if parsed, err := url.Parse(endpoint); err == nil {
		name = parsed.Host // an application that checks the Host header refuses a bare address
	}
	return check{
		client: &http.Client{
			Timeout:       tryTimeout,
			Transport:     &http.Transport{DisableKeepAlives: true, Proxy: nil},
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		url:  "http://" + net.JoinHostPort(host.Address.String(), strconv.Itoa(port)) + "/" + strings.TrimPrefix(healthy.HTTP, "/"),
		host: name, status: status,
	}
}

func (c check) try(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, http.NoBody)
	if err != nil {
		return err
	}
	if c.host != "" {
		request.Host = c.host
	}
	response, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, bodyMax)); err != nil {
		return fmt.Errorf("GET %s: %w", c.url, err)
	}
	if response.StatusCode != c.status {
		return fmt.Errorf("GET %s: %s, want %d", c.url, response.Status, c.status)
	}
	return nil
}
