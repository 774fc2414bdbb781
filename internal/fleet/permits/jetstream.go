package permits

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/nats-io/nats.go/jetstream"
)

// stream is a bucket in JetStream, whose leader compares and sets.
type stream struct{ kv jetstream.KeyValue }

// Over gives permits out of a bucket in JetStream.
func Over(kv jetstream.KeyValue) *Store { return &Store{Bucket: stream{kv}} }

// Holders are those who hold a permit, by service, as far as it can be read; a bucket other than one in JetStream names none.
func (s *Store) Holders(ctx context.Context) (map[string]Permit, error) {
	kept, ok := s.Bucket.(stream)
	if !ok {
		return nil, nil
	}
	services, err := kept.kv.Keys(ctx)
	if errors.Is(err, jetstream.ErrNoKeysFound) {
		return nil, nil
	}
	all := map[string]Permit{}
	for _, service := range services {
		var holder Permit
		if value, _, err := kept.Get(ctx, service); err == nil && json.Unmarshal(value, &holder) == nil {
			all[service] = holder
		}
	}
	return all, err
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
