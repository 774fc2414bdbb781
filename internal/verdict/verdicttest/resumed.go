package verdicttest

import (
	"fmt"
	"io"
	"reflect"
	"slices"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// Resumed tells the story of Plan as two runs: one that was cut off after two steps, and one that went on with it.
func Resumed() (earlier []history.Event, head string, plan drill.Plan, log []history.Event) {
	const proven = 2
	whole, events := Bookstore(NoTwist)
	cut := slices.IndexFunc(events, func(event history.Event) bool {
		started, is := event.Fact.(*history.StepStarted)
		return is && started.Step == proven
	})
	earlier = events[:cut]
	writer := history.NewWriter(io.Discard)
	for _, event := range earlier {
		if _, err := writer.Append(event); err != nil {
			panic(fmt.Sprintf("verdicttest: %v", err))
		}
	}
	_, head = writer.Head()
	plan = whole
	plan.Steps = whole.Steps[proven:]
	for _, step := range whole.Steps[:proven] {
		one := drill.ProvenStep{
			Kind: step.Kind, Name: step.Name, Environment: step.Environment, Live: step.Live, LiveAfter: step.LiveAfter,
			Run: earlier[0].Fact.(*history.RunStarted).Run, Log: head,
		}
		if step.Drill != nil {
			one.Drilled = step.Drill.Name
		} else {
			one.Hosts = []drill.HostRelease{{Host: greenHost, Revision: revision}}
		}
		plan.Proven = append(plan.Proven, one)
	}
	first := slices.IndexFunc(events, func(event history.Event) bool { _, is := event.Fact.(*history.StepStarted); return is })
	started := *events[0].Fact.(*history.RunStarted)
	started.Run, started.Plan = "01939f5a-0000-7c3b-9e52-0d7d5b1c4e88", plan
	log = append(log, history.New(events[0].At, events[0].Source, &started))
	for _, event := range append(slices.Clone(events[1:first]), events[cut:]...) {
		log = append(log, history.New(event.At, event.Source, shifted(event.Fact, proven)))
	}
	for i := range log {
		log[i].Seq = int64(i) + 1
	}
	return earlier, head, plan, log
}

// shifted returns the fact as of a step that comes so many earlier.
func shifted(fact history.Fact, by int) history.Fact {
	about := reflect.New(reflect.TypeOf(fact).Elem())
	about.Elem().Set(reflect.ValueOf(fact).Elem())
	if step := about.Elem().FieldByName("Step"); step.IsValid() && step.CanInt() && int(step.Int()) >= by {
		step.SetInt(step.Int() - int64(by))
	}
	return about.Interface().(history.Fact)
}
