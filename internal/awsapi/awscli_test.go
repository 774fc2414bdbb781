package awsapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"firedrill/internal/awsapi/cloudwatch"
)

// awscli is Debian's; another one may come first in PATH.
const awscli = "/usr/bin/aws"

// shell runs a command line as it would be typed, with aws made to lead to the endpoint, and returns what it printed.
func (r *running) shell(t *testing.T, line string, more ...string) (string, error) {
	t.Helper()
	if _, err := os.Stat(awscli); err != nil {
		if strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "awscli") {
			t.Fatal(err)
		}
		t.Skip("needs Debian's awscli")
	}
	command := exec.CommandContext(t.Context(), "/bin/bash", "-c", fmt.Sprintf("aws() { %s --endpoint-url %s \"$@\"; }\n%s", awscli, r.url, line))
	command.Env = slices.Concat([]string{
		"PATH=/usr/bin:/bin", "HOME=" + t.TempDir(), "AWS_SHARED_CREDENTIALS_FILE=" + r.credentials, "AWS_DEFAULT_REGION=us-west-2", "AWS_PAGER=", "LC_ALL=C.UTF-8",
		"AWS_MAX_ATTEMPTS=1",
	}, more)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	if err := command.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%w: %s", err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

func (r *running) must(t *testing.T, line string) string {
	t.Helper()
	text, err := r.shell(t, line)
	if err != nil {
		t.Fatalf("%s\n%v", line, err)
	}
	return text
}

// object runs a line and reads the JSON that it prints.
func (r *running) object(t *testing.T, line string, into any) {
	t.Helper()
	text := r.must(t, line)
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%s\nprinted %s\n%v", line, text, err)
	}
}

// leads asks the endpoint's name server, as a client would.
func (r *running) leads(ctx context.Context, name string, kind uint16) ([]string, error) {
	client := dns.Client{Timeout: 5 * time.Second}
	reply, _, err := client.ExchangeContext(ctx, new(dns.Msg).SetQuestion(dns.Fqdn(name), kind), r.dns)
	if err != nil {
		return nil, err
	}
	if reply.Rcode != dns.RcodeSuccess {
		return nil, fmt.Errorf("%s: %s", name, dns.RcodeToString[reply.Rcode])
	}
	var all []string
	for _, record := range reply.Answer {
		all = append(all, strings.TrimPrefix(record.String(), record.Header().String()))
	}
	return all, nil
}

// await waits until a name leads where it must.
func (r *running) await(t *testing.T, name string, kind uint16, want ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ticks := time.NewTicker(20 * time.Millisecond)
	defer ticks.Stop()
	for {
		got, err := r.leads(ctx, name, kind)
		if err == nil && slices.Equal(got, want) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s leads to %v (%v); want %v", name, got, err, want)
		case <-ticks.C:
		}
	}
}

// measured counts values of the series' metric without the seconds that each start of the command line takes.
func (r *running) measured(t *testing.T, values string) {
	t.Helper()
	in := cloudwatch.PutMetricDataInput{Namespace: "Bookstore"}
	for text := range strings.SplitSeq(values, ",") {
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			t.Fatal(err)
		}
		in.MetricData = append(in.MetricData, cloudwatch.MetricDatum{
			MetricName: "db-connectivity", Dimensions: []cloudwatch.Dimension{{Name: "Host", Value: "bookstore-api-blue"}}, Value: &value,
		})
	}
	if err := r.Handler.CloudWatch.PutMetricData("us-west-2", in); err != nil {
		t.Fatal(err)
	}
}

// article is the moment of the series' third part: 25 November 2018, in the evening.
func article(minute int, second float64) time.Time {
	return time.Date(2018, 11, 25, 21, minute, 0, int(second*1e9), time.UTC)
}

// connectivityAlarm is the series' alarm, word by word but for its names.
const connectivityAlarm = `aws cloudwatch put-metric-alarm --output json --cli-input-json '{
    "ActionsEnabled": true,
    "AlarmActions": [ "arn:aws:sns:us-west-2:532151327118:PingPublicationsSNS" ],
    "AlarmDescription": "Database connectivity failure for Bookstore API (Blue).",
    "AlarmName": "bookstore-api-blue-db-connectivity-failed",
    "ComparisonOperator": "LessThanThreshold",
    "DatapointsToAlarm": 2,
    "Dimensions": [ { "Name": "Host", "Value": "bookstore-api-blue" } ],
    "EvaluationPeriods": 2,
    "MetricName": "db-connectivity",
    "Namespace": "Bookstore",
    "Period": 60,
    "Statistic": "Average",
    "Threshold": 1.0
}'`

// The third part's attack on the database connection, with its own figures: the alarm must be raised and clear at the very milliseconds that
// the series shows.
func TestSeriesStageThreeDatabaseAlarm(t *testing.T) {
	at := &clock{at: article(14, 0)}
	r := start(t, Options{Now: at.now, Grace: 9620 * time.Millisecond, Directory: t.TempDir()})
	r.must(t, connectivityAlarm)
	averages := []string{"1", "1", "1", "1,0,0,0", "0", "0", "0", "1,1,1,1,0", "1", "1"}
	for i, values := range averages {
		at.set(article(15+i, 58))
		if i == 0 { // as the series' script writes it
			r.must(t, "aws cloudwatch put-metric-data --metric-name db-connectivity --namespace Bookstore --dimensions Host=bookstore-api-blue --value 1")
		} else {
			r.measured(t, values)
		}
		evaluated := article(16+i, 9.62)
		at.set(evaluated)
		if err := r.Handler.CloudWatch.Tick(evaluated); err != nil {
			t.Fatal(err)
		}
	}

	type datapoint struct {
		Timestamp string
		Average   float64
	}
	var points []datapoint
	r.object(t, `aws cloudwatch get-metric-statistics --metric-name db-connectivity --start-time 2018-11-25T21:17:00Z --end-time 2018-11-25T21:24:00Z --period 60 `+
		`--namespace Bookstore --statistics Average --dimensions Name=Host,Value=bookstore-api-blue --query "Datapoints[*].{Timestamp:Timestamp,Average:Average}" --output json`, &points)
	var got []float64
	for _, p := range points {
		got = append(got, p.Average)
	}
	if diff := cmp.Diff([]float64{1, .25, 0, 0, 0, .8, 1}, got); diff != "" {
		t.Error(diff)
	}
	type item struct{ Timestamp, Summary string }
	var history []item
	r.object(t, `aws cloudwatch describe-alarm-history --alarm-name bookstore-api-blue-db-connectivity-failed --history-item-type StateUpdate `+
		`--start-date 2018-11-25T21:17:00Z --end-date 2018-11-25T21:28:00Z --output json --query "AlarmHistoryItems[*].{Timestamp:Timestamp,Summary:HistorySummary}"`, &history)
	want := []item{{"2018-11-25T21:24:09.620000+00:00", "Alarm updated from ALARM to OK"}, {"2018-11-25T21:20:09.620000+00:00", "Alarm updated from OK to ALARM"}}
	if diff := cmp.Diff(want, history); diff != "" {
		t.Error(diff)
	}
	// What the page in the series does not show, and every drill wants to know.
	var data []string
	r.object(t, `aws cloudwatch describe-alarm-history --alarm-name bookstore-api-blue-db-connectivity-failed --history-item-type StateUpdate --max-items 1 --scan-by TimestampDescending `+
		`--start-date 2018-11-25T21:17:00Z --end-date 2018-11-25T21:21:00Z --query "AlarmHistoryItems[*].HistoryData" --output json`, &data)
	if len(data) != 1 || !strings.Contains(data[0], "2 out of the last 2 datapoints [0.0 (25/11/18 21:19:00), 0.25 (25/11/18 21:18:00)] were less than the threshold (1.0)") {
		t.Errorf("history data: %s", data)
	}
}

// stageThree types the failover of blue and green, and returns the IDs of the health check and the zone.
func (r *running) stageThree(t *testing.T) (check, zone string) {
	t.Helper()
	r.must(t, `aws cloudwatch put-metric-alarm --output json --cli-input-json '{
    "ActionsEnabled": true,
    "AlarmActions": [ "arn:aws:sns:us-west-2:532151327118:PingPublicationsSNS" ],
    "AlarmDescription": "Bookstore API (Blue) instance failure.",
    "AlarmName": "bookstore-api-blue-StatusCheckFailed",
    "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    "DatapointsToAlarm": 1,
    "Dimensions": [ { "Name": "InstanceId", "Value": "i-0ab55a49288f1da24" } ],
    "EvaluationPeriods": 1,
    "MetricName": "StatusCheckFailed",
    "Namespace": "AWS/EC2",
    "Period": 60,
    "Statistic": "Maximum",
    "Threshold": 1.0,
    "TreatMissingData": "breaching"
}'`)
	var made struct {
		HealthCheck struct {
			Id                           string
			HealthCheckVersion           int
			CloudWatchAlarmConfiguration map[string]any
		}
		Location string
	}
	r.object(t, `aws route53 create-health-check --caller-reference bookstore-api-blue-health-check --output json --health-check-config '{
    "InsufficientDataHealthStatus": "Unhealthy",
    "Type": "CLOUDWATCH_METRIC",
    "AlarmIdentifier": { "Region": "us-west-2", "Name": "bookstore-api-blue-StatusCheckFailed" },
    "Inverted": false
}'`, &made)
	copied := made.HealthCheck.CloudWatchAlarmConfiguration
	if made.HealthCheck.HealthCheckVersion != 1 || copied["MetricName"] != "StatusCheckFailed" || copied["Threshold"] != 1.0 || !strings.HasSuffix(made.Location, "/2013-04-01/healthcheck/"+made.HealthCheck.Id) {
		t.Errorf("health check: %+v", made)
	}
	r.must(t, "aws route53 create-hosted-zone --name pingpublications.com --caller-reference 303EC092")
	var zones struct {
		HostedZones []struct {
			Id, Name               string
			ResourceRecordSetCount int
		}
	}
	r.object(t, "aws route53 list-hosted-zones --output json", &zones)
	if len(zones.HostedZones) != 1 || zones.HostedZones[0].Name != "pingpublications.com." || zones.HostedZones[0].ResourceRecordSetCount != 2 {
		t.Fatalf("zones: %+v", zones)
	}
	zone = zones.HostedZones[0].Id
	var changed struct {
		ChangeInfo struct{ Status, Id, Comment string }
	}
	r.object(t, `aws route53 change-resource-record-sets --hosted-zone-id `+zone+` --output json --change-batch '{
    "Comment": "Adding bookstore.pingpublications.com failover.",
    "Changes": [
        { "Action": "CREATE", "ResourceRecordSet": {
            "Name": "bookstore.pingpublications.com.", "Type": "A", "SetIdentifier": "bookstore-Primary", "Failover": "PRIMARY", "TTL": 60,
            "ResourceRecords": [ { "Value": "54.213.54.171" } ], "HealthCheckId": "`+made.HealthCheck.Id+`" } },
        { "Action": "CREATE", "ResourceRecordSet": {
            "Name": "bookstore.pingpublications.com.", "Type": "A", "SetIdentifier": "bookstore-Secondary", "Failover": "SECONDARY", "TTL": 60,
            "ResourceRecords": [ { "Value": "52.11.79.9" } ] } }
    ]
}'`, &changed)
	if changed.ChangeInfo.Status != "PENDING" || changed.ChangeInfo.Comment != "Adding bookstore.pingpublications.com failover." {
		t.Errorf("change: %+v", changed)
	}
	r.must(t, "aws route53 wait resource-record-sets-changed --id "+changed.ChangeInfo.Id)
	return made.HealthCheck.Id, zone
}

// The third part's failover: the instance dies, its metric stops, the answer moves to green; when it is back, so does the answer.
func TestSeriesStageThreeInstanceFailover(t *testing.T) {
	at := &clock{at: article(30, 0)}
	r := start(t, Options{Now: at.now, Directory: t.TempDir()})
	beat := func(minute int) {
		at.set(article(minute, 30))
		r.must(t, "aws cloudwatch put-metric-data --metric-name StatusCheckFailed --namespace AWS/EC2 --dimensions InstanceId=i-0ab55a49288f1da24 --value 0")
		at.set(article(minute+1, 2))
	}
	beat(29)
	check, zone := r.stageThree(t)
	var sets struct {
		ResourceRecordSets []struct {
			Name, Type, SetIdentifier, Failover, HealthCheckId string
			TTL                                                int
			ResourceRecords                                    []struct{ Value string }
		}
	}
	r.object(t, "aws route53 list-resource-record-sets --hosted-zone-id "+zone+" --output json", &sets)
	found := sets.ResourceRecordSets[2:]
	if len(found) != 2 || found[0].Failover != "PRIMARY" || found[0].HealthCheckId != check || found[0].TTL != 60 || found[1].ResourceRecords[0].Value != "52.11.79.9" {
		t.Fatalf("record sets: %+v", sets)
	}
	const name = "bookstore.pingpublications.com"
	r.await(t, name, dns.TypeA, "54.213.54.171")

	at.set(article(45, 2)) // nothing was heard for a quarter of an hour
	if err := r.Handler.CloudWatch.Tick(at.now()); err != nil {
		t.Fatal(err)
	}
	r.Handler.Route53.Look()
	r.await(t, name, dns.TypeA, "52.11.79.9")
	var state string
	r.object(t, `aws cloudwatch describe-alarms --alarm-names bookstore-api-blue-StatusCheckFailed --query "MetricAlarms[0].StateValue" --output json`, &state)
	if state != "ALARM" {
		t.Errorf("the alarm is %s", state)
	}
	beat(46)
	r.Handler.Route53.Look()
	r.await(t, name, dns.TypeA, "54.213.54.171")
	// The trap: a check on an alarm copies it and looks at the data by itself, so setting the alarm's state moves nothing.
	r.must(t, `aws cloudwatch set-alarm-state --alarm-name bookstore-api-blue-StatusCheckFailed --state-value ALARM --state-reason "by hand"`)
	r.Handler.Route53.Look()
	r.await(t, name, dns.TypeA, "54.213.54.171")
}

// The second part's failover of the content delivery network: two checks, one that is calculated of both, turned around by hand; and then what the
// series does not try, an origin that dies.
func TestSeriesStageTwoDeliveryNetwork(t *testing.T) {
	var primaryDown atomic.Bool
	serve := func(name string, down *atomic.Bool) *httptest.Server {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/static/status.json" || down != nil && down.Load() {
				http.Error(w, "gone", http.StatusServiceUnavailable)
				return
			}
			fmt.Fprintf(w, `{"online": true, "cdn": %q}`, name)
		}))
		t.Cleanup(server.Close)
		return server
	}
	primary, secondary := serve("primary", &primaryDown), serve("secondary", nil)
	r := start(t, Options{CheckEvery: 50 * time.Millisecond, Directory: t.TempDir()})
	create := func(reference string, server *httptest.Server) (id string) {
		host, port, err := net.SplitHostPort(server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		r.object(t, `aws route53 create-health-check --caller-reference `+reference+` --output json \
--health-check-config '{
    "IPAddress": "`+host+`", "Port": `+port+`,
    "FullyQualifiedDomainName": "dqno94z16p2mg.cloudfront.net",
    "ResourcePath": "/static/status.json",
    "Type": "HTTP"
}' \
--query "HealthCheck.Id"`, &id)
		return id
	}
	cloudfront, s3 := create("BookstoreCloudfront", primary), create("BookstoreS3", secondary)
	var made struct {
		HealthCheck struct {
			Id                string
			HealthCheckConfig struct {
				HealthThreshold   int
				Type              string
				ChildHealthChecks []string
				Inverted          bool
			}
		}
	}
	r.object(t, `aws route53 create-health-check --caller-reference BookstoreCDN --output json --health-check-config '{
    "HealthThreshold": 2,
    "Type": "CALCULATED",
    "ChildHealthChecks": [ "`+s3+`", "`+cloudfront+`" ]
}'`, &made)
	if c := made.HealthCheck.HealthCheckConfig; c.HealthThreshold != 2 || len(c.ChildHealthChecks) != 2 || c.Inverted {
		t.Errorf("calculated check: %+v", made)
	}
	var zone string
	r.object(t, `aws route53 create-hosted-zone --name bookstore.pingpublications.com --caller-reference cdn --query HostedZone.Id`, &zone)
	r.must(t, `aws route53 change-resource-record-sets --hosted-zone-id `+zone+` --change-batch '{"Changes": [
  {"Action": "UPSERT", "ResourceRecordSet": {"Name": "cdn.bookstore.pingpublications.com", "Type": "CNAME", "SetIdentifier": "primary", "Failover": "PRIMARY", "TTL": 5,
    "ResourceRecords": [{"Value": "dqno94z16p2mg.cloudfront.net"}], "HealthCheckId": "`+made.HealthCheck.Id+`"}},
  {"Action": "UPSERT", "ResourceRecordSet": {"Name": "cdn.bookstore.pingpublications.com", "Type": "CNAME", "SetIdentifier": "secondary", "Failover": "SECONDARY", "TTL": 5,
    "ResourceRecords": [{"Value": "cdn.bookstore.pingpublications.com.s3.amazonaws.com"}]}}]}'`)
	const name, first, second = "cdn.bookstore.pingpublications.com", "dqno94z16p2mg.cloudfront.net.", "cdn.bookstore.pingpublications.com.s3.amazonaws.com."
	r.await(t, name, dns.TypeCNAME, first)
	var listed struct {
		HealthChecks []struct{ Id string }
	}
	r.object(t, "aws route53 list-health-checks --output json", &listed)
	if len(listed.HealthChecks) != 3 {
		t.Errorf("%d health checks", len(listed.HealthChecks))
	}
	var version int
	r.object(t, `aws route53 update-health-check --output json --health-check-id `+made.HealthCheck.Id+` --inverted --query HealthCheck.HealthCheckVersion`, &version)
	if version != 2 {
		t.Errorf("version %d after the first update", version)
	}
	r.await(t, name, dns.TypeCNAME, second)
	r.must(t, `aws route53 update-health-check --output json --health-check-id `+made.HealthCheck.Id+` --no-inverted`)
	r.await(t, name, dns.TypeCNAME, first)

	primaryDown.Store(true)
	r.await(t, name, dns.TypeCNAME, second)
	var reports []string
	r.object(t, `aws route53 get-health-check-status --health-check-id `+cloudfront+` --query "HealthCheckObservations[*].StatusReport.Status"`, &reports)
	if len(reports) != 3 || !strings.Contains(reports[0], "Failure: HTTP Status Code 503") {
		t.Errorf("reports: %q", reports)
	}
	primaryDown.Store(false)
	r.await(t, name, dns.TypeCNAME, first)
	// The trap that the linter names: the death of the secondary sends everybody there.
	secondary.Close()
	r.await(t, name, dns.TypeCNAME, second)
}

func TestCommandLineShowsFaultsAsAWSSaysThem(t *testing.T) {
	r := start(t, Options{})
	for line, want := range map[string]string{
		`aws cloudwatch set-alarm-state --alarm-name none --state-value OK --state-reason x`:                                                                                                        "An error occurred (ResourceNotFound) when calling the SetAlarmState operation",
		`aws cloudwatch put-metric-alarm --alarm-name a --namespace B --metric-name m --statistic Average --period 15 --threshold 1 --evaluation-periods 1 --comparison-operator LessThanThreshold`: "An error occurred (ValidationError) when calling the PutMetricAlarm operation",
		`aws route53 create-health-check --caller-reference x --health-check-config Type=HTTP`:                                                                                                      "An error occurred (InvalidInput) when calling the CreateHealthCheck operation",
		`AWS_SECRET_ACCESS_KEY=wrong AWS_ACCESS_KEY_ID=` + testKey + ` aws cloudwatch describe-alarms`:                                                                                              "An error occurred (SignatureDoesNotMatch) when calling the DescribeAlarms operation",
		`AWS_SECRET_ACCESS_KEY=wrong AWS_ACCESS_KEY_ID=AKIDNOBODY aws route53 list-hosted-zones`:                                                                                                    "An error occurred (InvalidClientTokenId) when calling the ListHostedZones operation",
	} {
		if _, err := r.shell(t, line); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", line, err, want)
		}
	}
}

// A metric script as the series' readers write them in Python, unchanged but for where it is told to go.
func TestMetricScriptInPython(t *testing.T) {
	r := start(t, Options{})
	if _, err := os.Stat("/usr/lib/python3/dist-packages/boto3"); err != nil && !strings.Contains(os.Getenv("FIREDRILL_REQUIRE"), "awscli") {
		t.Skip("needs Debian's python3-boto3")
	}
	text, err := r.shell(t, `/usr/bin/python3 - <<'END'
import os, boto3
cloudwatch = boto3.client('cloudwatch', endpoint_url=os.environ.get('AWS_ENDPOINT_URL_CLOUDWATCH'))
cloudwatch.put_metric_data(
    Namespace='Bookstore',
    MetricData=[{'MetricName': 'db-connectivity', 'Dimensions': [{'Name': 'Host', 'Value': 'bookstore-api-blue'}], 'Value': 1}])
print(cloudwatch.list_metrics(Namespace='Bookstore')['Metrics'])
END`, "AWS_ENDPOINT_URL_CLOUDWATCH="+r.url)
	if want := "[{'Namespace': 'Bookstore', 'MetricName': 'db-connectivity', 'Dimensions': [{'Name': 'Host', 'Value': 'bookstore-api-blue'}]}]\n"; err != nil || text != want {
		t.Errorf("printed %s (%v); want %s", text, err, want)
	}
}
