package verdict_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

// observedStep is the drill on the idle environment, which these tests give more to look at.
const observedStep = 1

// observed is the story with a log file that is read, a line in it 3 s into the attack, and a probe that fails from 2 s to 8 s of it.
func observed(expect ...drill.Expectation) (drill.Plan, []history.Event, time.Time) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	impact := verdict.Judge(plan, log).Steps[observedStep]
	began := impact.Impact.From
	plan.Probes = []drill.Probe{{Name: "orders", Every: drill.Seconds(time.Second), Timeout: drill.Seconds(time.Second)}}
	planned := *plan.Steps[observedStep].Drill
	planned.Expectations = append(slices.Clone(planned.Expectations), expect...)
	plan.Steps = slices.Clone(plan.Steps)
	plan.Steps[observedStep].Drill = &planned
	add := func(at time.Time, fact history.Fact) { log = append(log, history.New(at, "ci", fact)) }
	add(log[0].At.Add(time.Second), &history.Followed{Host: "green-1", File: "/log", Up: true})
	add(began.Add(3*time.Second), &history.Line{Host: "green-1", File: "/log", Pattern: "refused", Text: "connection refused"})
	for at := log[0].At.Add(200 * time.Millisecond); at.Before(verdict.Judge(plan, log).Finished); at = at.Add(time.Second) {
		since := at.Sub(began)
		sample := &history.Sample{Probe: "orders", Scheduled: at, OK: since < 2*time.Second || since > 8*time.Second}
		if !sample.OK {
			sample.Cause = history.CauseExit
		}
		add(at, sample)
	}
	return plan, renumbered(plan, log), began
}

// renumbered puts the events in the order of time and gives the log's plan.
func renumbered(plan drill.Plan, log []history.Event) []history.Event {
	log = slices.Clone(log)
	slices.SortStableFunc(log, func(a, b history.Event) int { return a.At.Compare(b.At) })
	for i := range log {
		log[i].Seq = 0
		if started, is := log[i].Fact.(*history.RunStarted); is {
			copied := *started
			copied.Plan = plan
			log[i].Fact = &copied
		}
	}
	return log
}

func checkIn(t *testing.T, step verdict.StepVerdict, name string) verdict.Check {
	t.Helper()
	i := slices.IndexFunc(step.Checks, func(c verdict.Check) bool { return c.Name == name })
	if i < 0 {
		t.Fatalf("no check %q in %+v", name, step.Checks)
	}
	return step.Checks[i]
}

func TestLinesAndProbesAreJudged(t *testing.T) {
	second := func(n int) drill.Seconds { return drill.Seconds(time.Duration(n) * time.Second) }
	line := func(kind, pattern string, within int) drill.Expectation {
		return drill.Expectation{Kind: kind, Text: "E", Host: "green-1", File: "/log", Line: pattern, Within: second(within)}
	}
	probe := func(kind string, within int) drill.Expectation {
		return drill.Expectation{Kind: kind, Text: "E", Probe: "orders", Within: second(within)}
	}
	dropped := func(drop func(history.Fact) bool) func([]history.Event, time.Time) []history.Event {
		return func(log []history.Event, _ time.Time) []history.Event {
			return slices.DeleteFunc(log, func(e history.Event) bool { return drop(e.Fact) })
		}
	}
	noReader := dropped(func(f history.Fact) bool { _, is := f.(*history.Followed); return is })
	lostReader := func(log []history.Event, began time.Time) []history.Event {
		return append(log, history.New(began.Add(time.Second), "ci", &history.Followed{Host: "green-1", File: "/log"}))
	}
	noProbe := dropped(func(f history.Fact) bool { s, is := f.(*history.Sample); return is && s.Probe == "orders" })
	gap := func(log []history.Event, began time.Time) []history.Event {
		return slices.DeleteFunc(log, func(e history.Event) bool {
			s, is := e.Fact.(*history.Sample)
			return is && s.Probe == "orders" && s.Scheduled.After(began.Add(9*time.Second)) && s.Scheduled.Before(began.Add(13*time.Second))
		})
	}
	for name, test := range map[string]struct {
		expect drill.Expectation
		change func([]history.Event, time.Time) []history.Event
		want   history.Outcome
	}{
		"a line in time":                      {line(drill.ExpectLine, "refused", 4), nil, history.Passed},
		"a line too late":                     {line(drill.ExpectLine, "refused", 2), nil, history.Failed},
		"another line":                        {line(drill.ExpectLine, "panic", 4), nil, history.Failed},
		"no line, and nobody read":            {line(drill.ExpectLine, "panic", 4), noReader, history.Inconclusive},
		"no line, and the reader was lost":    {line(drill.ExpectLine, "panic", 4), lostReader, history.Inconclusive},
		"no line, and the attack was shorter": {line(drill.ExpectLine, "panic", 600), nil, history.Inconclusive},
		"silence":                             {line(drill.ExpectNoLine, "panic", 0), nil, history.Passed},
		"no silence":                          {line(drill.ExpectNoLine, "refused", 0), nil, history.Failed},
		"silence that nobody heard":           {line(drill.ExpectNoLine, "panic", 0), lostReader, history.Inconclusive},
		"a probe fails in time":               {probe(drill.ExpectProbeFails, 4), nil, history.Passed},
		"a probe fails too late":              {probe(drill.ExpectProbeFails, 1), nil, history.Failed},
		"a probe is silent":                   {probe(drill.ExpectProbeFails, 4), noProbe, history.Inconclusive},
		"a probe recovers":                    {probe(drill.ExpectProbeBack, 12), nil, history.Passed},
		"a probe recovers too late":           {probe(drill.ExpectProbeBack, 7), nil, history.Failed},
		"a probe recovers, hardly looked at":  {probe(drill.ExpectProbeBack, 12), gap, history.Inconclusive},
		"a probe does not stay good":          {probe(drill.ExpectProbeGood, 0), nil, history.Failed},
		"a probe that was silent":             {probe(drill.ExpectProbeGood, 0), noProbe, history.Inconclusive},
	} {
		plan, log, began := observed(test.expect)
		if test.change != nil {
			log = renumbered(plan, test.change(log, began))
		}
		got := checkIn(t, verdict.Judge(plan, log).Steps[observedStep], "E")
		if got.Outcome != test.want || got.Explanation == "" {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// A probe that fails before anything is broken shows nothing of the attack.
func TestProbesMustBeGoodBefore(t *testing.T) {
	plan, log, began := observed()
	if got := checkIn(t, verdict.Judge(plan, log).Steps[observedStep], "probe orders good before"); got.Outcome != history.Passed {
		t.Errorf("%+v", got)
	}
	for _, event := range log {
		if s, is := event.Fact.(*history.Sample); is && s.Probe == "orders" && s.Scheduled.Before(began) {
			s.OK = false
		}
	}
	if got := verdict.Judge(plan, log).Steps[observedStep]; got.Outcome != history.Inconclusive || !strings.Contains(got.Reason, "not steady") {
		t.Errorf("%s %s", got.Outcome, got.Reason)
	}
}

// twice is the story in which the attack of the drill was started twice at the same time.
func twice(together bool) (drill.Plan, []history.Event) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	sheet := verdict.Judge(plan, log).Steps[observedStep].Impact.Hosts[0]
	planned := *plan.Steps[observedStep].Drill
	planned.More, planned.Together = []drill.Order{planned.Attack}, together
	plan.Steps = slices.Clone(plan.Steps)
	plan.Steps[observedStep].Drill = &planned
	var both []history.Event
	for _, event := range log {
		both = append(both, event)
		other := event
		const guid = "another"
		switch fact := event.Fact.(type) {
		case *history.AttackPlanned:
			copied := *fact
			other.Fact, copied.GUID = &copied, guid
			if fact.GUID == sheet.GUID {
				both = append(both,
					history.New(event.At.Add(-time.Millisecond), "ci", &history.AttackOrdered{Step: observedStep, Host: sheet.Host, GUID: sheet.GUID}),
					history.New(event.At.Add(-time.Millisecond), "ci", &history.AttackOrdered{Step: observedStep, Number: 1, Host: sheet.Host, GUID: guid}))
			}
		case *history.AttackInForce:
			copied := *fact
			other.Fact, copied.GUID = &copied, guid
		case *history.AttackTarget:
			copied := *fact
			other.Fact, copied.GUID = &copied, guid
		case *history.AttackHits:
			copied := *fact
			other.Fact, copied.GUID = &copied, guid
		case *history.AttackCanary:
			copied := *fact
			other.Fact, copied.GUID = &copied, guid
		case *history.AttackReverted:
			copied := *fact
			other.Fact, copied.GUID = &copied, guid
		case *history.AttackAccount:
			copied := *fact
			other.Fact, copied.GUID = &copied, guid
		default:
			continue
		}
		if event.Source == sheet.Host && event.At.After(sheet.InForce.Add(-2*time.Second)) && event.At.Before(sheet.Reverted.Add(time.Second)) {
			both = append(both, other)
		}
	}
	return plan, renumbered(plan, both)
}

func TestEachOfSeveralAttacksMustBeProven(t *testing.T) {
	plan, log := twice(true)
	got := verdict.Judge(plan, log).Steps[observedStep]
	if got.Outcome != history.Passed || len(got.Impact.Hosts) != 2 || got.Impact.Hosts[1].Number != 1 {
		t.Errorf("%s %s, %d sheets", got.Outcome, got.Reason, len(got.Impact.Hosts))
	}
	if check := checkIn(t, got, "attacks together"); check.Outcome != history.Passed {
		t.Errorf("%+v", check)
	}
	plan, log = twice(false)
	if got := verdict.Judge(plan, log).Steps[observedStep]; got.Outcome != history.Inconclusive || !strings.Contains(got.Reason, "before that on") {
		t.Errorf("at the same time where one after the other was planned: %s %s", got.Outcome, got.Reason)
	}
	for name, drop := range map[string]func(history.Fact) bool{
		"the second was not ordered by us": func(f history.Fact) bool { o, is := f.(*history.AttackOrdered); return is && o.Number == 1 },
		"the second did not bite":          func(f history.Fact) bool { c, is := f.(*history.AttackHits); return is && c.GUID == "another" },
		"the second was never in force":    func(f history.Fact) bool { c, is := f.(*history.AttackInForce); return is && c.GUID == "another" },
		"the second was not taken back": func(f history.Fact) bool {
			r, is := f.(*history.AttackReverted)
			a, account := f.(*history.AttackAccount)
			return is && r.GUID == "another" || account && a.GUID == "another"
		},
	} {
		plan, log := twice(true)
		log = renumbered(plan, slices.DeleteFunc(log, func(e history.Event) bool { return drop(e.Fact) }))
		if got := verdict.Judge(plan, log).Steps[observedStep]; got.Outcome == history.Passed {
			t.Errorf("%s: %s", name, got.Outcome)
		}
	}
}
