package haproxy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/failovertest"
)

const patience = 30 * time.Second

var (
	blue  = netip.MustParseAddr("127.0.0.1")
	green = netip.MustParseAddr("127.0.0.2")
)

// environments are two web servers on one port of two addresses, each of which says its address.
func environments(t *testing.T) (port int) {
	t.Helper()
	for range 20 {
		first, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port = first.Addr().(*net.TCPAddr).Port
		second, err := net.Listen("tcp", fmt.Sprintf("127.0.0.2:%d", port))
		if err != nil {
			_ = first.Close()
			continue
		}
		for address, listener := range map[netip.Addr]net.Listener{blue: first, green: second} {
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, address)
				if r.URL.Path == "/hang" {
					_ = http.NewResponseController(w).Flush()
					<-r.Context().Done()
				}
			}))
			_ = server.Listener.Close()
			server.Listener = listener
			server.Start()
			t.Cleanup(server.Close)
		}
		return port
	}
	t.Fatal("no port that is free on both addresses")
	return 0
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

type proxy struct{ socket, url string }

// start runs HAProxy until the test ends. dead is an address in the backend where nobody listens.
func start(t *testing.T, port int) proxy {
	t.Helper()
	program, err := exec.LookPath("haproxy")
	if err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "bind") {
			t.Fatal("haproxy is not installed; apt-get install haproxy")
		}
		t.Skip("haproxy is not installed")
	}
	directory, err := os.MkdirTemp("", "hp") // the path of a Unix socket is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(directory) })
	p := proxy{socket: filepath.Join(directory, "s"), url: fmt.Sprintf("http://127.0.0.1:%d/", freePort(t))}
	text := fmt.Sprintf(`global
	stats socket %s mode 600 level admin
	stats socket %s.look mode 600 level user
defaults
	mode http
	timeout connect 2s
	timeout client 10s
	timeout server 10s
frontend clients
	bind %s
	default_backend shop-api
backend shop-api
	option httpchk
	default-server check inter 50ms rise 1 fall 2
	server blue 127.0.0.1:%d
	server green 127.0.0.2:%d disabled
	server dead 127.0.0.3:%d disabled
backend other
	server blue 127.0.0.1:%d
	server green 127.0.0.2:%d disabled
`, p.socket, p.socket, strings.TrimSuffix(strings.TrimPrefix(p.url, "http://"), "/"), port, port, port, port, port)
	file := filepath.Join(directory, "cfg")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, program, "-db", "-f", file)
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("haproxy said:\n%s", said.String())
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if got, err := p.asked(t.Context()); err == nil && got[0] == blue {
			return p
		}
	}
	t.Fatal("haproxy never answered")
	return proxy{}
}

// asked says which environment answers a client with a connection of its own.
func (p proxy) asked(ctx context.Context) ([]netip.Addr, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s %w", response.Status, body, err)
	}
	address, err := netip.ParseAddr(string(body))
	return []netip.Addr{address}, err
}

func (p proxy) orders(lines ...string) error {
	for _, line := range lines {
		if err := order(context.Background(), p.socket, line); err != nil {
			return err
		}
	}
	return nil
}

func mustNew(t *testing.T, options Options) *Publisher {
	t.Helper()
	if options.Backend == "" {
		options.Backend = "shop-api"
	}
	publisher, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	return publisher
}

func TestContractHolds(t *testing.T) {
	port := environments(t)
	first, second := start(t, port), start(t, port)
	options := Options{Sockets: []string{first.socket, second.socket}}
	gone := filepath.Join(t.TempDir(), "absent")
	failovertest.TestBackend(t, failovertest.BackendSubject{
		Backend: mustNew(t, options), Another: mustNew(t, options),
		Lagging: mustNew(t, Options{Sockets: []string{gone, first.socket, second.socket}, Lock: first.socket + ".lock"}), Laggard: gone,
		Name: "bookstore.example.test", Blue: blue, Green: green, Ask: second.asked,
		Meddle: func(to netip.Addr) error {
			in, out := "green", "blue"
			if to == blue {
				in, out = out, in
			}
			return second.orders("set server shop-api/"+in+" state ready", "set server shop-api/"+out+" state maint")
		},
		Others: func(ctx context.Context) (string, error) {
			other, err := read(ctx, second.socket, "other")
			return fmt.Sprint(other), err
		},
	})
}

// TestCutOffEndsWhatIsUnderWay has a request hang on the old server: drained it hangs on, cut off it ends.
func TestCutOffEndsWhatIsUnderWay(t *testing.T) {
	p := start(t, environments(t))
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.url+"hang", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	ended := make(chan struct{})
	go func() { _, _ = io.ReadAll(response.Body); close(ended) }()
	publish := func(to netip.Addr, serial uint64, cutOff bool) {
		t.Helper()
		change := failover.Change{Name: "n", Addresses: []netip.Addr{to}, Serial: serial}
		if err := mustNew(t, Options{Sockets: []string{p.socket}, CutOff: cutOff}).Publish(t.Context(), change); err != nil {
			t.Fatal(err)
		}
	}
	publish(green, 5, false)
	publish(blue, 6, true) // cuts green off, where nothing is under way
	select {
	case <-ended:
		t.Fatal("a drained request was ended")
	default:
	}
	publish(green, 7, true)
	select {
	case <-ended:
	case <-time.After(patience):
		t.Error("the request on the old server was not ended")
	}
}

// TestServerThatIsDownTakesNobodyOut moves to a server that HAProxy's own check finds down: the old one must stay in rotation.
func TestServerThatIsDownTakesNobodyOut(t *testing.T) {
	p := start(t, environments(t))
	dead := netip.MustParseAddr("127.0.0.3")
	publisher := mustNew(t, Options{Sockets: []string{p.socket}, Verify: time.Second})
	err := publisher.Publish(t.Context(), failover.Change{Name: "n", Addresses: []netip.Addr{dead}, Serial: 5})
	if drill.KindOf(err) != drill.Unproven {
		t.Errorf("%v; want that it is not proven", err)
	}
	if got, err := p.asked(t.Context()); err != nil || got[0] != blue {
		t.Errorf("a client is led to %v, %v", got, err)
	}
	if err := publisher.Publish(t.Context(), failover.Change{Name: "n", Addresses: []netip.Addr{green}, Serial: 6}); err != nil {
		t.Error(err)
	}
}

func TestRefusalsSayTheCure(t *testing.T) {
	p := start(t, environments(t))
	for name, row := range map[string]struct {
		options Options
		to      string
		kind    drill.ErrorKind
	}{
		"a socket that may only look": {Options{Sockets: []string{p.socket + ".look"}}, "127.0.0.2", drill.Refused},
		"no such backend":             {Options{Sockets: []string{p.socket}, Backend: "absent"}, "127.0.0.2", drill.Invalid},
		"no such server":              {Options{Sockets: []string{p.socket}}, "10.9.9.9", drill.Invalid},
	} {
		err := mustNew(t, row.options).Publish(t.Context(), failover.Change{Name: "n", Addresses: []netip.Addr{netip.MustParseAddr(row.to)}, Serial: 5})
		if drill.KindOf(err) != row.kind || drill.HintOf(err) == "" {
			t.Errorf("%s: %v (%s), cure %q", name, err, drill.KindOf(err), drill.HintOf(err))
		}
	}
	for _, options := range []Options{{}, {Sockets: []string{"/x"}}, {Sockets: []string{"/x"}, Backend: "a; b"}, {Sockets: []string{"host:9999"}, Backend: "b"}} {
		if _, err := New(options); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%+v: %v", options, err)
		}
	}
}

func TestStateOfServersIsRead(t *testing.T) {
	const head = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state later\n"
	for text, want := range map[string]string{
		head + "3 b 1 x 10.0.0.1 2 0 z\n3 b 2 y 10.0.0.2 2 4 z": "[10.0.0.1 10.0.0.2]", // 4: the file once said disabled
		head + "3 b 1 x 10.0.0.1 0 0 z\n3 b 2 y 10.0.0.2 2 8 z": "[10.0.0.1]",
		head + "3 b 1 x 10.0.0.1 2 1 z\n3 b 2 y - 2 0 z":        "[]",
	} {
		got, err := parseServers(text)
		if err != nil || fmt.Sprint(got.led()) != want {
			t.Errorf("%q: %v, %v; want %s", text, got.led(), err, want)
		}
	}
	for _, text := range []string{"", "Can't find backend.", head, head + "3 b 1 x 10.0.0.1 two 0", "1\n# \n\n"} {
		if got, err := parseServers(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
	if a, b := variable("a-b"), variable("a_b"); a == b || !strings.HasPrefix(a, "proc.firedrill_a") {
		t.Errorf("variables %s and %s", a, b)
	}
}

func FuzzParseServers(f *testing.F) {
	f.Add("1\n# srv_name srv_addr srv_op_state srv_admin_state\nx 10.0.0.1 2 0\n")
	f.Fuzz(func(t *testing.T, text string) {
		found, err := parseServers(text)
		if err == nil && (len(found.servers) == 0 || slices.ContainsFunc(found.servers, func(s server) bool { return !s.address.IsValid() })) {
			t.Errorf("%+v", found)
		}
	})
}
