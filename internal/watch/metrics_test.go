package watch

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"firedrill/internal/history"
	"firedrill/internal/openmetrics"
)

func textOf(t *testing.T, s Snapshot) string {
	t.Helper()
	var text strings.Builder
	if _, err := metricsOf(s).WriteTo(&text); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

func TestMetricsSayWhatTheWatchKnows(t *testing.T) {
	s := Snapshot{
		Service: "shop", Started: time.Unix(1000, 0), Hosts: []HostStatus{{Name: "b1", Environment: "blue", Up: true}, {Name: "g1", Environment: "green"}},
		Alarms: []AlarmStatus{{Name: "b1-db", Host: "b1", Environment: "blue", State: history.AlarmRaised, Since: time.Unix(2000, 500_000_000)}, {Name: "off", Disabled: true}},
		Names:  []NameStatus{{Name: "shop.test", Active: "green", Environments: []EnvironmentStatus{{Name: "blue"}, {Name: "green", Healthy: true}}}},
	}
	text := textOf(t, s)
	for _, line := range []string{
		`firedrill_watch_started_timestamp_seconds{service="shop"} 1000`, `firedrill_watch_remembers{service="shop"} 1`,
		`firedrill_alarm_state{service="shop",alarm="b1-db",host="b1",environment="blue",state="ALARM"} 1`,
		`firedrill_alarm_state{service="shop",alarm="b1-db",host="b1",environment="blue",state="OK"} 0`,
		`firedrill_alarm_since_timestamp_seconds{service="shop",alarm="b1-db"} 2000.5`,
		`firedrill_host_up{service="shop",host="b1",environment="blue"} 1`, `firedrill_host_up{service="shop",host="g1",environment="green"} 0`,
		`firedrill_answer{service="shop",name="shop.test",environment="green"} 1`, `firedrill_answer{service="shop",name="shop.test",environment="blue"} 0`,
		`firedrill_environment_healthy{service="shop",name="shop.test",environment="blue"} 0`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s in\n%s", line, text)
		}
	}
	if strings.Contains(text, "off") {
		t.Error("a disabled alarm has a state")
	}
	s.StateError = "disk full"
	if !strings.Contains(textOf(t, s), `firedrill_watch_remembers{service="shop"} 0`) {
		t.Error("a watch that forgets says that it remembers")
	}
}

func TestMetricsAreServed(t *testing.T) {
	_, server := serve(t, Options{Service: bookstore()})
	response, err := http.Get(server.URL + "/metrics") //nolint:noctx // a test
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(response.Body)
	if err != nil || response.Body.Close() != nil {
		t.Fatal(err)
	}
	if response.Header.Get("Content-Type") != openmetrics.ContentType || !strings.HasSuffix(string(text), "# EOF\n") || !strings.Contains(string(text), "firedrill_watch_started_timestamp_seconds{") {
		t.Errorf("%s\n%s", response.Header.Get("Content-Type"), text)
	}
}
