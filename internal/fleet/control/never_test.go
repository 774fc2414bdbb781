package control

import (
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

// A moment of cron that never lies within the window is a mistake, of which nobody would hear: the entry would wait for ever. A freeze of the whole server is none.
func TestAnEntryThatWouldNeverBeginIsRefused(t *testing.T) {
	t.Parallel()
	c, _ := stageOf(t, false)
	defer func() { shut(t, c) }()
	otto := fleet.Member{Name: "otto", Role: fleet.RoleOperator}
	put := func(cron, window string, freeze ...string) error {
		_, err := c.Call(t.Context(), otto, "schedule", encode(fleet.ScheduleRequest{Name: "weekly", Cron: cron, Window: window, Freeze: freeze, Drill: &fleet.DrillRequest{Service: "shop", Drill: "cut"}}))
		return err
	}
	if err := put("30 2 * * * Europe/Berlin", "Mon-Fri 09:00-15:00 Europe/Berlin"); drill.KindOf(err) != drill.Invalid || !strings.Contains(err.Error(), "never begin") || !strings.Contains(err.Error(), "outside of the window") {
		t.Errorf("at night, in a window by day: %v", err)
	}
	if _, err := c.freeze(t.Context(), otto, fleet.Freeze{Dates: time.Now().AddDate(0, 0, -1).Format(time.DateOnly) + ".." + time.Now().AddDate(0, 0, 30).Format(time.DateOnly)}); err != nil {
		t.Fatal(err)
	}
	for _, good := range [][]string{{"30 2 * * * Europe/Berlin", "Mon-Fri 09:00-15:00 Asia/Tokyo"}, {"0 10 * * TUE Europe/Berlin", "Mon-Fri 09:00-15:00 Europe/Berlin"}, {"0 12 1 1 *", ""}} {
		if err := put(good[0], good[1]); err != nil {
			t.Errorf("%v: %v", good, err)
		}
	}
}
