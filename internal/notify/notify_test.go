package notify

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"firedrill/internal/drill"
)

var raised = Notice{Service: "bookstore", Alarm: "bookstore-api-blue-StatusCheckFailed", Host: "bookstore-api-blue", From: "OK", To: "ALARM",
	Reason: "Threshold Crossed: 3 out of the last 3 datapoints", At: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}

// receiver takes posts and answers with the given codes in turn, then 200.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex // guards the fields below
	bodies []string
	header http.Header
	codes  []int
}

func newReceiver(t *testing.T, codes ...int) *receiver {
	r := &receiver{codes: codes}
	r.Server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, request *http.Request) {
		body, _ := io.ReadAll(request.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.bodies, r.header = append(r.bodies, string(body)), request.Header
		if len(r.codes) > 0 {
			out.WriteHeader(r.codes[0])
			r.codes = r.codes[1:]
		}
	}))
	t.Cleanup(r.Close)
	return r
}

// deliveries sends notices by one action and returns what became of them.
func deliveries(t *testing.T, action drill.Action, notices ...Notice) []Delivery {
	t.Helper()
	action.Name = "page"
	var mu sync.Mutex
	var all []Delivery
	n, err := start([]drill.Action{action}, t.TempDir(), func(d Delivery) {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, d)
	}, []time.Duration{time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	for _, notice := range notices {
		n.Send("page", notice)
	}
	n.Close(time.Minute)
	if len(all) != len(notices) {
		t.Fatalf("%d notices were taken and %d accounted for", len(notices), len(all))
	}
	return all
}

func secretFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(text+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWebhookIsSignedJSON(t *testing.T) {
	r := newReceiver(t)
	got := deliveries(t, drill.Action{Webhook: &drill.HTTPAction{URL: r.URL, KeyFile: secretFile(t, "key")}}, raised)
	if got[0].Err != nil || got[0].Tries != 1 {
		t.Fatalf("got %+v", got[0])
	}
	var back Notice
	if err := json.Unmarshal([]byte(r.bodies[0]), &back); err != nil || back != raised {
		t.Errorf("the body is %s", r.bodies[0])
	}
	mac := hmac.New(sha256.New, []byte("key"))
	mac.Write([]byte(r.bodies[0]))
	if want := hex.EncodeToString(mac.Sum(nil)); r.header.Get(SignatureHeader) != want {
		t.Errorf("signature %q, want %q", r.header.Get(SignatureHeader), want)
	}
}

func TestSlackAndPagerDutyGetWhatTheyTake(t *testing.T) {
	r := newReceiver(t)
	deliveries(t, drill.Action{Slack: &drill.HTTPAction{URLFile: secretFile(t, r.URL)}}, raised)
	if want := `{"text":"bookstore: bookstore-api-blue-StatusCheckFailed is ALARM\nThreshold Crossed: 3 out of the last 3 datapoints"}`; r.bodies[0] != want {
		t.Errorf("Slack got %s, want %s", r.bodies[0], want)
	}
	cleared := raised
	cleared.From, cleared.To = "ALARM", "OK"
	deliveries(t, drill.Action{PagerDuty: &drill.PagerAction{URL: r.URL, KeyFile: secretFile(t, "routing")}}, raised, cleared)
	var keys []string
	for i, want := range []string{"trigger", "resolve"} {
		var event struct {
			RoutingKey  string `json:"routing_key"`
			EventAction string `json:"event_action"`
			DedupKey    string `json:"dedup_key"`
			Payload     struct{ Summary, Source, Severity, Timestamp string }
		}
		if err := json.Unmarshal([]byte(r.bodies[1+i]), &event); err != nil {
			t.Fatal(err)
		}
		if event.EventAction != want || event.RoutingKey != "routing" || event.Payload.Source != raised.Host || event.Payload.Severity == "" {
			t.Errorf("PagerDuty got %s, want %s", r.bodies[1+i], want)
		}
		keys = append(keys, event.DedupKey)
	}
	if keys[0] != keys[1] {
		t.Errorf("the end has another key than the beginning: %q", keys)
	}
}

func TestTriesAgainWhatMayPassAndNotWhatWillNot(t *testing.T) {
	for name, test := range map[string]struct {
		codes []int
		tries int
		ok    bool
	}{
		"at once": {nil, 1, true}, "restarting": {[]int{503, 500}, 3, true}, "too many": {[]int{429}, 2, true},
		"down": {[]int{500, 500, 500, 500}, 4, false}, "refused": {[]int{403}, 1, false}, "gone": {[]int{404}, 1, false},
	} {
		r := newReceiver(t, test.codes...)
		got := deliveries(t, drill.Action{Webhook: &drill.HTTPAction{URL: r.URL}}, raised)[0]
		if (got.Err == nil) != test.ok || got.Tries != test.tries || len(r.bodies) != test.tries {
			t.Errorf("%s: %d tries, %d received, %v; want %d and ok %v", name, got.Tries, len(r.bodies), got.Err, test.tries, test.ok)
		}
	}
}

func TestSecretsAreNotInErrors(t *testing.T) {
	secret := "http://127.0.0.1:1/services/T00/VERYSECRET"
	got := deliveries(t, drill.Action{Slack: &drill.HTTPAction{URLFile: secretFile(t, secret)}}, raised)[0]
	if got.Err == nil || strings.Contains(got.Err.Error(), "VERYSECRET") {
		t.Errorf("got %v, want an error without the secret", got.Err)
	}
	if _, err := New([]drill.Action{{Name: "page", Slack: &drill.HTTPAction{URLFile: secretFile(t, "VERYSECRET")}}}, "", nil); err == nil || strings.Contains(err.Error(), "VERYSECRET") {
		t.Errorf("got %v, want an error without the secret", err)
	}
	if _, err := New([]drill.Action{{Name: "page", PagerDuty: &drill.PagerAction{KeyFile: "missing"}}}, t.TempDir(), nil); drill.KindOf(err) != drill.Invalid || !strings.Contains(err.Error(), "missing") {
		t.Errorf("got %v, want the file named", err)
	}
}

func TestProgramGetsTheNotice(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	got := deliveries(t, drill.Action{Exec: []string{"sh", "-c", `{ echo "$FIREDRILL_ALARM $FIREDRILL_TO"; cat; } > "$0"`, out}}, raised)
	text, err := os.ReadFile(out)
	if want := raised.Alarm + " ALARM\n" + `{"service":"bookstore"`; err != nil || got[0].Err != nil || !strings.HasPrefix(string(text), want) {
		t.Errorf("it got %q, %v, %v; want %q", text, err, got[0].Err, want)
	}
	if got := deliveries(t, drill.Action{Exec: []string{"/nowhere/at-all"}}, raised)[0]; got.Err == nil || got.Tries != 1 {
		t.Errorf("a program that is not there: %+v", got)
	}
}

// mailServer speaks as much of SMTP as a client needs, and keeps what it got.
func mailServer(t *testing.T, refuse string) (address string, got func() string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all strings.Builder
	var serving sync.WaitGroup
	t.Cleanup(func() { _ = listener.Close(); serving.Wait() })
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(conn, "220 mail.example.test\r\n")
			lines := bufio.NewScanner(conn)
			inData := false
			for lines.Scan() {
				line := lines.Text()
				mu.Lock()
				all.WriteString(line + "\n")
				mu.Unlock()
				verb, _, _ := strings.Cut(line, " ")
				switch {
				case inData && line == ".":
					inData = false
					fmt.Fprint(conn, "250 taken\r\n")
				case inData:
				case refuse != "" && strings.HasPrefix(line, refuse):
					fmt.Fprint(conn, "550 no such mailbox\r\n")
				case verb == "DATA":
					inData = true
					fmt.Fprint(conn, "354 go on\r\n")
				case verb == "QUIT":
					fmt.Fprint(conn, "221 bye\r\n")
				default:
					fmt.Fprint(conn, "250 fine\r\n")
				}
			}
			_ = conn.Close()
		}
	})
	return listener.Addr().String(), func() string {
		mu.Lock()
		defer mu.Unlock()
		return all.String()
	}
}

func TestMailIsDelivered(t *testing.T) {
	address, got := mailServer(t, "")
	action := drill.Action{Email: &drill.EmailAction{Server: address, From: "firedrill@example.test", To: []string{"sre@example.test", "dba@example.test"}}}
	wrapped := raised
	wrapped.Alarm = "evil\r\nBcc: all@example.test"
	for _, notice := range []Notice{raised, wrapped} {
		if d := deliveries(t, action, notice)[0]; d.Err != nil {
			t.Fatal(d.Err)
		}
	}
	for _, want := range []string{"MAIL FROM:<firedrill@example.test>", "RCPT TO:<sre@example.test>", "RCPT TO:<dba@example.test>",
		"Subject: bookstore: bookstore-api-blue-StatusCheckFailed is ALARM", raised.Reason} {
		if !strings.Contains(got(), want) {
			t.Errorf("the mail lacks %q:\n%s", want, got())
		}
	}
	header, _, _ := strings.Cut(got()[strings.LastIndex(got(), "Subject:"):], "\n\n")
	if strings.Contains(header, "\nBcc:") {
		t.Errorf("a name with a line break became a header:\n%s", header)
	}
}

func TestMailKeepsThePasswordFromThoseWhoListen(t *testing.T) {
	address, got := mailServer(t, "")
	d := deliveries(t, drill.Action{Email: &drill.EmailAction{Server: address, From: "a@example.test", To: []string{"b@example.test"},
		User: "a", PasswordFile: secretFile(t, "VERYSECRET")}}, raised)[0]
	if d.Err == nil || d.Tries != 1 || strings.Contains(got(), "AUTH") {
		t.Errorf("got %+v; the server heard:\n%s", d, got())
	}
}

func TestMailThatIsRefusedIsNotTriedAgain(t *testing.T) {
	address, _ := mailServer(t, "RCPT")
	d := deliveries(t, drill.Action{Email: &drill.EmailAction{Server: address, From: "a@example.test", To: []string{"b@example.test"}}}, raised)[0]
	if d.Err == nil || d.Tries != 1 {
		t.Errorf("got %+v", d)
	}
}

func TestOneSlowReceiverHoldsNobodyUp(t *testing.T) {
	release := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer slow.Close()
	defer close(release)
	quick := newReceiver(t)
	done := make(chan Delivery, 2*queueMax+10)
	n, err := start([]drill.Action{{Name: "slow", Webhook: &drill.HTTPAction{URL: slow.URL}}, {Name: "quick", Webhook: &drill.HTTPAction{URL: quick.URL}}},
		"", func(d Delivery) { done <- d }, []time.Duration{time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	const many = queueMax + 5
	for range many {
		n.Send("slow", raised) // returns at once, also when the queue is full
	}
	n.Send("quick", raised)
	n.Send("nobody", raised)
	seen := map[string]int{}
	for seen["quick"] == 0 || seen["nobody"] == 0 { // while the slow one still holds its first
		d := <-done
		seen[d.Action]++
	}
	n.Close(time.Millisecond)
	for seen["slow"] < many {
		d := <-done
		if d.Action == "slow" && d.Err == nil {
			t.Error("a notice that nobody took counts as delivered")
		}
		seen[d.Action]++
	}
}
