package attack

import (
	"sync"
	"time"
)

// outboxGrace bounds how long the end of an attack waits for a reader that does not read.
const outboxGrace = 2 * time.Second

// outbox hands things to a slow consumer in order, from one goroutine, so that a blocked standard output never delays a lease or a
// revert.
type outbox struct {
	mu      sync.Mutex // guards the fields below
	queue   []func()
	closed  bool
	wake    chan struct{}
	drained chan struct{}
}

func newOutbox() *outbox {
	o := &outbox{wake: make(chan struct{}, 1), drained: make(chan struct{})}
	go o.deliver()
	return o
}

// put never blocks.
func (o *outbox) put(deliver func()) {
	o.mu.Lock()
	if !o.closed {
		o.queue = append(o.queue, deliver)
	}
	o.mu.Unlock()
	o.ring()
}

func (o *outbox) ring() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

func (o *outbox) deliver() {
	defer close(o.drained)
	for range o.wake {
		o.mu.Lock()
		queue, closed := o.queue, o.closed
		o.queue = nil
		o.mu.Unlock()
		for _, deliver := range queue {
			deliver()
		}
		if closed {
			return
		}
	}
}

// flush waits until all that was put has been delivered, at most outboxGrace.
func (o *outbox) flush() {
	done := make(chan struct{})
	o.put(func() { close(done) })
	waitAtMost(done, outboxGrace)
}

// close delivers what is left, waits for it at most outboxGrace, and takes nothing more. A consumer that is stuck keeps its goroutine:
// there is no way to take a blocked write back, and the process is about to end.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.ring()
	waitAtMost(o.drained, outboxGrace)
}

func waitAtMost(done <-chan struct{}, limit time.Duration) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	}
}
