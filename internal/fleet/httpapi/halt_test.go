package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unicode/utf8"

	"firedrill/internal/fleet"
)

const firing = `{"receiver":"firedrill","status":"firing","alerts":[{"status":"resolved","labels":{"alertname":"Unserved","shop":"a"},"annotations":{"summary":"shop a"}},
{"status":"firing","labels":{"alertname":"Unserved","shop":"b"},"annotations":{"summary":"nobody can buy in shop b"}}],
"commonLabels":{"alertname":"Unserved"},"commonAnnotations":{},"version":"4","truncatedAlerts":0}`

// A webhook is followed whatever its body says. The one that is not is an alarm that says it is over, in each of its parts.
func TestNoBodyKeepsAHaltFromBeingMade(t *testing.T) {
	t.Parallel()
	over := strings.ReplaceAll(firing, `"firing"`, `"resolved"`)
	for name, row := range map[string]struct{ body, reason string }{
		"nothing":                         {"", ""},
		"a space":                         {" \n", ""},
		"a reason":                        {`{"reason": "the pager says so"}`, "the pager says so"},
		"a reason beside what is unknown": {`{"reason": "enough", "priority": 1}`, "enough"},
		"a word that is misspelt":         {`{"raeson": "x"}`, ""},
		"no JSON":                         {"alarm=unserved&state=1", ""},
		"half of a text":                  {over[:len(over)/2], ""},
		"a list":                          {`[1, 2]`, ""},
		"another type of a word":          {`{"status": 1, "alerts": {}}`, ""},
		"Alertmanager":                    {firing, "alarm Unserved: nobody can buy in shop b"},
		"Grafana":                         {`{"status": "firing", "title": "[FIRING:1] Unserved", "message": "long", "state": "alerting"}`, "[FIRING:1] Unserved"},
		"over, with no part":              {`{"status": "resolved", "alerts": []}`, ""},
		"over, with a part that is not":   {strings.Replace(firing, `"firing"`, `"resolved"`, 1), "alarm Unserved: nobody can buy in shop b"},
		"over, with a reason":             {`{"reason": "enough",` + over[1:], "enough"},
		"lines":                           {`{"message": "one\ntwo\u0000\tthree"}`, "one two three"},
	} {
		text, err := haltFor(nil, []byte(row.body))
		var asked fleet.HaltRequest
		if err != nil || json.Unmarshal(text, &asked) != nil || asked.Reason != row.reason {
			t.Errorf("%s: %s %v; want the reason %q", name, text, err, row.reason)
		}
	}
	if _, err := haltFor(nil, []byte(over)); !errors.As(err, new(notMeant)) {
		t.Errorf("an alarm that is over: %v", err)
	}
	text, err := haltFor(nil, []byte(`{"title": "`+strings.Repeat("é", 5000)+`"}`))
	if err != nil || !utf8.Valid(text) || len(text) > 3*reasonMax {
		t.Errorf("a long reason is %d long: %v", len(text), err)
	}
}

// A body that breaks off, or is longer than any other call may send, is no reason not to halt; for another call it is.
func TestABodyThatCannotBeReadHaltsAllTheSame(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		call string
		want bool
	}{{callHalt, true}, {"attack", false}} {
		asked := false
		one := route{http.MethodPost, "/", row.call, func(_ *http.Request, body []byte) ([]byte, error) {
			asked = true
			return nil, notMeant("far enough")
		}, http.StatusOK}
		answer := httptest.NewRecorder()
		request := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(strings.Repeat("x", 100)))
		request.Body = http.MaxBytesReader(answer, request.Body, 10)
		serve(nil, one, fleet.Member{}, answer, request)
		if asked != row.want || (answer.Code == http.StatusOK) != row.want {
			t.Errorf("%s: asked %v, %d %s", row.call, asked, answer.Code, answer.Body)
		}
	}
}
