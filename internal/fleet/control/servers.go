package control

import (
	"slices"
	"strings"
	"time"

	"firedrill/internal/fleet"
)

// Problem is why this server keeps nothing just now, as an error with its cure; nil: it keeps what it is given.
func (c *Control) Problem() error {
	if err := c.leftBehind(time.Now()); err != nil {
		return err
	}
	return c.keeping.problem()
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// Servers are those that lead the fleet together, by name; one that is alone names itself.
func (c *Control) Servers() []fleet.Server {
	if c.servers == nil {
		return []fleet.Server{{Name: c.options.Name, Address: c.ownAddress(), Boot: c.boot, Since: c.since, Leads: true, Problem: text(c.Problem())}}
	}
	all := c.servers.values()
	leader := c.lead.leader()
	for i := range all {
		all[i].Leads = all[i].Boot == leader.Server
		if all[i].Boot == c.boot {
			all[i].Problem = text(c.Problem())
		}
	}
	slices.SortFunc(all, func(a, b fleet.Server) int { return strings.Compare(a.Name, b.Name) })
	return all
}
