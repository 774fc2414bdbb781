package authority

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// Hosting answers for any number of hosted zones on one port. Zones come, change and go while it runs: each answer is of the zones as they
// were at one moment. All methods may be called at once.
type Hosting struct {
	listen string
	log    *slog.Logger
	limit  *limiter
	zones  atomic.Pointer[map[string]*Server] // by name; each composes answers and listens nowhere

	mu      sync.Mutex // guards the fields below
	address netip.AddrPort
	sockets []*dns.Server
	serving sync.WaitGroup
	failed  chan error
}

// NewHosting returns a server without zones that does not run yet.
func NewHosting(listen string, log *slog.Logger) *Hosting {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	h := &Hosting{listen: listen, log: log, limit: newLimiter(rateDefault), failed: make(chan error, 2)}
	h.zones.Store(&map[string]*Server{})
	return h
}

// Replace makes these the zones, with the names of the health checks that are unhealthy. The next query is answered so.
func (h *Hosting) Replace(zones []*Zone, ill []string) {
	next := make(map[string]*Server, len(zones))
	for _, zone := range zones {
		server := &Server{zone: zone, log: h.log}
		server.decided.Store(&Decided{zone.Name: Decision{Ill: ill}})
		next[zone.Name] = server
	}
	h.zones.Store(&next)
}

// Start opens UDP and TCP and answers until Stop.
func (h *Hosting) Start(ctx context.Context) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.sockets) > 0 {
		return errors.New("authority: started already")
	}
	udp, tcp, err := bind(ctx, h.listen)
	if err != nil {
		return listenError(h.listen, err)
	}
	h.address = tcp.Addr().(*net.TCPAddr).AddrPort()
	h.sockets = []*dns.Server{{PacketConn: udp}, {Listener: newBoundedListener(tcp)}}
	for _, socket := range h.sockets {
		prepare(socket, h.handle)
		started := make(chan struct{})
		once := sync.OnceFunc(func() { close(started) })
		socket.NotifyStartedFunc = once
		h.serving.Go(func() {
			defer once()
			if err := socket.ActivateAndServe(); err != nil {
				h.failed <- fmt.Errorf("authority: %w", err)
			}
		})
		<-started
	}
	return nil
}

// Failed delivers an error for each socket that broke while serving.
func (h *Hosting) Failed() <-chan error { return h.failed }

// Address returns where it listens, once started.
func (h *Hosting) Address() netip.AddrPort {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.address
}

// Stop closes the sockets and waits for queries under way, no longer than ctx.
func (h *Hosting) Stop(ctx context.Context) error {
	h.mu.Lock()
	sockets := h.sockets
	h.sockets = nil
	h.mu.Unlock()
	var problems error
	for _, socket := range sockets {
		problems = errors.Join(problems, socket.ShutdownContext(ctx))
	}
	if problems == nil {
		h.serving.Wait()
	}
	return problems
}

func (h *Hosting) handle(w dns.ResponseWriter, query *dns.Msg) {
	now := time.Now()
	_, overTCP := w.RemoteAddr().(*net.TCPAddr)
	packet := comeByTCP(query)
	if overTCP || h.limit.admit(addressOf(w.RemoteAddr()), now) {
		packet = h.compose(query, now, overTCP)
	}
	if _, err := w.Write(packet); err != nil {
		h.log.Debug("answer not sent", "to", w.RemoteAddr().String(), "error", err)
	}
}

// compose answers from the zone that is closest to the name; without one it refuses.
func (h *Hosting) compose(query *dns.Msg, now time.Time, overTCP bool) []byte {
	zones := *h.zones.Load()
	if len(query.Question) == 1 && query.IsTsig() == nil {
		name := dns.CanonicalName(query.Question[0].Name)
		for at, end := 0, false; !end; at, end = dns.NextLabel(name, at) {
			if server := zones[name[at:]]; server != nil {
				return server.compose(query, now, overTCP)
			}
		}
	}
	reply := new(dns.Msg).SetRcode(query, dns.RcodeRefused)
	packet, err := reply.Pack()
	if err != nil {
		return refuse(query)
	}
	return packet
}

// Answer composes the reply to a query as a client over TCP would get it now.
func (h *Hosting) Answer(query *dns.Msg) (*dns.Msg, error) {
	reply := new(dns.Msg)
	return reply, reply.Unpack(h.compose(query, time.Now(), true))
}
