package permits

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"firedrill/internal/drill"
)

// memory is a bucket. late answers nothing to the writes of a key, though they are done.
type memory struct {
	values    map[string][]byte
	revisions map[string]uint64
	last      uint64
	late      string
}

var errSilent = errors.New("no answer")

func (m *memory) set(key string, value []byte, seen uint64) error {
	if m.revisions[key] != seen {
		return ErrChanged
	}
	m.last++
	m.values[key], m.revisions[key] = value, m.last
	if value == nil {
		delete(m.values, key)
		delete(m.revisions, key)
	}
	if key == m.late {
		m.late = ""
		return errSilent
	}
	return nil
}

func (m *memory) Create(_ context.Context, key string, value []byte) error {
	return m.set(key, value, 0)
}

func (m *memory) Put(_ context.Context, key string, value []byte) error {
	return m.set(key, value, m.revisions[key])
}

func (m *memory) Update(_ context.Context, key string, value []byte, revision uint64) error {
	return m.set(key, value, revision)
}

func (m *memory) Delete(_ context.Context, key string, revision uint64) error {
	return m.set(key, nil, revision)
}

func (m *memory) Get(_ context.Context, key string) ([]byte, uint64, error) {
	if m.revisions[key] == 0 {
		return nil, 0, ErrNone
	}
	return m.values[key], m.revisions[key], nil
}

func TestPermitsAreOnesAloneAndAllOrNone(t *testing.T) {
	ctx, now := t.Context(), time.Date(2026, 11, 29, 10, 0, 0, 0, time.UTC)
	bucket := &memory{values: map[string][]byte{}, revisions: map[string]uint64{}}
	store := &Store{Bucket: bucket}
	wanted := func(run string) Permit { return Permit{Run: run, By: "ops", Until: now.Add(time.Minute)} }
	held := func() []string {
		var all []string
		for key := range bucket.values {
			all = append(all, key)
		}
		slices.Sort(all)
		return all
	}
	if err := store.Take(ctx, []string{"a", "b"}, wanted("one"), now); err != nil {
		t.Fatal(err)
	}
	err := store.Take(ctx, []string{"c", "b"}, wanted("two"), now)
	if drill.KindOf(err) != drill.Refused || !strings.Contains(err.Error(), "run one of ops holds the permit of service b") || !slices.Equal(held(), []string{"a", "b"}) {
		t.Errorf("what is held: %v, and %v are held", err, held())
	}
	// A look says what Take would, and takes nothing.
	for at, want := range map[time.Time]bool{now: false, now.Add(time.Minute - 1): false, now.Add(time.Minute): true} {
		if err := store.Look(ctx, []string{"c", "b"}, at); (err == nil) != want || err != nil && (drill.KindOf(err) != drill.Refused || !strings.Contains(drill.HintOf(err), "fleet stop one")) {
			t.Errorf("a look at %s: %v", at, err)
		}
	}
	if err := store.Look(ctx, []string{"c"}, now); err != nil || !slices.Equal(held(), []string{"a", "b"}) {
		t.Errorf("a look at what is free: %v, and %v are held", err, held())
	}
	if err := store.Take(ctx, []string{"b"}, wanted("two"), now.Add(time.Minute-1)); drill.KindOf(err) != drill.Refused {
		t.Errorf("a moment before its end: %v", err)
	}
	if err := store.Yield(ctx, "b", "two"); err != nil || !slices.Equal(held(), []string{"a", "b"}) {
		t.Errorf("another one's was given back: %v, and %v are held", err, held())
	}
	if err := store.Take(ctx, []string{"b"}, wanted("two"), now.Add(time.Minute)); err != nil {
		t.Errorf("at its end: %v", err)
	}
	if err := store.Yield(ctx, "b", "one"); err != nil || !slices.Equal(held(), []string{"a", "b"}) {
		t.Errorf("one that was handed on was given back by the first: %v, and %v are held", err, held())
	}
	for range 2 {
		if err := errors.Join(store.Yield(ctx, "a", "one"), store.Yield(ctx, "b", "two")); err != nil || len(held()) > 0 {
			t.Errorf("given back: %v, and %v are held", err, held())
		}
	}
	// A write of which nobody knows is taken back: else the service would be closed for as long as the run would have lasted.
	bucket.late = "b"
	if err := store.Take(ctx, []string{"a", "b"}, wanted("three"), now); !errors.Is(err, errSilent) || drill.KindOf(err) == drill.Refused || len(held()) > 0 {
		t.Errorf("without an answer: %v, and %v are held", err, held())
	}
	bucket.late = "b"
	if err := errors.Join(store.Take(ctx, []string{"a"}, wanted("four"), now), store.Take(ctx, []string{"b"}, wanted("five"), now)); !errors.Is(err, errSilent) || !slices.Equal(held(), []string{"a"}) {
		t.Errorf("another run's was given back too: %v, and %v are held", err, held())
	}
	store.Blind = true
	if err := store.Take(ctx, []string{"a"}, wanted("six"), now); err != nil {
		t.Errorf("the planted bug refuses: %v", err)
	}
}
