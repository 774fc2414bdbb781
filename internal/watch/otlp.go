package watch

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"mime"
	"net/http"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// The two ways in which OTLP/HTTP is written.
const (
	otlpJSON     = "application/json"
	otlpProtobuf = "application/x-protobuf"
)

// Numbers of the fields of OTLP's messages, as far as they are read.
const (
	requestResources   = 1
	resourceOf         = 1
	resourceScopes     = 2
	resourceAttributes = 1
	scopeMetrics       = 2
	metricName         = 1
	metricGauge        = 5
	metricSum          = 7
	seriesPoints       = 1
	pointTime          = 3
	pointDouble        = 4
	pointInt           = 6
	pointAttributes    = 7
	attributeKey       = 1
	attributeValue     = 2
	valueString        = 1
)

// errTooLong says that a body holds more than is read.
var errTooLong = fmt.Errorf("longer than %d MiB", otlpMax>>20)

// readOTLP reads a request in either way, compressed or not. kind is empty when it is neither.
func readOTLP(out http.ResponseWriter, request *http.Request) (body otlpRequest, kind string, err error) {
	kind, _, _ = mime.ParseMediaType(request.Header.Get("Content-Type"))
	if kind != otlpJSON && kind != otlpProtobuf {
		return body, "", nil
	}
	var from io.Reader = http.MaxBytesReader(out, request.Body, otlpMax)
	if request.Header.Get("Content-Encoding") == "gzip" {
		if from, err = gzip.NewReader(from); err != nil {
			return body, kind, err
		}
	}
	text, err := io.ReadAll(io.LimitReader(from, otlpMax+1)) // what is packed small may be large
	switch {
	case err != nil:
	case len(text) > otlpMax:
		err = errTooLong
	case kind == otlpJSON:
		err = json.Unmarshal(text, &body)
	default:
		body, err = parseOTLP(text)
	}
	return body, kind, err
}

// eachField calls do for every field of a message, with its bytes or its number.
func eachField(message []byte, do func(field protowire.Number, text []byte, number uint64) error) error {
	for len(message) > 0 {
		field, kind, length := protowire.ConsumeTag(message)
		if length < 0 {
			return protowire.ParseError(length)
		}
		message = message[length:]
		var text []byte
		var number uint64
		switch kind {
		case protowire.BytesType:
			text, length = protowire.ConsumeBytes(message)
		case protowire.Fixed64Type:
			number, length = protowire.ConsumeFixed64(message)
		case protowire.VarintType:
			number, length = protowire.ConsumeVarint(message)
		default:
			length = protowire.ConsumeFieldValue(field, kind, message)
		}
		if length < 0 {
			return protowire.ParseError(length)
		}
		message = message[length:]
		if err := do(field, text, number); err != nil {
			return err
		}
	}
	return nil
}

// parseOTLP reads ExportMetricsServiceRequest as it is on the wire. It is read by hand, because the generated code registers itself at every
// start of the program, attacks included.
func parseOTLP(message []byte) (otlpRequest, error) {
	var request otlpRequest
	err := eachField(message, func(field protowire.Number, text []byte, _ uint64) error {
		if field != requestResources {
			return nil
		}
		var one otlpResource
		err := eachField(text, func(field protowire.Number, text []byte, _ uint64) error {
			switch field {
			case resourceOf:
				return eachField(text, func(field protowire.Number, text []byte, _ uint64) error {
					return otlpAttributeOf(field == resourceAttributes, text, &one.Resource.Attributes)
				})
			case resourceScopes:
				scope, err := otlpScopeOf(text)
				one.ScopeMetrics = append(one.ScopeMetrics, scope)
				return err
			}
			return nil
		})
		request.ResourceMetrics = append(request.ResourceMetrics, one)
		return err
	})
	return request, err
}

func otlpScopeOf(message []byte) (otlpScope, error) {
	var scope otlpScope
	err := eachField(message, func(field protowire.Number, text []byte, _ uint64) error {
		if field != scopeMetrics {
			return nil
		}
		var one otlpMetric
		err := eachField(text, func(field protowire.Number, text []byte, _ uint64) error {
			switch field {
			case metricName:
				one.Name = string(text)
			case metricGauge:
				return otlpPointsOf(text, &one.Gauge)
			case metricSum:
				return otlpPointsOf(text, &one.Sum)
			}
			return nil
		})
		scope.Metrics = append(scope.Metrics, one)
		return err
	})
	return scope, err
}

func otlpPointsOf(message []byte, into *otlpSeries) error {
	return eachField(message, func(field protowire.Number, text []byte, _ uint64) error {
		if field != seriesPoints {
			return nil
		}
		var point otlpPoint
		err := eachField(text, func(field protowire.Number, text []byte, number uint64) error {
			switch field {
			case pointTime:
				point.Time = json.Number(strconv.FormatUint(number, 10))
			case pointDouble:
				value := math.Float64frombits(number)
				if math.IsNaN(value) || math.IsInf(value, 0) {
					return errors.New("a value that is no number")
				}
				point.Double = &value
			case pointInt:
				value := json.Number(strconv.FormatInt(int64(number), 10)) //nolint:gosec // sfixed64: the same bits
				point.Int = &value
			}
			return otlpAttributeOf(field == pointAttributes, text, &point.Attributes)
		})
		into.Points = append(into.Points, point)
		return err
	})
}

// otlpAttributeOf reads a field that is an attribute; others are left.
func otlpAttributeOf(is bool, message []byte, into *[]otlpAttribute) error {
	if !is {
		return nil
	}
	var one otlpAttribute
	err := eachField(message, func(field protowire.Number, text []byte, _ uint64) error {
		switch field {
		case attributeKey:
			one.Key = string(text)
		case attributeValue:
			return eachField(text, func(field protowire.Number, text []byte, _ uint64) error {
				if field == valueString {
					one.Value.String = string(text)
				}
				return nil
			})
		}
		return nil
	})
	*into = append(*into, one)
	return err
}
