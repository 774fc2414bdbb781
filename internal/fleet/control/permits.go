package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"firedrill/internal/drill"
)

// permit is a service's one leave to be attacked, while a run holds it.
type permit struct {
	Service string    `json:"service"`
	Run     string    `json:"run"`
	By      string    `json:"by"`
	Until   time.Time `json:"until"` // when it may be handed on though nobody gave it back
}

// permits are decided by the outcome of writes alone: a bucket's entry is made once, and changed by who has seen its last revision. Reads may
// be stale in a cluster; they only tell whom to name.
type permits struct {
	bucket jetstream.KeyValue

	blind bool // planted bug: a permit is taken by writing it down
}

func openPermits(ctx context.Context, js jetstream.JetStream) (*permits, error) {
	kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "permits", History: 1, Storage: jetstream.FileStorage})
	if err != nil {
		return nil, fmt.Errorf("fleet: open permits: %w", err)
	}
	return &permits{bucket: kv}, nil
}

// take takes all the permits or none.
func (p *permits) take(ctx context.Context, services []string, wanted permit, now time.Time) error {
	var taken []string
	for _, service := range services {
		wanted.Service = service
		if err := p.takeOne(ctx, wanted, now); err != nil {
			for _, other := range taken {
				err = errors.Join(err, p.yield(ctx, other, wanted.Run))
			}
			return err
		}
		taken = append(taken, service)
	}
	return nil
}

func (p *permits) takeOne(ctx context.Context, wanted permit, now time.Time) error {
	text, err := json.Marshal(wanted)
	if err != nil {
		return err
	}
	if p.blind {
		_, err := p.bucket.Put(ctx, wanted.Service, text)
		return err
	}
	_, err = p.bucket.Create(ctx, wanted.Service, text)
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return err
	}
	entry, err := p.bucket.Get(ctx, wanted.Service)
	if err != nil {
		return held(wanted.Service, permit{Run: "not known: " + err.Error()})
	}
	var holder permit
	if err := json.Unmarshal(entry.Value(), &holder); err != nil || now.Before(holder.Until) {
		return held(wanted.Service, holder)
	}
	if _, err := p.bucket.Update(ctx, wanted.Service, text, entry.Revision()); err != nil {
		return held(wanted.Service, holder)
	}
	return nil
}

func held(service string, holder permit) error {
	return &drill.Error{Op: "permit", Kind: drill.Refused, Err: fmt.Errorf("not attacking: run %s of %s holds the permit of service %s until %s", holder.Run, holder.By, service, holder.Until.Format(time.RFC3339)),
		Hint: "wait for its end, or end it: firedrill halt --all"}
}

// yield gives a permit back, if it is still the run's.
func (p *permits) yield(ctx context.Context, service, run string) error {
	entry, err := p.bucket.Get(ctx, service)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	var holder permit
	if err := json.Unmarshal(entry.Value(), &holder); err != nil || holder.Run != run {
		return err
	}
	err = p.bucket.Delete(ctx, service, jetstream.LastRevision(entry.Revision()))
	if errors.Is(err, jetstream.ErrKeyExists) {
		return nil // another one has it by now
	}
	return err
}
