package awsapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	cwtypes "github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/miekg/dns"
)

// sdk is the configuration of the real client.
func (r *running) sdk() aws.Config {
	return aws.Config{
		Region: "us-west-2", BaseEndpoint: &r.url, Credentials: credentials.NewStaticCredentialsProvider(testKey, testSecret, ""),
		Retryer: func() aws.Retryer { return aws.NopRetryer{} },
	}
}

// The Go client speaks CBOR, and reads back what it wrote.
func TestGoClientMeasuresAndAlarms(t *testing.T) {
	at := &clock{at: article(20, 2)}
	r := start(t, Options{Now: at.now})
	client := cloudwatch.NewFromConfig(r.sdk())
	dimensions := []cwtypes.Dimension{{Name: aws.String("Host"), Value: aws.String("blue")}}
	var data []cwtypes.MetricDatum
	for i := range 300 { // enough for the client to compress it
		data = append(data, cwtypes.MetricDatum{
			MetricName: aws.String("m"), Dimensions: dimensions, Value: aws.Float64(float64(i % 3)), Timestamp: aws.Time(article(19, float64(i%60))), Unit: cwtypes.StandardUnitSeconds,
		})
	}
	data = append(data, cwtypes.MetricDatum{
		MetricName: aws.String("m"), Dimensions: dimensions, Timestamp: aws.Time(article(18, 0)), Values: []float64{1.5, 2}, Counts: []float64{4, 1},
	})
	if _, err := client.PutMetricData(t.Context(), &cloudwatch.PutMetricDataInput{Namespace: aws.String("N"), MetricData: data}); err != nil {
		t.Fatal(err)
	}
	got, err := client.GetMetricStatistics(t.Context(), &cloudwatch.GetMetricStatisticsInput{
		Namespace: aws.String("N"), MetricName: aws.String("m"), Dimensions: dimensions, Period: aws.Int32(60), StartTime: aws.Time(article(17, 0)), EndTime: aws.Time(article(25, 0)),
		Statistics: []cwtypes.Statistic{cwtypes.StatisticAverage, cwtypes.StatisticSampleCount, cwtypes.StatisticMaximum},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []cwtypes.Datapoint{
		{Timestamp: aws.Time(article(18, 0)), Average: aws.Float64(1.6), SampleCount: aws.Float64(5), Maximum: aws.Float64(2), Unit: cwtypes.StandardUnitNone},
		{Timestamp: aws.Time(article(19, 0)), Average: aws.Float64(1), SampleCount: aws.Float64(300), Maximum: aws.Float64(2), Unit: cwtypes.StandardUnitSeconds},
	}
	if diff := cmp.Diff(want, got.Datapoints, cmpopts.IgnoreUnexported(cwtypes.Datapoint{}), cmpopts.EquateApprox(0, 1e-9)); diff != "" {
		t.Error(diff)
	}
	if _, err := client.PutMetricAlarm(t.Context(), &cloudwatch.PutMetricAlarmInput{
		AlarmName: aws.String("slow"), Namespace: aws.String("N"), MetricName: aws.String("m"), Dimensions: dimensions, Period: aws.Int32(60), Statistic: cwtypes.StatisticMaximum,
		EvaluationPeriods: aws.Int32(2), DatapointsToAlarm: aws.Int32(1), Threshold: aws.Float64(1.9), ComparisonOperator: cwtypes.ComparisonOperatorGreaterThanThreshold,
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := client.PutCompositeAlarm(t.Context(), &cloudwatch.PutCompositeAlarmInput{AlarmName: aws.String("any"), AlarmRule: aws.String(`ALARM("slow")`)}); err != nil {
		t.Fatal(err)
	}
	alarms, err := client.DescribeAlarms(t.Context(), &cloudwatch.DescribeAlarmsInput{AlarmTypes: []cwtypes.AlarmType{cwtypes.AlarmTypeMetricAlarm, cwtypes.AlarmTypeCompositeAlarm}})
	if err != nil {
		t.Fatal(err)
	}
	if len(alarms.MetricAlarms) != 1 || len(alarms.CompositeAlarms) != 1 || alarms.MetricAlarms[0].StateValue != cwtypes.StateValueAlarm || alarms.CompositeAlarms[0].StateValue != cwtypes.StateValueAlarm {
		t.Errorf("alarms: %+v", alarms)
	}
	if when := alarms.MetricAlarms[0].StateTransitionedTimestamp; when == nil || !when.Equal(article(20, 2)) {
		t.Errorf("it moved at %v; want %v", when, article(20, 2))
	}
	var missing *cwtypes.ResourceNotFound
	_, err = client.DeleteAlarms(t.Context(), &cloudwatch.DeleteAlarmsInput{AlarmNames: []string{"any", "none"}})
	if !errors.As(err, &missing) {
		t.Errorf("deleting what is not there: %v", err)
	}
	_, err = client.PutMetricData(t.Context(), &cloudwatch.PutMetricDataInput{Namespace: aws.String("N"), MetricData: []cwtypes.MetricDatum{{MetricName: aws.String("m"), Value: aws.Float64(math.NaN())}}})
	var wrong *cwtypes.InvalidParameterValueException
	if !errors.As(err, &wrong) {
		t.Errorf("a value that is no number: %v", err)
	}
}

func TestGoClientChangesRecords(t *testing.T) {
	r := start(t, Options{Directory: t.TempDir()})
	client := route53.NewFromConfig(r.sdk())
	made, err := client.CreateHostedZone(t.Context(), &route53.CreateHostedZoneInput{Name: aws.String("example.test"), CallerReference: aws.String("1")})
	if err != nil {
		t.Fatal(err)
	}
	set := func(name string, kind types.RRType, values ...string) *types.ResourceRecordSet {
		set := &types.ResourceRecordSet{Name: &name, Type: kind, TTL: aws.Int64(5)}
		for _, value := range values {
			set.ResourceRecords = append(set.ResourceRecords, types.ResourceRecord{Value: aws.String(value)})
		}
		return set
	}
	change := func(changes ...types.Change) error {
		_, err := client.ChangeResourceRecordSets(t.Context(), &route53.ChangeResourceRecordSetsInput{
			HostedZoneId: made.HostedZone.Id, ChangeBatch: &types.ChangeBatch{Changes: changes},
		})
		return err
	}
	create, remove := types.ChangeActionCreate, types.ChangeActionDelete
	if err := change(
		types.Change{Action: create, ResourceRecordSet: set("www.example.test", types.RRTypeA, "10.0.0.1", "10.0.0.2")},
		types.Change{Action: create, ResourceRecordSet: set("*.wild.example.test", types.RRTypeTxt, `"a;b" "c"`)},
		types.Change{Action: create, ResourceRecordSet: set("_sip._tcp.example.test", types.RRTypeSrv, "10 5 5060 www.example.test.")},
		types.Change{Action: create, ResourceRecordSet: &types.ResourceRecordSet{Name: aws.String("example.test"), Type: types.RRTypeA, AliasTarget: &types.AliasTarget{
			DNSName: aws.String("www.example.test"), HostedZoneId: made.HostedZone.Id, EvaluateTargetHealth: true,
		}}},
	); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name string
		kind uint16
		want []string
	}{
		{"www.example.test", dns.TypeA, []string{"10.0.0.1", "10.0.0.2"}}, {"example.test", dns.TypeA, []string{"10.0.0.1", "10.0.0.2"}},
		{"any.wild.example.test", dns.TypeTXT, []string{`"a;b" "c"`}}, {"_sip._tcp.example.test", dns.TypeSRV, []string{"10 5 5060 www.example.test."}},
	} {
		r.await(t, row.name, row.kind, row.want...)
	}
	if _, err := r.leads(t.Context(), "absent.example.test", dns.TypeA); err == nil || !strings.Contains(err.Error(), "NXDOMAIN") {
		t.Errorf("a name that is not there: %v", err)
	}
	// Of a batch in which one change cannot be made, none is.
	var refused *types.InvalidChangeBatch
	err = change(
		types.Change{Action: remove, ResourceRecordSet: set("www.example.test", types.RRTypeA, "10.0.0.2", "10.0.0.1")},
		types.Change{Action: remove, ResourceRecordSet: set("_sip._tcp.example.test", types.RRTypeSrv, "10 5 5061 www.example.test.")},
	)
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "values provided do not match") {
		t.Errorf("a record that has changed meanwhile: %v", err)
	}
	r.await(t, "www.example.test", dns.TypeA, "10.0.0.1", "10.0.0.2")
	tested, err := client.TestDNSAnswer(t.Context(), &route53.TestDNSAnswerInput{HostedZoneId: made.HostedZone.Id, RecordName: aws.String("example.test"), RecordType: types.RRTypeA})
	if err != nil || len(tested.RecordData) != 2 || *tested.ResponseCode != "NOERROR" {
		t.Errorf("test answer: %+v, %v", tested, err)
	}
	var none *types.NoSuchHostedZone
	if _, err := client.GetHostedZone(t.Context(), &route53.GetHostedZoneInput{Id: aws.String("ZNONE")}); !errors.As(err, &none) {
		t.Errorf("a zone that is not there: %v", err)
	}
}

func TestEverythingOutlivesARestart(t *testing.T) {
	directory := t.TempDir()
	at := &clock{at: article(30, 0)}
	r := start(t, Options{Now: at.now, Directory: directory})
	client := cloudwatch.NewFromConfig(r.sdk())
	for i := range 3 {
		if _, err := client.PutMetricData(t.Context(), &cloudwatch.PutMetricDataInput{Namespace: aws.String("N"), MetricData: []cwtypes.MetricDatum{
			{MetricName: aws.String("m"), Value: aws.Float64(float64(i)), StorageResolution: aws.Int32(1), Timestamp: aws.Time(article(29, float64(10*i)))},
		}}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.PutMetricAlarm(t.Context(), &cloudwatch.PutMetricAlarmInput{
		AlarmName: aws.String("a"), Namespace: aws.String("N"), MetricName: aws.String("m"), Period: aws.Int32(10), Statistic: cwtypes.StatisticAverage,
		EvaluationPeriods: aws.Int32(1), Threshold: aws.Float64(1), ComparisonOperator: cwtypes.ComparisonOperatorGreaterThanThreshold,
	}); err != nil {
		t.Fatal(err)
	}
	names := route53.NewFromConfig(r.sdk())
	check, err := names.CreateHealthCheck(t.Context(), &route53.CreateHealthCheckInput{CallerReference: aws.String("c"), HealthCheckConfig: &types.HealthCheckConfig{
		Type: types.HealthCheckTypeCalculated, HealthThreshold: aws.Int32(0),
	}})
	if err != nil {
		t.Fatal(err)
	}
	before := r.facts(t)
	r.stop()
	again := start(t, Options{Now: at.now, Directory: directory})
	if diff := cmp.Diff(before, again.facts(t)); diff != "" || !strings.Contains(before, *check.HealthCheck.Id) {
		t.Errorf("%s\n%s", before, diff)
	}
}

// facts is all that the endpoint tells of itself.
func (r *running) facts(t *testing.T) string {
	t.Helper()
	client, names := cloudwatch.NewFromConfig(r.sdk()), route53.NewFromConfig(r.sdk())
	alarms, err := client.DescribeAlarms(t.Context(), &cloudwatch.DescribeAlarmsInput{})
	if err != nil {
		t.Fatal(err)
	}
	history, err := client.DescribeAlarmHistory(t.Context(), &cloudwatch.DescribeAlarmHistoryInput{})
	if err != nil {
		t.Fatal(err)
	}
	points, err := client.GetMetricStatistics(t.Context(), &cloudwatch.GetMetricStatisticsInput{
		Namespace: aws.String("N"), MetricName: aws.String("m"), Period: aws.Int32(10), StartTime: aws.Time(article(29, 0)), EndTime: aws.Time(article(31, 0)),
		Statistics: []cwtypes.Statistic{cwtypes.StatisticSum},
	})
	if err != nil {
		t.Fatal(err)
	}
	checks, err := names.ListHealthChecks(t.Context(), &route53.ListHealthChecksInput{})
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent([]any{alarms.MetricAlarms, history.AlarmHistoryItems, points.Datapoints, checks.HealthChecks}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if len(points.Datapoints) != 3 || len(alarms.MetricAlarms) != 1 || len(history.AlarmHistoryItems) == 0 {
		t.Errorf("facts: %s", text)
	}
	return string(text)
}

func sha256Of(body string) string {
	sum := sha256.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

// signed sends a request that is signed by the real signer, after something was done to it.
func (r *running) signed(t *testing.T, at time.Time, secret string, change func(*http.Request)) (int, string) {
	t.Helper()
	body := "Action=DescribeAlarms&Version=2010-08-01"
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/?b=2&a=%20x", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("X-Amz-Meta-Of", "firedrill   test")
	err = v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: secret}, request, sha256Of(body), "monitoring", "us-west-2", at)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(request)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// Each way to break a signature is planted here; the request as it was signed must pass.
func TestBrokenSignaturesAreRefused(t *testing.T) {
	r := start(t, Options{})
	replace := func(body string) func(*http.Request) {
		return func(request *http.Request) {
			request.Body, request.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			request.GetBody = nil
		}
	}
	now := time.Now()
	for name, row := range map[string]struct {
		at     time.Time
		secret string
		change func(*http.Request)
		status int
		want   string
	}{
		"as it is":          {now, testSecret, nil, 200, "DescribeAlarmsResult"},
		"a little late":     {now.Add(-14 * time.Minute), testSecret, nil, 200, "DescribeAlarmsResult"},
		"another secret":    {now, "other", nil, 403, "SignatureDoesNotMatch"},
		"too late":          {now.Add(-16 * time.Minute), testSecret, nil, 403, "Signature expired"},
		"too early":         {now.Add(16 * time.Minute), testSecret, nil, 403, "Signature not yet current"},
		"another body":      {now, testSecret, replace("Action=DescribeAlarms&Version=2010-08-02"), 403, "SignatureDoesNotMatch"},
		"another query":     {now, testSecret, func(q *http.Request) { q.URL.RawQuery = "b=2&a=y" }, 403, "SignatureDoesNotMatch"},
		"another path":      {now, testSecret, func(q *http.Request) { q.URL.Path = "/x" }, 403, "SignatureDoesNotMatch"},
		"another method":    {now, testSecret, func(q *http.Request) { q.Method = http.MethodPut }, 403, "SignatureDoesNotMatch"},
		"another host":      {now, testSecret, func(q *http.Request) { q.Host = "elsewhere" }, 403, "SignatureDoesNotMatch"},
		"another header":    {now, testSecret, func(q *http.Request) { q.Header.Set("X-Amz-Meta-Of", "x") }, 403, "SignatureDoesNotMatch"},
		"a header more":     {now, testSecret, func(q *http.Request) { q.Header.Set("X-Amz-Target", "GraniteServiceVersion20100801.DeleteAlarms") }, 403, "must be a 'SignedHeader'"},
		"the date moved on": {now.Add(-time.Hour), testSecret, func(q *http.Request) { q.Header.Set("X-Amz-Date", now.UTC().Format("20060102T150405Z")) }, 403, "SignatureDoesNotMatch"},
		"nobody's key": {now, testSecret, func(q *http.Request) {
			q.Header.Set("Authorization", strings.Replace(q.Header.Get("Authorization"), testKey, "AKIDNOBODY", 1))
		}, 403, "InvalidClientTokenId"},
		"another service": {now, testSecret, func(q *http.Request) {
			q.Header.Set("Authorization", strings.Replace(q.Header.Get("Authorization"), "monitoring", "route53", 1))
		}, 403, "SignatureDoesNotMatch"},
		"no signature":         {now, testSecret, func(q *http.Request) { q.Header.Del("Authorization") }, 403, "MissingAuthenticationToken"},
		"half a signature":     {now, testSecret, func(q *http.Request) { q.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x") }, 400, "IncompleteSignature"},
		"a token with the key": {now, testSecret, func(q *http.Request) { q.Header.Set("X-Amz-Security-Token", "x") }, 403, "InvalidClientTokenId"},
	} {
		status, text := r.signed(t, row.at, row.secret, row.change)
		if status != row.status || !strings.Contains(text, row.want) {
			t.Errorf("%s: %d %s; want %d with %s", name, status, text, row.status, row.want)
		}
	}
}

// boto3's newer versions speak JSON; what they send is written here as they do.
func TestJSONProtocol(t *testing.T) {
	r := start(t, Options{})
	call := func(operation, body string) (int, string, http.Header) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, r.url+"/", bytes.NewReader([]byte(body)))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/x-amz-json-1.0")
		request.Header.Set("X-Amz-Target", "GraniteServiceVersion20100801."+operation)
		if err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: testKey, SecretAccessKey: testSecret}, request, sha256Of(body), "monitoring", "us-west-2", time.Now()); err != nil {
			t.Fatal(err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(text), response.Header
	}
	if status, text, _ := call("PutMetricData", `{"Namespace":"N","MetricData":[{"MetricName":"m","Value":1,"Timestamp":`+strconv.FormatInt(time.Now().Unix(), 10)+`}]}`); status != 200 {
		t.Errorf("%d %s", status, text)
	}
	if status, text, _ := call("ListMetrics", `{}`); status != 200 || !strings.Contains(text, `"MetricName":"m"`) {
		t.Errorf("%d %s", status, text)
	}
	status, text, header := call("SetAlarmState", `{"AlarmName":"x","StateValue":"OK","StateReason":"r"}`)
	if status != 404 || !strings.Contains(text, `"__type":"com.amazonaws.cloudwatch#ResourceNotFound"`) || header.Get("X-Amzn-Query-Error") != "ResourceNotFound;Sender" {
		t.Errorf("%d %s %v", status, text, header)
	}
}
