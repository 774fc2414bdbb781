package control

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

// shelf keeps values of one type by key, on disk in a bucket and at hand in memory.
type shelf[T any] struct {
	bucket  jetstream.KeyValue
	writing sync.Mutex   // one write at a time; who reads does not wait for the disk
	mu      sync.RWMutex // guards all
	all     map[string]T
}

func openShelf[T any](ctx context.Context, js jetstream.JetStream, bucket string) (*shelf[T], error) {
	kv, err := js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket, History: 1, Storage: jetstream.FileStorage})
	if err != nil {
		return nil, fmt.Errorf("fleet: open %s: %w", bucket, err)
	}
	s := &shelf[T]{bucket: kv, all: map[string]T{}}
	// One stream of all values: asking for each of a hundred thousand takes minutes.
	watcher, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("fleet: read %s: %w", bucket, err)
	}
	for entry := range watcher.Updates() {
		if entry == nil { // all that was kept has come
			return s, watcher.Stop()
		}
		var value T
		if err := json.Unmarshal(entry.Value(), &value); err != nil {
			return nil, errors.Join(fmt.Errorf("fleet: read %s %s: %w", bucket, entry.Key(), err), watcher.Stop())
		}
		s.all[entry.Key()] = value
	}
	return nil, fmt.Errorf("fleet: read %s: %w", bucket, cmp.Or(ctx.Err(), errors.New("it broke off")))
}

func (s *shelf[T]) get(key string) (T, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	value, ok := s.all[key]
	return value, ok
}

// put returns when the value is on the disk.
func (s *shelf[T]) put(ctx context.Context, key string, value T) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if _, err := s.bucket.Put(ctx, key, text); err != nil {
		return fmt.Errorf("fleet: keep %s: %w", key, err)
	}
	s.only(key, value)
	return nil
}

// only changes the value in memory, where the disk failed.
func (s *shelf[T]) only(key string, value T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[key] = value
}

func (s *shelf[T]) values() []T {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Values(s.all))
}

// find returns the first problem that look has with a value; ten thousand of them are not copied for it.
func (s *shelf[T]) find(look func(T) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, value := range s.all {
		if err := look(value); err != nil {
			return err
		}
	}
	return nil
}

// members are all who may speak.
type members struct {
	*shelf[fleet.Member]
	changing sync.Mutex // one addition at a time, so that a name is given once
}

// add lets a member in. The same key may come again under its own name, unless it was put out.
func (m *members) add(ctx context.Context, member fleet.Member) error {
	m.changing.Lock()
	defer m.changing.Unlock()
	if err := m.find(func(other fleet.Member) error {
		switch {
		case other.Key == member.Key && other.Revoked != nil:
			return &drill.Error{Op: "join", Kind: drill.Refused, Err: errors.New("this key was put out"), Hint: "remove the agent's directory, and join again with a fresh key"}
		case other.Key == member.Key && other.Role != member.Role:
			return &drill.Error{Op: "join", Kind: drill.Refused, Err: fmt.Errorf("this key is of %s %s", other.Role, other.Name)}
		case other.Key != member.Key && other.Name == member.Name && other.Revoked == nil:
			return &drill.Error{Op: "join", Kind: drill.Refused, Err: fmt.Errorf("there is a %s %q already", other.Role, member.Name), Hint: "name it otherwise with --name, or put the old one out: firedrill fleet revoke " + member.Name}
		}
		return nil
	}); err != nil {
		return err
	}
	return m.put(ctx, member.Key, member)
}

func (m *members) named(name string) (fleet.Member, bool) {
	for _, member := range m.values() {
		if member.Name == name && member.Revoked == nil {
			return member, true
		}
	}
	return fleet.Member{}, false
}

// list returns all of some roles, sorted by name.
func (m *members) list(keep func(fleet.Member) bool) []fleet.Member {
	all := slices.DeleteFunc(m.values(), func(member fleet.Member) bool { return !keep(member) })
	slices.SortFunc(all, func(a, b fleet.Member) int { return strings.Compare(a.Name+a.Key, b.Name+b.Key) })
	return all
}

// leave is what is kept of a token.
type leave struct {
	ID      string    `json:"id"`
	Uses    int       `json:"uses"` // left
	Expires time.Time `json:"expires"`
	By      string    `json:"by"`
}

type tokens struct {
	*shelf[leave]
	using sync.Mutex // one use at a time
}

func (t *tokens) valid(id string) bool {
	l, ok := t.get(id)
	return ok && l.Uses > 0 && time.Now().Before(l.Expires)
}

// use takes one use off a token.
func (t *tokens) use(ctx context.Context, id string) (leave, error) {
	t.using.Lock()
	defer t.using.Unlock()
	if !t.valid(id) {
		return leave{}, &drill.Error{Op: "join", Kind: drill.Refused, Err: errors.New("the token is used up or has expired"), Hint: "make another one: firedrill fleet token"}
	}
	l, _ := t.get(id)
	l.Uses--
	return l, t.put(ctx, id, l)
}
