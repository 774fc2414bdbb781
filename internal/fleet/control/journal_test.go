package control

import (
	"testing"

	"firedrill/internal/fleet"
)

// The end of an order is learned when its host says it, once, however often that is said.
func TestTheEndOfAnOrderIsLearnedOnce(t *testing.T) {
	t.Parallel()
	c := tookDown(t, func(*Options) {})
	run, _ := c.runs.get(downRun)
	host := run.Hosts[0]
	for range 3 {
		kept, err := c.keep(t.Context(), fleet.Member{Key: host.Key, Name: host.Name, Role: fleet.RoleAgent}, fleet.Journal{Order: host.Order, Lines: []string{"{}"}, End: &fleet.End{Why: "it is back", Reverted: true}})
		if err != nil || !kept.End {
			t.Fatal(kept, err)
		}
	}
	if run, _ := c.runs.get(downRun); run.Hosts[0].State != fleet.HostEnded || run.Hosts[0].Reason != "it is back" {
		t.Errorf("%+v", run.Hosts[0])
	}
	if n := audited(t, c, "order o1 has ended"); n != 1 {
		t.Errorf("it is said %d times", n)
	}
}
