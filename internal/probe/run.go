package probe

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
)

// lateMin is the lag up to which a try is still sent, whatever the interval. A try that is later than this and than its interval is
// recorded as our own fault instead: sent now, it would only repeat what the next one sees.
const lateMin = 250 * time.Millisecond

// missedMax is how many missed moments are recorded one by one after a host was frozen; more of them are counted in a Note.
const missedMax = 1000

// slot is one scheduled moment.
type slot struct {
	Scheduled time.Time
	Lag       time.Duration // how much later it was sent
}

// task is what a kind of probe does. try is called once for each scheduled moment, by many goroutines at once; ctx ends with the timeout.
// stop is called once after the last try has returned.
type task interface {
	try(ctx context.Context, at slot)
	stop(ctx context.Context)
}

// Run makes all probes until ctx ends, and passes what they see to emit, from one goroutine at a time. Samples come when their try ends,
// so not in the order of their schedule. When ctx ends, tries under way are waited for (at most their timeout) and ledgers are read back;
// then Run returns nil. It returns an error only for a wrong spec, before anything is sent.
//
// Times are this host's clock at the start plus monotonic time: a clock that is set while Run is at work does not tear the samples apart.
// Slow receivers do not slow the probes: events wait in a queue, and what does not fit there is counted in a Note.
func Run(ctx context.Context, source string, specs []Spec, emit func(history.Event)) error {
	if err := validateAll(specs); err != nil {
		return &drill.Error{Op: "probe", Kind: drill.Invalid, Err: err}
	}
	r := &runner{source: source, started: time.Now(), outlet: newOutlet()}
	var drained sync.WaitGroup
	drained.Go(func() { r.outlet.drain(emit) })
	var loops sync.WaitGroup
	for _, spec := range specs {
		loops.Go(func() { r.loop(ctx, spec, r.task(spec)) })
	}
	loops.Wait()
	r.outlet.close(r.now(), source)
	drained.Wait()
	return nil
}

func validateAll(specs []Spec) error {
	if len(specs) == 0 {
		return errors.New("no probes are given")
	}
	if len(specs) > specsMax {
		return fmt.Errorf("%d probes; the limit is %d", len(specs), specsMax)
	}
	seen := map[string]bool{}
	for _, spec := range specs {
		if err := spec.Validate(); err != nil {
			return err
		}
		if seen[spec.Name] {
			return fmt.Errorf("two probes are named %q; their samples could not be told apart", spec.Name)
		}
		seen[spec.Name] = true
	}
	return nil
}

type runner struct {
	source  string
	started time.Time
	outlet  *outlet
}

// now is monotonic: see Run.
func (r *runner) now() time.Time { return r.started.Add(time.Since(r.started)) }

func (r *runner) emit(at time.Time, fact history.Fact) {
	r.outlet.put(history.New(at, r.source, fact))
}

func (r *runner) task(spec Spec) task {
	switch spec.Kind {
	case HTTP:
		if spec.Keep {
			return &keeper{runner: r, spec: spec}
		}
	case TCP, TLS, SQL, Lookup, Command, Query:
	case DNS, Served:
		return &witness{runner: r, spec: spec}
	case Ledger:
		return newLedger(r, spec)
	case Heartbeat:
		return &heartbeat{runner: r, spec: spec}
	}
	return &sampler{runner: r, spec: spec, attempt: attempts[spec.Kind]}
}

// attempts are what is tried anew each time; Validate has seen the kind.
var attempts = map[Kind]func(ctx context.Context, spec Spec) result{
	HTTP: attemptHTTP, TCP: attemptTCP, TLS: attemptTLS, SQL: attemptSQL, Lookup: attemptLookup, Command: attemptCommand, Query: attemptQuery,
}

// loop is the open loop: it starts each try at its moment and never waits for one.
func (r *runner) loop(ctx context.Context, spec Spec, work task) {
	every := spec.Every.Duration()
	slots := make(chan struct{}, spec.inFlight())
	timer := time.NewTimer(0)
	defer timer.Stop()
	var flights sync.WaitGroup
	for next := r.first(spec); ; next = next.Add(every) {
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			flights.Wait()
			work.stop(context.WithoutCancel(ctx))
			return
		case <-timer.C:
		}
		at := slot{Scheduled: next, Lag: max(0, r.now().Sub(next))}
		if at.Lag > max(every, lateMin) {
			next = r.missed(spec, at)
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			r.ourFault(spec, at, fmt.Sprintf("%d tries were under way already", cap(slots)))
			continue
		}
		flights.Go(func() {
			defer func() { <-slots }()
			r.fly(ctx, spec, work, at)
		})
	}
}

// fly makes one try. A stop does not cut it short: a sample that ends early would say of the service what we did.
func (r *runner) fly(ctx context.Context, spec Spec, work task, at slot) {
	defer func() {
		if broken := recover(); broken != nil {
			r.ourFault(spec, at, fmt.Sprintf("panic: %v", broken))
		}
	}()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), spec.timeout())
	defer cancel()
	work.try(ctx, at)
}

// first returns the first scheduled moment. All moments lie on a grid of the interval, shifted by a phase of this probe's own, so that
// each period of an alarm holds the same number of samples and the hosts of a fleet do not knock all at once.
func (r *runner) first(spec Spec) time.Time {
	every := spec.Every.Duration()
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(r.source + "\x00" + spec.Name))
	phase := int64(hash.Sum64() % uint64(every))
	past := (r.started.UnixNano() - phase) % int64(every)
	return r.started.Add(every - time.Duration(past))
}

// missed records moments that are too late to be sent as our own fault: the one at, and, when the prober was frozen for so long that
// there are very many, all others at once in a Note. It returns the last moment that it has dealt with.
func (r *runner) missed(spec Spec, at slot) time.Time {
	every := spec.Every.Duration()
	r.ourFault(spec, at, "the prober was not run in time")
	behind := int(at.Lag / every)
	if behind <= missedMax {
		return at.Scheduled
	}
	r.emit(r.now(), &history.Note{Text: fmt.Sprintf("probe %s: %d further samples are missing: the prober was not run for %v", spec.Name, behind, at.Lag)})
	return at.Scheduled.Add(time.Duration(behind) * every)
}

func (r *runner) ourFault(spec Spec, at slot, detail string) {
	r.emit(r.now(), &history.Sample{
		Probe: spec.Name, Host: r.source, Scheduled: at.Scheduled, Lag: drill.Seconds(at.Lag), Cause: history.CauseProber, Detail: detail,
	})
}

// sampler makes samples with an attempt.
type sampler struct {
	runner  *runner
	spec    Spec
	attempt func(ctx context.Context, spec Spec) result
}

func (s *sampler) try(ctx context.Context, at slot) {
	sent := s.runner.now()
	outcome := s.attempt(ctx, s.spec)
	s.runner.sample(s.spec, at, s.runner.now().Sub(sent), outcome)
}

func (s *sampler) stop(context.Context) {}

func (r *runner) sample(spec Spec, at slot, took time.Duration, outcome result) {
	r.emit(r.now(), &history.Sample{
		Probe: spec.Name, Host: r.source, Scheduled: at.Scheduled, Lag: drill.Seconds(at.Lag), Took: drill.Seconds(took),
		OK: outcome.cause == "", Cause: outcome.cause, Detail: outcome.detail, Address: outcome.address, Status: outcome.status,
		Value: outcome.value, Reused: outcome.reused,
	})
}
