package watch

import (
	"context"
	"fmt"
	"time"

	"firedrill/internal/alarm"
	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/history"
	alarmsource "firedrill/internal/source"
)

// external is what is known of an alarm that lives in another system.
type external struct {
	spec drill.AlarmSource
	from alarmsource.Source
	good time.Time // when the last question was asked that was answered
}

// looked is what asking for such an alarm brought.
type looked struct {
	alarm   *alarmState
	asked   time.Time
	at      time.Time
	reading alarmsource.Reading
	err     error
}

func (a *alarmState) origin() string {
	if a.external == nil || a.external.from == nil {
		return ""
	}
	return a.external.from.String()
}

// openSources opens what alarms live elsewhere in.
func (c *core) openSources(open func(alarm string, s drill.AlarmSource) (alarmsource.Source, error)) error {
	for _, a := range c.alarms {
		if a.external == nil {
			continue
		}
		if open == nil {
			return fmt.Errorf("alarm %s: nothing opens its source", a.alarm.Rule.Name)
		}
		from, err := open(a.alarm.Rule.Name, a.external.spec)
		if err != nil {
			return err
		}
		a.external.from = from
	}
	return nil
}

// lookAt asks for one alarm until ctx ends, one question after the other: a system that hangs is not asked twice at once.
func (w *Watch) lookAt(ctx context.Context, a *alarmState) {
	ticker := time.NewTicker(a.external.spec.Every.Duration())
	defer ticker.Stop()
	for {
		asked := time.Now()
		one, cancel := context.WithTimeout(ctx, a.external.spec.Timeout.Duration())
		reading, err := a.external.from.Look(one)
		cancel()
		if ctx.Err() != nil {
			return
		}
		w.tell(ctx, looked{alarm: a, asked: asked, at: time.Now(), reading: reading, err: err})
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// look takes an answer in. A question that is not answered changes nothing until there has been no answer for the source's timeout; then
// the alarm is INSUFFICIENT_DATA, which no verdict takes for good news.
func (c *core) look(l looked) []history.Event {
	a := l.alarm
	if a.alarm.Rule.Disabled || c.holdsAlarm(l.at, a.alarm.Rule.Name) {
		return nil
	}
	bound := l.at.Sub(a.external.good)
	state, reason := alarm.OK, l.reading.Reason
	switch {
	case l.err != nil:
		if l.at.Sub(a.external.good) < a.external.spec.Timeout.Duration() {
			return nil
		}
		state, reason = alarm.Insufficient, "The source does not tell: "+l.err.Error()
	case l.reading.Unknown:
		state = alarm.Insufficient
	case l.reading.Raised:
		state = alarm.Raised
	}
	if l.err == nil {
		a.external.good = l.asked
	}
	a.alarm.Detail = ""
	if l.err != nil {
		a.alarm.Detail = l.err.Error()
	}
	if state == a.alarm.State {
		return nil
	}
	fact := &history.Alarm{
		Name: a.alarm.Rule.Name, Host: a.alarm.Rule.Host, From: string(a.alarm.State), To: string(state), Reason: reason,
		ReasonData: l.reading.Data, Origin: a.origin(), Bound: drill.Seconds(bound),
	}
	if since := l.reading.Since; !since.IsZero() {
		fact.Since = &since
	}
	a.alarm.State, a.alarm.Since, a.alarm.Reason = state, l.at, reason
	a.bad = failover.Signal(a.bad, string(state))
	return c.followUp(l.at, []history.Event{history.New(l.at, source, fact)})
}
