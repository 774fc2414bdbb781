package web

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"firedrill/internal/fleet"
)

// One line through what was measured with and without clients on the environment would say nothing of either.
func TestTheSameDrillOnTheIdleAndTheActiveEnvironmentAreTwoTrends(t *testing.T) {
	step := func(seconds float64) fleet.RecordStep {
		return fleet.RecordStep{Name: "drill lose-db on green (chosen web2)", Kind: kindDrill, Outcome: "passed", RTO: &fleet.RecordFigure{Seconds: seconds}}
	}
	var records []fleet.Record
	for run := range 3 {
		records = append(records, fleet.Record{ID: fmt.Sprint(run), Started: time.Unix(int64(1000-run), 0), Steps: []fleet.RecordStep{step(0), step(2.5)}})
	}
	trends := trendsOf(records)
	if len(trends) != 2 || trends[0].Drill != "drill lose-db on green" || trends[1].Drill != "drill lose-db on green, 2" || trends[0].Count != 3 || trends[1].Count != 3 {
		t.Errorf("%+v", trends)
	}
}

// A bar that has only begun is narrower than its words, which nobody could read where they run over its edge.
func TestWordsStandInsideOfABarThatIsWideEnough(t *testing.T) {
	began := time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	run := fleet.Run{ID: "run", Kind: "cpu", State: fleet.RunRunning, Issued: began, Start: began.Add(2 * time.Second), Deadline: began.Add(time.Hour)}
	for after, class := range map[time.Duration]string{10 * time.Millisecond: "aside", time.Minute: "inside"} {
		now := run.Start.Add(after)
		picture := string(drawRun(run, []lane{{Host: "web1", InForce: run.Start}}, now))
		if !strings.Contains(picture, `<text class="`+class+`"`) || strings.Count(picture, ">in force</text>") != 1 {
			t.Errorf("after %s: %s", after, picture)
		}
	}
}
