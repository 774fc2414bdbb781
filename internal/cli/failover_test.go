//go:build !hostpart

package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"

	"firedrill/internal/failover/authority"
	"firedrill/internal/watch"
)

// fakeDecider is a watch of one name: it decides what it is told, and tells a name server as the event stream would.
type fakeDecider struct {
	mu      sync.Mutex // guards the fields below
	status  watch.NameStatus
	server  *authority.Server
	reasons []string
	deaf    bool // the name server is not told
}

const failoverTestToken = "0123456789abcdef"

func (f *fakeDecider) ServeHTTP(out http.ResponseWriter, in *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if in.URL.Path == "/v1/state" {
		_ = json.NewEncoder(out).Encode(watch.Snapshot{Service: "bookstore", Names: []watch.NameStatus{f.status}})
		return
	}
	var order struct{ To, Reason string }
	if in.Header.Get("Authorization") != "Bearer "+failoverTestToken || json.NewDecoder(in.Body).Decode(&order) != nil {
		out.WriteHeader(http.StatusForbidden)
		fmt.Fprint(out, `{"error":"no token","cure":"send it"}`)
		return
	}
	addresses := map[string]string{"blue": "10.77.1.10", "green": "10.77.1.20"}
	if addresses[order.To] == "" {
		out.WriteHeader(http.StatusNotFound)
		fmt.Fprint(out, `{"error":"there is no such environment","cure":"Switch to blue or green."}`)
		return
	}
	f.status.Active, f.status.Addresses, f.status.Serial = order.To, []string{addresses[order.To]}, f.status.Serial+1
	f.reasons = append(f.reasons, order.Reason)
	if !f.deaf {
		_ = f.server.Set("bookstore.example.test", []netip.Addr{netip.MustParseAddr(addresses[order.To])}, f.status.Serial)
	}
	fmt.Fprintf(out, `{"serial":%d}`, f.status.Serial)
}

// startFailover starts a name server and a fake watch, and writes the service file that names both.
func startFailover(t *testing.T) (*fakeDecider, string) {
	t.Helper()
	zone, err := authority.ParseZone([]byte("zone: bookstore.example.test\nservers: [ns]\nrecords:\n  ns: {a: [10.77.0.53]}\nfailover:\n  \"@\": {ttl: 1s, initial: [10.77.1.10]}\n"), "zone.yaml")
	if err != nil {
		t.Fatal(err)
	}
	server, err := authority.New(authority.Options{Zone: zone, Listen: "127.0.0.1:0"})
	if err == nil {
		err = server.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Stop(context.Background()) })
	decider := &fakeDecider{server: server, status: watch.NameStatus{
		Name: "bookstore.example.test", Active: "blue", Addresses: []string{"10.77.1.10"}, Serial: 5, Reason: "the primary environment",
		Environments: []watch.EnvironmentStatus{{Name: "blue", Healthy: true}, {Name: "green"}},
	}}
	api := httptest.NewServer(decider)
	t.Cleanup(api.Close)
	directory := t.TempDir()
	text, err := os.ReadFile("../../drills/bookstore/firedrill.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(directory, "firedrill.yaml")
	service := strings.NewReplacer(
		"http://control.bookstore.example.test:7070", api.URL, "/etc/firedrill/token", "token", `"ns.bookstore.example.test"`, `"`+server.Address().String()+`"`,
	).Replace(string(text))
	for path, content := range map[string]string{file: service, filepath.Join(directory, "token"): failoverTestToken + "\n"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return decider, file
}

func TestFailoverIsShownSwitchedAndTakenBack(t *testing.T) {
	decider, file := startFailover(t)
	for _, row := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"failover", "status"}, exitPassed, "green is UNHEALTHY"},
		{[]string{"failover", "status", "--json"}, exitPassed, `"agrees": true`},
		{[]string{"failover", "switch", "green", "--reason", "release 8"}, exitPassed, "all 1 servers lead there"},
		{[]string{"failover", "status"}, exitPassed, "leads to green (10.77.1.20)"},
		{[]string{"failover", "back"}, exitPassed, "decided for blue"},
		{[]string{"failover", "switch", "purple"}, exitUsage, "no such environment"},
		{[]string{"failover", "status", "--name", "absent.test"}, exitUsage, "no failover name"},
		{[]string{"failover", "follow"}, exitUsage, "firedrill authority"},
	} {
		code, out, errOut := runRoot(nil, append(row.args, "--file", file)...)
		if code != row.code || !strings.Contains(out+errOut, row.says) {
			t.Errorf("%v: exit code %d, want %d with %q:\n%s%s", row.args, code, row.code, row.says, out, errOut)
		}
	}
	if got := strings.Join(decider.reasons, ","); got != "release 8," {
		t.Errorf("reasons %q", got)
	}
}

func TestServerThatDoesNotFollowIsNoSuccess(t *testing.T) {
	decider, file := startFailover(t)
	decider.deaf = true
	code, out, errOut := runRoot(nil, "failover", "switch", "green", "--wait", "200ms", "--file", file)
	if code != exitInconclusive || !strings.Contains(errOut, "not seen") {
		t.Errorf("exit code %d:\n%s%s", code, out, errOut)
	}
	if code, out, errOut = runRoot(nil, "failover", "status", "--file", file); code != exitFailed || !strings.Contains(out, "does NOT agree") {
		t.Errorf("exit code %d:\n%s%s", code, out, errOut)
	}
}

func TestProvidersAreWiredFromTheServiceFile(t *testing.T) {
	_, file := startFailover(t)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for section, says := range map[string]string{
		"provider: haproxy\n    haproxy: {sockets: [/absent/sock], backend: shop}":                      "could not be asked",
		"provider: nginx\n    nginx: {file: /absent/f, upstream: u, port: 80, status: \"127.0.0.1:1\"}": "could not be asked",
		"provider: rfc2136\n    update: {server: \"127.0.0.1:1\", keys: absent, key: k}":                "tsig-keygen",
		"provider: hosts\n    hosts: {file: /absent/hosts}":                                             "could not be asked",
		"provider: rfc2136": "update is missing",
		"provider: nginx\n    nginx: {file: /absent/f, upstream: u, port: 80, status: \":80\"}": "loopback",
		"provider: authority\n    haproxy: {sockets: [/absent/sock], backend: shop}":            "belongs to provider haproxy",
		"provider: route53\n    route53: {checks: {blue: a}}":                                   "says nothing of green",
		"provider: route53\n    route53: {controls: {blue: a, green: b}}":                       "controls and cluster go together",
		"provider: route53\n    route53: {checks: {blue: a, green: a}}":                         "the same for both",
		"provider: route53\n    route53: {checks: {blue: a, green: b, red: c}}":                 "neither primary nor secondary",
		"provider: route53\n    route53: {controls: {blue: a, green: b}, cluster: [somewhere]}": "not a URL",
		"provider: bind": "not known",
	} {
		changed := strings.Replace(string(text), "provider: authority", section, 1)
		if says == "could not be asked" { // what is no name server has a witness in place of name servers
			changed = regexp.MustCompile(`(?m)^    servers: .*$`).ReplaceAllString(changed, `    witness: {urls: ["http://127.0.0.1:1/"], header: X-Served-By}`)
		}
		if err := os.WriteFile(file, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
		code, out, errOut := runRoot(nil, "failover", "status", "--file", file)
		if code == exitPassed || !strings.Contains(out+errOut, says) {
			t.Errorf("%s: exit code %d, want %q:\n%s%s", section, code, says, out, errOut)
		}
	}
}
