package watch

import (
	"net/http"

	"firedrill/internal/history"
	"firedrill/internal/openmetrics"
)

// serveMetrics tells what the watch knows to Prometheus and others. Of each alarm and name every state has a sample, so that a query needs no
// list of them.
func (w *Watch) serveMetrics(out http.ResponseWriter, request *http.Request) {
	snapshot, err := w.State(request.Context())
	if err != nil {
		reply(out, http.StatusServiceUnavailable, refusal{Error: err.Error()})
		return
	}
	out.Header().Set("Content-Type", openmetrics.ContentType)
	out.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = metricsOf(snapshot).WriteTo(out) // a reader that has gone needs no answer
}

func metricsOf(s Snapshot) *openmetrics.Writer {
	var m openmetrics.Writer
	label := func(name, value string) openmetrics.Label { return openmetrics.Label{Name: name, Value: value} }
	service := label("service", s.Service)
	m.Family("firedrill_watch_started_timestamp_seconds", "seconds", "When the watch began, since 1970.").Add(float64(s.Started.UnixMilli())/1000, service)
	m.Family("firedrill_watch_remembers", "", "0 while a restart would not remember the answers.").Truth(s.StateError == "", service)
	states := m.Family("firedrill_alarm_state", "", "1 for the state that the alarm is in.")
	since := m.Family("firedrill_alarm_since_timestamp_seconds", "seconds", "When the alarm entered its state, since 1970.")
	for _, alarm := range s.Alarms {
		if alarm.Disabled {
			continue
		}
		for _, state := range []string{history.AlarmOK, history.AlarmRaised, history.AlarmInsufficient} {
			states.Truth(alarm.State == state, service, label("alarm", alarm.Name), label("host", alarm.Host), label("environment", alarm.Environment), label("state", state))
		}
		since.Add(float64(alarm.Since.UnixMilli())/1000, service, label("alarm", alarm.Name))
	}
	hosts := m.Family("firedrill_host_up", "", "1 while the host is seen up.")
	for _, host := range s.Hosts {
		hosts.Truth(host.Up, service, label("host", host.Name), label("environment", host.Environment))
	}
	answers := m.Family("firedrill_answer", "", "1 for the environment that the name leads to.")
	healthy := m.Family("firedrill_environment_healthy", "", "1 while a host of the environment at least is not known to be unhealthy.")
	for _, name := range s.Names {
		for _, environment := range name.Environments {
			answers.Truth(environment.Name == name.Active, service, label("name", name.Name), label("environment", environment.Name))
			healthy.Truth(environment.Healthy, service, label("name", name.Name), label("environment", environment.Name))
		}
	}
	return &m
}
