package verdict_test

import (
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

const activeStep = 3 // of the story: the drill in which the answer moves from green to blue

// checkNamed judges the story after change and returns the check of the active drill whose name holds part.
func checkNamed(t *testing.T, part string, change func(plan *drill.Plan, log []history.Event, began time.Time) []history.Event) verdict.Check {
	t.Helper()
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	var began time.Time
	for _, event := range log {
		if _, is := event.Fact.(*history.AttackInForce); is && stepAt(log, event.At) == activeStep {
			began = event.At
		}
	}
	log = change(&plan, log, began)
	for _, check := range verdict.Judge(plan, log).Steps[activeStep].Checks {
		if strings.Contains(check.Name, part) {
			return check
		}
	}
	t.Fatalf("no check %q", part)
	return verdict.Check{}
}

func expect(plan *drill.Plan, e drill.Expectation) {
	d := *plan.Steps[activeStep].Drill
	d.Expectations = append(d.Expectations[:len(d.Expectations):len(d.Expectations)], e)
	plan.Steps[activeStep].Drill = &d
}

func TestLatencyIsAShareOfAllRequests(t *testing.T) {
	for _, test := range []struct {
		share   float64
		within  time.Duration
		outcome history.Outcome
	}{
		{50, 100 * time.Millisecond, history.Passed},
		{99, 100 * time.Millisecond, history.Failed}, // those that failed were not answered in time
		{50, time.Microsecond, history.Failed},
	} {
		got := checkNamed(t, "quick", func(plan *drill.Plan, log []history.Event, _ time.Time) []history.Event {
			expect(plan, drill.Expectation{Kind: drill.ExpectLatency, Text: "quick", Value: test.share, Within: drill.Seconds(test.within)})
			return log
		})
		if got.Outcome != test.outcome {
			t.Errorf("%v%% within %s: %s: %s", test.share, test.within, got.Outcome, got.Explanation)
		}
	}
}

func TestSameReleaseNeedsBothLooks(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(*history.Inspected)
		outcome history.Outcome
	}{
		{"as deployed", func(*history.Inspected) {}, history.Passed},
		{"the standby is stale", func(i *history.Inspected) {
			if strings.Contains(i.Host, "blue") {
				i.Revision = "9b01e77"
			}
		}, history.Failed},
		{"the standby was not seen", func(i *history.Inspected) {
			if strings.Contains(i.Host, "blue") {
				i.Error = "no route"
			}
		}, history.Inconclusive},
	} {
		got := checkNamed(t, "same", func(plan *drill.Plan, log []history.Event, _ time.Time) []history.Event {
			expect(plan, drill.Expectation{Kind: drill.ExpectSameRelease, Text: "same"})
			for _, event := range log {
				if look, is := event.Fact.(*history.Inspected); is {
					look.Revision = "4f2a9c1"
					test.change(look)
				}
			}
			return log
		})
		if got.Outcome != test.outcome {
			t.Errorf("%s: %s: %s", test.name, got.Outcome, got.Explanation)
		}
	}
}

// With automatic failback the answer must be where it was at the end, in time, and neither before the revert nor away again.
func TestAutomaticFailback(t *testing.T) {
	back := func(at time.Time, to string) history.Event {
		return history.New(at, "ci", &history.Answer{Name: "bookstore.example.test", Server: "10.77.0.53", Addresses: []string{to}})
	}
	const green, blue = "10.77.1.20", "10.77.1.10"
	for _, test := range []struct {
		name        string
		answers     func(reverted time.Time) []history.Event
		moves, home history.Outcome
	}{
		{"back after the revert", func(r time.Time) []history.Event { return []history.Event{back(r.Add(time.Second), green)} }, history.Passed, history.Passed},
		{"never back", func(time.Time) []history.Event { return nil }, history.Failed, history.Failed},
		{"back while the impact was in force", func(r time.Time) []history.Event { return []history.Event{back(r.Add(-time.Second), green)} }, history.Failed, history.Passed},
		{"back, away, back", func(r time.Time) []history.Event {
			return []history.Event{back(r.Add(time.Second), green), back(r.Add(2*time.Second), blue), back(r.Add(3*time.Second), green)}
		}, history.Failed, history.Passed},
		{"back too late", func(r time.Time) []history.Event { return []history.Event{back(r.Add(4500*time.Millisecond), green)} }, history.Passed, history.Failed},
	} {
		change := func(plan *drill.Plan, log []history.Event, _ time.Time) []history.Event {
			plan.Failover[0].Failback = "auto"
			plan.Steps[activeStep].LiveAfter = "green"
			expect(plan, drill.Expectation{Kind: drill.ExpectMovesBack, Text: "home again", Environment: "green", Within: drill.Seconds(4 * time.Second)})
			var reverted time.Time
			for _, event := range log {
				if _, is := event.Fact.(*history.AttackReverted); is && stepAt(log, event.At) == activeStep {
					reverted = event.At
				}
			}
			added := test.answers(reverted)
			if len(added) > 0 { // the story's own later answers lead to blue
				kept := log[:0:0]
				for _, event := range log {
					answer, is := event.Fact.(*history.Answer)
					if !is || answer.Server == "" || stepAt(log, event.At) != activeStep || event.At.Before(added[0].At) {
						kept = append(kept, event)
					}
				}
				log = append(kept, added...)
			}
			return log
		}
		if got := checkNamed(t, "answer moves", change); got.Outcome != test.moves {
			t.Errorf("%s: moves: %s: %s", test.name, got.Outcome, got.Explanation)
		}
		if got := checkNamed(t, "home again", change); got.Outcome != test.home {
			t.Errorf("%s: back: %s: %s", test.name, got.Outcome, got.Explanation)
		}
	}
}
