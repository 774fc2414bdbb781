package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"firedrill/internal/drill"
	"firedrill/internal/durable"
)

const (
	moveFile    = "move.json" // beside identity.json
	movingKey   = "moving"    // in the bucket of what a store says of itself, beside "fleet"
	moveAhead   = 256         // messages that may be on their way
	moveTries   = 5           // for each stream: an engine that chooses a leader anew loses what is on its way
	moveAgain   = time.Second
	moveAnswer  = 30 * time.Second // to one message
	moveEnough  = time.Minute
	moveSilent  = 30      // waits of recordWait in a row
	movePayload = 1 << 10 // bytes beside the data of a message: its subject, its headers
)

// moveNote is what a directory says of a move. Until it is proven what lies there counts, and can be moved again; from then on it leads nobody.
type moveNote struct {
	ID     string    `json:"id"`
	Fleet  string    `json:"fleet"`
	To     string    `json:"to"`              // as flags of the server
	Names  []string  `json:"names,omitempty"` // that the server had; drills it conducted lie in this directory
	Began  time.Time `json:"began"`
	Proven time.Time `json:"proven,omitzero"`
}

func (n moveNote) proven() bool { return !n.Proven.IsZero() }

func movePath(directory string) string { return filepath.Join(directory, moveFile) }

func loadMove(directory string) (note moveNote, err error) {
	if err := durable.Load(movePath(directory), &note); err != nil {
		return note, &drill.Error{Op: "fleet", Kind: drill.Invalid, Err: err, Hint: "bring the file back from a backup: it says whether what lies here was moved elsewhere"}
	}
	return note, nil
}

// MoveProgress is how far a move is.
type MoveProgress struct {
	What   string // the stream, as it is called in this directory
	Number int    // of it, from 1
	Of     int    // streams
	Done   uint64 // messages of it that were copied, or compared
	All    uint64
	Proof  bool // it is being compared
}

// MovedStream is a stream that lies in both places, and is the same there.
type MovedStream struct {
	Name     string `json:"name"` // as it is called in the directory of one server
	Messages uint64 `json:"messages"`
	Bytes    uint64 `json:"bytes"`  // of subjects, headers and data
	SHA256   string `json:"sha256"` // over all messages in their order
	Replicas int    `json:"replicas"`
}

// Moved is a move that was carried out, and proven.
type Moved struct {
	Fleet    string        `json:"fleet"`
	From     string        `json:"from"` // the directory
	To       string        `json:"to"`   // as flags of the server
	Already  bool          `json:"already"`
	Streams  []MovedStream `json:"streams"` // by name; empty if it was moved already
	Messages uint64        `json:"messages"`
	Bytes    uint64        `json:"bytes"`
	Proven   time.Time     `json:"proven"`
}

// moveBugs are planted.
type moveBugs struct {
	unmarked   bool // what was moved leads on where it was
	uncompared bool // what was copied counts as there
	heaping    bool // what a try before has left stays
	greedy     bool // what lies in the new place is not looked at
	hasty      bool // the new place counts before all is there
}

// mover moves what one server keeps to several, or to an engine that others run.
type mover struct {
	moveBugs
	o        Options
	c        *Control // the new place, of which nothing is opened but the engine
	note     moveNote
	source   jetstream.JetStream
	progress func(MoveProgress)
	names    map[string]bool // of servers that conducted drills

	again time.Duration                                  // between tries; 0: moveAgain
	step  func(string) error                             // tests: what is done next; an error ends it there, as a kill would
	lossy func(stream string, number uint64) (lost bool) // tests: a message that is not put there
}

// Move moves what one server has kept in a directory to where the options say that several servers, or one with an engine that others run, keep things.
// The server must be stopped. It reads what lies in the new place back, and compares; only then does the directory lead no more, and the new place does.
// Nothing is changed in the directory before. Broken off at any moment it can be called again.
func Move(ctx context.Context, o Options, progress func(MoveProgress)) (Moved, error) {
	m := &mover{o: o, progress: progress}
	return m.move(ctx)
}

// place is the new place, as flags of the server.
func (o Options) place() string {
	if len(o.External.URLs) > 0 {
		return "--nats " + o.External.redacted()
	}
	return "--cluster-peers " + strings.Join(o.Cluster.Peers, ",")
}

func (m *mover) move(ctx context.Context) (done Moved, err error) {
	m.o = m.o.complete()
	m.o.Listen, m.o.Advertise = "127.0.0.1:0", ""
	if len(m.o.Cluster.Peers) > 0 && m.o.Replicas == 0 {
		m.o.Replicas = replicasWanted
	}
	if m.o.alone() {
		return done, &drill.Error{Op: "move", Kind: drill.Invalid, Err: errors.New("where to is not said"), Hint: "Add --cluster-peers, of several servers, or --nats, of an engine of yours."}
	}
	if err := m.o.check(); err != nil {
		return done, err
	}
	if err := m.begin(); err != nil {
		return done, err
	}
	id, err := loadIdentity(m.o.Directory)
	if err != nil {
		return done, err
	}
	m.c = newControl(m.o)
	defer func() { err = errors.Join(err, m.c.Close()) }()
	if m.c.keys, err = openKeyring(m.o.identityPath(), id); err != nil {
		return done, err
	}
	if err := m.c.keys.alone(true); err != nil { // so that servers that are given it wait for what is moved
		return done, err
	}
	if m.note.ID == "" {
		m.note = moveNote{ID: uuid.NewString(), Fleet: id.Fleet, To: m.o.place(), Began: time.Now()}
		if err := durable.Save(movePath(m.o.Directory), m.note); err != nil {
			return done, err
		}
	}
	if err := m.c.openEngine(ctx, &gate{secret: rand.Text()}); err != nil {
		return done, err
	}
	if err := m.company(ctx); err != nil {
		return done, err
	}
	done = Moved{Fleet: id.Fleet, From: m.o.Directory, To: m.note.To, Streams: []MovedStream{}, Proven: m.note.Proven}
	if done.Already, err = m.vacant(ctx); err != nil || done.Already {
		return done, err
	}
	close, err := m.openSource()
	if err != nil {
		return done, err
	}
	defer close()
	return m.carry(ctx, done)
}

// begin looks at the directory.
func (m *mover) begin() (err error) {
	absolute, err := filepath.Abs(m.o.Directory)
	if err != nil {
		return err
	}
	m.o.Directory = absolute
	for _, name := range []string{identityFile, "engine"} {
		if _, err := os.Stat(filepath.Join(m.o.Directory, name)); err != nil {
			return &drill.Error{Op: "move", Kind: drill.Invalid, Err: fmt.Errorf("no fleet of one server is kept there: %w", err), Hint: "Name the directory of the server that has led alone with --data."}
		}
	}
	if m.note, err = loadMove(m.o.Directory); err != nil || m.note.ID == "" || m.note.To == m.o.place() {
		return err
	}
	if m.note.proven() {
		return &drill.Error{Op: "move", Kind: drill.Refused, Err: fmt.Errorf("what lies there was moved already, with %s, at %s", m.note.To, m.note.Proven.UTC().Format(time.RFC3339)), Hint: "Start the servers there."}
	}
	m.note = moveNote{} // the other place was given up, and is not opened to servers
	return nil
}

// company waits until all servers are there that are to keep it: what two of three keep has no copy too many.
func (m *mover) company(ctx context.Context) error {
	wanted := len(m.o.Cluster.Peers) - 1
	for said := (time.Time{}); wanted > 0; {
		seen := map[string]bool{}
		if routes, err := m.c.engine.Load().Routez(nil); err == nil {
			for _, route := range routes.Routes {
				seen[route.RemoteName] = true
			}
		}
		if len(seen) >= wanted {
			return nil
		}
		if time.Since(said) > storeSay {
			said = time.Now()
			m.c.log.InfoContext(ctx, "waiting for the other servers: give each fleet/identity.json of this directory, mode 600, and start it", "there", strings.Join(slices.Sorted(maps.Keys(seen)), ","), "missing", wanted-len(seen))
		}
		select {
		case <-ctx.Done():
			return m.broken(ctx, ctx.Err())
		case <-time.After(storeAgain):
		}
	}
	return nil
}

// broken is the error of a move that did not come to its end.
func (m *mover) broken(ctx context.Context, err error) error {
	kind := drill.Unreachable
	if ctx.Err() != nil {
		kind = drill.Interrupted
	}
	return &drill.Error{Op: "move", Kind: kind, Err: err, Hint: "Nothing was changed in " + m.o.Directory + ": run it again, or start the server there as before."}
}

// stores are the streams that this fleet has, or may have, in the new place, but for what the place says of itself.
func (m *mover) stores(ctx context.Context) (names []string, err error) {
	list := m.c.store.js.StreamNames(ctx)
	for name := range list.Name() {
		if one, ours := m.unplaced(name); ours && one != "KV_"+aboutBucket {
			names = append(names, name)
		}
	}
	return names, list.Err()
}

// placed is how a stream of this directory is called in the new place; unplaced is the inverse.
func (m *mover) placed(name string) string {
	if bucket, is := strings.CutPrefix(name, "KV_"); is {
		return "KV_" + m.c.store.prefix + bucket
	}
	return strings.ToUpper(m.c.store.prefix) + name
}

func (m *mover) unplaced(name string) (one string, ours bool) {
	if bucket, is := strings.CutPrefix(name, "KV_"); is {
		bucket, ours = strings.CutPrefix(bucket, m.c.store.prefix)
		return "KV_" + bucket, ours
	}
	return strings.CutPrefix(name, strings.ToUpper(m.c.store.prefix))
}

// aboutOf reads what a store says of itself; a bucket that is not there says nothing.
func (s *store) aboutOf(ctx context.Context) (fleet, moving about, err error) {
	kv, err := s.js.KeyValue(ctx, s.prefix+aboutBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return fleet, moving, nil
	}
	if err != nil {
		return fleet, moving, err
	}
	for key, value := range map[string]*about{"fleet": &fleet, movingKey: &moving} {
		entry, err := kv.Get(ctx, key)
		if errors.Is(err, jetstream.ErrKeyNotFound) {
			continue
		}
		if err != nil {
			return fleet, moving, err
		}
		if err := json.Unmarshal(entry.Value(), value); err != nil {
			return fleet, moving, err
		}
	}
	return fleet, moving, nil
}

// vacant refuses a place that holds anything but what a try of this move has left there. already: this move has ended there.
func (m *mover) vacant(ctx context.Context) (already bool, err error) {
	var fleet, moving about
	var names []string
	// Its first try waits for an engine that is choosing its leader, and explains what will not pass.
	if err := m.c.store.make(ctx, aboutBucket, func(ctx context.Context, _ int) (err error) {
		if fleet, moving, err = m.c.store.aboutOf(ctx); err == nil {
			names, err = m.stores(ctx)
		}
		return err
	}); err != nil {
		return false, err
	}
	refused := func(hint, format string, args ...any) (bool, error) {
		return false, &drill.Error{Op: "move", Kind: drill.Refused, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	const elsewhere = "Name a place that holds nothing: another account of that NATS, or servers whose directories have no fleet/cluster."
	switch {
	case m.greedy:
		return false, nil
	case fleet.Fleet == m.note.Fleet && fleet.Moved == m.note.ID:
		return true, nil
	case fleet.Fleet == m.note.Fleet:
		return refused("Servers of this fleet have begun there with nothing of what this one keeps: stop them, remove what they began (fleet/cluster in the directory of each, or the streams whose names begin with "+externalPrefix+"), and run it again.",
			"this fleet has begun anew there already")
	case fleet.Fleet != "":
		return refused(elsewhere, "what is kept there is of fleet %s, and this one is %s", fleet.Fleet, m.note.Fleet)
	case moving.Fleet != "" && moving.Fleet != m.note.Fleet:
		return refused(elsewhere, "fleet %s is being moved there, and this one is %s", moving.Fleet, m.note.Fleet)
	case moving.Fleet == "" && len(names) > 0:
		return refused(elsewhere, "something is kept there, and nobody says of which fleet it is: %s", strings.Join(names, ", "))
	}
	return false, nil
}

// openSource starts the engine of the one server, where nobody but this process reaches it.
func (m *mover) openSource() (shut func(), err error) {
	engine, err := server.NewServer(&server.Options{ServerName: "firedrill", DontListen: true, NoSigs: true, DisableJetStreamBanner: true, JetStream: true, StoreDir: filepath.Join(m.o.Directory, "engine"), SyncAlways: true, MaxPayload: enginePayload})
	if err != nil {
		return nil, fmt.Errorf("fleet: engine: %w", err)
	}
	engine.SetLoggerV2(engineLog{m.c.log, nil}, false, false, false)
	engine.Start()
	if !engine.ReadyForConnections(engineReady) {
		stopEngine(engine)
		return nil, &drill.Error{Op: "move", Kind: drill.Internal, Err: errors.New("the engine did not become ready"), Hint: "see the lines above; is the disk full?"}
	}
	conn, err := nats.Connect("", nats.InProcessServer(engine))
	if err == nil {
		m.source, err = jetstream.New(conn)
	}
	if err != nil {
		stopEngine(engine)
		return nil, fmt.Errorf("fleet: %w", err)
	}
	return func() { conn.Close(); stopEngine(engine) }, nil
}

// now is a step of the move, for who tries what a kill before it does.
func (m *mover) now(what string) error {
	if m.step == nil {
		return nil
	}
	return m.step(what)
}

// carry copies, compares, and hands over: first the directory leads no more, then the new place does.
func (m *mover) carry(ctx context.Context, done Moved) (Moved, error) {
	list := m.source.StreamNames(ctx)
	var names []string
	for name := range list.Name() {
		if name != "KV_"+aboutBucket { // the new place says itself of which fleet it is, at the end
			names = append(names, name)
		}
	}
	if err := list.Err(); err != nil && !errors.Is(err, jetstream.ErrEndOfData) {
		return done, m.broken(ctx, err)
	}
	slices.Sort(names)
	var abouts jetstream.KeyValue
	if err := m.enough(ctx, func() (err error) {
		abouts, err = m.c.store.bucket(ctx, aboutBucket)
		return err
	}); err != nil {
		return done, err
	}
	if err := m.tried(ctx, func() error {
		_, err := abouts.Put(ctx, movingKey, encode(about{Fleet: m.note.Fleet, Moved: m.note.ID}))
		return err
	}); err != nil {
		return done, err
	}
	if m.hasty {
		if err := m.open(ctx, abouts); err != nil {
			return done, err
		}
	}
	if err := m.now("clear"); err != nil {
		return done, err
	}
	m.names = map[string]bool{}
	for i, name := range names {
		one, err := m.stream(ctx, name, i+1, len(names))
		if err != nil {
			return done, err
		}
		done.Streams = append(done.Streams, one)
		done.Messages, done.Bytes = done.Messages+one.Messages, done.Bytes+one.Bytes
	}
	if err := m.leftovers(ctx, names); err != nil {
		return done, err
	}
	if err := m.now("prove"); err != nil {
		return done, err
	}
	if !m.note.proven() && !m.unmarked {
		delete(m.names, "")
		m.note.Names, m.note.Proven = slices.Sorted(maps.Keys(m.names)), time.Now()
		if err := durable.Save(movePath(m.o.Directory), m.note); err != nil {
			return done, err
		}
	}
	done.Proven = m.note.Proven
	if err := m.now("open"); err != nil {
		return done, err
	}
	return done, m.open(ctx, abouts)
}

// leftovers removes streams of a try before that the directory has no more.
func (m *mover) leftovers(ctx context.Context, names []string) error {
	var there []string
	if err := m.tried(ctx, func() (err error) {
		there, err = m.stores(ctx)
		return err
	}); err != nil {
		return err
	}
	for _, name := range there {
		if one, _ := m.unplaced(name); !slices.Contains(names, one) && !m.heaping {
			if err := m.c.store.js.DeleteStream(ctx, name); err != nil {
				return m.broken(ctx, err)
			}
		}
	}
	return nil
}

// open lets servers begin in the new place.
func (m *mover) open(ctx context.Context, abouts jetstream.KeyValue) error {
	return m.tried(ctx, func() error {
		_, err := abouts.Create(ctx, "fleet", encode(about{Fleet: m.note.Fleet, Moved: m.note.ID}))
		if !errors.Is(err, jetstream.ErrKeyExists) {
			return err
		}
		// Another server that did not know of the move, or an answer to this one that was lost.
		had, _, err := m.c.store.aboutOf(ctx)
		if err == nil && (had.Fleet != m.note.Fleet || had.Moved != m.note.ID) {
			err = &drill.Error{Op: "move", Kind: drill.Refused, Err: errors.New("a server has begun there meanwhile"), Hint: "Stop all servers there, remove what they began, and run it again."}
		}
		return err
	})
}

// tried does something again that failed, a few times: an engine that chooses a leader anew loses what is on its way, and one that is busy answers late.
func (m *mover) tried(ctx context.Context, do func() error) (err error) {
	for try := 1; ; try++ {
		if err = do(); err == nil || ctx.Err() != nil || try == moveTries || drill.KindOf(err) != drill.Internal {
			break
		}
		m.c.log.WarnContext(ctx, "tried once more", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(cmp.Or(m.again, moveAgain)):
		}
	}
	if err != nil && (ctx.Err() != nil || drill.KindOf(err) == drill.Internal) {
		return m.broken(ctx, err)
	}
	return err
}

// stream copies a stream and compares it, again if that fails.
func (m *mover) stream(ctx context.Context, name string, number, of int) (one MovedStream, err error) {
	err = m.tried(ctx, func() (err error) {
		if one, err = m.once(ctx, name, number, of); err != nil && drill.KindOf(err) == drill.Internal {
			err = fmt.Errorf("%s: %w", name, err)
		}
		return err
	})
	return one, err
}

func (m *mover) once(ctx context.Context, name string, number, of int) (one MovedStream, err error) {
	from, err := m.source.Stream(ctx, name)
	if err != nil {
		return one, err
	}
	if err := m.now("copy " + name); err != nil {
		return one, err
	}
	if !m.heaping {
		if err := m.c.store.js.DeleteStream(ctx, m.placed(name)); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
			return one, err
		}
	}
	to, err := m.make(ctx, name, from.CachedInfo().Config)
	if err != nil {
		return one, err
	}
	told := MoveProgress{What: name, Number: number, Of: of}
	copied, err := m.copy(ctx, name, from, told)
	if err != nil {
		return one, err
	}
	told.Proof = true
	there := newTally()
	if err := m.each(ctx, to, told, func(message jetstream.Msg) error {
		return there.take(strings.Replace(message.Subject(), "$KV."+m.c.store.prefix, "$KV.", 1), message.Headers(), message.Data())
	}); err != nil {
		return one, err
	}
	if copied.messages != there.messages || copied.sum() != there.sum() {
		if !m.uncompared {
			return one, fmt.Errorf("what lies there is not what was copied: %d messages, SHA-256 %s, and it was to be %d, %s", there.messages, there.sum(), copied.messages, copied.sum())
		}
	}
	info, err := to.Info(ctx)
	if err != nil {
		return one, err
	}
	return MovedStream{Name: name, Messages: copied.messages, Bytes: copied.bytes, SHA256: copied.sum(), Replicas: info.Config.Replicas}, nil
}

// make makes a stream in the new place, as servers there would.
func (m *mover) make(ctx context.Context, name string, config jetstream.StreamConfig) (made jetstream.Stream, err error) {
	err = m.enough(ctx, func() (err error) {
		if bucket, is := strings.CutPrefix(name, "KV_"); is {
			if _, err := m.c.store.bucket(ctx, bucket); err != nil {
				return err
			}
			made, err = m.c.store.js.Stream(ctx, m.placed(name))
			return err
		}
		made, err = m.c.store.stream(ctx, jetstream.StreamConfig{Name: name, Subjects: config.Subjects, Storage: config.Storage, Discard: config.Discard, MaxMsgs: config.MaxMsgs})
		return err
	})
	return made, err
}

// enough makes something as often as it is to be kept. Servers that have just found each other do not count each other yet.
func (m *mover) enough(ctx context.Context, do func() error) error {
	began := time.Now()
	for {
		err := do()
		if drill.KindOf(err) != drill.Unsupported || len(m.o.Cluster.Peers) == 0 || time.Since(began) > moveEnough {
			return err
		}
		select {
		case <-ctx.Done():
			return m.broken(ctx, err)
		case <-time.After(storeAgain):
		}
	}
}

// tally counts messages, and sums them up: two streams that have the same are the same.
type tally struct {
	messages, bytes uint64
	hash            hash.Hash
}

func newTally() *tally { return &tally{hash: sha256.New()} }

func (t *tally) sum() string { return hex.EncodeToString(t.hash.Sum(nil)) }

func (t *tally) take(subject string, headers nats.Header, data []byte) error {
	t.messages++
	part := func(text []byte) {
		t.hash.Write(binary.BigEndian.AppendUint64(nil, uint64(len(text))))
		t.hash.Write(text)
		t.bytes += uint64(len(text))
	}
	part([]byte(subject))
	kept := carried(headers)
	for _, key := range slices.Sorted(maps.Keys(kept)) {
		part([]byte(key))
		for _, value := range kept[key] {
			part([]byte(value))
		}
	}
	part(data)
	return nil
}

// carried are the headers that say something of a message. What was expected of the stream when it was written, and by what it was known as a copy, was
// of that moment.
func carried(headers nats.Header) nats.Header {
	kept := nats.Header{}
	for key, values := range headers {
		if !strings.HasPrefix(key, "Nats-Expected-") && key != nats.MsgIdHdr {
			kept[key] = values
		}
	}
	return kept
}

// copy puts all messages of a stream there, in their order, and returns what they were.
func (m *mover) copy(ctx context.Context, name string, from jetstream.Stream, told MoveProgress) (*tally, error) {
	js, err := jetstream.New(m.c.conn, jetstream.WithPublishAsyncMaxPending(2*moveAhead))
	if err != nil {
		return nil, err
	}
	copied := newTally()
	var ahead []jetstream.PubAckFuture
	var last uint64
	settle := func(most int) error {
		for len(ahead) > most {
			select {
			case kept := <-ahead[0].Ok():
				if last > 0 && kept.Sequence != last+1 {
					return fmt.Errorf("message %d was put there as %d, behind another one", last+1, kept.Sequence)
				}
				last = kept.Sequence
			case err := <-ahead[0].Err():
				return err
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(moveAnswer):
				return errors.New("the engine does not answer")
			}
			ahead = ahead[1:]
		}
		return nil
	}
	err = m.each(ctx, from, told, func(message jetstream.Msg) error {
		if name == "KV_drills" {
			conductor, _ := member(message.Data(), "server")
			m.names[conductor] = true
		}
		headers := carried(message.Headers())
		if err := copied.take(message.Subject(), headers, message.Data()); err != nil {
			return err
		}
		if most := m.c.conn.MaxPayload(); int64(len(message.Data()))+movePayload > most && most < enginePayload {
			return &drill.Error{Op: "move", Kind: drill.Unsupported, Err: fmt.Errorf("a message of %d bytes is more than that NATS takes (%d)", len(message.Data()), most), Hint: fmt.Sprintf("Set max_payload: %d there, and run it again.", enginePayload)}
		}
		if m.lossy != nil && m.lossy(name, copied.messages) {
			return nil
		}
		if err := m.now(fmt.Sprintf("message %d of %s", copied.messages, name)); err != nil {
			return err
		}
		subject := strings.Replace(message.Subject(), "$KV.", "$KV."+m.c.store.prefix, 1)
		future, err := js.PublishMsgAsync(&nats.Msg{Subject: subject, Header: headers, Data: message.Data()}, jetstream.WithRetryAttempts(0))
		if err != nil {
			return err
		}
		ahead = append(ahead, future)
		return settle(moveAhead)
	})
	return copied, errors.Join(err, settle(0))
}

// each gives all messages of a stream, in their order.
func (m *mover) each(ctx context.Context, stream jetstream.Stream, told MoveProgress, take func(jetstream.Msg) error) error {
	info, err := stream.Info(ctx)
	if err != nil {
		return err
	}
	told.All = info.State.Msgs
	if m.progress != nil {
		m.progress(told)
	}
	if told.All == 0 {
		return nil
	}
	reader, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return err
	}
	messages, err := reader.Messages(jetstream.PullMaxMessages(recordBatch), jetstream.PullExpiry(recordExpiry), jetstream.PullHeartbeat(recordBeat))
	if err != nil {
		return err
	}
	defer messages.Stop()
	silent := 0
	for left := uint64(1); left > 0; {
		message, err := messages.Next(jetstream.NextMaxWait(recordWait))
		if err != nil {
			if silent++; ctx.Err() != nil || silent > moveSilent {
				return errors.Join(err, ctx.Err(), errors.New("the engine does not answer"))
			}
			continue
		}
		at, err := message.Metadata()
		if err != nil {
			return err
		}
		left, silent = at.NumPending, 0
		if err := take(message); err != nil {
			return err
		}
		told.Done++
		if m.progress != nil {
			m.progress(told)
		}
	}
	return nil
}

// settle keeps a directory to one way of keeping things: what is kept in another way would seem to be lost.
func (c *Control) settle() error {
	note, err := loadMove(c.options.Directory)
	if err != nil {
		return err
	}
	refused := func(hint, format string, args ...any) error {
		return &drill.Error{Op: "fleet", Kind: drill.Refused, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	data := filepath.Dir(c.options.Directory)
	there := func(name string) bool {
		_, err := os.Stat(filepath.Join(c.options.Directory, name))
		return err == nil && filepath.Join(c.options.Directory, name) != c.options.engineDirectory()
	}
	switch {
	case c.options.alone() && note.proven():
		return refused("start it with "+note.To+"; to lead alone again with what was kept until then, stop all servers there and remove "+movePath(c.options.Directory),
			"what this directory kept was moved at %s, and is led from there: %s", note.Proven.UTC().Format(time.RFC3339), note.To)
	case !c.options.alone() && note.ID != "" && !note.proven():
		return refused(fmt.Sprintf("run it again: firedrill server move --data %s %s; or start this server as before, without %[2]s", data, note.To), "what this directory keeps is being moved, and that has not ended")
	case there("engine") && !note.proven():
		return refused(fmt.Sprintf("bring it along: firedrill server move --data %s %s; or start it in that way", data, c.options.place()), "%s is what one server keeps", filepath.Join(c.options.Directory, "engine"))
	case there("cluster") && note.ID == "":
		return refused("start it in that way, or move the directory away and begin a fleet that knows nothing of it", "%s is what one of several servers keeps (--cluster-peers)", filepath.Join(c.options.Directory, "cluster"))
	}
	return nil
}

// claim sees to it that what is kept there is this fleet's, and all of it. A place that holds nothing is not begun where one server is known to keep what
// the fleet has: it would seem to be lost.
func (c *Control) claim(ctx context.Context) error {
	if !c.options.alone() {
		if err := c.awaitMove(ctx); err != nil {
			return err
		}
	}
	return c.store.claim(ctx, c.keys.now().Fleet)
}

func (c *Control) awaitMove(ctx context.Context) error {
	for said := (time.Time{}); ; {
		var fleet, moving about
		if err := c.store.make(ctx, aboutBucket, func(ctx context.Context, _ int) (err error) {
			fleet, moving, err = c.store.aboutOf(ctx)
			return err
		}); err != nil {
			return err
		}
		if fleet.Fleet != "" || moving.Fleet == "" && !c.keys.now().Alone || c.options.Unminding {
			return nil
		}
		why := "what this fleet has lies in the directory of the server that has led alone, and nothing of it is there yet"
		if moving.Fleet != "" {
			why = "what this fleet has is being moved there, and that has not ended"
		}
		cure := fmt.Sprintf("on the machine with that directory, with that server stopped: firedrill server move --data DIRECTORY %s", c.options.place())
		if len(c.options.External.URLs) > 0 {
			return &drill.Error{Op: "fleet", Kind: drill.Refused, Err: errors.New(why), Hint: cure}
		}
		if time.Since(said) > storeSay {
			said = time.Now()
			c.log.WarnContext(ctx, "waiting: "+why, "cure", cure)
		}
		select {
		case <-ctx.Done():
			return &drill.Error{Op: "fleet", Kind: drill.Refused, Err: errors.New(why), Hint: cure}
		case <-time.After(storeAgain):
		}
	}
}

// alone notes in the identity whether one server keeps what the fleet has, so that servers that are given the identity know.
func (k *keyring) alone(is bool) error {
	k.turning.Lock()
	defer k.turning.Unlock()
	id := k.now()
	if id.Alone == is {
		return nil
	}
	id.Alone = is
	if err := durable.Save(k.path, id); err != nil {
		return err
	}
	return k.hold(id)
}
