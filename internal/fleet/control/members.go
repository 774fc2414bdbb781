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

// shelf keeps values of one type by key, on disk in a bucket and at hand in memory. Servers that share the bucket share the shelf: what another
// one writes is taken up as it comes, and a write counts only if nobody has written the key since what is at hand here.
type shelf[T any] struct {
	bucket  jetstream.KeyValue
	store   *store
	writing sync.Mutex   // one write at a time; who reads does not wait for the disk
	telling sync.Mutex   // news come in the order of what changed
	mu      sync.RWMutex // guards the fields below
	all     map[string]onShelf[T]
	reached uint64 // place in the bucket up to which everything was taken up
	watcher jetstream.KeyWatcher
	news    func(key string, value T) // told of each new value, whoever wrote it; may be nil

	// settled reports, from its text, that nothing more will become of a value, as a rule. Such values are read from their text when they are asked for: a
	// start must not take longer with each year; readOne is told of each then. From then on they are packed: memory must not grow much with each year.
	// Both may be nil.
	settled func(key string, text []byte) bool
	readOne func(key string, value T)
	packer  *packer // of settled values

	unsaved map[string]bool // values that are at hand here alone, because they could not be kept

	stuck bool // planted bug: what was packed once stays
}

// onShelf is a value with its revision in the bucket.
type onShelf[T any] struct {
	value    *T     // nil: it is in the text
	text     string // of a value that is settled, packed or in JSON
	packed   bool
	revision uint64
}

// errOvertaken is wrapped when somebody else has written a key since it was read here.
var errOvertaken = errors.New("another server has written it meanwhile")

func openShelf[T any](ctx context.Context, store *store, bucket string, news func(key string, value T)) (*shelf[T], error) {
	return openSettled(ctx, store, bucket, news, nil, nil)
}

// openSettled is openShelf for many values of which most are settled.
func openSettled[T any](ctx context.Context, store *store, bucket string, news func(key string, value T), settled func(key string, text []byte) bool, readOne func(key string, value T)) (*shelf[T], error) {
	kv, err := store.bucket(ctx, bucket)
	if err != nil {
		return nil, err
	}
	s := &shelf[T]{bucket: kv, store: store, all: map[string]onShelf[T]{}, unsaved: map[string]bool{}, news: news, settled: settled, readOne: readOne, packer: newPacker()}
	return s, store.again(ctx, bucket, s.read)
}

// read takes up all that is kept now, and what is written from now on. It may be called again: a reader whose server died is silent for a while. Then it goes on where
// the one before had come to: who takes over must not wait for years to be read.
func (s *shelf[T]) read(ctx context.Context) error {
	from, err := s.onward(ctx)
	if err != nil {
		return err
	}
	// One stream of all values: asking for each of a hundred thousand takes minutes. It outlives ctx, which bounds the beginning alone.
	watcher, err := s.bucket.WatchAll(context.WithoutCancel(ctx), from...)
	if err != nil {
		return unread{fmt.Errorf("fleet: read %s: %w", s.bucket.Bucket(), err)}
	}
	broken := func(err error) error {
		return errors.Join(fmt.Errorf("fleet: read %s: %w", s.bucket.Bucket(), err), watcher.Stop())
	}
	for {
		select {
		case entry, more := <-watcher.Updates():
			switch {
			case !more:
				return unread{broken(errors.New("it broke off"))}
			case entry != nil:
				if err := s.takeUp(entry, true); err != nil {
					return broken(err)
				}
				continue
			}
		case <-ctx.Done():
			return broken(ctx.Err())
		}
		break // all that was kept has come
	}
	s.mu.Lock()
	before := s.watcher
	s.watcher = watcher
	s.mu.Unlock()
	go func() {
		for entry := range watcher.Updates() {
			if entry != nil {
				_ = s.takeUp(entry, false) // what is not understood is of a newer server, and not ours to change: its revision is not known here
			}
		}
		s.resume(watcher)
	}()
	if before != nil {
		_ = before.Stop() // it may have ended
	}
	return nil
}

// resume reads anew when a reader has ended by itself. The library makes one anew that is silent; but it gives one up for good when the engine, in the middle
// of choosing anew, answers with something else than that it is away.
func (s *shelf[T]) resume(ended jetstream.KeyWatcher) {
	for ctx := context.Background(); ; {
		s.mu.RLock()
		stands := s.watcher == ended // nobody has read anew or closed it
		s.mu.RUnlock()
		if !stands || s.store.deaf {
			return
		}
		select {
		case <-s.store.closing:
			return
		case <-time.After(storeAgain):
		}
		if err := s.store.again(ctx, s.bucket.Bucket(), s.read); err != nil && !errors.As(err, &unread{}) {
			return // what is there is not understood, now as later
		}
	}
}

// sync returns when all that was kept before is at hand here.
func (s *shelf[T]) sync(ctx context.Context) error {
	reached, last, err := s.ends(ctx)
	if err != nil || reached >= last {
		return err
	}
	return s.read(ctx)
}

// ends are the places up to which everything was taken up here, and up to which there is anything.
func (s *shelf[T]) ends(ctx context.Context) (reached, last uint64, err error) {
	s.mu.RLock()
	reached = s.reached
	s.mu.RUnlock()
	status, err := s.bucket.Status(ctx)
	if err != nil {
		return reached, 0, unread{fmt.Errorf("fleet: read %s: %w", s.bucket.Bucket(), err)}
	}
	if full, ok := status.(*jetstream.KeyValueBucketStatus); ok {
		return reached, full.StreamInfo().State.LastSeq, nil
	}
	return 0, 1, nil // of another library: everything is read
}

// onward is from where on there is something to be read: from the begin, the first time and where everything was made anew.
func (s *shelf[T]) onward(ctx context.Context) ([]jetstream.WatchOpt, error) {
	s.mu.RLock()
	first := s.reached == 0
	s.mu.RUnlock()
	if first {
		return nil, nil
	}
	reached, last, err := s.ends(ctx)
	if err != nil || reached > last {
		return nil, err
	}
	return []jetstream.WatchOpt{jetstream.ResumeFromRevision(reached + 1)}, nil
}

// close ends the reading.
func (s *shelf[T]) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.watcher.Stop() // the connection may be gone
	s.watcher = nil
}

// takeUp takes up a value as it is in the bucket. One of many that were there before may be left as its text.
func (s *shelf[T]) takeUp(entry jetstream.KeyValueEntry, before bool) error {
	s.mu.RLock()
	known := s.all[entry.Key()].revision
	s.mu.RUnlock()
	defer s.reach(entry.Revision()) // when it is at hand, and not before: who takes over counts on it
	if entry.Revision() <= known || entry.Operation() != jetstream.KeyValuePut {
		return nil
	}
	if before && known == 0 && s.settled != nil && s.settled(entry.Key(), entry.Value()) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if entry.Revision() > s.all[entry.Key()].revision {
			s.all[entry.Key()] = onShelf[T]{text: string(entry.Value()), revision: entry.Revision()}
		}
		return nil
	}
	var value T
	if err := json.Unmarshal(entry.Value(), &value); err != nil {
		return fmt.Errorf("%s: %w", entry.Key(), err)
	}
	s.now(entry.Key(), value, entry.Value(), entry.Revision())
	return nil
}

func (s *shelf[T]) reach(revision uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reached = max(s.reached, revision)
}

// now puts a value in its place, unless a newer one is there. Its text is as it is in the bucket.
func (s *shelf[T]) now(key string, value T, text []byte, revision uint64) {
	fresh := onShelf[T]{value: &value, revision: revision}
	if s.settled != nil && s.settled(key, text) {
		fresh = onShelf[T]{text: pack(s.packer, value), packed: true, revision: revision}
	}
	s.telling.Lock()
	defer s.telling.Unlock()
	s.mu.Lock()
	newer := revision > s.all[key].revision
	if newer && !(s.stuck && s.all[key].packed) {
		s.all[key] = fresh
	}
	s.mu.Unlock()
	if newer && s.news != nil {
		s.news(key, value)
	}
}

func (s *shelf[T]) get(key string) (value T, ok bool) {
	s.mu.RLock()
	one, ok := s.all[key]
	s.mu.RUnlock()
	if !ok {
		return value, false
	}
	return s.valueOf(key, one)
}

// valueOf is the value of what lies on the shelf. It is not called under the lock.
func (s *shelf[T]) valueOf(key string, one onShelf[T]) (value T, ok bool) {
	switch {
	case one.value != nil:
		return *one.value, true
	case one.packed:
		return unpack[T](s.packer, one.text), true
	}
	return s.readText(key, one)
}

// readText reads a value that was left as its text, and packs it.
func (s *shelf[T]) readText(key string, one onShelf[T]) (value T, ok bool) {
	if err := json.Unmarshal([]byte(one.text), &value); err != nil {
		return value, false // of a newer version
	}
	packed := onShelf[T]{text: pack(s.packer, value), packed: true, revision: one.revision}
	s.mu.Lock()
	first := s.all[key] == one
	if first {
		s.all[key] = packed
	}
	s.mu.Unlock()
	if first && s.readOne != nil {
		s.readOne(key, value)
	}
	return value, true
}

// readAll reads all values that were left as their texts, until stop is closed.
func (s *shelf[T]) readAll(stop <-chan struct{}) {
	s.mu.RLock()
	keys := []string{}
	for key, one := range s.all {
		if one.value == nil && !one.packed {
			keys = append(keys, key)
		}
	}
	s.mu.RUnlock()
	for _, key := range keys {
		select {
		case <-stop:
			return
		default:
			_, _ = s.get(key)
		}
	}
}

// put returns when the value is on the disk. It fails with errOvertaken when the key was written since what is at hand here.
func (s *shelf[T]) put(ctx context.Context, key string, value T) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.RLock()
	known := s.all[key].revision
	s.mu.RUnlock()
	return s.putAfter(ctx, key, value, known)
}

// change reads a value, changes it, and writes it, again if another server was faster, until ctx ends. with may be called more than once.
func (s *shelf[T]) change(ctx context.Context, key string, with func(value T, known bool) (T, error)) (T, error) {
	tick := time.NewTicker(overtakenAgain)
	defer tick.Stop()
	for {
		s.writing.Lock()
		s.mu.RLock()
		one, known := s.all[key]
		s.mu.RUnlock()
		var value T
		if known {
			value, _ = s.valueOf(key, one)
		}
		value, err := with(value, known)
		if err == nil {
			err = s.putAfter(ctx, key, value, one.revision)
		}
		s.writing.Unlock()
		if !errors.Is(err, errOvertaken) {
			return value, err
		}
		select {
		case <-tick.C: // what the other one wrote is on its way
		case <-ctx.Done():
			return value, err
		}
	}
}

const overtakenAgain = 20 * time.Millisecond

func (s *shelf[T]) putAfter(ctx context.Context, key string, value T, known uint64) error {
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	var revision uint64
	err = s.store.keeping.during(ctx, func(ctx context.Context) error {
		if s.store.unfenced {
			revision, err = s.bucket.Put(ctx, key, text)
		} else {
			revision, err = s.bucket.Update(ctx, key, text, known)
		}
		return err
	})
	if overtaken(err) {
		err = errOvertaken
	}
	if err != nil {
		return fmt.Errorf("fleet: keep %s: %w", key, err)
	}
	s.now(key, value, text, revision)
	s.mu.Lock()
	delete(s.unsaved, key)
	s.mu.Unlock()
	return nil
}

// drop takes a value away for good, unless it was written since what is at hand here, and returns the revision that it removed. forget takes it out of
// memory.
func (s *shelf[T]) drop(ctx context.Context, key string) (revision uint64, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.RLock()
	revision = s.all[key].revision
	s.mu.RUnlock()
	if revision == 0 {
		return 0, nil
	}
	err = s.store.keeping.during(ctx, func(ctx context.Context) error {
		stream, err := s.store.js.Stream(ctx, "KV_"+s.bucket.Bucket())
		if err != nil {
			return err
		}
		// Up to this revision, and of the stream: a key that is removed leaves a message behind, and what was written since would go with it.
		return stream.Purge(ctx, jetstream.WithPurgeSubject("$KV."+s.bucket.Bucket()+"."+key), jetstream.WithPurgeSequence(revision+1))
	})
	if err != nil {
		return revision, fmt.Errorf("fleet: remove %s: %w", key, err)
	}
	return revision, nil
}

// forget takes a value out of memory that was dropped, and reports whether it was there.
func (s *shelf[T]) forget(one gone) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	there := s.all[one.Key].revision == one.Revision
	if there {
		delete(s.all, one.Key)
	}
	return there
}

// overtaken reports whether a write failed because of what was written before. Replicated streams have a code of their own for it.
func overtaken(err error) bool {
	var refused *jetstream.APIError
	return errors.Is(err, jetstream.ErrKeyExists) || errors.As(err, &refused) && (refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

// only changes the value in memory, where the disk failed.
func (s *shelf[T]) only(key string, value T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[key] = onShelf[T]{value: &value, revision: s.all[key].revision}
	s.unsaved[key] = true
}

// unkept returns a value that is at hand here alone.
func (s *shelf[T]) unkept(key string) (value T, is bool) {
	value, _ = s.get(key)
	s.mu.RLock()
	defer s.mu.RUnlock()
	return value, s.unsaved[key]
}

func (s *shelf[T]) values() []T {
	s.readAll(nil)
	s.mu.RLock()
	all := slices.Collect(maps.Values(s.all))
	s.mu.RUnlock()
	values := make([]T, 0, len(all))
	for _, one := range all {
		switch {
		case one.value != nil:
			values = append(values, *one.value)
		case one.packed:
			values = append(values, unpack[T](s.packer, one.text))
		}
	}
	return values
}

// find returns the first problem that look has with a value that is not settled; ten thousand of them are not copied for it.
func (s *shelf[T]) find(look func(T) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, one := range s.all {
		if one.value == nil {
			continue
		}
		if err := look(*one.value); err != nil {
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
	slices.SortFunc(all, func(a, b fleet.Member) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Key, b.Key))
	})
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
