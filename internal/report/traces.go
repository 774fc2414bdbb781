package report

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"slices"
	"strconv"
	"time"

	"firedrill/internal/history"
	"firedrill/internal/verdict"
)

// The messages of OpenTelemetry as its protocol writes them in JSON (opentelemetry.io/docs/specs/otlp, 1.x): names in camel case, 64-bit
// numbers as text, names of traces and spans in hex.
type (
	otlpTraces struct {
		ResourceSpans []otlpResource `json:"resourceSpans"`
	}
	otlpResource struct {
		Resource   otlpAttributed `json:"resource"`
		ScopeSpans []otlpScope    `json:"scopeSpans"`
	}
	otlpAttributed struct {
		Attributes []otlpAttribute `json:"attributes"`
	}
	otlpScope struct {
		Scope otlpNamed   `json:"scope"`
		Spans []*otlpSpan `json:"spans"`
	}
	otlpNamed struct {
		Name string `json:"name"`
	}
	otlpSpan struct {
		TraceID    string          `json:"traceId"`
		SpanID     string          `json:"spanId"`
		Parent     string          `json:"parentSpanId,omitempty"`
		Name       string          `json:"name"`
		Kind       int             `json:"kind"`
		Start      string          `json:"startTimeUnixNano"`
		End        string          `json:"endTimeUnixNano"`
		Attributes []otlpAttribute `json:"attributes,omitempty"`
		Events     []otlpEvent     `json:"events,omitempty"`
		Status     otlpStatus      `json:"status"`

		from, to time.Time
	}
	otlpEvent struct {
		At         string          `json:"timeUnixNano"`
		Name       string          `json:"name"`
		Attributes []otlpAttribute `json:"attributes,omitempty"`
	}
	otlpStatus struct {
		Code    int    `json:"code,omitempty"`
		Message string `json:"message,omitempty"`
	}
	otlpAttribute struct {
		Key   string    `json:"key"`
		Value otlpValue `json:"value"`
	}
	otlpValue struct {
		Text   *string  `json:"stringValue,omitempty"`
		Whole  *string  `json:"intValue,omitempty"`
		Number *float64 `json:"doubleValue,omitempty"`
		Truth  *bool    `json:"boolValue,omitempty"`
	}
)

const (
	otlpInternal = 1 // SPAN_KIND_INTERNAL
	otlpOK       = 1 // STATUS_CODE_OK
	otlpError    = 2 // STATUS_CODE_ERROR
)

func attribute(key string, value any) otlpAttribute {
	a := otlpAttribute{Key: key}
	switch v := value.(type) {
	case string:
		a.Value.Text = &v
	case float64:
		a.Value.Number = &v
	case bool:
		a.Value.Truth = &v
	case uint64:
		text := strconv.FormatUint(v, 10)
		a.Value.Whole = &text
	case int:
		text := strconv.Itoa(v)
		a.Value.Whole = &text
	}
	return a
}

// trace is the spans of one run while they are gathered.
type trace struct {
	id    string
	run   string
	spans []*otlpSpan
}

// span adds a span. A span of which the end is not known, or lies before its begin, ends where it begins. The path tells it from all
// others, so that a run that is shown twice has the same spans.
func (t *trace) span(parent *otlpSpan, path, name string, from, to time.Time, attributes ...otlpAttribute) *otlpSpan {
	if to.Before(from) {
		to = from
	}
	s := &otlpSpan{TraceID: t.id, SpanID: named("span", t.run, path)[:16], Name: name, Kind: otlpInternal, Start: nanos(from), End: nanos(to), Attributes: attributes, from: from, to: to}
	if parent != nil {
		s.Parent = parent.SpanID
	}
	t.spans = append(t.spans, s)
	return s
}

func (s *otlpSpan) end(outcome history.Outcome, reason string) {
	s.Status = otlpStatus{Code: otlpError, Message: reason}
	if outcome == history.Passed {
		s.Status = otlpStatus{Code: otlpOK}
	}
	s.Attributes = append(s.Attributes, attribute("firedrill.outcome", word(outcome)), attribute("firedrill.reason", reason))
}

func (s *otlpSpan) event(at time.Time, name string, attributes ...otlpAttribute) {
	s.Events = append(s.Events, otlpEvent{At: nanos(at), Name: name, Attributes: attributes})
}

func nanos(at time.Time) string { return strconv.FormatInt(at.UnixNano(), 10) }

// named is a name in hex that is the same for the same parts, on any machine.
func named(parts ...string) string {
	sum := sha256.New()
	for _, part := range parts {
		_, _ = io.WriteString(sum, strconv.Itoa(len(part))+":"+part) // a hash takes everything
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// writeTraces writes a run as a trace of OpenTelemetry: a span for the run, below it one for each step that ran, and below a drill's the
// attacks while they were in force, the outages that clients saw, and the alarms; moves of the answer are events of the step. Names are the
// same from run to run, so that spans of drills compare; what differs stands in attributes.
func writeTraces(w io.Writer, in Input) error {
	v := in.Verdict
	s, err := scan(in)
	if err != nil {
		return err
	}
	run := cmp.Or(v.Run, v.Service+nanos(s.from))
	t := &trace{id: named("trace", run)[:32], run: run}
	root := t.span(nil, "run", "firedrill run", s.from, s.to, attribute("firedrill.run", v.Run), attribute("firedrill.service", v.Service), attribute("firedrill.exit_code", v.Exit))
	if v.Revision != "" {
		root.Attributes = append(root.Attributes, attribute("vcs.ref.head.revision", v.Revision))
	}
	if v.RTO != nil {
		root.Attributes = append(root.Attributes, attribute("firedrill.rto_seconds", v.RTO.Seconds), attribute("firedrill.rto_bound_seconds", v.RTO.Bound))
	}
	root.end(v.Outcome, v.Reason)
	if v.NotReverted {
		root.Attributes = append(root.Attributes, attribute("firedrill.not_reverted", true))
	}
	var steps []*otlpSpan
	for i, step := range v.Steps {
		if step.Ran {
			steps = append(steps, t.step(root, strconv.Itoa(i), step))
		}
	}
	within := func(at time.Time) *otlpSpan {
		for _, step := range slices.Backward(steps) {
			if !at.Before(step.from) && !at.After(step.to) {
				return step
			}
		}
		return root
	}
	for _, alarm := range s.alarms {
		for i, b := range alarm.bands {
			if b.state != history.AlarmRaised {
				continue
			}
			t.span(within(b.from), "alarm "+alarm.name+strconv.Itoa(i), "alarm raised", b.from, b.to, attribute("firedrill.alarm", alarm.name), attribute("host.name", alarm.host), attribute("firedrill.reason", b.title))
		}
	}
	for _, answer := range s.decided {
		for i, b := range answer.bands {
			if i > 0 { // the first is where it was
				within(b.from).event(b.from, "answer moved", attribute("dns.question.name", answer.name), attribute("firedrill.environment", b.state), attribute("firedrill.reason", b.title))
			}
		}
	}
	resource := otlpResource{Resource: otlpAttributed{Attributes: []otlpAttribute{attribute("service.name", "firedrill")}}, ScopeSpans: []otlpScope{{Scope: otlpNamed{Name: "firedrill"}, Spans: t.spans}}}
	return json.NewEncoder(w).Encode(otlpTraces{ResourceSpans: []otlpResource{resource}})
}

// step adds a step with what happened in it.
func (t *trace) step(root *otlpSpan, number string, step verdict.StepVerdict) *otlpSpan {
	name := step.Kind
	if name == "" {
		name = "step"
	}
	span := t.span(root, "step "+number, name, step.Started, step.Finished, attribute("firedrill.step", step.Name))
	if step.Environment != "" {
		span.Attributes = append(span.Attributes, attribute("firedrill.environment", step.Environment))
	}
	if step.RTO != nil {
		span.Attributes = append(span.Attributes, attribute("firedrill.rto_seconds", step.RTO.Seconds), attribute("firedrill.rto_bound_seconds", step.RTO.Bound), attribute("firedrill.rto_open", step.RTO.Open))
	}
	span.end(step.Outcome, step.Reason)
	for _, check := range step.Checks {
		if check.Outcome != history.Passed {
			span.event(span.to, "check "+word(check.Outcome), attribute("firedrill.check", check.Name), attribute("firedrill.reason", check.Explanation))
		}
	}
	if step.Impact != nil {
		for i, sheet := range step.Impact.Hosts {
			t.attack(span, number+" "+strconv.Itoa(i), sheet)
		}
	}
	if step.Clients != nil {
		for i, outage := range step.Clients.Outages {
			seen := t.span(span, "outage "+number+" "+strconv.Itoa(i), "outage", outage.From, outage.To, attribute("firedrill.client", outage.Client), attribute("firedrill.requests_failed", outage.Failed),
				attribute("firedrill.bound_seconds", outage.Bound), attribute("firedrill.open", outage.Open))
			seen.Status = otlpStatus{Code: otlpError, Message: outage.Cause}
			if outage.Void != "" {
				seen.Attributes = append(seen.Attributes, attribute("firedrill.void", outage.Void))
			}
		}
	}
	return span
}

// attack adds an attack on one host, from the moment it was in force until it was taken back, or its host was up again. One that was not
// seen to end lasts as long as its step.
func (t *trace) attack(step *otlpSpan, number string, sheet verdict.HostImpact) {
	if sheet.InForce.IsZero() {
		return
	}
	end := sheet.Reverted
	if sheet.OneWay {
		end = sheet.UpAt
	}
	ended := !end.IsZero()
	if !ended {
		end = step.to
	}
	span := t.span(step, "attack "+number, "attack "+sheet.Attack, sheet.InForce, end, attribute("host.name", sheet.Host), attribute("firedrill.attack", sheet.Attack), attribute("firedrill.guid", sheet.GUID),
		attribute("firedrill.targets", sheet.Targets), attribute("firedrill.packets_dropped", sheet.Egress+sheet.Ingress+sheet.Forward))
	switch {
	case !ended && sheet.OneWay:
		span.Status = otlpStatus{Code: otlpError, Message: "the host was not seen up again"}
	case !ended || len(sheet.Residue) > 0:
		span.Status = otlpStatus{Code: otlpError, Message: "not seen taken back"}
	default:
		span.Status = otlpStatus{Code: otlpOK}
	}
	if !sheet.DownAt.IsZero() {
		span.event(sheet.DownAt, "host down")
	}
	if !sheet.UpAt.IsZero() {
		span.event(sheet.UpAt, "host up again")
	}
}
