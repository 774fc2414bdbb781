package fleet

import (
	"time"

	"firedrill/internal/drill"
)

// OutcomeSkipped is of a drill of the schedule that did not begin. It is no verdict.
const OutcomeSkipped = "skipped"

// Wanted says how often a drill of a service is wanted.
type Wanted struct {
	Service string
	Drill   string
	Every   drill.Seconds
	Since   time.Time // from when on
}

// WantedBy are the cadences that a service file asks for.
func WantedBy(service drill.Service, since time.Time) []Wanted {
	var all []Wanted
	for _, one := range service.Drills {
		if one.Cadence > 0 {
			all = append(all, Wanted{service.Name, one.Name, one.Cadence, since})
		}
	}
	return all
}

// Cadence is how often a drill of a service is wanted, and how that stands.
type Cadence struct {
	Service string        `json:"service"`
	Drill   string        `json:"drill"`
	Every   drill.Seconds `json:"every_seconds"`
	State   string        `json:"state"` // kept, due, or overdue: late by a quarter of the cadence
	Text    string        `json:"text"`  // in words
	Due     time.Time     `json:"due"`
	Overdue time.Time     `json:"overdue"`
	Last    time.Time     `json:"last,omitzero"`     // when the newest one began that passed or failed
	Outcome string        `json:"outcome,omitempty"` // of that
	Result  string        `json:"result,omitempty"`  // the name under which it is kept
}
