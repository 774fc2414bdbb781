package postgresql

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"firedrill/internal/deploy/remote"
	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
)

const (
	lookMax    = 2 * time.Second // of one look at a host, which may be dead without saying so
	promoteMax = 30 * time.Second
	pollEvery  = 50 * time.Millisecond
)

// Options are what a Driver must know. Hosts, Database, User and Data are required.
type Options struct {
	Hosts    []drill.Host // servers; their Address is where PostgreSQL listens, their SSH how they are reached
	Port     uint16       // default 5432
	Database string       // where the writes of the proof go
	User     string       // role of ours, see docs/databases.md for what it must be allowed
	Password string       // of the role; empty: none, or ~/.pgpass

	Data        string // data directory, the same on every host
	Programs    string // directory of pg_ctl and pg_rewind; default: the newest below /usr/lib/postgresql
	Owner       string // user that PostgreSQL runs as, default postgres
	Service     string // systemd unit, stopped and started for a rebuild
	Replication string // how a standby connects to its primary, without host and port, as "user=replicator passfile=/var/lib/postgresql/.pgpass"
	Synchronous string // "suspend" (default): a new primary does not wait for standbys until one is rebuilt; "wait": it acknowledges nothing until then

	PowerOff       []string      // program that switches {host} off, when it cannot be reached over SSH
	TrustArmed     bool          // a host that is out of reach and was seen armed counts as fenced
	ConnectTimeout time.Duration // how long a host that is alive may take to say so, default 2 s
	SSLMode        string        // as PostgreSQL's own programs know it, default prefer

	SSH     remote.Options // how hosts are reached
	DialSQL func(ctx context.Context, network, address string) (net.Conn, error)
	Command func(ctx context.Context, args []string) error // runs PowerOff; default: as a child of ours
}

// Driver moves one PostgreSQL. It is a database.Driver; methods may be called concurrently.
type Driver struct{ options Options }

var _ database.Driver = (*Driver)(nil)

// New returns a driver; it touches nothing.
func New(options Options) *Driver {
	if options.Port == 0 {
		options.Port = 5432
	}
	if options.Owner == "" {
		options.Owner = "postgres"
	}
	if options.Synchronous == "" {
		options.Synchronous = "suspend"
	}
	if options.SSLMode == "" {
		options.SSLMode = "prefer"
	}
	if options.ConnectTimeout == 0 {
		options.ConnectTimeout = lookMax
	}
	if options.Command == nil {
		options.Command = runHere
	}
	options.SSH.ConnectTimeout = options.ConnectTimeout
	return &Driver{options: options}
}

func (d *Driver) host(name string) (drill.Host, error) {
	for _, host := range d.options.Hosts {
		if host.Name == name {
			return host, nil
		}
	}
	var names []string
	for _, host := range d.options.Hosts {
		names = append(names, host.Name)
	}
	return drill.Host{}, &drill.Error{Op: "database", Kind: drill.Invalid, Err: fmt.Errorf("there is no host %q", name), Hint: drill.Suggest(name, names)}
}

// Status asks every host at once, over SQL.
func (d *Driver) Status(ctx context.Context) (database.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, d.options.ConnectTimeout)
	defer cancel()
	members := make([]database.Member, len(d.options.Hosts))
	waits := make([][]string, len(d.options.Hosts)) // addresses of standbys that a primary waits for
	var looking sync.WaitGroup
	for i, host := range d.options.Hosts {
		looking.Go(func() { members[i], waits[i] = d.look(ctx, host) })
	}
	looking.Wait()
	for _, addresses := range waits {
		for _, address := range addresses {
			for i, host := range d.options.Hosts {
				if host.Address.String() == address {
					members[i].Synchronous = true
				}
			}
		}
	}
	return database.Status{Members: members}, nil
}

// Promote makes move.To the primary, arms it, and lets it go on without a synchronous standby if that is the policy. For a planned move the
// standby first gets everything that the old primary wrote before it stopped.
func (d *Driver) Promote(ctx context.Context, move database.Move) error {
	ctx, cancel := context.WithTimeout(ctx, promoteMax)
	defer cancel()
	host, err := d.host(move.To)
	if err != nil {
		return err
	}
	if move.Planned {
		if err := d.awaitAll(ctx, move, host); err != nil {
			return err
		}
	}
	conn, err := d.connect(ctx, host)
	if err != nil {
		return &drill.Error{Op: "promote", Host: host.Name, Kind: drill.Unreachable, Err: err, Hint: "Can this role connect? See docs/databases.md."}
	}
	defer conn.Close()
	// An armed standby keeps the file only until it is promoted, which removes it.
	if promoted, err := conn.Text(ctx, "select pg_promote(true, 25)::text"); err != nil || promoted != "true" {
		return &drill.Error{Op: "promote", Host: host.Name, Kind: drill.Failed, Err: errors.Join(err, fmt.Errorf("pg_promote said %q", promoted)), Hint: "See the server's own log."}
	}
	if err := d.suspend(ctx, conn); err != nil {
		return err
	}
	return d.arm(ctx, host)
}

// awaitAll waits until the standby has all that the old primary wrote before it stopped.
func (d *Driver) awaitAll(ctx context.Context, move database.Move, host drill.Host) error {
	from, err := d.host(move.From)
	if err != nil {
		return err
	}
	end, err := d.stoppedAt(ctx, from)
	if err != nil {
		return err
	}
	for {
		member, _ := d.look(ctx, host)
		if member.Position >= end {
			return nil
		}
		select {
		case <-ctx.Done():
			return &drill.Error{
				Op: "promote", Host: host.Name, Kind: drill.Timeout, Err: fmt.Errorf("has %X, and %s stopped at %X: it was not promoted", member.Position, from.Name, end),
				Hint: "The old primary is fenced. Go on and lose that, with firedrill database promote --allow-loss, or start the old primary again.",
			}
		case <-time.After(pollEvery):
		}
	}
}
