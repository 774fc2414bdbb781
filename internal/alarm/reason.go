package alarm

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// reasonOf words the outcome as CloudWatch does, so that what reads alarms from there reads ours.
func reasonOf(rule Rule, o Outcome) string {
	switch o.Grounds {
	case ByAbsence:
		return fmt.Sprintf("Insufficient Data: %s unknown.", countWere(rule.N, "datapoint"))
	case ByFilling:
		received := "no datapoints were"
		if len(o.Real) > 0 {
			received = countWere(len(o.Real), "datapoint")
		}
		treated := "Breaching"
		if rule.Missing == MissingIsNotBreaching {
			treated = "NonBreaching"
		}
		return fmt.Sprintf("Threshold Crossed: %s received for %s and %s treated as [%s].",
			received, count(rule.N, "period"), countWere(o.Filled, "missing datapoint"), treated)
	case ByPrematurity:
		return crossed(rule, o) + fmt.Sprintf(" No datapoint came after, and the oldest is at least %s old.", count(rule.M, "period"))
	case ByDatapoints, Kept, FewSamples:
	}
	return crossed(rule, o)
}

// crossed lists the datapoints that spoke for the state, newest first.
func crossed(rule Rule, o Outcome) string {
	raised := o.State == Raised
	var listed []string
	for i := len(o.Real) - 1; i >= 0; i-- {
		if point := o.Real[i]; rule.Breaches(point) == raised {
			listed = append(listed, fmt.Sprintf("%s (%s)", number(rule.Value(point)), point.Start.UTC().Format("02/01/06 15:04:05")))
		}
	}
	verb, transition, least := "were", "OK -> ALARM", rule.M
	if len(listed) == 1 {
		verb = "was"
	}
	if !raised {
		verb, transition, least = verb+" not", "ALARM -> OK", rule.N-rule.M+1
	}
	return fmt.Sprintf("Threshold Crossed: %d out of the last %d datapoints [%s] %s %s the threshold (%s) (minimum %s for %s transition).",
		len(listed), len(o.Real), strings.Join(listed, ", "), verb, words[rule.Operator], number(rule.Threshold), count(least, "datapoint"), transition)
}

// keptDetail says why an evaluation left the state alone.
func keptDetail(a Alarm, o Outcome) string {
	if o.Grounds == FewSamples {
		return fmt.Sprintf("%s of fewer than %s samples is not gone by; the state stays %s", a.Rule.Statistic, number(a.Rule.extended.least()), a.State)
	}
	if len(o.Real) == 0 {
		return fmt.Sprintf("no datapoints in the last %s; missing data is ignored, so the state stays %s", count(a.Rule.Range(), "period"), a.State)
	}
	return fmt.Sprintf("only %s in the last %s, too few to decide; the state stays %s",
		count(len(o.Real), "breaching datapoint"), count(a.Rule.Range(), "period"), a.State)
}

// dataStamp is how StateReasonData writes times.
const dataStamp = "2006-01-02T15:04:05.000-0700"

// reasonData is the machine-readable reason, in the shape of StateReasonData.
func reasonData(rule Rule, o Outcome, now time.Time) json.RawMessage {
	type evaluated struct {
		Timestamp   string  `json:"timestamp"`
		SampleCount float64 `json:"sampleCount"`
		Value       float64 `json:"value"`
	}
	data := struct {
		Version    string      `json:"version"`
		QueryDate  string      `json:"queryDate"`
		StartDate  string      `json:"startDate,omitempty"`
		Statistic  Statistic   `json:"statistic"`
		Unit       string      `json:"unit,omitempty"`
		Period     int64       `json:"period"`
		Recent     []float64   `json:"recentDatapoints"`
		Threshold  float64     `json:"threshold"`
		Datapoints []evaluated `json:"evaluatedDatapoints,omitempty"`
	}{
		Version: "1.0", QueryDate: now.UTC().Format(dataStamp), Statistic: rule.Statistic, Unit: rule.Unit, Period: int64(rule.Period / time.Second),
		Recent: []float64{}, Threshold: rule.Threshold,
	}
	for i, point := range o.Real {
		if i == 0 {
			data.StartDate = point.Start.UTC().Format(dataStamp)
		}
		data.Recent = append(data.Recent, rule.Value(point))
	}
	for i := len(o.Real) - 1; i >= 0; i-- {
		point := o.Real[i]
		data.Datapoints = append(data.Datapoints, evaluated{
			Timestamp: point.Start.UTC().Format(dataStamp), SampleCount: point.Samples, Value: rule.Value(point),
		})
	}
	text, err := json.Marshal(data)
	if err != nil {
		// Only NaN and infinities cannot be written, and no sample carries one; a reason without data beats no reason.
		return nil
	}
	return text
}

// number prints as Java prints a double, which is what CloudWatch does: 0.0, 0.25, 1.0E7.
func number(v float64) string {
	if size := max(v, -v); size != 0 && (size >= 1e7 || size < 1e-3) {
		text := strings.ToUpper(strconv.FormatFloat(v, 'e', -1, 64))
		mantissa, exponent, _ := strings.Cut(text, "E")
		if !strings.Contains(mantissa, ".") {
			mantissa += ".0"
		}
		power, err := strconv.Atoi(exponent)
		if err != nil {
			return text
		}
		return mantissa + "E" + strconv.Itoa(power)
	}
	text := strconv.FormatFloat(v, 'f', -1, 64)
	if !strings.Contains(text, ".") {
		text += ".0"
	}
	return text
}

// count prints "1 datapoint" or "2 datapoints".
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// countWere prints "1 datapoint was" or "2 datapoints were".
func countWere(n int, noun string) string {
	if n == 1 {
		return count(n, noun) + " was"
	}
	return count(n, noun) + " were"
}
