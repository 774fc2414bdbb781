package verdict

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// errorBudget holds what the drill cost clients against what one drill may cost of the error budget. Each failed sample stands for its
// interval; of several clients the one that fared worst decides.
func (d *drillCase) errorBudget(level drill.ServiceLevel) Check {
	const name = "error budget"
	began, known := d.t0()
	if !known {
		return inconclusive(GroupObjective, name, "The attack never was in force, so it cost nothing that can be told.")
	}
	clients := d.rec.clients()
	if len(clients) == 0 {
		return inconclusive(GroupObjective, name, "No client sampled, so nobody knows what the drill cost.")
	}
	var worst time.Duration
	var seqs []int64
	var all []string
	void := ""
	for _, client := range clients {
		measured, _ := d.rec.measure(client, began.Add(-d.rec.every(client)), d.span.to)
		if measured.Void != "" || measured.Good+measured.Bad == 0 {
			void = client + because(measured.Void)
			continue
		}
		spent := time.Duration(measured.Bad) * d.rec.every(client)
		all = append(all, fmt.Sprintf("%s %s", client, secs(spent)))
		if spent < worst {
			continue
		}
		worst, seqs = spent, nil
		for _, sample := range d.rec.samplesIn(client, began, d.span.to) {
			if !sample.ok && !sample.hole {
				seqs = append(seqs, sample.seq)
			}
		}
	}
	allowed := level.DrillBudget()
	slices.Sort(all)
	why := fmt.Sprintf("Unserved: %s; that is %.2g %% of the budget of %s over %s.", strings.Join(all, ", "), 100*worst.Seconds()/level.Budget().Seconds(), level.Budget().Round(time.Second), level.Window)
	outcome := history.Passed
	switch {
	case worst > allowed:
		outcome = history.Failed
	case void != "":
		outcome, why = history.Inconclusive, "What the drill cost was not measured: "+void
	}
	result := check(outcome, GroupObjective, name, why, seqs)
	result.Measured, result.Allowed = quantity(worst), quantity(allowed)
	return result
}
