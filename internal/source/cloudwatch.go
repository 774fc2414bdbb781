package source

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"firedrill/internal/amazon"
	"firedrill/internal/drill"
)

// cloudWatch asks Amazon CloudWatch for one alarm. Whether its actions are enabled does not matter: a drill that mutes the pager must not hide
// the alarm from itself.
type cloudWatch struct {
	name, region string
	client       *cloudwatch.Client
}

func newCloudWatch(s drill.AlarmSource, directory string) (Source, error) {
	config, err := amazon.Config(context.Background(), s.AWS, directory)
	if err != nil {
		return nil, err
	}
	// The watch asks again soon: a second try within a look would only make it late.
	client := cloudwatch.NewFromConfig(config, func(o *cloudwatch.Options) { o.Retryer = aws.NopRetryer{} })
	return &cloudWatch{name: s.CloudWatch, region: config.Region, client: client}, nil
}

func (c *cloudWatch) String() string { return "cloudwatch in " + c.region }

// seen is an alarm in the form in which CloudWatch tells of changes.
type seen struct {
	AlarmName string `json:"alarmName"`
	State     struct {
		Value      string          `json:"value"`
		Reason     string          `json:"reason"`
		ReasonData json.RawMessage `json:"reasonData,omitempty"`
		Timestamp  time.Time       `json:"timestamp,omitzero"`
	} `json:"state"`
}

// Look implements Source.
func (c *cloudWatch) Look(ctx context.Context) (Reading, error) {
	said, err := c.client.DescribeAlarms(ctx, &cloudwatch.DescribeAlarmsInput{
		AlarmNames: []string{c.name}, AlarmTypes: []types.AlarmType{types.AlarmTypeMetricAlarm, types.AlarmTypeCompositeAlarm},
	})
	if err != nil {
		return Reading{}, amazon.Problem("look at alarm "+c.name, c.String(), err)
	}
	var one seen
	var reasonData *string
	evaluation := types.EvaluationState("")
	switch {
	case len(said.MetricAlarms) == 1:
		alarm := said.MetricAlarms[0]
		one.AlarmName, one.State.Value, one.State.Reason = aws.ToString(alarm.AlarmName), string(alarm.StateValue), aws.ToString(alarm.StateReason)
		one.State.Timestamp = stamp(alarm.StateTransitionedTimestamp, alarm.StateUpdatedTimestamp)
		reasonData, evaluation = alarm.StateReasonData, alarm.EvaluationState
	case len(said.CompositeAlarms) == 1:
		alarm := said.CompositeAlarms[0]
		one.AlarmName, one.State.Value, one.State.Reason = aws.ToString(alarm.AlarmName), string(alarm.StateValue), aws.ToString(alarm.StateReason)
		one.State.Timestamp = stamp(alarm.StateTransitionedTimestamp, alarm.StateUpdatedTimestamp)
		reasonData = alarm.StateReasonData
	}
	if one.AlarmName != c.name {
		return Reading{}, &drill.Error{
			Op: "look at alarm " + c.name, Host: c.String(), Kind: drill.Invalid, Err: fmt.Errorf("there is no such alarm: it could never be raised"),
			Hint: "Check its name, and region and credentials in aws: of the service file.",
		}
	}
	if text := aws.ToString(reasonData); json.Valid([]byte(text)) {
		one.State.ReasonData = json.RawMessage(text)
	}
	data, err := json.Marshal(one)
	if err != nil {
		return Reading{}, err
	}
	reading := Reading{Since: one.State.Timestamp, Reason: one.State.Reason, Data: data}
	if reading.Reason == "" {
		reading.Reason = "it is " + one.State.Value + " there"
	}
	switch {
	case evaluation == types.EvaluationStateEvaluationError || evaluation == types.EvaluationStateEvaluationFailure:
		reading.Unknown, reading.Reason = true, "it is not evaluated well there ("+string(evaluation)+"): "+reading.Reason
	case one.State.Value == string(types.StateValueAlarm):
		reading.Raised = true
	case one.State.Value != string(types.StateValueOk):
		reading.Unknown = true
	}
	return reading, nil
}

// stamp returns the first time that is there.
func stamp(times ...*time.Time) time.Time {
	for _, one := range times {
		if one != nil {
			return *one
		}
	}
	return time.Time{}
}
