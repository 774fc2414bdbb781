package failover

import (
	"fmt"
	"time"

	"firedrill/internal/drill"
)

// Order is an operator's wish to have another environment answered.
type Order struct {
	To     string
	Reason string
	Force  bool // also when the target is unhealthy
}

// Switch makes an environment the active and the preferred one. To the active one it only changes the preference. The error is a
// *drill.Error: Invalid when the name does not know the environment, Refused when the name is frozen or the target is unhealthy; its
// hint says what would allow the switch. The state is unchanged then.
func Switch(policy Policy, state State, unhealthy Unhealthy, now time.Time, order Order) (State, error) {
	op := "switch " + policy.Name
	if order.To != policy.Primary.Name && order.To != policy.Secondary.Name {
		return state, &drill.Error{
			Op: op, Kind: drill.Invalid, Err: fmt.Errorf("there is no environment %q behind this name", order.To),
			Hint: fmt.Sprintf("Switch to %s or %s.", policy.Primary.Name, policy.Secondary.Name),
		}
	}
	if policy.Frozen {
		return state, &drill.Error{
			Op: op, Kind: drill.Refused, Err: fmt.Errorf("the name is frozen and stays on %s", state.Active),
			Hint: "Take frozen: true out of the service file and start the watch again.",
		}
	}
	target, _ := policy.pair(order.To)
	well := Healthy(target, unhealthy)
	if !well && !order.Force {
		return state, &drill.Error{
			Op: op, Kind: drill.Refused, Err: fmt.Errorf("not switching: %s", ails(target, unhealthy)),
			Hint: "Wait until its alarms are OK, or force the switch if you know better than the alarms.",
		}
	}
	next := state
	next.Preferred = target.Name
	if target.Name != state.Active {
		next.Active, next.Moved, next.Automatic = target.Name, now, false
	}
	next.Forced = !well
	reason := "switched by an operator"
	if order.Reason != "" {
		reason = order.Reason
	}
	next, _ = next.withAnswer(state, target, unhealthy, reason)
	return next, nil
}
