package alarm

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"firedrill/internal/drill"
)

const (
	// transportGrace is how long after its end a period stays open for samples under way: several round trips of any network that a
	// failover makes sense over, and little beside the shortest period of 1 s.
	transportGrace = 250 * time.Millisecond
	// firstDataAllowance is how long a host may take for its first sample: a connection over SSH and a copy of the binary.
	firstDataAllowance = 15 * time.Second
	// rangeBeyond is how many periods beyond N are looked at. CloudWatch does not publish the figure; 2 fits all that is documented.
	rangeBeyond = 2

	day  = 24 * time.Hour
	week = 7 * day
)

// State is what an alarm is in. The values are those of CloudWatch and of the log.
type State string

// The states of an alarm.
const (
	OK           State = "OK"
	Raised       State = "ALARM"
	Insufficient State = "INSUFFICIENT_DATA"
)

// Missing is how periods without data are treated when there are fewer than N real datapoints in range.
type Missing string

// The treatments, spelled as in files.
const (
	MissingIsMissing      Missing = "missing"
	MissingIsIgnored      Missing = "ignore"
	MissingIsBreaching    Missing = "breaching"
	MissingIsNotBreaching Missing = "notBreaching"
)

// LowSamples is what becomes of a percentile of too few samples.
type LowSamples string

// The treatments of percentiles of few samples, spelled as in files.
const (
	LowSamplesEvaluate LowSamples = "evaluate" // it counts like any other
	LowSamplesIgnore   LowSamples = "ignore"   // the state stays unless the others decide
)

// Operator compares a datapoint with the threshold.
type Operator string

// The operators.
const (
	Less           Operator = "<"
	LessOrEqual    Operator = "<="
	Greater        Operator = ">"
	GreaterOrEqual Operator = ">="
)

// words are how a reason names an operator.
var words = map[Operator]string{
	Less: "less than", LessOrEqual: "less than or equal to", Greater: "greater than", GreaterOrEqual: "greater than or equal to",
}

// Rule is an alarm as the evaluator reads it. Make one with Compile; the zero value is of no use.
type Rule struct {
	Name        string
	Host        string
	Environment string
	Metric      string

	Statistic  Statistic
	Unit       string // of the values, as told to people and in StateReasonData; compared nowhere
	Operator   Operator
	Threshold  float64
	Period     time.Duration // whole seconds, from 1 s
	M, N       int           // 1 <= M <= N
	Missing    Missing
	LowSamples LowSamples    // of a percentile
	Heartbeat  bool          // silence is a datapoint, see the package comment
	Absent     time.Duration // more than 0: raised after so much silence, and nothing above counts
	Grace      time.Duration // how long after its end a period is complete
	Disabled   bool

	extended *extended // of Statistic; nil for the simple ones
}

// Compile reads an alarm of the service file together with its metric. The error says what is wrong with the alarm and what to write.
func Compile(a drill.Alarm, metric drill.Metric) (Rule, error) {
	rule := Rule{
		Name: a.Name, Host: a.Host, Environment: a.Environment, Metric: a.Metric,
		Period: a.Period.Duration(), M: a.Datapoints.M, N: a.Datapoints.N, Missing: Missing(a.Missing),
		Heartbeat: metric.Heartbeat, Disabled: a.Disabled, Grace: transportGrace, Unit: metric.Unit, LowSamples: LowSamples(a.LowSamples),
		Absent: a.Absent.Duration(),
	}
	if rule.Period == 0 {
		rule.Period = time.Minute
	}
	if rule.N == 0 {
		rule.N = 1
	}
	if rule.M == 0 {
		rule.M = rule.N
	}
	if rule.Missing == "" {
		rule.Missing = MissingIsMissing
	}
	if !metric.Heartbeat && !metric.Received() {
		rule.Grace += sampleTimeout(metric)
	}
	if rule.Absent > 0 {
		return rule, nil
	}
	if err := rule.compare(a); err != nil {
		return Rule{}, fmt.Errorf("alarm %s: %w", a.Name, err)
	}
	if err := rule.validate(); err != nil {
		return Rule{}, fmt.Errorf("alarm %s: %w", a.Name, err)
	}
	return rule, nil
}

// sampleTimeout is the longest that one sample of the metric takes, with the defaults of the service file.
func sampleTimeout(metric drill.Metric) time.Duration {
	if metric.Timeout > 0 {
		return metric.Timeout.Duration()
	}
	if metric.Every > 0 {
		return metric.Every.Duration() / 2
	}
	return time.Second / 2
}

// compare sets statistic, operator and threshold.
func (r *Rule) compare(a drill.Alarm) error {
	written := 0
	for _, choice := range []struct {
		statistic Statistic
		text      string
	}{{Average, a.Average}, {Minimum, a.Minimum}, {Maximum, a.Maximum}} {
		if choice.text == "" {
			continue
		}
		written++
		operator, threshold, err := ParseComparison(choice.text)
		if err != nil {
			return fmt.Errorf("%s: %w", strings.ToLower(string(choice.statistic)), err)
		}
		r.Statistic, r.Operator, r.Threshold = choice.statistic, operator, threshold
	}
	if a.Statistic != "" {
		written++
		if err := r.compareStatistic(a.Statistic, a.Is); err != nil {
			return err
		}
	}
	switch {
	case written == 1:
		return nil
	case written > 1:
		return fmt.Errorf("it compares more than once; keep one of average, minimum, maximum, statistic")
	case r.Heartbeat:
		r.Statistic, r.Operator, r.Threshold = Maximum, GreaterOrEqual, 1
		return nil
	case r.Missing == MissingIsBreaching:
		// Only absence counts: every datapoint has at least one sample, so none breaches.
		r.Statistic, r.Operator, r.Threshold = SampleCount, Less, 1
		return nil
	}
	return fmt.Errorf(`it compares nothing; write one of average, minimum, maximum, as average: "< 1"`)
}

// compareStatistic reads a statistic by its name, with its comparison.
func (r *Rule) compareStatistic(name, is string) error {
	statistic, err := ParseStatistic(name)
	if err != nil {
		return fmt.Errorf("statistic: %w", err)
	}
	if r.Operator, r.Threshold, err = ParseComparison(is); err != nil {
		return fmt.Errorf("is: %w", err)
	}
	r.SetStatistic(statistic)
	return nil
}

// SetStatistic sets a statistic that ParseStatistic has read.
func (r *Rule) SetStatistic(s Statistic) {
	r.Statistic, r.extended = s, nil
	if !slices.Contains(simple, s) {
		r.extended, _ = parseExtended(string(s)) // read before
	}
}

// Value returns the rule's statistic of a datapoint; 0 for a missing one.
func (r Rule) Value(p Datapoint) float64 {
	if r.extended != nil {
		return r.extended.of(p.values)
	}
	return p.Value(r.Statistic)
}

// insignificant says that the datapoint is a percentile of so few samples that the rule does not go by it.
func (r Rule) insignificant(p Datapoint) bool {
	return r.LowSamples == LowSamplesIgnore && r.extended != nil && p.Samples < r.extended.least()
}

func (r *Rule) validate() error {
	switch r.Missing {
	case MissingIsMissing, MissingIsIgnored, MissingIsBreaching, MissingIsNotBreaching:
	default:
		return fmt.Errorf("missing: %q is unknown; write missing, ignore, breaching or notBreaching", r.Missing)
	}
	if r.LowSamples != "" && r.LowSamples != LowSamplesEvaluate && r.LowSamples != LowSamplesIgnore {
		return fmt.Errorf("low_samples: %q is unknown; write evaluate or ignore", r.LowSamples)
	}
	if r.Period < time.Second || r.Period%time.Second != 0 {
		return fmt.Errorf("period: %s is not a whole number of seconds; write 1s or more", r.Period)
	}
	if r.M < 1 || r.N < r.M {
		return fmt.Errorf(`datapoints: %d of %d cannot be met; write "M of N" with 1 <= M <= N`, r.M, r.N)
	}
	longest := day
	if r.Period >= time.Hour {
		longest = week
	}
	if time.Duration(r.N) > longest/r.Period {
		return fmt.Errorf("datapoints: %d periods of %s are more than %s; make the period longer or N smaller", r.N, r.Period, longest)
	}
	return nil
}

// ParseComparison reads a comparison such as "< 1" or ">=0.5".
func ParseComparison(text string) (Operator, float64, error) {
	trimmed := strings.TrimSpace(text)
	for _, operator := range []Operator{LessOrEqual, GreaterOrEqual, Less, Greater} {
		number, ok := strings.CutPrefix(trimmed, string(operator))
		if !ok {
			continue
		}
		threshold, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || math.IsNaN(threshold) || math.IsInf(threshold, 0) {
			break
		}
		return operator, threshold, nil
	}
	return "", 0, fmt.Errorf(`%q is not a comparison; write <, <=, > or >= and a number, as "< 1"`, text)
}

// Range returns how many periods an evaluation looks at.
func (r Rule) Range() int { return r.N + rangeBeyond }

// Breaches says whether the datapoint is on the wrong side of the threshold. A missing datapoint is on neither.
func (r Rule) Breaches(p Datapoint) bool {
	value := r.Value(p)
	switch r.Operator {
	case Less:
		return value < r.Threshold
	case LessOrEqual:
		return value <= r.Threshold
	case Greater:
		return value > r.Threshold
	case GreaterOrEqual:
		return value >= r.Threshold
	}
	return false
}

// Next returns the first instant after t at which the rule is to be evaluated. Instants do not depend on when a watch started.
func (r Rule) Next(t time.Time) time.Time {
	cadence := r.cadence()
	begin := floor(t.Add(-r.Grace), cadence)
	next := begin.Add(r.Grace)
	for !next.After(t) {
		next = next.Add(cadence)
	}
	return next
}

func (r Rule) cadence() time.Duration {
	switch {
	case time.Duration(r.N)*r.Period > day:
		return time.Hour
	case r.Period >= time.Minute && r.Period%time.Minute == 0:
		return time.Minute
	case r.Period >= 10*time.Second && r.Period%(10*time.Second) == 0:
		return 10 * time.Second
	}
	return r.Period
}

// floor returns the begin of the period that holds t, counted from the Unix epoch: time.Truncate counts from the year 1, where a
// week would begin on another day.
func floor(t time.Time, period time.Duration) time.Time {
	return time.Unix(0, indexOf(t, period)*int64(period)).UTC()
}

// indexOf numbers periods from the Unix epoch. Nanoseconds reach until the year 2262.
func indexOf(t time.Time, period time.Duration) int64 {
	nanos, length := t.UnixNano(), int64(period)
	index := nanos / length
	if nanos%length < 0 {
		index--
	}
	return index
}
