package fleet

import "time"

// Record is what is kept of a drill or pipeline that was judged: enough for lists and trends. Its proof stays where it was run.
type Record struct {
	ID          string       `json:"id"` // of its directory; it begins with the time
	Service     string       `json:"service"`
	Outcome     string       `json:"outcome"` // passed, failed or inconclusive
	Reason      string       `json:"reason,omitempty"`
	NotReverted bool         `json:"not_reverted,omitempty"`
	Started     time.Time    `json:"started"`
	Finished    time.Time    `json:"finished"`
	Steps       []RecordStep `json:"steps,omitempty"`
}

// RecordStep is one step of it.
type RecordStep struct {
	Name    string        `json:"name"`
	Kind    string        `json:"kind"`
	Outcome string        `json:"outcome"`
	RTO     *RecordFigure `json:"rto,omitempty"`
}

// RecordFigure is a measured recovery, in seconds.
type RecordFigure struct {
	Seconds float64 `json:"seconds"`
	Bound   float64 `json:"bound_seconds,omitempty"`
	Allowed float64 `json:"allowed_seconds,omitempty"` // 0: no objective is stated
	Open    bool    `json:"open,omitempty"`            // nobody was served again while somebody looked
}

// Scheduled is an attack that begins by itself, in the name of the person who put it there.
type Scheduled struct {
	ID      string        `json:"id"`
	Name    string        `json:"name"`
	By      Member        `json:"by"`
	Since   time.Time     `json:"since"`
	Cron    string        `json:"cron"`
	Window  string        `json:"window,omitempty"`
	Request AttackRequest `json:"request"`

	Done  time.Time `json:"done,omitzero"`   // the newest moment that was dealt with
	Last  string    `json:"last,omitempty"`  // the run of then
	Why   string    `json:"why,omitempty"`   // why there was none
	Ended bool      `json:"ended,omitempty"` // taken off the schedule
}

// ScheduleRequest asks for an attack that begins by itself.
type ScheduleRequest struct {
	Name    string        `json:"name"`
	Cron    string        `json:"cron"`
	Window  string        `json:"window,omitempty"`
	Request AttackRequest `json:"request"`
}

// ScheduledView is an entry with when it is due next.
type ScheduledView struct {
	Scheduled
	Next    time.Time `json:"next,omitzero"`
	Waiting string    `json:"waiting,omitempty"` // why it does not run now
}
