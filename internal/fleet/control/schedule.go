package control

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/schedule"
)

const scheduledMax = 1000

// entryOf is an entry as the schedule decides about it. Entries are a service each: what keeps them apart is the permit.
func entryOf(s fleet.Scheduled) (schedule.Entry, error) {
	calendar, err := drill.Scheduled{Cron: s.Cron, Window: s.Window}.Calendar(nil)
	return schedule.Entry{Service: s.ID, Name: s.ID, Items: []string{s.Name}, Calendar: calendar}, err
}

func (c *Control) scheduled() []fleet.Scheduled {
	all := slices.DeleteFunc(c.schedule.values(), func(s fleet.Scheduled) bool { return s.Ended })
	slices.SortFunc(all, func(a, b fleet.Scheduled) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	return all
}

// Scheduled are the entries, with when each is due next.
func (c *Control) Scheduled(now time.Time) []fleet.ScheduledView {
	views := []fleet.ScheduledView{}
	for _, one := range c.scheduled() {
		view := fleet.ScheduledView{Scheduled: one}
		if entry, err := entryOf(one); err != nil {
			view.Waiting = err.Error()
		} else if d := schedule.Decide([]schedule.Entry{entry}, now, stateOf(one)); len(d.Statuses) > 0 {
			view.Next, view.Waiting = d.Statuses[0].Next, d.Statuses[0].Why
		}
		views = append(views, view)
	}
	return views
}

func stateOf(s fleet.Scheduled) schedule.State {
	return schedule.State{Since: s.Since, Done: map[string]time.Time{s.ID: s.Done}, Running: map[string]string{}}
}

// putScheduled puts an attack on the schedule. What it asks for must be possible to ask for now, or nobody would learn before it is due.
func (c *Control) putScheduled(ctx context.Context, by fleet.Member, r fleet.ScheduleRequest) (fleet.Scheduled, error) {
	wrong := func(err error, hint string) (fleet.Scheduled, error) {
		return fleet.Scheduled{}, &drill.Error{Op: "schedule", Kind: drill.Invalid, Err: err, Hint: hint}
	}
	if err := fleet.CheckName("an entry", r.Name); err != nil {
		return wrong(err, "")
	}
	if err := fleet.CheckArgs(r.Request.Kind, r.Request.Args); err != nil {
		return wrong(err, "")
	}
	if len(c.scheduled()) >= scheduledMax {
		return wrong(fmt.Errorf("there are %d entries", scheduledMax), "take one off")
	}
	if err := withinBounds(by, nil, r.Request.Kind); err != nil {
		return fleet.Scheduled{}, err
	}
	one := fleet.Scheduled{ID: uuid.Must(uuid.NewV7()).String(), Name: r.Name, By: by, Since: time.Now(), Done: time.Now(), Cron: r.Cron, Window: r.Window, Request: r.Request}
	one.Request.DryRun = false
	if _, err := entryOf(one); err != nil {
		return wrong(err, `write five fields of cron and a time zone if need be, as "0 10 * * TUE Europe/Berlin"; a window as "Mon-Fri 09:00-15:00"`)
	}
	if err := c.schedule.put(ctx, one.ID, one); err != nil {
		return one, err
	}
	c.record("%s puts %s on the schedule: %s %q, %s %s", by.Name, one.Name, one.Request.Kind, one.Request.Args, one.Cron, one.Window)
	c.changed("schedule", one)
	return one, nil
}

func (c *Control) endScheduled(ctx context.Context, by fleet.Member, id string) (fleet.Scheduled, error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	one, ok := c.schedule.get(id)
	if !ok || one.Ended {
		return one, &drill.Error{Op: "schedule", Kind: drill.Invalid, Err: fmt.Errorf("there is no entry %q", id), Hint: "it may have been taken off by somebody else"}
	}
	one.Ended = true
	if err := c.schedule.put(ctx, id, one); err != nil {
		return one, err
	}
	c.record("%s takes %s off the schedule", by.Name, one.Name)
	c.changed("schedule", one)
	return one, nil
}

// carryOutDue starts what is due. The moment is on the disk before anything is ordered, so that a crash cannot order it twice.
func (c *Control) carryOutDue(ctx context.Context, now time.Time) {
	for _, one := range c.scheduled() {
		entry, err := entryOf(one)
		if err != nil {
			continue
		}
		decision := schedule.Decide([]schedule.Entry{entry}, now, stateOf(one))
		for _, missed := range decision.Missed {
			one.Done, one.Why, one.Last = missed.Moment, missed.Why, ""
			c.record("missed %s of %s: %s", one.Name, missed.Moment.Format(time.RFC3339), missed.Why)
			c.keepScheduled(ctx, one)
		}
		for _, due := range decision.Due {
			one.Done, one.Why, one.Last = due.Moment, "it was begun, and the server ended before it was known what became of it", ""
			if !c.keepScheduled(ctx, one) {
				continue
			}
			c.due.Add(1)
			go func() {
				defer c.due.Done()
				c.beginScheduled(ctx, one)
			}()
		}
	}
}

func (c *Control) keepScheduled(ctx context.Context, one fleet.Scheduled) bool {
	ctx, cancel := context.WithTimeout(ctx, storeMax)
	defer cancel()
	c.changing.Lock()
	defer c.changing.Unlock()
	if now, ok := c.schedule.get(one.ID); !ok || now.Ended {
		return false // taken off meanwhile
	}
	if err := c.schedule.put(ctx, one.ID, one); err != nil {
		c.log.ErrorContext(ctx, "the schedule cannot remember, and starts nothing", "entry", one.Name, "error", err)
		return false
	}
	c.changed("schedule", one)
	return true
}

// beginScheduled attacks in the name of who put the entry there, with what that person may do now.
func (c *Control) beginScheduled(ctx context.Context, one fleet.Scheduled) {
	ctx, cancel := context.WithTimeout(ctx, callMax)
	defer cancel()
	by, known := c.standing(one.By)
	run := fleet.Run{}
	err := error(&drill.Error{Op: "schedule", Kind: drill.Refused, Err: fmt.Errorf("not attacking: %s, who put it there, is not known any more", one.By.Name)})
	if known {
		if !fleet.MayCall(by.Role, "attack") {
			err = &drill.Error{Op: "schedule", Kind: drill.Refused, Err: fmt.Errorf("not attacking: %s, who put it there, is %s now", by.Name, by.Role)}
		} else {
			run, err = c.Attack(ctx, by, one.Request)
		}
	}
	one.Last, one.Why = run.ID, ""
	if err != nil {
		one.Why = strings.TrimSpace(err.Error() + " " + drill.HintOf(err))
		c.record("the schedule does not begin %s of %s: %v", one.Name, one.By.Name, err)
	} else {
		c.record("the schedule begins %s of %s: run %s", one.Name, one.By.Name, run.ID)
	}
	c.keepScheduled(context.WithoutCancel(ctx), one)
}

// standing is what a person may do now: a member by the list here, and others by who knows them.
func (c *Control) standing(m fleet.Member) (fleet.Member, bool) {
	if m.Key != "" {
		now, ok := c.members.get(m.Key)
		return now, ok && now.Revoked == nil
	}
	if c.options.Person == nil {
		return m, false
	}
	return c.options.Person(m.Name)
}
