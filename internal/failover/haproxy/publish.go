package haproxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/move"
)

const (
	verifyMax   = 10 * time.Second
	verifyEvery = 20 * time.Millisecond
)

// Options make a Publisher. Sockets and Backend are needed.
type Options struct {
	Sockets []string      // runtime API of each HAProxy: the path of a Unix socket, or host:port
	Backend string        // whose servers carry the addresses of the environments
	CutOff  bool          // also end what is under way on servers that are taken out; default: they are drained, and nobody loses a request
	Lock    string        // file at which writers wait for each other; default: the first Unix socket's path with .lock
	Verify  time.Duration // how long a server that is put in may take until HAProxy's own check finds it up; default 10 s
	Log     *slog.Logger  // default: none
}

// Publisher moves one backend in every HAProxy. All methods may be called at once.
type Publisher struct{ options Options }

// New checks the options. The error is a *drill.Error of kind Invalid.
func New(options Options) (*Publisher, error) {
	invalid := func(format string, args ...any) (*Publisher, error) {
		return nil, &drill.Error{Op: "haproxy", Kind: drill.Invalid, Err: fmt.Errorf(format, args...)}
	}
	switch {
	case len(options.Sockets) == 0:
		return invalid("no socket of a runtime API; write the path of a stats socket with level admin, or host:port")
	case options.Backend == "" || strings.ContainsAny(options.Backend, " \t\r\n;/\\<"):
		return invalid("%q is not the name of a backend", options.Backend)
	}
	if options.Lock == "" {
		i := slices.IndexFunc(options.Sockets, func(s string) bool { return strings.HasPrefix(s, "/") })
		if i < 0 {
			return invalid("no lock file; name one, since no socket is a file")
		}
		options.Lock = options.Sockets[i] + ".lock"
	}
	if options.Verify == 0 {
		options.Verify = verifyMax
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	return &Publisher{options: options}, nil
}

// Publish puts the servers at the addresses of the change into rotation and all others out, in every HAProxy, and returns nil once each was
// seen to have done it. The same change again is nil; it also puts right what somebody else has changed since. The error wraps
// failover.ErrStale when a newer change was there, or is a *drill.Error: Invalid (an address is no server's), Refused (the socket may only
// look), Unreachable, or Unproven when a new server does not come up: the old ones then stay in rotation beside it. A HAProxy that fails
// keeps no other back.
func (p *Publisher) Publish(ctx context.Context, change failover.Change) error {
	change, err := change.Valid()
	if err != nil {
		return err
	}
	yield, err := move.Take(ctx, p.options.Lock)
	if err != nil {
		return err
	}
	defer yield()
	problems := make([]error, len(p.options.Sockets))
	var moving sync.WaitGroup
	for i, socket := range p.options.Sockets {
		moving.Go(func() { problems[i] = p.move(ctx, socket, change) })
	}
	moving.Wait()
	return errors.Join(problems...)
}

// move brings one HAProxy to the change.
func (p *Publisher) move(ctx context.Context, socket string, change failover.Change) error {
	op := "publish " + change.Name
	unreachable := func(err error) error {
		if drill.KindOf(err) != drill.Internal {
			return err
		}
		return &drill.Error{Op: op, Host: socket, Kind: drill.Unreachable, Err: err, Hint: "Check that HAProxy runs and has this stats socket."}
	}
	current, err := read(ctx, socket, p.options.Backend)
	if err != nil {
		return unreachable(err)
	}
	if err := change.Follows(current.mark, socket); err != nil {
		return err
	}
	for _, address := range change.Addresses {
		if !slices.ContainsFunc(current.servers, func(s server) bool { return s.address == address }) {
			return &drill.Error{
				Op: op, Host: socket, Kind: drill.Invalid, Err: fmt.Errorf("backend %s has no server at %s", p.options.Backend, address),
				Hint: "Add a server line for each host of both environments to that backend.",
			}
		}
	}
	if current.mark == change.Mark() && slices.Equal(current.led(), change.Addresses) {
		return nil
	}
	if err := p.prepare(ctx, socket, current, change); err != nil {
		return unreachable(err)
	}
	if err := p.awaitUp(ctx, socket, change.Addresses); err != nil {
		return unreachable(err)
	}
	if err := p.putIn(ctx, socket, current, change); err != nil {
		return unreachable(err)
	}
	if err := p.takeOut(ctx, socket, current, change.Addresses); err != nil {
		return unreachable(err)
	}
	return p.confirm(ctx, socket, change)
}

// prepare marks the backend with the change and has the new servers checked. HAProxy takes a server that leaves maintenance for up until its
// first check says otherwise, and would send it everything; so such a server is first checked out of rotation, and counts as down until a
// check has passed.
func (p *Publisher) prepare(ctx context.Context, socket string, current state, change failover.Change) error {
	if err := order(ctx, socket, fmt.Sprintf("experimental-mode on; set var %s str(%s)", variable(p.options.Backend), change.Mark())); err != nil {
		return err
	}
	for _, one := range current.servers {
		if !slices.Contains(change.Addresses, one.address) || one.in {
			continue
		}
		name := p.options.Backend + "/" + one.name
		orders := []string{"set server " + name + " state ready"}
		if one.stale {
			orders = []string{"set server " + name + " state drain", "set server " + name + " health down"}
		}
		for _, line := range orders {
			if err := order(ctx, socket, line); err != nil {
				return err
			}
		}
	}
	return nil
}

// putIn puts the new servers into rotation, beside the old ones.
func (p *Publisher) putIn(ctx context.Context, socket string, current state, change failover.Change) error {
	for _, one := range current.servers {
		if slices.Contains(change.Addresses, one.address) && !one.in {
			if err := order(ctx, socket, fmt.Sprintf("set server %s/%s state ready", p.options.Backend, one.name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitUp waits until one of the new servers takes traffic.
func (p *Publisher) awaitUp(ctx context.Context, socket string, addresses []netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, p.options.Verify)
	defer cancel()
	for {
		now, err := read(ctx, socket, p.options.Backend)
		if err == nil && now.anyUp(addresses) {
			return nil
		}
		if !move.Pause(ctx, verifyEvery) {
			return &drill.Error{
				Op: "publish", Host: socket, Kind: drill.Unproven, Err: fmt.Errorf("HAProxy's own check finds none of %v up (%w)", addresses, context.Cause(ctx)),
				Hint: "The servers that were in rotation stay in it. Check the new ones from HAProxy's host.",
			}
		}
	}
}

func (p *Publisher) takeOut(ctx context.Context, socket string, current state, addresses []netip.Addr) error {
	for _, one := range current.servers {
		if slices.Contains(addresses, one.address) || !one.in {
			continue
		}
		name := p.options.Backend + "/" + one.name
		// Drained and not in maintenance: so its health is known when it is wanted again.
		if err := order(ctx, socket, "set server "+name+" state drain"); err != nil {
			return err
		}
		if p.options.CutOff {
			if err := order(ctx, socket, "shutdown sessions server "+name); err != nil {
				return err
			}
		}
	}
	return nil
}

// confirm reads back what was ordered.
func (p *Publisher) confirm(ctx context.Context, socket string, change failover.Change) error {
	now, err := read(ctx, socket, p.options.Backend)
	if err == nil && failover.SerialIn(now.mark) > change.Serial {
		return change.Follows(now.mark, socket)
	}
	if err == nil && (now.mark != change.Mark() || !slices.Equal(now.led(), change.Addresses)) {
		err = fmt.Errorf("it leads to %v", now.led())
	}
	if err == nil {
		p.options.Log.InfoContext(ctx, "backend moved", "backend", p.options.Backend, "socket", socket, "addresses", change.Addresses, "serial", change.Serial)
		return nil
	}
	return &drill.Error{
		Op: "verify " + change.Name, Host: socket, Kind: drill.Unproven, Err: err, Hint: "Someone else changes the states of these servers; find out who.",
	}
}

// Served asks every HAProxy which addresses are in rotation.
func (p *Publisher) Served(ctx context.Context, _ string) []failover.Served {
	all := make([]failover.Served, len(p.options.Sockets))
	var asking sync.WaitGroup
	for i, socket := range p.options.Sockets {
		asking.Go(func() {
			found, err := read(ctx, socket, p.options.Backend)
			all[i] = failover.Served{Server: socket, Addresses: found.led(), Serial: failover.SerialIn(found.mark), Err: err}
		})
	}
	asking.Wait()
	return all
}
