package control

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"firedrill/internal/fleet"
	"firedrill/internal/history"
)

const (
	newsEvery = time.Minute // what could not be told is told again, and cadences are looked at
	tellMax   = time.Minute // for one word to whoever is told
)

// keepNews tells what somebody beyond the dashboard is to hear, until ctx ends: soon, and again where it was not heard. Of several servers the
// one that leads does. That something is untold lies with what it is about, so a server that goes down before it has told leaves it to the next.
func (c *Control) keepNews(ctx context.Context) {
	tick := time.NewTicker(newsEvery)
	defer tick.Stop()
	for {
		if c.lead.leads() {
			now := time.Now()
			c.tellCadences(ctx, now)
			c.tellLever(ctx)
			c.tellDrills(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-c.newsCame:
		}
	}
}

// wakeNews has what is untold told now.
func (c *Control) wakeNews() {
	select {
	case c.newsCame <- struct{}{}:
	default: // it is awake
	}
}

// tell tells one thing, and reports whether it was heard, or nobody is to hear it.
func (c *Control) tell(ctx context.Context, news fleet.News) bool {
	if c.options.Tell == nil {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, tellMax)
	defer cancel()
	if err := c.options.Tell(ctx, news); err != nil && !c.options.Glib {
		c.log.WarnContext(ctx, "nobody could be told; it is said again", "service", news.Service, "what", news.Name, "error", err)
		return false
	}
	return true
}

// tellLever says that the lever was engaged or released. Of moves that follow each other faster than they can be told the last is.
func (c *Control) tellLever(ctx context.Context) {
	lever := c.lever()
	if !lever.Untold {
		return
	}
	news := fleet.News{Name: "lever", From: fleet.NewsOK, To: fleet.NewsAlarm, Text: fmt.Sprintf("%s has halted everything: %s", lever.By, lever.Reason), At: lever.At}
	if !lever.Engaged {
		news.From, news.To, news.Text, news.At = fleet.NewsAlarm, fleet.NewsOK, fmt.Sprintf("the lever is released by %s: runs may begin again", lever.Released), lever.ReleasedAt
	}
	if !c.tell(ctx, news) {
		return
	}
	if _, err := c.levers.change(ctx, leverKey, func(now fleet.Lever, _ bool) (fleet.Lever, error) {
		if now.Epoch == lever.Epoch && now.Engaged == lever.Engaged {
			now.Untold = false
		}
		return now, nil
	}); err != nil {
		c.log.WarnContext(ctx, "that the lever was told is not kept; it is said again", "error", err)
	}
}

// tellDrills says how drills have ended, the oldest first.
func (c *Control) tellDrills(ctx context.Context) {
	c.mu.Lock()
	ids := slices.Sorted(maps.Keys(c.untoldDrills))
	c.mu.Unlock()
	for _, id := range ids {
		run, ok := c.drills.get(id)
		if !ok || !run.Untold {
			continue
		}
		if !c.tell(ctx, drillNews(run)) {
			return // the next ones would not be heard either, and a later one must not come first
		}
		if _, err := c.drills.change(ctx, id, func(run fleet.DrillRun, _ bool) (fleet.DrillRun, error) {
			run.Untold = false
			return run, nil
		}); err != nil {
			c.log.WarnContext(ctx, "that a drill was told is not kept; it is said again", "drill", id, "error", err)
			return
		}
	}
}

// drillNews is a drill that has ended, as alarms are told: only what passed is OK, and what proves nothing is not known.
func drillNews(run fleet.DrillRun) fleet.News {
	news := fleet.News{Service: run.Request.Service, Name: "drill-" + run.Request.Drill, From: fleet.NewsUnknown, To: fleet.NewsUnknown, At: run.Ended,
		Text: fmt.Sprintf("%s: %s", run.Outcome, run.Reason)}
	switch {
	case run.Left:
		news.To, news.Text = fleet.NewsAlarm, "NOT REVERTED, impact may still be in force: "+news.Text
	case run.Outcome == string(history.Failed):
		news.To = fleet.NewsAlarm
	case run.Outcome == string(history.Passed):
		news.To = fleet.NewsOK
	}
	return news
}
