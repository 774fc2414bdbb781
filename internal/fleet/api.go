package fleet

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"firedrill/internal/drill"
)

// APISubject is where a person's program asks the control plane.
func APISubject(member, call string) string { return "fd.api." + member + "." + call }

// Roles of people. Each may do what the one before may.
const (
	RoleViewer   = "viewer"   // look, and halt: stopping is easier than starting, on purpose
	RoleOperator = "operator" // attack, and release the lever
	RoleAdmin    = "admin"    // let hosts and people in, and put them out
	RoleAgent    = "agent"    // none of these: a host
)

// Calls of the API, with the least role that may make them.
var Calls = map[string]string{
	"hosts": RoleViewer, "runs": RoleViewer, "run": RoleViewer, "journal": RoleViewer, "members": RoleViewer, "lever": RoleViewer, "servers": RoleViewer,
	"halt": RoleViewer, "stop": RoleViewer, "attack": RoleOperator, "release": RoleOperator,
	"services": RoleViewer, "service": RoleViewer, "putservice": RoleOperator,
	"drills": RoleViewer, "drillrun": RoleViewer, "drilllog": RoleViewer, "drillfiles": RoleViewer, "drillfile": RoleViewer, "stopdrill": RoleViewer, "drill": RoleOperator,
	"leash": RoleViewer, "unleash": RoleOperator, "runscheduled": RoleOperator, "freezes": RoleViewer, "freeze": RoleOperator, "unfreeze": RoleOperator,
	"scheduled": RoleViewer, "schedule": RoleOperator, "unschedule": RoleOperator,
	"keys": RoleViewer, "rekey": RoleViewer, "rotate": RoleAdmin,
	"audit": RoleViewer, "auditproof": RoleViewer,
	"cadences": RoleViewer, "prune": RoleAdmin, "token": RoleAdmin, "apitoken": RoleAdmin, "add": RoleAdmin, "revoke": RoleAdmin,
}

// MayCall reports whether a role may make a call.
func MayCall(role, call string) bool {
	ladder := []string{RoleViewer, RoleOperator, RoleAdmin}
	rank := func(name string) int {
		for i, step := range ladder {
			if step == name {
				return i
			}
		}
		return -1
	}
	need, known := Calls[call]
	return known && rank(role) >= 0 && rank(role) >= rank(need)
}

// An answer can be longer than one message may be: that on ten thousand hosts is five megabytes. Then it comes in parts, in order on the same
// subject, each with HeaderPart.
const (
	HeaderPart = "Firedrill-Part" // "2/5": the second of five
	PartMax    = 512 << 10        // bytes in one; the engine takes messages up to a megabyte
	partsMax   = 256
)

// Parts splits an answer. There is one part at least.
func Parts(text []byte) [][]byte {
	parts := slices.Collect(slices.Chunk(text, PartMax))
	if len(parts) == 0 {
		parts = [][]byte{{}}
	}
	return parts
}

// PartName is what stands in HeaderPart, from 1.
func PartName(number, of int) string { return fmt.Sprintf("%d/%d", number, of) }

// ReadPartName is the inverse of PartName. The empty text is the only part of an answer.
func ReadPartName(text string) (number, of int, err error) {
	if text == "" {
		return 1, 1, nil
	}
	if _, err := fmt.Sscanf(text, "%d/%d", &number, &of); err != nil || PartName(number, of) != text || number < 1 || number > of || of > partsMax {
		return 0, 0, fmt.Errorf("%q is no part of an answer", text)
	}
	return number, of, nil
}

// CallsPath is where the HTTPS API answers any call, named behind it, with a Reply.
const CallsPath = "/v1/calls/"

// Reply is the control plane's answer to a call.
type Reply struct {
	Result json.RawMessage `json:"result,omitempty"`
	Error  *Problem        `json:"error,omitempty"`
}

// Problem is an error on its way to the one who asked.
type Problem struct {
	Kind drill.ErrorKind `json:"kind"`
	Text string          `json:"text"`
	Hint string          `json:"hint,omitempty"`
}

// Member is who may speak to the control plane.
type Member struct {
	Key  string            `json:"key"`
	Name string            `json:"name"`
	Role string            `json:"role"`
	Zone string            `json:"zone,omitempty"`
	Tags map[string]string `json:"tags,omitempty"`
	// What a person may attack. Empty: all. They bound attack alone; halting is everybody's.
	Services []string   `json:"services,omitempty"`
	Kinds    []string   `json:"kinds,omitempty"`
	Since    time.Time  `json:"since"`
	By       string     `json:"by"`
	Revoked  *time.Time `json:"revoked,omitempty"`

	Login string     `json:"login,omitempty"` // the key to log in with, where it has replaced Key, which stays as the member's name on the wire
	Keyed time.Time  `json:"keyed,omitzero"`  // since when
	Renew *time.Time `json:"renew,omitempty"` // since when it is to replace its key, and has not yet
}

// LoginKey is the key that the member logs in with; no other one lets it in.
func (m Member) LoginKey() string {
	if m.Login != "" {
		return m.Login
	}
	return m.Key
}

// HostView is a host as people see it.
type HostView struct {
	Name    string            `json:"name"`
	Key     string            `json:"key"`
	Online  bool              `json:"online"`
	Heard   time.Time         `json:"heard,omitzero"`
	Skew    float64           `json:"skew_seconds"` // the host's clock before ours
	Zone    string            `json:"zone,omitempty"`
	Tags    map[string]string `json:"tags,omitempty"`
	Facts   *Facts            `json:"facts,omitempty"`
	Running []Running         `json:"running,omitempty"`
	Run     string            `json:"run,omitempty"` // of which it is a part
}

// AttackRequest asks for a run.
type AttackRequest struct {
	Selector Selector      `json:"selector"`
	Kind     string        `json:"kind"`
	Args     []string      `json:"args"`
	Consent  bool          `json:"consent,omitempty"`
	Most     drill.Seconds `json:"most_seconds,omitempty"` // no host goes on for longer than this; 0: than five minutes beyond the length of the attack, or an hour where it has none
	DryRun   bool          `json:"dry_run,omitempty"`      // choose, and stop there
}

// States of a run, and of a host in it.
const (
	RunPlanned   = "planned" // what a dry run shows: nothing was ordered
	RunStarting  = "starting"
	RunRunning   = "running"
	RunEnded     = "ended"
	RunCancelled = "cancelled" // not all hosts could begin, so none did
	HostPlanned  = "planned"
	HostOrdered  = "ordered"
	HostAccepted = "accepted"
	HostRefused  = "refused"
	HostNothing  = "nothing" // it has nothing of what the attack names, and no part in the run
	HostSilent   = "silent"  // it did not answer in time
	HostEnded    = "ended"
	HostLost     = "lost" // not heard of since; the impact was over at the deadline, by the host's own means
)

// Run is one attack on some hosts.
type Run struct {
	ID       string    `json:"id"`
	By       string    `json:"by"`
	Kind     string    `json:"kind"`
	Args     []string  `json:"args"`
	Seed     uint64    `json:"seed"`
	Services []string  `json:"services"`         // whose permits it holds
	Groups   []string  `json:"groups,omitempty"` // redundancy groups of these, whose permits it holds too
	Issued   time.Time `json:"issued"`
	Start    time.Time `json:"start"`
	Deadline time.Time `json:"deadline"`
	State    string    `json:"state"`
	Reason   string    `json:"reason,omitempty"`
	Stopped  string    `json:"stopped_by,omitempty"` // who ended it early
	Drill    string    `json:"drill,omitempty"`      // of which it is a part, and which holds the permit
	Hosts    []RunHost `json:"hosts"`

	Term      uint64     `json:"term,omitempty"`      // of the server that wrote it last, of several
	Takeovers []Takeover `json:"takeovers,omitempty"` // each time another server went on with it
}

// NotReverted names the hosts of a run that have ended their part and did not say that everything is as it was.
func (r Run) NotReverted() []string {
	var names []string
	for _, host := range r.Hosts {
		if host.State == HostEnded && !host.Reverted {
			names = append(names, host.Name)
		}
	}
	return names
}

// Takeover says that a server went on with what another one had begun.
type Takeover struct {
	At   time.Time `json:"at"`
	By   string    `json:"by"`
	From string    `json:"from"`
	What string    `json:"what"` // became of the run by it
}

// Server is one of several that lead a fleet together.
type Server struct {
	Name    string    `json:"name"`
	Address string    `json:"address"` // where agents and people reach it
	Boot    string    `json:"boot"`    // of its last start
	Since   time.Time `json:"since"`   // of that start
	Leads   bool      `json:"leads"`
	Problem string    `json:"problem,omitempty"` // why it keeps nothing just now
	// Formerly are names that it had when it led alone, before what it kept was moved.
	Formerly []string `json:"formerly,omitempty"`
}

// RunHost is one host of a run.
type RunHost struct {
	Key      string `json:"key"`
	Name     string `json:"name"`
	Order    string `json:"order"`
	State    string `json:"state"`
	Reason   string `json:"reason,omitempty"`
	Cure     string `json:"cure,omitempty"`
	Bit      bool   `json:"bit"`
	Reverted bool   `json:"reverted"`
	Code     int    `json:"code"`
	Lines    int    `json:"lines"`           // of its journal
	Chain    string `json:"chain,omitempty"` // "whole", or what is wrong with the journal
}

// Final reports whether nothing more will become of the host in this run.
func (h RunHost) Final() bool {
	switch h.State {
	case HostRefused, HostNothing, HostEnded, HostLost:
		return true
	}
	return false
}

// Done reports whether the run is over.
func (r Run) Done() bool { return r.State == RunEnded || r.State == RunCancelled }

// HaltRequest asks for the end of everything.
type HaltRequest struct {
	Reason string `json:"reason,omitempty"`
}

// HaltReport says what became of a halt.
type HaltReport struct {
	Lever  Lever             `json:"lever"`
	Halted []string          `json:"halted"` // hosts on which nothing is in force any more
	Ended  int               `json:"ended"`  // attacks
	Left   map[string]string `json:"left"`   // hosts on which something is, or that did not say
	Absent []string          `json:"absent"` // hosts that were not there before; without the control plane they have ended by themselves
}

// Lever blocks all new runs while it is engaged.
type Lever struct {
	Engaged bool      `json:"engaged"`
	By      string    `json:"by,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	At      time.Time `json:"at,omitzero"`
	Epoch   uint64    `json:"epoch"` // grows with each halt
	// Released and ReleasedAt are who has released it last, and when; none while it is engaged.
	Released   string    `json:"released_by,omitempty"`
	ReleasedAt time.Time `json:"released_at,omitzero"`
	Untold     bool      `json:"untold,omitempty"` // whoever is to be told of its last move was not yet
}

// The states of what is told, as alarms have them.
const (
	NewsOK      = "OK"
	NewsAlarm   = "ALARM"
	NewsUnknown = "INSUFFICIENT_DATA"
)

// News is what somebody beyond the dashboard is told, as an alarm that moved: a cadence, a drill that has ended, or the lever.
type News struct {
	Service string // empty: the whole fleet
	Name    string // cadence-DRILL, drill-DRILL or lever
	From    string
	To      string
	Text    string
	At      time.Time
}

// TokenRequest asks for leave to join.
type TokenRequest struct {
	Uses  int           `json:"uses"`
	Valid drill.Seconds `json:"valid_seconds"`
}

// APITokenRequest asks for a token with which a program speaks to the HTTP API.
type APITokenRequest struct {
	Name   string        `json:"name"`
	Scopes []string      `json:"scopes"`
	Valid  drill.Seconds `json:"valid_seconds,omitempty"` // 0: 90 days
}

// Credentials are what a person's program needs. The file that holds them is its owner's alone.
type Credentials struct {
	Address string `json:"address"`
	Pin     string `json:"pin"`
	Name    string `json:"name"`
	Seed    string `json:"seed"`
	Key     string `json:"key,omitempty"`  // the name on the wire, where the seed is not of the first key any more
	Next    string `json:"next,omitempty"` // seed of the key that is about to replace it
}
