package source_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/probe"
	"firedrill/internal/source"
	"firedrill/internal/source/sourcetest"
	"firedrill/internal/tether"
)

// program starts a Debian program and ends it with the test.
func program(t *testing.T, name string, args ...string) *os.Process {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "prometheus") {
			t.Fatal(err)
		}
		t.Skipf("%s is not installed: apt-get install prometheus prometheus-alertmanager", name)
	}
	command := exec.Command(path, args...)
	log, err := os.Create(filepath.Join(t.TempDir(), name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	wait, err := tether.Start(command)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = wait()
		if t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("%s ended with:\n%s", name, text[max(0, len(text)-1000):])
		}
	})
	return command.Process
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func awaitReady(t *testing.T, address string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		answer, err := http.Get("http://" + address + "/-/ready")
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
		}
		select {
		case <-deadline:
			t.Fatalf("%s is not ready: %v", address, err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

const prometheusConfig = `
global: {scrape_interval: 500ms, scrape_timeout: 400ms, evaluation_interval: 500ms}
rule_files: [rules.yml]
alerting: {alertmanagers: [{static_configs: [{targets: ["%s"]}]}]}
scrape_configs: [{job_name: bookstore, static_configs: [{targets: ["%s"]}]}]
`

const rules = `
groups:
- name: bookstore
  rules:
  - {alert: BookstoreBroken, expr: bookstore_broken == 1, labels: {severity: page}, annotations: {summary: "it is broken"}}
  - {alert: Watchdog, expr: vector(1)}
- name: wrong
  rules:
  - {alert: NeverEvaluated, expr: 'bookstore_broken / on() group_left() bookstore_twice > 5'}
`

// bookstoreMetrics is what Prometheus scrapes.
func bookstoreMetrics(t *testing.T, broken *atomic.Bool) string {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		value := 0
		if broken.Load() {
			value = 1
		}
		fmt.Fprintf(w, "bookstore_broken %d\nbookstore_twice{a=\"1\"} 1\nbookstore_twice{a=\"2\"} 1\n", value)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

func mustOpen(t *testing.T, s drill.AlarmSource) source.Source {
	t.Helper()
	opened, err := source.Open("a", s, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

// TestPrometheusAndAlertmanagerKeepTheContract starts both as Debian ships them, one telling the other.
func TestPrometheusAndAlertmanagerKeepTheContract(t *testing.T) {
	var broken atomic.Bool
	prometheusAt, managerAt, dir := freeAddress(t), freeAddress(t), t.TempDir()
	files := map[string]string{
		"prometheus.yml":   fmt.Sprintf(prometheusConfig, managerAt, bookstoreMetrics(t, &broken)),
		"rules.yml":        rules,
		"alertmanager.yml": "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n",
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	prometheus := program(t, "prometheus", "--config.file="+dir+"/prometheus.yml", "--storage.tsdb.path="+dir+"/tsdb", "--web.listen-address="+prometheusAt, "--rules.alert.resend-delay=1s")
	manager := program(t, "prometheus-alertmanager", "--config.file="+dir+"/alertmanager.yml", "--storage.path="+dir+"/am", "--web.listen-address="+managerAt, "--cluster.listen-address=")
	awaitReady(t, prometheusAt)
	awaitReady(t, managerAt)
	broke := func(value bool) func() error {
		return func() error { broken.Store(value); return nil }
	}
	match := []string{`alertname="BookstoreBroken"`, `severity=~"pa.*"`}

	t.Run("a rule that cannot be evaluated is not well", func(t *testing.T) {
		wrong := mustOpen(t, drill.AlarmSource{Prometheus: "http://" + prometheusAt, Match: []string{`alertname="NeverEvaluated"`}})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		for ctx.Err() == nil {
			_, err := wrong.Look(ctx) // well until the first scrape: there is nothing to divide
			if err != nil && strings.Contains(err.Error(), "is not evaluated well (err)") {
				return
			}
			<-time.After(100 * time.Millisecond)
		}
		t.Error("Prometheus's own error was never told")
	})
	t.Run("a metric is one number of a query", func(t *testing.T) { metricsAreAsked(t, "http://"+prometheusAt) })
	// Alertmanager first: it learns from Prometheus, which is silenced at the end of its own contract.
	t.Run("alertmanager", func(t *testing.T) {
		silenceAlerts(t, managerAt)
		sourcetest.Run(t, sourcetest.System{
			Source: mustOpen(t, drill.AlarmSource{Alertmanager: "http://" + managerAt, Match: match, Watchdog: []string{`alertname="Watchdog"`}}),
			Absent: mustOpen(t, drill.AlarmSource{Alertmanager: "http://" + managerAt, Match: []string{`alertname="Nobody"`}, Watchdog: []string{`alertname="NoDog"`}}),
			Raise:  broke(true), Clear: broke(false), Look: time.Second,
			Silence: func() error { return freeze(manager) },
		})
	})
	t.Run("prometheus", func(t *testing.T) {
		sourcetest.Run(t, sourcetest.System{
			Source: mustOpen(t, drill.AlarmSource{Prometheus: "http://" + prometheusAt, Match: match}),
			Absent: mustOpen(t, drill.AlarmSource{Prometheus: "http://" + prometheusAt, Match: []string{`alertname="Nobody"`}}),
			Raise:  broke(true), Clear: broke(false), Look: time.Second,
			Silence: func() error { return freeze(prometheus) },
		})
	})
}

// metricsAreAsked has the probe of metrics ask a real Prometheus, once it has scraped.
func metricsAreAsked(t *testing.T, server string) {
	t.Helper()
	ask := func(query string) string {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		said := "nothing"
		spec := probe.Spec{Name: "m", Kind: probe.Query, URL: server, Query: query, Every: drill.Seconds(100 * time.Millisecond), Timeout: drill.Seconds(10 * time.Second)}
		err := probe.Run(ctx, "here", []probe.Spec{spec}, func(e history.Event) {
			sample, is := e.Fact.(*history.Sample)
			if !is || sample.Cause == history.CauseProber || ctx.Err() != nil {
				return
			}
			if said = sample.Cause + " " + sample.Detail; sample.OK && sample.Value != nil {
				said = fmt.Sprint(*sample.Value)
			}
			if said == "0" || query != "bookstore_broken" { // which is not there before the first scrape
				cancel()
			}
		})
		if err != nil {
			t.Error(err)
		}
		return said
	}
	for _, row := range [][2]string{{"bookstore_broken", "0"}, {"sum(bookstore_twice)", "2"}, {"bookstore_twice", "put sum()"}, {"bookstore_absent", "0 series"}, {"bookstore_(", "parse error"}} {
		if got := ask(row[0]); !strings.Contains(got, row[1]) {
			t.Errorf("%s: %s; want %s", row[0], got, row[1])
		}
	}
}

// freeze stops a program, and waits until every thread of it has stopped: until then it may still answer.
func freeze(process *os.Process) error {
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	runs := func() bool {
		states, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", process.Pid)) // the pattern is well formed
		return slices.ContainsFunc(states, func(name string) bool {
			text, err := os.ReadFile(name)
			_, after, _ := strings.Cut(string(text), ") ")
			return err == nil && !strings.HasPrefix(after, "T")
		})
	}
	for deadline := time.Now().Add(10 * time.Second); runs(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			return fmt.Errorf("process %d does not stop", process.Pid)
		}
	}
	return nil
}

// silenceAlerts silences everything in Alertmanager, as a drill that mutes the pager would: the alert must be seen all the same.
func silenceAlerts(t *testing.T, address string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{
		"matchers": []map[string]any{{"name": "alertname", "value": ".+", "isRegex": true}},
		"startsAt": time.Now().Add(-time.Second), "endsAt": time.Now().Add(time.Hour), "createdBy": "test", "comment": "a drill",
	})
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.Post("http://"+address+"/api/v2/silences", "application/json", strings.NewReader(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("the silence: %s", answer.Status)
	}
}

// TestDocumentKeepsTheContract reads a status page of somebody's own.
func TestDocumentKeepsTheContract(t *testing.T) {
	var broken, silent atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case silent.Load():
			<-r.Context().Done()
		case broken.Load():
			fmt.Fprint(w, `{"data": {"checks": [{"name": "cdn", "state": "passing"}, {"name": "db", "state": "critical"}]}}`)
		default:
			fmt.Fprint(w, `{"data": {"checks": [{"name": "db", "state": "passing"}]}}`)
		}
	}))
	defer server.Close()
	of := func(path string) source.Source {
		return mustOpen(t, drill.AlarmSource{HTTP: server.URL, Path: path, Raised: []string{"critical"}, OK: []string{"passing"}})
	}
	set := func(to *atomic.Bool, value bool) func() error {
		return func() error { to.Store(value); return nil }
	}
	sourcetest.Run(t, sourcetest.System{
		Source: of("data.checks[name=db].state"), Absent: of("data.checks[name=nobody].state"), Look: 300 * time.Millisecond,
		Raise: set(&broken, true), Clear: set(&broken, false), Silence: set(&silent, true),
	})
}
