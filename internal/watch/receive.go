package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// received is one value that somebody has sent.
type received struct {
	protocol, name string // statsd or otlp, and the name that the sender gives
	host           string // by name or address; "" when the sender does not say and is no host of ours
	value, weight  float64
	at             time.Time
}

const (
	packetMax = 64 << 10 // of UDP
	otlpMax   = 4 << 20  // of one request: some ten thousand values
	// gaugesMax bounds the gauges that can be moved by so much: anybody may send names, and each is remembered.
	gaugesMax = 10_000
)

// receive takes a value in, for the alarms of its host and for those of the service as a whole.
func (c *core) receive(now time.Time, r received) {
	host := ""
	for _, h := range c.hosts {
		if r.host == h.host.Name || r.host == h.host.Address.String() {
			host = h.host.Name
		}
	}
	for _, metric := range c.receives[receivedAs{r.protocol, r.name}] {
		for _, a := range c.fed[fedBy{metric, ""}] {
			a.series.AddWeighted(now, r.at, r.value, r.weight)
		}
		if host == "" {
			continue
		}
		for _, a := range c.fed[fedBy{metric, host}] {
			a.series.AddWeighted(now, r.at, r.value, r.weight)
		}
	}
}

type receivedAs struct{ protocol, name string }

// receivers maps what senders call a value to the metrics that it feeds.
func receivers(service drill.Service) map[receivedAs][]string {
	all := map[receivedAs][]string{}
	for _, metric := range service.Metrics {
		switch {
		case metric.StatsD != "":
			as := receivedAs{"statsd", metric.StatsD}
			all[as] = append(all[as], metric.Name)
		case metric.OTLP != "":
			as := receivedAs{"otlp", metric.OTLP}
			all[as] = append(all[as], metric.Name)
		}
	}
	return all
}

// listenStatsD opens the port before the watch is ready, so that an address that is taken is an error and no silence.
func listenStatsD(ctx context.Context, address string) (net.PacketConn, error) {
	var config net.ListenConfig
	conn, err := config.ListenPacket(ctx, "udp", address)
	if err != nil {
		return nil, &drill.Error{Op: "watch", Kind: drill.Invalid, Err: fmt.Errorf("watch.statsd: %w", err), Hint: "Choose a free address, as 0.0.0.0:8125."}
	}
	return conn, nil
}

// serveStatsD takes packets in until ctx ends. What it does not understand it leaves: senders of other things share the port.
func (w *Watch) serveStatsD(ctx context.Context, conn net.PacketConn) {
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	gauges := map[receivedAs]float64{}
	packet := make([]byte, packetMax)
	for {
		length, from, err := conn.ReadFrom(packet)
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				w.log.Error("statsd ended", "error", err)
			}
			return
		}
		sender := ""
		if address, err := netip.ParseAddrPort(from.String()); err == nil {
			sender = address.Addr().Unmap().String()
		}
		now := time.Now()
		for line := range strings.Lines(string(packet[:length])) {
			values, err := parseStatsD(strings.TrimSpace(line), sender, gauges)
			if err != nil {
				w.log.Debug("statsd", "from", sender, "error", err)
				continue
			}
			for _, one := range values {
				one.at = now
				w.tell(ctx, one)
			}
		}
	}
}

// parseStatsD reads NAME:VALUE[:VALUE...]|TYPE[|@RATE][|#TAG:VALUE,...]. Types are c, g, ms, h and d; a gauge with a sign moves by so much. A
// counter that is sampled stands for more; a timer that is sampled for more timers.
func parseStatsD(line, sender string, gauges map[receivedAs]float64) ([]received, error) {
	name, rest, ok := strings.Cut(line, ":")
	fields := strings.Split(rest, "|")
	if !ok || name == "" || len(fields) < 2 {
		return nil, fmt.Errorf("%.100q is no metric", line)
	}
	rate, host := 1., sender
	for _, field := range fields[2:] {
		switch {
		case strings.HasPrefix(field, "@"):
			value, err := strconv.ParseFloat(field[1:], 64)
			if err != nil || !(value > 0 && value <= 1) || math.IsInf(1/value, 0) {
				return nil, fmt.Errorf("%.100q: %q is no rate", line, field)
			}
			rate = value
		case strings.HasPrefix(field, "#"):
			for tag := range strings.SplitSeq(field[1:], ",") {
				if value, is := strings.CutPrefix(tag, "host:"); is {
					host = value
				}
			}
		}
	}
	var all []received
	for text := range strings.SplitSeq(fields[0], ":") {
		value, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(value) || math.IsInf(value, 0) || math.IsInf(value/rate, 0) { // what is no number would spoil every average
			return nil, fmt.Errorf("%.100q: %q is no number", line, text)
		}
		one := received{protocol: "statsd", name: name, host: host, value: value, weight: 1}
		switch fields[1] {
		case "c":
			one.value /= rate
		case "ms", "h", "d":
			one.weight = 1 / rate
		case "g":
			gauge := receivedAs{name, host}
			if text[0] == '+' || text[0] == '-' {
				one.value += gauges[gauge]
			}
			if _, known := gauges[gauge]; !known && len(gauges) >= gaugesMax {
				return nil, fmt.Errorf("%.100q: %d gauges are known already", line, gaugesMax)
			}
			if math.IsInf(one.value, 0) {
				return nil, fmt.Errorf("%.100q: the gauge has moved out of all bounds", line)
			}
			gauges[gauge] = one.value
		default:
			return nil, fmt.Errorf("%.100q: the type %q is not known here", line, fields[1])
		}
		all = append(all, one)
	}
	return all, nil
}

// otlpRequest is ExportMetricsServiceRequest as OTLP writes it in JSON, as far as it is read here.
type otlpRequest struct {
	ResourceMetrics []otlpResource `json:"resourceMetrics"`
}

type otlpResource struct {
	Resource struct {
		Attributes []otlpAttribute `json:"attributes"`
	} `json:"resource"`
	ScopeMetrics []otlpScope `json:"scopeMetrics"`
}

type otlpScope struct {
	Metrics []otlpMetric `json:"metrics"`
}

type otlpMetric struct {
	Name  string     `json:"name"`
	Gauge otlpSeries `json:"gauge"`
	Sum   otlpSeries `json:"sum"`
}

type otlpSeries struct {
	Points []otlpPoint `json:"dataPoints"`
}

type otlpPoint struct {
	Attributes []otlpAttribute `json:"attributes"`
	Time       json.Number     `json:"timeUnixNano"`
	Double     *float64        `json:"asDouble"`
	Int        *json.Number    `json:"asInt"` // a string in OTLP's JSON, as of every 64-bit number
}

type otlpAttribute struct {
	Key   string `json:"key"`
	Value struct {
		String string `json:"stringValue"`
	} `json:"value"`
}

func otlpHost(attributes []otlpAttribute, otherwise string) string {
	for _, attribute := range attributes {
		if attribute.Key == "host.name" || attribute.Key == "host" {
			return attribute.Value.String
		}
	}
	return otherwise
}

// serveOTLP takes POST /v1/metrics of OTLP/HTTP, in protobuf and in JSON.
//
// It asks for the token: values raise alarms, and alarms move answers. Exporters send it as OTEL_EXPORTER_OTLP_HEADERS.
func (w *Watch) serveOTLP(out http.ResponseWriter, request *http.Request) {
	if !w.admit(out, request, "sending values") {
		return
	}
	body, kind, err := readOTLP(out, request)
	if kind == "" {
		reply(out, http.StatusUnsupportedMediaType, refusal{Error: "neither JSON nor protobuf", Cure: "Set OTEL_EXPORTER_OTLP_METRICS_PROTOCOL to http/protobuf or http/json."})
		return
	}
	if err != nil {
		reply(out, http.StatusBadRequest, refusal{Error: "the body is not understood: " + err.Error()})
		return
	}
	sender := ""
	if address, err := netip.ParseAddrPort(request.RemoteAddr); err == nil {
		sender = address.Addr().Unmap().String()
	}
	for _, one := range body.values(sender, time.Now()) {
		w.tell(request.Context(), one)
	}
	if kind == otlpProtobuf {
		out.Header().Set("Content-Type", otlpProtobuf) // of an answer without fields
		out.WriteHeader(http.StatusOK)
		return
	}
	reply(out, http.StatusOK, struct{}{})
}

// values lists the gauges and sums of a request. A point without a time counts as of now.
func (r otlpRequest) values(sender string, now time.Time) []received {
	var all []received
	for _, resource := range r.ResourceMetrics {
		host := otlpHost(resource.Resource.Attributes, sender)
		for _, scope := range resource.ScopeMetrics {
			for _, metric := range scope.Metrics {
				for _, point := range append(metric.Gauge.Points, metric.Sum.Points...) {
					one := received{protocol: "otlp", name: metric.Name, host: otlpHost(point.Attributes, host), weight: 1, at: now}
					switch {
					case point.Double != nil:
						one.value = *point.Double
					case point.Int != nil:
						value, err := point.Int.Float64()
						if err != nil {
							continue
						}
						one.value = value
					default:
						continue
					}
					if math.IsNaN(one.value) || math.IsInf(one.value, 0) {
						continue
					}
					if nanos, err := point.Time.Int64(); err == nil && nanos > 0 {
						one.at = time.Unix(0, nanos)
					}
					all = append(all, one)
				}
			}
		}
	}
	return all
}
