package watch

import (
	"bytes"
	"compress/gzip"
	"math"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func finite(t *testing.T, values []received) {
	t.Helper()
	for _, v := range values {
		if math.IsNaN(v.value) || math.IsInf(v.value, 0) || !(v.weight >= 1) || math.IsInf(v.weight, 0) {
			t.Errorf("%+v would spoil every average", v)
		}
	}
}

// Whoever can reach the port can send anything: it never panics, gives finite numbers only, and fills no memory.
func FuzzStatsD(f *testing.F) {
	for _, line := range []string{
		"checkout.seconds:1.5|ms|@0.1|#host:blue", "requests:1|c", "requests:3|c|@0.5", "queue:+4|g", "queue:-1e308|g", "a:1:2:3|h", "a:NaN|g", "a:Inf|c", "a:1|c|@1e-320", ":1|c", "a:|g", "a:1|x", "a:1", "a:1|g|#,,host:",
	} {
		f.Add(line, "10.0.0.1")
	}
	f.Fuzz(func(t *testing.T, packet, sender string) {
		gauges := map[receivedAs]float64{}
		for range 3 { // a gauge moves each time
			for line := range strings.Lines(packet) {
				values, err := parseStatsD(strings.TrimSpace(line), sender, gauges)
				if err == nil {
					finite(t, values)
				}
			}
		}
		if len(gauges) > gaugesMax {
			t.Errorf("%d gauges are remembered", len(gauges))
		}
	})
}

func TestStatsDRemembersNoMoreGaugesThanItMay(t *testing.T) {
	gauges := map[receivedAs]float64{}
	for i := range gaugesMax + 10 {
		_, err := parseStatsD("g"+strings.Repeat("x", i%7)+time.Duration(i).String()+":1|g", "", gauges)
		if (err == nil) != (i < gaugesMax) {
			t.Fatalf("gauge %d: %v", i, err)
		}
	}
	if _, err := parseStatsD("g0s:+1|g", "", gauges); err != nil {
		t.Errorf("one that is known: %v", err)
	}
}

// The same for a request of OTLP in each of its ways: what is read of it are finite numbers with times.
func FuzzOTLPRequest(f *testing.F) {
	protobuf := exported(f)
	const text = `{"resourceMetrics":[{"resource":{"attributes":[{"key":"host.name","value":{"stringValue":"blue"}}]},"scopeMetrics":[{"metrics":[{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":"1","asDouble":1.5},{"asInt":"7"},{"asInt":"1e400"}]}}]}]}]}`
	var packed bytes.Buffer
	packer := gzip.NewWriter(&packed)
	_, _ = packer.Write([]byte(text))
	_ = packer.Close()
	f.Add([]byte(text), true, false)
	f.Add(protobuf, false, false)
	f.Add(packed.Bytes(), true, true)
	f.Fuzz(func(t *testing.T, body []byte, asJSON, asGzip bool) {
		request := httptest.NewRequest("POST", "/v1/metrics", bytes.NewReader(body))
		request.Header.Set("Content-Type", otlpProtobuf)
		if asJSON {
			request.Header.Set("Content-Type", otlpJSON)
		}
		if asGzip {
			request.Header.Set("Content-Encoding", "gzip")
		}
		read, kind, err := readOTLP(httptest.NewRecorder(), request)
		if kind == "" {
			t.Error("its kind is not known")
		}
		if err == nil {
			finite(t, read.values("10.0.0.1", time.Unix(1, 0)))
		}
	})
}
