package control

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/permits"
)

// lasting is a control plane with two hosts of each of five services; web0 to web4 are of different ones. An attack lasts for as long as its one argument says.
func lasting(t *testing.T, change func(*Options)) *Control {
	t.Helper()
	c := openWith(t, filepath.Join(t.TempDir(), "fleet"), func(o *Options) {
		o.TakesDown = func(kind string) bool { return kind == "shutdown" }
		o.Attackable = func(_ string, args []string) (time.Duration, error) { return time.ParseDuration(args[0]) }
		change(o)
	})
	t.Cleanup(func() { shut(t, c) })
	for i := range 10 {
		host := fleet.Member{Key: fmt.Sprintf("U%s%d", strings.Repeat("A", 54), i), Name: fmt.Sprintf("web%d", i), Role: fleet.RoleAgent, Tags: map[string]string{"service": fmt.Sprintf("s%d", i%5)}}
		if err := c.members.add(t.Context(), host); err != nil {
			t.Fatal(err)
		}
		c.saw(host, fleet.Presence{At: time.Now(), Facts: &fleet.Facts{Kinds: []string{"cpu", "shutdown"}}})
		c.mu.Lock()
		c.hosts[host.Key].heard = time.Now().Add(time.Hour) // it answers each roll
		c.hosts[host.Key].presence.OrderSerial = c.keys.now().OrderSerial
		c.mu.Unlock()
	}
	return c
}

// Hosts are given the length of an attack and some room: an hour for one of a minute would keep the permit of a host that is lost for nothing, and one of two hours
// would be refused.
func TestTheDeadlineOfAnAttackFollowsItsLength(t *testing.T) {
	t.Parallel()
	for _, lengthless := range []bool{false, true} {
		c := lasting(t, func(o *Options) { o.Lengthless = lengthless })
		for _, test := range []struct {
			kind, length string
			most         time.Duration
			want, bug    time.Duration
		}{
			{kind: "cpu", length: "1s", want: time.Second + lengthRoom, bug: time.Hour},
			{kind: "cpu", length: "2h", want: 2*time.Hour + lengthRoom, bug: time.Hour},
			{kind: "cpu", length: "24h", want: 24 * time.Hour, bug: time.Hour}, // no order may last for longer
			{kind: "cpu", length: "0", want: time.Hour, bug: time.Hour},        // nobody knows
			{kind: "shutdown", length: "1m", want: time.Hour, bug: time.Hour},
			{kind: "cpu", length: "1m", most: 2 * time.Minute, want: 2 * time.Minute, bug: 2 * time.Minute},
			{kind: "cpu", length: "2h", most: 3 * time.Hour, want: 3 * time.Hour, bug: 3 * time.Hour},
		} {
			request := fleet.AttackRequest{Kind: test.kind, Args: []string{test.length}, Most: drill.Seconds(test.most), Selector: fleet.Selector{Names: []string{"web1"}}, DryRun: true}
			run, err := c.Attack(context.Background(), fleet.Member{Name: "otto", Role: fleet.RoleOperator}, request)
			want := test.want
			if lengthless {
				want = test.bug
			}
			if got := run.Deadline.Sub(run.Start); err != nil || got != want {
				t.Errorf("lengthless %v, %+v: %s, want %s (%v)", lengthless, test, got, want, err)
			}
		}
	}
}

// The permit of a host that is lost is free when the deadline and the margin are over. A service on which something may still be in force is kept for an hour at least,
// or for as long as who asked has said.
func TestAShortDeadlineLeavesTheTimeToLook(t *testing.T) {
	t.Parallel()
	lost, reverted, not := fleet.RunHost{State: fleet.HostAccepted}, fleet.RunHost{State: fleet.HostEnded, Reverted: true}, fleet.RunHost{State: fleet.HostEnded}
	for _, hurried := range []bool{false, true} {
		c := lasting(t, func(o *Options) { o.Hurried = hurried })
		for i, test := range []struct {
			host      fleet.RunHost
			most      time.Duration
			kept, bug time.Duration // from the start
		}{
			{host: lost},
			{host: reverted},
			{host: not, kept: time.Hour, bug: time.Minute + lengthRoom},
			{host: not, most: 10 * time.Minute, kept: 10 * time.Minute, bug: 10 * time.Minute},
			{host: not, most: 2 * time.Hour, kept: 2 * time.Hour, bug: 2 * time.Hour},
		} {
			request := fleet.AttackRequest{Kind: "cpu", Args: []string{"1m"}, Most: drill.Seconds(test.most), Selector: fleet.Selector{Names: []string{fmt.Sprintf("web%d", i)}}}
			run, err := c.plan(t.Context(), fleet.Member{Name: "otto", Role: fleet.RoleOperator}, request, fmt.Sprint("01a", i), c.most(request, time.Minute))
			if err != nil {
				t.Fatal(err)
			}
			run = c.change(run.ID, func(r *fleet.Run) {
				r.State = fleet.RunRunning
				r.Hosts[0].State, r.Hosts[0].Reverted = test.host.State, test.host.Reverted
			})
			over := run.Deadline.Add(c.options.Margin + time.Second)
			c.follow(t.Context(), over)
			after, _ := c.runs.get(run.ID)
			if !after.Done() {
				t.Fatalf("%+v", after)
			}
			kept := test.kept
			if hurried {
				kept = test.bug
			}
			taken := func(at time.Time) bool {
				return c.permits.Take(t.Context(), run.Services, permits.Permit{Run: "another", By: "olga", Until: at.Add(time.Minute)}, at) == nil
			}
			end := run.Start.Add(kept + c.options.Margin)
			if kept > 0 && (taken(end.Add(-time.Second)) || !c.unaccounted(after, end.Add(-time.Second))) {
				t.Errorf("hurried %v, %+v: the service may be attacked %s after the start", hurried, test, kept)
			}
			if later := over.After(end); later && !taken(over) || !later && !taken(end) {
				t.Errorf("hurried %v, %+v: the service may not be attacked later than %s after the start", hurried, test, kept)
			}
			if hurried && test.most == 0 && c.unaccounted(after, over) {
				t.Errorf("%+v: whoever leads next keeps the service", test)
			}
		}
	}
}
