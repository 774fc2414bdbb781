package permits

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"
)

// stream is a bucket in JetStream, whose leader compares and sets.
type stream struct{ kv jetstream.KeyValue }

// Open finds the bucket of permits in JetStream, and makes it where there is none.
func Open(ctx context.Context, js jetstream.JetStream) (*Store, error) {
	kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: "permits", History: 1, Storage: jetstream.FileStorage})
	if err != nil {
		return nil, fmt.Errorf("fleet: open permits: %w", err)
	}
	return &Store{Bucket: stream{kv}}, nil
}

func (s stream) Create(ctx context.Context, key string, value []byte) error {
	_, err := s.kv.Create(ctx, key, value)
	if errors.Is(err, jetstream.ErrKeyExists) {
		return ErrChanged
	}
	return err
}

func (s stream) Put(ctx context.Context, key string, value []byte) error {
	_, err := s.kv.Put(ctx, key, value)
	return err
}

func (s stream) Get(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	entry, err := s.kv.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, ErrNone
	}
	if err != nil {
		return nil, 0, err
	}
	return entry.Value(), entry.Revision(), nil
}

func (s stream) Update(ctx context.Context, key string, value []byte, revision uint64) error {
	_, err := s.kv.Update(ctx, key, value, revision)
	return changed(err)
}

func (s stream) Delete(ctx context.Context, key string, revision uint64) error {
	return changed(s.kv.Delete(ctx, key, jetstream.LastRevision(revision)))
}

// changed tells that somebody was faster, alike for one server and for a cluster, whose codes differ.
func changed(err error) error {
	if errors.Is(err, jetstream.ErrKeyRevisionMismatch) {
		return ErrChanged
	}
	return err
}
