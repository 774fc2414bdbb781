package verdicttest

import (
	"fmt"
	"slices"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Crowd is the story with many clients that sample often: about count events, given to emit in the order of time. What emit is given may be
// kept. It returns the plan.
func Crowd(count int, emit func(history.Event)) drill.Plan {
	plan, log := Bookstore(NoTwist)
	samples := 0
	for _, event := range log {
		if sample, is := event.Fact.(*history.Sample); is && sample.Probe == "client" {
			samples++
		}
	}
	const clients = 20
	times := max(1, count/samples/clients)
	every := 100 * time.Millisecond / time.Duration(times)
	only := plan.Clients[0]
	for i := range clients {
		client := only
		client.Name, client.Every, client.Ledger = fmt.Sprintf("crowd-%d", i), drill.Seconds(every), ""
		plan.Clients = append(plan.Clients, client)
	}
	var pending []history.Event
	for _, event := range log {
		event.Seq = 0
		if started, is := event.Fact.(*history.RunStarted); is {
			started.Plan = plan
		}
		pending = append(pending, event)
		sample, is := event.Fact.(*history.Sample)
		if !is || sample.Probe != "client" {
			continue
		}
		for i := range times {
			for client := range clients {
				copied := *sample
				copied.Probe, copied.Scheduled = fmt.Sprintf("crowd-%d", client), sample.Scheduled.Add(time.Duration(i)*every)
				if copied.OK {
					copied.Took = drill.Seconds(time.Duration(1+(i*7+client)%9) * 100 * time.Microsecond)
				}
				pending = append(pending, history.New(event.At.Add(time.Duration(i)*every), copied.Probe, &copied))
			}
		}
	}
	slices.SortStableFunc(pending, func(a, b history.Event) int { return a.At.Compare(b.At) })
	for _, event := range pending {
		emit(event)
	}
	return plan
}
