package watch

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

func TestStatsDIsRead(t *testing.T) {
	gauges := map[receivedAs]float64{}
	for _, row := range []struct{ line, want string }{
		{"hits:3|c", "hits 3 x1 @10.0.0.9"},
		{"hits:3|c|@0.1", "hits 30 x1 @10.0.0.9"},
		{"took:12.5|ms|@0.5", "took 12.5 x2 @10.0.0.9"},
		{"took:1:2:3|h", "took 1 x1 @10.0.0.9, took 2 x1 @10.0.0.9, took 3 x1 @10.0.0.9"},
		{"queue:10|g", "queue 10 x1 @10.0.0.9"}, {"queue:-4|g", "queue 6 x1 @10.0.0.9"}, {"queue:+1|g|#env:prod,host:blue", "queue 1 x1 @blue"},
		{"hits:1|c|#host:green,a:b", "hits 1 x1 @green"},
	} {
		values, err := parseStatsD(row.line, "10.0.0.9", gauges)
		var got []string
		for _, v := range values {
			got = append(got, fmt.Sprintf("%s %g x%g @%s", v.name, v.value, v.weight, v.host))
		}
		if err != nil || strings.Join(got, ", ") != row.want {
			t.Errorf("%s: %q, %v; want %q", row.line, got, err, row.want)
		}
	}
	for _, line := range []string{"", "hits", "hits:1", "hits:x|c", ":1|c", "hits:1|z", "hits:1|c|@0", "hits:1|c|@2", "hits:1|c|@x", "hits:|c", "_e{1,1}:a|b"} {
		if values, err := parseStatsD(line, "", gauges); err == nil {
			t.Errorf("%q is taken for %+v", line, values)
		}
	}
}

// sent is the Bookstore with values that others send: a queue of each host, and one of the service.
func sent() drill.Service {
	service := bookstore()
	service.Watch = &drill.Watch{URL: "http://watch", StatsD: "127.0.0.1:0"}
	service.Metrics = append(service.Metrics, drill.Metric{Name: "queue", StatsD: "app.queue", Value: drill.ValueNumber}, drill.Metric{Name: "backlog", OTLP: "app.backlog", Value: drill.ValueNumber})
	service.Alarms = append(service.Alarms,
		drill.Alarm{Name: "{host}-queue-long", Metric: "queue", Maximum: "> 100", Period: seconds(1), Datapoints: drill.Datapoints{M: 1, N: 1}, Missing: "ignore"},
		drill.Alarm{Name: "backlog-long", Metric: "backlog", Statistic: "Sum", Is: "> 5", Period: seconds(1), Datapoints: drill.Datapoints{M: 1, N: 1}, Missing: "ignore"})
	return service
}

const otlpBody = `{"resourceMetrics":[{"resource":{"attributes":[{"key":"host.name","value":{"stringValue":"bookstore-api-green"}}]},"scopeMetrics":[{"scope":{},"metrics":[
 {"name":"app.other","sum":{"dataPoints":[{"asInt":"900"}]}},
 {"name":"app.backlog","unit":"1","gauge":{"dataPoints":[{"asInt":"4"},{"asDouble":3.5}]}}]}]}]}`

// TestValuesThatOthersSendRaiseAlarms sends over real sockets.
func TestValuesThatOthersSendRaiseAlarms(t *testing.T) {
	w, server := serve(t, Options{Service: sent(), Token: token})
	_, live, leave, err := w.Follow(t.Context(), history.KindAlarm)
	if err != nil {
		t.Fatal(err)
	}
	defer leave()
	<-w.Ready()
	conn, err := net.Dial("udp", w.statsD.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "nonsense\napp.queue:7|g|#host:%s\napp.queue:101|g|#host:%s\napp.queue:500|g\n", green, blue); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		kind, token, body string
		want              int
	}{
		{"text/plain", token, "", http.StatusUnsupportedMediaType}, {"application/x-protobuf", token, "\x0a\xff", http.StatusBadRequest}, {"application/json", token, "{", http.StatusBadRequest},
		{"application/json", "wrong", otlpBody, http.StatusForbidden}, {"application/json; charset=utf-8", token, otlpBody, http.StatusOK},
	} {
		request, err := http.NewRequest(http.MethodPost, server.URL+"/v1/metrics", strings.NewReader(row.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", row.kind)
		request.Header.Set("Authorization", "Bearer "+row.token)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != row.want {
			t.Errorf("%s %s: %s, want %d", row.kind, row.token, answer.Status, row.want)
		}
	}
	want := []string{blue + "-queue-long ALARM", green + "-queue-long OK", "backlog-long ALARM"}
	var got []string
	for deadline := time.After(30 * time.Second); len(got) < len(want); {
		select {
		case event := <-live:
			if fact := event.Fact.(*history.Alarm); strings.HasSuffix(fact.Name, "-long") {
				got = append(got, fact.Name+" "+fact.To)
			}
		case <-deadline:
			t.Fatalf("told %q, want %q", got, want)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("told %q, want %q", got, want)
	}
}
