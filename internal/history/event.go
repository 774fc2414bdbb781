package history

import (
	"encoding/json"
	"fmt"
	"time"
)

// Kind names a type of fact. Kinds are part of the log format: append, never rename.
type Kind string

// Fact is the content of an event. Every type in facts.go is one, always used by pointer.
type Fact interface {
	Kind() Kind
}

// Event is one fact with its time and place.
type Event struct {
	Seq    int64     // position in a chained log, from 1; 0 outside of a log
	At     time.Time // when it happened, by the clock of Source
	Source string    // the host or part that saw it: "ci", "bookstore-api-green", "watch"
	Fact   Fact      // what happened; never nil
}

// New returns an event outside of any log.
func New(at time.Time, source string, fact Fact) Event {
	return Event{At: at, Source: source, Fact: fact}
}

type wireEvent struct {
	Seq    int64           `json:"seq,omitempty"`
	At     time.Time       `json:"at"`
	Kind   Kind            `json:"kind"`
	Source string          `json:"source,omitempty"`
	Data   json.RawMessage `json:"data"`
}

// MarshalJSON writes the event on one line.
func (e Event) MarshalJSON() ([]byte, error) {
	if e.Fact == nil {
		return nil, fmt.Errorf("history: event %d has no fact", e.Seq)
	}
	data, err := json.Marshal(e.Fact)
	if err != nil {
		return nil, fmt.Errorf("history: encode %s: %w", e.Fact.Kind(), err)
	}
	return json.Marshal(wireEvent{Seq: e.Seq, At: e.At, Kind: e.Fact.Kind(), Source: e.Source, Data: data})
}

// UnmarshalJSON reads an event. A kind that this version does not know is kept as Unknown, so that a newer log can be carried on.
func (e *Event) UnmarshalJSON(line []byte) error {
	var wire wireEvent
	if err := json.Unmarshal(line, &wire); err != nil {
		return fmt.Errorf("history: not an event: %w", err)
	}
	fact := newFact(wire.Kind)
	if unknown, ok := fact.(*Unknown); ok {
		unknown.Data = wire.Data
	} else if err := json.Unmarshal(wire.Data, fact); err != nil {
		return fmt.Errorf("history: event %d, kind %s: %w", wire.Seq, wire.Kind, err)
	}
	*e = Event{Seq: wire.Seq, At: wire.At, Source: wire.Source, Fact: fact}
	return nil
}
