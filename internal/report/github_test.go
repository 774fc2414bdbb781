package report_test

import (
	"strings"
	"testing"

	"firedrill/internal/history"
	"firedrill/internal/report"
	"firedrill/internal/verdict"
)

func TestAnnotationsCannotBeBrokenOutOf(t *testing.T) {
	in := report.Input{Verdict: verdict.Verdict{
		Outcome: history.Failed, Reason: "100% lost\n::set-output name=x::y\r",
		Steps: []verdict.StepVerdict{{Name: "drill a,title=b::c\n::stop-commands::x", Outcome: history.Failed, Ran: true, Reason: "no"}},
	}}
	in.Plan.Service = "book\n::error::store"
	lines := strings.Split(strings.TrimSuffix(render(t, report.GitHub, in), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("%d lines, want one for the run and one for its step: %q", len(lines), lines)
	}
	for _, line := range lines {
		rest, is := strings.CutPrefix(line, "::error title=")
		title, _, ends := strings.Cut(rest, "::")
		if !is || !ends || strings.ContainsAny(title, ",:\r\n") {
			t.Errorf("%q: its title holds what ends it", line)
		}
	}
	if want := "100%25 lost%0A::set-output name=x::y%0D"; !strings.HasSuffix(lines[0], want) {
		t.Errorf("%q does not end with %q", lines[0], want)
	}
}
