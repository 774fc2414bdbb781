package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/tsig"
)

const (
	// readMax is the largest query over UDP that is read whole; one that is longer holds options that nobody needs here.
	readMax = 4096

	tcpReadMax = 2 * time.Second // for the first query of a connection
	tcpIdleMax = 8 * time.Second // between queries, RFC 7766

	// bindTries is how often a free port is looked for that both UDP and TCP can have.
	bindTries = 20
)

// Options make a Server. Zone and Listen are needed.
type Options struct {
	Zone      *Zone
	Listen    string    // host:port for UDP and TCP; port 0 takes a free one
	StateFile string    // where decided answers outlive the process; empty: nowhere
	Frozen    []string  // failover names whose answer never changes: to prove that a drill notices
	Rate      int       // queries a second and source over UDP; default 1,000
	Keys      tsig.Keys // whose signatures are taken
	Follows   bool      // decisions come from a watch: secondaries wait for the first ones

	Secondaries []Secondary  // who may have the whole zone and is told of changes
	Log         *slog.Logger // default: none
}

// Server answers for a zone. Make one with New; all methods may be called at once.
type Server struct {
	zone    *Zone
	options Options
	log     *slog.Logger
	limit   *limiter
	keys    tsig.Keys
	tellers []*notifier
	alarms  map[string]failover.Seen // guarded by mu
	frozen  map[string]bool
	decided atomic.Pointer[Decided] // the map in it never changes
	stateMu sync.Mutex              // one writer of the state file at a time; not mu, so that a slow disk holds up no answer

	mu      sync.Mutex // guards the fields below and changes of decided
	address netip.AddrPort
	sockets []*dns.Server
	serving sync.WaitGroup
	silence context.CancelFunc // ends the tellers

	ready  chan struct{}
	failed chan error

	beforeAnswer func(*dns.Msg) // test hook: planted bugs
}

// ErrStale says that a decision is not newer than the one that is served.
var ErrStale = failover.ErrStale

// New returns a server that does not run yet, with the answers of the state file. A state file that cannot be read is reported in the
// log and otherwise ignored: an old answer is worth less than an answer.
func New(options Options) (*Server, error) {
	if options.Zone == nil {
		return nil, errors.New("authority: no zone")
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	if options.Rate == 0 {
		options.Rate = rateDefault
	}
	if options.Rate < 1 {
		return nil, fmt.Errorf("authority: rate %d; take 1 or more", options.Rate)
	}
	s := &Server{
		zone: options.Zone, options: options, log: options.Log, limit: newLimiter(options.Rate), frozen: map[string]bool{},
		keys: tsig.Keys{}, alarms: map[string]failover.Seen{}, ready: make(chan struct{}), failed: make(chan error, 2), // one for each socket
	}
	maps.Copy(s.keys, options.Keys)
	for _, secondary := range options.Secondaries {
		if secondary.Key.Name != "" {
			s.keys[secondary.Key.Name] = secondary.Key
		}
		s.tellers = append(s.tellers, &notifier{zone: options.Zone, to: secondary, log: s.log, wake: make(chan struct{}, 1), now: s.settledSerial})
	}
	for _, name := range options.Frozen {
		full, err := s.failoverName(name)
		if err != nil {
			return nil, err
		}
		s.frozen[full] = true
	}
	decided := s.restored()
	s.startHealth(decided)
	s.decided.Store(&decided)
	return s, nil
}

// failoverName returns a failover name that was written relative to the zone or in full, with or without the final dot.
func (s *Server) failoverName(name string) (string, error) {
	for _, full := range []string{dns.CanonicalName(name), dns.CanonicalName(strings.TrimSuffix(name, ".") + "." + s.zone.Name)} {
		if s.zone.Initial(full) != nil {
			return full, nil
		}
	}
	if name == "@" && s.zone.Initial(s.zone.Name) != nil {
		return s.zone.Name, nil
	}
	return "", &drill.Error{
		Op: "freeze " + name, Kind: drill.Invalid, Err: fmt.Errorf("not a failover name of %s", s.zone.Name),
		Hint: "Failover names of this zone: " + strings.Join(s.zone.FailoverNames(), ", "),
	}
}

// restored returns what of the state file still fits the zone.
func (s *Server) restored() Decided {
	fit := Decided{}
	if s.options.StateFile == "" {
		return fit
	}
	saved, err := loadState(s.options.StateFile)
	if err != nil {
		s.log.Warn("state file ignored", "error", err)
	}
	for name, decision := range saved {
		name = dns.CanonicalName(name)
		problem := s.check(name, decision.Addresses)
		if at := s.zone.owners[name]; at != nil && at.routed != nil {
			problem = s.checkRouted(name, decision)
		}
		if problem != nil {
			s.log.Warn("saved answer ignored", "name", name, "error", problem)
			continue
		}
		fit[name] = decision
	}
	return fit
}

func (s *Server) check(name string, addresses []netip.Addr) error {
	if s.zone.Initial(name) == nil {
		return fmt.Errorf("%s is not a failover name of %s", name, s.zone.Name)
	}
	if len(addresses) == 0 || len(addresses) > addressesMax {
		return fmt.Errorf("%s: %d addresses; an answer has 1 to %d", name, len(addresses), addressesMax)
	}
	for _, address := range addresses {
		if problem := unusable(address); problem != "" {
			return fmt.Errorf("%s: %s", name, problem)
		}
	}
	return nil
}

// Set publishes a decided answer: the next query gets it. It returns ErrStale when serial is not above the one that is served, and another
// error when the name is no failover name or the addresses cannot be answered; what is served stays then. The same decision again, and
// any decision for a frozen name, is nil and changes nothing. An error about the state file means that the answer is served but would
// not outlive a restart.
func (s *Server) Set(name string, addresses []netip.Addr, serial uint64) error {
	name = dns.CanonicalName(name)
	addresses = slices.Clone(addresses)
	if err := s.check(name, addresses); err != nil {
		return fmt.Errorf("publish %w", err)
	}
	if s.frozen[name] {
		s.log.Warn("answer is frozen", "name", name, "ignored_addresses", addresses, "serial", serial)
		return nil
	}
	s.mu.Lock()
	current := *s.decided.Load()
	last, known := current[name]
	if known && serial <= last.Serial {
		s.mu.Unlock()
		if serial == last.Serial && slices.Equal(addresses, last.Addresses) {
			return nil
		}
		return fmt.Errorf("publish %s: serial %d, served is %d: %w", name, serial, last.Serial, ErrStale)
	}
	next := maps.Clone(current)
	next[name] = Decision{Addresses: addresses, Serial: serial}
	s.decided.Store(&next)
	s.mu.Unlock()
	s.log.Info("answer published", "name", name, "addresses", addresses, "serial", serial)
	for _, teller := range s.tellers {
		teller.poke()
	}
	return s.save()
}

// settledSerial returns the zone's serial number, 0 while the zone is not handed out.
func (s *Server) settledSerial() uint32 {
	decided := *s.decided.Load()
	if s.unsettled(decided) != "" {
		return 0
	}
	return s.zone.serial(decided)
}

// save writes the newest decisions; the order of calls does not matter.
func (s *Server) save() error {
	if s.options.StateFile == "" {
		return nil
	}
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	if err := saveState(s.options.StateFile, *s.decided.Load()); err != nil {
		return fmt.Errorf("save answers: %w", err)
	}
	return nil
}

// Served returns what a failover name leads to now; nil for any other name.
func (s *Server) Served(name string) []netip.Addr {
	name = dns.CanonicalName(name)
	if decision := (*s.decided.Load())[name]; len(decision.Addresses) > 0 {
		return slices.Clone(decision.Addresses)
	}
	return s.zone.Initial(name)
}

// Start opens the sockets and answers until Stop. It returns once both are open, so a query sent afterwards is answered.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.sockets) > 0 {
		return errors.New("authority: started already")
	}
	udp, tcp, err := bind(ctx, s.options.Listen)
	if err != nil {
		return listenError(s.options.Listen, err)
	}
	s.address = tcp.Addr().(*net.TCPAddr).AddrPort()
	fast, err := newFastConn(udp, s)
	if err != nil {
		return errors.Join(fmt.Errorf("authority: %w", err), udp.Close(), tcp.Close())
	}
	s.sockets = []*dns.Server{{PacketConn: fast}, {Listener: newBoundedListener(tcp)}}
	var opened sync.WaitGroup
	for _, socket := range s.sockets {
		prepare(socket, s.handle)
		socket.TsigSecret = s.keys.Secrets()
		opened.Add(1)
		once := sync.OnceFunc(opened.Done)
		socket.NotifyStartedFunc = once
		s.serving.Go(func() {
			defer once()
			if err := socket.ActivateAndServe(); err != nil {
				s.failed <- fmt.Errorf("authority: %w", err)
			}
		})
	}
	opened.Wait()
	telling, silence := context.WithCancel(context.WithoutCancel(ctx))
	s.silence = silence
	for _, teller := range s.tellers {
		s.serving.Go(func() { teller.run(telling) })
	}
	close(s.ready)
	return nil
}

// Ready is closed when both sockets are open.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Failed delivers an error for each socket that broke while serving. The other one keeps answering; the process had better be started
// again.
func (s *Server) Failed() <-chan error { return s.failed }

// Address returns where the server listens, once started.
func (s *Server) Address() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.address
}

// Stop closes the sockets and waits for queries under way, no longer than ctx. It may be called again.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	sockets := s.sockets
	s.sockets = nil
	if s.silence != nil {
		s.silence()
	}
	s.mu.Unlock()
	var problems error
	for _, socket := range sockets {
		problems = errors.Join(problems, socket.ShutdownContext(ctx))
	}
	if problems != nil {
		return fmt.Errorf("authority: stop: %w", problems)
	}
	s.serving.Wait()
	return nil
}

// prepare gives a socket what all of ours have: its bounds, and who answers.
func prepare(socket *dns.Server, handle func(dns.ResponseWriter, *dns.Msg)) {
	socket.Handler = dns.HandlerFunc(handle)
	socket.UDPSize = readMax
	socket.ReadTimeout = tcpReadMax
	socket.IdleTimeout = func() time.Duration { return tcpIdleMax }
	socket.MsgAcceptFunc = accept
}

// listenError is the error for an address that cannot be listened on.
func listenError(listen string, err error) error {
	return &drill.Error{
		Op: "listen on " + listen, Kind: drill.Unsupported, Err: err,
		Hint: "Ports below 1024 need root or CAP_NET_BIND_SERVICE; name another address or port.",
	}
}

// bind opens UDP and TCP on one port.
func bind(ctx context.Context, listen string) (*net.UDPConn, net.Listener, error) {
	var config net.ListenConfig
	var problem error
	for range bindTries {
		tcp, err := config.Listen(ctx, "tcp", listen)
		if err != nil {
			return nil, nil, err
		}
		udp, err := config.ListenPacket(ctx, "udp", tcp.Addr().String())
		if err == nil {
			return udp.(*net.UDPConn), tcp, nil
		}
		problem = errors.Join(err, tcp.Close())
		if _, port, splitErr := net.SplitHostPort(listen); splitErr != nil || port != "0" {
			break // a fixed port does not become free by asking again
		}
	}
	return nil, nil, problem
}
