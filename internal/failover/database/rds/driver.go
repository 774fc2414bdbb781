package rds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/rds"
	"github.com/aws/aws-sdk-go-v2/service/rds/types"

	"firedrill/internal/amazon"
	"firedrill/internal/drill"
	"firedrill/internal/failover/database"
	"firedrill/internal/failover/database/pgsql"
)

const (
	lookMax = 2 * time.Second
	// moveMax is how long RDS may take to show that a failover is over: it takes one or two minutes, and the zone may be shown some minutes later.
	moveMax = 15 * time.Minute
	// standbyMax is how long RDS may take to have a standby again.
	standbyMax = time.Hour
	pollEvery  = 5 * time.Second
	// historyDays is how long RDS keeps events.
	historyDays = 14
	available   = "available"
	// theTimeline is that of every server: what RDS copies is the storage below PostgreSQL, whose timeline stays as it is.
	theTimeline = 1
)

// Options are what a Driver must know. Instance, Client and SQL are required.
type Options struct {
	Instance       string // DBInstanceIdentifier
	Client         *rds.Client
	SQL            pgsql.Server // how the writes of the proof get in; its Host and Port are filled in
	ConnectTimeout time.Duration
	PollEvery      time.Duration                                                // how often RDS is asked while it moves, default 5 s: its API has a rate limit
	Lookup         func(ctx context.Context, name string) ([]net.IPAddr, error) // default: the system's resolver
	Dial           func(ctx context.Context, network, address string) (net.Conn, error)
}

// Driver moves one instance. It is a database.Driver; methods may be called concurrently.
type Driver struct {
	options Options

	mu        sync.Mutex        // guards the fields below
	addresses map[string]string // what the name of the instance led to while its primary was in a zone
}

var (
	_ database.Driver    = (*Driver)(nil)
	_ database.Historian = (*Driver)(nil)
)

// New returns a driver; it asks nobody.
func New(options Options) *Driver {
	if options.ConnectTimeout == 0 {
		options.ConnectTimeout = lookMax
	}
	if options.PollEvery == 0 {
		options.PollEvery = pollEvery
	}
	if options.Lookup == nil {
		options.Lookup = net.DefaultResolver.LookupIPAddr
	}
	options.SQL.ConnectTimeout, options.SQL.Dial = options.ConnectTimeout, options.Dial
	return &Driver{options: options, addresses: map[string]string{}}
}

// instance is what RDS says of the instance, as far as we ask.
type instance struct {
	zone, standby, status, name, engine string
	port                                int32
}

// said is what RDS says of the instance.
func (d *Driver) said(ctx context.Context) (types.DBInstance, error) {
	said, err := d.options.Client.DescribeDBInstances(ctx, &rds.DescribeDBInstancesInput{DBInstanceIdentifier: &d.options.Instance})
	if err != nil {
		return types.DBInstance{}, amazon.Problem("database", "rds "+d.options.Instance, err)
	}
	if len(said.DBInstances) != 1 {
		return types.DBInstance{}, &drill.Error{Op: "database", Host: d.options.Instance, Kind: drill.Invalid, Err: fmt.Errorf("RDS knows %d instances of that name", len(said.DBInstances)), Hint: "Check instance in rds: of the service file, and region in aws:."}
	}
	return said.DBInstances[0], nil
}

func (d *Driver) describe(ctx context.Context) (instance, error) {
	one, err := d.said(ctx)
	if err != nil {
		return instance{}, err
	}
	found := instance{zone: aws.ToString(one.AvailabilityZone), status: aws.ToString(one.DBInstanceStatus), engine: aws.ToString(one.Engine)}
	if one.Endpoint != nil {
		found.name, found.port = aws.ToString(one.Endpoint.Address), aws.ToInt32(one.Endpoint.Port)
	}
	if aws.ToBool(one.MultiAZ) {
		found.standby = aws.ToString(one.SecondaryAvailabilityZone)
	}
	if found.engine != "" && !strings.Contains(found.engine, "postgres") {
		return found, &drill.Error{Op: "database", Host: d.options.Instance, Kind: drill.Unsupported, Err: fmt.Errorf("its engine is %s, and the writes of the proof speak PostgreSQL", found.engine), Hint: "Use driver: exec with programs of your own."}
	}
	return found, nil
}

// address resolves the name of the instance anew, and remembers to which zone it led. A name changes at a failover; none is kept for long.
func (d *Driver) address(ctx context.Context, i instance) (string, error) {
	found, err := d.options.Lookup(ctx, i.name)
	if err != nil {
		return "", err
	}
	if len(found) == 0 {
		return "", fmt.Errorf("%s has no address", i.name)
	}
	address := found[0].IP.String()
	d.mu.Lock()
	defer d.mu.Unlock()
	for zone, other := range d.addresses {
		if zone != i.zone && other == address {
			return address, nil // the name does not lead to the new zone yet
		}
	}
	d.addresses[i.zone] = address
	return address, nil
}

func (d *Driver) server(address string, i instance) pgsql.Server {
	server := d.options.SQL
	server.Host, server.Port = address, uint16(i.port)
	return server
}

// Status asks RDS, and the primary over SQL for its position; the standby of a Multi-AZ instance has all that was acknowledged.
func (d *Driver) Status(ctx context.Context) (database.Status, error) {
	i, err := d.describe(ctx)
	if err != nil {
		return database.Status{}, err
	}
	status := database.Status{Managed: true}
	primary := database.Member{Host: i.zone, Role: database.Down, Timeline: theTimeline, Detail: "RDS says " + i.status}
	if i.status == available {
		primary.Role, primary.Detail = database.Primary, ""
		if primary.Position, err = d.position(ctx, i); err != nil {
			primary.Detail = "its position cannot be asked: " + err.Error()
		}
	}
	status.Members = append(status.Members, primary)
	if i.standby == "" {
		status.Members[0].Detail = strings.Trim(primary.Detail+"; it is not Multi-AZ: there is no standby", "; ")
		return status, nil
	}
	status.Members = append(status.Members, database.Member{
		Host: i.standby, Role: database.Standby, Timeline: theTimeline, Position: primary.Position, Streaming: i.status == available, Synchronous: i.status == available,
	})
	return status, nil
}

func (d *Driver) position(ctx context.Context, i instance) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, d.options.ConnectTimeout)
	defer cancel()
	address, err := d.address(ctx, i)
	if err != nil {
		return 0, err
	}
	session, err := d.server(address, i).Connect(ctx)
	if err != nil {
		return 0, err
	}
	defer session.Close()
	text, err := session.Text(ctx, "select (pg_current_wal_lsn() - '0/0')::text")
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 10, 64)
}

// Fence is RDS's own part of a failover.
func (d *Driver) Fence(ctx context.Context, move database.Move) (string, error) {
	if move.To == "" {
		return "", &drill.Error{Op: "fence", Host: move.From, Kind: drill.Unsupported, Err: errors.New("RDS fences a primary itself, in a failover"), Hint: "Move it: firedrill database switch"}
	}
	i, err := d.describe(ctx)
	switch {
	case err != nil:
		return "", err
	case i.status != available || i.zone != move.From || i.standby != move.To:
		return "", &drill.Error{Op: "fence", Host: move.From, Kind: drill.Refused, Err: fmt.Errorf("RDS says %s: the primary is in %q, the standby in %q", i.status, i.zone, i.standby), Hint: "Wait until the instance is available and Multi-AZ: firedrill database status"}
	}
	return "RDS cuts it off itself before " + move.To + " takes over", nil
}

// Promote reboots the instance with failover and returns once RDS says that it is available in the other zone.
func (d *Driver) Promote(ctx context.Context, move database.Move) error {
	ctx, cancel := context.WithTimeout(ctx, moveMax)
	defer cancel()
	began := time.Now()
	_, err := d.options.Client.RebootDBInstance(ctx, &rds.RebootDBInstanceInput{DBInstanceIdentifier: &d.options.Instance, ForceFailover: aws.Bool(true)})
	if err != nil {
		return amazon.Problem("promote", "rds "+d.options.Instance, err)
	}
	return d.await(ctx, "promote", move.To, func(i instance) (bool, error) {
		records, err := d.since(ctx, began)
		for _, r := range records {
			if strings.Contains(strings.ToLower(r.Text), "abandon") && err == nil {
				return false, errors.New("RDS has abandoned it: " + r.Text)
			}
		}
		return i.zone == move.To && i.status == available, nil
	})
}

// Write makes one write: through the name of the instance when its primary is in that zone, else at the address that the name had while it was.
func (d *Driver) Write(ctx context.Context, zone string) error {
	i, err := d.describe(ctx)
	if err != nil {
		return err
	}
	address := ""
	if zone == i.zone {
		if address, err = d.address(ctx, i); err != nil {
			return err
		}
	} else {
		d.mu.Lock()
		address = d.addresses[zone]
		d.mu.Unlock()
		if address == "" {
			return fmt.Errorf("the server in %s has no address: nobody can write there", zone)
		}
	}
	return d.server(address, i).Write(ctx, zone)
}

// Rebuild waits until RDS has a standby in the zone again.
func (d *Driver) Rebuild(ctx context.Context, host, from string) error {
	ctx, cancel := context.WithTimeout(ctx, standbyMax)
	defer cancel()
	return d.await(ctx, "rebuild", host, func(i instance) (bool, error) {
		return i.zone == from && i.standby == host && i.status == available, nil
	})
}

func (d *Driver) await(ctx context.Context, op, host string, done func(instance) (bool, error)) error {
	var last instance
	for {
		i, err := d.describe(ctx)
		if err == nil {
			last = i
			is, err := done(i)
			if err != nil {
				return &drill.Error{Op: op, Host: host, Kind: drill.Failed, Err: err, Hint: "See: firedrill database history"}
			}
			if is {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return &drill.Error{Op: op, Host: host, Kind: drill.Timeout, Err: errors.Join(fmt.Errorf("RDS says %s: the primary is in %q, the standby in %q", last.status, last.zone, last.standby), err), Hint: "See: firedrill database history"}
		case <-time.After(d.options.PollEvery):
		}
	}
}

// History reads the events of the instance, of the last two weeks.
func (d *Driver) History(ctx context.Context) ([]database.Record, error) {
	return d.since(ctx, time.Now().Add(-historyDays*24*time.Hour))
}

func (d *Driver) since(ctx context.Context, began time.Time) ([]database.Record, error) {
	var records []database.Record
	pages := rds.NewDescribeEventsPaginator(d.options.Client, &rds.DescribeEventsInput{
		SourceIdentifier: &d.options.Instance, SourceType: types.SourceTypeDbInstance, StartTime: &began, EndTime: aws.Time(time.Now()),
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return records, amazon.Problem("events", "rds "+d.options.Instance, err)
		}
		for _, e := range page.Events {
			records = append(records, database.Record{Time: aws.ToTime(e.Date), Text: aws.ToString(e.Message)})
		}
	}
	return records, nil
}
