package alarm

import "time"

// Periods returns the starts of the periods that an evaluation at now looks at, oldest first: the rule's range, its newest period complete.
func (r Rule) Periods(now time.Time) []time.Time {
	newest := indexOf(now.Add(-r.Grace), r.Period) - 1
	starts := make([]time.Time, 0, r.Range())
	for index := newest - int64(r.Range()) + 1; index <= newest; index++ {
		starts = append(starts, time.Unix(0, index*int64(r.Period)).UTC())
	}
	return starts
}
