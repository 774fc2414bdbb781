//go:build !attackpart

package drill

// Plan is a pipeline or a drill made concrete: which hosts, which attack with which arguments, what must be seen and how fast. It can
// be printed and replayed; a log carries its plan.
type Plan struct {
	Service      string        `json:"service"`
	Tier         string        `json:"tier,omitempty"` // "production", "staging", ...
	Endpoint     string        `json:"endpoint"`
	Objectives   Objectives    `json:"objectives"`
	Environments []Environment `json:"environments"`
	Dependencies []Dependency  `json:"dependencies,omitempty"`
	Clients      []Client      `json:"clients,omitempty"`
	Probes       []Probe       `json:"probes,omitempty"`
	Alarms       []Alarm       `json:"alarms,omitempty"` // expanded: one for each host
	Failover     []Failover    `json:"failover,omitempty"`
	Databases    []Database    `json:"databases,omitempty"`
	Deploy       *Deploy       `json:"deploy,omitempty"`
	Freeze       []string      `json:"freeze,omitempty"` // no step starts on these dates
	Live         string        `json:"live"`             // environment that is answered before the first step
	Proven       []ProvenStep  `json:"proven,omitempty"` // of a run that goes on where another was broken off: what is not repeated
	Steps        []Step        `json:"steps"`
}

// ProvenStep is a step that an earlier run proved. It stands for that run's log, which can be judged again.
type ProvenStep struct {
	Kind        string        `json:"kind"`
	Name        string        `json:"name"`
	Environment string        `json:"environment"`
	Live        string        `json:"live"`
	LiveAfter   string        `json:"live_after"`
	Run         string        `json:"run"`               // which run proved it
	Log         string        `json:"log"`               // hash of the last line of that run's log
	Hosts       []HostRelease `json:"hosts,omitempty"`   // deployments: what was healthy then, and must still run
	Drilled     string        `json:"drilled,omitempty"` // drills: the drill's name
}

// HostRelease is what a host runs.
type HostRelease struct {
	Host     string `json:"host"`
	Revision string `json:"revision"` // git commit
}

// The kinds of steps.
const (
	StepDeploy  = "deploy"
	StepDrill   = "drill"
	StepPromote = "promote"

	// StepRollback switches the environment that is answered back to its release before.
	StepRollback = "rollback"
)

// Step is one item of a pipeline.
type Step struct {
	Kind        string        `json:"kind"`
	Name        string        `json:"name"`        // "drill lose-host on blue"
	Environment string        `json:"environment"` // what is deployed to, promoted or attacked
	Live        string        `json:"live"`        // what must be answered when the step starts
	LiveAfter   string        `json:"live_after"`  // what must be answered when it has ended
	Drill       *PlannedDrill `json:"drill,omitempty"`
	Back        bool          `json:"back,omitempty"`  // it goes back to what was good before, which a freeze does not forbid
	Begun       bool          `json:"begun,omitempty"` // an earlier run began it and was broken off: a promotion may be done already
}

// PlannedDrill is a drill on named hosts.
type PlannedDrill struct {
	Name         string        `json:"name"`
	Hosts        []Host        `json:"hosts"`              // the hosts that are attacked
	Database     string        `json:"database,omitempty"` // whose primary is attacked, in place of hosts of the environment
	Seed         int64         `json:"seed,omitempty"`     // chose them out of the environment's; 0: they are all of them
	Attack       Order         `json:"attack"`
	More         []Order       `json:"more_attacks,omitempty"` // after Attack, each when the one before is taken back
	Together     bool          `json:"together,omitempty"`     // More are in force at the same time as Attack
	Expectations []Expectation `json:"expectations"`
	StopWhen     []StopWhen    `json:"stop_when,omitempty"`
	UntilDecided bool          `json:"until_decided,omitempty"`
	SteadyFor    Seconds       `json:"steady_for_seconds"`
	SteadyWithin Seconds       `json:"steady_within_seconds"`
}

// Orders are all attacks of the drill, in their order.
func (d PlannedDrill) Orders() []Order { return append([]Order{d.Attack}, d.More...) }

// InSequence says that one attack begins when the one before has been taken back.
func (d PlannedDrill) InSequence() bool { return len(d.More) > 0 && !d.Together }

// Order is what to attack with: the arguments after "firedrill attack", and what the conductor must know of them.
type Order struct {
	Attack   string   `json:"attack"`                   // the kind
	Args     []string `json:"args"`                     // flags, each as --name=value
	Length   Seconds  `json:"length_seconds,omitempty"` // 0 for one-way kinds
	Delay    Seconds  `json:"delay_seconds,omitempty"`  // how long the attack itself waits before it begins
	OneWay   bool     `json:"one_way,omitempty"`        // the host goes down; nothing is taken back, it boots again
	Canaries []string `json:"canaries,omitempty"`       // host:port that must not be reachable while in force
}

// The kinds of expectations.
const (
	ExpectAlarm       = "alarm" // the alarm goes to ALARM within Within of the impact
	ExpectAlarmOK     = "alarm stays OK"
	ExpectNoOther     = "no other alarm" // no alarm but the expected ones is raised
	ExpectMoves       = "answer moves"   // to Environment within Within of the impact
	ExpectStays       = "answer stays"
	ExpectRecover     = "clients recover" // first good answer within Within of the impact: the RTO
	ExpectNoFailure   = "clients see no failure"
	ExpectAvailable   = "availability"                 // at least Value percent of the client samples
	ExpectSteadyAfter = "steady state"                 // within Within of the revert
	ExpectNoLoss      = "nothing acknowledged is lost" // ledger, at most Within of span
	ExpectLatency     = "latency"                      // at least Value percent of the client samples are good and took at most Within
	ExpectMovesBack   = "answer moves back"            // to Environment within Within of the revert
	ExpectDatabase    = "database fails over"          // another server of Database acknowledges a write within Within of the impact
	ExpectFenced      = "old primary takes no writes"  // of Database: it was tried after that, answered, and acknowledged none
	ExpectNoDouble    = "no write is doubled"          // ledger
	ExpectNoStale     = "no read is stale"             // ledger
	ExpectInDoubt     = "writes in doubt"              // ledger, at most Value
	ExpectSameRelease = "same release"                 // both environments run one revision
	ExpectLine        = "log line"                     // Line is written in File on Host within Within of the impact
	ExpectNoLine      = "no log line"                  // Line is not written there from the impact to the end
	ExpectProbeFails  = "probe fails"                  // Probe is not good at a moment within Within of the impact
	ExpectProbeBack   = "probe recovers"               // Probe is good for good within Within of the impact
	ExpectProbeGood   = "probe stays good"             // Probe never fails from the impact to the end
)

// Expectation is one thing that must be seen.
type Expectation struct {
	Kind        string  `json:"kind"`
	Text        string  `json:"text"` // as a person reads it
	Alarm       string  `json:"alarm,omitempty"`
	Environment string  `json:"environment,omitempty"`
	Within      Seconds `json:"within_seconds,omitempty"`
	Value       float64 `json:"value,omitempty"`
	Database    string  `json:"database,omitempty"`
	Probe       string  `json:"probe,omitempty"`
	Host        string  `json:"host,omitempty"`    // on which File is read
	File        string  `json:"file,omitempty"`    // absolute path, or "journal of UNIT"
	Line        string  `json:"line,omitempty"`    // regular expression (RE2)
	Clients     string  `json:"clients,omitempty"` // ClientsNew or ClientsKept: of these alone
}

// The two kinds of clients fail over differently: who connects anew goes where the name leads, who keeps a connection stays until it breaks.
const (
	ClientsNew  = "new-connection"
	ClientsKept = "keep-alive"
)

// Connections is the kind of a client, ClientsNew or ClientsKept.
func (c Client) Connections() string {
	if c.Keep {
		return ClientsKept
	}
	return ClientsNew
}

// The kinds of stop conditions.
const (
	StopAlarm     = "alarm"        // Alarm is raised, or not heard of any more
	StopProbe     = "probe"        // Probe has failed for For
	StopClients   = "clients fail" // a client has failed for For
	StopAvailable = "availability" // of a client below Value percent over the last For
	StopLine      = "log line"     // Line is written in File on Host
)

// StopWhen is one reason to take the impact back at once.
type StopWhen struct {
	Kind  string  `json:"kind"`
	Text  string  `json:"text"` // as a person reads it
	Alarm string  `json:"alarm,omitempty"`
	Probe string  `json:"probe,omitempty"`
	For   Seconds `json:"for_seconds,omitempty"`
	Value float64 `json:"value,omitempty"`
	Host  string  `json:"host,omitempty"`
	File  string  `json:"file,omitempty"`
	Line  string  `json:"line,omitempty"`
}
