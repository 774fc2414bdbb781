package probe

import (
	"fmt"
	"sync"
	"time"

	"firedrill/internal/history"
)

// queueMax is how many events wait for a slow receiver: a minute of 100 probes at 10 a second.
const queueMax = 60_000

// outlet passes events from many goroutines to one receiver without ever holding up the senders.
type outlet struct {
	mu     sync.Mutex // guards the fields below
	filled *sync.Cond
	queue  []history.Event
	lost   int
	closed bool
}

func newOutlet() *outlet {
	o := new(outlet)
	o.filled = sync.NewCond(&o.mu)
	return o
}

// put queues an event, or counts it as lost when the queue is full.
func (o *outlet) put(event history.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.queue) >= queueMax {
		o.lost++
		return
	}
	o.noteLost(event.At, event.Source)
	o.queue = append(o.queue, event)
	o.filled.Signal()
}

// noteLost queues a Note on what was lost, once there is room for it.
func (o *outlet) noteLost(at time.Time, source string) {
	if o.lost > 0 {
		text := fmt.Sprintf("%d events are missing here: they were not taken fast enough", o.lost)
		o.queue = append(o.queue, history.New(at, source, &history.Note{Text: text}))
		o.lost = 0
	}
}

// close lets drain return once the queue is empty. Nothing may be put after it.
func (o *outlet) close(at time.Time, source string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.noteLost(at, source)
	o.closed = true
	o.filled.Signal()
}

// drain calls emit for each event, in order, until close.
func (o *outlet) drain(emit func(history.Event)) {
	for {
		o.mu.Lock()
		for len(o.queue) == 0 && !o.closed {
			o.filled.Wait()
		}
		batch := o.queue
		o.queue = nil
		closed := o.closed
		o.mu.Unlock()
		for _, event := range batch {
			emit(event)
		}
		if closed && len(batch) == 0 {
			return
		}
	}
}
