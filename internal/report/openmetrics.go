package report

import (
	"io"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/openmetrics"
	"firedrill/internal/verdict"
)

// outcomes are what a run or a step can be told as; each has a sample, so that a query needs no list of them.
var outcomes = []string{"passed", "failed", "inconclusive", "refused", "interrupted", "not reverted", "not run"}

// writeOpenMetrics writes a run as gauges, for the textfile collector of the node exporter or whatever else Prometheus asks. They say what was
// proven and when, so that an alarm can tell of a proof that has grown old.
func writeOpenMetrics(w io.Writer, in Input) error {
	v := in.Verdict
	var m openmetrics.Writer
	service := openmetrics.Label{Name: "service", Value: v.Service}
	with := func(labels ...openmetrics.Label) []openmetrics.Label {
		return append([]openmetrics.Label{service}, labels...)
	}
	label := func(name, value string) openmetrics.Label { return openmetrics.Label{Name: name, Value: value} }
	outcome := func(f *openmetrics.Family, is string, labels ...openmetrics.Label) {
		for _, one := range outcomes {
			f.Truth(is == one, append(with(labels...), label("outcome", one))...)
		}
	}
	m.Family("firedrill_run_info", "", "The run that the other figures are of.").Add(1, with(label("run", v.Run), label("revision", v.Revision), label("tier", in.Plan.Tier))...)
	outcome(m.Family("firedrill_run_outcome", "", "1 for what the run has ended as."), runWord(v))
	m.Family("firedrill_run_exit_code", "", "0 passed, 1 failed, 3 inconclusive, 4 refused, 5 impact not reverted.").Add(float64(v.Exit), with()...)
	m.Family("firedrill_run_not_reverted", "", "1 while impact may still be in force: call a human.").Truth(v.NotReverted, with()...)
	moment := func(name, help string, at time.Time) {
		if !at.IsZero() {
			m.Family(name, "seconds", help).Add(float64(at.UnixMilli())/1000, with()...)
		}
	}
	moment("firedrill_run_started_timestamp_seconds", "When the run began, since 1970.", v.Started)
	moment("firedrill_run_finished_timestamp_seconds", "When the run ended, since 1970.", v.Finished)
	checks := m.Family("firedrill_run_checks", "", "Checks by what they came to.")
	checks.Add(float64(v.Totals.Passed), with(label("outcome", "passed"))...)
	checks.Add(float64(v.Totals.Failed), with(label("outcome", "failed"))...)
	checks.Add(float64(v.Totals.Inconclusive), with(label("outcome", "inconclusive"))...)
	m.Family("firedrill_run_requests", "", "Requests of all clients.").Add(float64(v.Totals.Samples), with()...)
	m.Family("firedrill_run_requests_failed", "", "Requests that failed.").Add(float64(v.Totals.FailedSample), with()...)

	steps := m.Family("firedrill_step_outcome", "", "1 for what the step has ended as.")
	measured := m.Family("firedrill_check_measured", "", "What a check measured, in its unit.")
	allowed := m.Family("firedrill_check_allowed", "", "What it allows: at most, or where bound says so at least.")
	recovery := m.Family("firedrill_step_recovery_seconds", "seconds", "From the moment the attack was in force until clients were served again; at least that, where recovered is 0.")
	bound := m.Family("firedrill_step_recovery_bound_seconds", "seconds", "The true recovery time lies within so much of it.")
	recovered := m.Family("firedrill_step_recovered", "", "1 if clients were served again while somebody looked.")
	names := make([]string, len(v.Steps))
	for i, step := range v.Steps {
		names[i] = step.Name
	}
	for i, name := range drill.DistinctNames(names) {
		step := v.Steps[i]
		outcome(steps, stepWord(step), label("step", name))
		seen := map[string]bool{}
		for _, check := range step.Checks {
			quantities(measured, allowed, check, seen, with(label("step", name), label("check", check.Name))...)
		}
		if step.RTO != nil {
			recovery.Add(step.RTO.Seconds, with(label("step", name))...)
			bound.Add(step.RTO.Bound, with(label("step", name))...)
			recovered.Truth(!step.RTO.Open, with(label("step", name))...)
		}
	}
	_, err := m.WriteTo(w)
	return err
}

// quantities adds what a check measured and allows. Of two checks of one name the first is told: a sample must be there once.
func quantities(measured, allowed *openmetrics.Family, check verdict.Check, seen map[string]bool, labels ...openmetrics.Label) {
	if seen[check.Name] || check.Measured == nil {
		return
	}
	seen[check.Name] = true
	labels = append(labels, openmetrics.Label{Name: "unit", Value: check.Measured.Unit})
	measured.Add(check.Measured.Value, append(labels, openmetrics.Label{Name: "outcome", Value: word(check.Outcome)})...)
	if check.Allowed != nil {
		direction := "at_most"
		if check.AtLeast {
			direction = "at_least"
		}
		allowed.Add(check.Allowed.Value, append(labels, openmetrics.Label{Name: "bound", Value: direction})...)
	}
}
