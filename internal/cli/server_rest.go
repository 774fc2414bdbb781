//go:build !hostpart

package cli

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	restLook = 15 * time.Second
	// restRounds is how often a goroutine's stack may be halved in one rest: the collector halves it once each time.
	restRounds = 4
	// restGrowth and restPart are by how much a server has grown since its last rest when it rests again, and restWait is how many looks it waits at least, ten
	// minutes: with 10,000 hosts one rest takes seconds of the processor, and one a minute took nine points of a core.
	restGrowth = 16 << 20
	restPart   = 8
	restWait   = 40
	restGain   = 20 // a round that gives back less than this part is the last
)

// restful gives back what a server holds after many have joined or come back at once: handshakes need stacks and buffers that nobody needs later, and left
// alone the collector gives them back in a quarter of an hour.
type restful struct {
	held   func() uint64 // bytes that are not given back to the kernel
	rest   func()        // collects, and gives back
	settle uint64        // held after the last rest
	before uint64        // held at the last look
	wait   int           // looks until it may rest again
}

// look rests when more is held than after the last rest, and it grows no more. It reports whether it did.
func (r *restful) look() bool {
	held := r.held()
	quiet := held <= r.before+r.before/restGain
	r.before, r.settle, r.wait = held, min(r.settle, held), max(r.wait-1, 0)
	if held < r.settle+r.settle/restPart+restGrowth || !quiet || r.wait > 0 {
		return false
	}
	for range restRounds {
		r.rest()
		now := r.held()
		done := now+held/restGain > held
		held = now
		if done {
			break
		}
	}
	r.settle, r.before, r.wait = held, held, restWait
	return true
}

// run looks now and then until ctx ends.
func (r *restful) run(ctx context.Context) {
	tick := time.NewTicker(restLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.look()
		}
	}
}

// heldMemory is what this process has of the kernel's memory, without its program.
func heldMemory() uint64 {
	samples := []metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64() - samples[1].Value.Uint64()
}

func newRestful() *restful {
	held := heldMemory()
	return &restful{held: heldMemory, rest: debug.FreeOSMemory, settle: held, before: held}
}
