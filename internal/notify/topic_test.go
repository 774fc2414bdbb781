package notify

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"firedrill/internal/awsapi/sigv4"
	"firedrill/internal/drill"
)

// topicServer takes what SNS takes: signed, in the query protocol.
type topicServer struct {
	*httptest.Server
	mu    sync.Mutex // guards the fields below
	taken []url.Values
	codes []string // with which the next requests are refused
}

func newTopicServer(t *testing.T) *topicServer {
	s := &topicServer{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		body, _ := io.ReadAll(in.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		refuse := func(status int, code string) {
			out.WriteHeader(status)
			fmt.Fprintf(out, `<ErrorResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><Error><Type>Sender</Type><Code>%s</Code><Message>no</Message></Error></ErrorResponse>`, code)
		}
		scope, err := sigv4.Verify(in, body, map[string]string{"AKIDTEST": "secret"}, time.Now())
		if err != nil || scope.Service != "sns" || scope.Region != "eu-central-1" {
			refuse(http.StatusForbidden, "SignatureDoesNotMatch")
			return
		}
		values, err := url.ParseQuery(string(body))
		if err != nil || values.Get("Action") != "Publish" {
			refuse(http.StatusBadRequest, "InvalidAction")
			return
		}
		if len(s.codes) > 0 {
			code := s.codes[0]
			s.codes = s.codes[1:]
			refuse(map[bool]int{true: http.StatusInternalServerError, false: http.StatusBadRequest}[code == "InternalError"], code)
			return
		}
		s.taken = append(s.taken, values)
		fmt.Fprint(out, `<PublishResponse xmlns="http://sns.amazonaws.com/doc/2010-03-31/"><PublishResult><MessageId>m</MessageId></PublishResult></PublishResponse>`)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *topicServer) action(t *testing.T, topic, secret string) drill.Action {
	t.Helper()
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, []byte("[default]\naws_access_key_id = AKIDTEST\naws_secret_access_key = "+secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return drill.Action{SNS: &drill.SNSAction{Topic: topic, AWS: drill.AWS{Endpoint: s.URL, CredentialsFile: path}}}
}

const testTopic = "arn:aws:sns:eu-central-1:123456789012:alarms"

func TestTopicGetsWhatCloudWatchWouldSay(t *testing.T) {
	s := newTopicServer(t)
	notice := raised
	notice.Service = "bücher\n"
	for _, d := range append(deliveries(t, s.action(t, testTopic, "secret"), notice), deliveries(t, s.action(t, testTopic+".fifo", "secret"), raised, raised)...) {
		if d.Err != nil || d.Tries != 1 {
			t.Fatalf("%+v", d)
		}
	}
	got := s.taken[0]
	var message map[string]any
	if err := json.Unmarshal([]byte(got.Get("Message")), &message); err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]any{
		"AlarmName": raised.Alarm, "NewStateValue": "ALARM", "OldStateValue": "OK", "NewStateReason": raised.Reason,
		"StateChangeTime": "2026-11-23T12:00:00.000+0000", "Region": "eu-central-1", "AlarmDescription": nil,
	} {
		if message[field] != want {
			t.Errorf("%s is %v; want %v", field, message[field], want)
		}
	}
	if got.Get("TopicArn") != testTopic || got.Get("MessageGroupId") != "" || strings.ContainsAny(got.Get("Subject"), "ü\n") || len(got.Get("Subject")) > subjectMax {
		t.Errorf("%v", got)
	}
	first, again := s.taken[1], s.taken[2]
	if first.Get("MessageGroupId") == "" || first.Get("MessageDeduplicationId") != again.Get("MessageDeduplicationId") {
		t.Errorf("a topic in order: %v, %v", first, again)
	}
}

// What passes is tried again; what no further try mends is not.
func TestTopicIsToldAgainOnlyWhereThatHelps(t *testing.T) {
	for code, tries := range map[string]int{"InternalError": 2, "Throttled": 2, "NotFound": 1, "InvalidParameter": 1} {
		s := newTopicServer(t)
		s.codes = []string{code}
		if d := deliveries(t, s.action(t, testTopic, "secret"), raised)[0]; d.Tries != tries || (d.Err == nil) != (tries == 2) {
			t.Errorf("%s: %d tries, %v; want %d", code, d.Tries, d.Err, tries)
		}
	}
	s := newTopicServer(t)
	if d := deliveries(t, s.action(t, testTopic, "other"), raised)[0]; d.Tries != 1 || d.Err == nil || strings.Contains(d.Err.Error(), "other") {
		t.Errorf("another secret: %+v", d)
	}
}
