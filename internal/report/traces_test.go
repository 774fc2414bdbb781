package report_test

import (
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"firedrill/internal/report"
	"firedrill/internal/verdict/verdicttest"
)

// spansOf reads a trace as OpenTelemetry's collector does, and holds what is true of every trace.
func spansOf(t *testing.T, text string) []ptrace.Span {
	t.Helper()
	traces, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if traces.ResourceSpans().Len() != 1 || traces.ResourceSpans().At(0).ScopeSpans().Len() != 1 {
		t.Fatalf("%d resources", traces.ResourceSpans().Len())
	}
	if name, _ := traces.ResourceSpans().At(0).Resource().Attributes().Get("service.name"); name.Str() != "firedrill" {
		t.Errorf("the service is called %q", name.Str())
	}
	var spans []ptrace.Span
	byID := map[pcommon.SpanID]ptrace.Span{}
	for _, span := range traces.ResourceSpans().At(0).ScopeSpans().At(0).Spans().All() {
		if _, twice := byID[span.SpanID()]; twice || span.SpanID().IsEmpty() || span.TraceID().IsEmpty() {
			t.Errorf("span %s of trace %s is there twice, or has no name", span.SpanID(), span.TraceID())
		}
		if span.EndTimestamp() < span.StartTimestamp() {
			t.Errorf("%s ends before it begins", span.Name())
		}
		byID[span.SpanID()] = span
		spans = append(spans, span)
	}
	for i, span := range spans {
		if _, known := byID[span.ParentSpanID()]; known == (i == 0) || span.TraceID() != spans[0].TraceID() {
			t.Errorf("%s has no parent, or another trace", span.Name())
		}
	}
	return spans
}

func count(spans []ptrace.Span, name string, fits func(ptrace.Span) bool) (n int) {
	for _, span := range spans {
		if span.Name() == name && (fits == nil || fits(span)) {
			n++
		}
	}
	return n
}

func status(code ptrace.StatusCode) func(ptrace.Span) bool {
	return func(span ptrace.Span) bool { return span.Status().Code() == code }
}

// Every step that ran has a span with its outcome, every attack that was in force one that lasts as long, and nothing but passed is OK.
func TestTracesTellTheVerdict(t *testing.T) {
	for _, twist := range []verdicttest.Twist{verdicttest.NoTwist, verdicttest.FrozenDNS, verdicttest.Toothless, verdicttest.Residue, verdicttest.DeadStandby} {
		in := told(twist)
		spans := spansOf(t, render(t, report.OTLP, in))
		root := spans[0]
		if want := in.Verdict.Outcome == "passed"; status(ptrace.StatusCodeOk)(root) != want || status(ptrace.StatusCodeError)(root) == want {
			t.Errorf("%s: the run is %s, and the verdict %s", twist, root.Status().Code(), in.Verdict.Outcome)
		}
		ran, attacks, passed, outages := 0, 0, 0, 0
		for _, step := range in.Verdict.Steps {
			if !step.Ran {
				continue
			}
			ran++
			if step.Outcome == "passed" {
				passed++
			}
			if step.Clients != nil {
				outages += len(step.Clients.Outages)
			}
			if step.Impact == nil {
				continue
			}
			for _, sheet := range step.Impact.Hosts {
				if sheet.InForce.IsZero() {
					continue
				}
				attacks++
				if n := count(spans, "attack "+sheet.Attack, func(span ptrace.Span) bool {
					return span.StartTimestamp().AsTime().Equal(sheet.InForce) && (sheet.Reverted.IsZero() || sheet.OneWay || span.EndTimestamp().AsTime().Equal(sheet.Reverted))
				}); n == 0 {
					t.Errorf("%s: no span of %s on %s from %s to %s", twist, sheet.Attack, sheet.Host, sheet.InForce.Format(time.RFC3339Nano), sheet.Reverted.Format(time.RFC3339Nano))
				}
			}
		}
		below := func(span ptrace.Span) bool { return span.ParentSpanID() == root.SpanID() }
		told := func(span ptrace.Span) bool {
			_, ok := span.Attributes().Get("firedrill.step")
			return ok && below(span)
		}
		steps, ok, others := 0, 0, 0
		for _, span := range spans {
			if told(span) {
				steps++
				if status(ptrace.StatusCodeOk)(span) {
					ok++
				}
			}
			if _, is := span.Attributes().Get("firedrill.attack"); is {
				others++
			}
		}
		if got, want := fmt.Sprint(steps, ok, others, count(spans, "outage", status(ptrace.StatusCodeError))), fmt.Sprint(ran, passed, attacks, outages); got != want {
			t.Errorf("%s: steps, passed, attacks, outages are %s, want %s", twist, got, want)
		}
		if again := render(t, report.OTLP, in); again != render(t, report.OTLP, in) {
			t.Errorf("%s: two traces of one run differ", twist)
		}
	}
}

// Alarms and moves of the answer lie in the drill that they belong to, and an attack that is not seen to end is no success.
func TestTracesTellAlarmsMovesAndWhatIsLeft(t *testing.T) {
	spans := spansOf(t, render(t, report.OTLP, told(verdicttest.NoTwist)))
	parents := map[pcommon.SpanID]string{}
	moves := 0
	for _, span := range spans {
		parents[span.SpanID()] = span.Name()
		for _, event := range span.Events().All() {
			if event.Name() == "answer moved" {
				moves++
			}
		}
	}
	if n := count(spans, "alarm raised", func(span ptrace.Span) bool { return parents[span.ParentSpanID()] == "drill" }); n == 0 || moves == 0 {
		t.Errorf("%d alarms below a drill and %d moves of the answer, want some of each", n, moves)
	}
	left := spansOf(t, render(t, report.OTLP, told(verdicttest.Residue)))
	bad := 0
	for _, span := range left {
		if _, is := span.Attributes().Get("firedrill.attack"); is && span.Status().Code() == ptrace.StatusCodeError {
			bad++
		}
	}
	if _, said := left[0].Attributes().Get("firedrill.not_reverted"); bad == 0 || !said {
		t.Errorf("%d attacks are told as not taken back, and of the run: %v", bad, said)
	}
}
