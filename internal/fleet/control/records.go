package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firedrill/internal/fleet"
)

const (
	recordsStream = "HISTORY"
	recordBatch   = 1000
	recordWait    = 2 * time.Second
	recordSilent  = 30 // of these waits in a row

	// A reader in a cluster now and then waits for a consumer that never answers; without a sign of life for two of these it is made anew. By itself that takes half a minute.
	recordBeat   = time.Second
	recordExpiry = 10 * time.Second

	recordsAgain = time.Minute
)

// records are what is kept of drills that were judged, by service, the oldest first.
type records struct {
	stream   jetstream.Stream
	catching sync.Mutex // one that reads at a time; guards reached
	reached  uint64     // place in the stream up to which everything was taken up

	mu    sync.RWMutex      // guards the fields below
	known map[string]uint64 // the place in the stream; 0: it is not known here
	all   map[string][]keptRecord
	// By service and drill: the newest verdict that says something.
	rehearsed map[string]rehearsed

	packer *packer
}

// keptRecord is a packed record.
type keptRecord struct{ id, text string }

func (r *records) read(one keptRecord) fleet.Record { return unpack[fleet.Record](r.packer, one.text) }

// placeOf is the place of a record in the list of a service, or where it would be.
func placeOf(list []keptRecord, id string) int {
	at, _ := slices.BinarySearchFunc(list, id, func(one keptRecord, id string) int { return strings.Compare(one.id, id) })
	return at
}

func openRecords(ctx context.Context, store *store) (*records, error) {
	stream, err := store.stream(ctx, jetstream.StreamConfig{Name: recordsStream, Subjects: []string{"fd.history.>"}, Storage: jetstream.FileStorage, MaxMsgs: -1})
	if err != nil {
		return nil, fmt.Errorf("fleet: open the history: %w", err)
	}
	r := &records{stream: stream, known: map[string]uint64{}, all: map[string][]keptRecord{}, rehearsed: map[string]rehearsed{}, packer: newPacker()}
	return r, store.again(ctx, recordsStream, r.catchUp)
}

// catchUp reads what was kept since it was called last, and returns when it is at hand.
func (r *records) catchUp(ctx context.Context) error {
	r.catching.Lock()
	defer r.catching.Unlock()
	broken := func(err error) error { return unread{fmt.Errorf("fleet: read the history: %w", err)} }
	info, err := r.stream.Info(ctx)
	if err != nil {
		return broken(err)
	}
	if info.State.LastSeq <= r.reached || info.State.Msgs == 0 {
		return nil
	}
	reader, err := r.stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.reached + 1})
	if err != nil {
		return broken(err)
	}
	if first := reader.CachedInfo(); r.reached > 0 && first != nil && first.NumPending == 0 {
		return nil // what came since was removed, or is not at that node yet
	}
	// One reader for all: one that fetches makes a consumer anew for each batch.
	messages, err := reader.Messages(jetstream.PullMaxMessages(recordBatch), jetstream.PullExpiry(recordExpiry), jetstream.PullHeartbeat(recordBeat))
	if err != nil {
		return broken(err)
	}
	defer messages.Stop()
	silent := 0
	for left := info.State.Msgs; left > 0; {
		message, err := messages.Next(jetstream.NextMaxWait(recordWait))
		if err == nil {
			var record fleet.Record
			if err := json.Unmarshal(message.Data(), &record); err != nil {
				return fmt.Errorf("fleet: read the history: %w", err)
			}
			at, err := message.Metadata()
			if err != nil {
				return fmt.Errorf("fleet: read the history: %w", err)
			}
			r.mu.Lock()
			r.take(record, at.Sequence.Stream)
			r.mu.Unlock()
			r.reached, left, silent = at.Sequence.Stream, at.NumPending, 0
			continue
		}
		// A machine that is busy answers late. It is asked again from where it stood, for a minute.
		if silent++; ctx.Err() != nil || silent > recordSilent || errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return broken(fmt.Errorf("it broke off %d before its end: %w", left, errors.Join(err, ctx.Err(), errors.New("the engine does not answer"))))
		}
	}
	return nil
}

// keepRecords reads now and then what others have kept, until ctx ends: a message that tells of it may be lost.
func (c *Control) keepRecords(ctx context.Context) {
	tick := time.NewTicker(recordsAgain)
	defer tick.Stop()
	for {
		if c.options.Offhand {
			return
		}
		if err := c.records.catchUp(ctx); err != nil && ctx.Err() == nil {
			c.log.DebugContext(ctx, "what others have kept of drills is not read yet", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// take puts a record at its place. The lock is held.
func (r *records) take(record fleet.Record, at uint64) {
	was, known := r.known[record.ID]
	r.known[record.ID] = max(was, at)
	if known {
		return
	}
	r.note(record)
	list := r.all[record.Service]
	to := len(list)
	if to > 0 && list[to-1].id > record.ID {
		to = placeOf(list, record.ID)
	}
	r.all[record.Service] = slices.Insert(list, to, keptRecord{record.ID, pack(r.packer, record)})
}

// heardRecord takes up what another server has kept.
func (c *Control) heardRecord(message *nats.Msg) {
	var record fleet.Record
	if json.Unmarshal(message.Data, &record) != nil {
		return
	}
	c.records.mu.Lock()
	defer c.records.mu.Unlock()
	c.records.take(record, 0)
}

// Recorded reports whether a record is kept, or so old that it is kept no more.
func (c *Control) Recorded(id string) bool {
	old, _ := c.retained.get(horizonKey)
	return id <= old.Verdict || c.records.has(id)
}

func (r *records) has(id string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, known := r.known[id]
	return known
}

// KeepRecord keeps a record; it returns when it is on the disk. One that is known already changes nothing.
func (c *Control) KeepRecord(ctx context.Context, record fleet.Record) error {
	if err := errors.Join(fleet.CheckName("a run", record.ID), fleet.CheckName("a service", record.Service)); err != nil {
		return err
	}
	c.records.mu.Lock()
	defer c.records.mu.Unlock()
	if _, known := c.records.known[record.ID]; known {
		return nil
	}
	// Two servers that look at the same directory keep it once.
	kept, err := c.store.publish(ctx, "fd.history."+strings.ReplaceAll(record.Service, ".", "_"), encode(record), jetstream.WithMsgID(record.ID))
	if err != nil {
		return fmt.Errorf("fleet: keep the record of %s: %w", record.ID, err)
	}
	c.records.take(record, kept.Sequence)
	return nil
}

// RecordedServices names the services with records.
func (c *Control) RecordedServices() []string {
	c.records.mu.RLock()
	defer c.records.mu.RUnlock()
	return slices.Sorted(maps.Keys(c.records.all))
}

// Records returns records of a service, the newest first, from the one before a name on, and how many there are in all.
func (c *Control) Records(service, before string, count int) (page []fleet.Record, all int) {
	c.records.mu.RLock()
	defer c.records.mu.RUnlock()
	list := c.records.all[service]
	at := len(list)
	if before != "" {
		at = placeOf(list, before)
	}
	for i := at - 1; i >= 0 && len(page) < count; i-- {
		page = append(page, c.records.read(list[i]))
	}
	return page, len(list)
}
