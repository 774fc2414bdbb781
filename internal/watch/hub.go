package watch

import (
	"slices"

	"firedrill/internal/history"
)

const (
	// followerBuffer is how many events a follower may be behind before it is cut off: minutes of a busy service.
	followerBuffer = 4096
	// followersMax bounds the memory that followers can take.
	followersMax = 256
	// keptMax is how many past events can be asked for when no file keeps them.
	keptMax = 10_000
)

// follower is one reader of the event stream. events is closed when it is cut off or the watch ends.
type follower struct {
	kinds  []history.Kind // empty: all
	events chan history.Event
}

func (f *follower) wants(kind history.Kind) bool {
	return len(f.kinds) == 0 || slices.Contains(f.kinds, kind)
}

// hub hands events to followers and keeps the newest. Only the loop uses it.
type hub struct {
	buffer    int
	followers map[*follower]bool
	kept      []history.Event // a ring once it is full
	oldest    int
	archive   *archive // keeps them over a restart; nil: memory alone does
}

func newHub() *hub { return &hub{buffer: followerBuffer, followers: map[*follower]bool{}} }

// add returns a new follower, or nil when there are too many.
func (h *hub) add(kinds []history.Kind) *follower {
	if len(h.followers) >= followersMax {
		return nil
	}
	f := &follower{kinds: kinds, events: make(chan history.Event, h.buffer)}
	h.followers[f] = true
	return f
}

// remove ends a follower. It may be called after it was cut off.
func (h *hub) remove(f *follower) {
	if h.followers[f] {
		delete(h.followers, f)
		close(f.events)
	}
}

// publish hands the events out and returns how many followers were too slow and had to go.
func (h *hub) publish(events []history.Event) (cut int) {
	for _, event := range events {
		h.keep(event)
		for f := range h.followers {
			if !f.wants(event.Fact.Kind()) {
				continue
			}
			select {
			case f.events <- event:
			default:
				h.remove(f)
				cut++
			}
		}
	}
	return cut
}

// keep remembers alarms, answers, hosts and what was done to databases; datapoints would push them out within minutes.
func (h *hub) keep(event history.Event) {
	switch event.Fact.Kind() {
	case history.KindAlarm, history.KindAnswer, history.KindHost, history.KindNote, history.KindDatabaseStep:
	default:
		return
	}
	if h.archive != nil {
		h.archive.add(event)
	}
	if len(h.kept) < keptMax {
		h.kept = append(h.kept, event)
		return
	}
	h.kept[h.oldest] = event
	h.oldest = (h.oldest + 1) % keptMax
}

// past returns the kept events, oldest first.
func (h *hub) past() []history.Event {
	return append(slices.Clone(h.kept[h.oldest:]), h.kept[:h.oldest]...)
}

func (h *hub) close() {
	for f := range h.followers {
		h.remove(f)
	}
}
