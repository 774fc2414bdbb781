package route53

import (
	"compress/gzip"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"firedrill/internal/failover/authority"
)

// endpointPages are what a checked endpoint answers, by path.
func endpointPages(names *sync.Map) http.Handler {
	mux := http.NewServeMux()
	status := func(code int) http.HandlerFunc {
		return func(out http.ResponseWriter, in *http.Request) {
			if in.TLS != nil {
				names.Store(in.TLS.ServerName, true)
			}
			names.Store("host "+in.Host, true)
			out.Header().Set("Location", "/200")
			out.WriteHeader(code)
		}
	}
	for _, code := range []int{200, 302, 399, 400, 404, 500} {
		mux.HandleFunc("/"+strconv.Itoa(code), status(code))
	}
	padded := func(before int) http.HandlerFunc {
		return func(out http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(out, strings.Repeat("x", before)+"All Well")
		}
	}
	mux.HandleFunc("/within", padded(searchedMax-len("All Well")))
	mux.HandleFunc("/beyond", padded(searchedMax-len("All Well")+1))
	mux.HandleFunc("/packed", func(out http.ResponseWriter, _ *http.Request) {
		out.Header().Set("Content-Encoding", "gzip")
		writer := gzip.NewWriter(out)
		_, _ = writer.Write([]byte("All Well"))
		_ = writer.Close()
	})
	mux.HandleFunc("/ill", func(out http.ResponseWriter, _ *http.Request) {
		http.Error(out, "All Well", http.StatusServiceUnavailable)
	})
	silent := func(first string) http.HandlerFunc {
		return func(out http.ResponseWriter, in *http.Request) {
			if first != "" {
				fmt.Fprint(out, first)
				out.(http.Flusher).Flush()
			}
			select {
			case <-in.Context().Done():
			case <-time.After(10 * time.Second):
			}
		}
	}
	mux.HandleFunc("/silent", silent(""))
	mux.HandleFunc("/stalls", silent("All"))
	mux.HandleFunc("/says-and-stalls", silent("All Well"))
	return mux
}

func TestEachKindOfEndpointCheck(t *testing.T) {
	var names sync.Map
	plain, secure := httptest.NewServer(endpointPages(&names)), httptest.NewTLSServer(endpointPages(&names))
	t.Cleanup(func() { plain.CloseClientConnections(); plain.Close(); secure.CloseClientConnections(); secure.Close() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := closed.Addr().(*net.TCPAddr).Port
	closed.Close()
	mute, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	port := func(server *httptest.Server) int { return server.Listener.Addr().(*net.TCPAddr).Port }
	s, err := Open(Options{Hosting: authority.NewHosting("127.0.0.1:0", nil)})
	if err != nil {
		t.Fatal(err)
	}
	yes := true
	for _, row := range []struct {
		kind, path, search string
		port               int
		why                string // part of the reason when it is unhealthy; "": it is healthy
	}{
		{"TCP", "", "", port(plain), ""}, {"TCP", "", "", mute.Addr().(*net.TCPAddr).Port, ""}, {"TCP", "", "", gone, "could not be established"},
		{"HTTP", "/200", "", port(plain), ""}, {"HTTP", "302", "", port(plain), ""}, {"HTTP", "/399", "", port(plain), ""},
		{"HTTP", "/400", "", port(plain), "Status Code 400"}, {"HTTP", "/404", "", port(plain), "Status Code 404"}, {"HTTP", "/500", "", port(plain), "Status Code 500"},
		{"HTTP", "/200", "", gone, "could not be established"}, {"HTTP", "/200", "", port(secure), "Status Code 400"}, {"HTTP", "/silent", "", port(plain), "did not answer"},
		{"HTTP", "/stalls", "", port(plain), ""}, // the body is nobody's business here
		{"HTTPS", "/200", "", port(secure), ""},  // nobody looks at the certificate, which nobody has signed
		{"HTTPS", "/404", "", port(secure), "Status Code 404"}, {"HTTPS", "/200", "", port(plain), "TLS handshake"},
		{"HTTP_STR_MATCH", "/within", "All Well", port(plain), ""}, {"HTTP_STR_MATCH", "/beyond", "All Well", port(plain), "do not hold"},
		{"HTTP_STR_MATCH", "/within", "all well", port(plain), "do not hold"}, {"HTTP_STR_MATCH", "/packed", "All Well", port(plain), ""},
		{"HTTP_STR_MATCH", "/ill", "All Well", port(plain), "Status Code 503"}, {"HTTP_STR_MATCH", "/stalls", "All Well", port(plain), "could not be read"},
		{"HTTP_STR_MATCH", "/says-and-stalls", "All Well", port(plain), ""},
		{"HTTPS_STR_MATCH", "/within", "All Well", port(secure), ""}, {"HTTPS_STR_MATCH", "/beyond", "All Well", port(secure), "do not hold"},
	} {
		t.Run(row.kind+row.path+row.why, func(t *testing.T) {
			t.Parallel()
			config := withDefaults(HealthCheckConfig{Type: row.kind, IPAddress: "127.0.0.1", Port: &row.port, ResourcePath: row.path, SearchString: row.search})
			if strings.HasPrefix(row.kind, "HTTPS") {
				config.FullyQualifiedDomainName, config.EnableSNI = "shop.example.test", &yes
			}
			if err := validCheck(config); err != nil {
				t.Fatal(err)
			}
			said, err := s.try(t.Context(), config)
			if (err == nil) != (row.why == "") || (err != nil && !strings.Contains(err.Error(), row.why)) {
				t.Errorf("%q, %v; want %q", said, err, row.why)
			}
		})
	}
	t.Cleanup(func() {
		for _, want := range []string{"shop.example.test", "host shop.example.test", fmt.Sprintf("host 127.0.0.1:%d", port(plain))} {
			if _, seen := names.Load(want); !seen {
				t.Errorf("%s was never asked for", want)
			}
		}
	})
}

// The verdict of the checkers follows their results in a row, both ways; and a check that is disabled follows nothing.
func TestCheckersChangeTheirMindAfterTheThreshold(t *testing.T) {
	s, err := Open(Options{Hosting: authority.NewHosting("127.0.0.1:0", nil)})
	if err != nil {
		t.Fatal(err)
	}
	port, threshold := 80, 3
	made, err := s.CreateHealthCheck(CreateHealthCheckRequest{CallerReference: "1", HealthCheckConfig: HealthCheckConfig{Type: "TCP", IPAddress: "192.0.2.1", Port: &port, FailureThreshold: &threshold}})
	if err != nil {
		t.Fatal(err)
	}
	c := s.checks[made.Id]
	for step, row := range []struct {
		checker int
		fails   bool
		ill     bool // the check, after it
	}{
		{0, true, false}, {0, true, false}, {0, false, false}, {0, true, false}, {0, true, false}, {0, true, true}, // the only one that has looked
		{1, false, false}, // one of two says that it is well: more than 18 %
		{1, true, false}, {1, true, false}, {1, true, true},
		{0, false, true}, {0, false, true}, {0, false, false},
	} {
		var failed error
		if row.fails {
			failed = context.DeadlineExceeded
		}
		s.note(c, c.checkers[row.checker], "", failed)
		if ill := len(s.Unhealthy()) == 1; ill != row.ill {
			t.Errorf("step %d: unhealthy %t, want %t", step, ill, row.ill)
		}
	}
}
