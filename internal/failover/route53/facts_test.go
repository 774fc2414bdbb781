package route53

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"

	"firedrill/internal/drill"
	"firedrill/internal/lint"
)

// The zone of the article, made by the real client: a pair whose primary hangs on an alarm, and on which the CDN's check of both sides was put.
// Each of its traps must be found in what is read back.
func TestTrapsOfTheArticleAreFoundLive(t *testing.T) {
	w := newWorld(t)
	alarms := cloudwatch.NewFromConfig(w.config)
	put := func(threshold float64) {
		t.Helper()
		_, err := alarms.PutMetricAlarm(t.Context(), &cloudwatch.PutMetricAlarmInput{
			AlarmName: aws.String("blue-StatusCheckFailed"), Namespace: aws.String("AWS/EC2"), MetricName: aws.String("StatusCheckFailed"), Statistic: cwtypes.StatisticAverage,
			Period: aws.Int32(60), EvaluationPeriods: aws.Int32(2), DatapointsToAlarm: aws.Int32(1), Threshold: aws.Float64(threshold),
			ComparisonOperator: cwtypes.ComparisonOperatorGreaterThanOrEqualToThreshold, TreatMissingData: aws.String("breaching"),
			Dimensions: []cwtypes.Dimension{{Name: aws.String("InstanceId"), Value: aws.String("i-1")}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	put(1)
	status := w.check("status", types.HealthCheckConfig{
		Type: types.HealthCheckTypeCloudwatchMetric, InsufficientDataHealthStatus: types.InsufficientDataHealthStatusHealthy,
		AlarmIdentifier: &types.AlarmIdentifier{Name: aws.String("blue-StatusCheckFailed"), Region: types.CloudWatchRegionUsEast1},
	})
	endpoint := func(reference, address string) string {
		return w.check(reference, types.HealthCheckConfig{Type: types.HealthCheckTypeHttp, IPAddress: aws.String(address), Port: aws.Int32(80), RequestInterval: aws.Int32(30), FailureThreshold: aws.Int32(3)})
	}
	first, second := endpoint("first", blue.String()), endpoint("second", green.String())
	both := w.check("both", types.HealthCheckConfig{Type: types.HealthCheckTypeCalculated, HealthThreshold: aws.Int32(2), ChildHealthChecks: []string{first, second}})
	pair := func(name, check string) {
		primary, secondary := set(name, blue.String()), set(name, green.String())
		primary.SetIdentifier, primary.Failover, primary.HealthCheckId = aws.String("p"), types.ResourceRecordSetFailoverPrimary, aws.String(check)
		secondary.SetIdentifier, secondary.Failover = aws.String("s"), types.ResourceRecordSetFailoverSecondary
		w.change(types.ChangeActionCreate, primary, secondary)
	}
	pair("api."+zoneName, status)
	pair("cdn."+zoneName, both)
	found := func() map[string][]string {
		t.Helper()
		zone, err := w.publisher(nil).Facts(t.Context(), "api."+zoneName)
		if err != nil {
			t.Fatal(err)
		}
		if zone.Public || len(zone.Records) != 7 || len(zone.Checks) != 4 {
			t.Errorf("read back: %+v", zone)
		}
		rules := map[string][]string{}
		for _, name := range []string{"api." + zoneName, "cdn." + zoneName} {
			for _, one := range lint.InZone(zone, drill.Service{}, []string{name}) {
				rules[name[:3]] = append(rules[name[:3]], one.Rule)
			}
		}
		return rules
	}
	rules := found()
	for _, want := range []string{"secondary-unchecked", "silence-is-healthy", "alarm-m-of-n", "alarm-missing-data"} {
		if !slices.Contains(rules["api"], want) {
			t.Errorf("api: %s is not among %v", want, rules["api"])
		}
	}
	for _, want := range []string{"check-crosses", "check-slow", "secondary-unchecked"} {
		if !slices.Contains(rules["cdn"], want) {
			t.Errorf("cdn: %s is not among %v", want, rules["cdn"])
		}
	}
	if slices.Contains(rules["api"], "alarm-changed") || slices.Contains(rules["cdn"], "check-inverted") {
		t.Errorf("accused of what it is not: %v", rules)
	}
	// The alarm is edited, and the test of the article inverts a check.
	put(2)
	if _, err := w.client.UpdateHealthCheck(t.Context(), &route53.UpdateHealthCheckInput{HealthCheckId: &first, Inverted: aws.Bool(true)}); err != nil {
		t.Fatal(err)
	}
	if rules = found(); !slices.Contains(rules["api"], "alarm-changed") || !slices.Contains(rules["cdn"], "check-inverted") {
		t.Errorf("after the changes: %v", rules)
	}
}
