package history

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"firedrill/internal/drill"
)

// The kinds of facts, grouped by who sees them.
const (
	KindRunStarted   Kind = "run.started"
	KindRunFinished  Kind = "run.finished"
	KindStepStarted  Kind = "step.started"
	KindStepFinished Kind = "step.finished"
	KindPhase        Kind = "phase"
	KindPermit       Kind = "permit"
	KindStop         Kind = "stop"
	KindCheck        Kind = "check"
	KindNote         Kind = "note"

	KindAttackPlanned  Kind = "attack.planned"
	KindAttackTarget   Kind = "attack.target"
	KindAttackInForce  Kind = "attack.in_force"
	KindAttackHits     Kind = "attack.hits"
	KindAttackCanary   Kind = "attack.canary"
	KindAttackReverted Kind = "attack.reverted"
	KindAttackAccount  Kind = "attack.account"
	KindAttackRefused  Kind = "attack.refused"

	KindSample    Kind = "sample"
	KindDatapoint Kind = "datapoint"
	KindAlarm     Kind = "alarm"
	KindAnswer    Kind = "answer"
	KindHost      Kind = "host"
	KindDeploy    Kind = "deploy"
	KindPromote   Kind = "promote"
	KindLedger    Kind = "ledger"
	KindClock     Kind = "clock"
	KindInspected Kind = "inspected"
	KindDrain     Kind = "drain"
	KindDrained   Kind = "drained"

	KindAttackOrdered Kind = "attack.ordered"
	KindFollowed      Kind = "line.followed"
	KindLine          Kind = "line"

	KindDatabase     Kind = "database"
	KindDatabaseStep Kind = "database.step"

	KindPlaybookStarted  Kind = "playbook.started"
	KindPlaybookStep     Kind = "playbook.step"
	KindPlaybookFinished Kind = "playbook.finished"
)

// Outcome is the three-valued result of a step or a run.
type Outcome string

// The outcomes, and Refused for what a safeguard did not let start.
const (
	Passed       Outcome = "passed"
	Failed       Outcome = "failed"
	Inconclusive Outcome = "inconclusive"
	Refused      Outcome = "refused"
	Interrupted  Outcome = "interrupted"
)

// RunStarted opens every log: with it alone a log can be judged again.
type RunStarted struct {
	Run      string     `json:"run"`  // UUID version 7
	Plan     drill.Plan `json:"plan"` // what was going to be done
	Tool     string     `json:"tool"` // our version
	Host     string     `json:"host"` // where the conductor ran
	Kernel   string     `json:"kernel,omitempty"`
	Operator string     `json:"operator,omitempty"` // who started it, as known to the system
	Command  string     `json:"command,omitempty"`  // what was started: "pipeline", "run", "deploy", "rollback"
	Trigger  string     `json:"trigger,omitempty"`  // who started it: TriggerPerson, TriggerPipeline, TriggerSchedule
}

// Who starts a run.
const (
	TriggerPerson   = "person"
	TriggerPipeline = "pipeline" // a CI server
	TriggerSchedule = "schedule" // firedrill schedule
)

// RunFinished closes a log. A log without one is of a run that was cut off, and never passed.
type RunFinished struct {
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason,omitempty"`
}

// StepStarted marks the begin of one step of the pipeline, counted from 0 as in Plan.Steps.
type StepStarted struct {
	Step int    `json:"step"`
	Name string `json:"name"`
}

// StepFinished marks its end.
type StepFinished struct {
	Step    int     `json:"step"`
	Name    string  `json:"name"`
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason,omitempty"`
}

// The phases of a drill, in their order.
const (
	PhaseSteadyBefore = "steady before"
	PhaseAttack       = "attack"
	PhaseRevert       = "revert"
	PhaseSteadyAfter  = "steady after"
	PhaseDone         = "done"
)

// Phase marks that a drill entered a phase.
type Phase struct {
	Step   int    `json:"step"`
	Phase  string `json:"phase"`
	Reason string `json:"reason,omitempty"`
}

// Permit is the guard's decision on a step.
type Permit struct {
	Step    int    `json:"step"`
	Granted bool   `json:"granted"`
	Reason  string `json:"reason"`         // why not, or on what grounds
	Cure    string `json:"cure,omitempty"` // what would allow it
}

// Stop says that a stop condition held and the impact was taken back early.
type Stop struct {
	Step      int    `json:"step"`
	Condition string `json:"condition"`
	Detail    string `json:"detail,omitempty"`
}

// Check is a named yes-or-no observation with its detail: "rollback ready", "release on green", "nothing in force".
type Check struct {
	Step   int    `json:"step"`
	Name   string `json:"name"`
	OK     bool   `json:"ok"`
	Detail string `json:"detail,omitempty"`
}

// Note is for people; no verdict reads it.
type Note struct {
	Text string `json:"text"`
}

// AttackOrdered says under which name the conductor starts one of the several attacks of a drill.
type AttackOrdered struct {
	Step   int    `json:"step"`
	Number int    `json:"number"` // of the attack in the plan, from 0
	Host   string `json:"host"`
	GUID   string `json:"guid"`
}

// Followed says that a log file on a host is being read from its end on, or is not any more.
type Followed struct {
	Host   string `json:"host"`
	File   string `json:"file"` // absolute path, or "journal of UNIT"
	Up     bool   `json:"up"`
	Detail string `json:"detail,omitempty"`
}

// Line is a line that was written to a log file and that a drill asks for.
type Line struct {
	Host    string `json:"host"`
	File    string `json:"file"`
	Pattern string `json:"pattern"` // the regular expression that it matches
	Text    string `json:"text"`    // cut to 1 KiB
}

// AttackPlanned says what an attack is going to do, before it touches anything.
type AttackPlanned struct {
	GUID    string        `json:"guid"`
	Attack  string        `json:"attack"` // the kind, as "blackhole"
	Host    string        `json:"host"`
	Length  drill.Seconds `json:"length_seconds,omitempty"` // 0 for one-way kinds
	Steps   []string      `json:"steps"`                    // one line each
	Remains string        `json:"remains"`                  // if all of us die: nothing, until deadline, until next start, one-way
	Pods    []AttackPod   `json:"pods,omitempty"`           // that are hit, of an attack on pods
}

// AttackPod is a Kubernetes pod that an attack hits. What came of it is known in the account.
type AttackPod struct {
	Namespace string     `json:"namespace"`
	Name      string     `json:"name"`
	UID       string     `json:"uid"`
	InForceAt *time.Time `json:"in_force_at,omitempty"`
	Bit       *bool      `json:"bit,omitempty"`      // evidence that the impact was felt there; left out where nothing is known
	Reverted  *bool      `json:"reverted,omitempty"` // nothing remains there
	Packets   uint64     `json:"packets,omitempty"`
}

// AttackTarget says that an address is now cut or spared, in one direction.
type AttackTarget struct {
	GUID      string `json:"guid"`
	Address   string `json:"address"`        // address or CIDR; "all" when no target was named
	Name      string `json:"name,omitempty"` // the hostname it came from
	Verb      string `json:"verb"`           // "drop" or "spare"
	Direction string `json:"direction"`      // "egress" or "ingress"
}

// AttackInForce says that the impact began.
type AttackInForce struct {
	GUID  string    `json:"guid"`
	Until time.Time `json:"until"` // the deadline
}

// AddressHits counts packets that the kernel dropped for one address.
type AddressHits struct {
	Address string `json:"address"`
	Name    string `json:"name,omitempty"`
	Egress  uint64 `json:"egress"`
	Ingress uint64 `json:"ingress"`
	Forward uint64 `json:"forward,omitempty"` // routed through the host, to or from the address
}

// AttackHits is a reading of the kernel's counters, totals since the begin of the attack.
type AttackHits struct {
	GUID      string        `json:"guid"`
	Egress    uint64        `json:"egress"`
	Ingress   uint64        `json:"ingress"`
	Forward   uint64        `json:"forward,omitempty"`
	Addresses []AddressHits `json:"addresses,omitempty"` // only those hit
}

// AttackCanary is one try of the positive control: a connection of our own that must fail while the impact is in force.
type AttackCanary struct {
	GUID    string `json:"guid"`
	Target  string `json:"target"`  // "db.bookstore.example.test:5432"
	Address string `json:"address"` // the address tried
	Flow    string `json:"flow"`    // "new" or "established"
	When    string `json:"when"`    // "before", "in force" or "after"
	Through bool   `json:"through"` // the other side answered
	Detail  string `json:"detail,omitempty"`
	Pod     string `json:"pod,omitempty"` // where it was tried from, as "shop/web-0", of an attack on pods
}

// AttackReverted says that the impact was taken back and looked for again.
type AttackReverted struct {
	GUID    string   `json:"guid"`
	Why     string   `json:"why"`               // "deadline", "halt", "signal terminated", "connection lost"
	Residue []string `json:"residue,omitempty"` // what is still there; empty means nothing
}

// AttackAccount is the last event of an attack: what can be said of it as a whole.
type AttackAccount struct {
	GUID      string     `json:"guid"`
	Attack    string     `json:"attack"`
	Bit       bool       `json:"bit"`      // evidence that the impact was felt: packets dropped, canary held off, host down
	Reverted  bool       `json:"reverted"` // nothing remains
	InForceAt *time.Time `json:"in_force_at,omitempty"`
	FirstHit  *time.Time `json:"first_hit,omitempty"`
	LastHit   *time.Time `json:"last_hit,omitempty"`
	EndedAt   *time.Time `json:"ended_at,omitempty"`
	Packets   uint64     `json:"packets,omitempty"`
	Evidence  []string   `json:"evidence,omitempty"` // sentences; why Bit is what it is

	Pods []AttackPod `json:"pods,omitempty"` // that were hit, of an attack on pods
}

// AttackRefused says that an attack did not start, and why.
type AttackRefused struct {
	Attack string `json:"attack"`
	Reason string `json:"reason"`
	Cure   string `json:"cure,omitempty"`
	Absent bool   `json:"absent,omitempty"` // the host has nothing of what the attack names: no pod with these labels, no such container
}

// The causes of a failed sample: the first thing that went wrong.
const (
	CauseResolve = "resolve"
	CauseConnect = "connect"
	CauseRefused = "refused"
	CauseTLS     = "tls"
	CauseTimeout = "timeout"
	CauseReset   = "reset"
	CauseStatus  = "status"
	CauseContent = "content"
	CauseLogin   = "login"
	CauseExit    = "exit"
)

// Sample is one try of a probe. It belongs to the moment it was scheduled for, not to when it happened to end.
type Sample struct {
	Probe     string        `json:"probe"` // "client", "db-connectivity", ...
	Host      string        `json:"host,omitempty"`
	Scheduled time.Time     `json:"scheduled"`
	Lag       drill.Seconds `json:"lag_seconds"`  // how much later than scheduled it was sent: our own fault
	Took      drill.Seconds `json:"took_seconds"` // from send to end
	OK        bool          `json:"ok"`
	Cause     string        `json:"cause,omitempty"`
	Detail    string        `json:"detail,omitempty"`
	Address   string        `json:"address,omitempty"` // the address that was tried
	Status    int           `json:"status,omitempty"`  // HTTP status
	Value     *float64      `json:"value,omitempty"`   // what was measured, where that is more than good or bad
	Reused    bool          `json:"reused,omitempty"`  // the connection had served tries before
}

// Datapoint is an aggregate of samples over one period.
type Datapoint struct {
	Metric  string        `json:"metric"`
	Host    string        `json:"host"`
	Start   time.Time     `json:"start"`
	Period  drill.Seconds `json:"period_seconds"`
	Average float64       `json:"average"`
	Minimum float64       `json:"minimum"`
	Maximum float64       `json:"maximum"`
	Samples float64       `json:"samples"`
	Unit    string        `json:"unit,omitempty"`

	// What the alarm goes by, where that is none of the above, as p99.
	Statistic string   `json:"statistic,omitempty"`
	Value     *float64 `json:"value,omitempty"`
}

// The states of an alarm.
const (
	AlarmOK           = "OK"
	AlarmRaised       = "ALARM"
	AlarmInsufficient = "INSUFFICIENT_DATA"
)

// Alarm is a change of state, or with From empty the state at the moment of asking.
type Alarm struct {
	Name       string          `json:"name"`
	Host       string          `json:"host,omitempty"`
	From       string          `json:"from,omitempty"`
	To         string          `json:"to"`
	Reason     string          `json:"reason,omitempty"`
	ReasonData json.RawMessage `json:"reason_data,omitempty"`

	// Of an alarm that lives in another system: where that is, since when it is so by that system's clock, and how much earlier than this
	// event it may have become so there, because the watch only asks every so often.
	Origin string        `json:"origin,omitempty"`
	Since  *time.Time    `json:"since,omitempty"`
	Bound  drill.Seconds `json:"bound_seconds,omitempty"`
}

// Answer says what a DNS name leads to. Decided by the watch, or seen by asking a name server.
type Answer struct {
	Name        string   `json:"name"`
	Server      string   `json:"server,omitempty"` // the name server asked; empty when decided
	Addresses   []string `json:"addresses"`
	Environment string   `json:"environment,omitempty"` // the one that the addresses belong to
	Serial      uint64   `json:"serial,omitempty"`
	Decided     bool     `json:"decided,omitempty"`
	Reason      string   `json:"reason,omitempty"`
	Error       string   `json:"error,omitempty"` // the server did not answer, or not usably

	TTL *drill.Seconds `json:"ttl_seconds,omitempty"` // how long a client may keep it, as the server said; nil when it said nothing
}

// Host is the life of a host as seen from outside.
type Host struct {
	Host   string `json:"host"`
	Up     bool   `json:"up"`
	BootID string `json:"boot_id,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// The stages of a deployment.
const (
	DeployFetched  = "fetched"
	DeployPublish  = "published"
	DeploySwitched = "switched"
	DeployRestart  = "restarted"
	DeployHealthy  = "healthy"
	DeployFailed   = "failed"
	DeployRestored = "rolled back"
)

// Deploy is one stage of publishing a release to a host.
type Deploy struct {
	Environment string `json:"environment"`
	Host        string `json:"host,omitempty"`
	Stage       string `json:"stage"`
	Release     string `json:"release,omitempty"`  // name of the release directory
	Revision    string `json:"revision,omitempty"` // git commit
	Previous    string `json:"previous,omitempty"` // release that was current before
	Files       int    `json:"files,omitempty"`
	Bytes       int64  `json:"bytes,omitempty"`
	Detail      string `json:"detail,omitempty"`
}

// Promote says that an environment was made the one that is answered.
type Promote struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
}

// Drain is one look at the requests that a host of the environment still serves from which the answer has moved away.
type Drain struct {
	Environment string `json:"environment"`
	Host        string `json:"host"`
	Open        int    `json:"open"`            // connections of clients to the service's port
	Error       string `json:"error,omitempty"` // the host could not be looked at; then Open says nothing
}

// Drained says how the wait for the end of those requests ended.
type Drained struct {
	Step        int           `json:"step"`
	Environment string        `json:"environment"`
	Ended       bool          `json:"ended"` // none was left on any host
	Waited      drill.Seconds `json:"waited_seconds"`
	Detail      string        `json:"detail"`
}

// Ledger is the count of acknowledged writes after reading them back.
type Ledger struct {
	Step       int           `json:"step"`
	Sent       int           `json:"sent"`
	Acked      int           `json:"acked"`
	Lost       int           `json:"lost"`     // acknowledged and not there
	InDoubt    int           `json:"in_doubt"` // sent, never acknowledged
	Duplicated int           `json:"duplicated"`
	Stale      int           `json:"stale,omitempty"`  // acknowledged, missed by a later reading, and there in the end: somebody reads old values
	Span       drill.Seconds `json:"span_seconds"`     // the RPO: last lost acknowledgement minus last surviving one before it
	Unread     string        `json:"unread,omitempty"` // why the read-back is missing; then nothing is proven
}

// Clock is the measured difference of a source's clock; times in a chained log are already corrected by it.
type Clock struct {
	Host   string        `json:"host"`
	Offset drill.Seconds `json:"offset_seconds"` // its clock minus the conductor's
	Error  drill.Seconds `json:"error_seconds"`  // half of the round trip: the bound of the measurement
}

// Inspected is what a look at a host found, made by us over SSH and at its own address: independent of the watch.
type Inspected struct {
	Host     string   `json:"host"`
	Release  string   `json:"release,omitempty"`  // name of the release directory; empty when there is none
	Revision string   `json:"revision,omitempty"` // git commit
	Healthy  bool     `json:"healthy"`            // the health check of deploy.healthy passed
	InForce  []string `json:"in_force,omitempty"` // attacks found in force on the host
	Error    string   `json:"error,omitempty"`    // the host could not be looked at; then nothing above is known
	Detail   string   `json:"detail,omitempty"`

	Locked *Reservation `json:"locked,omitempty"` // someone keeps deployments and drills away from the host
}

// Reservation says who keeps deployments and drills away from a host.
type Reservation struct {
	Owner  string    `json:"owner"` // user@host
	Reason string    `json:"reason,omitempty"`
	Since  time.Time `json:"since"`
	Until  time.Time `json:"until"`
	Own    bool      `json:"own,omitempty"` // it is of whoever looked
}

// String says it as a person reads it.
func (r Reservation) String() string {
	text := "locked by " + r.Owner + " until " + r.Until.UTC().Format(time.RFC3339)
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}

// PlaybookStarted opens the log of a rehearsal that follows a playbook: with its text alone the rehearsal can be judged again.
type PlaybookStarted struct {
	Run         string   `json:"run"` // UUID version 7
	File        string   `json:"file"`
	Text        string   `json:"text"` // the whole playbook, as it was followed
	Service     string   `json:"service,omitempty"`
	Environment string   `json:"environment,omitempty"` // "production", "staging", ...: in the words of who started it
	Parts       []string `json:"parts"`                 // what was going to be followed, in order
	Automatic   bool     `json:"automatic"`             // nobody was asked but where the playbook says so
	Operator    string   `json:"operator,omitempty"`
	Tool        string   `json:"tool"`
	Host        string   `json:"host"` // where it was started
}

// PlaybookStep is one step that was done, or was to be done and was not.
type PlaybookStep struct {
	Part      string        `json:"part"`
	Step      int           `json:"step"` // from 0 within the part
	Title     string        `json:"title"`
	Started   time.Time     `json:"started"`
	Took      drill.Seconds `json:"took_seconds"`
	Command   string        `json:"command,omitempty"` // what was run; empty: by hand
	Exit      int           `json:"exit"`
	Output    string        `json:"output,omitempty"`
	Cut       bool          `json:"cut,omitempty"`       // the output was longer than what is kept
	Asked     bool          `json:"asked,omitempty"`     // a person was asked
	Confirmed bool          `json:"confirmed,omitempty"` // and said yes, or that it is done
	Deviation string        `json:"deviation,omitempty"` // what was done otherwise than written, in the words of who did it
	Error     string        `json:"error,omitempty"`     // it could not be run
}

// PlaybookFinished closes the log of a rehearsal.
type PlaybookFinished struct {
	Outcome Outcome `json:"outcome"`
	Reason  string  `json:"reason,omitempty"`
}

// Unknown keeps a fact of a newer version.
type Unknown struct {
	Name Kind            `json:"-"`
	Data json.RawMessage `json:"-"`
}

// MarshalJSON writes the fact as it was read.
func (u *Unknown) MarshalJSON() ([]byte, error) { return u.Data, nil }

// The kind of each fact.
func (*RunStarted) Kind() Kind     { return KindRunStarted }
func (*RunFinished) Kind() Kind    { return KindRunFinished }
func (*StepStarted) Kind() Kind    { return KindStepStarted }
func (*StepFinished) Kind() Kind   { return KindStepFinished }
func (*Phase) Kind() Kind          { return KindPhase }
func (*Permit) Kind() Kind         { return KindPermit }
func (*Stop) Kind() Kind           { return KindStop }
func (*Check) Kind() Kind          { return KindCheck }
func (*Note) Kind() Kind           { return KindNote }
func (*AttackPlanned) Kind() Kind  { return KindAttackPlanned }
func (*AttackTarget) Kind() Kind   { return KindAttackTarget }
func (*AttackInForce) Kind() Kind  { return KindAttackInForce }
func (*AttackHits) Kind() Kind     { return KindAttackHits }
func (*AttackCanary) Kind() Kind   { return KindAttackCanary }
func (*AttackReverted) Kind() Kind { return KindAttackReverted }
func (*AttackAccount) Kind() Kind  { return KindAttackAccount }
func (*AttackRefused) Kind() Kind  { return KindAttackRefused }
func (*Sample) Kind() Kind         { return KindSample }
func (*Datapoint) Kind() Kind      { return KindDatapoint }
func (*Alarm) Kind() Kind          { return KindAlarm }
func (*Answer) Kind() Kind         { return KindAnswer }
func (*Host) Kind() Kind           { return KindHost }
func (*Deploy) Kind() Kind         { return KindDeploy }
func (*Promote) Kind() Kind        { return KindPromote }
func (*Ledger) Kind() Kind         { return KindLedger }
func (*Clock) Kind() Kind          { return KindClock }
func (*Inspected) Kind() Kind      { return KindInspected }
func (*Drain) Kind() Kind          { return KindDrain }
func (*Drained) Kind() Kind        { return KindDrained }
func (*Database) Kind() Kind       { return KindDatabase }
func (*DatabaseStep) Kind() Kind   { return KindDatabaseStep }
func (u *Unknown) Kind() Kind      { return u.Name }

func (*AttackOrdered) Kind() Kind { return KindAttackOrdered }
func (*Followed) Kind() Kind      { return KindFollowed }
func (*Line) Kind() Kind          { return KindLine }

func (*PlaybookStarted) Kind() Kind  { return KindPlaybookStarted }
func (*PlaybookStep) Kind() Kind     { return KindPlaybookStep }
func (*PlaybookFinished) Kind() Kind { return KindPlaybookFinished }

var factories = map[Kind]func() Fact{
	KindRunStarted: func() Fact { return new(RunStarted) }, KindRunFinished: func() Fact { return new(RunFinished) },
	KindStepStarted: func() Fact { return new(StepStarted) }, KindStepFinished: func() Fact { return new(StepFinished) },
	KindPhase: func() Fact { return new(Phase) }, KindPermit: func() Fact { return new(Permit) },
	KindStop: func() Fact { return new(Stop) }, KindCheck: func() Fact { return new(Check) }, KindNote: func() Fact { return new(Note) },
	KindAttackPlanned: func() Fact { return new(AttackPlanned) }, KindAttackTarget: func() Fact { return new(AttackTarget) },
	KindAttackInForce: func() Fact { return new(AttackInForce) }, KindAttackHits: func() Fact { return new(AttackHits) },
	KindAttackCanary: func() Fact { return new(AttackCanary) }, KindAttackReverted: func() Fact { return new(AttackReverted) },
	KindAttackAccount: func() Fact { return new(AttackAccount) }, KindAttackRefused: func() Fact { return new(AttackRefused) },
	KindSample: func() Fact { return new(Sample) }, KindDatapoint: func() Fact { return new(Datapoint) },
	KindAlarm: func() Fact { return new(Alarm) }, KindAnswer: func() Fact { return new(Answer) }, KindHost: func() Fact { return new(Host) },
	KindClock: func() Fact { return new(Clock) }, KindInspected: func() Fact { return new(Inspected) },
	KindDeploy: func() Fact { return new(Deploy) }, KindPromote: func() Fact { return new(Promote) }, KindLedger: func() Fact { return new(Ledger) },
	KindDrain: func() Fact { return new(Drain) }, KindDrained: func() Fact { return new(Drained) },
	KindDatabase: func() Fact { return new(Database) }, KindDatabaseStep: func() Fact { return new(DatabaseStep) },
	KindPlaybookStarted: func() Fact { return new(PlaybookStarted) }, KindPlaybookStep: func() Fact { return new(PlaybookStep) },
	KindPlaybookFinished: func() Fact { return new(PlaybookFinished) },
	KindAttackOrdered:    func() Fact { return new(AttackOrdered) }, KindFollowed: func() Fact { return new(Followed) }, KindLine: func() Fact { return new(Line) },
}

func newFact(kind Kind) Fact {
	if factory, ok := factories[kind]; ok {
		return factory()
	}
	return &Unknown{Name: kind}
}

// Facts returns an empty fact of every kind that this version knows, in the order of their kinds.
func Facts() []Fact {
	var all []Fact
	for _, kind := range slices.Sorted(maps.Keys(factories)) {
		all = append(all, factories[kind]())
	}
	return all
}
