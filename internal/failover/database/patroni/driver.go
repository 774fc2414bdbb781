package patroni

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
	"firedrill/internal/failover/database/pgsql"
)

const (
	lookMax   = 2 * time.Second // of one look at a host, which may be dead without saying so
	pollEvery = 100 * time.Millisecond
	// moveMax is how long Patroni may take for a switchover or failover: it answers a request after two rounds of its loop (10 s) at the latest.
	moveMax = time.Minute
	// rejoinMax is how long Patroni is left to make a standby of an old primary by itself before it is told to copy it anew.
	rejoinMax = 20 * time.Second
	// rebuildMax bounds a copy of the whole database.
	rebuildMax = 30 * time.Minute
)

// Options are what a Driver must know. Hosts and SQL are required.
type Options struct {
	Hosts          []drill.Host // servers; their names are those of Patroni's members
	Port           uint16       // of Patroni's REST API, default 8008
	User, Password string       // that the API asks for before it changes anything
	HTTPS          bool
	Roots          *x509.CertPool // who may have signed the API's certificate; nil: whom this machine trusts
	SQL            pgsql.Server   // how the writes of the proof get in; its Host is filled in
	ConnectTimeout time.Duration
	Dial           func(ctx context.Context, network, address string) (net.Conn, error)
}

// Driver moves one PostgreSQL that Patroni manages. It is a database.Driver; methods may be called concurrently.
type Driver struct {
	options Options
	client  *http.Client
}

var (
	_ database.Driver    = (*Driver)(nil)
	_ database.Historian = (*Driver)(nil)
)

// New returns a driver; it touches nothing.
func New(options Options) *Driver {
	if options.Port == 0 {
		options.Port = 8008
	}
	if options.ConnectTimeout == 0 {
		options.ConnectTimeout = lookMax
	}
	options.SQL.ConnectTimeout, options.SQL.Dial = options.ConnectTimeout, options.Dial
	transport := &http.Transport{DialContext: options.Dial, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: options.Roots, MinVersion: tls.VersionTLS12}}
	return &Driver{options: options, client: &http.Client{Transport: transport}}
}

func (d *Driver) host(name string) (drill.Host, error) {
	if i := slices.IndexFunc(d.options.Hosts, func(h drill.Host) bool { return h.Name == name }); i >= 0 {
		return d.options.Hosts[i], nil
	}
	return drill.Host{}, &drill.Error{Op: "database", Kind: drill.Invalid, Err: fmt.Errorf("there is no host %q", name), Hint: drill.Suggest(name, d.names())}
}

func (d *Driver) names() []string {
	var names []string
	for _, host := range d.options.Hosts {
		names = append(names, host.Name)
	}
	return names
}

func (d *Driver) server(host drill.Host) pgsql.Server {
	server := d.options.SQL
	server.Host = host.Address.String()
	return server
}

// Status asks the Patroni of every host at once. A server whose Patroni is silent is asked over SQL: one that takes writes is a primary.
func (d *Driver) Status(ctx context.Context) (database.Status, error) {
	answers := d.ask(ctx)
	status := database.Status{Managed: true}
	streams := map[string]sender{}
	for _, a := range answers {
		for _, s := range a.Replication {
			if a.role() == database.Primary {
				streams[s.Name] = s
			}
		}
		status.Paused = status.Paused || a.Pause
	}
	for _, a := range answers {
		m := database.Member{Host: a.host.Name, Role: a.role(), Timeline: a.Timeline, Position: a.position(), Barred: a.Tags.NoFailover, Detail: a.detail()}
		if m.Role == database.Standby {
			s := streams[m.Host]
			m.Streaming = a.ReplicationState == "streaming" || s.State == "streaming"
			m.Synchronous = m.Streaming && (s.SyncState == "sync" || s.SyncState == "quorum")
		}
		status.Members = append(status.Members, m)
	}
	return status, d.strangers(ctx, answers)
}

// strangers is an error when a host of the service file is no member of the cluster: then the names differ, and nothing would be moved rightly.
func (d *Driver) strangers(ctx context.Context, answers []answer) error {
	cluster, err := d.cluster(ctx, answers)
	if err != nil {
		return nil //nolint:nilerr // nobody answers, and the members say so
	}
	var members []string
	for _, m := range cluster.Members {
		members = append(members, m.Name)
	}
	for _, a := range answers {
		if a.err == nil && a.State == "running" && !slices.Contains(members, a.host.Name) {
			return &drill.Error{
				Op: "database", Host: a.host.Name, Kind: drill.Invalid, Err: fmt.Errorf("Patroni has no member of that name; it has %v", members),
				Hint: "Name the hosts in the service file as Patroni names its members.",
			}
		}
	}
	return nil
}

// Fence waits until Patroni itself lets the old primary be one no more. A server that Patroni still leads is demoted by the move itself, before
// the lock is given to another one; one that is lost has until its leader lock runs out.
func (d *Driver) Fence(ctx context.Context, move database.Move) (string, error) {
	if move.From == "" {
		return "", &drill.Error{Op: "fence", Kind: drill.Refused, Err: errors.New("which host was the primary is not known"), Hint: "See: firedrill database status"}
	}
	if _, err := d.host(move.From); err != nil {
		return "", err
	}
	var times timing
	deadline := time.Now().Add(moveMax)
	for {
		answers := d.ask(ctx)
		cluster, err := d.cluster(ctx, answers)
		if err == nil && times == (timing{}) {
			if times, err = d.timing(ctx, answers); err == nil {
				deadline = time.Now().Add(times.lockMax())
			}
		}
		old := find(answers, move.From)
		switch leader := cluster.leader(); {
		case err != nil:
			// Nobody says who holds the lock: asked again.
		case leader == move.From && old.err == nil && old.role() == database.Primary && move.To != "":
			return "Patroni demotes it before it gives its leader lock to " + move.To, nil
		case leader == move.From && old.err == nil && move.To == "":
			return "", &drill.Error{Op: "fence", Host: move.From, Kind: drill.Unsupported, Err: errors.New("it holds Patroni's leader lock"), Hint: "Move the primary first: firedrill database switch. Or stop Patroni there: systemctl stop patroni"}
		case leader == "":
			return "its leader lock ran out: Patroni stops a primary whose lock it cannot renew", nil
		case leader != move.From:
			return leader + " holds Patroni's leader lock", nil
		}
		if err := pause(ctx, deadline); err != nil {
			if cluster.leader() == move.From {
				err = errors.New("it still holds Patroni's leader lock")
			}
			return "", &drill.Error{Op: "fence", Host: move.From, Kind: drill.Refused, Err: fmt.Errorf("that it writes no more is not certain: %w", err), Hint: "Look at Patroni's members: patronictl list. Is its configuration store (DCS) well?"}
		}
	}
}

// Promote asks for the switchover or failover, or waits for the one that Patroni makes by itself, and returns once move.To says that it is the
// primary and move.From does not.
func (d *Driver) Promote(ctx context.Context, move database.Move) error {
	to, err := d.host(move.To)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(moveMax)
	asked := false
	var said error
	for {
		answers := d.ask(ctx)
		old, candidate := find(answers, move.From), find(answers, move.To)
		cluster, err := d.cluster(ctx, answers)
		leader := cluster.leader()
		switch {
		case candidate.role() == database.Primary && old.role() != database.Primary:
			return nil
		case err != nil || candidate.role() == database.Primary:
			said = errors.Join(said, err)
		case leader == move.From && leader != "" && !asked:
			asked = true
			if said = d.move(ctx, to, move, leader); said != nil && drill.KindOf(said) != drill.Timeout {
				return said
			}
		case leader == "" && !asked:
			asked = true // Patroni may do it by itself meanwhile: then the request is dropped there
			said = d.move(ctx, to, move, "")
		case leader != "" && leader != move.From && leader != move.To:
			return &drill.Error{Op: "promote", Host: move.To, Kind: drill.Failed, Err: fmt.Errorf("Patroni made %s the primary instead", leader), Hint: "See: firedrill database status"}
		}
		if err := pause(ctx, deadline); err != nil {
			return &drill.Error{
				Op: "promote", Host: move.To, Kind: drill.Timeout, Err: errors.Join(fmt.Errorf("it is not the primary after %s: it is %s, and %q holds the leader lock", moveMax, candidate.role(), leader), said),
				Hint: "See Patroni's log there, and: firedrill database history",
			}
		}
	}
}

// Write makes one write on the host over SQL.
func (d *Driver) Write(ctx context.Context, name string) error {
	host, err := d.host(name)
	if err != nil {
		return err
	}
	return d.server(host).Write(ctx, host.Name)
}

// Rebuild waits until Patroni has made a standby of the host by itself; when it does not, it is told to copy it anew.
func (d *Driver) Rebuild(ctx context.Context, name, from string) error {
	host, err := d.host(name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, rebuildMax)
	defer cancel()
	began := time.Now()
	copying := false
	for {
		status, err := d.Status(ctx)
		if err != nil && ctx.Err() == nil {
			return err
		}
		member, primary := status.Member(name), status.Member(from)
		if member.Role == database.Standby && member.Streaming && primary.Role == database.Primary {
			return nil
		}
		if !copying && time.Since(began) > rejoinMax {
			copying = true
			if err := d.call(ctx, http.MethodPost, host, "/reinitialize", map[string]any{"force": true}, nil); err != nil {
				return &drill.Error{Op: "rebuild", Host: name, Kind: kindOr(err, drill.Failed), Err: fmt.Errorf("it does not follow by itself (%s %s), and cannot be copied anew: %w", member.Role, member.Detail, err), Hint: "See Patroni's log there."}
			}
		}
		if err := pause(ctx, time.Time{}); err != nil {
			return &drill.Error{Op: "rebuild", Host: name, Kind: drill.Timeout, Err: fmt.Errorf("it does not follow after %s: %s %s", time.Since(began).Round(time.Second), member.Role, member.Detail), Hint: "See Patroni's log there."}
		}
	}
}

// ask asks the Patroni of every host at once what it is.
func (d *Driver) ask(ctx context.Context) []answer {
	ctx, cancel := context.WithTimeout(ctx, d.options.ConnectTimeout)
	defer cancel()
	answers := make([]answer, len(d.options.Hosts))
	var asking sync.WaitGroup
	for i, host := range d.options.Hosts {
		asking.Go(func() { answers[i] = d.look(ctx, host) })
	}
	asking.Wait()
	return answers
}

// look asks one Patroni, and over SQL beside it what PostgreSQL there is: a Patroni that hangs does not stop its PostgreSQL.
func (d *Driver) look(ctx context.Context, host drill.Host) answer {
	var a answer
	var sql sync.WaitGroup
	var standby bool
	var sqlErr error
	sql.Go(func() { standby, sqlErr = d.server(host).Standby(ctx) })
	err := d.call(ctx, http.MethodGet, host, "/patroni", nil, &a)
	sql.Wait()
	a.host, a.err = host, err
	a.loose = err != nil && sqlErr == nil && !standby
	return a
}

func pause(ctx context.Context, deadline time.Time) error {
	if !deadline.IsZero() && time.Now().After(deadline) {
		return errors.New("it took too long")
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(pollEvery):
		return nil
	}
}

func find(answers []answer, name string) answer {
	for _, a := range answers {
		if a.host.Name == name {
			return a
		}
	}
	return answer{err: errors.New("it is not known")}
}
