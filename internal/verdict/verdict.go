package verdict

import (
	"fmt"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Verdict is what can be said of a whole run.
type Verdict struct {
	Run         string          `json:"run"`
	Service     string          `json:"service"`
	Outcome     history.Outcome `json:"outcome"` // passed, failed or inconclusive
	Reason      string          `json:"reason"`  // one sentence: why it is what it is
	Exit        int             `json:"exit_code"`
	NotReverted bool            `json:"not_reverted,omitempty"` // impact may still be in force: call a human
	Interrupted bool            `json:"interrupted,omitempty"`  // somebody ended the run
	Refused     bool            `json:"refused,omitempty"`      // a safeguard did not let a step start
	Started     time.Time       `json:"started"`
	Finished    time.Time       `json:"finished"` // the last moment that the log knows of
	Revision    string          `json:"revision,omitempty"`
	Checks      []Check         `json:"checks"` // of the run as a whole
	Steps       []StepVerdict   `json:"steps"`  // one for each step of the plan, in its order
	Totals      Totals          `json:"totals"`
	RTO         *Figure         `json:"rto,omitempty"` // the worst of all drills
}

// The exit codes that a verdict can ask for; docs/ARCHITECTURE.md lists all.
const (
	exitPassed       = 0
	exitFailed       = 1
	exitInconclusive = 3
	exitRefused      = 4
	exitNotReverted  = 5
	exitInterrupted  = 130
)

// ExitCode returns the code that a command exits with. Impact that may still be in force outranks everything, because somebody has to
// act now; a proven failure outranks how the run ended.
func (v Verdict) ExitCode() int {
	switch {
	case v.NotReverted:
		return exitNotReverted
	case v.Outcome == history.Failed:
		return exitFailed
	case v.Interrupted:
		return exitInterrupted
	case v.Refused:
		return exitRefused
	case v.Outcome == history.Passed:
		return exitPassed
	}
	return exitInconclusive
}

// StepVerdict is what can be said of one step.
type StepVerdict struct {
	Step        int             `json:"step"` // as in Plan.Steps, from 0
	Kind        string          `json:"kind"`
	Name        string          `json:"name"`
	Environment string          `json:"environment,omitempty"`
	Outcome     history.Outcome `json:"outcome"`
	Reason      string          `json:"reason"`
	Ran         bool            `json:"ran"` // it was started
	Started     time.Time       `json:"started,omitzero"`
	Finished    time.Time       `json:"finished,omitzero"`
	NotReverted bool            `json:"not_reverted,omitempty"`
	Refused     bool            `json:"refused,omitempty"`
	Checks      []Check         `json:"checks"`
	Impact      *Impact         `json:"impact,omitempty"`   // drills only
	Clients     *Clients        `json:"clients,omitempty"`  // nil when nobody sampled
	RTO         *Figure         `json:"rto,omitempty"`      // drills with client samples only
	Revision    string          `json:"revision,omitempty"` // deployments only

	Recoveries []ClientRecovery `json:"recoveries,omitempty"` // drills with two clients or more, each for itself
}

// Group says which question a check belongs to; it decides how the check weighs.
type Group string

// The groups, in the order in which a drill answers them. What was not steady before, and an injection that is not proven, make the
// whole drill inconclusive, whatever the expectations say: what they measured was not this disaster.
const (
	GroupRun         Group = "run"
	GroupSteady      Group = "steady before"
	GroupInjection   Group = "attack in force"
	GroupBite        Group = "it bit"
	GroupExpectation Group = "expectation"
	GroupRevert      Group = "reverted"
	GroupObjective   Group = "objective"
	GroupReadiness   Group = "rollback"
	GroupDeploy      Group = "deploy"
	GroupPromote     Group = "promote"
)

// Admitted is the name of the check of a step that a safeguard did not let start; its explanation is the refusal.
const Admitted = "admitted"

// Check is one question with its answer and what the answer stands on.
type Check struct {
	Group       Group           `json:"group"`
	Name        string          `json:"name"`
	Outcome     history.Outcome `json:"outcome"`
	Measured    *Quantity       `json:"measured,omitempty"`
	Allowed     *Quantity       `json:"allowed,omitempty"` // a maximum, or with AtLeast a minimum
	AtLeast     bool            `json:"at_least,omitempty"`
	Evidence    []int64         `json:"evidence,omitempty"` // sequence numbers of the events that it stands on
	Explanation string          `json:"explanation"`        // one sentence
	NotReverted bool            `json:"not_reverted,omitempty"`
}

// The units of quantities.
const (
	UnitSeconds = "s"
	UnitPercent = "%"
)

// Quantity is a measured or an allowed value. The true value lies within Bound of Value.
type Quantity struct {
	Value float64 `json:"value"`
	Bound float64 `json:"bound,omitempty"`
	Unit  string  `json:"unit"`
}

// Figure is a measured recovery: from the moment the attack was in force to the first of the good answers that a client got again.
// Without a failed answer it is zero. When Open no client was served again while somebody looked; then it is at least Seconds.
type Figure struct {
	Step     int       `json:"step"`
	Client   string    `json:"client"`
	Seconds  float64   `json:"seconds"`
	Bound    float64   `json:"bound_seconds"`
	Open     bool      `json:"open,omitempty"`
	Allowed  float64   `json:"allowed_seconds,omitempty"` // the objective; 0 when none is stated
	From     time.Time `json:"from"`
	To       time.Time `json:"to"`
	Outage   float64   `json:"outage_seconds"` // how long clients saw failures
	Evidence []int64   `json:"evidence,omitempty"`
}

// ClientRecovery is what one client tells of a disaster, from the moment when the attack was in force to its first good answer for good. Those that connect anew
// and those that keep their connections fail over differently.
type ClientRecovery struct {
	Client      string  `json:"client"`
	Connections string  `json:"connections,omitempty"` // new-connection or keep-alive
	Requests    int     `json:"requests"`
	Failed      int     `json:"failed"`
	Seconds     float64 `json:"seconds"` // 0 when no request failed
	Bound       float64 `json:"bound_seconds"`
	Outage      float64 `json:"outage_seconds"`
	Open        bool    `json:"open,omitempty"` // it was not served again
	Void        string  `json:"void,omitempty"` // why nothing may be concluded from it
	Evidence    []int64 `json:"evidence,omitempty"`
}

// Impact is the proof sheet of an attack: what was cut, what was counted and how it ended.
type Impact struct {
	From  time.Time    `json:"from,omitzero"` // in force on the first host: T0
	To    time.Time    `json:"to,omitzero"`   // taken back on the last host
	Hosts []HostImpact `json:"hosts"`
}

// HostImpact is the part of one host.
type HostImpact struct {
	Host       string       `json:"host"`
	GUID       string       `json:"guid,omitempty"`
	Attack     string       `json:"attack"`
	OneWay     bool         `json:"one_way,omitempty"`
	InForce    time.Time    `json:"in_force,omitzero"`
	Until      time.Time    `json:"until,omitzero"` // the deadline
	Reverted   time.Time    `json:"reverted,omitzero"`
	Why        string       `json:"why,omitempty"` // why it was taken back then
	Residue    []string     `json:"residue,omitempty"`
	Targets    int          `json:"targets"` // addresses that were cut
	Egress     uint64       `json:"egress"`  // packets dropped
	Ingress    uint64       `json:"ingress"`
	Forward    uint64       `json:"forward,omitempty"`
	Canaries   []CanaryLine `json:"canaries,omitempty"`
	DownAt     time.Time    `json:"down_at,omitzero"` // one-way kinds: seen down, and up again
	UpAt       time.Time    `json:"up_at,omitzero"`
	BootBefore string       `json:"boot_before,omitempty"`
	BootAfter  string       `json:"boot_after,omitempty"`

	Number int `json:"number,omitempty"` // of the attack, of several, from 0

	order   drill.Order // as planned
	several bool        // the drill has more than one
	facts   hostFacts   // the events that the sheet was made from
}

// place names the sheet: its host, and of several attacks which one.
func (h *HostImpact) place() string {
	if !h.several {
		return h.Host
	}
	return fmt.Sprintf("%s (%d: %s)", h.Host, h.Number+1, h.Attack)
}

// CanaryLine sums the tries of one canary on one kind of flow.
type CanaryLine struct {
	Target  string `json:"target"`
	Flow    string `json:"flow"`   // "new" or "established"
	Before  string `json:"before"` // "through 1 of 1"; empty when never tried
	InForce string `json:"in_force"`
	After   string `json:"after"`
}

// Clients is what clients saw during a step.
type Clients struct {
	Samples   int      `json:"samples"`
	Failed    int      `json:"failed"`
	Late      int      `json:"late"` // sent later than scheduled by more than an interval: our own fault
	Outages   []Outage `json:"outages,omitempty"`
	Available float64  `json:"available_percent"`
}

// Outage is a span in which a client got no good answer. It runs from the scheduled time of the first failed sample to the scheduled
// time of the first of the good samples that ended it.
type Outage struct {
	Client  string    `json:"client"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
	Open    bool      `json:"open,omitempty"` // it had not ended when the samples did
	Seconds float64   `json:"seconds"`
	Bound   float64   `json:"bound_seconds"`
	Failed  int       `json:"failed"`
	Cause   string    `json:"cause,omitempty"`
	Void    string    `json:"void,omitempty"` // why the measurement cannot be relied on
	Seqs    []int64   `json:"evidence,omitempty"`
}

// Totals counts for the head of a report.
type Totals struct {
	Steps        int     `json:"steps"`
	Drills       int     `json:"drills"`
	Checks       int     `json:"checks"`
	Passed       int     `json:"passed"`
	Failed       int     `json:"failed"`
	Inconclusive int     `json:"inconclusive"`
	Events       int     `json:"events"`
	Samples      int     `json:"samples"`
	FailedSample int     `json:"failed_samples"`
	Available    float64 `json:"available_percent"`
	Dropped      uint64  `json:"dropped_packets"`
	Unmeasured   string  `json:"unmeasured,omitempty"` // an objective that is stated but that nothing in this run could measure
}

// worst returns the outcome that decides when both hold: failed, then inconclusive, then passed. Anything else counts as inconclusive.
func worst(a, b history.Outcome) history.Outcome {
	switch {
	case a == history.Failed || b == history.Failed:
		return history.Failed
	case a == history.Passed && b == history.Passed:
		return history.Passed
	}
	return history.Inconclusive
}
