package awsapi

import (
	"net/http"

	"firedrill/internal/awsapi/cloudwatch"
	"firedrill/internal/awsapi/wire"
)

const (
	cloudWatchNamespace = "http://monitoring.amazonaws.com/doc/2010-08-01/"
	cloudWatchModel     = "com.amazonaws.cloudwatch"
)

// operation reads its parameters and carries them out; the output is nil where an operation says nothing.
type operation func(engine *cloudwatch.Engine, region string, r wire.Request) (any, error)

// says is an operation with an output.
func says[In, Out any](do func(*cloudwatch.Engine, string, In) (Out, error)) operation {
	return func(engine *cloudwatch.Engine, region string, r wire.Request) (any, error) {
		var in In
		if err := r.Into(&in); err != nil {
			return nil, &wire.Fault{Code: "MalformedInput", Message: err.Error()}
		}
		return do(engine, region, in)
	}
}

// does is an operation without one.
func does[In any](do func(*cloudwatch.Engine, string, In) error) operation {
	return func(engine *cloudwatch.Engine, region string, r wire.Request) (any, error) {
		_, err := says(func(engine *cloudwatch.Engine, region string, in In) (struct{}, error) {
			return struct{}{}, do(engine, region, in)
		})(engine, region, r)
		return nil, err
	}
}

var cloudWatchOperations = map[string]operation{
	"PutMetricData":        does((*cloudwatch.Engine).PutMetricData),
	"GetMetricStatistics":  says((*cloudwatch.Engine).GetMetricStatistics),
	"ListMetrics":          says((*cloudwatch.Engine).ListMetrics),
	"PutMetricAlarm":       does((*cloudwatch.Engine).PutMetricAlarm),
	"PutCompositeAlarm":    does((*cloudwatch.Engine).PutCompositeAlarm),
	"DescribeAlarms":       says((*cloudwatch.Engine).DescribeAlarms),
	"DescribeAlarmHistory": says((*cloudwatch.Engine).DescribeAlarmHistory),
	"SetAlarmState":        does((*cloudwatch.Engine).SetAlarmState),
	"DeleteAlarms":         does((*cloudwatch.Engine).DeleteAlarms),
}

func (h *Handler) cloudWatch(w http.ResponseWriter, c call) {
	request, known := wire.Of(c.Request, c.body)
	do := cloudWatchOperations[request.Operation]
	if !known || do == nil {
		request.Refuse(w, cloudWatchNamespace, cloudWatchModel, c.id, &wire.Fault{Code: "InvalidAction", Message: "Could not find operation " + request.Operation + " on this endpoint."})
		return
	}
	output, err := do(h.CloudWatch, c.scope.Region, request)
	if err != nil {
		request.Refuse(w, cloudWatchNamespace, cloudWatchModel, c.id, h.faultOf(c, err))
		return
	}
	if err := request.Answer(w, cloudWatchNamespace, c.id, output); err != nil {
		h.Log.Debug("answer not sent", "error", err)
	}
}
