package cloudwatch

import (
	"encoding/json"

	"firedrill/internal/awsapi/wire"
)

// The shapes of the API that are served. Field names are those of the API.
type (
	// Dimension is one part of a metric's identity.
	Dimension struct{ Name, Value string }

	// StatisticSet is samples that the client has counted already.
	StatisticSet struct{ SampleCount, Sum, Minimum, Maximum float64 }

	// MetricDatum is one sample, or several.
	MetricDatum struct {
		MetricName        string
		Dimensions        []Dimension
		Timestamp         *wire.Time
		Value             *float64
		StatisticValues   *StatisticSet
		Values            []float64
		Counts            []float64
		Unit              string
		StorageResolution *int
	}

	// PutMetricDataInput is the input of PutMetricData.
	PutMetricDataInput struct {
		Namespace  string
		MetricData []MetricDatum
	}

	// GetMetricStatisticsInput is the input of GetMetricStatistics.
	GetMetricStatisticsInput struct {
		Namespace, MetricName string
		Dimensions            []Dimension
		StartTime, EndTime    *wire.Time
		Period                *int
		Statistics            []string
		ExtendedStatistics    []string
		Unit                  string
	}

	// Datapoint is what was measured in one period.
	Datapoint struct {
		Timestamp   *wire.Time
		SampleCount *float64 `json:",omitempty"`
		Average     *float64 `json:",omitempty"`
		Sum         *float64 `json:",omitempty"`
		Minimum     *float64 `json:",omitempty"`
		Maximum     *float64 `json:",omitempty"`
		Unit        string
	}

	// GetMetricStatisticsOutput is its output.
	GetMetricStatisticsOutput struct {
		Label      string
		Datapoints []Datapoint
	}

	// DimensionFilter narrows a list of metrics.
	DimensionFilter struct{ Name, Value string }

	// ListMetricsInput is the input of ListMetrics.
	ListMetricsInput struct {
		Namespace, MetricName string
		Dimensions            []DimensionFilter
		NextToken             string
	}

	// Metric is a metric's identity.
	Metric struct {
		Namespace, MetricName string
		Dimensions            []Dimension
	}

	// ListMetricsOutput is its output.
	ListMetricsOutput struct {
		Metrics   []Metric
		NextToken string `json:",omitempty"`
	}

	// Unserved is a parameter that is refused when it is there.
	Unserved struct{ Id string } //nolint:revive // the API's name

	// PutMetricAlarmInput is the input of PutMetricAlarm.
	PutMetricAlarmInput struct {
		AlarmName, AlarmDescription                      string
		ActionsEnabled                                   *bool
		OKActions, AlarmActions, InsufficientDataActions []string
		MetricName, Namespace, Statistic                 string
		ExtendedStatistic                                string
		Dimensions                                       []Dimension
		Period                                           *int
		Unit                                             string
		EvaluationPeriods                                *int
		DatapointsToAlarm                                *int
		Threshold                                        *float64
		ComparisonOperator                               string
		TreatMissingData                                 string
		EvaluateLowSampleCountPercentile                 string
		Metrics                                          []Unserved
		ThresholdMetricId                                string //nolint:revive // the API's name
	}

	// PutCompositeAlarmInput is the input of PutCompositeAlarm.
	PutCompositeAlarmInput struct {
		AlarmName, AlarmDescription, AlarmRule           string
		ActionsEnabled                                   *bool
		OKActions, AlarmActions, InsufficientDataActions []string
		ActionsSuppressor                                string
	}

	// MetricAlarm is an alarm on a metric as it is described.
	MetricAlarm struct {
		AlarmName                          string
		AlarmArn                           string
		AlarmDescription                   string `json:",omitempty"`
		AlarmConfigurationUpdatedTimestamp *wire.Time
		ActionsEnabled                     bool
		OKActions                          []string
		AlarmActions                       []string
		InsufficientDataActions            []string
		StateValue                         string
		StateReason                        string
		StateReasonData                    string `json:",omitempty"`
		StateUpdatedTimestamp              *wire.Time
		StateTransitionedTimestamp         *wire.Time
		MetricName                         string
		Namespace                          string
		Statistic                          string
		Dimensions                         []Dimension
		Period                             int
		Unit                               string `json:",omitempty"`
		EvaluationPeriods                  int
		DatapointsToAlarm                  int `json:",omitempty"`
		Threshold                          float64
		ComparisonOperator                 string
		TreatMissingData                   string `json:",omitempty"`
	}

	// CompositeAlarm is an alarm on alarms as it is described.
	CompositeAlarm struct {
		AlarmName                          string
		AlarmArn                           string
		AlarmDescription                   string `json:",omitempty"`
		AlarmRule                          string
		AlarmConfigurationUpdatedTimestamp *wire.Time
		ActionsEnabled                     bool
		OKActions                          []string
		AlarmActions                       []string
		InsufficientDataActions            []string
		StateValue                         string
		StateReason                        string
		StateReasonData                    string `json:",omitempty"`
		StateUpdatedTimestamp              *wire.Time
		StateTransitionedTimestamp         *wire.Time
	}

	// DescribeAlarmsInput is the input of DescribeAlarms.
	DescribeAlarmsInput struct {
		AlarmNames          []string
		AlarmNamePrefix     string
		AlarmTypes          []string
		StateValue          string
		ActionPrefix        string
		ChildrenOfAlarmName string
		ParentsOfAlarmName  string
		MaxRecords          *int
		NextToken           string
	}

	// DescribeAlarmsOutput is its output.
	DescribeAlarmsOutput struct {
		CompositeAlarms []CompositeAlarm
		MetricAlarms    []MetricAlarm
		NextToken       string `json:",omitempty"`
	}

	// DescribeAlarmHistoryInput is the input of DescribeAlarmHistory.
	DescribeAlarmHistoryInput struct {
		AlarmName, HistoryItemType string
		AlarmTypes                 []string
		StartDate, EndDate         *wire.Time
		MaxRecords                 *int
		NextToken, ScanBy          string
	}

	// AlarmHistoryItem is one line of the history.
	AlarmHistoryItem struct {
		AlarmName       string
		AlarmType       string
		Timestamp       *wire.Time
		HistoryItemType string
		HistorySummary  string
		HistoryData     string
	}

	// DescribeAlarmHistoryOutput is its output.
	DescribeAlarmHistoryOutput struct {
		AlarmHistoryItems []AlarmHistoryItem
		NextToken         string `json:",omitempty"`
	}

	// SetAlarmStateInput is the input of SetAlarmState.
	SetAlarmStateInput struct {
		AlarmName, StateValue, StateReason, StateReasonData string
	}

	// DeleteAlarmsInput is the input of DeleteAlarms.
	DeleteAlarmsInput struct{ AlarmNames []string }

	// Configuration is what a health check of Route 53 copies of an alarm: no M of N, and nothing on missing data.
	Configuration struct {
		EvaluationPeriods     int
		Threshold             float64
		ComparisonOperator    string
		Period                int
		MetricName, Namespace string
		Statistic             string
		Dimensions            []Dimension `xml:"Dimensions>Dimension"`
	}
)

// historyOf is a history item with where it belongs.
type historyOf struct {
	Region string
	Item   AlarmHistoryItem
}

// stateOf is one state in the data of a history item.
type stateOf struct {
	Value  string          `json:"stateValue"`
	Reason string          `json:"stateReason"`
	Data   json.RawMessage `json:"stateReasonData,omitempty"`
}
