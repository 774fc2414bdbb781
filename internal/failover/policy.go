package failover

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// The values of the service file.
const (
	FailbackManual = "manual"
	FailbackAuto   = "auto"

	AllUnhealthyPrimary   = "primary"
	AllUnhealthyLastKnown = "last_known"
)

// Policy is one failover name with the two environments that it chooses from. Make one with Compile.
type Policy struct {
	Name           string
	Primary        drill.Environment
	Secondary      drill.Environment
	Failback       string
	OnAllUnhealthy string
	MinHold        time.Duration
	Frozen         bool
}

// State is what is answered for a name, and what must be remembered to decide further. It is a value: Decide and Switch return the next.
type State struct {
	Active    string       `json:"active"`              // the environment that is answered
	Preferred string       `json:"preferred"`           // primary until an operator switches; where auto failback and fail open lead
	Serial    uint64       `json:"serial"`              // grows with every change of the answer
	Addresses []netip.Addr `json:"addresses"`           // the answer; never empty
	Moved     time.Time    `json:"moved,omitzero"`      // the last change of Active
	Automatic bool         `json:"automatic,omitempty"` // the last change of Active was not an operator's
	Forced    bool         `json:"forced,omitempty"`    // an operator chose Active though it is unhealthy: stay until it is healthy
	Reason    string       `json:"reason,omitempty"`    // for the last change of the answer
}

// Unhealthy holds the hosts that are unhealthy, with the reason. A host that is not in it is healthy, or nothing is known of it yet.
type Unhealthy map[string]string

// Compile reads a failover name of the service file. The error says what to write instead.
func Compile(f drill.Failover, environments []drill.Environment) (Policy, error) {
	policy := Policy{
		Name: f.Name, Failback: f.Failback, OnAllUnhealthy: f.OnAllUnhealthy, MinHold: f.MinHold.Duration(), Frozen: f.Frozen,
	}
	if policy.Failback == "" {
		policy.Failback = FailbackManual
	}
	if policy.OnAllUnhealthy == "" {
		policy.OnAllUnhealthy = AllUnhealthyPrimary
	}
	if policy.Failback != FailbackManual && policy.Failback != FailbackAuto {
		return Policy{}, fmt.Errorf("failover %s: failback: %q is unknown; write manual or auto", f.Name, f.Failback)
	}
	if policy.OnAllUnhealthy != AllUnhealthyPrimary && policy.OnAllUnhealthy != AllUnhealthyLastKnown {
		return Policy{}, fmt.Errorf("failover %s: on_all_unhealthy: %q is unknown; write primary or last_known", f.Name, f.OnAllUnhealthy)
	}
	if f.Primary == f.Secondary {
		return Policy{}, fmt.Errorf("failover %s: primary and secondary are both %q; name two environments", f.Name, f.Primary)
	}
	for name, into := range map[string]*drill.Environment{f.Primary: &policy.Primary, f.Secondary: &policy.Secondary} {
		i := slices.IndexFunc(environments, func(e drill.Environment) bool { return e.Name == name })
		if i < 0 {
			return Policy{}, fmt.Errorf("failover %s: there is no environment %q; name one of the service's environments", f.Name, name)
		}
		if len(environments[i].Hosts) == 0 {
			return Policy{}, fmt.Errorf("failover %s: environment %q has no hosts, so there is nothing to answer", f.Name, name)
		}
		*into = environments[i]
	}
	return policy, nil
}

// Begin returns the state of a name of which nothing is known: the primary, all of its hosts.
func Begin(policy Policy, serial uint64) State {
	return State{
		Active: policy.Primary.Name, Preferred: policy.Primary.Name, Serial: serial,
		Addresses: answer(policy.Primary, nil), Reason: "the primary environment, until something is known",
	}
}

// Resume returns the state to go on with after a restart. What no longer fits the policy (an environment that is gone, an answer without
// addresses) is replaced by a fresh beginning with a higher serial number.
func Resume(policy Policy, saved State) State {
	known := func(name string) bool { return name == policy.Primary.Name || name == policy.Secondary.Name }
	if !known(saved.Active) || len(saved.Addresses) == 0 {
		return Begin(policy, saved.Serial+1)
	}
	if !known(saved.Preferred) {
		saved.Preferred = policy.Primary.Name
	}
	return saved
}

// Healthy says whether an environment can serve: at least one of its hosts is not known to be unhealthy.
func Healthy(e drill.Environment, unhealthy Unhealthy) bool {
	return slices.ContainsFunc(e.Hosts, func(h drill.Host) bool { return unhealthy[h.Name] == "" })
}

// Decide returns the state for the health of the hosts at now, and whether the answer changed.
//
// The answer holds the healthy hosts of the active environment, all of them when none is healthy. A host that comes or goes within the
// active environment changes the answer but is not a move: neither hold time nor failback have a say in it.
func Decide(policy Policy, state State, unhealthy Unhealthy, now time.Time) (State, bool) {
	if policy.Frozen {
		return state, false
	}
	next := state
	active, other := policy.pair(state.Active)
	if Healthy(active, unhealthy) {
		next.Forced = false
	}
	target, reason := choose(policy, state, active, other, unhealthy)
	if target.Name != active.Name && held(policy, state, now) {
		target, reason = active, ""
	}
	if target.Name != active.Name {
		next.Active, next.Moved, next.Automatic, next.Forced = target.Name, now, true, false
	}
	return next.withAnswer(state, target, unhealthy, reason)
}

// choose returns the environment that is to be answered, without regard to the hold time. The reason is for a move.
func choose(policy Policy, state State, active, other drill.Environment, unhealthy Unhealthy) (drill.Environment, string) {
	activeWell, otherWell := Healthy(active, unhealthy), Healthy(other, unhealthy)
	switch {
	case activeWell && otherWell && policy.Failback == FailbackAuto && state.Preferred == other.Name:
		return other, fmt.Sprintf("failback: %s is healthy again", other.Name)
	case activeWell || state.Forced:
		return active, ""
	case otherWell:
		return other, fmt.Sprintf("%s; %s is healthy", ails(active, unhealthy), other.Name)
	case policy.OnAllUnhealthy == AllUnhealthyLastKnown || state.Preferred == active.Name:
		return active, ""
	}
	return other, fmt.Sprintf("fail open: %s; %s", ails(active, unhealthy), ails(other, unhealthy))
}

// held says whether the hold time forbids a move. It counts from the last automatic move: an operator's switch must not pin the answer
// to an environment that dies right after. A clock that was set back ends the hold.
func held(policy Policy, state State, now time.Time) bool {
	if !state.Automatic || policy.MinHold == 0 {
		return false
	}
	since := now.Sub(state.Moved)
	return since >= 0 && since < policy.MinHold
}

// withAnswer sets the answer for the target and, if it differs from before, the serial and the reason.
func (s State) withAnswer(before State, target drill.Environment, unhealthy Unhealthy, reason string) (State, bool) {
	s.Addresses = answer(target, unhealthy)
	if s.Active == before.Active && slices.Equal(s.Addresses, before.Addresses) {
		s.Addresses = before.Addresses
		return s, false
	}
	if reason == "" {
		reason = partReason(target, unhealthy)
	}
	s.Serial, s.Reason = before.Serial+1, reason
	return s, true
}

// pair returns the named environment and the other one.
func (p Policy) pair(name string) (drill.Environment, drill.Environment) {
	if name == p.Secondary.Name {
		return p.Secondary, p.Primary
	}
	return p.Primary, p.Secondary
}

// answer returns the addresses of the healthy hosts, or of all hosts when none is: an answer that may work beats no answer.
func answer(e drill.Environment, unhealthy Unhealthy) []netip.Addr {
	all := !Healthy(e, unhealthy)
	var addresses []netip.Addr
	for _, host := range e.Hosts {
		if all || unhealthy[host.Name] == "" {
			addresses = append(addresses, host.Address)
		}
	}
	return addresses
}

// ails says why an environment is unhealthy.
func ails(e drill.Environment, unhealthy Unhealthy) string {
	var reasons []string
	for _, host := range e.Hosts {
		if reason := unhealthy[host.Name]; reason != "" {
			reasons = append(reasons, reason)
		}
	}
	return fmt.Sprintf("%s is unhealthy (%s)", e.Name, strings.Join(reasons, "; "))
}

func partReason(e drill.Environment, unhealthy Unhealthy) string {
	if !Healthy(e, unhealthy) {
		return fmt.Sprintf("all hosts of %s, since none is healthy", e.Name)
	}
	return fmt.Sprintf("the healthy hosts of %s changed", e.Name)
}

// Signal says whether an alarm speaks against its host, given whether it did before: ALARM does, OK does not, and INSUFFICIENT_DATA
// leaves it as it was. A host that stops reporting is not healthy for that.
func Signal(before bool, alarmState string) bool {
	switch alarmState {
	case "ALARM":
		return true
	case "OK":
		return false
	}
	return before
}
