package watch

import (
	"fmt"
	"time"

	"firedrill/internal/alarm"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// never is when an alarm is due that nothing but an answer from elsewhere moves.
var never = time.Unix(1<<40, 0)

// newAlarm builds the state of one alarm.
func newAlarm(one drill.Alarm, service drill.Service, now time.Time) (*alarmState, error) {
	if one.Source != nil {
		rule := alarm.Rule{Name: one.Name, Host: one.Host, Environment: one.Environment, Disabled: one.Disabled}
		return &alarmState{alarm: alarm.New(rule, now), external: &external{spec: *one.Source, good: now}, due: never}, nil
	}
	metric := service.Metric(one.Metric)
	if metric == nil {
		return nil, fmt.Errorf("alarm %s: there is no metric %q", one.Name, one.Metric)
	}
	rule, err := alarm.Compile(one, *metric)
	if err != nil {
		return nil, err
	}
	state := &alarmState{alarm: alarm.New(rule, now), metric: *metric, series: alarm.NewSeries(rule, now), due: now}
	if rule.Absent == 0 {
		state.due = rule.Next(now)
	}
	return state, nil
}

// valueOf returns what of a sample is the metric's value; measured is false when it has none.
//
// A try that failed took at least its whole timeout: leaving it out would make a service that answers half of its requests look as fast as
// the half that it answers.
func valueOf(metric drill.Metric, s *history.Sample) (value float64, measured bool) {
	switch metric.Value {
	case "", drill.ValueUp:
		if s.OK {
			return 1, true
		}
		return 0, true
	case drill.ValueLatency:
		took := s.Took
		if !s.OK {
			took = max(took, metric.Timeout)
		}
		if metric.Unit == "Milliseconds" {
			return took.Duration().Seconds() * 1000, true
		}
		return took.Duration().Seconds(), true
	}
	if s.Value == nil {
		return 0, false
	}
	return *s.Value, true
}
