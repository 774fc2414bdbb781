package watch

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/slim/otlp/collector/metrics/v1"
	common "go.opentelemetry.io/proto/slim/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/slim/otlp/metrics/v1"
	resource "go.opentelemetry.io/proto/slim/otlp/resource/v1"
	"google.golang.org/protobuf/proto"
)

func attribute(key, value string) *common.KeyValue {
	return &common.KeyValue{Key: key, Value: &common.AnyValue{Value: &common.AnyValue_StringValue{StringValue: value}}}
}

// exported is a request as OpenTelemetry's own code writes it, with much that is not read here.
func exported(t testing.TB) []byte {
	t.Helper()
	point := func(at time.Time, attributes ...*common.KeyValue) *metrics.NumberDataPoint {
		made := &metrics.NumberDataPoint{StartTimeUnixNano: 7, Attributes: attributes, Flags: 1, Exemplars: []*metrics.Exemplar{{TimeUnixNano: 3}}}
		if !at.IsZero() {
			made.TimeUnixNano = uint64(at.UnixNano()) //nolint:gosec // after 1970
		}
		return made
	}
	double := func(p *metrics.NumberDataPoint, value float64) *metrics.NumberDataPoint {
		p.Value = &metrics.NumberDataPoint_AsDouble{AsDouble: value}
		return p
	}
	whole := func(p *metrics.NumberDataPoint, value int64) *metrics.NumberDataPoint {
		p.Value = &metrics.NumberDataPoint_AsInt{AsInt: value}
		return p
	}
	text, err := proto.Marshal(&collector.ExportMetricsServiceRequest{ResourceMetrics: []*metrics.ResourceMetrics{{
		SchemaUrl: "https://opentelemetry.io", Resource: &resource.Resource{DroppedAttributesCount: 2, Attributes: []*common.KeyValue{attribute("service.name", "app"), attribute("host.name", "blue")}},
		ScopeMetrics: []*metrics.ScopeMetrics{{
			Scope: &common.InstrumentationScope{Name: "meter", Version: "1"},
			Metrics: []*metrics.Metric{
				{Name: "queue", Unit: "1", Description: "waiting", Data: &metrics.Metric_Gauge{Gauge: &metrics.Gauge{DataPoints: []*metrics.NumberDataPoint{
					double(point(time.Unix(1700000000, 5)), 1.5), whole(point(time.Time{}, attribute("host", "green")), -9),
				}}}},
				{Name: "hits", Data: &metrics.Metric_Sum{Sum: &metrics.Sum{IsMonotonic: true, AggregationTemporality: 2, DataPoints: []*metrics.NumberDataPoint{whole(point(time.Unix(1700000001, 0)), 1<<62)}}}},
				{Name: "took", Data: &metrics.Metric_Histogram{Histogram: &metrics.Histogram{DataPoints: []*metrics.HistogramDataPoint{{Count: 3, BucketCounts: []uint64{1, 2}, ExplicitBounds: []float64{5}}}}}},
				{Name: "nothing", Data: &metrics.Metric_Gauge{Gauge: &metrics.Gauge{DataPoints: []*metrics.NumberDataPoint{point(time.Unix(1, 0))}}}},
			},
		}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func packed(text []byte) []byte {
	var b bytes.Buffer
	writer := gzip.NewWriter(&b)
	_, _ = writer.Write(text) // into memory
	_ = writer.Close()
	return b.Bytes()
}

func TestOTLPIsReadAsExportersWriteIt(t *testing.T) {
	const want = "queue@blue 1.5 1700000000000000005, queue@green -9 now, hits@blue 4.611686018427388e+18 1700000001000000000"
	inJSON := []byte(`{"resourceMetrics":[{"resource":{"attributes":[{"key":"host.name","value":{"stringValue":"blue"}}]},"scopeMetrics":[{"metrics":[
		{"name":"queue","gauge":{"dataPoints":[{"asDouble":1.5,"timeUnixNano":"1700000000000000005"},{"asInt":"-9","attributes":[{"key":"host","value":{"stringValue":"green"}}]}]}},
		{"name":"hits","sum":{"dataPoints":[{"asInt":"4611686018427387904","timeUnixNano":"1700000001000000000"}]}}]}]}]}`)
	now := time.Unix(1800000000, 0)
	for name, row := range map[string]struct {
		kind, encoding string
		body           []byte
	}{
		"protobuf": {otlpProtobuf, "", exported(t)}, "protobuf, packed": {otlpProtobuf, "gzip", packed(exported(t))},
		"JSON": {otlpJSON, "", inJSON}, "JSON, packed": {otlpJSON + "; charset=utf-8", "gzip", packed(inJSON)},
	} {
		request := httptest.NewRequest(http.MethodPost, "/v1/metrics", bytes.NewReader(row.body))
		request.Header.Set("Content-Type", row.kind)
		request.Header.Set("Content-Encoding", row.encoding)
		body, _, err := readOTLP(httptest.NewRecorder(), request)
		var got []string
		for _, one := range body.values("sender", now) {
			at := fmt.Sprint(one.at.UnixNano())
			if one.at.Equal(now) {
				at = "now"
			}
			got = append(got, fmt.Sprintf("%s@%s %g %s", one.name, one.host, one.value, at))
		}
		if err != nil || strings.Join(got, ", ") != want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
}

func TestOTLPThatCannotBeReadIsRefused(t *testing.T) {
	whole := exported(t)
	bomb := packed(bytes.Repeat([]byte{' '}, otlpMax+1))
	for name, row := range map[string]struct {
		encoding string
		body     []byte
	}{"cut short": {"", whole[:len(whole)-5]}, "nonsense": {"", []byte("nonsense")}, "not packed": {"gzip", whole}, "packed too large": {"gzip", bomb}} {
		request := httptest.NewRequest(http.MethodPost, "/v1/metrics", bytes.NewReader(row.body))
		request.Header.Set("Content-Type", otlpProtobuf)
		request.Header.Set("Content-Encoding", row.encoding)
		if body, _, err := readOTLP(httptest.NewRecorder(), request); err == nil {
			t.Errorf("%s is taken for %+v", name, body)
		}
	}
}

// What a stranger sends never panics, and gives numbers only.
func FuzzOTLP(f *testing.F) {
	f.Add(exported(f))
	f.Fuzz(func(t *testing.T, text []byte) {
		body, err := parseOTLP(text)
		if err != nil {
			return
		}
		if _, err := json.Marshal(body.ResourceMetrics); err != nil {
			t.Error(err)
		}
	})
}
