package guard

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// inspectionAge is how old the last look at a host's release may be. Steps take longer than a look, never this long.
const inspectionAge = 5 * time.Minute

// samplesLeast is how many moments of sampling a window holds at least; half of them may be missing.
const samplesLeast = 2

// Steady says whether all is well with live answered: every alarm OK, every host up, every name server leading to live, and every
// client's samples of the last window good. why names the first thing that is not.
func Steady(w *World, live string, now time.Time, window time.Duration) (ok bool, why string) {
	if answered, doubt := w.answered(); doubt != "" {
		return false, doubt
	} else if answered != live {
		return false, fmt.Sprintf("%s is answered, not %s", answered, live)
	}
	for _, environment := range w.plan.Environments {
		if doubt := w.unwell(environment.Name); doubt != "" {
			return false, doubt
		}
	}
	if doubt := w.alarmed(""); doubt != "" {
		return false, doubt
	}
	for _, client := range w.measured() {
		if doubt := w.unserved(client, now, window); doubt != "" {
			return false, doubt
		}
	}
	return true, ""
}

// unserved says why a client was not served all through the window, or "".
func (w *World) unserved(client drill.Client, now time.Time, window time.Duration) string {
	// Of a client that samples more rarely than the window is long, one sample at least must be there: silence proves nothing.
	window = max(window, samplesLeast*client.Every.Duration())
	// A sample is known when it has ended, at the latest after its timeout; younger ones may be missing without meaning.
	from, until := now.Add(-window-client.Timeout.Duration()), now.Add(-client.Timeout.Duration())
	seen := 0
	samples := w.samples[client.Name]
	for i := len(samples) - 1; i >= 0 && samples[i].Scheduled.After(from); i-- {
		if !samples[i].OK {
			return fmt.Sprintf("%s failed (%s)", client.Name, samples[i].Cause)
		}
		if samples[i].Scheduled.Before(until) {
			seen++
		}
	}
	if want := int(window / client.Every.Duration()); seen < want/2 {
		return fmt.Sprintf("%s gave %d samples where %d belong", client.Name, seen, want)
	}
	return ""
}

// Admit decides whether the step may start.
func Admit(w *World, index int, now time.Time) history.Permit {
	step := w.plan.Steps[index]
	refuse := func(reason, cure string) history.Permit {
		return history.Permit{Step: index, Reason: reason, Cure: cure}
	}
	if reason, cure := w.barred(now, goesBack(step)); reason != "" {
		return refuse(reason, cure)
	}
	answered, doubt := w.answered()
	if doubt != "" {
		return refuse(doubt, "start when they answer; see servers: or witness: of the failover name")
	}
	if step.Kind == drill.StepRollback {
		return w.admitRollback(index, answered, now)
	}
	if reason := w.outdated(index, now); reason != "" {
		return refuse(reason, "what was proven is of another release; begin anew: firedrill pipeline")
	}
	moved := step.Kind == drill.StepPromote && step.Begun && answered == step.Environment
	if moved {
		if reason := w.unready(step.Environment, now); reason != "" {
			return refuse(fmt.Sprintf("%s is answered already, and %s", step.Environment, reason), "go back: firedrill rollback "+step.Live)
		}
		return history.Permit{Step: index, Granted: true, Reason: step.Environment + " is answered already, by the run that was broken off; the answer is not moved again"}
	}
	first := step.Kind == drill.StepDeploy && w.first(step.Environment, now)
	if step.Kind == drill.StepDeploy && answered == step.Environment && !first {
		return refuse(step.Environment+" is answered now, and a deployment would take it from its clients", "deploy to the idle environment and promote it")
	}
	if answered != step.Live && step.Kind != drill.StepDeploy {
		return refuse(fmt.Sprintf("the plan was made for %s being answered, and %s is", step.Live, answered), w.newPlan(step.Live))
	}
	stays := w.other(step.Environment)
	if first {
		return history.Permit{Step: index, Granted: true, Reason: step.Environment + " has no release yet"}
	}
	if reason := w.unready(stays, now); reason != "" {
		return refuse(fmt.Sprintf("%s would be the only one left, and %s", stays, reason), w.mend(stays, now))
	}
	if step.Drill != nil && step.Drill.Database != "" {
		if reason, cure := w.admitDatabase(step.Drill); reason != "" {
			return refuse(reason, cure)
		}
	}
	if step.Kind != drill.StepDeploy {
		if reason := w.unready(step.Environment, now); reason != "" {
			cure := "deploy to " + step.Environment + " first"
			if !w.watch {
				cure = w.mend(step.Environment, now)
			}
			return refuse(fmt.Sprintf("%s is not fit for this step: %s", step.Environment, reason), cure)
		}
	}
	return history.Permit{Step: index, Granted: true, Reason: fmt.Sprintf("%s is healthy, not under attack and runs %s", stays, w.releaseOf(stays))}
}

// mend is the cure for an environment that is not ready to serve alone.
func (w *World) mend(environment string, now time.Time) string {
	switch {
	case !w.watch:
		return "start the watch (firedrill watch), or look whether url: and token_file: of watch: in the service file lead to it"
	case w.first(environment, now):
		return "publish its first release: firedrill deploy --first " + environment
	}
	return "mend " + environment + " first"
}

// newPlan is the cure when another environment is answered than the plan was made for.
func (w *World) newPlan(live string) string {
	if len(w.plan.Proven) > 0 {
		return "move the answer where it was: firedrill rollback " + live + ", then go on: firedrill pipeline --resume"
	}
	return "make a new plan: run the command again"
}

// outdated says which host does not run any more what an earlier run proved of it, or "". A step of this plan that deploys there makes
// that proof needless, from that step on.
func (w *World) outdated(index int, now time.Time) string {
	for _, proven := range w.plan.Proven {
		redone := slices.ContainsFunc(w.plan.Steps[:index+1], func(step drill.Step) bool {
			return step.Environment == proven.Environment && (step.Kind == drill.StepDeploy || step.Kind == drill.StepRollback)
		})
		if redone {
			continue
		}
		for _, was := range proven.Hosts {
			release, seen := w.releases[was.Host]
			switch {
			case !seen || now.Sub(release.At) > inspectionAge || release.Error != "":
				return "what " + was.Host + " runs is not known, and " + proven.Name + " was proven before"
			case release.Revision != was.Revision:
				return fmt.Sprintf("%s runs %s, and %s was proven with %s", was.Host, orNothing(release.Revision), proven.Name, was.Revision)
			}
		}
	}
	return ""
}

func orNothing(revision string) string {
	if revision == "" {
		return "no release"
	}
	return revision
}

func goesBack(step drill.Step) bool { return step.Back || step.Kind == drill.StepRollback }

// Barred says whether the step is refused by a freeze or by somebody's lock: for that, waiting to hear more changes nothing.
func Barred(w *World, index int, now time.Time) bool {
	reason, _ := w.barred(now, goesBack(w.plan.Steps[index]))
	return reason != ""
}

// barred says why nothing at all may start now, and what would allow it, or "".
// A way back is open in a freeze too.
func (w *World) barred(now time.Time, back bool) (reason, cure string) {
	for _, text := range w.plan.Freeze {
		if back {
			break
		}
		freeze, err := drill.ParseFreeze(text, time.UTC)
		if err != nil {
			return "the freeze cannot be read: " + err.Error(), "mend freeze: in the service file"
		}
		if freeze.Contains(now) {
			return fmt.Sprintf("the service is frozen until %s (%s)", freeze.Ends().Format(time.RFC3339), freeze), "wait, or take the dates out of freeze: in the service file"
		}
	}
	for _, name := range []string{w.plan.Failover[0].Primary, w.plan.Failover[0].Secondary} {
		environment := w.environment(name)
		if environment == nil {
			continue
		}
		for _, host := range environment.Hosts {
			if locked := w.releases[host.Name].Locked; locked != nil && !locked.Own && now.Before(locked.Until) {
				return host.Name + " is " + locked.String(), "ask " + locked.Owner + ", wait for its end, or: firedrill unlock --force"
			}
		}
	}
	return "", ""
}

func (w *World) other(environment string) string {
	for _, name := range []string{w.plan.Failover[0].Primary, w.plan.Failover[0].Secondary} {
		if name != environment {
			return name
		}
	}
	return ""
}

// unready says why an environment could not serve alone, or "".
func (w *World) unready(name string, now time.Time) string {
	if doubt := w.unwell(name); doubt != "" {
		return doubt
	}
	for _, host := range w.environment(name).Hosts {
		release, seen := w.releases[host.Name]
		switch {
		case !seen || now.Sub(release.At) > inspectionAge:
			return "what " + host.Name + " runs is not known"
		case release.Error != "":
			return host.Name + " could not be looked at: " + release.Error
		case len(release.InForce) > 0:
			return host.Name + " is under attack already: " + strings.Join(release.InForce, ", ")
		case release.Name == "" && w.plan.Deploy != nil:
			return host.Name + " has no release"
		case !release.Healthy:
			return host.Name + " is not healthy: " + release.Detail
		}
	}
	return ""
}

// first says that no host of the environment has a release, so that there is nothing to lose.
func (w *World) first(name string, now time.Time) bool {
	environment := w.environment(name)
	if environment == nil {
		return false
	}
	for _, host := range environment.Hosts {
		release, seen := w.releases[host.Name]
		if !seen || now.Sub(release.At) > inspectionAge || release.Error != "" || release.Name != "" {
			return false
		}
	}
	return true
}

// releaseOf names what the hosts of an environment run. They may differ where stop_at_failures let a deployment go on without some.
func (w *World) releaseOf(name string) string {
	hosts := map[string][]string{} // by release
	for _, host := range w.environment(name).Hosts {
		if release := w.releases[host.Name].Name; release != "" {
			hosts[release] = append(hosts[release], host.Name)
		}
	}
	if len(hosts) == 0 {
		return "no release of ours"
	}
	releases := slices.SortedFunc(maps.Keys(hosts), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(hosts[b]), len(hosts[a])), cmp.Compare(a, b))
	})
	text := releases[0]
	for _, release := range releases[1:] {
		text += fmt.Sprintf(", but %s on %s", release, strings.Join(hosts[release], ", "))
	}
	return text
}

// RollbackReady says whether there is somewhere to go back to after the step: the environment that is not answered could serve alone.
func RollbackReady(w *World, live string, now time.Time) (ok bool, detail string) {
	idle := w.other(live)
	if reason := w.unready(idle, now); reason != "" {
		return false, reason
	}
	return true, fmt.Sprintf("%s is healthy and runs %s", idle, w.releaseOf(idle))
}

// NothingInForce says whether a look at each host since the given time found no attack in force there. known is false when a host
// was not looked at or could not be.
func NothingInForce(w *World, hosts []drill.Host, since time.Time) (ok bool, detail string, known bool) {
	for _, host := range hosts {
		release, seen := w.releases[host.Name]
		switch {
		case !seen || release.At.Before(since):
			return false, host.Name + " was not looked at", false
		case release.Error != "":
			return false, host.Name + ": " + release.Error, false
		case len(release.InForce) > 0:
			return false, host.Name + ": " + strings.Join(release.InForce, ", "), true
		}
	}
	return true, fmt.Sprintf("looked at %d hosts", len(hosts)), true
}

// MustStop says whether the attack of a step must be taken back at once. since is when the impact began.
func MustStop(w *World, index int, since, now time.Time) (stop bool, condition, detail string) {
	step := w.plan.Steps[index]
	stays := w.other(step.Environment)
	endangered := w.unwell
	if step.Drill != nil && step.Drill.Database != "" {
		endangered = w.down // both environments stand on the database: their alarms are what the drill is about
	}
	if doubt := endangered(stays); doubt != "" {
		return true, "the last healthy environment is in danger", doubt
	}
	if condition, detail := w.overspent(since, now); condition != "" {
		return true, condition, detail
	}
	if condition, detail := w.stopWhen(step, since, now); condition != "" {
		return true, condition, detail
	}
	limit := w.plan.Objectives.RTO.Duration()
	if limit == 0 {
		return false, "", ""
	}
	for _, client := range w.plan.Clients {
		if out := w.unservedSince(client.Name, since); !out.IsZero() && now.Sub(out) > limit {
			return true, "clients unserved for longer than the recovery time objective", fmt.Sprintf("%s for %s of %s allowed", client.Name, now.Sub(out).Round(100*time.Millisecond), limit)
		}
	}
	return false, "", ""
}

// unservedSince returns since when a client has had only failures, or the zero time when its last sample was good.
func (w *World) unservedSince(client string, since time.Time) time.Time {
	var out time.Time
	samples := w.samples[client]
	for i := len(samples) - 1; i >= 0; i-- {
		if samples[i].OK || samples[i].Scheduled.Before(since) {
			return out
		}
		out = samples[i].Scheduled
	}
	if before := w.failing[client]; !before.IsZero() && !out.IsZero() {
		out = before
		if out.Before(since) {
			out = since
		}
	}
	return out
}
