package conductor

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/guard"
	"firedrill/internal/history"
)

// tick is how often the core is asked with nothing new; every limit of the core is far above it.
const tick = 100 * time.Millisecond

// eventsBuffered lets observers go on while the log is written; a full buffer slows them down and loses nothing.
const eventsBuffered = 1024

// Crew does what the core commands. Every method returns when its context ends, and not before its work is safe to leave: an attack
// returns when its impact is reverted, or when it cannot learn more about that. Methods are called side by side.
type Crew interface {
	// Inspect looks at a host over SSH and at its own address. It never fails: what could not be seen is in the fact.
	Inspect(ctx context.Context, host drill.Host) history.Inspected
	// Deploy publishes the release to every host of the environment, and puts it back when the health check fails.
	Deploy(ctx context.Context, environment drill.Environment, emit func(history.Event)) error
	// Rollback switches every host of the environment to its release before, and verifies that it is healthy.
	Rollback(ctx context.Context, environment drill.Environment, emit func(history.Event)) error
	// Promote asks for the answer of the service's name to move to the environment.
	Promote(ctx context.Context, to string) error
	// Attack runs the order on the host until it ends by itself or ctx ends, which reverts it.
	Attack(ctx context.Context, host drill.Host, order drill.Order, guid string, emit func(history.Event)) error
	// Drain emits a history.Drain for each host of the environment, several times a second, until ctx ends.
	Drain(ctx context.Context, environment drill.Environment, emit func(history.Event)) error
	// Ledger writes entries through the service until ctx ends, then reads them back and emits one history.Ledger.
	Ledger(ctx context.Context, client drill.Client, emit func(history.Event)) error
	// Observe emits what the watch, the clients and the name servers show, until ctx ends.
	Observe(ctx context.Context, emit func(history.Event)) error
}

// Options are what Run needs. All but Opening and Seen are required.
type Options struct {
	Plan    drill.Plan
	Crew    Crew
	Log     *history.Writer
	Started history.RunStarted // Plan is filled in by Run
	Source  string             // this host's name, the source of our own events
	GUID    func(step int, host string) string
	// Judge gives the outcome of a step from the log so far, with the reason in one sentence.
	Judge func(plan drill.Plan, log []history.Event, step int) (history.Outcome, string)
	// Decided says that every expectation of a drill is decided for good.
	Decided func(plan drill.Plan, log []history.Event, step int, now time.Time) bool
	// Opening is written after Started: what people should know before the first step.
	Opening []history.Fact
	// Seen is told each event after it was written, from one goroutine.
	Seen func(history.Event)
}

// Run carries out the plan and returns the log as written. When ctx ends, every impact is taken back first; then Run returns. The error
// tells of a log that could not be written; a failed drill is no error.
func Run(ctx context.Context, options Options) ([]history.Event, error) {
	r := &runner{
		Options: options, state: NewState(options.Plan, options.GUID),
		events: make(chan history.Event, eventsBuffered), ended: make(chan Ended), cancels: map[int]context.CancelCauseFunc{},
	}
	return r.run(ctx)
}

type runner struct {
	Options
	state   *State
	events  chan history.Event
	ended   chan Ended
	cancels map[int]context.CancelCauseFunc
	log     []history.Event
	logErr  error
	finish  *history.RunFinished
}

func (r *runner) run(ctx context.Context) ([]history.Event, error) {
	// Tasks outlive the caller's context: an interrupted run must still revert.
	base, cancelAll := context.WithCancel(context.WithoutCancel(ctx))
	var group sync.WaitGroup
	r.Started.Plan = r.Plan
	r.write(history.New(time.Now(), r.Source, &r.Started))
	for _, fact := range r.Opening {
		r.write(history.New(time.Now(), r.Source, fact))
	}
	group.Go(func() { r.observe(base) })
	clock := time.NewTicker(tick)
	defer clock.Stop()
	interrupted := ctx.Done()
	r.step(base, &group, Input{})
	for r.finish == nil || len(r.cancels) > 0 {
		if r.logErr != nil {
			r.step(base, &group, Input{Interrupt: true}) // what is not recorded must not go on
		}
		select {
		case event := <-r.events:
			r.take(base, &group, event)
		case ended := <-r.ended:
			r.drain(base, &group) // what a task said belongs before its end
			delete(r.cancels, ended.ID)
			r.step(base, &group, Input{Ended: &ended})
		case <-clock.C:
			r.step(base, &group, Input{Decided: r.decided()})
		case <-interrupted:
			interrupted = nil
			r.step(base, &group, Input{Interrupt: true})
		}
	}
	cancelAll()
	done := make(chan struct{})
	go func() { group.Wait(); close(done) }()
	for waiting := true; waiting; {
		select {
		case event := <-r.events: // what observers had still to say
			r.write(annotate(r.Plan, event, r.state.index))
		case <-done:
			waiting = false
		}
	}
	r.write(history.New(time.Now(), r.Source, r.finish))
	return r.log, r.logErr
}

func (r *runner) take(base context.Context, group *sync.WaitGroup, event history.Event) {
	event = annotate(r.Plan, event, r.state.index)
	r.write(event)
	r.step(base, group, Input{Event: &event})
}

func (r *runner) drain(base context.Context, group *sync.WaitGroup) {
	for range len(r.events) {
		r.take(base, group, <-r.events)
	}
}

func (r *runner) decided() bool {
	step, observing := r.state.Observing()
	return observing && r.Decided(r.Plan, r.log, step, time.Now())
}

func (r *runner) emit(ctx context.Context) func(history.Event) {
	return func(event history.Event) {
		select {
		case r.events <- event:
		case <-ctx.Done():
			// A task that is being stopped still reports its revert: that must not be lost while the loop runs.
			select {
			case r.events <- event:
			case <-time.After(time.Second):
			}
		}
	}
}

func (r *runner) observe(ctx context.Context) {
	emit := r.emit(ctx)
	if err := r.Crew.Observe(ctx, emit); err != nil && !errors.Is(err, context.Canceled) {
		emit(history.New(time.Now(), r.Source, &history.Note{Text: "observing: " + err.Error()}))
	}
}

func (r *runner) step(ctx context.Context, group *sync.WaitGroup, in Input) {
	for _, command := range r.state.Step(time.Now(), in) {
		switch {
		case command.Record != nil:
			event := history.New(time.Now(), r.Source, command.Record)
			r.write(event)
			r.state.world.Fold(event)
		case command.Start != nil:
			r.start(ctx, group, *command.Start)
		case command.Stop != nil:
			if cancel, running := r.cancels[command.Stop.ID]; running {
				cancel(errors.New(command.Stop.Why))
			}
		case command.Finish != nil:
			r.finish = command.Finish
		}
	}
}

func (r *runner) write(event history.Event) {
	written, err := r.Log.Append(event)
	if err != nil && r.logErr == nil {
		r.logErr = err
	}
	r.log = append(r.log, written)
	if r.Seen != nil {
		r.Seen(written)
	}
}

// start runs a task on a goroutine of its own, but for judging, which needs the log as it is at this moment.
func (r *runner) start(base context.Context, group *sync.WaitGroup, task Task) {
	ctx, cancel := context.WithCancelCause(base)
	r.cancels[task.ID] = cancel
	log := r.log
	group.Go(func() {
		defer cancel(nil)
		r.ended <- r.carryOut(ctx, task, log)
	})
}

func (r *runner) carryOut(ctx context.Context, task Task, log []history.Event) (ended Ended) {
	ended.ID = task.ID
	defer func() {
		if fault := recover(); fault != nil {
			ended.Err = &drill.Error{Op: task.String(), Kind: drill.Internal, Err: fmt.Errorf("panic: %v", fault)}
			ended.Outcome, ended.Reason = history.Inconclusive, ended.Err.Error()
		}
	}()
	emit := r.emit(ctx)
	switch task.Kind {
	case TaskInspect:
		var group sync.WaitGroup
		for _, host := range task.Hosts {
			group.Go(func() {
				seen := r.Crew.Inspect(ctx, host)
				emit(history.New(time.Now(), r.Source, &seen))
			})
		}
		group.Wait()
	case TaskDeploy:
		ended.Err = r.Crew.Deploy(ctx, r.environment(task.Environment), emit)
	case TaskRollback:
		ended.Err = r.Crew.Rollback(ctx, r.environment(task.Environment), emit)
	case TaskPromote:
		ended.Err = r.Crew.Promote(ctx, task.Environment)
	case TaskAttack:
		ended.Err = r.Crew.Attack(ctx, task.Hosts[0], task.Order, task.GUID, emit)
	case TaskLedger:
		ended.Err = r.Crew.Ledger(ctx, task.Client, emit)
	case TaskDrain:
		ended.Err = r.Crew.Drain(ctx, r.environment(task.Environment), emit)
	case TaskJudge:
		ended.Outcome, ended.Reason = r.Judge(r.Plan, log, task.Step)
	}
	return ended
}

func (r *runner) environment(name string) drill.Environment {
	for _, environment := range r.Plan.Environments {
		if environment.Name == name {
			return environment
		}
	}
	return drill.Environment{Name: name}
}

// annotate adds what only the plan knows: which environment an address belongs to, and the step of a ledger.
func annotate(plan drill.Plan, event history.Event, step int) history.Event {
	switch fact := event.Fact.(type) {
	case *history.Answer:
		if fact.Environment == "" && len(fact.Addresses) > 0 {
			fact.Environment = guard.EnvironmentOf(plan, fact.Addresses[0])
		}
	case *history.Ledger:
		fact.Step = step
	}
	return event
}
