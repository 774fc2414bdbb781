package watch

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/history"
	"firedrill/internal/probe"
)

const (
	// retryAfter is the pause between two tries to reach a host: a host that boots is seen within it.
	retryAfter = 500 * time.Millisecond
	// beatEvery is how often a host is asked to say that it lives. Four beats in the shortest period of 1 s leave room for a slow
	// scheduler; they cost about a kilobyte a second.
	beatEvery = 250 * time.Millisecond
	// silenceMax ends a connection without events: a host that lost its power never closes it.
	silenceMax = 8 * beatEvery
	// bareHeartbeat names the heartbeat when the service has no metric for it; it still tells silence from quiet.
	bareHeartbeat = "heartbeat"
	// bootIDPrefix is how a heartbeat carries the boot id in its detail.
	bootIDPrefix = "boot_id "
)

var errSilent = errors.New("no sign of life")

// Stream delivers the events of one host's probes.
type Stream interface {
	// Next returns the next event. It blocks until there is one, the stream ends, or Close is called.
	Next() (history.Event, error)
	// Close ends the stream and the probes on the host. It may be called twice, and while Next blocks.
	Close() error
}

// SourceStarter starts probes on hosts.
type SourceStarter interface {
	// Start returns the stream of a host. When the host cannot be reached it returns an error soon, within a second or two: it is called
	// again until it succeeds. ctx bounds the start and the stream.
	Start(ctx context.Context, host drill.Host, probes []probe.Spec) (Stream, error)
}

// What a stream's goroutine tells the loop.
type (
	arrived struct {
		host  string
		at    time.Time // by our clock
		due   time.Time // a sample's scheduled time by our clock
		event history.Event
	}
	established struct {
		host, bootID string
		at           time.Time
	}
	lost struct {
		host string
		at   time.Time
		err  error
	}
)

// follow keeps a host's stream up until ctx ends.
func (w *Watch) follow(ctx context.Context, host drill.Host) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		stream, err := w.options.Sources.Start(ctx, host, w.probes[host.Name])
		if err == nil {
			err = w.read(ctx, host, stream)
		}
		if ctx.Err() != nil {
			return
		}
		w.tell(ctx, lost{host: host.Name, at: time.Now(), err: err})
		timer.Reset(retryAfter)
	}
}

// read passes the stream's events on until it ends or falls silent, and returns why.
func (w *Watch) read(ctx context.Context, host drill.Host, stream Stream) error {
	ctx, cancel := context.WithCancelCause(ctx)
	alive := make(chan struct{}, 1)
	var guard sync.WaitGroup
	guard.Go(func() { watchSilence(ctx, cancel, alive, stream) })
	defer guard.Wait()
	defer cancel(nil)

	var times clock
	up := false
	for {
		event, err := stream.Next()
		if err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
		select {
		case alive <- struct{}{}:
		default:
		}
		now := time.Now()
		times.see(event.At, now)
		message := arrived{host: host.Name, at: now, event: event}
		if sample, ok := event.Fact.(*history.Sample); ok {
			message.due = times.ours(sample.Scheduled)
			if !up && w.isBeat(sample) {
				up = true
				bootID, _ := strings.CutPrefix(sample.Detail, bootIDPrefix)
				w.tell(ctx, established{host: host.Name, bootID: bootID, at: now})
			}
		}
		w.tell(ctx, message)
	}
}

func (w *Watch) isBeat(sample *history.Sample) bool {
	return sample.OK && w.beats[sample.Probe]
}

// watchSilence closes the stream when nothing was heard for silenceMax, or when ctx ends. A timer that fires late says that we were
// stopped, not the host: then what waits in the socket gets one more chance.
func watchSilence(ctx context.Context, cancel context.CancelCauseFunc, alive <-chan struct{}, stream Stream) {
	timer := time.NewTimer(silenceMax)
	defer timer.Stop()
	defer stream.Close()
	armed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-alive:
		case <-timer.C:
			if time.Since(armed) < silenceMax+stallMin {
				cancel(fmt.Errorf("%w for %s", errSilent, silenceMax))
				return
			}
		}
		armed = time.Now()
		timer.Reset(silenceMax)
	}
}

// tell hands a message to the loop, unless the watch ends.
func (w *Watch) tell(ctx context.Context, message any) {
	select {
	case w.inbox <- message:
	case <-ctx.Done():
	}
}
