package guard

import (
	"fmt"
	"strings"
	"time"

	"firedrill/internal/history"
)

// AdmitBack decides whether, after a gate has failed, the answer may move back to an environment (release false), or its hosts may switch
// back to their release before (release true). Freezes and others' locks do not stand in the way back: it ends what is under way.
func AdmitBack(w *World, environment string, release bool, now time.Time) history.Permit {
	refuse := func(reason, cure string) history.Permit { return history.Permit{Reason: reason, Cure: cure} }
	other := w.other(environment)
	if w.environment(environment) == nil || other == environment {
		return refuse(environment+" is no environment of the failover", "")
	}
	if !release {
		if reason := w.unready(environment, now); reason != "" {
			return refuse(environment+" cannot serve: "+reason, "mend it, then: firedrill rollback "+environment)
		}
		return history.Permit{Granted: true, Reason: fmt.Sprintf("%s is healthy and runs %s", environment, w.releaseOf(environment))}
	}
	answered, doubt := w.answered()
	switch {
	case doubt != "":
		return refuse(doubt, "firedrill deploy "+environment+", when they answer")
	case answered == environment:
		return refuse(environment+" is answered, and switching its release would take it from its clients", "firedrill rollback")
	}
	if reason := w.unready(other, now); reason != "" {
		return refuse(other+" serves alone meanwhile, and "+reason, "mend it, then: firedrill deploy "+environment)
	}
	if reason, cure := w.touched(environment, now); reason != "" {
		return refuse(reason, cure)
	}
	return history.Permit{Granted: true, Reason: other + " is answered and healthy"}
}

// touched says which host of an environment cannot be looked at or is under attack, and what mends it, or "".
func (w *World) touched(environment string, now time.Time) (reason, cure string) {
	for _, host := range w.environment(environment).Hosts {
		release, seen := w.releases[host.Name]
		switch {
		case !seen || now.Sub(release.At) > inspectionAge:
			return "what " + host.Name + " runs is not known", "look whether it can be reached: ssh " + host.Name
		case release.Error != "":
			return host.Name + " could not be looked at: " + release.Error, "look whether it can be reached: ssh " + host.Name
		case len(release.InForce) > 0:
			return host.Name + " is under attack: " + strings.Join(release.InForce, ", "), "firedrill halt on " + host.Name
		}
		for _, at := range w.attacked {
			if at == host.Name {
				return host.Name + " is under attack", "firedrill halt on " + host.Name
			}
		}
	}
	return "", ""
}

// admitRollback lets the release of the answered environment be switched back, which takes it from its clients for a moment, only when the answer
// cannot move instead, and nothing is broken on purpose there.
func (w *World) admitRollback(index int, answered string, now time.Time) history.Permit {
	step := w.plan.Steps[index]
	refuse := func(reason, cure string) history.Permit {
		return history.Permit{Step: index, Reason: reason, Cure: cure}
	}
	if answered != step.Environment {
		return refuse(fmt.Sprintf("the plan was made for %s being answered, and %s is", step.Environment, answered), "make a new plan: run the command again")
	}
	idle := w.other(answered)
	reason := w.unready(idle, now)
	if reason == "" {
		return refuse(idle+" is healthy, so that the answer can move without an interruption", "firedrill rollback "+idle)
	}
	if reason, cure := w.touched(answered, now); reason != "" {
		return refuse(reason, cure)
	}
	return history.Permit{Step: index, Granted: true, Reason: fmt.Sprintf("the answer cannot move to %s: %s", idle, reason)}
}
