package databasetest

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"firedrill/internal/failover/database"
)

// Fake is a pair of servers in memory. The zero value of Bug is a pair that keeps the contract.
type Fake struct {
	Bug     string // one of Bugs
	Managed bool   // it promotes by itself when the primary is lost, and makes standbys of old primaries

	mu      sync.Mutex // guards the fields below
	servers map[string]*fakeServer
}

type fakeServer struct {
	off, primary, fenced, streams bool
	timeline                      uint64
	rows                          []int
}

// Bugs are what can be planted, each with what a driver does then.
var Bugs = []string{
	"fence does nothing",
	"promote loses rows",
	"status knows no follower",
	"write is acknowledged by a standby",
	"the old primary comes back as a primary",
	"rebuild leaves it alone",
	"planned promotion does not wait",
	"write on the new primary fails",
	"promote says yes and does nothing",
}

// ManagedBugs are what a manager of its own may do wrong besides.
var ManagedBugs = []string{
	"the manager promotes nobody",
	"the manager loses rows",
	"the manager lets the old primary back in as a primary",
	"the manager makes no standby of the old primary",
}

var errFakeOff = errors.New("no answer")

// NewManaged returns a pair that moves by itself.
func NewManaged(bug string) (*Fake, *Subject) {
	f, subject := NewFake(bug)
	f.Managed, subject.ByItself, subject.Rejoins = true, true, true
	return f, subject
}

// NewFake returns a pair, of which the first is primary.
func NewFake(bug string) (*Fake, *Subject) {
	f := &Fake{Bug: bug, servers: map[string]*fakeServer{"db-a": {primary: true, timeline: 1}, "db-b": {streams: true, timeline: 1}}}
	return f, &Subject{
		Driver: f, Hosts: [2]string{"db-a", "db-b"}, PowerOff: f.powerOff, Boot: f.boot, Rows: f.rows, Add: f.add,
	}
}

func (f *Fake) other(host string) *fakeServer {
	for name, server := range f.servers {
		if name != host {
			return server
		}
	}
	return nil
}

// Status implements database.Driver.
func (f *Fake) Status(context.Context) (database.Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	status := database.Status{Managed: f.Managed}
	for _, name := range []string{"db-a", "db-b"} {
		server := f.servers[name]
		m := database.Member{Host: name, Role: database.Standby, Timeline: server.timeline, Position: uint64(len(server.rows)) + 1, Armed: true}
		m.Streaming = server.streams && f.Bug != "status knows no follower"
		switch {
		case server.off:
			m = database.Member{Host: name, Role: database.Down}
		case server.primary:
			m.Role, m.Streaming = database.Primary, false
		}
		status.Members = append(status.Members, m)
	}
	return status, nil
}

// Fence implements database.Driver.
func (f *Fake) Fence(_ context.Context, move database.Move) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Bug != "fence does nothing" {
		f.servers[move.From].fenced = true
		if !f.servers[move.From].off {
			f.servers[move.From].primary = false
		}
	}
	return "fenced", nil
}

// Promote implements database.Driver.
func (f *Fake) Promote(_ context.Context, move database.Move) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	to, from := f.servers[move.To], f.servers[move.From]
	if f.Bug == "promote says yes and does nothing" {
		return nil
	}
	if move.Planned && f.Bug != "planned promotion does not wait" {
		to.rows = append([]int(nil), from.rows...)
	}
	if f.Bug == "promote loses rows" || f.Bug == "planned promotion does not wait" {
		to.rows = to.rows[:len(to.rows)-1]
	}
	to.primary, to.streams = true, false
	to.timeline++
	if f.Managed && f.Bug != "the manager makes no standby of the old primary" {
		f.follow(from, to)
	}
	return nil
}

func (f *Fake) follow(server, primary *fakeServer) {
	*server = fakeServer{off: server.off, streams: !server.off, timeline: primary.timeline, rows: append([]int(nil), primary.rows...)}
}

// Write implements database.Driver.
func (f *Fake) Write(_ context.Context, host string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	server := f.servers[host]
	switch {
	case server.off:
		return errFakeOff
	case !server.primary && f.Bug != "write is acknowledged by a standby":
		return fmt.Errorf("%s: %w", host, database.ErrReadOnly)
	case server.timeline > 1 && f.Bug == "write on the new primary fails":
		return errFakeOff
	}
	return nil
}

// Rebuild implements database.Driver.
func (f *Fake) Rebuild(_ context.Context, host, from string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Bug == "rebuild leaves it alone" {
		return nil
	}
	server := f.servers[host]
	*server = fakeServer{streams: true, timeline: f.servers[from].timeline, rows: append([]int(nil), f.servers[from].rows...)}
	return nil
}

func (f *Fake) powerOff(_ context.Context, host string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.servers[host].off = true
	other := f.other(host)
	other.streams = false
	if f.Managed && f.servers[host].primary && f.Bug != "the manager promotes nobody" {
		other.primary = true
		other.timeline++
		if f.Bug == "the manager loses rows" {
			other.rows = other.rows[:len(other.rows)-1]
		}
	}
	return nil
}

func (f *Fake) boot(_ context.Context, host string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.servers[host].off = false
	f.servers[host].primary = f.Bug == "the old primary comes back as a primary" || f.Bug == "the manager lets the old primary back in as a primary"
	if f.Managed && !f.servers[host].primary && f.Bug != "the manager makes no standby of the old primary" {
		f.follow(f.servers[host], f.other(host))
	}
	return nil
}

func (f *Fake) add(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, server := range f.servers {
		if server.primary && !server.off {
			server.rows = append(server.rows, len(server.rows))
			if other := f.other(name); other.streams {
				other.rows = append([]int(nil), server.rows...)
			}
			return nil
		}
	}
	return errFakeOff
}

func (f *Fake) rows(context.Context) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, server := range f.servers {
		if server.primary && !server.off {
			return len(server.rows), nil
		}
	}
	return 0, errFakeOff
}
