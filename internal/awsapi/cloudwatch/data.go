package cloudwatch

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/awsapi/wire"
)

const (
	datumMax      = 1000
	dimensionsMax = 30
	valuesMax     = 150
	datapointsMax = 1440
	metricsPage   = 500
	nameMax       = 255
)

func fault(code, format string, args ...any) *wire.Fault {
	f := &wire.Fault{Code: code, Message: fmt.Sprintf(format, args...)}
	switch code {
	case "InvalidParameterValue", "InvalidParameterCombination":
		f.Shape = code + "Exception"
	case "MissingParameter":
		f.Shape = "MissingRequiredParameterException"
	case "ResourceNotFound":
		f.Status = 404
	}
	return f
}

var units = []string{
	"Seconds", "Microseconds", "Milliseconds", "Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes", "Bits", "Kilobits", "Megabits", "Gigabits",
	"Terabits", "Percent", "Count", "Bytes/Second", "Kilobytes/Second", "Megabytes/Second", "Gigabytes/Second", "Terabytes/Second", "Bits/Second",
	"Kilobits/Second", "Megabits/Second", "Gigabits/Second", "Terabits/Second", "Count/Second", unitNone,
}

// PutMetricData counts samples. All of them, or none with a fault.
func (e *Engine) PutMetricData(region string, in PutMetricDataInput) error {
	switch {
	case in.Namespace == "":
		return fault("MissingParameter", "The parameter Namespace is required.")
	case len(in.Namespace) > nameMax || strings.HasPrefix(in.Namespace, ":"):
		return fault("InvalidParameterValue", "The value %s for parameter Namespace is invalid.", in.Namespace)
	case len(in.MetricData) == 0:
		return fault("MissingParameter", "The parameter MetricData is required.")
	case len(in.MetricData) > datumMax:
		return fault("InvalidParameterValue", "The collection MetricData must not have a size greater than %d.", datumMax)
	}
	now := e.now()
	var lines []line
	for i, datum := range in.MetricData {
		read, err := linesOf(region, in.Namespace, fmt.Sprintf("MetricData.member.%d", i+1), datum, now)
		if err != nil {
			return err
		}
		lines = append(lines, read...)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.metrics.add(lines, now)
}

func linesOf(region, namespace, at string, d MetricDatum, now time.Time) ([]line, error) {
	if d.MetricName == "" {
		return nil, fault("MissingParameter", "The parameter %s.MetricName is required.", at)
	}
	if err := validDimensions(at, d.Dimensions); err != nil {
		return nil, err
	}
	one := line{Region: region, Metric: Metric{namespace, d.MetricName, d.Dimensions}, Unit: unitNone}
	if d.Unit != "" {
		one.Unit = d.Unit
	}
	if !slices.Contains(units, one.Unit) {
		return nil, fault("InvalidParameterValue", "The parameter %s.Unit must be a value in the set %v.", at, units)
	}
	when := now
	if d.Timestamp != nil {
		when = d.Timestamp.Time
	}
	if when.Before(now.Add(-pastMax)) || when.After(now.Add(futureMax)) {
		return nil, fault("InvalidParameterValue", "The parameter %s.Timestamp must specify a time within the past two weeks, and no more than two hours in the future.", at)
	}
	one.Second = when.Unix()
	if r := d.StorageResolution; r != nil {
		if *r != 1 && *r != 60 {
			return nil, fault("InvalidParameterValue", "The parameter %s.StorageResolution must be 1 or 60.", at)
		}
		one.Fine = *r == 1
	}
	counted, err := countsOf(at, d)
	if err != nil {
		return nil, err
	}
	lines := make([]line, 0, len(counted))
	for _, one.Bucket = range counted {
		lines = append(lines, one)
	}
	return lines, nil
}

// countsOf returns the samples of a datum, which says them in one of three ways.
func countsOf(at string, d MetricDatum) ([]bucket, error) {
	ways := 0
	for _, there := range []bool{d.Value != nil, d.StatisticValues != nil, len(d.Values) > 0} {
		if there {
			ways++
		}
	}
	switch {
	case ways == 0:
		return nil, fault("MissingParameter", "At least one of the parameters %s.Value, %s.StatisticValues or %s.Values must be specified.", at, at, at)
	case ways > 1:
		return nil, fault("InvalidParameterCombination", "The parameters %s.Value, %s.StatisticValues and %s.Values are mutually exclusive.", at, at, at)
	case len(d.Values) > valuesMax || len(d.Counts) > 0 && len(d.Counts) != len(d.Values):
		return nil, fault("InvalidParameterValue", "The parameters %s.Values and %s.Counts must be of the same size, at most %d.", at, at, valuesMax)
	}
	var all []bucket
	switch {
	case d.Value != nil:
		all = []bucket{{1, *d.Value, *d.Value, *d.Value}}
	case d.StatisticValues != nil:
		s := d.StatisticValues
		all = []bucket{{s.SampleCount, s.Sum, s.Minimum, s.Maximum}}
	}
	for i, value := range d.Values {
		count := 1.0
		if len(d.Counts) > 0 {
			count = d.Counts[i]
		}
		all = append(all, bucket{count, count * value, value, value})
	}
	for _, b := range all {
		for _, number := range []float64{b.Count, b.Sum, b.Min, b.Max} {
			if math.IsNaN(number) || math.IsInf(number, 0) || math.Abs(number) > math.Pow(2, 360) {
				return nil, fault("InvalidParameterValue", "The value %v for parameter %s.Value is invalid.", number, at)
			}
		}
		if b.Count <= 0 || b.Min > b.Max {
			return nil, fault("InvalidParameterValue", "The parameter %s.StatisticValues is invalid.", at)
		}
	}
	return all, nil
}

func validDimensions(at string, dimensions []Dimension) error {
	if len(dimensions) > dimensionsMax {
		return fault("InvalidParameterValue", "The collection %s.Dimensions must not have a size greater than %d.", at, dimensionsMax)
	}
	seen := map[string]bool{}
	for i, d := range dimensions {
		if d.Name == "" || d.Value == "" || len(d.Name) > nameMax || len(d.Value) > 1024 {
			return fault("InvalidParameterValue", "The parameter %s.Dimensions.member.%d is invalid: a dimension has a name and a value.", at, i+1)
		}
		if seen[d.Name] {
			return fault("InvalidParameterValue", "No two dimensions of %s can have the same name: %s.", at, d.Name)
		}
		seen[d.Name] = true
	}
	return nil
}

// statistics are what can be asked for of a bucket.
var statistics = map[string]func(bucket) float64{
	"SampleCount": func(b bucket) float64 { return b.Count },
	"Average":     func(b bucket) float64 { return b.Sum / b.Count },
	"Sum":         func(b bucket) float64 { return b.Sum },
	"Minimum":     func(b bucket) float64 { return b.Min },
	"Maximum":     func(b bucket) float64 { return b.Max },
}

func (in GetMetricStatisticsInput) valid() error {
	switch {
	case in.Namespace == "" || in.MetricName == "" || in.StartTime == nil || in.EndTime == nil || in.Period == nil:
		return fault("MissingParameter", "The parameters Namespace, MetricName, StartTime, EndTime and Period are required.")
	case len(in.ExtendedStatistics) > 0:
		return fault("InvalidParameterCombination", "ExtendedStatistics are not computed by this endpoint.")
	case len(in.Statistics) == 0:
		return fault("InvalidParameterCombination", "At least one of the parameters Statistics and ExtendedStatistics must be specified.")
	case !in.StartTime.Before(in.EndTime.Time):
		return fault("InvalidParameterValue", "The parameter StartTime must be less than the parameter EndTime.")
	case !validPeriod(*in.Period) && *in.Period != 1 && *in.Period != 5:
		return fault("InvalidParameterValue", "The parameter Period must be 1, 5, 10, 30 or a multiple of 60.")
	}
	for _, statistic := range in.Statistics {
		if statistics[statistic] == nil {
			return fault("InvalidParameterValue", "The parameter Statistics.member.1 must be a value in the set [ Average, Maximum, Minimum, SampleCount, Sum ].")
		}
	}
	period := time.Duration(*in.Period) * time.Second
	if count := in.EndTime.Sub(in.StartTime.Time) / period; count > datapointsMax {
		return fault("InvalidParameterCombination", "You have requested up to %d datapoints, which exceeds the limit of 1,440. You may reduce the datapoints requested "+
			"by increasing Period, or decreasing the time range.", count)
	}
	return validDimensions("GetMetricStatistics", in.Dimensions)
}

// GetMetricStatistics returns the datapoints of a metric, oldest first, one for each unit.
func (e *Engine) GetMetricStatistics(region string, in GetMetricStatisticsInput) (GetMetricStatisticsOutput, error) {
	if err := in.valid(); err != nil {
		return GetMetricStatisticsOutput{}, err
	}
	period := time.Duration(*in.Period) * time.Second
	out := GetMetricStatisticsOutput{Label: in.MetricName, Datapoints: []Datapoint{}}
	asked := units
	if in.Unit != "" {
		asked = []string{in.Unit}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for from := in.StartTime.UTC().Truncate(min(period, time.Minute)); from.Before(in.EndTime.Time); from = from.Add(period) {
		for _, unit := range asked {
			b := e.metrics.sum(region, Metric{in.Namespace, in.MetricName, in.Dimensions}, unit, from, period)
			if b.Count == 0 {
				continue
			}
			point := Datapoint{Timestamp: wire.At(from), Unit: unit}
			for name, into := range map[string]**float64{
				"SampleCount": &point.SampleCount, "Average": &point.Average, "Sum": &point.Sum, "Minimum": &point.Minimum, "Maximum": &point.Maximum,
			} {
				if slices.Contains(in.Statistics, name) {
					value := statistics[name](b)
					*into = &value
				}
			}
			out.Datapoints = append(out.Datapoints, point)
		}
	}
	return out, nil
}

// ListMetrics returns which metrics there are.
func (e *Engine) ListMetrics(region string, in ListMetricsInput) (ListMetricsOutput, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.metrics.forget(e.now())
	found := []Metric{}
	for _, key := range slices.Sorted(maps.Keys(e.metrics.all)) {
		metric := e.metrics.all[key].metric
		if !strings.HasPrefix(key, strconv.Quote(region)) || in.Namespace != "" && in.Namespace != metric.Namespace || in.MetricName != "" && in.MetricName != metric.MetricName {
			continue
		}
		fits := !slices.ContainsFunc(in.Dimensions, func(f DimensionFilter) bool {
			return !slices.ContainsFunc(metric.Dimensions, func(d Dimension) bool { return d.Name == f.Name && (f.Value == "" || f.Value == d.Value) })
		})
		if fits {
			found = append(found, metric)
		}
	}
	page, next, err := paged(found, in.NextToken, metricsPage)
	return ListMetricsOutput{page, next}, err
}

// paged returns a page of a list, and the token of the next one.
func paged[T any](all []T, token string, most int) ([]T, string, error) {
	from := 0
	if token != "" {
		var err error
		if from, err = strconv.Atoi(token); err != nil || from < 0 || from > len(all) {
			return nil, "", &wire.Fault{Code: "InvalidNextToken", Message: "The next token specified is invalid."}
		}
	}
	to := min(from+most, len(all))
	if to == len(all) {
		return all[from:], "", nil
	}
	return all[from:to], strconv.Itoa(to), nil
}

// rawJSON returns a text as JSON, nil when it is none.
func rawJSON(text string) json.RawMessage {
	if !json.Valid([]byte(text)) {
		return nil
	}
	return json.RawMessage(text)
}
