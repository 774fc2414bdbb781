package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/history"
	"firedrill/internal/schedule"
)

// rehearsed is the newest verdict of a drill that says something.
type rehearsed struct {
	at      time.Time
	outcome string
	id      string
}

// note takes up what a record says of drills. The lock is held.
func (r *records) note(record fleet.Record) {
	for _, step := range record.Steps {
		// What proved nothing does not count: that nobody knows is what a cadence is there to end.
		if step.Kind != "drill" || step.Outcome == "" || step.Outcome == string(history.Inconclusive) {
			continue
		}
		of := record.Service + "\n" + drillOf(step.Name)
		if was := r.rehearsed[of]; record.Started.After(was.at) {
			r.rehearsed[of] = rehearsed{record.Started, step.Outcome, record.ID}
		}
	}
}

// wanted are the cadences that service files ask for.
func (c *Control) wanted() []fleet.Wanted {
	var all []fleet.Wanted
	named := map[string]bool{}
	for _, file := range c.Services() {
		kept, ok := c.services.get(serviceKey(file.Name, file.Version))
		if !ok {
			continue
		}
		named[file.Name] = true
		all = append(all, c.wantedIn(kept)...)
	}
	if c.options.Wanted != nil {
		for _, one := range c.options.Wanted() {
			if !named[one.Service] { // the version that was put on the server is the one that it conducts
				all = append(all, one)
			}
		}
	}
	slices.SortFunc(all, func(a, b fleet.Wanted) int { return strings.Compare(a.Service+"\n"+a.Drill, b.Service+"\n"+b.Drill) })
	return all
}

// wantedIn reads the cadences of a service file, once for each version.
func (c *Control) wantedIn(file fleet.ServiceFile) []fleet.Wanted {
	key := serviceKey(file.Name, file.Version)
	c.mu.Lock()
	known, ok := c.cadences[key]
	c.mu.Unlock()
	if ok {
		return known
	}
	service, err := drill.ParseService([]byte(file.Text), file.Name)
	if err != nil {
		return nil // it was read when it was taken, so by another version of this program
	}
	wanted := fleet.WantedBy(service, c.wantedSince(file))
	c.mu.Lock()
	c.cadences[key] = wanted
	c.mu.Unlock()
	return wanted
}

// wantedSince is when the first version of a service file was put here: a new version does not begin the wait anew.
func (c *Control) wantedSince(file fleet.ServiceFile) time.Time {
	if first, ok := c.services.get(serviceKey(file.Name, 1)); ok {
		return first.At
	}
	return file.At
}

// Cadences are how often drills are wanted, and how that stands: what is overdue first, then what is due.
func (c *Control) Cadences(now time.Time) []fleet.Cadence {
	wanted := c.wanted()
	all := make([]fleet.Cadence, 0, len(wanted))
	c.records.mu.RLock()
	for _, one := range wanted {
		last := c.records.rehearsed[one.Service+"\n"+one.Drill]
		kept := schedule.KeepCadence(one.Every.Duration(), last.at, one.Since, now)
		all = append(all, fleet.Cadence{Service: one.Service, Drill: one.Drill, Every: one.Every, State: kept.State, Last: last.at, Outcome: last.outcome, Result: last.id, Due: kept.Due, Overdue: kept.Overdue, Text: kept.Say(one.Drill, now)})
	}
	c.records.mu.RUnlock()
	rank := map[string]int{schedule.CadenceOverdue: 0, schedule.CadenceDue: 1, schedule.CadenceKept: 2}
	slices.SortStableFunc(all, func(a, b fleet.Cadence) int { return rank[a.State] - rank[b.State] })
	return all
}

// cadenceTold is what was said last of a cadence.
type cadenceTold struct {
	State string    `json:"state"`
	At    time.Time `json:"at"`
}

// tellCadences says each cadence that has moved, once; what could not be said is said again.
func (c *Control) tellCadences(ctx context.Context, now time.Time) {
	for _, one := range c.Cadences(now) {
		key := freezeKey(one.Service + "\n" + one.Drill)
		was, _ := c.told.get(key)
		if was.State == one.State || was.State == "" && one.State == schedule.CadenceKept {
			continue
		}
		if !c.tell(ctx, fleet.News{Service: one.Service, Name: "cadence-" + one.Drill, From: cadenceNews(was.State), To: cadenceNews(one.State), Text: one.Text, At: now}) {
			continue
		}
		if err := c.told.put(ctx, key, cadenceTold{one.State, now}); err != nil {
			c.log.WarnContext(ctx, "that a cadence was told is not kept; it is said again", "error", err)
			continue
		}
		c.record("cadence of %s: %s", one.Service, one.Text)
	}
}

// cadenceNews is a cadence as alarms are told: due and overdue are raised.
func cadenceNews(state string) string {
	switch state {
	case schedule.CadenceDue, schedule.CadenceOverdue:
		return fleet.NewsAlarm
	case schedule.CadenceKept:
		return fleet.NewsOK
	}
	return fleet.NewsUnknown
}

// unfit says why a drill of the schedule is not to begin now; empty: it may. What cannot be found out is a reason.
func (c *Control) unfit(ctx context.Context, request fleet.DrillRequest, now time.Time) (why string, file fleet.ServiceFile) {
	file, err := c.Service(request.Service, 0)
	if err != nil {
		return "", file // the drill itself says what is wrong
	}
	service, err := drill.ParseService([]byte(file.Text), file.Name)
	if err != nil {
		return "", file
	}
	if level := service.Objectives.Level; level != nil {
		if spent := c.unserved(service.Name, now.Add(-level.Window.Duration())); spent >= level.Budget() {
			return fmt.Sprintf("the error budget is spent: drills left clients unserved for %s of the %s that %.9g %% leave over %s", spent.Round(time.Millisecond), level.Budget().Round(time.Millisecond), float64(level.Target), level.Window), file
		}
	}
	if c.options.Conductor == nil {
		return "", file
	}
	return c.options.Conductor.Unfit(ctx, service), file
}

// unserved is for how long drills of a service have left clients unserved since a time.
func (c *Control) unserved(service string, since time.Time) (spent time.Duration) {
	c.records.mu.RLock()
	defer c.records.mu.RUnlock()
	for _, one := range slices.Backward(c.records.all[service]) {
		record := c.records.read(one)
		if record.Started.Before(since) {
			break
		}
		for _, step := range record.Steps {
			spent += step.Unserved.Duration()
		}
	}
	return spent
}

// skip writes down that a drill of the schedule did not begin, and why. It is no verdict, and never counts as one.
func (c *Control) skip(ctx context.Context, by fleet.Member, request fleet.DrillRequest, file fleet.ServiceFile, id, why string) (fleet.DrillRun, error) {
	now := time.Now()
	run := fleet.DrillRun{ID: id, Request: request, Version: file.Version, By: by.Name, Trigger: history.TriggerSchedule, Server: c.options.Name,
		Hosts: []string{}, Kinds: []string{}, Started: now, Until: now, State: fleet.DrillEnded, Ended: now, Outcome: fleet.OutcomeSkipped, Reason: why}
	if err := c.drills.put(ctx, run.ID, run); err != nil {
		return run, err
	}
	c.record("drill %s of %s is skipped: %s", request.Drill, request.Service, why)
	return run, nil
}
