package alarm

// Outcome is what an evaluation found: the state, and on what grounds.
type Outcome struct {
	State   State
	Grounds Grounds
	Real    []Datapoint // the real datapoints that were looked at, oldest first
	Filled  int         // how many missing ones were treated as breaching or not breaching
}

// Grounds says which rule decided.
type Grounds int

// The grounds of an outcome.
const (
	ByDatapoints  Grounds = iota // real datapoints alone decided
	ByFilling                    // missing datapoints were filled in as breaching or not breaching
	ByAbsence                    // there was none, and missing means unknown
	ByPrematurity                // few datapoints, all breaching, the oldest M periods old or older
	Kept                         // too little is known: the state stays
	FewSamples                   // a percentile of too few samples is not gone by: the state stays
)

// Evaluate decides the state from the window (oldest first; its length is the range) and the state before.
//
// Missing datapoints only count when fewer than N real ones are in range: an alarm whose metric stops keeps judging by what it last
// knew until that has left the range.
func Evaluate(rule Rule, current State, window []Datapoint) Outcome {
	considered := newestReal(window, rule.N)
	breaching, insignificant := 0, 0
	for _, point := range considered {
		switch {
		case rule.insignificant(point):
			insignificant++
		case rule.Breaches(point):
			breaching++
		}
	}
	good := len(considered) - breaching - insignificant
	outcome := Outcome{State: current, Grounds: ByDatapoints, Real: considered}
	if breaching >= rule.M {
		outcome.State = Raised
		return outcome
	}
	if insignificant > 0 && good <= rule.N-rule.M {
		outcome.Grounds = FewSamples
		return outcome
	}
	if len(considered) == rule.N {
		outcome.State = OK
		return outcome
	}

	missing := rule.N - len(considered)
	switch rule.Missing {
	case MissingIsBreaching:
		outcome.Grounds, outcome.Filled, outcome.State = ByFilling, missing, OK
		if breaching+missing >= rule.M {
			outcome.State = Raised
		}
		return outcome
	case MissingIsNotBreaching:
		outcome.Grounds, outcome.Filled, outcome.State = ByFilling, missing, OK
		return outcome
	case MissingIsMissing, MissingIsIgnored:
	}
	switch {
	case good > 0:
		outcome.State = OK
	case rule.Missing == MissingIsIgnored:
		outcome.Grounds = Kept
	case breaching == 0:
		outcome.State, outcome.Grounds = Insufficient, ByAbsence
	case oldestAge(window) >= rule.M:
		outcome.State, outcome.Grounds = Raised, ByPrematurity
	default:
		// The published rules say nothing of a single fresh breaching datapoint after silence: neither raise nor clear on it.
		outcome.Grounds = Kept
	}
	return outcome
}

// newestReal returns the newest datapoints that are not missing, at most count, oldest first.
func newestReal(window []Datapoint, count int) []Datapoint {
	present := make([]Datapoint, 0, len(window))
	for _, point := range window {
		if !point.Missing() {
			present = append(present, point)
		}
	}
	return present[max(0, len(present)-count):]
}

// oldestAge returns the age in periods of the oldest real datapoint in the window; the newest period has age 1.
func oldestAge(window []Datapoint) int {
	for i, point := range window {
		if !point.Missing() {
			return len(window) - i
		}
	}
	return 0
}
