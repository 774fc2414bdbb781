package control

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

// An attack that no host would take as it is written is refused when it is asked for or put on the schedule, not when it is due.
func TestAnAttackThatIsWrittenWrongIsRefusedAtOnce(t *testing.T) {
	t.Parallel()
	for _, blind := range []bool{false, true} {
		c := tookDown(t, func(o *Options) {
			o.Blind = blind
			o.Attackable = func(kind string, args []string) (time.Duration, error) {
				if kind == "cpu" && len(args) > 0 {
					return 0, &drill.Error{Op: "attack", Kind: drill.Invalid, Err: errors.New("no such flag"), Hint: "see: firedrill help attack cpu"}
				}
				return time.Minute, nil
			}
		})
		otto := fleet.Member{Name: "otto", Role: fleet.RoleOperator}
		for _, args := range [][]string{nil, {"--fast"}} {
			request := fleet.AttackRequest{Kind: "cpu", Args: args, Selector: fleet.Selector{Names: []string{"nobody"}}, DryRun: true}
			_, asked := c.Call(context.Background(), otto, "attack", encode(request))
			_, put := c.Call(context.Background(), otto, "schedule", encode(fleet.ScheduleRequest{Name: "weekly", Cron: "0 10 * * TUE", Request: request}))
			for what, err := range map[string]error{"asked": asked, "put": put} {
				if refused := err != nil && strings.Contains(err.Error(), "no such flag"); refused != (args != nil && !blind) {
					t.Errorf("blind %v, %s with %q: %v", blind, what, args, err)
				}
			}
		}
	}
}
