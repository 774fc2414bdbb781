package watch

import (
	"context"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/database"
)

// Snapshot is the answer of GET /v1/state.
type Snapshot struct {
	Service    string          `json:"service"`
	At         time.Time       `json:"at"`
	Started    time.Time       `json:"started"`
	Names      []NameStatus    `json:"names"`
	Hosts      []HostStatus    `json:"hosts"`
	Alarms     []AlarmStatus   `json:"alarms"`
	Mutes      []MuteStatus    `json:"mutes,omitempty"`
	Databases  []database.Kept `json:"databases,omitempty"`
	StateError string          `json:"state_error,omitempty"` // why a restart would not remember the answers
}

// NameStatus is one failover name with its decided answer.
type NameStatus struct {
	Name         string              `json:"name"`
	Active       string              `json:"active"`
	Preferred    string              `json:"preferred"`
	Addresses    []string            `json:"addresses"`
	Serial       uint64              `json:"serial"`
	Moved        time.Time           `json:"moved,omitzero"`
	Reason       string              `json:"reason,omitempty"`
	Frozen       bool                `json:"frozen,omitempty"`
	Environments []EnvironmentStatus `json:"environments"` // primary first
}

// EnvironmentStatus is the health of an environment as one name sees it.
type EnvironmentStatus struct {
	Name      string            `json:"name"`
	Healthy   bool              `json:"healthy"`             // at least one host is not known to be unhealthy
	Unhealthy map[string]string `json:"unhealthy,omitempty"` // host to reason
}

// HostStatus is the life of a host as its stream shows it.
type HostStatus struct {
	Name        string    `json:"name"`
	Environment string    `json:"environment"`
	Address     string    `json:"address"`
	Up          bool      `json:"up"`
	BootID      string    `json:"boot_id,omitempty"`
	Since       time.Time `json:"since"`
	Detail      string    `json:"detail,omitempty"`
}

// AlarmStatus is one alarm.
type AlarmStatus struct {
	Name        string    `json:"name"`
	Host        string    `json:"host,omitempty"` // empty for a composite
	Environment string    `json:"environment,omitempty"`
	Metric      string    `json:"metric,omitempty"`
	State       string    `json:"state"`
	Since       time.Time `json:"since"`
	Reason      string    `json:"reason,omitempty"` // of the last transition
	Detail      string    `json:"detail,omitempty"` // why the state is kept, when the last evaluation could not decide
	Disabled    bool      `json:"disabled,omitempty"`
}

// MuteStatus is an order that keeps the actions of alarms quiet.
type MuteStatus struct {
	Alarms []string  `json:"alarms,omitempty"` // empty: all
	Until  time.Time `json:"until"`
	Reason string    `json:"reason,omitempty"`
}

// State returns the snapshot of this moment.
func (w *Watch) State(ctx context.Context) (Snapshot, error) {
	var snapshot Snapshot
	err := w.ask(ctx, func(now time.Time) { snapshot = w.core.snapshot(now) })
	snapshot.Started = w.started
	for _, keeper := range w.options.Databases {
		snapshot.Databases = append(snapshot.Databases, keeper.Kept())
	}
	if failed := w.saver.lastError(); failed != nil {
		snapshot.StateError = failed.Error()
	}
	return snapshot, err
}

func (c *core) snapshot(now time.Time) Snapshot {
	s := Snapshot{Service: c.service, At: now, Names: []NameStatus{}, Hosts: []HostStatus{}, Alarms: []AlarmStatus{}}
	for _, n := range c.names {
		s.Names = append(s.Names, n.status())
	}
	for _, h := range c.hosts {
		s.Hosts = append(s.Hosts, HostStatus{
			Name: h.host.Name, Environment: h.environment, Address: h.host.Address.String(), Up: h.up, BootID: h.bootID,
			Since: h.since, Detail: h.detail,
		})
	}
	for _, a := range c.alarms {
		rule := a.alarm.Rule
		s.Alarms = append(s.Alarms, AlarmStatus{
			Name: rule.Name, Host: rule.Host, Environment: rule.Environment, Metric: rule.Metric, State: string(a.alarm.State),
			Since: a.alarm.Since, Reason: a.alarm.Reason, Detail: a.alarm.Detail, Disabled: rule.Disabled,
		})
	}
	for _, composite := range c.composites {
		s.Alarms = append(s.Alarms, AlarmStatus{
			Name: composite.alarm.Name, State: string(composite.alarm.State), Since: composite.alarm.Since, Reason: composite.alarm.Reason,
		})
	}
	for _, m := range c.inForce(now) {
		if m.Until.IsZero() || now.Before(m.Until) {
			s.Mutes = append(s.Mutes, MuteStatus{Alarms: m.Alarms, Until: m.Until, Reason: m.Reason})
		}
	}
	return s
}

func (n *nameState) status() NameStatus {
	status := NameStatus{
		Name: n.policy.Name, Active: n.state.Active, Preferred: n.state.Preferred, Addresses: texts(n.state.Addresses),
		Serial: n.state.Serial, Moved: n.state.Moved, Reason: n.state.Reason, Frozen: n.policy.Frozen,
	}
	unhealthy := n.unhealthy()
	for _, e := range []drill.Environment{n.policy.Primary, n.policy.Secondary} {
		one := EnvironmentStatus{Name: e.Name, Healthy: failover.Healthy(e, unhealthy)}
		for _, host := range e.Hosts {
			if reason := unhealthy[host.Name]; reason != "" {
				if one.Unhealthy == nil {
					one.Unhealthy = map[string]string{}
				}
				one.Unhealthy[host.Name] = reason
			}
		}
		status.Environments = append(status.Environments, one)
	}
	return status
}
