package database

import (
	"strings"
	"time"
)

// Watching is what Due must know between two looks. The zero value knows nothing.
type Watching struct {
	Well  bool      // a primary was seen, and none of the alarms was raised: there is something to lose
	Moved time.Time // of the last promotion
}

// holdMin is how long after a promotion no other one is ordered: a database that is lost twice in a minute has another illness.
const holdMin = time.Minute

// Due says whether the alarms order a promotion: all of them are raised, since a time when the database was well. So one place that cannot
// reach the database is an illness of that place. states holds the state of every alarm that was heard of.
func Due(w Watching, states map[string]string, alarms []string, now time.Time) (next Watching, due bool, reason string) {
	raised := 0
	for _, name := range alarms {
		switch states[name] {
		case "ALARM":
			raised++
		case "OK":
		default:
			return w, false, name + " is not heard of"
		}
	}
	switch {
	case len(alarms) == 0:
		return w, false, "no alarm orders a promotion"
	case raised == 0:
		w.Well = true
		return w, false, ""
	case raised < len(alarms):
		return w, false, ""
	case !w.Well:
		return w, false, "the alarms were raised before the database was seen well"
	case now.Sub(w.Moved) < holdMin:
		return w, false, "the last promotion is less than " + holdMin.String() + " ago"
	}
	w.Well, w.Moved = false, now
	return w, true, strings.Join(alarms, ", ") + " in ALARM"
}
