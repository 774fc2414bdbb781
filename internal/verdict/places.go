package verdict

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"firedrill/internal/history"
)

// places returns every name on every name server that must be looked at: those of the plan, or where the plan names no servers those
// that were asked.
func (rec *record) places() []answerPlace {
	var all []answerPlace
	for _, failover := range rec.plan.Failover {
		for _, server := range failover.Places() {
			all = append(all, answerPlace{failover.Name, withPort(server)})
		}
		if len(failover.Places()) > 0 {
			continue
		}
		before := len(all)
		for place := range rec.answers {
			if place.name == failover.Name {
				all = append(all, place)
			}
		}
		if len(all) == before {
			// Keep the name: that nobody asked for it must be noticed.
			all = append(all, answerPlace{failover.Name, "any name server"})
		}
	}
	slices.SortFunc(all, func(a, b answerPlace) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.server, b.server))
	})
	return all
}

// served says that the place is no name server: it was asked by a request, and showed who serves.
func (p answerPlace) served() bool { return strings.Contains(p.server, "://") }

// clients returns the clients that must be heard: those of the plan, and any other that sampled.
func (rec *record) clients() []string {
	var names []string
	for _, client := range rec.plan.Clients {
		names = append(names, client.Name)
	}
	for name := range rec.samples {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// clientsOf are those of one kind, ClientsNew or ClientsKept; "" is every kind.
func (rec *record) clientsOf(kind string) []string {
	return slices.DeleteFunc(rec.clients(), func(client string) bool { return kind != "" && rec.connections(client) != kind })
}

// connections is the kind of a client; "" of one that the plan does not know.
func (rec *record) connections(client string) string {
	for _, known := range rec.plan.Clients {
		if known.Name == client {
			return known.Connections()
		}
	}
	return ""
}

// defaultEvery is the interval of a client that the plan does not state; drill.Client documents it.
const defaultEvery = 100 * time.Millisecond

// every returns the interval at which a client samples.
func (rec *record) every(client string) time.Duration {
	for _, known := range rec.plan.Clients {
		if known.Name == client && known.Every > 0 {
			return known.Every.Duration()
		}
	}
	return defaultEvery
}

// watchHost stands for the watch itself in a history.Host: whether it is heard at all.
const watchHost = "watch"

// watchLost says that the watch was not heard at some moment from from to to: then silence of an alarm means nothing.
func (rec *record) watchLost(from, to time.Time) bool {
	if last, ok := lastBefore(rec.hosts[watchHost], from); ok && !last.fact.Up {
		return true
	}
	return slices.ContainsFunc(within(rec.hosts[watchHost], from, to), func(h seen[*history.Host]) bool { return !h.fact.Up })
}

// CheckRollbackReady and CheckNothingInForce are the names of the checks by a conductor that a verdict looks for.
const (
	CheckRollbackReady  = "rollback ready"
	CheckNothingInForce = "nothing in force"
)

// conductorChecks returns the last word of each check that the conductor wrote for this step, before or after the attack began. The
// last word counts, because a check may be repeated until it holds.
func (d *drillCase) conductorChecks(before bool) []Check {
	began, known := d.t0()
	var names []string
	last := map[string]seen[*history.Check]{}
	for _, entry := range d.rec.checks {
		if entry.fact.Step != d.step || entry.fact.Name == CheckRollbackReady {
			continue
		}
		if isBefore := !known || entry.at.Before(began); isBefore != before {
			continue
		}
		if _, ok := last[entry.fact.Name]; !ok {
			names = append(names, entry.fact.Name)
		}
		last[entry.fact.Name] = entry
	}
	var checks []Check
	for _, name := range names {
		entry := last[name]
		why := sentence(entry.fact.Detail)
		if entry.fact.OK {
			checks = append(checks, passed(GroupReadiness, name, orText(why, "It holds."), entry.seq))
			continue
		}
		if name == history.PhaseSteadyAfter && d.unseenAfter(entry.at) {
			checks = append(checks, inconclusive(GroupReadiness, name, orText(why, "It does not hold."), entry.seq))
			continue
		}
		bad := failed(GroupReadiness, name, orText(why, "It does not hold."), entry.seq)
		bad.NotReverted = name == CheckNothingInForce
		checks = append(checks, bad)
	}
	return checks
}

func orText(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
