package report_test

import (
	"fmt"
	"strings"
	"testing"

	"firedrill/internal/report"
	"firedrill/internal/verdict/verdicttest"
)

// Each run and each step has one outcome, and figures are those of the verdict.
func TestOpenMetricsTellTheVerdict(t *testing.T) {
	for twist, wanted := range map[verdicttest.Twist][]string{
		verdicttest.NoTwist:     {`firedrill_run_outcome{service="bookstore",outcome="passed"} 1`, `firedrill_run_exit_code{service="bookstore"} 0`},
		verdicttest.FrozenDNS:   {`firedrill_run_outcome{service="bookstore",outcome="failed"} 1`, `firedrill_step_outcome{service="bookstore",step="deploy to blue",outcome="not run"} 1`, `check="RTO",unit="s",outcome="failed"} 18.26`, `check="availability",unit="%",bound="at_least"} 60`},
		verdicttest.Toothless:   {`firedrill_run_outcome{service="bookstore",outcome="inconclusive"} 1`, `firedrill_run_exit_code{service="bookstore"} 3`},
		verdicttest.Residue:     {`firedrill_run_outcome{service="bookstore",outcome="not reverted"} 1`, `firedrill_run_not_reverted{service="bookstore"} 1`},
		verdicttest.DeadStandby: {`firedrill_step_recovered{service="bookstore",step="drill lose-dependencies on green, 2"} 0`},
	} {
		in := told(twist)
		text := render(t, report.OpenMetrics, in)
		ones := map[string]int{}
		for line := range strings.Lines(text) {
			if family, _, _ := strings.Cut(line, "{"); strings.HasSuffix(family, "_outcome") {
				label, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
				name, _, _ := strings.Cut(label, ",outcome=")
				if value == "1" {
					ones[name]++
				}
			}
		}
		if len(ones) != len(in.Verdict.Steps)+1 {
			t.Errorf("%s: outcomes of %d things, want %d", twist, len(ones), len(in.Verdict.Steps)+1)
		}
		for name, count := range ones {
			if count != 1 {
				t.Errorf("%s: %s has %d outcomes", twist, name, count)
			}
		}
		for _, want := range wanted {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %s", twist, want)
			}
		}
		if rto := in.Verdict.RTO; rto != nil && !strings.Contains(text, fmt.Sprintf("} %v\n", rto.Seconds)) {
			t.Errorf("%s: the recovery time %v is not told", twist, rto.Seconds)
		}
	}
}
