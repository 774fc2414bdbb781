package web

import (
	"fmt"
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
