package cloudwatch

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"firedrill/internal/alarm"
	"firedrill/internal/awsapi/wire"
)

// DescribeAlarms returns alarms by name. Alarms on alarms are only there when they are asked for, as in CloudWatch.
func (e *Engine) DescribeAlarms(region string, in DescribeAlarmsInput) (DescribeAlarmsOutput, error) {
	out := DescribeAlarmsOutput{CompositeAlarms: []CompositeAlarm{}, MetricAlarms: []MetricAlarm{}}
	most := recordsNormal
	if in.MaxRecords != nil {
		most = *in.MaxRecords
	}
	switch {
	case most < 1 || most > recordsMax:
		return out, invalid("1 validation error detected: Value '%d' at 'maxRecords' failed to satisfy constraint: Member must have value between 1 and %d", most, recordsMax)
	case in.ChildrenOfAlarmName != "" || in.ParentsOfAlarmName != "":
		return out, invalid("ChildrenOfAlarmName and ParentsOfAlarmName are not served by this endpoint.")
	case len(in.AlarmNames) > 0 && in.AlarmNamePrefix != "":
		return out, invalid("AlarmNames and AlarmNamePrefix are mutually exclusive.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []*held
	for _, key := range slices.Sorted(maps.Keys(e.alarms)) {
		if h := e.alarms[key]; h.Region == region && in.wants(h) {
			found = append(found, h)
		}
	}
	page, next, err := paged(found, in.NextToken, most)
	for _, h := range page {
		if h.Metric != nil {
			out.MetricAlarms = append(out.MetricAlarms, *h.Metric)
		} else {
			out.CompositeAlarms = append(out.CompositeAlarms, *h.Composite)
		}
	}
	out.NextToken = next
	return out, err
}

func (in DescribeAlarmsInput) wants(h *held) bool {
	types := in.AlarmTypes
	if len(types) == 0 {
		types = []string{"MetricAlarm"}
	}
	value, _, _, _, _ := h.state()
	hasAction := func() bool {
		for _, state := range []string{"OK", "ALARM", "INSUFFICIENT_DATA"} {
			if slices.ContainsFunc(h.actions(state), func(a string) bool { return strings.HasPrefix(a, in.ActionPrefix) }) {
				return true
			}
		}
		return false
	}
	return slices.Contains(types, h.kind()) && (len(in.AlarmNames) == 0 || slices.Contains(in.AlarmNames, h.name())) &&
		strings.HasPrefix(h.name(), in.AlarmNamePrefix) && (in.StateValue == "" || in.StateValue == *value) && (in.ActionPrefix == "" || hasAction())
}

// DescribeAlarmHistory returns the history, newest first unless it is asked for otherwise. It outlives the alarm.
func (e *Engine) DescribeAlarmHistory(region string, in DescribeAlarmHistoryInput) (DescribeAlarmHistoryOutput, error) {
	most := recordsMax
	if in.MaxRecords != nil {
		most = *in.MaxRecords
	}
	out := DescribeAlarmHistoryOutput{AlarmHistoryItems: []AlarmHistoryItem{}}
	switch {
	case most < 1 || most > recordsMax:
		return out, invalid("1 validation error detected: Value '%d' at 'maxRecords' failed to satisfy constraint: Member must have value between 1 and %d", most, recordsMax)
	case !slices.Contains([]string{"", "ConfigurationUpdate", "StateUpdate", "Action"}, in.HistoryItemType):
		return out, invalid("1 validation error detected: Value '%s' at 'historyItemType' failed to satisfy constraint: Member must satisfy enum value set: [Action, StateUpdate, ConfigurationUpdate]", in.HistoryItemType)
	case !slices.Contains([]string{"", "TimestampDescending", "TimestampAscending"}, in.ScanBy):
		return out, invalid("1 validation error detected: Value '%s' at 'scanBy' failed to satisfy constraint: Member must satisfy enum value set: [TimestampAscending, TimestampDescending]", in.ScanBy)
	}
	types := in.AlarmTypes
	if len(types) == 0 {
		types = []string{"MetricAlarm"}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var found []AlarmHistoryItem
	for _, h := range e.history {
		item := h.Item
		if h.Region == region && (in.AlarmName == "" || in.AlarmName == item.AlarmName) && (in.HistoryItemType == "" || in.HistoryItemType == item.HistoryItemType) &&
			slices.Contains(types, item.AlarmType) &&
			(in.StartDate == nil || !item.Timestamp.Before(in.StartDate.Time)) && (in.EndDate == nil || !item.Timestamp.After(in.EndDate.Time)) {
			found = append(found, item)
		}
	}
	if in.ScanBy != "TimestampAscending" {
		slices.Reverse(found)
	}
	page, next, err := paged(found, in.NextToken, most)
	out.AlarmHistoryItems, out.NextToken = append(out.AlarmHistoryItems, page...), next
	return out, err
}

// SetAlarmState puts an alarm into a state until it is evaluated next.
func (e *Engine) SetAlarmState(region string, in SetAlarmStateInput) error {
	to := alarm.State(in.StateValue)
	switch {
	case !slices.Contains([]alarm.State{alarm.OK, alarm.Raised, alarm.Insufficient}, to):
		return invalid("1 validation error detected: Value '%s' at 'stateValue' failed to satisfy constraint: Member must satisfy enum value set: [INSUFFICIENT_DATA, ALARM, OK]", in.StateValue)
	case in.StateReason == "":
		return invalid("1 validation error detected: Value null at 'stateReason' failed to satisfy constraint: Member must not be null")
	case in.StateReasonData != "" && rawJSON(in.StateReasonData) == nil:
		return fault("InvalidFormat", "StateReasonData is not valid JSON.")
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.alarms[region+"/"+in.AlarmName]
	if h == nil {
		return fault("ResourceNotFound", "Alarm %s does not exist", in.AlarmName)
	}
	now := e.now()
	if value, reason, data, updated, _ := h.state(); *value == in.StateValue {
		*reason, *data, *updated = in.StateReason, in.StateReasonData, wire.At(now)
		return e.save(now)
	}
	e.moved(h, &alarm.Change{To: to, At: now, Reason: in.StateReason, ReasonData: rawJSON(in.StateReasonData)}, now)
	h.step.State, h.step.Reason, h.step.Since = to, in.StateReason, now
	e.composites(now)
	return e.save(now)
}

// DeleteAlarms deletes alarms: all of them, or none when one does not exist or another asks for it.
func (e *Engine) DeleteAlarms(region string, in DeleteAlarmsInput) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, name := range in.AlarmNames {
		if e.alarms[region+"/"+name] == nil {
			return fault("ResourceNotFound", "Alarm %s does not exist", name)
		}
		for _, h := range e.alarms {
			if h.Region == region && h.Composite != nil && slices.Contains(h.expression.Children(), name) && !slices.Contains(in.AlarmNames, h.name()) {
				return invalid("Alarm %s cannot be deleted: %s asks for it.", name, h.name())
			}
		}
	}
	now := e.now()
	for _, name := range in.AlarmNames {
		h := e.alarms[region+"/"+name]
		delete(e.alarms, h.key())
		e.note(h, now, "ConfigurationUpdate", fmt.Sprintf("Alarm \"%s\" deleted", name), `{"version":"1.0","type":"Delete"}`)
	}
	return e.save(now)
}
