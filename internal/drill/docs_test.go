package drill

import (
	"os"
	"strings"
	"testing"
)

// The examples of docs/alarms.md are a service file when something to measure is put before them.
func TestExamplesOfTheAlarmsPageAreUnderstood(t *testing.T) {
	page, err := os.ReadFile("../../docs/alarms.md")
	if err != nil {
		t.Fatal(err)
	}
	text := "service: s\nendpoint: http://s.example.com/\nenvironments: {blue: {hosts: [{name: b, address: 10.0.0.1}]}, green: {hosts: [{name: g, address: 10.0.0.2}]}}\n" +
		"clients: {c: {every: 100ms}, kept: {keep_alive: true, resolver: \"10.0.0.53:53\"}}\nwatch: {url: \"http://watch:7070\", statsd: \"0.0.0.0:8125\"}\n"
	for line := range strings.Lines(string(page)) {
		if code, is := strings.CutPrefix(line, "    "); is {
			text += code
		}
	}
	service, err := ParseService([]byte(text), "alarms.md")
	if err != nil {
		t.Fatal(err)
	}
	if len(service.Metrics) != 9 || len(service.Alarms) != 6 || service.Objectives.Level == nil || len(service.Actions) != 3 || len(ExpandAlarms(service)) != 10 {
		t.Errorf("%d metrics, %d alarms, %d with hosts, level %v", len(service.Metrics), len(service.Alarms), len(ExpandAlarms(service)), service.Objectives.Level)
	}
}

func TestMetricsAndAlarmsThatCannotBeAreNamed(t *testing.T) {
	const head = "service: s\nendpoint: http://s.example.com/\nenvironments: {blue: {hosts: [{name: b, address: 10.0.0.1}]}, green: {hosts: [{name: g, address: 10.0.0.2}]}}\n"
	for text, want := range map[string]string{
		"metrics: {m: {tls: 'x:443', dns: y}}":                                                              "exactly one of",
		"metrics: {m: {sql: 'postgresql://a:secret@db/x'}}":                                                 "password_file",
		"metrics: {m: {connect: 'x:1', value: days_left}}":                                                  "days_left",
		"metrics: {m: {statsd: a}}":                                                                         "listens for no such values",
		"metrics: {m: {dns: x, status: 200}}":                                                               "says nothing about dns",
		"metrics: {m: {heartbeat: true}}\nalarms: {'{host}-a': {metric: m, absent: 100ms}}":                 "too short",
		"metrics: {m: {heartbeat: true}}\nalarms: {'{host}-a': {metric: m, absent: 2s, maximum: '> 1'}}":    "stands alone",
		"metrics: {m: {http: 'http://x/', from: watch}}\nalarms: {'{host}-a': {metric: m, average: '< 1'}}": "measured once",
		"alarms: {a: {source: {prometheus: 'http://p'}}}":                                                   "match is missing",
		"alarms: {'{host}-a': {source: {prometheus: 'http://p', match: ['alertname=\"x\"']}}}":              "the same for every host",
		"alarms: {a: {source: {http: 'http://p', path: x}}}":                                                "needs path and raised",
		"objectives: {level: {target: 100%}}":                                                               "no budget",
		"clients: {c: {every: 1s}}\nobjectives: {level: {target: 99%, burn: [{rate: 200, long: 20s}]}}":     "never be exceeded",
	} {
		_, err := ParseService([]byte(head+text), "f")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngot %v, want %q", text, err, want)
		}
	}
}
