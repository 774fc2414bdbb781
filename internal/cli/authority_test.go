package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

const authorityZone = `zone: bookstore.example.test
servers: [ns]
records:
  ns: {a: [10.77.0.53]}
failover:
  "@": {ttl: 1s, initial: [10.77.1.10]}
`

func writeZone(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "zone.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// startAuthority runs the command until the test ends, and returns its log and what ends it early.
func startAuthority(t *testing.T, args ...string) (log *lockedBuffer, stop func() error) {
	t.Helper()
	log = new(lockedBuffer)
	ctx, cancel := context.WithCancel(t.Context())
	command := newAuthorityCommand(streams{in: strings.NewReader(""), out: io.Discard, err: log})
	command.SetArgs(append(args, "--listen", "127.0.0.1:0"))
	ended := make(chan error, 1)
	go func() { ended <- command.ExecuteContext(ctx) }()
	var result error
	waited := false
	stop = func() error {
		cancel()
		if !waited {
			waited = true
			result = <-ended
		}
		return result
	}
	t.Cleanup(func() { _ = stop() })
	return log, stop
}

// awaitLog polls until a line of the log matches, and returns its first group.
func awaitLog(t *testing.T, log *lockedBuffer, pattern string) string {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(probePatience); time.Now().Before(end); <-tick.C {
		if found := regexp.MustCompile(pattern).FindStringSubmatch(log.String()); found != nil {
			return found[len(found)-1]
		}
	}
	t.Fatalf("no line %s in the log:\n%s", pattern, log)
	return ""
}

func answered(t *testing.T, address string) string {
	t.Helper()
	client := dns.Client{Timeout: probePatience}
	reply, _, err := client.Exchange(new(dns.Msg).SetQuestion("bookstore.example.test.", dns.TypeA), address)
	if err != nil {
		t.Fatal(err)
	}
	if len(reply.Answer) != 1 {
		return reply.String()
	}
	return reply.Answer[0].(*dns.A).A.String()
}

func decidingWatch(t *testing.T) string {
	t.Helper()
	watch := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		event := history.New(time.Now(), "watch", &history.Answer{
			Name: "bookstore.example.test", Addresses: []string{"10.77.1.20"}, Serial: 2, Decided: true,
		})
		_ = json.NewEncoder(w).Encode(event)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(watch.CloseClientConnections)
	return watch.URL
}

func TestAuthorityServesWhatTheWatchDecides(t *testing.T) {
	zone, state, watch := writeZone(t, authorityZone), filepath.Join(t.TempDir(), "answers.json"), decidingWatch(t)
	log, stop := startAuthority(t, "--zone", zone, "--watch", watch, "--state", state)
	address := awaitLog(t, log, `msg="authority ready".* listen=(\S+)`)
	awaitLog(t, log, `msg="answer published"`)
	if got := answered(t, address); got != "10.77.1.20" {
		t.Errorf("answered %s; want what was decided", got)
	}
	if err := stop(); err != nil {
		t.Errorf("stopped with %v", err)
	}

	log, _ = startAuthority(t, "--zone", zone, "--state", state)
	address = awaitLog(t, log, `msg="authority ready".* listen=(\S+)`)
	if got := answered(t, address); got != "10.77.1.20" {
		t.Errorf("after a restart without the watch: %s; want what was decided", got)
	}
}

func TestFrozenAuthorityIgnoresTheWatch(t *testing.T) {
	log, _ := startAuthority(t, "--zone", writeZone(t, authorityZone), "--watch", decidingWatch(t), "--freeze", "bookstore.example.test")
	address := awaitLog(t, log, `msg="authority ready".* listen=(\S+)`)
	awaitLog(t, log, `msg="answer is frozen"`)
	if got := answered(t, address); got != "10.77.1.10" {
		t.Errorf("answered %s; want the initial answer", got)
	}
}

func TestAuthorityNamesWhatIsWrong(t *testing.T) {
	good := writeZone(t, authorityZone)
	for want, args := range map[string][]string{
		"unknown field; did you mean \"failover\"?": {"--zone", writeZone(t, authorityZone+"failovr: {}\n")},
		"no such file":                {"--zone", good + ".absent"},
		"not a failover name":         {"--zone", good, "--freeze", "ns"},
		"not the URL of a watch":      {"--zone", good, "--watch", "control:7070"},
		"rate -1":                     {"--zone", good, "--rate", "-1"},
		`required flag(s) "zone" not`: nil,
	} {
		_, stop := startAuthority(t, args...)
		err := stop()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: error %v; want %q", args, err, want)
		}
	}
	log, _ := startAuthority(t, "--zone", good)
	taken := awaitLog(t, log, `msg="authority ready".* listen=(\S+)`)
	command := newAuthorityCommand(streams{in: strings.NewReader(""), out: io.Discard, err: io.Discard})
	command.SetArgs([]string{"--zone", good, "--listen", taken})
	if err := command.ExecuteContext(t.Context()); drill.KindOf(err) != drill.Unsupported || exitCodeOf(err) != exitRefused {
		t.Error(fmt.Errorf("port taken: error %w of kind %v", err, drill.KindOf(err)))
	}
}
