package control

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/permits"
)

// takesDown reports whether a kind of attack takes its host down. Then no deadline ends it: the host is as it was when somebody has powered it on, and
// its agent says so.
func (c *Control) takesDown(kind string) bool {
	return c.options.TakesDown != nil && c.options.TakesDown(kind)
}

// consented refuses to take hosts down unless a person said that this is meant.
func (c *Control) consented(request fleet.AttackRequest) error {
	if !c.takesDown(request.Kind) || request.Consent || request.DryRun || c.options.Unasked {
		return nil
	}
	return &drill.Error{Op: "attack", Kind: drill.Refused, Err: fmt.Errorf("not attacking: %s takes hosts down, and this server cannot power them on", request.Kind),
		Hint: "if you mean it, and somebody or something powers them on again, add --yes; with --reboot after " + request.Kind + " they come back by themselves"}
}

// awaits reports whether a run is not over because a host that it took down is not back. Its deadline does not end that; a person does who stops the
// run, or who puts the host out.
func (c *Control) awaits(run fleet.Run) bool {
	if !c.takesDown(run.Kind) || run.Drill != "" || run.State != fleet.RunRunning || run.Stopped != "" || c.options.Presuming {
		return false
	}
	return slices.ContainsFunc(run.Hosts, func(h fleet.RunHost) bool { return !h.Final() && !c.putOut(h.Key) })
}

func (c *Control) putOut(key string) bool {
	member, known := c.members.get(key)
	return !known || member.Revoked != nil
}

// awaitReturn says once of hosts that are not back by the deadline that they are waited for.
func (c *Control) awaitReturn(run fleet.Run) error {
	const said = "down; its service is kept from other attacks until its agent is back, or the run is stopped"
	if !slices.ContainsFunc(run.Hosts, func(h fleet.RunHost) bool { return !h.Final() && h.Reason != said }) {
		return nil
	}
	var away []string
	_, err := c.changeRun(run.ID, func(r *fleet.Run) {
		away = nil
		for i := range r.Hosts {
			if h := &r.Hosts[i]; !h.Final() {
				h.Reason, away = said, append(away, h.Name)
			}
		}
	})
	if err == nil {
		c.record("run %s took hosts down that are not back by %s: %s", run.ID, run.Deadline.Format(time.RFC3339), strings.Join(away, ", "))
	}
	return err
}

// lostReason is what is said of a host of a run that gave no account by its deadline.
func (c *Control) lostReason(run fleet.Run, host fleet.RunHost) string {
	switch {
	case !c.takesDown(run.Kind):
		return "not heard of since; by its deadline the host has ended it by itself"
	case c.putOut(host.Key):
		return "it was taken down, is not back, and was put out of the fleet"
	case run.Stopped != "":
		return "it was taken down, is not back, and is not waited for: stopped by " + run.Stopped
	}
	return "it was taken down, and is not back"
}

// freeOfAwaited refuses permits of services of which a host was taken down and is not back, however long ago that was to be over.
func (c *Control) freeOfAwaited(names []string, run string) error {
	for _, other := range c.runs.going() {
		if other.ID == run || !c.awaits(other) {
			continue
		}
		for _, name := range permits.Names(other.Services, other.Groups) {
			if slices.Contains(names, name) {
				return &drill.Error{Op: "permit", Kind: drill.Refused, Err: errors.New("not attacking: run " + other.ID + " of " + other.By + " took a host of the same service or redundancy group down, and it is not back"),
					Hint: "power it on: its agent says that it is back; if it never will be: firedrill fleet stop " + other.ID}
			}
		}
	}
	return nil
}
