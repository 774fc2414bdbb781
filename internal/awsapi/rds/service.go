package rds

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"firedrill/internal/awsapi/wire"
	"firedrill/internal/drill"
	"firedrill/internal/durable"
	"firedrill/internal/failover/database"
	"firedrill/internal/history"
)

const (
	lookMax = 15 * time.Second // for one look at all servers of an instance
	moveMax = 30 * time.Minute // for a failover and the standby after it: a large database is copied
	// eventsFor is how long events are kept, as Amazon does, and eventsMax how many of them.
	eventsFor = 14 * 24 * time.Hour
	eventsMax = 2000

	engine     = "postgres"
	sourceType = "db-instance"
	pageMin    = 20
	pageMax    = 100
)

// The states of an instance that there are here.
const (
	available = "available"
	rebooting = "rebooting"
	failed    = "failed" // nothing takes writes, or more than one server does
)

// The categories of events that there are here.
const (
	availability = "availability"
	failover     = "failover"
	failure      = "failure"
)

// Host is one server of a database.
type Host struct {
	Name    string
	Address netip.Addr
}

// Instance is a database that is shown. Name, Hosts and Driver are needed; hosts beyond the 26th have no zone and are not allowed.
type Instance struct {
	Name           string // DBInstanceIdentifier
	Hosts          []Host // the first stands in zone "a"
	Port           int
	User, Database string // shown, if known
	Driver         database.Driver
	Policy         database.Policy
}

// Options make a Service.
type Options struct {
	Directory string           // where events are kept; "": nowhere
	Now       func() time.Time // default: the clock
	Log       *slog.Logger     // default: none
	Instances []Instance
}

// Service is the part of RDS that is served. All methods may be called at once.
type Service struct {
	options Options
	path    string
	moving  sync.WaitGroup
	closing chan struct{} // closed by Close

	mu    sync.Mutex // guards the fields below
	busy  map[string]busy
	turns map[string]int // how often busy has changed, by instance
	saved saved
}

// busy is what is being done to an instance.
type busy int

const (
	idle       busy = iota
	failsOver       // its primary is being moved
	rebuilding      // it has one, and a standby is being made
)

type saved struct {
	Primaries map[string]string // host that was the primary when it was last looked at, by instance
	Events    []Event
}

// Open returns the service with the events that its directory holds.
func Open(options Options) (*Service, error) {
	s := &Service{options: options, closing: make(chan struct{}), busy: map[string]busy{}, turns: map[string]int{}, saved: saved{Primaries: map[string]string{}}}
	if s.options.Now == nil {
		s.options.Now = time.Now
	}
	if s.options.Log == nil {
		s.options.Log = slog.New(slog.DiscardHandler)
	}
	for _, i := range options.Instances {
		if len(i.Hosts) < 2 || len(i.Hosts) > 26 {
			return nil, fmt.Errorf("rds: instance %s has %d servers; it must have 2 to 26, one for each zone", i.Name, len(i.Hosts))
		}
	}
	if options.Directory != "" {
		s.path = filepath.Join(options.Directory, "rds.json")
		if err := durable.Load(s.path, &s.saved); err != nil {
			return nil, fmt.Errorf("rds: %w", err)
		}
		if s.saved.Primaries == nil {
			s.saved.Primaries = map[string]string{}
		}
	}
	return s, nil
}

// Close returns when no failover is under way any more: one that was broken off would leave a database without a primary. A standby that is being
// made is given up. It is called once, at the end.
func (s *Service) Close() {
	close(s.closing)
	s.moving.Wait()
}

func fault(code string, status int, format string, args ...any) error {
	return &wire.Fault{Code: code, Status: status, Message: fmt.Sprintf(format, args...)}
}

func (s *Service) find(name string) (Instance, error) {
	for _, i := range s.options.Instances {
		if strings.EqualFold(i.Name, name) {
			return i, nil
		}
	}
	return Instance{}, fault("DBInstanceNotFound", http.StatusNotFound, "DBInstance %s not found.", name)
}

// zone is that of a host, "" if there is none.
func (i Instance) zone(region, host string) string {
	if n := slices.IndexFunc(i.Hosts, func(h Host) bool { return h.Name == host }); n >= 0 {
		return region + string(rune('a'+n))
	}
	return ""
}

func arn(region, name string) string { return "arn:aws:rds:" + region + ":000000000000:db:" + name }

// look asks the servers of an instance what they are; moves says that it is being moved, or was during the look, which then says nothing. A primary
// that was moved by somebody else is an event.
func (s *Service) look(ctx context.Context, i Instance) (status database.Status, moves bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookMax)
	defer cancel()
	s.mu.Lock()
	turn := s.turns[i.Name]
	s.mu.Unlock()
	status, err = i.Driver.Status(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	primary, before := status.Primary(), s.saved.Primaries[i.Name]
	switch moves = s.busy[i.Name] == failsOver || s.turns[i.Name] != turn; {
	case err != nil || moves || primary == nil || primary.Host == before:
		return status, moves, err
	case before == "":
		s.saved.Primaries[i.Name] = primary.Host
		return status, false, s.save()
	}
	s.saved.Primaries[i.Name] = primary.Host
	return status, false, s.note(i, failover, "Multi-AZ instance failover completed")
}

// shown is an instance as it is at this moment.
func (s *Service) shown(ctx context.Context, region string, i Instance) DBInstance {
	shown := DBInstance{
		DBInstanceIdentifier: i.Name, Engine: engine, DBInstanceStatus: failed, MasterUsername: i.User, DBName: i.Database, MultiAZ: true, DeletionProtection: true, DBInstanceArn: arn(region, i.Name),
	}
	status, moves, err := s.look(ctx, i)
	if err != nil {
		s.options.Log.WarnContext(ctx, "database not seen", "database", i.Name, "error", err, "cure", drill.HintOf(err))
	}
	s.mu.Lock()
	primary := s.saved.Primaries[i.Name]
	s.mu.Unlock()
	switch p := status.Primary(); {
	case moves:
		shown.DBInstanceStatus = rebooting
	case err == nil && p != nil:
		shown.DBInstanceStatus, primary = available, p.Host
		for _, m := range status.Members {
			if m.Role == database.Standby && m.Streaming && shown.SecondaryAvailabilityZone == "" {
				shown.SecondaryAvailabilityZone = i.zone(region, m.Host)
			}
		}
	}
	shown.AvailabilityZone = i.zone(region, primary)
	for _, h := range i.Hosts {
		if h.Name == primary {
			shown.Endpoint = &Endpoint{Address: h.Address.String(), Port: i.Port}
		}
	}
	return shown
}

// DescribeDBInstances shows instances.
func (s *Service) DescribeDBInstances(ctx context.Context, region string, in DescribeDBInstancesInput) (DescribeDBInstancesOutput, error) {
	wanted := s.options.Instances
	if in.DBInstanceIdentifier != "" {
		one, err := s.find(in.DBInstanceIdentifier)
		if err != nil {
			return DescribeDBInstancesOutput{}, err
		}
		wanted = []Instance{one}
	}
	for _, f := range in.Filters {
		var of func(i Instance) []string
		switch f.Name {
		case "db-instance-id":
			of = func(i Instance) []string { return []string{i.Name, arn(region, i.Name)} }
		case "engine":
			of = func(Instance) []string { return []string{engine} }
		default:
			return DescribeDBInstancesOutput{}, fault("InvalidParameterValue", 400, "Unrecognized filter name: %s; db-instance-id and engine are served here.", f.Name)
		}
		wanted = slices.DeleteFunc(slices.Clone(wanted), func(i Instance) bool {
			return !slices.ContainsFunc(of(i), func(value string) bool { return slices.Contains(f.Values, value) })
		})
	}
	page, marker, err := page(wanted, in.MaxRecords, in.Marker)
	if err != nil {
		return DescribeDBInstancesOutput{}, err
	}
	out := DescribeDBInstancesOutput{DBInstances: make([]DBInstance, len(page)), Marker: marker}
	var looking sync.WaitGroup
	for n, i := range page {
		looking.Go(func() { out.DBInstances[n] = s.shown(ctx, region, i) })
	}
	looking.Wait()
	return out, nil
}

// page returns the part of a list that a marker and a size ask for, and the marker of the next part.
func page[T any](all []T, size *int, marker string) ([]T, string, error) {
	most, first := pageMax, 0
	if size != nil {
		if most = *size; most < pageMin || most > pageMax {
			return nil, "", fault("InvalidParameterValue", 400, "Invalid value %d for MaxRecords. Must be between %d and %d", most, pageMin, pageMax)
		}
	}
	if marker != "" {
		number, err := strconv.Atoi(marker)
		if err != nil || number < 0 || number > len(all) {
			return nil, "", fault("InvalidParameterValue", 400, "Invalid value %s for Marker.", marker)
		}
		first = number
	}
	last := min(first+most, len(all))
	next := ""
	if last < len(all) {
		next = strconv.Itoa(last)
	}
	return all[first:last], next, nil
}

// RebootDBInstance moves the primary of an instance to its standby and returns when that has begun. It is refused when it would not come to an end.
func (s *Service) RebootDBInstance(ctx context.Context, region string, in RebootDBInstanceInput) (RebootDBInstanceOutput, error) {
	none := RebootDBInstanceOutput{}
	i, err := s.find(in.DBInstanceIdentifier)
	if err != nil {
		return none, err
	}
	if !in.ForceFailover {
		return none, fault("InvalidParameterCombination", 400, "ForceFailover must be true: without it an instance restarts where it is, which is not served by this endpoint.")
	}
	status, moves, err := s.look(ctx, i)
	if err == nil && !moves {
		_, err = database.Choose(status, database.Order{Planned: true}, i.Policy, database.Seen{})
	}
	if err != nil {
		return none, fault("InvalidDBInstanceState", 400, "DBInstance %s cannot fail over: %v", i.Name, err)
	}
	s.mu.Lock()
	if moves || s.busy[i.Name] != idle {
		s.mu.Unlock()
		return none, fault("InvalidDBInstanceState", 400, "DBInstance %s is in the middle of a failover.", i.Name)
	}
	from := status.Primary().Host
	if err = s.note(i, failover, "Multi-AZ instance failover started."); err == nil {
		s.busy[i.Name] = failsOver
		s.turns[i.Name]++
	}
	s.mu.Unlock()
	if err != nil {
		return none, err
	}
	s.moving.Go(func() { s.move(context.WithoutCancel(ctx), i, from) })
	return RebootDBInstanceOutput{DBInstance: s.shown(ctx, region, i)}, nil
}

// move fails over, and makes a standby of the old primary.
func (s *Service) move(ctx context.Context, i Instance, from string) {
	ctx, cancel := context.WithTimeout(ctx, moveMax)
	defer cancel()
	mover := database.Mover{Name: i.Name, Driver: i.Driver, Policy: i.Policy, Tell: func(step *history.DatabaseStep) {
		s.options.Log.InfoContext(ctx, "database moves", "database", i.Name, "step", step.Step, "host", step.Host, "detail", step.Detail)
	}}
	move, err := mover.Move(ctx, database.Order{Planned: true}, database.Seen{})
	if err != nil {
		s.options.Log.ErrorContext(ctx, "failover not done", "database", i.Name, "error", err, "cure", drill.HintOf(err))
		s.became(ctx, i, idle, "", Event{Message: "Abandoning user requested failover: " + err.Error(), EventCategories: []string{failover}})
		return
	}
	s.became(ctx, i, rebuilding, move.To, Event{Message: "DB instance restarted", EventCategories: []string{availability}}, Event{Message: "Multi-AZ instance failover completed", EventCategories: []string{failover}})
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-s.closing:
			stop()
		case <-ctx.Done():
		}
	}()
	if err := mover.Rebuild(ctx, from); err != nil {
		s.options.Log.ErrorContext(ctx, "no standby", "database", i.Name, "host", from, "error", err, "cure", drill.HintOf(err))
		s.became(ctx, i, idle, "", Event{Message: "There is no standby: " + err.Error(), EventCategories: []string{failure}})
		return
	}
	s.became(ctx, i, idle, "")
}

// became says how far a failover is; primary is the new one, "" if that is as before.
func (s *Service) became(ctx context.Context, i Instance, now busy, primary string, events ...Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[i.Name] = now
	s.turns[i.Name]++
	if primary != "" {
		s.saved.Primaries[i.Name] = primary
	}
	for _, e := range events {
		if err := s.note(i, e.EventCategories[0], e.Message); err != nil {
			s.options.Log.ErrorContext(ctx, "event not kept", "database", i.Name, "event", e.Message, "error", err)
		}
	}
}

// note keeps an event; mu is held.
func (s *Service) note(i Instance, category, text string) error {
	now := s.options.Now()
	s.saved.Events = append(s.saved.Events, Event{SourceIdentifier: i.Name, SourceType: sourceType, Message: text, EventCategories: []string{category}, Date: *wire.At(now)})
	s.saved.Events = slices.DeleteFunc(s.saved.Events, func(e Event) bool { return e.Date.Before(now.Add(-eventsFor)) })
	s.saved.Events = slices.Clone(s.saved.Events[max(0, len(s.saved.Events)-eventsMax):])
	return s.save()
}

func (s *Service) save() error {
	if s.path == "" {
		return nil
	}
	return durable.Save(s.path, s.saved)
}

var sourceTypes = []string{"db-instance", "db-parameter-group", "db-security-group", "db-snapshot", "db-cluster", "db-cluster-snapshot", "custom-engine-version", "db-proxy", "blue-green-deployment"}

// DescribeEvents shows what happened, oldest first.
func (s *Service) DescribeEvents(ctx context.Context, region string, in DescribeEventsInput) (DescribeEventsOutput, error) {
	since, until, err := in.span(s.options.Now())
	if err != nil {
		return DescribeEventsOutput{}, err
	}
	for _, i := range s.options.Instances {
		if in.SourceIdentifier == "" || strings.EqualFold(in.SourceIdentifier, i.Name) {
			if _, _, err := s.look(ctx, i); err != nil { // what its manager did meanwhile is an event, too
				s.options.Log.WarnContext(ctx, "database not seen", "database", i.Name, "error", err)
			}
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []Event{}
	for _, e := range s.saved.Events {
		switch {
		case e.Date.Before(since) || e.Date.After(until):
		case in.SourceType != "" && in.SourceType != e.SourceType:
		case in.SourceIdentifier != "" && !strings.EqualFold(in.SourceIdentifier, e.SourceIdentifier):
		case len(in.EventCategories) > 0 && !slices.ContainsFunc(e.EventCategories, func(c string) bool { return slices.Contains(in.EventCategories, c) }):
		default:
			e.SourceArn = arn(region, e.SourceIdentifier)
			all = append(all, e)
		}
	}
	events, marker, err := page(all, in.MaxRecords, in.Marker)
	return DescribeEventsOutput{Events: events, Marker: marker}, err
}

// span is the time that is asked for.
func (in DescribeEventsInput) span(now time.Time) (since, until time.Time, err error) {
	since, until = now.Add(-time.Hour), now
	if in.Duration != nil {
		since = now.Add(-time.Duration(*in.Duration) * time.Minute)
	}
	if in.EndTime != nil {
		until = in.EndTime.Time
	}
	if in.StartTime != nil {
		since = in.StartTime.Time
	}
	switch {
	case in.SourceType != "" && !slices.Contains(sourceTypes, in.SourceType):
		err = fault("InvalidParameterValue", 400, "Invalid source type: %s.", in.SourceType)
	case in.SourceIdentifier != "" && in.SourceType == "":
		err = fault("InvalidParameterCombination", 400, "SourceType must be given with SourceIdentifier.")
	case len(in.Filters) > 0:
		err = fault("InvalidParameterValue", 400, "Filters are not supported for events.")
	case in.StartTime != nil && in.Duration != nil:
		err = fault("InvalidParameterCombination", 400, "StartTime and Duration exclude each other.")
	case until.Before(since):
		err = fault("InvalidParameterCombination", 400, "EndTime lies before StartTime.")
	}
	return since, until, err
}
