package source_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"firedrill/internal/awsapi"
	"firedrill/internal/drill"
	"firedrill/internal/source"
	"firedrill/internal/source/sourcetest"
)

// cloudWatchWorld is our endpoint, which can fall silent, with an alarm and a composite one on it.
type cloudWatchWorld struct {
	t         *testing.T
	client    *cloudwatch.Client
	aws       drill.AWS
	directory string
	silent    atomic.Bool
}

func newCloudWatchWorld(t *testing.T) *cloudWatchWorld {
	t.Helper()
	endpoint, err := awsapi.Open(awsapi.Options{DNSListen: "127.0.0.1:0", Keys: map[string]string{"AKIDTEST": "secret"}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	if err := endpoint.Start(ctx); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := endpoint.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	w := &cloudWatchWorld{t: t, directory: t.TempDir()}
	server := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, in *http.Request) {
		if w.silent.Load() {
			<-ctx.Done()
			return
		}
		endpoint.Handler.ServeHTTP(out, in)
	}))
	t.Cleanup(func() { stop(); server.CloseClientConnections(); server.Close(); running.Wait() })
	if err := os.WriteFile(filepath.Join(w.directory, "keys"), []byte("[default]\naws_access_key_id = AKIDTEST\naws_secret_access_key = secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.aws = drill.AWS{Region: "us-west-2", Endpoint: server.URL, CredentialsFile: "keys"}
	w.client = cloudwatch.NewFromConfig(aws.Config{Region: "us-west-2", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("AKIDTEST", "secret", "")})
	_, err = w.client.PutMetricAlarm(ctx, &cloudwatch.PutMetricAlarmInput{
		AlarmName: aws.String("blue-down"), Namespace: aws.String("N"), MetricName: aws.String("m"), Statistic: types.StatisticAverage, Period: aws.Int32(60), EvaluationPeriods: aws.Int32(1),
		Threshold: aws.Float64(1), ComparisonOperator: types.ComparisonOperatorLessThanThreshold, TreatMissingData: aws.String("ignore"),
	})
	if err == nil {
		_, err = w.client.PutCompositeAlarm(ctx, &cloudwatch.PutCompositeAlarmInput{AlarmName: aws.String("any-down"), AlarmRule: aws.String(`ALARM("blue-down")`)})
	}
	if err != nil {
		t.Fatal(err)
	}
	w.set(types.StateValueOk)
	return w
}

// set puts the alarm into a state in which it stays: it has no data, and ignores that.
func (w *cloudWatchWorld) set(state types.StateValue) {
	w.t.Helper()
	if _, err := w.client.SetAlarmState(w.t.Context(), &cloudwatch.SetAlarmStateInput{AlarmName: aws.String("blue-down"), StateValue: state, StateReason: aws.String("because of the test")}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *cloudWatchWorld) open(alarm string) source.Source {
	w.t.Helper()
	opened, err := source.Open(alarm, drill.AlarmSource{CloudWatch: alarm, AWS: w.aws}, w.directory)
	if err != nil {
		w.t.Fatal(err)
	}
	return opened
}

func TestCloudWatchKeepsTheContract(t *testing.T) {
	for _, alarm := range []string{"blue-down", "any-down"} {
		t.Run(alarm, func(t *testing.T) {
			w := newCloudWatchWorld(t)
			sourcetest.Run(t, sourcetest.System{
				Source: w.open(alarm), Absent: w.open("absent"), Within: 10 * time.Second, Look: 300 * time.Millisecond,
				Raise:   func() error { w.set(types.StateValueAlarm); return nil },
				Clear:   func() error { w.set(types.StateValueOk); return nil },
				Silence: func() error { w.silent.Store(true); return nil },
			})
		})
	}
}

func TestCloudWatchSaysWhatItDoesNotKnow(t *testing.T) {
	w := newCloudWatchWorld(t)
	w.set(types.StateValueInsufficientData)
	reading, err := w.open("blue-down").Look(t.Context())
	if err != nil || !reading.Unknown || reading.Raised {
		t.Errorf("INSUFFICIENT_DATA: %+v, %v", reading, err)
	}
	w.set(types.StateValueAlarm)
	reading, err = w.open("blue-down").Look(t.Context())
	if err != nil || !strings.Contains(string(reading.Data), `"alarmName":"blue-down","state":{"value":"ALARM","reason":"because of the test"`) {
		t.Errorf("%s, %v", reading.Data, err)
	}
	if _, err := w.open("absent").Look(t.Context()); drill.KindOf(err) != drill.Invalid || drill.HintOf(err) == "" {
		t.Errorf("an alarm that is not there: %v", err)
	}
	if err := os.WriteFile(filepath.Join(w.directory, "keys"), []byte("[default]\naws_access_key_id = AKIDTEST\naws_secret_access_key = other\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := w.open("blue-down").Look(t.Context()); drill.KindOf(err) != drill.Refused {
		t.Errorf("another secret: %v", err)
	}
	if _, err := source.Open("x", drill.AlarmSource{CloudWatch: "x", AWS: drill.AWS{CredentialsFile: "absent"}}, w.directory); drill.KindOf(err) != drill.Invalid {
		t.Errorf("credentials that are not there: %v", err)
	}
}
