package control

import (
	"path/filepath"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/permits"
)

// A service on which something may still be in force is not attacked again before somebody has had the time to look, also not after another
// server has taken over.
func TestAHostThatIsNotRevertedKeepsThePermitOfItsService(t *testing.T) {
	t.Parallel()
	for _, reverted := range []bool{true, false} {
		c := open(t, filepath.Join(t.TempDir(), "fleet"), nil)
		now := time.Now()
		run := fleet.Run{ID: "01a2", State: fleet.RunRunning, Kind: "cpu", Services: []string{"shop"}, Groups: []string{"payments"}, Start: now, Deadline: now.Add(time.Hour),
			Hosts: []fleet.RunHost{{Key: "KEY", Name: "web1", Order: "order", State: fleet.HostEnded, Reverted: reverted}}}
		held := permits.Permit{Run: run.ID, By: "otto", Until: run.Deadline.Add(c.options.Margin)}
		if err := c.permits.Take(t.Context(), permits.Names(run.Services, run.Groups), held, now); err != nil {
			t.Fatal(err)
		}
		if err := c.runs.put(t.Context(), run); err != nil {
			t.Fatal(err)
		}
		c.follow(t.Context(), now)
		if after, _ := c.runs.get(run.ID); !after.Done() {
			t.Errorf("%+v", after)
		} else if c.unaccounted(after, now) == reverted || c.unaccounted(after, run.Deadline.Add(2*c.options.Margin)) {
			t.Errorf("reverted %v: unaccounted for: %v", reverted, c.unaccounted(after, now))
		}
		for _, name := range permits.Names(run.Services, run.Groups) {
			err := c.permits.Take(t.Context(), []string{name}, permits.Permit{Run: "another", By: "otto", Until: held.Until}, now)
			if (err == nil) != reverted || err != nil && drill.KindOf(err) != drill.Refused {
				t.Errorf("reverted %v: %s for another run: %v", reverted, name, err)
			}
		}
		shut(t, c)
	}
}
