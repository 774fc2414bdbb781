package fleet

import (
	"time"

	"firedrill/internal/drill"
)

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

	Unserved drill.Seconds `json:"unserved_seconds,omitempty"` // what it cost clients, where a service level objective asks for it
}

// RecordFigure is a measured recovery, in seconds.
type RecordFigure struct {
	Seconds float64 `json:"seconds"`
	Bound   float64 `json:"bound_seconds,omitempty"`
	Allowed float64 `json:"allowed_seconds,omitempty"` // 0: no objective is stated
	Open    bool    `json:"open,omitempty"`            // nobody was served again while somebody looked
}

// Scheduled is an attack or a drill that begins by itself, in the name of the person who put it there.
type Scheduled struct {
	ID      string        `json:"id"`
	Name    string        `json:"name"`
	By      Member        `json:"by"`
	Since   time.Time     `json:"since"`
	Cron    string        `json:"cron"`
	Window  string        `json:"window,omitempty"`
	Request AttackRequest `json:"request"`

	Drill   *DrillRequest `json:"drill,omitempty"`            // in place of an attack
	Freeze  []string      `json:"freeze,omitempty"`           // dates on which it does not begin
	Jitter  drill.Seconds `json:"jitter_seconds,omitempty"`   // each start is put off by a part of this
	CatchUp drill.Seconds `json:"catch_up_seconds,omitempty"` // how late a missed start may still be; 0: a minute
	Leashed bool          `json:"leashed,omitempty"`          // a drill that is only planned
	Leash   string        `json:"leash,omitempty"`            // who leashed or unleashed it last

	Done      time.Time `json:"done,omitzero"`       // the newest moment that was dealt with
	Beginning string    `json:"beginning,omitempty"` // the run or drill that is begun for it, until it is known what became of that
	Again     time.Time `json:"again,omitzero"`      // a moment that was begun once more, because the server ended, or led no more, in the middle of it
	Last      string    `json:"last,omitempty"`      // the run of then
	Why       string    `json:"why,omitempty"`       // why there was none
	Ended     bool      `json:"ended,omitempty"`     // taken off the schedule
}

// ScheduleRequest asks for an attack that begins by itself.
type ScheduleRequest struct {
	Name    string        `json:"name"`
	Cron    string        `json:"cron"`
	Window  string        `json:"window,omitempty"`
	Request AttackRequest `json:"request,omitzero"`

	Drill   *DrillRequest `json:"drill,omitempty"` // in place of an attack; it is leashed until somebody unleashes it
	Freeze  []string      `json:"freeze,omitempty"`
	Jitter  drill.Seconds `json:"jitter_seconds,omitempty"`
	CatchUp drill.Seconds `json:"catch_up_seconds,omitempty"`
}

// Freeze is dates on which the schedule of a server begins nothing.
type Freeze struct {
	Dates  string    `json:"dates"` // "2026-12-18..2027-01-04", with a time zone if need be
	Reason string    `json:"reason,omitempty"`
	By     string    `json:"by,omitempty"`
	At     time.Time `json:"at,omitzero"`
	Lifted bool      `json:"lifted,omitempty"`
}

// ScheduledView is an entry with when it is due next.
type ScheduledView struct {
	Scheduled
	Next    time.Time `json:"next,omitzero"`
	Waiting string    `json:"waiting,omitempty"` // why it does not run now
}

// PruneRequest asks for what is beyond the retention to be removed now.
type PruneRequest struct {
	DryRun bool `json:"dry_run,omitempty"` // only say what would be removed
}

// Pruned says what was removed because it was beyond the retention: the first five hundred of each, and the rest comes soon.
type Pruned struct {
	DryRun    bool          `json:"dry_run,omitempty"`
	Age       drill.Seconds `json:"age_seconds"` // how long history is kept; 0: for ever
	Most      int           `json:"most"`        // how many runs, drills, and verdicts, of each; 0: as many as there are
	Runs      []string      `json:"runs"`
	Drills    []string      `json:"drills"`
	Verdicts  []string      `json:"verdicts"`
	AuditLogs int           `json:"audit_logs"` // of the server that answers

	AuditEntries int `json:"audit_entries,omitempty"` // of what several servers have put before each other
}
