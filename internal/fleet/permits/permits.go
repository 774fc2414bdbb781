package permits

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// Permit is a service's one leave to be attacked, while a run holds it.
type Permit struct {
	Service string    `json:"service"`
	Run     string    `json:"run"`
	By      string    `json:"by"`
	Until   time.Time `json:"until"` // when it may be handed on though nobody gave it back
}

// Bucket keeps one value for each key, for a whole cluster. A write is done only where the caller has seen the last revision; else it is
// ErrChanged. After any other error nobody knows whether it was done. A read may be of an older revision.
type Bucket interface {
	Create(ctx context.Context, key string, value []byte) error // where there is none
	Put(ctx context.Context, key string, value []byte) error    // whatever there is
	Get(ctx context.Context, key string) (value []byte, revision uint64, err error)
	Update(ctx context.Context, key string, value []byte, revision uint64) error
	Delete(ctx context.Context, key string, revision uint64) error
}

// What a bucket answers beside its values.
var (
	ErrChanged = errors.New("another one has written meanwhile")
	ErrNone    = errors.New("there is no such key")
)

// Store gives permits out. They are decided by the outcome of writes alone: an entry is made once, and changed by who has seen its last
// revision. Reads only tell whom to name.
type Store struct {
	Bucket Bucket
	Blind  bool // planted bug: a permit is taken by writing it down
}

// Take takes the permits of all the services or none; now is the clock of who asks. A permit that another run holds is an error of kind
// drill.Refused. After any other error nobody knows whether the last one was written, so it is given back too.
func (s *Store) Take(ctx context.Context, services []string, wanted Permit, now time.Time) error {
	for i, service := range services {
		wanted.Service = service
		err := s.takeOne(ctx, wanted, now)
		if err == nil {
			continue
		}
		taken := services[:i]
		if drill.KindOf(err) != drill.Refused {
			taken = services[:i+1]
		}
		for _, other := range taken {
			err = errors.Join(err, s.Yield(ctx, other, wanted.Run))
		}
		return err
	}
	return nil
}

func (s *Store) takeOne(ctx context.Context, wanted Permit, now time.Time) error {
	text, err := json.Marshal(wanted)
	if err != nil {
		return err
	}
	if s.Blind {
		return s.Bucket.Put(ctx, wanted.Service, text)
	}
	if err := s.Bucket.Create(ctx, wanted.Service, text); !errors.Is(err, ErrChanged) {
		return err
	}
	value, revision, err := s.Bucket.Get(ctx, wanted.Service)
	if err != nil {
		return held(wanted.Service, Permit{Run: "not known: " + err.Error()})
	}
	var holder Permit
	if err := json.Unmarshal(value, &holder); err != nil || now.Before(holder.Until) {
		return held(wanted.Service, holder)
	}
	if err := s.Bucket.Update(ctx, wanted.Service, text, revision); !errors.Is(err, ErrChanged) {
		return err
	}
	return held(wanted.Service, holder)
}

// Look says of the permits what Take would, as far as that can be seen without taking any.
func (s *Store) Look(ctx context.Context, services []string, now time.Time) error {
	for _, service := range services {
		value, _, err := s.Bucket.Get(ctx, service)
		if errors.Is(err, ErrNone) {
			continue
		}
		if err != nil {
			return err
		}
		var holder Permit
		if err := json.Unmarshal(value, &holder); err != nil || now.Before(holder.Until) {
			return held(service, holder)
		}
	}
	return nil
}

// groupPrefix begins the name of the permit of a redundancy group. No service is called so.
const groupPrefix = "_group."

// Names are the permits that a run on services of redundancy groups needs, in the one order in which all take them.
func Names(services, groups []string) []string {
	names := make([]string, 0, len(services)+len(groups))
	for _, group := range groups {
		names = append(names, groupPrefix+group)
	}
	return append(names, services...)
}

func held(service string, holder Permit) error {
	what := "service " + service
	if group, is := strings.CutPrefix(service, groupPrefix); is {
		what = "redundancy group " + group
	}
	return &drill.Error{Op: "permit", Kind: drill.Refused, Err: fmt.Errorf("not attacking: run %s of %s holds the permit of %s, until %s at the latest", holder.Run, holder.By, what, holder.Until.Format(time.RFC3339)),
		Hint: fmt.Sprintf("wait for its end, or end it: firedrill fleet stop %s (of a drill: firedrill fleet drill stop %s)", holder.Run, holder.Run)}
}

// Yield gives a permit back, if it is still the run's. It may be called twice.
func (s *Store) Yield(ctx context.Context, service, run string) error {
	value, revision, err := s.Bucket.Get(ctx, service)
	if errors.Is(err, ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	var holder Permit
	if err := json.Unmarshal(value, &holder); err != nil || holder.Run != run {
		return err
	}
	if err := s.Bucket.Delete(ctx, service, revision); !errors.Is(err, ErrChanged) {
		return err
	}
	return nil // another one has it by now
}
