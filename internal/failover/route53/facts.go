package route53

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/miekg/dns"

	"firedrill/internal/amazon"
	"firedrill/internal/lint"
)

// Facts returns what stands in the hosted zone that a name is in, with the health checks that its records use, and the alarms that those have
// copied. Nothing is changed. The error is a *drill.Error.
func (p *Publisher) Facts(ctx context.Context, name string) (lint.Zone, error) {
	zone, err := p.zoneOf(ctx, dns.CanonicalName(name))
	if err != nil {
		return lint.Zone{}, err
	}
	endpoint := aws.ToString(p.options.Config.BaseEndpoint)
	facts := lint.Zone{Name: zone.name, Checks: map[string]lint.Check{}, Public: endpoint == "" || strings.Contains(endpoint, ".amazonaws.com")}
	pages := route53.NewListResourceRecordSetsPaginator(p.client, &route53.ListResourceRecordSetsInput{HostedZoneId: aws.String(zone.id)})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return lint.Zone{}, amazon.Problem("list records", zone.id, err)
		}
		for _, set := range page.ResourceRecordSets {
			facts.Records = append(facts.Records, recordOf(set))
		}
	}
	var wanted []string
	for _, record := range facts.Records {
		wanted = append(wanted, record.Check)
	}
	wanted = append(wanted, slices.Sorted(maps.Values(p.options.Checks))...)
	for len(wanted) > 0 {
		id := wanted[0]
		wanted = wanted[1:]
		if _, known := facts.Checks[id]; known || id == "" {
			continue
		}
		check, err := p.checkOf(ctx, id)
		var gone *types.NoSuchHealthCheck
		if errors.As(err, &gone) {
			continue
		}
		if err != nil {
			return lint.Zone{}, err
		}
		facts.Checks[id] = check
		wanted = append(wanted, check.Children...)
	}
	return facts, nil
}

func recordOf(set types.ResourceRecordSet) lint.Record {
	record := lint.Record{
		Name: strings.ReplaceAll(aws.ToString(set.Name), `\052`, "*"), Type: string(set.Type), ID: aws.ToString(set.SetIdentifier), Failover: string(set.Failover),
		Weight: set.Weight, Multivalue: aws.ToBool(set.MultiValueAnswer), TTL: aws.ToInt64(set.TTL), Check: aws.ToString(set.HealthCheckId),
	}
	switch {
	case set.Region != "":
		record.Other = "latency"
	case set.GeoLocation != nil || set.GeoProximityLocation != nil:
		record.Other = "place"
	case set.CidrRoutingConfig != nil:
		record.Other = "network"
	}
	for _, value := range set.ResourceRecords {
		record.Values = append(record.Values, aws.ToString(value.Value))
	}
	if set.AliasTarget != nil {
		record.Alias, record.Evaluate = aws.ToString(set.AliasTarget.DNSName), set.AliasTarget.EvaluateTargetHealth
	}
	return record
}

func (p *Publisher) checkOf(ctx context.Context, id string) (lint.Check, error) {
	said, err := p.client.GetHealthCheck(ctx, &route53.GetHealthCheckInput{HealthCheckId: aws.String(id)})
	if err != nil {
		return lint.Check{}, amazon.Problem("look at health check "+id, "", err)
	}
	config := said.HealthCheck.HealthCheckConfig
	check := lint.Check{
		ID: id, Kind: string(config.Type), Interval: int(aws.ToInt32(config.RequestInterval)), Failures: int(aws.ToInt32(config.FailureThreshold)),
		Address: aws.ToString(config.IPAddress), Host: aws.ToString(config.FullyQualifiedDomainName), Inverted: aws.ToBool(config.Inverted),
		Disabled: aws.ToBool(config.Disabled), Threshold: int(aws.ToInt32(config.HealthThreshold)), Children: config.ChildHealthChecks,
		Insufficient: string(config.InsufficientDataHealthStatus), Control: aws.ToString(config.RoutingControlArn),
	}
	if copied := said.HealthCheck.CloudWatchAlarmConfiguration; copied != nil {
		check.Copied = &lint.AlarmSettings{
			Namespace: aws.ToString(copied.Namespace), Metric: aws.ToString(copied.MetricName), Statistic: string(copied.Statistic), Comparison: string(copied.ComparisonOperator),
			Period: int(aws.ToInt32(copied.Period)), Periods: int(aws.ToInt32(copied.EvaluationPeriods)), Threshold: aws.ToFloat64(copied.Threshold),
			Dimensions: listed(copied.Dimensions, func(d types.Dimension) string { return aws.ToString(d.Name) + "=" + aws.ToString(d.Value) }),
		}
	}
	if alarm := config.AlarmIdentifier; alarm != nil {
		check.AlarmName = aws.ToString(alarm.Name)
		if check.Alarm, err = p.alarmOf(ctx, string(alarm.Region), check.AlarmName); err != nil {
			return lint.Check{}, err
		}
	}
	return check, nil
}

// alarmOf returns an alarm as it is now, nil when it is not there.
func (p *Publisher) alarmOf(ctx context.Context, region, name string) (*lint.AlarmSettings, error) {
	client := cloudwatch.NewFromConfig(p.options.Config, func(o *cloudwatch.Options) { o.Region = region })
	said, err := client.DescribeAlarms(ctx, &cloudwatch.DescribeAlarmsInput{AlarmNames: []string{name}})
	if err != nil {
		return nil, amazon.Problem("look at alarm "+name, region, err)
	}
	if len(said.MetricAlarms) == 0 {
		return nil, nil //nolint:nilnil // that it is not there is an answer
	}
	now := said.MetricAlarms[0]
	return &lint.AlarmSettings{
		Namespace: aws.ToString(now.Namespace), Metric: aws.ToString(now.MetricName), Statistic: string(now.Statistic), Comparison: string(now.ComparisonOperator),
		Period: int(aws.ToInt32(now.Period)), Periods: int(aws.ToInt32(now.EvaluationPeriods)), Threshold: aws.ToFloat64(now.Threshold),
		Dimensions: listed(now.Dimensions, func(d cwtypes.Dimension) string { return aws.ToString(d.Name) + "=" + aws.ToString(d.Value) }),
		Datapoints: int(aws.ToInt32(now.DatapointsToAlarm)), Extended: aws.ToString(now.ExtendedStatistic), Missing: aws.ToString(now.TreatMissingData), Math: len(now.Metrics) > 0,
	}, nil
}

func listed[T any](all []T, text func(T) string) string {
	var texts []string
	for _, one := range all {
		texts = append(texts, text(one))
	}
	slices.Sort(texts)
	return fmt.Sprint(texts)
}
