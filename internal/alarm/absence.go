package alarm

import (
	"encoding/json"
	"fmt"
	"time"
)

// absenceEvery is how often an alarm on silence looks at most; it looks also at the moment at which the silence becomes too long.
const absenceEvery = 250 * time.Millisecond

// StepAbsence evaluates an alarm on silence: it is raised once nothing has come for Rule.Absent and the transport's grace, whatever the
// borders of periods, and clears when samples have come again for as long without a gap.
//
// A series without any sample counts from firstDataAllowance on: until then a host may be on its way up.
func StepAbsence(a Alarm, now time.Time, s *Series) (Alarm, *Change) {
	if a.Rule.Disabled {
		a.Detail = disabledDetail
		return a, nil
	}
	a.Detail = ""
	last, since := s.last, "the last one at "+stampOf(s.last)
	if last.IsZero() {
		last, since = s.born.Add(firstDataAllowance-a.Rule.Absent), "there never was one"
		if now.Sub(last)-a.Rule.Grace < a.Rule.Absent {
			a.Detail = "waiting for the first sample"
			return a, nil
		}
	}
	silent := now.Sub(last) - a.Rule.Grace
	limit := a.Rule.Absent.Seconds()
	switch {
	case silent >= a.Rule.Absent && a.State != Raised:
		reason := fmt.Sprintf("Absence: no datapoint was received for %s s, more than the %s s allowed; %s.", number(rounded(now.Sub(last).Seconds())), number(limit), since)
		return a.moved(now, Raised, reason, absenceData(a.Rule, s.last, now))
	case silent < a.Rule.Absent && a.State == Insufficient:
		return a.moved(now, OK, "Absence: datapoints are being received.", absenceData(a.Rule, s.last, now))
	case silent < a.Rule.Absent && a.State == Raised && s.last.Sub(s.run) >= a.Rule.Absent:
		reason := fmt.Sprintf("Absence: datapoints have been received for %s s without a gap of %s s.", number(rounded(s.last.Sub(s.run).Seconds())), number(limit))
		return a.moved(now, OK, reason, absenceData(a.Rule, s.last, now))
	}
	return a, nil
}

// NextAbsence returns when to look again.
func NextAbsence(rule Rule, s *Series, now time.Time) time.Time {
	next := now.Add(absenceEvery)
	if s.last.IsZero() {
		return next
	}
	if due := s.last.Add(rule.Absent + rule.Grace); due.After(now) && due.Before(next) {
		return due
	}
	return next
}

func stampOf(t time.Time) string { return t.UTC().Format("02/01/06 15:04:05.000") }

func absenceData(rule Rule, last, now time.Time) json.RawMessage {
	data := struct {
		Version   string  `json:"version"`
		QueryDate string  `json:"queryDate"`
		Statistic string  `json:"statistic"`
		Last      string  `json:"lastDatapoint,omitempty"`
		Threshold float64 `json:"threshold"`
	}{Version: "1.0", QueryDate: now.UTC().Format(dataStamp), Statistic: "Absence", Threshold: rule.Absent.Seconds()}
	if !last.IsZero() {
		data.Last = last.UTC().Format(dataStamp)
	}
	text, err := json.Marshal(data)
	if err != nil {
		return nil // neither strings nor finite numbers fail
	}
	return text
}
