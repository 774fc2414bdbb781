package control

import (
	"slices"
	"strings"

	"firedrill/internal/fleet"
)

// Servers are those that lead the fleet together, by name; one that is alone names itself.
func (c *Control) Servers() []fleet.Server {
	if c.servers == nil {
		return []fleet.Server{{Name: c.options.Name, Address: c.ownAddress(), Boot: c.boot, Leads: true}}
	}
	all := c.servers.values()
	leader := c.lead.leader()
	for i := range all {
		all[i].Leads = all[i].Boot == leader.Server
	}
	slices.SortFunc(all, func(a, b fleet.Server) int { return strings.Compare(a.Name, b.Name) })
	return all
}
