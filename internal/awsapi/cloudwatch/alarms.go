package cloudwatch

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"firedrill/internal/alarm"
	"firedrill/internal/awsapi/wire"
)

const (
	actionsMax    = 5
	recordsMax    = 100
	recordsNormal = 50
	evaluatedMax  = 86_400  // seconds, with periods under an hour
	evaluatedLong = 604_800 // else
)

// Operators are the comparisons by the API's names.
var Operators = map[string]alarm.Operator{
	"GreaterThanOrEqualToThreshold": alarm.GreaterOrEqual, "GreaterThanThreshold": alarm.Greater,
	"LessThanThreshold": alarm.Less, "LessThanOrEqualToThreshold": alarm.LessOrEqual,
}

func validPeriod(period int) bool {
	return period == 10 || period == 20 || period == 30 || period >= 60 && period%60 == 0
}

func invalid(format string, args ...any) error {
	return &wire.Fault{Code: "ValidationError", Message: fmt.Sprintf(format, args...)}
}

// PutMetricAlarm makes an alarm, or gives one another configuration; its state stays then until it is evaluated, which is at once.
func (e *Engine) PutMetricAlarm(region string, in PutMetricAlarmInput) error {
	made, err := metricAlarmOf(region, in)
	if err != nil {
		return err
	}
	return e.put(&held{Region: region, Metric: made})
}

// PutCompositeAlarm makes an alarm on alarms.
func (e *Engine) PutCompositeAlarm(region string, in PutCompositeAlarmInput) error {
	switch {
	case in.AlarmName == "" || len(in.AlarmName) > nameMax:
		return invalid("1 validation error detected: Value '%s' at 'alarmName' failed to satisfy constraint: Member must have length between 1 and %d", in.AlarmName, nameMax)
	case in.ActionsSuppressor != "":
		return invalid("ActionsSuppressor is not served by this endpoint.")
	}
	if err := validActions(in.OKActions, in.AlarmActions, in.InsufficientDataActions); err != nil {
		return err
	}
	return e.put(&held{Region: region, Composite: &CompositeAlarm{
		AlarmName: in.AlarmName, AlarmArn: arn(region, in.AlarmName), AlarmDescription: in.AlarmDescription, AlarmRule: in.AlarmRule,
		ActionsEnabled: in.ActionsEnabled == nil || *in.ActionsEnabled,
		OKActions:      in.OKActions, AlarmActions: in.AlarmActions, InsufficientDataActions: in.InsufficientDataActions,
	}})
}

func validActions(lists ...[]string) error {
	for _, actions := range lists {
		if len(actions) > actionsMax {
			return invalid("1 validation error detected: an alarm has at most %d actions for each state", actionsMax)
		}
		for _, action := range actions {
			if !strings.HasPrefix(action, "arn:") {
				return invalid("Invalid arn syntax: %s", action)
			}
		}
	}
	return nil
}

func metricAlarmOf(region string, in PutMetricAlarmInput) (*MetricAlarm, error) {
	switch {
	case in.AlarmName == "" || len(in.AlarmName) > nameMax:
		return nil, invalid("1 validation error detected: Value '%s' at 'alarmName' failed to satisfy constraint: Member must have length between 1 and %d", in.AlarmName, nameMax)
	case len(in.Metrics) > 0 || in.ThresholdMetricId != "":
		return nil, invalid("Metric math and anomaly detection are not served by this endpoint.")
	case in.ExtendedStatistic != "" || in.EvaluateLowSampleCountPercentile != "":
		return nil, invalid("Percentiles are not served by this endpoint.")
	case in.MetricName == "" || in.Namespace == "" || in.Period == nil || in.Threshold == nil:
		return nil, &wire.Fault{Code: "ValidationError", Message: "MetricName, Namespace, Period and Threshold are required for an alarm on a metric."}
	case statistics[in.Statistic] == nil:
		return nil, invalid("1 validation error detected: Value '%s' at 'statistic' failed to satisfy constraint: Member must satisfy enum value set: [SampleCount, Average, Sum, Minimum, Maximum]", in.Statistic)
	case Operators[in.ComparisonOperator] == "":
		return nil, invalid("1 validation error detected: Value '%s' at 'comparisonOperator' failed to satisfy constraint: Member must satisfy enum value set: %v",
			in.ComparisonOperator, slices.Sorted(maps.Keys(Operators)))
	case !validPeriod(*in.Period):
		return nil, invalid("Metrics cannot be checked for a period of %d seconds: write 10, 20, 30 or a multiple of 60.", *in.Period)
	case in.EvaluationPeriods == nil || *in.EvaluationPeriods < 1:
		return nil, invalid("1 validation error detected: Value at 'evaluationPeriods' failed to satisfy constraint: Member must have value greater than or equal to 1")
	case in.DatapointsToAlarm != nil && (*in.DatapointsToAlarm < 1 || *in.DatapointsToAlarm > *in.EvaluationPeriods):
		return nil, invalid("DatapointsToAlarm must be between 1 and EvaluationPeriods.")
	case !slices.Contains([]string{"", "missing", "ignore", "breaching", "notBreaching"}, in.TreatMissingData):
		return nil, invalid("Value '%s' for TreatMissingData is not valid: write breaching, notBreaching, ignore or missing.", in.TreatMissingData)
	case in.Unit != "" && !slices.Contains(units, in.Unit):
		return nil, invalid("1 validation error detected: Value '%s' at 'unit' failed to satisfy constraint: Member must satisfy enum value set: %v", in.Unit, units)
	}
	longest := evaluatedMax
	if *in.Period >= 3600 {
		longest = evaluatedLong
	}
	if *in.EvaluationPeriods > longest / *in.Period {
		return nil, invalid("Metrics cannot be checked across more than %d seconds (EvaluationPeriods * Period must be <= %d).", longest, longest)
	}
	if err := validActions(in.OKActions, in.AlarmActions, in.InsufficientDataActions); err != nil {
		return nil, err
	}
	if err := validDimensions("PutMetricAlarm", in.Dimensions); err != nil {
		return nil, err
	}
	made := &MetricAlarm{
		AlarmName: in.AlarmName, AlarmArn: arn(region, in.AlarmName), AlarmDescription: in.AlarmDescription,
		ActionsEnabled: in.ActionsEnabled == nil || *in.ActionsEnabled,
		OKActions:      in.OKActions, AlarmActions: in.AlarmActions, InsufficientDataActions: in.InsufficientDataActions,
		MetricName: in.MetricName, Namespace: in.Namespace, Statistic: in.Statistic, Dimensions: in.Dimensions, Period: *in.Period, Unit: in.Unit,
		EvaluationPeriods: *in.EvaluationPeriods, Threshold: *in.Threshold, ComparisonOperator: in.ComparisonOperator, TreatMissingData: in.TreatMissingData,
	}
	if in.DatapointsToAlarm != nil {
		made.DatapointsToAlarm = *in.DatapointsToAlarm
	}
	return made, nil
}

// put puts an alarm in the place of the one of its name.
func (e *Engine) put(h *held) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := e.now()
	before := e.alarms[h.key()]
	if before != nil && (before.Metric == nil) != (h.Metric == nil) {
		return invalid("An alarm of another type has the name %s.", h.name())
	}
	value, reason, data, updated, moved := h.state()
	*value, *reason, *updated, *moved = string(alarm.Insufficient), "Unchecked: Initial alarm creation", wire.At(now), wire.At(now)
	word := "created"
	if before != nil {
		v, r, d, u, m := before.state()
		*value, *reason, *data, *updated, *moved = *v, *r, *d, *u, *m
		word = "updated"
	}
	if h.Metric != nil {
		h.Metric.AlarmConfigurationUpdatedTimestamp = wire.At(now)
	} else {
		h.Composite.AlarmConfigurationUpdatedTimestamp = wire.At(now)
	}
	if err := e.compile(h, now); err != nil {
		return err
	}
	if before != nil && h.Metric != nil {
		h.step.Born = before.step.Born
	}
	e.alarms[h.key()] = h
	if err := e.ordered(h.Region); err != nil {
		delete(e.alarms, h.key())
		if before != nil {
			e.alarms[before.key()] = before
		}
		return invalid("%v", err)
	}
	e.note(h, now, "ConfigurationUpdate", fmt.Sprintf("Alarm \"%s\" %s", h.name(), word), configured(h, before))
	if h.Metric != nil {
		e.evaluate(h, now)
	}
	e.composites(now)
	e.poke()
	return e.save(now)
}

// ordered says why the composite alarms of a region do not fit together.
func (e *Engine) ordered(region string) error {
	var all []alarm.Composite
	var leaves []string
	for _, h := range e.alarms {
		switch {
		case h.Region != region:
		case h.Composite != nil:
			all = append(all, alarm.Composite{Name: h.name(), Expression: h.expression})
		default:
			leaves = append(leaves, h.name())
		}
	}
	_, err := alarm.Order(all, leaves)
	return err
}

// compile makes of an alarm's configuration what evaluates it.
func (e *Engine) compile(h *held, now time.Time) error {
	if c := h.Composite; c != nil {
		expression, err := alarm.ParseExpression(c.AlarmRule)
		if err != nil {
			return invalid("AlarmRule must not contain leading or trailing whitespace or be malformed: %v", err)
		}
		h.expression = expression
		return nil
	}
	m := h.Metric
	h.rule = e.ruleOf(Configuration{
		EvaluationPeriods: m.EvaluationPeriods, Threshold: m.Threshold, ComparisonOperator: m.ComparisonOperator, Period: m.Period, Statistic: m.Statistic,
	})
	h.rule.Name = m.AlarmName
	if m.DatapointsToAlarm > 0 {
		h.rule.M = m.DatapointsToAlarm
	}
	if m.TreatMissingData != "" {
		h.rule.Missing = alarm.Missing(m.TreatMissingData)
	}
	h.step = alarm.New(h.rule, now)
	h.step.State, h.step.Reason = alarm.State(m.StateValue), m.StateReason
	h.next = h.rule.Next(now)
	return nil
}

// ruleOf is the rule of a configuration, with M = N and missing data as missing.
func (e *Engine) ruleOf(c Configuration) alarm.Rule {
	return alarm.Rule{
		Statistic: alarm.Statistic(c.Statistic), Operator: Operators[c.ComparisonOperator], Threshold: c.Threshold,
		Period: time.Duration(c.Period) * time.Second, M: c.EvaluationPeriods, N: c.EvaluationPeriods, Missing: alarm.MissingIsMissing, Grace: e.grace,
	}
}

// Configuration returns what a health check copies of an alarm now.
func (e *Engine) Configuration(region, name string) (Configuration, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.alarms[region+"/"+name]
	if h == nil || h.Metric == nil {
		return Configuration{}, false
	}
	m := h.Metric
	return Configuration{
		m.EvaluationPeriods, m.Threshold, m.ComparisonOperator, m.Period, m.MetricName, m.Namespace, m.Statistic, slices.Clone(m.Dimensions),
	}, true
}

// Judge evaluates a copied configuration on the metric itself: the alarm that it was copied from is not looked at.
func (e *Engine) Judge(region string, c Configuration, before alarm.State) alarm.State {
	e.mu.Lock()
	defer e.mu.Unlock()
	rule := e.ruleOf(c)
	window := e.metrics.window(region, Metric{c.Namespace, c.MetricName, c.Dimensions}, "", rule, e.now())
	return alarm.Evaluate(rule, before, window).State
}

// moved notes the transition of an alarm.
func (e *Engine) moved(h *held, change *alarm.Change, now time.Time) {
	value, reason, data, updated, moved := h.state()
	from := stateOf{*value, *reason, rawJSON(*data)}
	*value, *reason, *data = string(change.To), change.Reason, string(change.ReasonData)
	*updated, *moved = wire.At(change.At), wire.At(change.At)
	text, err := json.Marshal(map[string]any{"version": "1.0", "oldState": from, "newState": stateOf{*value, *reason, rawJSON(*data)}})
	if err != nil {
		text = nil // strings and valid JSON always encode
	}
	e.log.Info("alarm moved", "alarm", h.name(), "from", from.Value, "to", *value, "reason", *reason)
	e.note(h, now, "StateUpdate", fmt.Sprintf("Alarm updated from %s to %s", from.Value, *value), string(text))
	for _, action := range h.actions(*value) {
		e.note(h, now, "Action", fmt.Sprintf("Failed to execute action %s. Received error: \"this endpoint carries out no actions\"", action), `{"version":"1.0"}`)
	}
}

func (h *held) actions(state string) []string {
	lists := map[string][]string{}
	enabled := false
	if m := h.Metric; m != nil {
		enabled = m.ActionsEnabled
		lists = map[string][]string{"OK": m.OKActions, "ALARM": m.AlarmActions, "INSUFFICIENT_DATA": m.InsufficientDataActions}
	} else if c := h.Composite; c != nil {
		enabled = c.ActionsEnabled
		lists = map[string][]string{"OK": c.OKActions, "ALARM": c.AlarmActions, "INSUFFICIENT_DATA": c.InsufficientDataActions}
	}
	if !enabled {
		return nil
	}
	return lists[state]
}

func (e *Engine) note(h *held, now time.Time, kind, summary, data string) {
	e.history = append(e.history, historyOf{h.Region, AlarmHistoryItem{
		AlarmName: h.name(), AlarmType: h.kind(), Timestamp: wire.At(now), HistoryItemType: kind, HistorySummary: summary, HistoryData: data,
	}})
}

// configured is the data of a history item on an alarm's configuration.
func configured(h, before *held) string {
	data := map[string]any{"version": "1.0", "type": "Create"}
	of := func(h *held) any {
		if h.Metric != nil {
			return h.Metric
		}
		return h.Composite
	}
	if before != nil {
		data["type"], data["updatedAlarm"], data["createdAlarm"] = "Update", of(h), of(before)
	} else {
		data["createdAlarm"] = of(h)
	}
	text, err := json.Marshal(data)
	if err != nil {
		return "{}" // all fields encode
	}
	return string(text)
}

func (e *Engine) poke() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}
