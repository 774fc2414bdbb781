package httpapi

import (
	"net/http"
	"time"

	"firedrill/internal/fleet"
	"firedrill/internal/fleet/control"
	"firedrill/internal/openmetrics"
	"firedrill/internal/schedule"
)

// metrics serves how a fleet stands, as Prometheus reads it.
func metrics(c *control.Control) func(http.ResponseWriter, *http.Request, fleet.Member) {
	return func(w http.ResponseWriter, _ *http.Request, _ fleet.Member) {
		written := standing(c, time.Now())
		w.Header().Set("Content-Type", openmetrics.ContentType)
		_, _ = written.WriteTo(w) // who has hung up hears nothing
	}
}

func standing(c *control.Control, now time.Time) *openmetrics.Writer {
	var m openmetrics.Writer
	label := func(name, value string) openmetrics.Label { return openmetrics.Label{Name: name, Value: value} }
	there := map[bool]int{}
	for _, host := range c.Hosts() {
		there[host.Online]++
	}
	hosts := m.Family("firedrill_fleet_hosts", "", "Hosts that have joined, by whether they are there.")
	hosts.Add(float64(there[true]), label("there", "yes"))
	hosts.Add(float64(there[false]), label("there", "no"))
	m.Family("firedrill_fleet_keeps", "", "0 while this server can keep nothing, as with a full disk.").Truth(c.Problem() == nil)
	lever, _ := c.Standing()
	m.Family("firedrill_fleet_lever_engaged", "", "1 while nothing may begin.").Truth(lever.Engaged)
	_, runs := c.Runs("", 0, nil)
	m.Family("firedrill_fleet_runs", "", "Runs that are kept.").Add(float64(runs))
	m.Family("firedrill_fleet_runs_going", "", "Runs that are not over.").Add(float64(len(c.Going())))
	wanted := m.Family("firedrill_drill_cadence_seconds", "seconds", "How often a drill is wanted.")
	last := m.Family("firedrill_drill_last_timestamp_seconds", "seconds", "When the newest drill began that passed or failed, since 1970.")
	passed := m.Family("firedrill_drill_last_passed", "", "1 if that one passed.")
	due := m.Family("firedrill_drill_due_timestamp_seconds", "seconds", "When the next drill is due, since 1970.")
	late := m.Family("firedrill_drill_due", "", "1 while a drill is due or overdue.")
	overdue := m.Family("firedrill_drill_overdue", "", "1 while a drill is late by a quarter of its cadence, or more.")
	for _, one := range c.Cadences(now) {
		labels := []openmetrics.Label{label("service", one.Service), label("drill", one.Drill)}
		wanted.Add(one.Every.Duration().Seconds(), labels...)
		if !one.Last.IsZero() {
			last.Add(float64(one.Last.Unix()), labels...)
			passed.Truth(one.Outcome == "passed", labels...)
		}
		due.Add(float64(one.Due.Unix()), labels...)
		late.Truth(one.State != schedule.CadenceKept, labels...)
		overdue.Truth(one.State == schedule.CadenceOverdue, labels...)
	}
	return &m
}
