package watch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"firedrill/internal/alarm"
	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// muteMax bounds how long one order may keep actions quiet: a mute that is forgotten must not last for ever.
const muteMax = 24 * time.Hour

// Notice is one move of an alarm that an action is to tell.
type Notice struct {
	Action     string
	Alarm      string
	Host       string
	From, To   string
	Reason     string
	At         time.Time
	Suppressed string // why it comes late; empty when it was told at once
}

// compositeState is one alarm on alarms.
type compositeState struct{ alarm alarm.Composite }

// actionState is what one action has told of each alarm, and what it holds back.
type actionState struct {
	action  drill.Action
	rule    alarm.Suppression
	alarms  map[string]bool // names that it is for; nil for all
	pending map[string]alarm.Pending
	told    map[string]alarm.State
	quiet   map[string]bool // by alarm: the suppressor was raised, or a mute in force, when last looked
}

// mute keeps the actions of some alarms quiet for a while. The alarms themselves go on.
type mute struct {
	Alarms []string // nil for all
	Until  time.Time
	Reason string
}

func newActions(service drill.Service) []*actionState {
	var actions []*actionState
	expanded := drill.ExpandAlarms(service)
	for _, action := range service.Actions {
		a := &actionState{action: action, pending: map[string]alarm.Pending{}, told: map[string]alarm.State{}, quiet: map[string]bool{},
			rule: alarm.Suppression{Wait: action.Wait.Duration(), Extension: action.Extension.Duration()}}
		if !slices.Contains(action.Alarms, "*") {
			a.alarms = map[string]bool{}
			for _, name := range namesOf(action.Alarms, expanded) {
				a.alarms[name] = true
			}
		}
		actions = append(actions, a)
	}
	return actions
}

// namesOf returns the names of alarms that are meant, with the hosts filled in.
func namesOf(wanted []string, expanded []drill.Alarm) []string {
	all := []string{}
	for _, name := range wanted {
		all = append(all, name)
		for _, one := range expanded {
			if strings.ReplaceAll(name, hostPlaceholder, one.Host) == one.Name {
				all = append(all, one.Name)
			}
		}
	}
	return all
}

// quietTime is a mute of the service file, which comes by itself.
type quietTime struct {
	name, reason string
	alarms       []string // nil for all
	times        drill.MuteTimes
}

func newQuietTimes(service drill.Service) ([]quietTime, error) {
	var all []quietTime
	for _, one := range service.Mutes {
		times, err := one.Times()
		if err != nil {
			return nil, fmt.Errorf("mute %s: %w", one.Name, err)
		}
		quiet := quietTime{name: one.Name, reason: one.Reason, times: times}
		if !slices.Contains(one.Alarms, "*") {
			quiet.alarms = namesOf(one.Alarms, drill.ExpandAlarms(service))
		}
		all = append(all, quiet)
	}
	return all, nil
}

// inForce returns what keeps actions quiet now: orders, and what the service file says of this time.
func (c *core) inForce(now time.Time) []mute {
	all := slices.Clone(c.mutes)
	for _, quiet := range c.quietTimes {
		if until, is := quiet.times.Until(now); is {
			reason := quiet.name
			if quiet.reason != "" {
				reason += ": " + quiet.reason
			}
			all = append(all, mute{Alarms: quiet.alarms, Until: until, Reason: reason})
		}
	}
	return all
}

func newComposites(service drill.Service, now time.Time) ([]*compositeState, error) {
	var known []string
	for _, one := range drill.ExpandAlarms(service) {
		known = append(known, one.Name)
	}
	var all []alarm.Composite
	for _, composite := range service.Composites {
		expression, err := alarm.ParseExpression(composite.Rule)
		if err != nil {
			return nil, fmt.Errorf("composite %s: rule: %w", composite.Name, err)
		}
		all = append(all, alarm.NewComposite(composite.Name, expression, now))
	}
	ordered, err := alarm.Order(all, known)
	if err != nil {
		return nil, err
	}
	var states []*compositeState
	for _, composite := range ordered {
		states = append(states, &compositeState{alarm: composite})
	}
	return states, nil
}

// states returns the state of every alarm by name.
func (c *core) states() map[string]alarm.State {
	states := make(map[string]alarm.State, len(c.alarms)+len(c.composites))
	for _, a := range c.alarms {
		states[a.alarm.Rule.Name] = a.alarm.State
	}
	for _, composite := range c.composites {
		states[composite.alarm.Name] = composite.alarm.State
	}
	return states
}

// compose brings the composites up to their children. It is called when one of them may have changed.
func (c *core) compose(now time.Time) []history.Event {
	if len(c.composites) == 0 {
		return nil
	}
	var events []history.Event
	states := c.states()
	for _, composite := range c.composites {
		var change *alarm.Change
		if composite.alarm, change = alarm.StepComposite(composite.alarm, now, states); change == nil {
			continue
		}
		states[change.Name] = change.To
		events = append(events, history.New(now, source, &history.Alarm{
			Name: change.Name, From: string(change.From), To: string(change.To), Reason: change.Reason, ReasonData: change.ReasonData,
		}))
	}
	return events
}

// act lets the actions follow the alarms that have moved, and what time has brought. Notices are handed out by takeNotices.
func (c *core) act(now time.Time, events []history.Event) {
	if len(c.actions) == 0 {
		return
	}
	c.mutes = slices.DeleteFunc(c.mutes, func(m mute) bool { return !now.Before(m.Until) })
	mutes := c.inForce(now)
	states := c.states()
	moved := map[string]bool{}
	for _, event := range events {
		if change, ok := event.Fact.(*history.Alarm); ok {
			moved[change.Name] = true
		}
	}
	names := slices.Sorted(maps.Keys(states))
	for _, a := range c.actions {
		suppressor := a.action.SuppressedBy
		for _, name := range names {
			if !a.wants(name) {
				continue
			}
			rule, quiet := a.rule, mutedBy(mutes, name)
			if suppressor == name {
				rule = alarm.Suppression{} // an alarm does not keep itself quiet
			} else if suppressor != "" {
				quiet = quiet || states[suppressor] == alarm.Raised
			}
			pending := a.pending[name]
			var due *alarm.Due
			if quiet != a.quiet[name] {
				a.quiet[name] = quiet
				pending, due = rule.Suppressor(pending, quiet, now)
			}
			if moved[name] {
				pending, due = rule.Moved(pending, states[name], quiet, now)
			}
			if due == nil {
				pending, due = rule.Passed(pending, now)
			}
			held := a.pending[name].By
			a.pending[name] = pending
			c.settle(now, a, name, held, due)
		}
	}
}

func (a *actionState) wants(name string) bool { return a.alarms == nil || a.alarms[name] }

// settle hands out what is due: only a state that the action tells, and only when it is news. held is why it comes late.
func (c *core) settle(now time.Time, a *actionState, name, held string, due *alarm.Due) {
	if due == nil || a.told[name] == due.State {
		return
	}
	before := a.told[name]
	if before == "" {
		before = alarm.Insufficient
	}
	news := slices.Contains(a.action.States, string(due.State))
	// That an alarm is fine is news only to those who were told that it was not.
	if due.State == alarm.OK && a.told[name] == "" {
		news = false
	}
	a.told[name] = due.State
	if !news {
		return
	}
	host, reason := c.about(name)
	c.notices = append(c.notices, Notice{Action: a.action.Name, Alarm: name, Host: host, From: string(before), To: string(due.State),
		Reason: reason, At: now, Suppressed: held})
}

func (c *core) about(name string) (host, reason string) {
	for _, a := range c.alarms {
		if a.alarm.Rule.Name == name {
			return a.alarm.Rule.Host, a.alarm.Reason
		}
	}
	for _, composite := range c.composites {
		if composite.alarm.Name == name {
			return "", composite.alarm.Reason
		}
	}
	return "", ""
}

func mutedBy(mutes []mute, name string) bool {
	return slices.ContainsFunc(mutes, func(m mute) bool { return m.Alarms == nil || slices.Contains(m.Alarms, name) })
}

// takeNotices returns what is to be told, once.
func (c *core) takeNotices() []Notice {
	notices := c.notices
	c.notices = nil
	return notices
}

// quieten carries out an order to mute. Alarms that do not exist are refused: a typing error would let the pager ring.
func (c *core) quieten(now time.Time, order mute) error {
	states := c.states()
	for _, name := range order.Alarms {
		if _, known := states[name]; !known {
			return &drill.Error{Op: "mute", Kind: drill.Invalid, Err: fmt.Errorf("there is no alarm %q", name), Hint: "see: GET /v1/state"}
		}
	}
	if length := order.Until.Sub(now); length <= 0 || length > muteMax {
		return &drill.Error{Op: "mute", Kind: drill.Refused, Err: fmt.Errorf("%s is not a time to be quiet", length), Hint: fmt.Sprintf("Choose 1 second to %s.", muteMax)}
	}
	c.mutes = append(c.mutes, order)
	return nil
}
