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
	recordsMax   = 1_000_000 // kept; the oldest go first
	recordBatch  = 1000
	recordWait   = 2 * time.Second
	recordSilent = 30 // of these waits in a row
)

// records are what is kept of drills that were judged, by service, the oldest first.
type records struct {
	mu    sync.RWMutex // guards the fields below
	known map[string]bool
	all   map[string][]fleet.Record
}

func openRecords(ctx context.Context, store *store) (*records, error) {
	stream, err := store.stream(ctx, jetstream.StreamConfig{Name: "HISTORY", Subjects: []string{"fd.history.>"}, Storage: jetstream.FileStorage, MaxMsgs: recordsMax, Discard: jetstream.DiscardOld})
	if err != nil {
		return nil, fmt.Errorf("fleet: open the history: %w", err)
	}
	r := &records{known: map[string]bool{}, all: map[string][]fleet.Record{}}
	info, err := stream.Info(ctx)
	if err != nil || info.State.Msgs == 0 {
		return r, err
	}
	reader, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return nil, fmt.Errorf("fleet: read the history: %w", err)
	}
	silent := 0
	for left := info.State.Msgs; left > 0; {
		batch, err := reader.Fetch(int(min(left, recordBatch)), jetstream.FetchMaxWait(recordWait))
		if err != nil {
			return nil, fmt.Errorf("fleet: read the history: %w", err)
		}
		got := uint64(0)
		for message := range batch.Messages() {
			var record fleet.Record
			if err := json.Unmarshal(message.Data(), &record); err != nil {
				return nil, fmt.Errorf("fleet: read the history: %w", err)
			}
			r.take(record)
			got++
		}
		left -= min(left, got)
		if silent++; got > 0 {
			silent = 0
		}
		// A machine that is busy answers late. It is asked again from where it stood, for a minute.
		if ctx.Err() != nil || silent > recordSilent {
			return nil, fmt.Errorf("fleet: read the history: it broke off %d before its end: %w", left, errors.Join(batch.Error(), ctx.Err(), errors.New("the engine does not answer")))
		}
	}
	return r, nil
}

// take puts a record at its place. The lock is held, or nobody else knows the records.
func (r *records) take(record fleet.Record) {
	if r.known[record.ID] {
		return
	}
	r.known[record.ID] = true
	list := r.all[record.Service]
	at := len(list)
	if at > 0 && list[at-1].ID > record.ID {
		at, _ = slices.BinarySearchFunc(list, record.ID, func(one fleet.Record, id string) int { return strings.Compare(one.ID, id) })
	}
	r.all[record.Service] = slices.Insert(list, at, record)
}

// heardRecord takes up what another server has kept.
func (c *Control) heardRecord(message *nats.Msg) {
	var record fleet.Record
	if json.Unmarshal(message.Data, &record) != nil {
		return
	}
	c.records.mu.Lock()
	defer c.records.mu.Unlock()
	c.records.take(record)
}

// Recorded reports whether a record is kept.
func (c *Control) Recorded(id string) bool {
	c.records.mu.RLock()
	defer c.records.mu.RUnlock()
	return c.records.known[id]
}

// KeepRecord keeps a record; it returns when it is on the disk. One that is known already changes nothing.
func (c *Control) KeepRecord(ctx context.Context, record fleet.Record) error {
	if err := errors.Join(fleet.CheckName("a run", record.ID), fleet.CheckName("a service", record.Service)); err != nil {
		return err
	}
	c.records.mu.Lock()
	defer c.records.mu.Unlock()
	if c.records.known[record.ID] {
		return nil
	}
	// Two servers that look at the same directory keep it once.
	if _, err := c.store.js.Publish(ctx, "fd.history."+strings.ReplaceAll(record.Service, ".", "_"), encode(record), jetstream.WithMsgID(record.ID)); err != nil {
		return fmt.Errorf("fleet: keep the record of %s: %w", record.ID, err)
	}
	c.records.take(record)
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
		at, _ = slices.BinarySearchFunc(list, before, func(one fleet.Record, id string) int { return strings.Compare(one.ID, id) })
	}
	for i := at - 1; i >= 0 && len(page) < count; i-- {
		page = append(page, list[i])
	}
	return page, len(list)
}
