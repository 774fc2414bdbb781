package verdict_test

import (
	"strings"
	"testing"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/verdict"
	"firedrill/internal/verdict/verdicttest"
)

// elsewhere gives the good story in which one alarm lives in another system, and in step 1 says something else than that it was raised.
func elsewhere(alarm, instead string, lives bool) (drill.Plan, []history.Event) {
	plan, log := verdicttest.Bookstore(verdicttest.NoTwist)
	for i := range plan.Alarms {
		if lives && plan.Alarms[i].Name == alarm {
			plan.Alarms[i].Source = &drill.AlarmSource{Prometheus: "http://prometheus:9090"}
		}
	}
	for i := range log {
		switch fact := log[i].Fact.(type) {
		case *history.RunStarted:
			fact.Plan = plan
		case *history.Alarm:
			if fact.Name == alarm && fact.From != "" && fact.To == history.AlarmRaised && stepAt(log, log[i].At) == 1 {
				fact.To, fact.Reason = instead, "The source does not tell: no answer"
			}
			if fact.Name == alarm && lives {
				fact.Origin = "prometheus at http://prometheus:9090"
			}
		}
	}
	return plan, log
}

func TestSilentSourceProvesNothing(t *testing.T) {
	const alarm = "bookstore-api-green-db-connectivity-failed"
	for _, row := range []struct {
		name, instead string
		lives         bool
		want          history.Outcome
		says          string
	}{
		{"raised in time", history.AlarmRaised, true, history.Passed, "Seen in prometheus"},
		{"the source falls silent", history.AlarmInsufficient, true, history.Inconclusive, "its source fell silent"},
		// Of an alarm of our own that is no excuse; only that the attack ended before its time is.
		{"an alarm of our own has no data", history.AlarmInsufficient, false, history.Inconclusive, "the attack lasted only"},
	} {
		plan, log := elsewhere(alarm, row.instead, row.lives)
		found := false
		for _, check := range verdict.Judge(plan, log).Steps[1].Checks {
			if check.Group != verdict.GroupExpectation || !strings.Contains(check.Name, alarm) {
				continue
			}
			found = true
			if check.Outcome != row.want || !strings.Contains(check.Explanation, row.says) {
				t.Errorf("%s: %s (%s), want %s because %s", row.name, check.Outcome, check.Explanation, row.want, row.says)
			}
		}
		if !found {
			t.Errorf("%s: nothing was said of %s", row.name, alarm)
		}
	}
}
