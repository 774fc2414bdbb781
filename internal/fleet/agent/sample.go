package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/history"
	"firedrill/internal/probe"
)

const (
	// tellEvery is how often what was seen is told. A drill is stopped by what clients see, so it is soon.
	tellEvery = 250 * time.Millisecond
	tellMax   = 2 * time.Second // for the control plane to say that it has a part
	endMax    = 5 * time.Second // for it to have the last one
	// untoldMax is how many events wait to be told: ten minutes at the highest rate. A sampling of which more could not be told ends, and what is missing is missed.
	untoldMax = 60_000
)

// sampling is one service that this host looks at as a client of it.
type sampling struct {
	order  fleet.Sampling
	cancel context.CancelCauseFunc

	mu     sync.Mutex // guards the fields below
	untold []string   // events, the oldest first
	told   int        // events that the control plane has
	until  time.Time  // when it said so last
}

// heardSample takes an order to sample, or says why not.
func (a *Agent) heardSample(message *nats.Msg) {
	order, err := opened(message.Data, a.trusted(), fleet.OpenSampling)
	if err != nil {
		a.log.Warn("an order to sample is refused", "error", err) //nolint:sloglint // no context
		return
	}
	if err := a.takeSampling(order); err != nil {
		a.log.Warn("an order to sample is refused", "order", order.ID, "url", order.URL, "by", order.By, "error", err) //nolint:sloglint // no context
		a.answer(fleet.Answer{Order: order.ID, State: fleet.Refused, Reason: err.Error(), Cure: drill.HintOf(err)})
	}
}

// takeSampling holds an order against this host's bounds, accepts it into the ledger, and begins.
func (a *Agent) takeSampling(order fleet.Sampling) error {
	refuse := func(hint, format string, args ...any) error {
		return &drill.Error{Op: "sample " + order.ID, Kind: drill.Refused, Hint: hint, Err: fmt.Errorf("not sampling: "+format, args...)}
	}
	within := order.Within
	if a.options.MaySample != nil {
		var err error
		if within, err = a.options.MaySample(order); err != nil {
			return err
		}
	}
	if order.Resolver != "" {
		if address, err := fleet.ResolverAddress(order.Resolver); err != nil || !fleet.Inside(within, address) {
			return refuse("name it under clients: in the policy of this host, or leave resolver: out", "the name server %s is not one of the service's", order.Resolver)
		}
	}
	silent := a.silence()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return refuse("", "the agent is being stopped")
	case silent > a.slack():
		return refuse("", "the control plane was not heard for too long")
	}
	rate := order.Rate()
	for _, other := range a.samplings {
		rate += other.order.Rate()
	}
	if rate > fleet.SamplesPerSecond+1e-6 && !a.options.Unbounded {
		return refuse("take a longer every:, or another host", "it would be %.0f samples a second, and this host makes %d at most", rate, fleet.SamplesPerSecond)
	}
	for _, t := range a.tasks {
		return refuse("take a host that is not attacked", "%s is in force here, which is no place to look from", t.order.Kind)
	}
	if err := order.Admit(time.Now(), a.self()); err != nil {
		return err
	}
	if err := a.ledger.take(order.ID, order.Expires); err != nil {
		return err
	}
	s := &sampling{order: order, until: time.Now()}
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(a.ctx))
	s.cancel = cancel
	a.samplings[order.ID] = s
	a.rouse()
	a.working.Go(func() { a.sample(ctx, s, within) })
	return nil
}

// sample sees a sampling through.
func (a *Agent) sample(ctx context.Context, s *sampling, within []netip.Prefix) {
	deadline := time.AfterFunc(time.Until(s.order.Deadline), func() { s.cancel(errors.New("deadline of the order")) })
	defer deadline.Stop()
	a.answer(fleet.Answer{Order: s.order.ID, State: fleet.Accepted})
	a.log.Info("sampling", "order", s.order.ID, "drill", s.order.Drill, "url", s.order.URL, "every", s.order.Every.String(), "by", s.order.By) //nolint:sloglint // no context
	spec := probe.Spec{Name: s.order.Client, Kind: probe.HTTP, URL: s.order.URL, Resolver: s.order.Resolver, Every: s.order.Every, Timeout: s.order.Timeout, Keep: s.order.Keep, Within: within}
	if a.options.Unbounded {
		spec.Within = nil
	}
	ended := make(chan error, 1)
	go func() { ended <- probe.Run(ctx, s.order.Client, []probe.Spec{spec}, s.see) }()
	why := a.tellSamples(ctx, s, ended)
	s.cancel(nil)
	a.mu.Lock()
	delete(a.samplings, s.order.ID)
	a.mu.Unlock()
	a.log.Info("sampling has ended", "order", s.order.ID, "why", why) //nolint:sloglint // no context
}

// see keeps an event until it is told.
func (s *sampling) see(event history.Event) {
	line, err := json.Marshal(event)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil || len(s.untold) >= untoldMax {
		s.cancel(errors.New("what was seen could not be told fast enough"))
		return
	}
	s.untold = append(s.untold, string(line))
}

// tellSamples tells what is seen until the probe has ended and all of it is told, or until nobody has taken anything for as long as the control plane may be
// silent: then the samples are of no use to anybody, and there is nobody who could end them.
func (a *Agent) tellSamples(ctx context.Context, s *sampling, ended <-chan error) (why string) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	over, last := false, time.Time{}
	end := func(err error) {
		over, why, last = true, "stopped", time.Now().Add(endMax)
		if cause := context.Cause(ctx); cause != nil {
			why = cause.Error()
		}
		if err != nil {
			why = err.Error()
		}
	}
	for {
		select {
		case err := <-ended:
			end(err)
		case <-tick.C:
		}
		select { // telling may take longer than a tick, so that both are always ready
		case err := <-ended:
			end(err)
		default:
		}
		if over && !time.Now().Before(last) {
			return why
		}
		for more := true; more; {
			var done bool
			if more, done = a.tellPart(s, over, why); done {
				return why
			}
		}
		if s.unheard() > a.slack() && !a.options.Unleashed {
			s.cancel(errors.New("nobody took what was seen"))
		}
	}
}

// tellPart tells the next events, and says whether more of them wait, and whether the control plane has the end.
func (a *Agent) tellPart(s *sampling, over bool, why string) (more, done bool) {
	part := s.next(over, why)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(a.ctx), tellMax)
	defer cancel()
	if !a.conn.IsConnected() {
		return false, false
	}
	reply, err := a.conn.RequestWithContext(ctx, fleet.FromAgent(a.id.Key, fleet.WordSampled), encode(part))
	if err != nil && a.options.Careless {
		return s.kept(part.From + len(part.Lines)), false
	}
	if err != nil {
		return false, false // it is told again
	}
	kept, err := fleet.Decode[fleet.Kept](reply.Data)
	if err != nil || kept.Error != "" {
		return false, false
	}
	return s.kept(kept.Lines), part.End != "" && kept.End
}

// next is the part to tell next. The end goes with the last events.
func (s *sampling) next(over bool, why string) fleet.Sampled {
	s.mu.Lock()
	defer s.mu.Unlock()
	part := fleet.Sampled{ID: s.order.ID, From: s.told, Lines: []string{}}
	size := 0
	for _, line := range s.untold {
		if size += len(line); (size > partMax || len(part.Lines) == partLinesMax) && len(part.Lines) > 0 {
			return part
		}
		part.Lines = append(part.Lines, line)
	}
	if over {
		part.End = why
	}
	return part
}

// partLinesMax is how many events are told at once.
const partLinesMax = 500

// kept lets go of what the control plane has, and says whether more waits than one part may hold.
func (s *sampling) kept(lines int) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.until = time.Now()
	if n := lines - s.told; n > 0 && n <= len(s.untold) {
		s.untold, s.told = slices.Clone(s.untold[n:]), lines
	}
	return len(s.untold) >= partLinesMax
}

// unheard is how long nobody has taken anything.
func (s *sampling) unheard() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.until)
}
