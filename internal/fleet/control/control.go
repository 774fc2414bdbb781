package control

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"firedrill/internal/drill"
	"firedrill/internal/durable"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/permits"
)

// Options of a control plane. The zero value of a duration stands for its default.
type Options struct {
	Directory string // everything is kept here
	Listen    string // address and port for agents and people
	Advertise string // host:port under which they reach it; default: the name of this host and the port
	Limits    fleet.Limits
	Log       *slog.Logger

	Name     string   // of this server among others; default: the name of this host
	Cluster  Cluster  // the servers that keep everything together; no peers: this one is alone, or has an engine that others run
	External External // an engine that others run; no addresses: it is in this process
	Replicas int      // how often everything is kept; 0: three times where there are servers for it, or once

	Lease     time.Duration // how long a server that is not heard still leads; default 5 s
	Patience  time.Duration // how long an engine that others run may not be there at the start; default 30 s
	Pulse     time.Duration // how often agents hear that we are there; default 4 s, so that one may be missed within the shortest leash
	Lead      time.Duration // from order to start; default 3 s
	RollCall  time.Duration // how long hosts may take to say that they are there; default 1 s
	Retention Retention     // of history; the zero value keeps everything

	Margin time.Duration // after a deadline, before a permit is handed on or a host counts as lost; default 30 s

	// Clock is what the schedule goes by; default time.Now.
	Clock func() time.Time

	// Person is what a person may do who has no key here, but a log-in elsewhere; nil: there are none.
	Person func(name string) (fleet.Member, bool)

	// Wanted are cadences that other service files ask for than those that were put on the server; nil: there are none.
	Wanted func() []fleet.Wanted
	// Tell tells whoever is to be told, and returns when that is done; nil: nobody is. Each thing is told at least once.
	Tell func(ctx context.Context, news fleet.News) error

	// Conductor conducts drills of services; nil: this server conducts none.
	Conductor Conductor

	// TakesDown reports whether a kind of attack takes its host down; nil: none does.
	TakesDown func(kind string) bool
	// Attackable refuses an attack that no host would take as it is written, and tells how long another one lasts by itself, 0 where that is not known; nil: its hosts
	// say so.
	Attackable func(kind string, args []string) (length time.Duration, err error)

	Starting func(c *Control)       // tests: called when all is read that was kept, before the server counts as open
	Lost     func(host string) bool // tests: the answer to a hello is lost on its way

	Bolting         bool // planted bug: a leashed drill is carried out
	OpenGate        bool // planted bug: an agent may say anything to anyone
	BlindPermits    bool // planted bug: a permit is taken by writing it down
	Boundless       bool // planted bug: what a person may attack is not looked at
	TrustingReplies bool // planted bug: a member is answered wherever it says
	StopsOnce       bool // planted bug: a host that does not hear a stop is not told again
	Stubborn        bool // planted bug: a server leads though its lease was not renewed
	Unfenced        bool // planted bug: what a server writes and orders counts, whoever leads by now
	Groupless       bool // planted bug: redundancy groups have no permits
	Glib            bool // planted bug: what was said counts as heard
	Careless        bool // planted bug: the schedule begins a drill whatever the service is like
	Unmoved         bool // planted bug: what was decided of an entry of the schedule stands, whatever is changed
	Heedless        bool // planted bug: the retention removes what must stay
	Untold          bool // planted bug: audit logs are removed without a checkpoint
	Uncorrected     bool // planted bug: what a client says is told by its own clock
	Leaderless      bool // planted bug: each server does what the one that leads should do
	Abandoning      bool // planted bug: what a drill that was broken off has in force goes on
	Forsaking       bool // planted bug: a moment that a leader before could not begin is nobody's
	Rash            bool // planted bug: it is begun again whatever became of it
	Relentless      bool // planted bug: the schedule begins a drill again as often as a server ends in the middle of it
	Unnoticing      bool // planted bug: an engine that keeps nothing any more is left as it is
	Forgetful       bool // planted bug: a lever that could not be kept is not kept later
	Hopeful         bool // planted bug: a server that the others let in no more waits for them all the same
	Unfollowing     bool // planted bug: a server does not take up keys that another one has replaced
	Keeping         bool // planted bug: a permit that could not be given back stays until it ends by itself
	Offhand         bool // planted bug: what a server was not told of the drills of others it never knows
	Premature       bool // planted bug: a server keeps again before it has what the others wrote meanwhile
	Deaf            bool // planted bug: a reader of what is kept that has ended is not made anew
	Drowsy          bool // planted bug: what came while a server was starting is not followed
	Hasty           bool // planted bug: audit logs are removed before they are before the other servers
	Silenced        bool // planted bug: a line of the audit log that cannot be written is let go
	Hoarding        bool // planted bug: the first key of a member lets in after it was replaced
	Loose           bool // planted bug: a file of a drill is opened by whatever name
	Unready         bool // planted bug: files of a drill are handed out while they are written
	Blind           bool // planted bug: how an attack is written is for its hosts to judge
	Lengthless      bool // planted bug: how long an attack lasts by itself does not matter to its deadline
	Hurried         bool // planted bug: a service on which something may be in force is kept from others until the deadline alone
	Presuming       bool // planted bug: a host that was taken down counts as back at its deadline
	Unasked         bool // planted bug: hosts are taken down without anybody's consent
	Unminding       bool // planted bug: a place that holds nothing is begun though one server keeps what the fleet has
	Unpaced         bool // planted bug: who takes much of logs and files is not held back
}

// AdminFile is the file in the directory with the credentials of the first admin, made at the first start.
const AdminFile = "admin.json"

// Control is a control plane.
type Control struct {
	options Options
	log     *slog.Logger
	keys    *keyring
	boot    string
	since   time.Time // of this start

	formerly []string // names that this server had when it led alone

	engine     slot          // where members come in
	opening    engineOptions // of the engine
	conn       *nats.Conn    // to where everything is kept
	store      *store
	behind     behind
	whole      atomic.Bool // all that the servers keep is here since this one started
	anew       bool        // the engine was opened anew, and may not have all yet; whoever mends it uses it
	keeping    *keeping    // nil: an engine that others run keeps everything
	pace       pace        // of who fetches logs and files
	lead       *leadership
	members    *members
	tokens     *tokens
	permits    *permits.Store
	runs       *runBook
	levers     *shelf[fleet.Lever]
	records    *records
	schedule   *shelf[fleet.Scheduled]
	servers    *shelf[fleet.Server]
	apiTokens  *shelf[apiToken]
	services   *shelf[fleet.ServiceFile]
	drills     *shelf[fleet.DrillRun]
	drillNames names
	freezes    *shelf[fleet.Freeze]
	turns      *shelf[turned]
	journal    jetstream.Stream
	retained   *shelf[horizon]
	told       *shelf[cadenceTold]
	audit      *auditLog
	shared     *auditShare        // what all servers have written; nil: this one is alone
	newsCame   chan struct{}      // something is to be told
	auditKey   ed25519.PrivateKey // signs what stands for audit logs that were removed
	closers    []func() error

	opened  atomic.Bool
	owing   chan struct{} // a permit could not be given back
	closing chan struct{}
	closed  sync.Once // closes closing

	due      sync.WaitGroup // what the schedule begins
	beside   sync.WaitGroup // taking over, and what is looked after once
	ordering sync.Mutex     // one run is admitted at a time, so that each sees the ones before

	pruning  sync.Mutex // one removal of what is old at a time
	changing sync.Mutex // one change of a run or of the lever at a time

	mu       sync.Mutex // guards the fields below
	hosts    map[string]*seen
	waiting  map[string]chan said // by order or halt: who waits for what hosts say of it
	kept     map[string]*keptJournal
	watchers map[chan Change]bool
	// By order: who wants to hear what is kept of its journal; by drill: what ends it.
	overheard    map[string]chan heardLines
	samplings    map[string]*hearing // by order: what is heard of who samples
	conducting   map[string]context.CancelCauseFunc
	beginning    map[string]bool           // runs and drills that the schedule begins here
	openDrills   map[string]bool           // not over
	untoldDrills map[string]bool           // over, and somebody is still to be told
	cadences     map[string][]fleet.Wanted // by version of a service file
	winding      bool                      // nothing begins any more
	renewing     map[string]bool           // hosts that are to replace their keys
	reminded     time.Time                 // when they were told so
	logins       map[string]string         // by member: with which key it logged in as far as we know

	deciding sync.Mutex         // guards the field below
	decided  map[string]decided // by entry of the schedule
}

// Open starts the engine on the directory, or finds the one that others run, and is ready when it returns. Run keeps it going, Close ends it. One of
// several servers waits for as many of the others as it takes to keep anything, until ctx ends.
func Open(ctx context.Context, o Options) (*Control, error) {
	o = o.complete()
	if err := o.check(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.Directory, 0o700); err != nil {
		return nil, &drill.Error{Op: "fleet", Kind: drill.Invalid, Err: err, Hint: "name another directory with --data"}
	}
	c := newControl(o)
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// complete has the defaults for what was not said.
func (o Options) complete() Options {
	o.Pulse, o.Lead = cmp.Or(o.Pulse, 4*time.Second), cmp.Or(o.Lead, 3*time.Second)
	o.RollCall, o.Margin = cmp.Or(o.RollCall, time.Second), cmp.Or(o.Margin, 30*time.Second)
	o.Lease, o.Patience = cmp.Or(o.Lease, leaseDefault), cmp.Or(o.Patience, externalMax)
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Name == "" {
		o.Name, _ = os.Hostname()
	}
	return o
}

func newControl(o Options) *Control {
	return &Control{options: o, log: o.Log, boot: uuid.NewString(), since: time.Now(), owing: make(chan struct{}, 1), closing: make(chan struct{}), hosts: map[string]*seen{}, waiting: map[string]chan said{}, kept: map[string]*keptJournal{}, watchers: map[chan Change]bool{},
		overheard: map[string]chan heardLines{}, samplings: map[string]*hearing{}, conducting: map[string]context.CancelCauseFunc{}, beginning: map[string]bool{}, openDrills: map[string]bool{}, untoldDrills: map[string]bool{}, newsCame: make(chan struct{}, 1), cadences: map[string][]fleet.Wanted{}, decided: map[string]decided{}, renewing: map[string]bool{}, logins: map[string]string{}}
}

// alone reports whether there is one server, with everything in its own directory.
func (o Options) alone() bool { return len(o.Cluster.Peers) == 0 && len(o.External.URLs) == 0 }

func (o Options) check() error {
	wrong := func(op, hint, format string, args ...any) error {
		return &drill.Error{Op: op, Kind: drill.Invalid, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	switch {
	case len(o.Cluster.Peers) > 0 && len(o.External.URLs) > 0:
		return wrong("--nats", "servers keep everything among themselves, or in an engine that others run", "--nats and --cluster-peers are both given")
	case len(o.Cluster.Peers) > 0 && len(o.Cluster.Peers) < clusterMin:
		return wrong("--cluster-peers", "name all of them, this one included: three survive the loss of one, five of two", "%d servers are no cluster", len(o.Cluster.Peers))
	case o.Replicas < 0 || o.Replicas > replicasMax || o.Replicas > 0 && o.Replicas%2 == 0:
		return wrong("--replicas", "write 1, 3 or 5; 0 is as many as fit", "%d", o.Replicas)
	case o.alone() && o.Replicas > 1:
		return wrong("--replicas", "they need --cluster-peers or --nats", "%d replicas on one server", o.Replicas)
	}
	if err := fleet.CheckName("a server", o.Name); err != nil && !o.alone() {
		return wrong("--server-name", "", "%w", err)
	}
	if err := o.External.check(); err != nil {
		return err
	}
	for _, peer := range o.Cluster.Peers {
		if _, _, err := net.SplitHostPort(peer); err != nil {
			return wrong("--cluster-peers", "write HOST:PORT of each, as control1.example.com:7423", "%q: %w", peer, err)
		}
	}
	return nil
}

// clusterMin is the least number of servers of which one may go.
const clusterMin = 3

func (c *Control) open(ctx context.Context) error {
	if err := c.settle(); err != nil {
		return err
	}
	id, err := loadIdentity(c.options.Directory)
	if err != nil {
		return err
	}
	if c.keys, err = openKeyring(c.options.identityPath(), id); err != nil {
		return err
	}
	if err := c.openAudit(); err != nil {
		return err
	}
	guard := &gate{secret: rand.Text(), open: c.options.OpenGate, hoarding: c.options.Hoarding}
	if err := c.openEngine(ctx, guard); err != nil {
		return err
	}
	if err := c.openShelves(ctx, guard); err != nil {
		if drill.KindOf(err) != drill.Internal {
			return err
		}
		return &drill.Error{Op: "fleet", Kind: drill.Invalid, Err: err, Hint: "is the disk full? what is kept lies in " + c.options.Directory}
	}
	if c.lead.alone {
		if err := c.firstAdmin(ctx); err != nil {
			return err
		}
		c.lead.since = time.Now()
	}
	if err := c.breakOff(ctx, func(run fleet.DrillRun) bool { return c.lead.alone || run.Server == c.options.Name }); err != nil {
		return err // nobody conducts them any more
	}
	c.whole.Store(c.options.alone() || c.options.engineDirectory() == "")
	if c.options.Starting != nil {
		c.options.Starting(c)
	}
	c.opened.Store(true)
	if !c.options.Drowsy {
		// What came since it was read was left alone until now; and nobody is in who may have been put out meanwhile.
		if err := c.catchUpKeys(); err != nil {
			return err
		}
		guard.fill(c.members, c.tokens)
	}
	if !c.lead.alone {
		c.refreshAdmin() // another one may lead, and the others were there before
	}
	c.beside.Go(func() { // so that nobody waits for it later
		c.runs.readAll(c.closing)
		c.drills.readAll(c.closing)
	})
	return c.listen()
}

// openEngine starts the engine in this process, and connects to where everything is kept.
func (c *Control) openEngine(ctx context.Context, guard *gate) error {
	o := engineOptions{listen: c.options.Listen, advertise: c.options.Advertise, directory: c.options.engineDirectory(), tls: c.keys.door(), gate: guard, log: c.log, name: "firedrill"}
	if !c.options.alone() {
		o.name = c.options.Name
	}
	if len(c.options.Cluster.Peers) > 0 {
		o.cluster, o.routes = c.options.Cluster, fleet.MutualTLS(c.keys.certificate, c.keys.serverPins, c.behind.saw)
	}
	if o.directory != "" {
		c.keeping = newKeeping(o.directory, !c.options.alone(), c.options.Unnoticing)
		o.heard = c.keeping.heard
	}
	engine, err := startEngine(o)
	if err != nil {
		return err
	}
	c.engine.Store(engine)
	c.opening = o
	host, _, _ := net.SplitHostPort(o.listen)
	_, port, _ := net.SplitHostPort(engine.Addr().String())
	c.opening.listen = net.JoinHostPort(host, port) // the same one, whenever it is opened again
	c.closers = append(c.closers, func() error { stopEngine(c.engine.Load()); return nil })
	door, err := within(&c.engine, guard.secret, inboxOfServers+"."+c.boot)
	if err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	c.closers = append(c.closers, func() error { door.Close(); return nil })
	c.conn = door
	c.store = &store{log: c.log, replicas: c.options.Replicas, unfenced: c.options.Unfenced, deaf: c.options.Deaf, keeping: c.keeping, closing: c.closing, cure: func(error) error { return nil }, what: func() string { return "the engine" }}
	switch {
	case len(c.options.External.URLs) > 0:
		if err := c.openExternal(ctx, door); err != nil {
			return err
		}
	case len(c.options.Cluster.Peers) > 0:
		c.store.cure = func(error) error { return c.leftBehind(time.Now()) }
		c.store.what = func() string {
			return fmt.Sprintf("%d servers; %d others are known; is identity.json the same on all, and can they reach each other?", len(c.options.Cluster.Peers), c.engine.Load().NumRoutes())
		}
	default:
		c.store.replicas = 1
	}
	c.store.js, err = jetstream.New(c.conn)
	return err
}

// inboxOfServers is where servers are answered. No member hears or speaks there.
const inboxOfServers = "fd.server"

// openShelves reads what is kept.
func (c *Control) openShelves(ctx context.Context, guard *gate) error {
	if err := c.claim(ctx); err != nil {
		return err
	}
	known, err := openShelf(ctx, c.store, "members", c.memberChanged)
	if err != nil {
		return err
	}
	leaves, err := openShelf[leave](ctx, c.store, "tokens", nil)
	if err != nil {
		return err
	}
	c.members, c.tokens = &members{shelf: known}, &tokens{shelf: leaves}
	kept, err := c.store.bucket(ctx, "permits")
	if err != nil {
		return err
	}
	c.permits = permits.Over(kept)
	c.permits.Blind = c.options.BlindPermits
	if c.levers, err = openShelf(ctx, c.store, "lever", c.leverChanged); err != nil {
		return err
	}
	if c.retained, err = openShelf[horizon](ctx, c.store, "retained", nil); err != nil {
		return err
	}
	if c.told, err = openShelf[cadenceTold](ctx, c.store, "cadences", nil); err != nil {
		return err
	}
	if err := c.openHistory(ctx); err != nil {
		return err
	}
	if c.schedule, err = openShelf(ctx, c.store, "schedule", func(_ string, one fleet.Scheduled) { c.changed("schedule", one) }); err != nil {
		return err
	}
	if c.apiTokens, err = openShelf[apiToken](ctx, c.store, "api_tokens", nil); err != nil {
		return err
	}
	if c.services, err = openShelf(ctx, c.store, "services", func(_ string, file fleet.ServiceFile) { c.changed("service", file.Name) }); err != nil {
		return err
	}
	if c.freezes, err = openShelf(ctx, c.store, "freezes", func(_ string, freeze fleet.Freeze) { c.changed("freeze", freeze) }); err != nil {
		return err
	}
	if c.turns, err = openShelf(ctx, c.store, "keys", c.turnCame); err != nil {
		return err
	}
	if err := c.catchUpKeys(); err != nil {
		return err
	}
	if c.journal, err = c.store.stream(ctx, jetstream.StreamConfig{Name: "JOURNALS", Subjects: []string{"fd.kept.>"}, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew}); err != nil {
		return err
	}
	if err := c.openAuditShare(ctx); err != nil {
		return err
	}
	if err := c.keys.alone(c.options.alone()); err != nil {
		return err
	}
	if c.options.Drowsy {
		guard.fill(c.members, c.tokens)
	}
	return c.openLead(ctx)
}

// openHistory reads what grows with the years, all of it at the same time.
func (c *Control) openHistory(ctx context.Context) error {
	var opening sync.WaitGroup
	var runs, drills, records error
	opening.Go(func() {
		c.runs, runs = openRuns(ctx, c.store, func(run fleet.Run) { c.hold(run); c.changed("run", run) })
	})
	opening.Go(func() {
		c.drills, drills = openSettled(ctx, c.store, "drills", c.drillChanged, func(id string, text []byte) bool {
			settled := drillSettled(text)
			if settled {
				c.drillNames.insert(id)
			}
			return settled
		}, nil)
	})
	opening.Go(func() { c.records, records = openRecords(ctx, c.store) })
	opening.Wait()
	return errors.Join(runs, drills, records)
}

// openLead joins those who may lead.
func (c *Control) openLead(ctx context.Context) error {
	c.lead = &leadership{length: c.options.Lease, alone: c.options.alone() || c.options.Leaderless, stubborn: c.options.Stubborn, self: lease{Server: c.boot, Name: c.options.Name}}
	if c.options.alone() {
		return nil
	}
	var err error
	if c.servers, err = openShelf(ctx, c.store, "servers", func(string, fleet.Server) {
		if c.opened.Load() {
			c.refreshAdmin()
		}
	}); err != nil {
		return err
	}
	moved, err := loadMove(c.options.Directory)
	if err != nil {
		return err
	}
	c.formerly = moved.Names
	if _, err := c.servers.change(ctx, c.options.Name, func(fleet.Server, bool) (fleet.Server, error) {
		return fleet.Server{Name: c.options.Name, Address: c.ownAddress(), Boot: c.boot, Since: c.since, Formerly: c.formerly}, nil
	}); err != nil {
		return err
	}
	c.lead.bucket, err = c.store.bucket(ctx, "leader")
	return err
}

// memberChanged cuts off who was put out, and who has another key by now, whichever server did it.
func (c *Control) memberChanged(key string, member fleet.Member) {
	c.mu.Lock()
	before, known := c.logins[key]
	if member.Login != "" {
		c.logins[key] = member.Login
	}
	changed := member.Login != "" && (!known || before != member.Login)
	if member.Renew != nil && member.Revoked == nil {
		c.renewing[key] = true
	} else {
		delete(c.renewing, key)
	}
	c.mu.Unlock()
	if (member.Revoked != nil || changed && !c.options.Hoarding) && c.opened.Load() {
		if err := c.cutOff(key); err != nil {
			c.log.Warn("a member that was put out is not cut off", "member", member.Name, "error", err) //nolint:sloglint // no request to carry
		}
	}
}

// shut ends what goes on beside the rest. Run does it at its end, and Close also where nothing ran.
func (c *Control) shut() { c.closed.Do(func() { close(c.closing) }) }

// Close ends the control plane. Agents end what they do when they hear nothing more.
func (c *Control) Close() error {
	c.opened.Store(false)
	c.shut()
	c.beside.Wait()
	var err error
	for i := len(c.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, c.closers[i]())
	}
	c.closers = nil
	return err
}

// Address is where agents and people reach it: of several servers all, this one first.
func (c *Control) Address() string {
	all := []string{c.ownAddress()}
	if c.servers != nil {
		others := c.servers.values()
		slices.SortFunc(others, func(a, b fleet.Server) int { return strings.Compare(a.Name, b.Name) })
		for _, other := range others {
			if !slices.Contains(all, other.Address) {
				all = append(all, other.Address)
			}
		}
	}
	return strings.Join(all, ",")
}

func (c *Control) ownAddress() string {
	_, port, _ := net.SplitHostPort(c.opening.listen)
	if c.options.Advertise != "" {
		return c.options.Advertise
	}
	host, _, _ := net.SplitHostPort(c.options.Listen)
	if address := net.ParseIP(host); host == "" || address != nil && address.IsUnspecified() {
		host, _ = os.Hostname()
	}
	return net.JoinHostPort(host, port)
}

// Port is the port that it listens on.
func (c *Control) Port() int {
	_, text, _ := net.SplitHostPort(c.opening.listen)
	port, _ := strconv.Atoi(text)
	return port
}

// TLS is what the HTTP API is served with: the certificate that is pinned by members.
func (c *Control) TLS() (*tls.Config, error) {
	return c.keys.door(), nil
}

// CurlPin is the pin as curl's --pinnedpubkey takes it, behind sha256//.
func (c *Control) CurlPin() string {
	sum, _ := base64.RawURLEncoding.DecodeString(c.keys.ownPin()) // we made it
	return base64.StdEncoding.EncodeToString(sum)
}

// Pin is what its certificate is known by.
func (c *Control) Pin() string { return c.keys.ownPin() }

// firstAdmin makes the credentials with which everything else is set up. The address in them is brought up to date at each start.
func (c *Control) firstAdmin(ctx context.Context) error {
	path := filepath.Join(c.options.Directory, AdminFile)
	var had fleet.Credentials
	if err := durable.Load(path, &had); err != nil {
		return &drill.Error{Op: "fleet", Kind: drill.Invalid, Err: err, Hint: "remove the file if you have other credentials"}
	}
	if had.Seed == "" {
		if !c.lead.alone && len(c.members.list(func(m fleet.Member) bool { return m.Role == fleet.RoleAdmin })) > 0 {
			return nil // made by another server, and kept there
		}
		if len(c.members.list(func(m fleet.Member) bool { return m.Role == fleet.RoleAdmin && m.Revoked == nil })) > 0 {
			return nil // handed over and removed, on purpose
		}
		pair, err := nkeys.CreateUser()
		if err != nil {
			return err
		}
		seed, err1 := pair.Seed()
		key, err2 := pair.PublicKey()
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		had = fleet.Credentials{Name: "admin", Seed: string(seed)}
		if err := c.members.add(ctx, fleet.Member{Key: key, Name: had.Name, Role: fleet.RoleAdmin, Since: time.Now(), By: "first start"}); err != nil {
			return err
		}
	}
	had.Address, had.Pin = c.Address(), c.keys.ownPin()
	return durable.Save(path, had)
}

// refreshAdmin has the credentials that lie here name the servers that are known now, and by what they are.
func (c *Control) refreshAdmin() {
	path := filepath.Join(c.options.Directory, AdminFile)
	var had fleet.Credentials
	if durable.Load(path, &had) != nil || had.Seed == "" || had.Address == c.Address() && had.Pin == c.keys.ownPin() {
		return
	}
	had.Address, had.Pin = c.Address(), c.keys.ownPin()
	if err := durable.Save(path, had); err != nil {
		c.log.Warn("the credentials of the first admin do not name all servers", "error", err) //nolint:sloglint // no request to carry
	}
}

// openAudit starts a log of its own for this start, whose name sorts behind those of earlier ones; the chain says whether a line was lost or changed.
func (c *Control) openAudit() error {
	var err error
	if c.auditKey, err = openAuditKey(c.options.Directory); err != nil {
		return err
	}
	if c.audit, err = openAuditLog(filepath.Join(c.options.Directory, auditDirectory), c.boot); err != nil {
		return err
	}
	c.audit.silenced = c.options.Silenced
	c.closers = append(c.closers, c.audit.close)
	return nil
}

// Record writes a line of the audit log that stands beside what the control plane does itself: a log-in, a form that was not ours.
func (c *Control) Record(format string, args ...any) { c.record(format, args...) }

// record writes a line of the audit log, and of ours.
func (c *Control) record(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.log.Info("fleet", "what", text) //nolint:sloglint // no request to carry
	if err := c.audit.record(text); err != nil {
		c.log.Error("the audit log cannot be written", "error", err) //nolint:sloglint // likewise
	}
}

// listen takes what members say. All servers hear it; the one that leads acts on it.
func (c *Control) listen() error {
	for subject, handle := range map[string]nats.MsgHandler{
		fleet.FromAgent("*", fleet.WordHello):    c.heardHello,
		fleet.FromAgent("*", fleet.WordPresence): c.heardPresence,
		fleet.FromAgent("*", fleet.WordAnswer):   c.heardAnswer,
		fleet.FromAgent("*", fleet.WordHalted):   c.heardHalted,
		fleet.FromAgent("*", fleet.WordJournal):  c.leading(c.heardJournal),
		"fd.join.*":                              c.leading(c.heardJoin),
		"fd.history.*":                           c.heardRecord,
		subjectPruned:                            c.heardPruned,
		leadSubject(c.boot):                      c.heardForwarded,
		fleet.FromAgent("*", fleet.WordLooked):   c.heardLooked,
		fleet.FromAgent("*", fleet.WordRekey):    c.leading(c.heardRekey),
		fleet.FromAgent("*", fleet.WordSampled):  c.heardSampled,
	} {
		if _, err := c.conn.Subscribe(subject, handle); err != nil {
			return err
		}
	}
	// Any server answers a person.
	if _, err := c.conn.QueueSubscribe("fd.api.*.*", "servers", c.heardCall); err != nil {
		return err
	}
	return c.conn.Flush()
}

// leading is a handler that is silent while another server leads.
func (c *Control) leading(handle nats.MsgHandler) nats.MsgHandler {
	return func(message *nats.Msg) {
		if c.lead.leads() {
			handle(message)
		}
	}
}

// Run keeps agents told that we are there, and follows runs to their end, until ctx ends; of several servers the one that leads does.
func (c *Control) Run(ctx context.Context) error {
	pulse, look := time.NewTicker(c.options.Pulse), time.NewTicker(min(time.Second, c.options.Margin))
	defer pulse.Stop()
	defer look.Stop()
	var campaign sync.WaitGroup
	campaigning, end := context.WithCancel(context.WithoutCancel(ctx)) // it leads until what it has begun has ended
	defer end()
	campaign.Go(func() { c.campaign(campaigning) })
	campaign.Go(func() { c.keepPruned(ctx) })
	campaign.Go(func() { c.keepNews(ctx) })
	campaign.Go(func() { c.mend(ctx) })
	campaign.Go(func() { c.keepPermits(ctx) })
	if !c.options.alone() {
		campaign.Go(func() { c.keepRecords(ctx) })
	}
	if c.shared != nil {
		campaign.Go(func() { c.shared.keep(campaigning) })
	}
	if c.Behind() {
		campaign.Go(func() { c.awaitWhole(ctx) })
	}
	c.pulse()
	for {
		select {
		case <-ctx.Done():
			c.windUp(pulse.C)
			end()
			campaign.Wait()
			c.shut()
			c.beside.Wait()
			return nil
		case <-pulse.C:
			c.pulse()
		case <-look.C:
			c.sayLeftBehind(ctx)
			if err := c.keys.over(time.Now()); err != nil {
				c.log.WarnContext(ctx, "a key that has ended is still on the disk", "error", err)
			}
			if !c.lead.leads() {
				c.endDrills("this server leads no more")
				continue
			}
			c.follow(context.WithoutCancel(ctx), time.Now())
			c.followDrills(context.WithoutCancel(ctx))
			c.carryOutDue(context.WithoutCancel(ctx), c.options.Clock())
			c.carryOutLeft(context.WithoutCancel(ctx), c.options.Clock())
			c.remindRenewals(time.Now())
		}
	}
}

// windUp ends the drills that are under way, and waits for what was begun. Hosts hear meanwhile that we are there, so that they can say how it ended.
func (c *Control) windUp(pulse <-chan time.Time) {
	c.mu.Lock()
	c.winding = true
	c.mu.Unlock()
	c.endDrills("the server is being stopped")
	over := make(chan struct{})
	go func() { c.due.Wait(); close(over) }()
	for {
		select {
		case <-over:
			return
		case <-pulse:
			c.pulse()
		}
	}
}

func (c *Control) lever() fleet.Lever {
	lever, _ := c.levers.get(leverKey)
	return lever
}

func (c *Control) heartbeat() fleet.Pulse {
	lever := c.lever()
	term, _ := c.lead.holds()
	return fleet.Pulse{Boot: c.boot, At: time.Now(), Epoch: lever.Epoch, Halted: lever.Engaged, Term: term, OrderSerial: c.keys.now().OrderSerial, Pin: c.keys.ownPin()}
}

// pulse says that the server that leads is there.
func (c *Control) pulse() {
	if c.lead.leads() {
		c.say(fleet.SubjectPulse, c.heartbeat())
	}
}

// say publishes a message of ours, which always encodes; in parts when it is long, which only answers to people are.
func (c *Control) say(subject string, message any) {
	text, err := json.Marshal(message)
	if parts := fleet.Parts(text); err == nil && len(parts) == 1 {
		err = c.conn.Publish(subject, text)
	} else if err == nil {
		for i, part := range parts {
			err = errors.Join(err, c.conn.PublishMsg(&nats.Msg{Subject: subject, Data: part, Header: nats.Header{fleet.HeaderPart: {fleet.PartName(i+1, len(parts))}}}))
		}
	}
	if err != nil {
		c.log.Warn("cannot be said", "subject", subject, "error", err) //nolint:sloglint // no request to carry
	}
}

// answer replies to a member, on the member's own subjects alone: a member that names another subject would speak with our voice.
func (c *Control) answer(message *nats.Msg, member string, reply any) {
	if !fleet.AnswersTo(message.Reply, member) && !c.options.TrustingReplies {
		c.record("refused to answer %s on %q, which is not its own", member, message.Reply)
		return
	}
	c.say(message.Reply, reply)
}

// speaker is the member that a subject names; the engine holds members to their own subjects.
func (c *Control) speaker(message *nats.Msg) (fleet.Member, bool) {
	member, ok := c.members.get(token(message.Subject, 2))
	return member, ok && member.Revoked == nil
}

// Limits are what may be hit at the same time.
func (c *Control) Limits() fleet.Limits { return c.options.Limits }
