package agent

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"firedrill/internal/drill"
	"firedrill/internal/fleet"
)

const (
	// LeashDefault is how long after the control plane was heard last the host is as it was.
	LeashDefault = 15 * time.Second
	// LeashMin leaves room for a pulse that is missed, and for the revert.
	LeashMin = 12 * time.Second
	// revertReserve is the part of the leash that is kept for the revert: two seconds of SIGTERM, then SIGKILL, after which the kernel reverts.
	revertReserve = 3 * time.Second

	presenceEvery = 10 * time.Second
	dialMax       = 10 * time.Second
	keepAlive     = 5 * time.Second
	// PingEvery is rare: that the connection lives is heard in each pulse, and of ten thousand agents that ping each half a minute pings are a sixth of all that
	// the server reads and writes.
	PingEvery = 10 * time.Minute
	// reconnectMax is how long a connection may be silent at most before another one is made.
	reconnectMax  = 10 * time.Second
	reconnectWait = time.Second
	helloMax      = 10 * time.Second
	tendEvery     = 100 * time.Millisecond
	tendIdle      = 3 * time.Second // at most, while nothing is in force by order
	restAfter     = 5 * time.Second
	restEvery     = time.Minute
)

// Options of an agent. The zero value of most stands for what an installed agent does.
type Options struct {
	Directory string // of its identity, its ledger and its journals
	Log       *slog.Logger
	Leash     time.Duration // default LeashDefault
	Program   []string      // that attacks; default: this one
	Facts     func(context.Context) (fleet.Facts, error)
	Running   func(context.Context) ([]fleet.Running, error) // everything in force here, by order or not
	// MaySample says which addresses this host may look at for an order, or why none. Default: what the order says are the service's own.
	MaySample func(fleet.Sampling) ([]netip.Prefix, error)

	Rest      func()                                                            // gives memory back; called now and then while nothing is done; may be nil
	OpenOrder func(text []byte, trusted ed25519.PublicKey) (fleet.Order, error) // planted bug: instead of fleet.Open
	Forgetful bool                                                              // planted bug: an order is taken twice
	Unleashed bool                                                              // planted bug: a lost control plane changes nothing
	Drowsy    bool                                                              // planted bug: what begins does not rouse who looks after it
	Termless  bool                                                              // planted bug: who leads by now does not matter
	Clinging  bool                                                              // planted bug: a silent connection is waited for
	Faithful  bool                                                              // planted bug: an order key counts after its end
	Hasty     bool                                                              // planted bug: the key before is thrown away before the new one is taken
	Shy       bool                                                              // planted bug: a connection that was not welcomed is left so
	Careless  bool                                                              // planted bug: what was told once counts as heard
	Unbounded bool                                                              // planted bug: how often and where a client looks is not bounded here
}

// Agent speaks for one host.
type Agent struct {
	options Options
	log     *slog.Logger
	id      Identity // what does not change while it runs; the rest is in known
	ledger  *ledger
	conn    *nats.Conn
	ctx     context.Context //nolint:containedctx // of Run: handlers of messages are given none
	working sync.WaitGroup  // tasks

	shipping chan struct{} // there is more to tell
	roused   chan struct{} // there is more to look after
	facts    fleet.Facts

	keying sync.Mutex // one change of what is known at a time

	mu        sync.Mutex // guards the fields below
	known     Identity   // as it is in the file
	last      login      // that was tried
	local     net.Addr   // our end of the connection to the control plane, and its
	remote    net.Addr
	heard     time.Time // when the control plane was heard last
	since     time.Time // of this connection
	greeted   bool      // the control plane has welcomed us on this connection
	boot      string    // of the control plane
	epoch     uint64
	term      uint64 // the highest of a server that led
	halted    bool
	barred    time.Time // when it was said last that we are not let in
	tasks     map[string]*task
	samplings map[string]*sampling
	halts     map[string]*fleet.Halted // that were carried out
	closed    bool

	shipped map[string]int // lines of a journal that the control plane has
}

// Open reads the identity of a directory and takes its ledger.
func Open(o Options) (*Agent, error) {
	o.Leash = cmp.Or(o.Leash, LeashDefault)
	if o.Program == nil {
		o.Program = []string{"/proc/self/exe"}
	}
	id, err := LoadIdentity(o.Directory)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Join(o.Directory, sentDirectory), 0o700); err != nil {
		return nil, &drill.Error{Op: "agent", Kind: drill.Invalid, Err: err}
	}
	ledger, err := openLedger(o.Directory, time.Now())
	if err != nil {
		return nil, err
	}
	ledger.forgetful = o.Forgetful
	return &Agent{options: o, log: o.Log, id: id, known: id, ledger: ledger, shipping: make(chan struct{}, 1), roused: make(chan struct{}, 1), tasks: map[string]*task{}, samplings: map[string]*sampling{}, halts: map[string]*fleet.Halted{}, shipped: map[string]int{}}, nil
}

// Run takes back what an agent of before left, connects, and does what it is ordered until ctx ends; then it ends what it does, and tells so
// if it still can. A control plane that cannot be reached is tried again for ever: hosts come up before their control plane as a rule.
func (a *Agent) Run(ctx context.Context) error {
	running, cancel := context.WithCancel(ctx)
	defer cancel()
	a.ctx = running
	if err := a.recover(ctx); err != nil {
		return errors.Join(err, a.ledger.close())
	}
	facts, err := a.options.Facts(ctx)
	if err != nil {
		return errors.Join(err, a.ledger.close())
	}
	a.facts = facts
	a.facts.Zone, a.facts.Tags, a.facts.Leash = a.id.Zone, a.id.Tags, a.options.Leash.Seconds()
	if err := a.connect(); err != nil {
		return errors.Join(err, a.ledger.close())
	}
	a.log.InfoContext(ctx, "agent ready", "host", a.id.Name, "control", a.id.Address, "leash", a.options.Leash.String(), "kinds", len(a.facts.Kinds))
	var loops sync.WaitGroup
	loops.Go(func() { a.tend(running) })
	loops.Go(func() { a.ship(running) })
	<-ctx.Done()
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.stopAll("the agent was stopped")
	a.working.Wait()
	cancel()
	loops.Wait()
	a.shipOnce(context.WithoutCancel(ctx))
	a.conn.Close()
	return a.ledger.close()
}

// connect dials out. It returns at once; what is not there yet is tried again.
func (a *Agent) connect() error {
	if _, err := nkeys.FromSeed([]byte(a.id.Seed)); err != nil {
		return &drill.Error{Op: "agent", Kind: drill.Invalid, Err: err, Hint: "remove the agent's directory and join again"}
	}
	var err error
	a.conn, err = nats.Connect(fleet.URLs(a.id.Address),
		nats.Secure(fleet.FollowingTLS(a.pins, a.pinMoved)), nats.TLSHandshakeFirst(), nats.Nkey(a.id.Key, a.sign),
		nats.Name(a.id.Name), nats.CustomInboxPrefix(fleet.Inbox(a.id.Key)), nats.SetCustomDialer(dialer{a}),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(), nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait, reconnectWait),
		nats.PingInterval(PingEvery), nats.MaxPingsOutstanding(2), nats.ReconnectBufSize(-1), // what could not be said then is not worth saying later
		nats.ConnectHandler(a.connected), nats.ReconnectHandler(a.connected),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { a.log.Warn("the control plane is lost", "error", err) }), //nolint:sloglint // no context
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { a.complained(err) }))
	if err != nil {
		return unreachable("agent", a.id.Address, err)
	}
	for subject, handle := range map[string]nats.MsgHandler{
		fleet.SubjectPulse:                        a.heardPulse,
		fleet.SubjectHalt:                         a.heardHalt,
		fleet.SubjectRollCall:                     func(*nats.Msg) { a.present() },
		fleet.ToAgent(a.id.Key, fleet.WordOrder):  a.heardOrder,
		fleet.ToAgent(a.id.Key, fleet.WordGo):     a.heardGo,
		fleet.ToAgent(a.id.Key, fleet.WordCancel): a.heardCancel,
		fleet.ToAgent(a.id.Key, fleet.WordLook):   a.heardLook,
		fleet.ToAgent(a.id.Key, fleet.WordRenew):  func(*nats.Msg) { a.renewKey() },
		fleet.ToAgent(a.id.Key, fleet.WordSample): a.heardSample,
	} {
		if _, err := a.conn.Subscribe(subject, handle); err != nil {
			return err
		}
	}
	return nil
}

// barredEvery is how often an agent says that it is not let in: it tries every second or two, for as long as it runs.
const barredEvery = 10 * time.Minute

// complained says what the control plane has to complain of.
func (a *Agent) complained(err error) {
	if !errors.Is(err, nats.ErrAuthorization) {
		a.log.Warn("the control plane complains", "error", err) //nolint:sloglint // no context
		return
	}
	a.mu.Lock()
	due := time.Since(a.barred) > barredEvery
	if due {
		a.barred = time.Now()
	}
	a.mu.Unlock()
	if due {
		a.log.Warn("the control plane does not let this host in; it is tried again", "error", err, //nolint:sloglint // no context
			"cure", "a server that is starting lets nobody in for a while; if this goes on, the host was put out or the server is another one: remove "+a.options.Directory+", and firedrill agent join with a new token")
	}
}

// connected begins to wait for a word on a new connection.
func (a *Agent) connected(conn *nats.Conn) {
	a.mu.Lock()
	a.since, a.greeted = time.Now(), false
	a.mu.Unlock()
	a.hello(conn, 0)
}

// renew makes another connection when this one is silent: a way that was cut and is whole again may carry a new one long before the old one.
func (a *Agent) renew() {
	a.mu.Lock()
	limit := a.silentMost()
	silent := time.Since(a.since) > limit && time.Since(a.heard) > limit
	if silent {
		a.since = time.Now()
	}
	a.mu.Unlock()
	if silent && a.conn.IsConnected() && !a.options.Clinging {
		_ = a.conn.ForceReconnect() // it is closed only when we end
	}
}

// silentMost is how long a connection may be silent.
func (a *Agent) silentMost() time.Duration { return min(reconnectMax, a.options.Leash*2/3) }

// dialer remembers both ends of the connection: an attack on the network spares it, as it spares the SSH connection of a person.
type dialer struct{ agent *Agent }

// Dial implements nats.CustomDialer.
func (d dialer) Dial(network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: dialMax, KeepAlive: keepAlive}).Dial(network, address) //nolint:noctx // the library gives none
	if err == nil {
		d.agent.mu.Lock()
		d.agent.local, d.agent.remote = conn.LocalAddr(), conn.RemoteAddr()
		d.agent.mu.Unlock()
	}
	return conn, err
}

// controlConnection is how an attack is told what to spare.
func (a *Agent) controlConnection() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	local, ok1 := a.local.(*net.TCPAddr)
	remote, ok2 := a.remote.(*net.TCPAddr)
	if !ok1 || !ok2 {
		return ""
	}
	return fmt.Sprintf("SSH_CONNECTION=%s %d %s %d", remote.IP, remote.Port, local.IP, local.Port)
}

// hello says who we are, after up to a while, so that not all hosts speak at once.
func (a *Agent) hello(conn *nats.Conn, within time.Duration) {
	go func() {
		if within > 0 && !sleep(a.ctx, rand.N(within)) { //nolint:gosec // to spread, not to hide
			return
		}
		presence := a.presence()
		presence.Facts = &a.facts
		login := a.login()
		ctx, cancel := context.WithTimeout(a.ctx, helloMax)
		defer cancel()
		reply, err := conn.RequestWithContext(ctx, fleet.FromAgent(a.id.Key, fleet.WordHello), encode(presence))
		if err != nil {
			return // the next pulse has us try again
		}
		welcome, err := fleet.Decode[fleet.Welcome](reply.Data)
		if err != nil {
			a.log.WarnContext(ctx, "the welcome is not understood", "error", err)
			return
		}
		a.welcomed(welcome, login)
		a.hear(welcome.Pulse)
		a.mu.Lock()
		a.greeted = a.greeted || a.last == login
		a.mu.Unlock()
		a.log.InfoContext(ctx, "the control plane knows us", "name", welcome.Name)
		a.kick()
		if welcome.Renew {
			a.renewKey()
		}
	}()
}

func (a *Agent) heardPulse(message *nats.Msg) {
	pulse, err := fleet.Decode[fleet.Pulse](message.Data)
	if err != nil {
		return
	}
	a.mu.Lock()
	// On a new connection too: what was asked with it may be lost, and it may be the first one with a new key.
	known := (a.boot == pulse.Boot && !a.behind(pulse) && (a.greeted || a.options.Shy)) || a.late(pulse)
	told := a.boot == pulse.Boot
	a.mu.Unlock()
	if told && !known {
		a.hear(pulse) // it is there, whatever we have to ask
	}
	if !known {
		a.hello(a.conn, helloSpread)
		return
	}
	a.hear(pulse)
}

// helloSpread is the time over which hosts say hello to a control plane that was started anew.
const helloSpread = time.Second

// hear takes note that the control plane is there. Within one life of it the epoch only grows.
func (a *Agent) hear(pulse fleet.Pulse) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.late(pulse):
		return
	case a.boot != pulse.Boot:
		a.boot, a.epoch, a.halted = pulse.Boot, pulse.Epoch, pulse.Halted
	case pulse.Epoch >= a.epoch:
		a.epoch, a.halted = pulse.Epoch, pulse.Halted
	default:
		return // said before a halt that we have heard already
	}
	a.term = pulse.Term
	a.heard = time.Now()
}

// late reports whether a pulse is of a server that leads no more and does not know it yet. Who has heard nothing for a leash begins anew: nothing is in
// force then, and what is kept may have been made anew. The lock is held.
func (a *Agent) late(pulse fleet.Pulse) bool {
	return pulse.Term < a.term && time.Since(a.heard) < a.options.Leash && !a.options.Termless
}

// self is what is known here when an order is decided about. The lock is held.
func (a *Agent) self() fleet.Self {
	self := fleet.Self{Fleet: a.id.Fleet, Host: a.id.Key, Epoch: a.epoch, Halted: a.halted, Term: a.term}
	if a.options.Termless {
		self.Term = 0
	}
	return self
}

// silence is how long the control plane was not heard; it is long when it never was.
func (a *Agent) silence() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.heard.IsZero() {
		return time.Hour
	}
	return time.Since(a.heard)
}

// slack is how long the control plane may be silent before what is in force is ended.
func (a *Agent) slack() time.Duration {
	return a.options.Leash - min(revertReserve, a.options.Leash/4)
}

// tend ends what is in force when the control plane is lost, and says now and then that we are there.
func (a *Agent) tend(ctx context.Context) {
	look, speak, rest := time.NewTimer(tendEvery), time.NewTicker(presenceEvery), time.NewTimer(restAfter)
	defer look.Stop()
	defer speak.Stop()
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			if silent := a.silence(); silent > a.slack() && !a.options.Unleashed {
				a.stopAll(fmt.Sprintf("the control plane was not heard for %s", silent.Round(time.Second)))
			}
			a.renew()
			a.keyOver()
			look.Reset(a.tendNext())
		case <-a.roused:
			look.Reset(a.tendNext())
		case <-rest.C:
			if a.options.Rest != nil {
				a.options.Rest()
			}
			rest.Reset(restEvery)
		case <-speak.C:
			a.present()
		}
	}
}

// tendNext is when to look again. What is in force is looked after often; with nothing in force a host should not even wake up for us, but for a connection
// that may have become silent.
func (a *Agent) tendNext() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.tasks)+len(a.samplings) > 0 && !a.options.Drowsy {
		return tendEvery
	}
	silent := min(time.Since(a.since), time.Since(a.heard))
	next := min(tendIdle, a.options.Leash/4, a.silentMost()-silent)
	if len(a.known.OrderBefore) > 0 {
		next = min(next, time.Until(a.known.OrderEnds))
	}
	return max(tendEvery, next)
}

// rouse has what is in force looked after from now on.
func (a *Agent) rouse() {
	select {
	case a.roused <- struct{}{}:
	default:
	}
}

// present says that we are there, and what is in force.
func (a *Agent) present() {
	_ = a.conn.Publish(fleet.FromAgent(a.id.Key, fleet.WordPresence), encode(a.presence())) // who does not hear it takes us for absent
}

func (a *Agent) presence() fleet.Presence {
	presence := fleet.Presence{At: time.Now()}
	presence.OrderSerial, presence.Pin = a.trusts()
	running, err := a.options.Running(a.ctx)
	if err != nil {
		// What cannot be known is not nothing: a host with something unknown in force is not attacked.
		a.log.Warn("what is in force here is not known", "error", err) //nolint:sloglint // no context
		running = []fleet.Running{{Kind: "unknown"}}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	presence.Boot, presence.Epoch = a.boot, a.epoch
	for _, r := range running {
		if _, ours := a.tasks[r.Order]; !ours {
			r.Order = ""
		}
		presence.Running = append(presence.Running, r)
	}
	return presence
}

// stopAll ends all orders, begun or not, and looks at nothing any more. It names the orders whose attack had begun.
func (a *Agent) stopAll(why string) (begun []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.tasks {
		if t.begun {
			begun = append(begun, t.order.ID)
		}
		t.stop(why)
	}
	for _, s := range a.samplings {
		s.cancel(errors.New(why))
	}
	return begun
}

func encode(value any) []byte {
	text, _ := json.Marshal(value) // our own types always encode
	return text
}

// sleep returns false when ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
