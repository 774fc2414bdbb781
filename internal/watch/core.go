package watch

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"firedrill/internal/alarm"
	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/history"
)

const (
	// source names the watch in events.
	source = "watch"
	// hostPlaceholder stands for the host in the names of alarms.
	hostPlaceholder = "{host}"
)

// core is all that the watch knows. It does no I/O and reads no clock; methods that may change what followers see return events.
type core struct {
	service string
	hosts   []*hostState
	alarms  []*alarmState
	fed     map[fedBy][]*alarmState // the alarms that a sample feeds
	due     time.Time               // the earliest of the alarms

	receives map[receivedAs][]string // the metrics that a value from outside feeds
	names    []*nameState
	pause    time.Time // no evaluation before this

	composites []*compositeState
	actions    []*actionState
	mutes      []mute
	quietTimes []quietTime
	notices    []Notice // not taken yet
	held       Hold
}

type hostState struct {
	host        drill.Host
	environment string
	known       bool // up or down has been told
	up          bool
	bootID      string
	detail      string
	since       time.Time
}

// fedBy is what a sample is about; host is empty for what is measured once for the service.
type fedBy struct{ metric, host string }

type alarmState struct {
	alarm     alarm.Alarm
	metric    drill.Metric // zero for an alarm that lives elsewhere
	external  *external    // nil for one of our own
	series    *alarm.Series
	due       time.Time
	bad       bool // speaks against its host
	publishes bool // tells the datapoints of its metric: the first of the alarms with this metric, host and period
	told      time.Time
}

type nameState struct {
	policy  failover.Policy
	state   failover.State
	against map[string][]*alarmState // by host: the alarms that make it unhealthy
}

// newCore builds the state for a service at now. saved may be nil.
func newCore(service drill.Service, saved *savedState, now time.Time) (*core, error) {
	c := &core{service: service.Name, fed: map[fedBy][]*alarmState{}, due: now, receives: receivers(service)}
	for _, environment := range service.Environments {
		for _, host := range environment.Hosts {
			c.hosts = append(c.hosts, &hostState{host: host, environment: environment.Name, since: now})
		}
	}
	type published struct {
		metric, host string
		statistic    alarm.Statistic
		period       time.Duration
	}
	seen := map[published]bool{}
	for _, one := range drill.ExpandAlarms(service) {
		state, err := newAlarm(one, service, now)
		if err != nil {
			return nil, err
		}
		rule := state.alarm.Rule
		state.bad = saved != nil && !rule.Disabled && slices.Contains(saved.Unhealthy, rule.Name)
		c.alarms = append(c.alarms, state)
		if state.external != nil {
			continue
		}
		key := published{rule.Metric, rule.Host, rule.Statistic, rule.Period}
		state.publishes = !seen[key] && rule.Absent == 0
		seen[key] = true
		fed := fedBy{rule.Metric, rule.Host}
		c.fed[fed] = append(c.fed[fed], state)
	}
	composites, err := newComposites(service, now)
	if err != nil {
		return nil, err
	}
	c.composites, c.actions = composites, newActions(service)
	if c.quietTimes, err = newQuietTimes(service); err != nil {
		return nil, err
	}
	c.recall(saved)
	for _, name := range service.Failover {
		state, err := c.newName(name, service, saved, now)
		if err != nil {
			return nil, err
		}
		c.names = append(c.names, state)
	}
	return c, nil
}

func (c *core) newName(f drill.Failover, service drill.Service, saved *savedState, now time.Time) (*nameState, error) {
	policy, err := failover.Compile(f, service.Environments)
	if err != nil {
		return nil, err
	}
	// Name servers take no serial that is not higher than the last. What the watch before this one told last may not have reached the
	// state file, or there is none; the time in seconds is beyond any serial that it can have told.
	least := uint64(max(1, now.Unix()))
	n := &nameState{policy: policy, state: failover.Begin(policy, least), against: map[string][]*alarmState{}}
	if saved != nil {
		if before, ok := saved.Names[f.Name]; ok {
			n.state = failover.Resume(policy, before)
			n.state.Serial = max(n.state.Serial+1, least)
		}
	}
	for _, environment := range []drill.Environment{policy.Primary, policy.Secondary} {
		for _, host := range environment.Hosts {
			for _, when := range f.UnhealthyWhen {
				wanted := strings.ReplaceAll(when, hostPlaceholder, host.Name)
				for _, a := range c.alarms {
					if a.alarm.Rule.Host == host.Name && a.alarm.Rule.Name == wanted {
						n.against[host.Name] = append(n.against[host.Name], a)
					}
				}
			}
		}
	}
	return n, nil
}

func (c *core) host(name string) *hostState {
	for _, h := range c.hosts {
		if h.host.Name == name {
			return h
		}
	}
	return nil
}

// sample takes one sample of a host in; at is its scheduled time by our clock.
func (c *core) sample(now, at time.Time, host string, s *history.Sample) {
	if s.Cause == history.CauseProber {
		return // our own fault says nothing of the host, neither good nor bad
	}
	for _, a := range c.fed[fedBy{s.Probe, host}] {
		if a.alarm.Rule.Heartbeat && !s.OK {
			continue
		}
		if value, measured := valueOf(a.metric, s); measured {
			a.series.Add(now, at, value)
		}
	}
}

// reach records that a host is up or down as its stream shows it. Only a change is an event.
func (c *core) reach(now time.Time, name string, up bool, bootID, detail string) []history.Event {
	h := c.host(name)
	if h == nil {
		return nil
	}
	changed := !h.known || h.up != up || (up && h.bootID != bootID)
	h.known, h.up, h.detail = true, up, detail
	if up {
		h.bootID = bootID
	}
	if !changed {
		return nil
	}
	h.since = now
	return []history.Event{history.New(now, source, h.fact())}
}

func (h *hostState) fact() *history.Host {
	return &history.Host{Host: h.host.Name, Up: h.up, BootID: h.bootID, Detail: h.detail}
}

// next returns when tick is to be called; at the latest after the idle time, so that a hold time that ends is noticed.
func (c *core) next(now time.Time) time.Time {
	next := now.Add(idleMax)
	if c.due.Before(next) {
		next = c.due
	}
	if next.Before(c.pause) {
		return c.pause
	}
	return next
}

// overdue returns how late an evaluation at now would be.
func (c *core) overdue(now time.Time) time.Duration {
	return max(0, now.Sub(c.due))
}

// tick evaluates what is due and decides on the names.
func (c *core) tick(now time.Time) []history.Event {
	var events []history.Event
	if now.Before(c.pause) {
		return nil
	}
	c.due = now.Add(idleMax)
	for _, a := range c.alarms {
		if !now.Before(a.due) {
			events = append(events, a.evaluate(now, c.holdsAlarm(now, a.alarm.Rule.Name))...)
		}
		if a.due.Before(c.due) {
			c.due = a.due
		}
	}
	return c.followUp(now, events)
}

// followUp lets everything that hangs on alarms follow the events, and returns all of them.
func (c *core) followUp(now time.Time, events []history.Event) []history.Event {
	events = append(events, c.compose(now)...)
	c.act(now, events)
	return append(events, c.decide(now)...)
}

// evaluate brings one alarm of our own up to its datapoints; one that is held keeps its state.
func (a *alarmState) evaluate(now time.Time, held bool) []history.Event {
	var events []history.Event
	var change *alarm.Change
	next := a.alarm
	if a.alarm.Rule.Absent > 0 {
		next, change = alarm.StepAbsence(a.alarm, now, a.series)
		a.due = alarm.NextAbsence(a.alarm.Rule, a.series, now)
	} else {
		window := a.series.Window(now)
		events = a.datapoints(now, window)
		next, change = alarm.Step(a.alarm, now, window)
		a.due = a.alarm.Rule.Next(now)
	}
	if held {
		return events
	}
	if a.alarm = next; change == nil {
		return events
	}
	a.bad = failover.Signal(a.bad, string(change.To))
	return append(events, history.New(now, source, &history.Alarm{
		Name: change.Name, Host: change.Host, From: string(change.From), To: string(change.To),
		Reason: change.Reason, ReasonData: change.ReasonData,
	}))
}

// datapoints returns the datapoints of the window that were not told before.
func (a *alarmState) datapoints(now time.Time, window []alarm.Datapoint) []history.Event {
	if !a.publishes {
		return nil
	}
	var events []history.Event
	for _, p := range window {
		if !p.Start.After(a.told) || p.Missing() {
			continue
		}
		a.told = p.Start
		rule := a.alarm.Rule
		fact := &history.Datapoint{
			Metric: rule.Metric, Host: rule.Host, Start: p.Start, Period: drill.Seconds(rule.Period), Average: p.Value(alarm.Average),
			Minimum: p.Minimum, Maximum: p.Maximum, Samples: p.Samples, Unit: rule.Unit,
		}
		if !slices.Contains([]alarm.Statistic{alarm.Average, alarm.Minimum, alarm.Maximum, alarm.SampleCount}, rule.Statistic) {
			value := rule.Value(p)
			fact.Statistic, fact.Value = string(rule.Statistic), &value
		}
		events = append(events, history.New(now, source, fact))
	}
	return events
}

// decide brings every name's answer up to the alarms.
func (c *core) decide(now time.Time) []history.Event {
	var events []history.Event
	for _, n := range c.names {
		if c.holdsName(now, n.policy.Name) {
			continue
		}
		var changed bool
		if n.state, changed = failover.Decide(n.policy, n.state, n.unhealthy(), now); changed {
			events = append(events, history.New(now, source, n.fact()))
		}
	}
	return events
}

// unhealthy lists the hosts that an alarm speaks against.
func (n *nameState) unhealthy() failover.Unhealthy {
	unhealthy := failover.Unhealthy{}
	for host, alarms := range n.against {
		var reasons []string
		for _, a := range alarms {
			switch {
			case a.bad && a.alarm.State == alarm.Raised:
				reasons = append(reasons, a.alarm.Rule.Name+" is in ALARM")
			case a.bad:
				reasons = append(reasons, a.alarm.Rule.Name+" was in ALARM and has no data since")
			}
		}
		if len(reasons) > 0 {
			unhealthy[host] = strings.Join(reasons, ", ")
		}
	}
	return unhealthy
}

func (n *nameState) fact() *history.Answer {
	return &history.Answer{
		Name: n.policy.Name, Addresses: texts(n.state.Addresses), Environment: n.state.Active, Serial: n.state.Serial,
		Decided: true, Reason: n.state.Reason,
	}
}

func texts(addresses []netip.Addr) []string {
	all := make([]string, 0, len(addresses))
	for _, address := range addresses {
		all = append(all, address.String())
	}
	return all
}

// switchTo carries out an operator's order on a name. The error is a *drill.Error, or errUnknownName.
func (c *core) switchTo(now time.Time, name string, order failover.Order) (uint64, []history.Event, error) {
	for _, n := range c.names {
		if n.policy.Name != name {
			continue
		}
		state, err := failover.Switch(n.policy, n.state, n.unhealthy(), now, order)
		if err != nil {
			return 0, nil, err
		}
		changed := state.Serial != n.state.Serial
		n.state = state
		if !changed {
			return state.Serial, nil, nil
		}
		return state.Serial, []history.Event{history.New(now, source, n.fact())}, nil
	}
	return 0, nil, errUnknownName
}

// current returns the state of everything as events: what a new follower is told first.
func (c *core) current(now time.Time) []history.Event {
	var events []history.Event
	for _, h := range c.hosts {
		if h.known {
			events = append(events, history.New(now, source, h.fact()))
		}
	}
	for _, a := range c.alarms {
		reason := a.alarm.Reason
		if a.alarm.Rule.Disabled {
			reason = a.alarm.Detail
		}
		events = append(events, history.New(now, source, &history.Alarm{
			Name: a.alarm.Rule.Name, Host: a.alarm.Rule.Host, To: string(a.alarm.State), Reason: reason, Origin: a.origin(),
		}))
	}
	for _, composite := range c.composites {
		events = append(events, history.New(now, source, &history.Alarm{
			Name: composite.alarm.Name, To: string(composite.alarm.State), Reason: composite.alarm.Reason,
		}))
	}
	for _, n := range c.names {
		events = append(events, history.New(now, source, n.fact()))
	}
	return events
}
