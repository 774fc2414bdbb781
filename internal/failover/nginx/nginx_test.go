package nginx

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
			server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, address) }))
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

type proxy struct {
	options Options
	url     string
}

// start runs nginx with an upstream that leads to blue, until the test ends.
func start(t *testing.T) proxy {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "nginx") {
			t.Fatal("nginx is not installed; apt-get install nginx-light")
		}
		t.Skip("nginx is not installed")
	}
	directory := t.TempDir()
	main := filepath.Join(directory, "nginx.conf")
	p := proxy{url: fmt.Sprintf("http://127.0.0.1:%d/", freePort(t))}
	nginx := []string{program, "-c", main, "-p", directory, "-e", filepath.Join(directory, "error.log")}
	p.options = Options{
		File: filepath.Join(directory, "bookstore.conf"), Upstream: "bookstore", Port: environments(t), Status: fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		Lines: []string{"keepalive 4;"}, Test: append(nginx[:len(nginx):len(nginx)], "-t"), Reload: append(nginx[:len(nginx):len(nginx)], "-s", "reload"),
	}
	text := fmt.Sprintf(`daemon off;
worker_processes 2;
pid %[1]s/pid;
events { worker_connections 256; }
http {
	access_log off;
	client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;
	include %[1]s/bookstore.conf;
	server { listen %[2]s; location / { proxy_pass http://bookstore; proxy_http_version 1.1; proxy_set_header Connection ""; } }
}
`, directory, strings.TrimSuffix(strings.TrimPrefix(p.url, "http://"), "/"))
	initial := fmt.Sprintf("upstream bookstore { server 127.0.0.1:%d; }\n", p.options.Port)
	for path, content := range map[string]string{main: text, p.options.File: initial} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	command := exec.CommandContext(ctx, program, nginx[1:]...)
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) } // a killed master leaves its workers
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = command.Wait()
		if log, err := os.ReadFile(filepath.Join(directory, "error.log")); t.Failed() && err == nil {
			t.Logf("nginx said:\n%s%s", said.String(), log)
		}
	})
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); time.Now().Before(end); <-tick.C {
		if got, err := p.asked(t.Context()); err == nil && got[0] == blue {
			return p
		}
	}
	t.Fatal("nginx never answered")
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

// meddle changes the address in the file by hand and reloads.
func (p proxy) meddle(ctx context.Context, to netip.Addr) error {
	text, err := os.ReadFile(p.options.File)
	if err != nil {
		return err
	}
	from := blue
	if to == blue {
		from = green
	}
	line := func(a netip.Addr) string { return fmt.Sprintf("server %s:%d;", a, p.options.Port) }
	if err := os.WriteFile(p.options.File, bytes.ReplaceAll(text, []byte(line(from)), []byte(line(to))), 0o600); err != nil {
		return err
	}
	since := uptimeTicks()
	if err := command(ctx, p.options.Reload); err != nil {
		return err
	}
	publisher, err := New(p.options)
	if err != nil {
		return err
	}
	for tick := time.NewTicker(10 * time.Millisecond); ctx.Err() == nil; <-tick.C {
		got, err := p.asked(ctx)
		_, worker, askErr := publisher.running(ctx)
		if err == nil && askErr == nil && got[0] == to && oldWorkers(worker, since) == 0 {
			return nil
		}
	}
	return ctx.Err()
}

func mustNew(t *testing.T, options Options) *Publisher {
	t.Helper()
	publisher, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	return publisher
}

func TestContractHolds(t *testing.T) {
	p := start(t)
	failovertest.TestBackend(t, failovertest.BackendSubject{
		Backend: mustNew(t, p.options), Another: mustNew(t, p.options), Name: "bookstore.example.test", Blue: blue, Green: green,
		Ask: p.asked, Meddle: func(to netip.Addr) error { return p.meddle(t.Context(), to) },
		Others: func(context.Context) (string, error) {
			text, err := os.ReadFile(filepath.Join(filepath.Dir(p.options.File), "nginx.conf"))
			return string(text), err
		},
	})
	left, err := filepath.Glob(filepath.Join(filepath.Dir(p.options.File), ".firedrill-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestFileThatNginxDoesNotAcceptIsTakenBack(t *testing.T) {
	p := start(t)
	before, err := os.ReadFile(p.options.File)
	if err != nil {
		t.Fatal(err)
	}
	p.options.Lines = []string{"no_such_directive on;"}
	err = mustNew(t, p.options).Publish(t.Context(), failover.Change{Name: "n", Addresses: []netip.Addr{green}, Serial: 5})
	if drill.KindOf(err) != drill.Invalid || !strings.Contains(err.Error(), "no_such_directive") {
		t.Errorf("%v; want what nginx says", err)
	}
	if after, err := os.ReadFile(p.options.File); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file is now %s, %v", after, err)
	}
	if got, err := p.asked(t.Context()); err != nil || got[0] != blue {
		t.Errorf("a client is led to %v, %v", got, err)
	}
}

func TestNginxThatDoesNotReloadIsNoticed(t *testing.T) {
	p := start(t)
	p.options.Reload, p.options.Verify = []string{"true"}, time.Second
	publisher := mustNew(t, p.options)
	err := publisher.Publish(t.Context(), failover.Change{Name: "n", Addresses: []netip.Addr{green}, Serial: 5})
	if drill.KindOf(err) != drill.Unproven || drill.HintOf(err) == "" {
		t.Errorf("%v; want that it is not proven", err)
	}
	if served := publisher.Served(t.Context(), "n"); len(served) != 1 || served[0].Err == nil {
		t.Errorf("served %+v", served)
	}
	p.options.Reload = []string{"false"}
	if err := mustNew(t, p.options).Publish(t.Context(), failover.Change{Name: "n", Addresses: []netip.Addr{green}, Serial: 6}); drill.KindOf(err) != drill.Unreachable {
		t.Errorf("%v; want that nginx could not be told", err)
	}
}

func TestFileIsReadBack(t *testing.T) {
	options := Options{Upstream: "u", Port: 80, Status: "127.0.0.1:8099", Lines: []string{"keepalive 16;"}}
	for _, texts := range [][]string{{"10.0.0.1"}, {"10.0.0.1", "10.0.0.2"}, {"2001:db8::1"}} {
		var addresses []netip.Addr
		for _, text := range texts {
			addresses = append(addresses, netip.MustParseAddr(text))
		}
		change := failover.Change{Name: "n", Addresses: addresses, Serial: 1_790_000_000}
		found := parseFile(render(options, change))
		if fmt.Sprint(found.addresses) != fmt.Sprint(addresses) || found.mark != change.Mark() || failover.SerialIn(found.mark) != change.Serial {
			t.Errorf("%v came back as %+v", addresses, found)
		}
	}
	if found := parseFile([]byte("upstream u {\n server 10.0.0.1:80 weight=2 max_fails=3;\n}\n")); len(found.addresses) != 1 || found.mark != "" {
		t.Errorf("a file of others: %+v", found)
	}
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{File: "/f", Upstream: "u", Port: 80, Status: "127.0.0.1:8099"}
	for name, change := range map[string]func(*Options){
		"file": func(o *Options) { o.File = "" }, "upstream": func(o *Options) { o.Upstream = "a b" }, "port": func(o *Options) { o.Port = 0 },
		"status": func(o *Options) { o.Status = "0.0.0.0:80" }, "lines": func(o *Options) { o.Lines = []string{"} evil {;"} },
	} {
		options := good
		change(&options)
		if _, err := New(options); drill.KindOf(err) != drill.Invalid {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
}

func FuzzParseFile(f *testing.F) {
	f.Add(head + "serial=5 10.0.0.1\nupstream u { server 10.0.0.1:80; }")
	f.Fuzz(func(_ *testing.T, text string) { failover.SerialIn(parseFile([]byte(text)).mark) })
}
