package nfqueue

import "time"

// packet is one that is held.
type packet struct {
	id      uint32
	came    time.Time
	due     time.Time
	payload []byte // to be put in the place of its bytes; nil for none
}

// waiting holds packets by the time at which they are due: a heap. Of two that are due at the same time, the one that came first goes
// first. The zero value is empty.
type waiting struct {
	heap []ranked
	came uint64
}

type ranked struct {
	packet
	number uint64
}

func (w *waiting) next() (due time.Time, ok bool) {
	if len(w.heap) == 0 {
		return time.Time{}, false
	}
	return w.heap[0].due, true
}

func (w *waiting) before(i, j int) bool {
	a, b := &w.heap[i], &w.heap[j]
	if a.due.Equal(b.due) {
		return a.number < b.number
	}
	return a.due.Before(b.due)
}

func (w *waiting) push(p packet) {
	w.came++
	w.heap = append(w.heap, ranked{packet: p, number: w.came})
	for at := len(w.heap) - 1; at > 0; {
		parent := (at - 1) / 2
		if !w.before(at, parent) {
			return
		}
		w.heap[at], w.heap[parent] = w.heap[parent], w.heap[at]
		at = parent
	}
}

// pop takes the packet that next told of. There must be one.
func (w *waiting) pop() packet {
	first := w.heap[0].packet
	last := len(w.heap) - 1
	w.heap[0] = w.heap[last]
	w.heap[last] = ranked{}
	w.heap = w.heap[:last]
	for at := 0; ; {
		least := at
		for child := 2*at + 1; child <= 2*at+2 && child < last; child++ {
			if w.before(child, least) {
				least = child
			}
		}
		if least == at {
			return first
		}
		w.heap[at], w.heap[least] = w.heap[least], w.heap[at]
		at = least
	}
}
