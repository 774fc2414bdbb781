package guard

import (
	"fmt"

	"firedrill/internal/drill"
)

// admitDatabase says why the primary of a database must not be attacked, or "": it must be the one that takes writes, alone, and a standby
// must follow it.
func (w *World) admitDatabase(planned *drill.PlannedDrill) (reason, cure string) {
	const look = "firedrill database status"
	followed := false
	for at, fact := range w.servers {
		if at.database != planned.Database {
			continue
		}
		attacked := at.host == planned.Hosts[0].Name
		switch {
		case attacked && !fact.Accepted:
			return fmt.Sprintf("%s does not take the writes of %s: %s", at.host, planned.Database, fact.Role), "make a new plan: run the command again"
		case !attacked && fact.Accepted:
			return fmt.Sprintf("%s takes writes of %s too: two primaries", at.host, planned.Database), look
		}
		followed = followed || !attacked && fact.Follows
	}
	if _, seen := w.servers[server{planned.Database, planned.Hosts[0].Name}]; !seen {
		return "nobody has tried to write to " + planned.Database + " yet", look
	}
	if !followed {
		return "no standby of " + planned.Database + " follows, so nothing could take over", "rebuild one: firedrill database rebuild HOST"
	}
	return "", ""
}
