package control

import (
	"cmp"
	"context"
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
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"firedrill/internal/awsapi/disk"
	"firedrill/internal/drill"
	"firedrill/internal/fleet"
	"firedrill/internal/fleet/permits"
	"firedrill/internal/history"
)

// Options of a control plane. The zero value of a duration stands for its default.
type Options struct {
	Directory string // everything is kept here
	Listen    string // address and port for agents and people
	Advertise string // host:port under which they reach it; default: the name of this host and the port
	Limits    fleet.Limits
	Log       *slog.Logger

	Pulse    time.Duration // how often agents hear that we are there; default 4 s, so that one may be missed within the shortest leash
	Lead     time.Duration // from order to start; default 3 s
	RollCall time.Duration // how long hosts may take to say that they are there; default 1 s
	Margin   time.Duration // after a deadline, before a permit is handed on or a host counts as lost; default 30 s

	// Person is what a person may do who has no key here, but a log-in elsewhere; nil: there are none.
	Person func(name string) (fleet.Member, bool)

	OpenGate        bool // planted bug: an agent may say anything to anyone
	BlindPermits    bool // planted bug: a permit is taken by writing it down
	Boundless       bool // planted bug: what a person may attack is not looked at
	TrustingReplies bool // planted bug: a member is answered wherever it says
	StopsOnce       bool // planted bug: a host that does not hear a stop is not told again
}

// AdminFile is the file in the directory with the credentials of the first admin, made at the first start.
const AdminFile = "admin.json"

// Control is a control plane.
type Control struct {
	options Options
	log     *slog.Logger
	id      identity
	pin     string
	boot    string

	engine    *server.Server
	conn      *nats.Conn
	js        jetstream.JetStream
	members   *members
	tokens    *tokens
	permits   *permits.Store
	runs      *runBook
	levers    *shelf[fleet.Lever]
	records   *records
	schedule  *shelf[fleet.Scheduled]
	apiTokens *shelf[apiToken]
	journal   jetstream.Stream
	audit     *history.Writer
	closers   []func() error

	due      sync.WaitGroup // what the schedule begins
	ordering sync.Mutex     // one run is admitted at a time, so that each sees the ones before

	changing sync.Mutex // one change of a run or of the lever at a time

	mu       sync.Mutex // guards the fields below
	hosts    map[string]*seen
	waiting  map[string]chan said // by order or halt: who waits for what hosts say of it
	kept     map[string]*keptJournal
	watchers map[chan Change]bool
}

// Open starts the engine on the directory and is ready when it returns. Run keeps it going, Close ends it.
func Open(ctx context.Context, o Options) (*Control, error) {
	o.Pulse, o.Lead = cmp.Or(o.Pulse, 4*time.Second), cmp.Or(o.Lead, 3*time.Second)
	o.RollCall, o.Margin = cmp.Or(o.RollCall, time.Second), cmp.Or(o.Margin, 30*time.Second)
	if err := os.MkdirAll(o.Directory, 0o700); err != nil {
		return nil, &drill.Error{Op: "fleet", Kind: drill.Invalid, Err: err, Hint: "name another directory with --data"}
	}
	c := &Control{options: o, log: o.Log, boot: uuid.NewString(), hosts: map[string]*seen{}, waiting: map[string]chan said{}, kept: map[string]*keptJournal{}, watchers: map[chan Change]bool{}}
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

func (c *Control) open(ctx context.Context) error {
	var err error
	if c.id, err = loadIdentity(c.options.Directory); err != nil {
		return err
	}
	tlsConfig, pin, err := c.id.tls()
	if err != nil {
		return &drill.Error{Op: "fleet", Kind: drill.Invalid, Err: err, Hint: "identity.json is damaged: bring it back from a backup"}
	}
	c.pin = pin
	if err := c.openAudit(); err != nil {
		return err
	}
	guard := &gate{secret: rand.Text(), open: c.options.OpenGate}
	if c.engine, err = startEngine(c.options.Listen, filepath.Join(c.options.Directory, "engine"), tlsConfig, guard, c.log); err != nil {
		return err
	}
	c.closers = append(c.closers, func() error { c.engine.Shutdown(); c.engine.WaitForShutdown(); return nil })
	if c.conn, err = within(c.engine, guard.secret); err != nil {
		return fmt.Errorf("fleet: %w", err)
	}
	c.closers = append(c.closers, func() error { c.conn.Close(); return nil })
	if c.js, err = jetstream.New(c.conn); err != nil {
		return err
	}
	if err := c.openShelves(ctx, guard); err != nil {
		return &drill.Error{Op: "fleet", Kind: drill.Invalid, Err: err, Hint: "is the disk full? what is kept lies in " + c.options.Directory}
	}
	if err := c.firstAdmin(ctx); err != nil {
		return err
	}
	c.remember()
	return c.listen()
}

// openShelves reads what is kept. Until it is done the gate's lists are empty, so nobody is in yet.
func (c *Control) openShelves(ctx context.Context, guard *gate) error {
	known, err := openShelf[fleet.Member](ctx, c.js, "members")
	if err != nil {
		return err
	}
	leaves, err := openShelf[leave](ctx, c.js, "tokens")
	if err != nil {
		return err
	}
	c.members, c.tokens = &members{shelf: known}, &tokens{shelf: leaves}
	if c.permits, err = permits.Open(ctx, c.js); err != nil {
		return err
	}
	c.permits.Blind = c.options.BlindPermits
	if c.runs, err = openRuns(ctx, c.js); err != nil {
		return err
	}
	if c.levers, err = openShelf[fleet.Lever](ctx, c.js, "lever"); err != nil {
		return err
	}
	if c.records, err = openRecords(ctx, c.js); err != nil {
		return err
	}
	if c.schedule, err = openShelf[fleet.Scheduled](ctx, c.js, "schedule"); err != nil {
		return err
	}
	if c.apiTokens, err = openShelf[apiToken](ctx, c.js, "api_tokens"); err != nil {
		return err
	}
	if c.journal, err = c.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{Name: "JOURNALS", Subjects: []string{"fd.kept.>"}, Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew}); err != nil {
		return err
	}
	guard.fill(c.members, c.tokens)
	return nil
}

// Close ends the control plane. Agents end what they do when they hear nothing more.
func (c *Control) Close() error {
	var err error
	for i := len(c.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, c.closers[i]())
	}
	c.closers = nil
	return err
}

// Address is where agents and people reach it.
func (c *Control) Address() string {
	_, port, _ := net.SplitHostPort(c.engine.Addr().String())
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
	_, text, _ := net.SplitHostPort(c.engine.Addr().String())
	port, _ := strconv.Atoi(text)
	return port
}

// TLS is what the HTTP API is served with: the certificate that is pinned by members.
func (c *Control) TLS() (*tls.Config, error) {
	config, _, err := c.id.tls()
	return config, err
}

// CurlPin is the pin as curl's --pinnedpubkey takes it, behind sha256//.
func (c *Control) CurlPin() string {
	sum, _ := base64.RawURLEncoding.DecodeString(c.pin) // we made it
	return base64.StdEncoding.EncodeToString(sum)
}

// Pin is what its certificate is known by.
func (c *Control) Pin() string { return c.pin }

// firstAdmin makes the credentials with which everything else is set up. The address in them is brought up to date at each start.
func (c *Control) firstAdmin(ctx context.Context) error {
	path := filepath.Join(c.options.Directory, AdminFile)
	var had fleet.Credentials
	if err := disk.Load(path, &had); err != nil {
		return &drill.Error{Op: "fleet", Kind: drill.Invalid, Err: err, Hint: "remove the file if you have other credentials"}
	}
	if had.Seed == "" {
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
	had.Address, had.Pin = c.Address(), c.pin
	return disk.Save(path, had)
}

// openAudit starts a log of its own for this start, whose name sorts behind those of earlier ones; the chain says whether a line was lost or changed.
func (c *Control) openAudit() error {
	directory := filepath.Join(c.options.Directory, auditDirectory)
	if err := os.MkdirAll(directory, 0o700); err != nil {
		return err
	}
	file, err := os.OpenFile(filepath.Join(directory, time.Now().UTC().Format("20060102T150405.000000000Z-")+c.boot[:8]+".jsonl"), os.O_CREATE|os.O_EXCL|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	c.audit = history.NewWriter(file)
	c.closers = append(c.closers, file.Close)
	return nil
}

// Record writes a line of the audit log that stands beside what the control plane does itself: a log-in, a form that was not ours.
func (c *Control) Record(format string, args ...any) { c.record(format, args...) }

// record writes a line of the audit log, and of ours.
func (c *Control) record(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	c.log.Info("fleet", "what", text) //nolint:sloglint // no request to carry
	if _, err := c.audit.Append(history.New(time.Now(), "control", &history.Note{Text: text})); err != nil {
		c.log.Error("the audit log cannot be written", "error", err) //nolint:sloglint // likewise
	}
}

// listen takes what members say.
func (c *Control) listen() error {
	for subject, handle := range map[string]nats.MsgHandler{
		fleet.FromAgent("*", fleet.WordHello):    c.heardHello,
		fleet.FromAgent("*", fleet.WordPresence): c.heardPresence,
		fleet.FromAgent("*", fleet.WordAnswer):   c.heardAnswer,
		fleet.FromAgent("*", fleet.WordHalted):   c.heardHalted,
		fleet.FromAgent("*", fleet.WordJournal):  c.heardJournal,
		"fd.join.*":                              c.heardJoin,
		"fd.api.*.*":                             c.heardCall,
	} {
		if _, err := c.conn.Subscribe(subject, handle); err != nil {
			return err
		}
	}
	return c.conn.Flush()
}

// Run keeps agents told that we are there, and follows runs to their end, until ctx ends.
func (c *Control) Run(ctx context.Context) error {
	pulse, look := time.NewTicker(c.options.Pulse), time.NewTicker(min(time.Second, c.options.Margin))
	defer pulse.Stop()
	defer look.Stop()
	c.pulse()
	for {
		select {
		case <-ctx.Done():
			c.due.Wait()
			return nil
		case <-pulse.C:
			c.pulse()
		case <-look.C:
			c.follow(context.WithoutCancel(ctx), time.Now())
			c.carryOutDue(context.WithoutCancel(ctx), time.Now())
		}
	}
}

func (c *Control) lever() fleet.Lever {
	lever, _ := c.levers.get(leverKey)
	return lever
}

func (c *Control) heartbeat() fleet.Pulse {
	lever := c.lever()
	return fleet.Pulse{Boot: c.boot, At: time.Now(), Epoch: lever.Epoch, Halted: lever.Engaged}
}

func (c *Control) pulse() { c.say(fleet.SubjectPulse, c.heartbeat()) }

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
