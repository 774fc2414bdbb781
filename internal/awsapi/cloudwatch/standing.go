package cloudwatch

import (
	"maps"
	"slices"
	"time"
)

// Stands is where an alarm stands.
type Stands struct {
	Region, Name, State, Reason string
	Since                       time.Time // of the state; zero: not known
}

// Standing returns where all alarms of all regions stand, for people.
func (e *Engine) Standing() []Stands {
	e.mu.Lock()
	defer e.mu.Unlock()
	var all []Stands
	for _, key := range slices.Sorted(maps.Keys(e.alarms)) {
		h := e.alarms[key]
		value, reason, _, updated, moved := h.state()
		one := Stands{Region: h.Region, Name: h.name(), State: *value, Reason: *reason}
		if *moved != nil {
			one.Since = (*moved).Time
		} else if *updated != nil {
			one.Since = (*updated).Time
		}
		all = append(all, one)
	}
	return all
}
