package alarm

import (
	"encoding/json"
	"time"
)

// Alarm is a rule with its state. It is a value: Step returns the next one.
type Alarm struct {
	Rule   Rule
	Born   time.Time // when New made it
	State  State
	Since  time.Time // when the state was entered
	Reason string    // of the last transition
	Detail string    // why the state is as it is, when the last evaluation could not decide; may be empty
}

// Change is one transition of an alarm.
type Change struct {
	Name       string
	Host       string
	From, To   State
	At         time.Time
	Reason     string
	ReasonData json.RawMessage
}

// New returns an alarm that knows nothing yet: INSUFFICIENT_DATA.
func New(rule Rule, now time.Time) Alarm {
	a := Alarm{Rule: rule, Born: now, State: Insufficient, Since: now, Reason: "Unchecked: Initial alarm creation"}
	if rule.Disabled {
		a.Detail = disabledDetail
	}
	return a
}

const disabledDetail = "the alarm is disabled: it is not evaluated and keeps its state"

// Step evaluates the alarm on a window of its series at now, and returns it as it is afterwards, with the change if there was one.
// A disabled alarm stays as it is. A heartbeat alarm waits until there is a first datapoint: before that, nothing is known.
func Step(a Alarm, now time.Time, window []Datapoint) (Alarm, *Change) {
	if a.Rule.Disabled {
		a.Detail = disabledDetail
		return a, nil
	}
	if a.Rule.Heartbeat && len(newestReal(window, 1)) == 0 && a.State == Insufficient {
		a.Detail = "waiting for the first heartbeat"
		return a, nil
	}
	outcome := Evaluate(a.Rule, a.State, window)
	a.Detail = ""
	if outcome.Grounds == Kept || outcome.Grounds == FewSamples {
		a.Detail = keptDetail(a, outcome)
	}
	if outcome.State == Raised && outcome.Grounds == ByFilling && a.young(now) {
		a.Detail = "waiting for data before missing data counts"
		return a, nil
	}
	if outcome.State == a.State {
		return a, nil
	}
	return a.moved(now, outcome.State, reasonOf(a.Rule, outcome), reasonData(a.Rule, outcome, now))
}

// moved returns the alarm in its new state, with the change.
func (a Alarm) moved(now time.Time, to State, reason string, data json.RawMessage) (Alarm, *Change) {
	change := &Change{Name: a.Rule.Name, Host: a.Rule.Host, From: a.State, To: to, At: now, Reason: reason, ReasonData: data}
	a.State, a.Since, a.Reason = to, now, reason
	return a, change
}

// young says that missing data must not raise the alarm yet. What a heartbeat misses is the time before its counting began, so it never
// counts: silence after that is a datapoint.
func (a Alarm) young(now time.Time) bool {
	return a.Rule.Heartbeat || (a.State == Insufficient && now.Before(a.Born.Add(firstDataAllowance)))
}
