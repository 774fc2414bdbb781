package control

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/history"
	"firedrill/internal/schedule"
)

const scheduledMax = 1000

// What an entry of the schedule may say of its starts.
const (
	scheduleJitterMax  = drill.Seconds(12 * time.Hour)
	scheduleCatchUpMax = drill.Seconds(7 * 24 * time.Hour)
)

// entryOf is an entry as the schedule decides about it. Entries are a service each: what keeps them apart is the permit.
func (c *Control) entryOf(s fleet.Scheduled, freezes []fleet.Freeze) (schedule.Entry, error) {
	var shared []string
	for _, freeze := range freezes {
		shared = append(shared, freeze.Dates)
	}
	calendar, err := drill.Scheduled{Cron: s.Cron, Window: s.Window, Freeze: s.Freeze}.Calendar(shared)
	return schedule.Entry{Service: s.ID, Name: s.ID, Items: []string{s.Name}, Calendar: calendar, Jitter: s.Jitter.Duration(), CatchUp: s.CatchUp.Duration()}, err
}

// Freezes are the dates on which nothing begins by itself.
func (c *Control) Freezes() []fleet.Freeze {
	all := slices.DeleteFunc(c.freezes.values(), func(f fleet.Freeze) bool { return f.Lifted })
	slices.SortFunc(all, func(a, b fleet.Freeze) int { return strings.Compare(a.Dates, b.Dates) })
	return all
}

// freezeKey is a key that the engine takes.
func freezeKey(dates string) string { return base64.RawURLEncoding.EncodeToString([]byte(dates)) }

func (c *Control) freeze(ctx context.Context, by fleet.Member, f fleet.Freeze) (fleet.Freeze, error) {
	if _, err := drill.ParseFreeze(f.Dates, time.UTC); err != nil {
		return f, &drill.Error{Op: "freeze", Kind: drill.Invalid, Err: err, Hint: "write it as 2026-12-18..2027-01-04, with a time zone if need be"}
	}
	if len(c.Freezes()) >= scheduledMax {
		return f, &drill.Error{Op: "freeze", Kind: drill.Invalid, Err: fmt.Errorf("there are %d freezes", scheduledMax), Hint: "lift some"}
	}
	f.By, f.At, f.Lifted = by.Name, time.Now(), false
	if err := c.freezes.put(ctx, freezeKey(f.Dates), f); err != nil {
		return f, err
	}
	c.record("%s freezes the schedule on %s: %s", by.Name, f.Dates, f.Reason)
	return f, nil
}

func (c *Control) unfreeze(ctx context.Context, by fleet.Member, dates string) (fleet.Freeze, error) {
	f, ok := c.freezes.get(freezeKey(dates))
	if !ok || f.Lifted {
		return f, &drill.Error{Op: "unfreeze", Kind: drill.Invalid, Err: fmt.Errorf("nothing is frozen on %q", dates), Hint: "see: firedrill fleet schedule freezes"}
	}
	f.Lifted = true
	if err := c.freezes.put(ctx, freezeKey(dates), f); err != nil {
		return f, err
	}
	c.record("%s lifts the freeze of %s on %s", by.Name, f.By, f.Dates)
	return f, nil
}

func (c *Control) scheduled() []fleet.Scheduled {
	all := slices.DeleteFunc(c.schedule.values(), func(s fleet.Scheduled) bool { return s.Ended })
	slices.SortFunc(all, func(a, b fleet.Scheduled) int { return strings.Compare(a.Name+a.ID, b.Name+b.ID) })
	return all
}

// Scheduled are the entries, with when each is due next.
func (c *Control) Scheduled(now time.Time) []fleet.ScheduledView {
	views := []fleet.ScheduledView{}
	freezes := c.Freezes()
	for _, one := range c.scheduled() {
		view := fleet.ScheduledView{Scheduled: one}
		if d, err := c.decide(one, freezes, now); err != nil {
			view.Waiting = err.Error()
		} else if len(d.Statuses) > 0 {
			view.Next, view.Waiting = d.Statuses[0].Next, d.Statuses[0].Why
		}
		views = append(views, view)
	}
	return views
}

// decided is what was decided of an entry, and for how long that stands.
type decided struct {
	of          string // what it was decided of
	from, until time.Time
	decision    schedule.Decision
}

// decide says what becomes of an entry. While nothing begins and nothing was missed, the answer stands until the moment that it names itself, or until
// the entry or a freeze changes: a thousand entries, decided upon each second and by each page, were a fifth of a core.
func (c *Control) decide(one fleet.Scheduled, freezes []fleet.Freeze, now time.Time) (schedule.Decision, error) {
	of := fmt.Sprint(one.Cron, "\n", one.Window, "\n", one.Freeze, one.Jitter, one.CatchUp, one.Since.UnixNano(), one.Done.UnixNano(), one.Name)
	for _, freeze := range freezes {
		of += "\n" + freeze.Dates
	}
	c.deciding.Lock()
	known, ok := c.decided[one.ID]
	c.deciding.Unlock()
	if ok && (known.of == of || c.options.Unmoved) && !now.Before(known.from) && (known.until.IsZero() || now.Before(known.until)) {
		return known.decision, nil
	}
	entry, err := c.entryOf(one, freezes)
	if err != nil {
		return schedule.Decision{}, err
	}
	d := schedule.Decide([]schedule.Entry{entry}, now, stateOf(one))
	if len(d.Due)+len(d.Missed) > 0 {
		return d, nil
	}
	c.deciding.Lock()
	defer c.deciding.Unlock()
	if len(c.decided) >= 2*scheduledMax { // of entries that were taken off
		clear(c.decided)
	}
	c.decided[one.ID] = decided{of: of, from: now, until: d.Next, decision: d}
	return d, nil
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
	if r.Drill == nil && isToken(by) {
		return fleet.Scheduled{}, &drill.Error{Op: "schedule", Kind: drill.Refused, Err: errors.New("a token puts drills on the schedule, and no attacks"), Hint: "put a drill there, or the attack as a person, in the dashboard"}
	}
	if r.Drill == nil {
		if err := fleet.CheckArgs(r.Request.Kind, r.Request.Args); err != nil {
			return wrong(err, "")
		}
		if _, err := c.attackable(r.Request); err != nil {
			return fleet.Scheduled{}, err
		}
		asked := r.Request
		asked.DryRun = false // an entry attacks, once it is unleashed
		if err := c.consented(asked); err != nil {
			return fleet.Scheduled{}, err
		}
	} else if err := c.drillable(by, *r.Drill); err != nil {
		return fleet.Scheduled{}, err
	}
	if len(c.scheduled()) >= scheduledMax {
		return wrong(fmt.Errorf("there are %d entries", scheduledMax), "take one off")
	}
	if err := withinBounds(by, nil, r.Request.Kind); err != nil {
		return fleet.Scheduled{}, err
	}
	one := fleet.Scheduled{ID: uuid.Must(uuid.NewV7()).String(), Name: r.Name, By: by, Since: time.Now(), Done: time.Now(), Cron: r.Cron, Window: r.Window, Request: r.Request,
		Drill: r.Drill, Freeze: r.Freeze, Jitter: r.Jitter, CatchUp: r.CatchUp, Leashed: true, Leash: by.Name}
	one.Request.DryRun = false
	if one.Drill != nil {
		asked := *r.Drill
		asked.DryRun = false
		one.Drill, one.Request = &asked, fleet.AttackRequest{}
	}
	if one.Jitter > scheduleJitterMax || one.CatchUp > scheduleCatchUpMax {
		return wrong(fmt.Errorf("jitter %s, catch up %s", one.Jitter, one.CatchUp), fmt.Sprintf("at most %s and %s", scheduleJitterMax, scheduleCatchUpMax))
	}
	if _, err := c.entryOf(one, c.Freezes()); err != nil {
		return wrong(err, `write five fields of cron and a time zone if need be, as "0 10 * * TUE Europe/Berlin"; a window as "Mon-Fri 09:00-15:00"`)
	}
	if why := never(one); why != "" {
		return wrong(errors.New("it would never begin: "+why), "choose an hour of cron that lies within the window, in the same time zone")
	}
	if err := c.schedule.put(ctx, one.ID, one); err != nil {
		return one, err
	}
	c.record("%s puts %s on the schedule: %s, %s %s", by.Name, one.Name, whatOf(one), one.Cron, one.Window)
	c.changed("schedule", one)
	return one, nil
}

// never says why an entry would never begin, by its own cron, window and freezes: such a one is a mistake. "" is that it would.
func never(one fleet.Scheduled) string {
	calendar, err := drill.Scheduled{Cron: one.Cron, Window: one.Window, Freeze: one.Freeze}.Calendar(nil)
	if err != nil {
		return err.Error()
	}
	entry := schedule.Entry{Service: one.ID, Name: one.ID, Items: []string{one.Name}, Calendar: calendar}
	d := schedule.Decide([]schedule.Entry{entry}, one.Since, stateOf(one))
	if len(d.Statuses) == 0 || !d.Statuses[0].Next.IsZero() {
		return ""
	}
	return d.Statuses[0].Why
}

// whatOf is what an entry does, in words.
func whatOf(one fleet.Scheduled) string {
	if one.Drill != nil {
		return one.Drill.Item() + " of " + one.Drill.Service
	}
	return fmt.Sprintf("%s %q", one.Request.Kind, one.Request.Args)
}

// drillable refuses a drill that is not there, or beyond the bounds of who asks.
func (c *Control) drillable(by fleet.Member, request fleet.DrillRequest) error {
	file, err := c.Service(request.Service, 0)
	if err != nil {
		return err
	}
	if !slices.Contains(file.Drills, request.Drill) {
		return &drill.Error{Op: "schedule", Kind: drill.Invalid, Err: fmt.Errorf("the service file of %s has no drill %q", file.Name, request.Drill), Hint: "it has: " + strings.Join(file.Drills, ", ")}
	}
	return withinBounds(by, []string{file.Name}, "")
}

// leash has the schedule only plan an entry, or carry it out. To let it go takes somebody who may start it.
func (c *Control) leash(ctx context.Context, by fleet.Member, name string, leashed bool) (fleet.Scheduled, error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	one, err := c.findScheduled(name)
	if err != nil {
		return one, err
	}
	if !leashed && isToken(by) {
		return one, &drill.Error{Op: "leash", Kind: drill.Refused, Err: errors.New("what is leashed is let go by a named person, never by a token"), Hint: "firedrill fleet schedule unleash " + one.ID}
	}
	if !leashed {
		err := withinBounds(by, nil, one.Request.Kind)
		if one.Drill != nil {
			err = c.drillable(by, *one.Drill)
		}
		if err != nil {
			return one, err
		}
		one.By = by // it begins in the name of who let it go
	}
	one.Leashed, one.Leash = leashed, by.Name
	if err := c.schedule.put(ctx, one.ID, one); err != nil {
		return one, err
	}
	word := "unleashes"
	if leashed {
		word = "leashes"
	}
	c.record("%s %s %s: %s", by.Name, word, one.Name, whatOf(one))
	c.changed("schedule", one)
	return one, nil
}

// findScheduled finds an entry by its ID, or by its name if that is one's alone.
func (c *Control) findScheduled(name string) (fleet.Scheduled, error) {
	var found []fleet.Scheduled
	for _, one := range c.scheduled() {
		if one.ID == name {
			return one, nil
		}
		if one.Name == name {
			found = append(found, one)
		}
	}
	if len(found) != 1 {
		return fleet.Scheduled{}, &drill.Error{Op: "schedule", Kind: drill.Invalid, Err: fmt.Errorf("%d entries are called %q", len(found), name), Hint: "see: firedrill fleet schedule list"}
	}
	return found[0], nil
}

// runScheduled begins an entry now, in the name of who asks. Windows and freezes are of what begins by itself; the leash holds.
func (c *Control) runScheduled(ctx context.Context, by fleet.Member, name string) (fleet.Scheduled, error) {
	one, err := c.findScheduled(name)
	if err != nil {
		return one, err
	}
	one.Last, one.Why, err = c.carryOutScheduled(ctx, by, one, occasion{id: uuid.Must(uuid.NewV7()).String(), trigger: history.TriggerPerson, entry: one.ID, moment: one.Done})
	c.record("%s runs %s of the schedule now: %s%s", by.Name, one.Name, one.Last, one.Why)
	if err != nil {
		return one, err
	}
	c.changeScheduled(context.WithoutCancel(ctx), one.ID, func(now *fleet.Scheduled) bool {
		now.Last, now.Why = one.Last, one.Why
		return now.Beginning == "" // else the schedule itself is about to say more
	})
	return one, nil
}

// skippedWhy begins the reason of a drill that did not begin because of how its service was.
const skippedWhy = "skipped: "

// carryOutScheduled starts an entry, or plans it while it is leashed. It returns the name of the run or drill, and why there is none.
func (c *Control) carryOutScheduled(ctx context.Context, by fleet.Member, one fleet.Scheduled, on occasion) (last, why string, err error) {
	now, known := c.schedule.get(one.ID)
	leashed := one.Leashed || known && now.Leashed // by somebody who was faster than this
	if one.Drill == nil {
		return c.attackScheduled(ctx, by, one.Request, on, leashed && !c.options.Bolting)
	}
	request := *one.Drill
	request.DryRun = leashed && !c.options.Bolting
	if on.trigger == history.TriggerSchedule && !c.options.Careless {
		if why, file := c.unfit(ctx, request, time.Now()); why != "" {
			if request.DryRun {
				return "", "leashed: it would be skipped: " + why, nil
			}
			run, err := c.skip(ctx, by, request, file, on.id, why)
			return run.ID, skippedWhy + why, err
		}
	}
	run, err := c.begun(ctx, by, request, on)
	if err == nil && request.DryRun {
		return "", fmt.Sprintf("leashed: it would attack %s with %s", strings.Join(run.Hosts, ", "), strings.Join(run.Kinds, ", ")), nil
	}
	return run.ID, "", err
}

// attackScheduled begins an attack of the schedule, or plans it while it is leashed. What begins by itself does not where a service that it would hit is not
// fit for a drill.
func (c *Control) attackScheduled(ctx context.Context, by fleet.Member, request fleet.AttackRequest, on occasion, leashed bool) (last, why string, err error) {
	byItself := on.trigger == history.TriggerSchedule && !c.options.Careless
	if leashed || byItself {
		look := request
		look.DryRun = true
		planned, err := c.attackAs(ctx, by, look, on.id)
		if err != nil {
			return "", "", err
		}
		request.Selector.Seed = planned.Seed // what was looked at is what begins
		would := ""
		for _, service := range planned.Services {
			if unfit, _ := c.unfit(ctx, fleet.DrillRequest{Service: service}, time.Now()); unfit != "" && byItself {
				would = skippedWhy + service + ": " + unfit
				break
			}
		}
		switch {
		case leashed && would != "":
			return "", "leashed: it would be " + would, nil
		case leashed:
			var names []string
			for _, host := range planned.Hosts {
				names = append(names, host.Name)
			}
			return "", fmt.Sprintf("leashed: it would attack %s with %s", strings.Join(names, ", "), request.Kind), nil
		case would != "":
			c.record("an attack of the schedule with %s is %s", request.Kind, would)
			return "", would, nil
		}
	}
	run, err := c.attackAs(ctx, by, request, on.id)
	return run.ID, "", err
}

func (c *Control) endScheduled(ctx context.Context, by fleet.Member, id string) (fleet.Scheduled, error) {
	c.changing.Lock()
	defer c.changing.Unlock()
	one, err := c.findScheduled(id)
	if err != nil {
		return one, err
	}
	one.Ended = true
	if err := c.schedule.put(ctx, one.ID, one); err != nil {
		return one, err
	}
	c.record("%s takes %s off the schedule", by.Name, one.Name)
	c.changed("schedule", one)
	return one, nil
}

// carryOutDue starts what is due. The moment is on the disk before anything is ordered, so that a crash cannot order it twice.
func (c *Control) carryOutDue(ctx context.Context, now time.Time) {
	freezes := c.Freezes()
	for _, one := range c.scheduled() {
		decision, err := c.decide(one, freezes, now)
		if err != nil {
			continue
		}
		for _, missed := range decision.Missed {
			one.Done, one.Beginning, one.Why, one.Last = missed.Moment, "", missed.Why, ""
			c.record("missed %s of %s: %s", one.Name, missed.Moment.Format(time.RFC3339), missed.Why)
			c.keepScheduled(ctx, one)
		}
		for _, due := range decision.Due {
			one.Done, one.Why = due.Moment, "it was begun, and it is not known yet what became of it"
			c.launch(ctx, one)
		}
	}
}

// launch begins an entry under a name that is on the disk before, so that whoever leads after this server finds out whether it came to anything.
func (c *Control) launch(ctx context.Context, one fleet.Scheduled) bool {
	one.Beginning, one.Last = uuid.Must(uuid.NewV7()).String(), ""
	over := func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.beginning, one.Beginning)
	}
	c.mu.Lock()
	c.beginning[one.Beginning] = true
	c.mu.Unlock()
	if !c.keepScheduled(ctx, one) {
		over()
		return false
	}
	c.due.Add(1)
	go func() {
		defer c.due.Done()
		defer over()
		c.beginScheduled(ctx, one)
	}()
	return true
}

// carryOutLeft looks after moments of which nobody said what became of them: the server that began them led no more, or ended. What came to something is
// noted; what came to nothing is begun once more where its moment may still be caught up, and where not, that is said. A server that has just begun to lead
// waits: what the one before wrote last may still be on its way.
func (c *Control) carryOutLeft(ctx context.Context, now time.Time) {
	if c.lead.young(time.Now()) {
		return
	}
	for _, one := range c.scheduled() {
		c.mu.Lock()
		here := c.beginning[one.Beginning]
		c.mu.Unlock()
		if one, _ = c.schedule.get(one.ID); one.Beginning == "" || here || c.options.Forsaking { // as it is now: it may just have been settled here
			continue
		}
		became, open := c.became(one.Beginning)
		if open && !c.options.Rash {
			continue
		}
		if became && !c.options.Rash {
			c.settleScheduled(ctx, one, one.Beginning, "")
			continue
		}
		c.yieldHeld(ctx, one.Beginning)
		again := again{moment: one.Done, why: "the server that was to begin it led no more, or ended"}
		if _, why := c.launchAgain(ctx, one, again, now); why != "" {
			c.record("missed %s of %s: %s", one.Name, one.Done.Format(time.RFC3339), why)
			c.settleScheduled(ctx, one, "", why)
		}
	}
}

// yieldHeld gives back what was taken for a run or drill that never was.
func (c *Control) yieldHeld(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(ctx, storeMax)
	defer cancel()
	holders, err := c.permits.Holders(ctx)
	for service, holder := range holders {
		if holder.Run == name {
			err = errors.Join(err, c.permits.Yield(ctx, service, name))
		}
	}
	if err != nil {
		c.log.WarnContext(ctx, "a permit cannot be given back yet", "run", name, "error", err)
		c.owe()
	}
}

// became reports whether a run or drill that the schedule was to begin came to anything, and whether that is open yet.
func (c *Control) became(name string) (something, open bool) {
	if _, known := c.drills.get(name); known {
		return true, false // what becomes of it is followed, as of any drill
	}
	run, known := c.runs.get(name)
	if !known {
		return false, false
	}
	// One that was taken back before anybody was told to go came to nothing.
	return run.State != fleet.RunCancelled || run.Stopped != "", run.State == fleet.RunStarting
}

// again is a moment that is to be begun once more.
type again struct {
	moment time.Time
	why    string
}

// launchAgain begins a moment once more: where it may still be caught up, and once. That it is, is on the disk before it begins. It returns whether
// it is, and why it never will be.
func (c *Control) launchAgain(ctx context.Context, one fleet.Scheduled, a again, now time.Time) (begun bool, never string) {
	if one.Again.Equal(a.moment) && !c.options.Relentless {
		return false, a.why + ", twice"
	}
	entry, err := c.entryOf(one, c.Freezes())
	if err != nil {
		return false, err.Error()
	}
	before := stateOf(one)
	before.Done[one.ID] = a.moment.Add(-time.Second)
	decision := schedule.Decide([]schedule.Entry{entry}, now, before)
	this := func(one schedule.Due) bool { return one.Moment.Equal(a.moment) }
	if !slices.ContainsFunc(decision.Due, this) {
		if slices.ContainsFunc(decision.Missed, this) || len(decision.Due) > 0 {
			return false, a.why + ", and its moment cannot be caught up now"
		}
		return false, ""
	}
	one.Again, one.Why = a.moment, "it was begun once more, and it is not known yet what became of it"
	if !c.launch(ctx, one) {
		return false, ""
	}
	c.record("%s is begun once more: %s", one.Name, a.why)
	return true, ""
}

// beginAgain begins a drill of the schedule once more whose server ended, or led no more, in the middle of it.
func (c *Control) beginAgain(ctx context.Context, broken fleet.DrillRun, now time.Time) {
	one, known := c.schedule.get(broken.Entry)
	if !known || one.Ended || broken.Trigger != history.TriggerSchedule || !one.Done.Equal(broken.Moment) || one.Again.Equal(broken.Moment) && !c.options.Relentless {
		return
	}
	begun, why := c.launchAgain(ctx, one, again{moment: broken.Moment, why: "the server ended in the middle of drill " + broken.ID}, now)
	if !begun {
		c.record("%s is not begun once more: %s", one.Name, cmp.Or(why, "its moment cannot be caught up now"))
	}
}

func (c *Control) keepScheduled(ctx context.Context, one fleet.Scheduled) bool {
	ctx, cancel := context.WithTimeout(ctx, storeMax)
	defer cancel()
	c.changing.Lock()
	defer c.changing.Unlock()
	now, ok := c.schedule.get(one.ID)
	if !ok || now.Ended {
		return false // taken off meanwhile
	}
	one.Leashed, one.Leash, one.By = now.Leashed, now.Leash, now.By // who leashed it meanwhile is heard
	if err := c.schedule.put(ctx, one.ID, one); err != nil {
		c.log.ErrorContext(ctx, "the schedule cannot remember, and starts nothing", "entry", one.Name, "error", err)
		return false
	}
	c.changed("schedule", one)
	return true
}

// changeScheduled changes an entry as it is now, if with wants it kept.
func (c *Control) changeScheduled(ctx context.Context, id string, with func(now *fleet.Scheduled) bool) {
	ctx, cancel := context.WithTimeout(ctx, storeMax)
	defer cancel()
	c.changing.Lock()
	defer c.changing.Unlock()
	now, ok := c.schedule.get(id)
	if !ok || now.Ended || !with(&now) {
		return
	}
	if err := c.schedule.put(ctx, id, now); err != nil {
		c.log.ErrorContext(ctx, "what became of an entry of the schedule cannot be kept", "entry", now.Name, "error", err)
		return
	}
	c.changed("schedule", now)
}

// settleScheduled keeps what became of what was begun, unless a later moment or another server has taken its place.
func (c *Control) settleScheduled(ctx context.Context, begun fleet.Scheduled, last, why string) {
	c.changeScheduled(ctx, begun.ID, func(now *fleet.Scheduled) bool {
		ours := now.Beginning == begun.Beginning
		now.Beginning, now.Last, now.Why = "", last, why
		return ours
	})
}

// beginScheduled attacks in the name of who put the entry there, with what that person may do now.
func (c *Control) beginScheduled(ctx context.Context, one fleet.Scheduled) {
	term, _ := c.lead.holds()
	ctx, cancel := context.WithTimeout(ctx, callMax)
	defer cancel()
	by, known := c.standing(one.By)
	last, why := "", ""
	err := error(&drill.Error{Op: "schedule", Kind: drill.Refused, Err: fmt.Errorf("not attacking: %s, who put it there, is not known any more", one.By.Name)})
	if known {
		if !fleet.MayCall(by.Role, "attack") { // which a drill needs as well
			err = &drill.Error{Op: "schedule", Kind: drill.Refused, Err: fmt.Errorf("not attacking: %s, who put it there, is %s now", by.Name, by.Role)}
		} else {
			last, why, err = c.carryOutScheduled(ctx, by, one, occasion{id: one.Beginning, trigger: history.TriggerSchedule, entry: one.ID, moment: one.Done})
		}
	}
	if now, leads := c.lead.holds(); err != nil && (isUnled(err) || !leads || now != term) && !c.options.Forsaking {
		c.record("%s is left to the server that leads now: %v", one.Name, err)
		return
	}
	if err != nil {
		why = strings.TrimSpace(err.Error() + " " + drill.HintOf(err))
		c.record("the schedule does not begin %s of %s: %v", one.Name, one.By.Name, err)
	} else if !strings.HasPrefix(why, skippedWhy) {
		c.record("the schedule begins %s of %s: %s%s", one.Name, one.By.Name, last, why)
	}
	c.settleScheduled(context.WithoutCancel(ctx), one, last, why)
}

// standing is what a person may do now: a member by the list here, and others by who knows them.
func (c *Control) standing(m fleet.Member) (fleet.Member, bool) {
	if m.Key != "" {
		now, ok := c.members.get(m.Key)
		return now, ok && now.Revoked == nil
	}
	if isToken(m) {
		return c.tokenStanding(m)
	}
	if c.options.Person == nil {
		return m, false
	}
	return c.options.Person(m.Name)
}
