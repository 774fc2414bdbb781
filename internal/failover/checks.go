package failover

import (
	"fmt"
	"slices"
	"time"
)

// CheckKind says what a health check looks at.
type CheckKind string

// The kinds of health checks, as Route 53 has them.
const (
	CheckEndpoint   CheckKind = "endpoint"   // several observers try the endpoint
	CheckAlarm      CheckKind = "alarm"      // an alarm speaks
	CheckCalculated CheckKind = "calculated" // so many other checks must be healthy
	CheckControl    CheckKind = "control"    // a person says on or off
)

// What a check on an alarm makes of INSUFFICIENT_DATA.
const (
	InsufficientHealthy   = "Healthy"
	InsufficientUnhealthy = "Unhealthy"
	InsufficientLastKnown = "LastKnownStatus"
)

// healthyShare is the share of observers, in percent, above which an endpoint is healthy: a few observers that are cut off from it
// themselves must not condemn it, and a few that still reach it prove that it works.
const healthyShare = 18

// childrenMax is how many checks a calculated one may count.
const childrenMax = 256

// Check is one health check.
type Check struct {
	Kind         CheckKind
	Inverted     bool     // healthy and unhealthy change places, last of all
	Disabled     bool     // taken for healthy, whatever is seen
	Children     []string // calculated: names of checks
	Threshold    int      // calculated: how many children must be healthy; 0: always healthy; more than there are: never
	Insufficient string   // alarm: InsufficientHealthy and so on; default LastKnownStatus
}

// Seen is what has been observed for a check. The zero value is "nothing yet".
type Seen struct {
	Observers, Healthy int    // endpoint: how many looked, and how many of them found it healthy
	Alarm              string // alarm: OK, ALARM, INSUFFICIENT_DATA; empty: nothing yet
	LastKnown          string // alarm: the last state that was not INSUFFICIENT_DATA; empty: none yet
	Off                bool   // control: switched off
}

// Checks are health checks by name. It is a value that Health reads.
type Checks map[string]Check

// Valid says what is wrong with the checks as a whole: unknown kinds, children that are not there, a check that counts itself.
func (c Checks) Valid() error {
	for name, check := range c {
		switch check.Kind {
		case CheckEndpoint, CheckAlarm, CheckCalculated, CheckControl:
		default:
			return fmt.Errorf("check %s: kind %q is unknown", name, check.Kind)
		}
		if !slices.Contains([]string{"", InsufficientHealthy, InsufficientUnhealthy, InsufficientLastKnown}, check.Insufficient) {
			return fmt.Errorf("check %s: %q is unknown; write Healthy, Unhealthy or LastKnownStatus", name, check.Insufficient)
		}
		if len(check.Children) > childrenMax {
			return fmt.Errorf("check %s: %d children; the most is %d", name, len(check.Children), childrenMax)
		}
		for _, child := range check.Children {
			if _, there := c[child]; !there {
				return fmt.Errorf("check %s: there is no check %q to count", name, child)
			}
		}
		if c.reaches(name, name, map[string]bool{}) {
			return fmt.Errorf("check %s counts itself", name)
		}
	}
	return nil
}

// reaches says whether a check is among the children of another, or of theirs.
func (c Checks) reaches(from, to string, passed map[string]bool) bool {
	for _, child := range c[from].Children {
		if child == to {
			return true
		}
		if !passed[child] {
			passed[child] = true
			if c.reaches(child, to, passed) {
				return true
			}
		}
	}
	return false
}

// Healthy says whether a check is healthy. The checks must be valid. A name that is no check is healthy: what nobody checks is used.
func (c Checks) Healthy(name string, seen map[string]Seen) bool {
	check, there := c[name]
	if !there {
		return true
	}
	return (check.Disabled || c.finds(check, seen[name], seen)) != check.Inverted
}

// finds says what a check finds, before it is inverted.
func (c Checks) finds(check Check, own Seen, seen map[string]Seen) bool {
	switch check.Kind {
	case CheckEndpoint:
		return own.Observers == 0 || own.Healthy*100 > own.Observers*healthyShare
	case CheckControl:
		return !own.Off
	case CheckAlarm:
		return alarmHealthy(check, own)
	}
	healthy := 0
	for _, child := range check.Children {
		if c.Healthy(child, seen) {
			healthy++
		}
	}
	return healthy >= check.Threshold
}

func alarmHealthy(check Check, own Seen) bool {
	switch own.Alarm {
	case "ALARM":
		return false
	case "INSUFFICIENT_DATA":
		switch check.Insufficient {
		case InsufficientHealthy:
			return true
		case InsufficientUnhealthy:
			return false
		}
		return own.LastKnown != "ALARM"
	}
	return true
}

// Streak turns the results of one observer into its opinion: it changes its mind only after so many results in a row that say otherwise.
// The zero Streak has seen nothing, and takes the endpoint for healthy.
type Streak struct {
	Ill   bool      // the opinion
	Run   int       // results in a row that contradict it
	Since time.Time // when the opinion changed last
}

// Next returns the streak after a result at now. threshold is 1 to 10.
func (s Streak) Next(ok bool, threshold int, now time.Time) Streak {
	if ok != s.Ill {
		s.Run = 0
		return s
	}
	s.Run++
	if s.Run >= threshold {
		return Streak{Ill: !ok, Since: now}
	}
	return s
}
