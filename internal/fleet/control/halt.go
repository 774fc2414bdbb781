package control

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

const (
	leverKey  = "lever"
	haltMax   = 20 * time.Second // a host asks, then SIGTERM, then SIGKILL: nine seconds at most
	leverMax  = 5 * time.Second  // a halt does not wait longer for its lever to be kept
	haltAgain = time.Second      // said again when nobody has answered for half of it
	haltLate  = 4 * time.Second  // said again also while others answer
)

// Halt engages the lever, ends everything on every host, and says what became of it. The lever comes first: what is ended must not begin again.
// When the lever cannot be kept on the disk the halt is said all the same.
func (c *Control) Halt(ctx context.Context, by fleet.Member, request fleet.HaltRequest) (fleet.HaltReport, error) {
	lever, kept := c.engage(ctx, by, request.Reason)
	halt := fleet.Halt{ID: uuid.NewString(), Epoch: lever.Epoch, By: by.Name, Reason: request.Reason}
	views := c.views(time.Now())
	words, done := c.await(len(views)+1, halt.ID)
	defer done()
	c.say(fleet.SubjectHalt, halt)
	said, answered := time.Now(), time.Now()
	c.endDrills("halt by " + by.Name)
	c.record("%s halts everything: %s", by.Name, request.Reason)
	report := fleet.HaltReport{Lever: lever, Halted: []string{}, Left: map[string]string{}, Absent: []string{}}
	waiting := map[string]string{}
	for _, view := range views {
		if view.Online {
			waiting[view.Key] = view.Name
		} else {
			report.Absent = append(report.Absent, view.Name)
		}
	}
	again, late := time.NewTicker(haltAgain), time.NewTimer(haltMax)
	defer again.Stop()
	defer late.Stop()
collecting:
	for len(waiting) > 0 {
		select {
		case s := <-words:
			name, waited := waiting[s.host]
			if !waited {
				continue
			}
			delete(waiting, s.host)
			answered = time.Now()
			report.Ended += s.halted.Ended
			if len(s.halted.Left) == 0 && s.halted.Error == "" {
				report.Halted = append(report.Halted, name)
			} else {
				report.Left[name] = fmt.Sprintf("%v %s", s.halted.Left, s.halted.Error)
			}
		case <-again.C:
			if now := time.Now(); haltedAnew(now.Sub(answered), now.Sub(said)) {
				said = now
				c.say(fleet.SubjectHalt, halt)
			}
		case <-late.C:
			break collecting
		case <-ctx.Done():
			break collecting
		}
	}
	c.pulse() // of those that did not hear it: no order of before begins
	for _, name := range waiting {
		report.Left[name] = "it has not answered; without the control plane it ends by itself"
	}
	slices.Sort(report.Halted)
	if len(report.Left) > 0 {
		c.record("the halt of %s leaves %v", by.Name, report.Left)
	}
	return report, kept
}

// haltedAnew reports whether a halt is said again: to whom it was lost on the way. It goes to all, so that while ten thousand answer it would be in the way of
// what it repeats.
func haltedAnew(sinceAnswer, sinceSaid time.Duration) bool {
	return sinceAnswer >= haltAgain/2 || sinceSaid >= haltLate
}

// engage pulls the lever. The epoch grows also when it is engaged already, so that no order of before is carried out after a second halt.
func (c *Control) engage(ctx context.Context, by fleet.Member, reason string) (fleet.Lever, error) {
	pull := func(lever fleet.Lever) fleet.Lever {
		if !lever.Engaged {
			lever.By, lever.Reason, lever.At = by.Name, reason, time.Now()
		}
		lever.Released, lever.ReleasedAt = "", time.Time{}
		lever.Engaged, lever.Epoch, lever.Untold = true, lever.Epoch+1, c.options.Tell != nil
		return lever
	}
	ctx, cancel := context.WithTimeout(ctx, leverMax)
	defer cancel()
	lever, err := c.levers.change(ctx, leverKey, func(lever fleet.Lever, _ bool) (fleet.Lever, error) { return pull(lever), nil })
	if err != nil {
		lever = pull(c.lever())
		c.levers.only(leverKey, lever)
		err = &drill.Error{Op: "halt", Kind: drill.Failed, Err: fmt.Errorf("everything is halted, but a restart of the server would forget the lever, and other servers do not know of it: %w", err), Hint: "is the disk full? do most of the servers run?"}
		c.changed("lever", lever)
	}
	return lever, err
}

// Release lets runs begin again. It is a named person's doing.
func (c *Control) Release(ctx context.Context, by fleet.Member) (fleet.Lever, error) {
	var was fleet.Lever
	lever, err := c.levers.change(ctx, leverKey, func(lever fleet.Lever, _ bool) (fleet.Lever, error) {
		was = lever
		if was.Engaged {
			lever.Engaged, lever.Released, lever.ReleasedAt, lever.Untold = false, by.Name, time.Now(), c.options.Tell != nil
		}
		return lever, nil
	})
	if err != nil || !was.Engaged {
		return was, err
	}
	c.pulse()
	c.record("%s releases the lever, engaged by %s at %s: %s", by.Name, was.By, was.At.Format(time.RFC3339), was.Reason)
	return lever, nil
}

// Stop ends one run. What becomes of it is followed as always.
func (c *Control) Stop(by fleet.Member, id string) (fleet.Run, error) {
	run, err := c.runs.find(id)
	if err != nil || run.Done() {
		return run, err
	}
	c.record("%s stops run %s", by.Name, run.ID)
	run = c.change(run.ID, func(r *fleet.Run) { r.Stopped = by.Name })
	c.tellStopped(run)
	return run, nil
}

// tellStopped tells the hosts of a run that was stopped, and that have not ended it. It is said again until they have: a host may be reconnecting.
func (c *Control) tellStopped(run fleet.Run) {
	for _, host := range run.Hosts {
		if run.Stopped != "" && !host.Final() {
			c.say(fleet.ToAgent(host.Key, fleet.WordCancel), fleet.Cancel{Order: host.Order, Reason: "stopped by " + run.Stopped})
		}
	}
}
