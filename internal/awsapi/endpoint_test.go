package awsapi

import (
	"context"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

const (
	testKey    = "AKIDTESTTESTTEST"
	testSecret = "secretsecretsecretsecretsecretsecret"
)

// clock is what metrics and alarms take for the time.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = t
}

// running is an endpoint that runs, with how clients reach it.
type running struct {
	*Endpoint
	url, dns, credentials string
	stop                  func()
}

// start runs an endpoint until the test ends.
func start(t *testing.T, options Options) *running {
	t.Helper()
	options.Keys = map[string]string{testKey: testSecret}
	options.DNSListen = "127.0.0.1:0"
	endpoint, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := endpoint.Start(ctx); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- endpoint.Run(ctx) }()
	server := httptest.NewServer(endpoint.Handler)
	stop := sync.OnceFunc(func() {
		server.Close()
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	credentials := filepath.Join(t.TempDir(), "credentials")
	if err := os.WriteFile(credentials, []byte("[default]\naws_access_key_id = "+testKey+"\naws_secret_access_key = "+testSecret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return &running{Endpoint: endpoint, url: server.URL, dns: endpoint.DNS().String(), credentials: credentials, stop: stop}
}
