package control

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firedrill/internal/drill"
)

const (
	replicasWanted = 3                      // where there are servers for them: one may go
	replicasMax    = 5                      // more than these JetStream does not keep
	storeTry       = 2 * time.Second        // one try to open what is kept
	storeAgain     = 250 * time.Millisecond // between tries
	storeSay       = 10 * time.Second       // between lines that say that it is waited for
	storeGrace     = 3 * time.Second        // an engine that is coming up lacks what it will have
)

// store is where everything is kept: JetStream in this process, in a cluster of them, or in an engine that others run.
type store struct {
	js       jetstream.JetStream
	log      *slog.Logger
	prefix   string            // of names, where others may have names too
	replicas int               // 0: as many as fit, one or three
	complain func() error      // what the engine said last of what is not permitted; nil: nothing
	what     func() string     // who is waited for
	cure     func(error) error // a problem that waiting does not solve, with its cure; nil: it may pass

	keeping *keeping // nil: what is kept is others' to look after

	closing <-chan struct{} // the server ends

	deaf     bool // planted bug: a reader that has ended is not made anew
	unfenced bool // planted bug: a write counts whatever was written since
}

// bucket opens a bucket, and makes it if it is not there.
func (s *store) bucket(ctx context.Context, name string) (jetstream.KeyValue, error) {
	config := jetstream.KeyValueConfig{Bucket: s.prefix + name, History: 1, Storage: jetstream.FileStorage}
	var kv jetstream.KeyValue
	return kv, s.make(ctx, name, func(ctx context.Context, replicas int) error {
		had, err := s.replicasOf(ctx, "KV_"+config.Bucket)
		if err != nil {
			return err
		}
		config.Replicas = max(replicas, had)
		kv, err = s.js.CreateOrUpdateKeyValue(ctx, config)
		return err
	})
}

// stream opens a stream, and makes it if it is not there.
func (s *store) stream(ctx context.Context, config jetstream.StreamConfig) (jetstream.Stream, error) {
	config.Name = strings.ToUpper(s.prefix) + config.Name
	var stream jetstream.Stream
	return stream, s.make(ctx, config.Name, func(ctx context.Context, replicas int) error {
		had, err := s.replicasOf(ctx, config.Name)
		if err != nil {
			return err
		}
		config.Replicas = max(replicas, had)
		stream, err = s.js.CreateOrUpdateStream(ctx, config)
		return err
	})
}

// publish keeps a message; it returns when that is done.
func (s *store) publish(ctx context.Context, subject string, text []byte, options ...jetstream.PublishOpt) (kept *jetstream.PubAck, err error) {
	err = s.keeping.during(ctx, func(ctx context.Context) error {
		kept, err = s.js.Publish(ctx, subject, text, options...)
		return err
	})
	return kept, err
}

// tried writes something that nobody needs, and returns when it is kept.
func (s *store) tried(ctx context.Context, by string) error {
	kv, err := s.js.KeyValue(ctx, s.prefix+aboutBucket)
	if err != nil {
		return err
	}
	_, err = kv.Put(ctx, "tried."+by, []byte("{}"))
	return err
}

// replicasOf is how often a stream is kept that is there; 0 when there is none. That is never lowered.
func (s *store) replicasOf(ctx context.Context, name string) (int, error) {
	stream, err := s.js.Stream(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return 0, nil
	case err != nil:
		return 0, err
	}
	return stream.CachedInfo().Config.Replicas, nil
}

// keptBy reports whether a stream is to be kept by a server of a cluster.
func (s *store) keptBy(ctx context.Context, stream, server string) (bool, error) {
	kept, err := s.js.Stream(ctx, stream)
	if err != nil {
		return false, err
	}
	cluster := kept.CachedInfo().Cluster
	if cluster == nil {
		return true, nil
	}
	return cluster.Leader == server || slices.ContainsFunc(cluster.Replicas, func(one *jetstream.PeerInfo) bool { return one.Name == server }), nil
}

// make tries until it is done, with as many replicas as there is room for. What does not pass by itself ends it.
func (s *store) make(ctx context.Context, name string, do func(ctx context.Context, replicas int) error) error {
	replicas := cmp.Or(s.replicas, replicasWanted)
	began, said := time.Now(), time.Now()
	for {
		try, end := context.WithTimeout(ctx, storeTry)
		err := do(try, replicas)
		end()
		switch {
		case err == nil:
			return nil
		case tooMany(err) && s.replicas == 0 && replicas > 1:
			replicas = 1
			continue
		case tooMany(err) && s.replicas > 0:
			return &drill.Error{Op: "--replicas", Kind: drill.Unsupported, Err: fmt.Errorf("%s cannot be kept %d times: %w", name, s.replicas, err), Hint: "as many servers with JetStream are needed; 0 takes as many as fit"}
		}
		if known := s.cure(err); known != nil && time.Since(began) > storeGrace {
			return known
		}
		if time.Since(said) > storeSay {
			said = time.Now()
			s.log.WarnContext(ctx, "waiting for what is kept", "of", name, "by", s.what(), "error", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("fleet: open %s: %w", name, errors.Join(err, ctx.Err()))
		case <-time.After(storeAgain):
		}
	}
}

// unread is the error of something that cannot be read just now, and may be a moment later.
type unread struct{ error }

func (u unread) Unwrap() error { return u.error }

// again reads again, for a while, what cannot be read just now: a cluster that chooses anew breaks readers off.
func (s *store) again(ctx context.Context, name string, read func(context.Context) error) error {
	for began := time.Now(); ; {
		err := read(ctx)
		if err == nil || ctx.Err() != nil || !errors.As(err, &unread{}) || time.Since(began) > rereadMax {
			return err
		}
		s.log.WarnContext(ctx, "what is kept is read again", "of", name, "error", err)
		select {
		case <-s.closing:
			return err
		case <-ctx.Done():
			return err
		case <-time.After(storeAgain):
		}
	}
}

const (
	codeNoPeers             jetstream.ErrorCode = 10005 // no server has room for one more replica
	codeReplicasUnsupported jetstream.ErrorCode = 10074 // one server alone
)

func tooMany(err error) bool {
	var refused *jetstream.APIError
	return errors.As(err, &refused) && (refused.ErrorCode == codeNoPeers || refused.ErrorCode == codeReplicasUnsupported)
}

// about is what a store says of itself: two fleets in one would order each other's hosts.
type about struct {
	Fleet string `json:"fleet"`
	Moved string `json:"moved,omitempty"` // by which move it came there
}

const aboutBucket = "about"

// claim sees to it that the store is this fleet's.
func (s *store) claim(ctx context.Context, fleet string) error {
	kept, err := openShelf[about](ctx, s, aboutBucket, nil)
	if err != nil {
		return err
	}
	defer kept.close()
	had, known := kept.get("fleet")
	if !known {
		if err := kept.put(ctx, "fleet", about{Fleet: fleet}); err == nil || !errors.Is(err, errOvertaken) {
			return err
		}
		if err := kept.read(ctx); err != nil { // another server was faster
			return err
		}
		had, _ = kept.get("fleet")
	}
	if had.Fleet != fleet {
		return &drill.Error{Op: "fleet", Kind: drill.Refused, Err: fmt.Errorf("what is kept there is of fleet %s, and this server is of %s", had.Fleet, fleet),
			Hint: "all servers of a fleet have the same identity: stop this one, copy fleet/identity.json from the data directory of the first one, and start again; another fleet needs an account of its own"}
	}
	return nil
}

// complaints remembers what the engine said last about what this server may not do.
type complaints struct {
	mu   sync.Mutex // guards last
	last error
}

func (c *complaints) heard(err error) {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = err
}

func (c *complaints) get() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}
