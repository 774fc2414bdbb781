package watch

import (
	"context"
	"maps"
	"sync"
	"time"

	"firedrill/internal/failover/database"
	"firedrill/internal/history"
)

// keep lets a database be kept for as long as ctx lasts: its keeper hears of every alarm.
func (w *Watch) keep(ctx context.Context, keeper *database.Keeper) {
	states := make(chan map[string]string, 1)
	var telling sync.WaitGroup
	telling.Go(func() { w.tellStates(ctx, states) })
	keeper.Run(ctx, states)
	telling.Wait()
}

// tellStates keeps the newest states of all alarms in the channel. A keeper that promotes just then hears of the last ones afterwards.
func (w *Watch) tellStates(ctx context.Context, states chan map[string]string) {
	known := map[string]string{}
	for ctx.Err() == nil {
		current, live, leave, err := w.Follow(ctx, history.KindAlarm)
		if err != nil {
			return // the watch has ended
		}
		hear := func(event history.Event) {
			alarm, is := event.Fact.(*history.Alarm)
			if !is {
				return
			}
			known[alarm.Name] = alarm.To
			select {
			case <-states: // not taken yet, and out of date
			default:
			}
			states <- maps.Clone(known)
		}
		for _, event := range current {
			hear(event)
		}
		for open := true; open; {
			var event history.Event
			select {
			case <-ctx.Done():
				open = false
			case event, open = <-live:
				if open {
					hear(event)
				}
			}
		}
		leave()
	}
}

// databaseTold publishes what a keeper does.
func (w *Watch) databaseTold(ctx context.Context) database.Tell {
	return func(step *history.DatabaseStep) {
		at := time.Now()
		_ = w.ask(context.WithoutCancel(ctx), func(time.Time) { w.publish([]history.Event{history.New(at, source, step)}) }) // ended: nobody listens
	}
}
