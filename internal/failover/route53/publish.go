package route53

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

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53recoverycluster"
	"github.com/miekg/dns"

	"firedrill/internal/amazon"
	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/failover/move"
	"firedrill/internal/failover/nameservers"
)

const (
	verifyMax  = time.Minute // within which changes are normally on all of Amazon's name servers
	lookMax    = 3 * time.Second
	againEvery = 100 * time.Millisecond // after a lost race; five requests a second is all that an account has
	triesMax   = 20                     // of changes that lost the race against someone else's; each loss means that another was done
	ttlMax     = time.Minute
)

// Options make a Publisher. Config is needed; the rest has defaults.
type Options struct {
	Config  aws.Config
	Zone    string        // ID of the hosted zone; default: the one whose name fits best
	Servers []string      // every name server that must give the new answer, host or host:port; default: those that the zone is delegated to
	TTL     time.Duration // of the records; default 5 s, in whole seconds
	Verify  time.Duration // how long the name servers may take to follow; default 1 min
	Log     *slog.Logger  // default: none

	// With one of these the records stand already, and are turned: what is turned for each environment, by name.
	Controls map[string]string // ARNs of routing controls
	Cluster  []string          // URLs of the cluster's endpoints, for Controls
	Checks   map[string]string // IDs of health checks

	Environments map[string][]netip.Addr // what each environment's record answers, for Controls and Checks
}

// Publisher moves names. All methods may be called at once.
type Publisher struct {
	options Options
	client  *route53.Client
	cluster []*route53recoverycluster.Client

	turning sync.Mutex // one at a time turns: what another of ours does meanwhile would only be turned back

	mu   sync.Mutex // guards the fields below
	zone hosted
	done map[string]uint64 // serials that were seen on all servers
}

// hosted is a zone that is known.
type hosted struct {
	id, name string
	servers  []string
}

// New checks the options. The error is a *drill.Error of kind Invalid.
func New(options Options) (*Publisher, error) {
	invalid := func(format string, args ...any) (*Publisher, error) {
		return nil, &drill.Error{Op: "route53", Kind: drill.Invalid, Err: fmt.Errorf(format, args...)}
	}
	if options.TTL == 0 {
		options.TTL = 5 * time.Second
	}
	switch {
	case options.TTL < 0 || options.TTL > ttlMax || options.TTL%time.Second != 0:
		return invalid("ttl %v; write whole seconds up to %v", options.TTL, ttlMax)
	case len(options.Controls) > 0 && len(options.Checks) > 0:
		return invalid("controls and checks: name one of both")
	case len(options.Controls) > 0 && len(options.Cluster) == 0:
		return invalid("no endpoint of the cluster that holds the controls")
	}
	for name := range options.turned() {
		if len(options.Environments[name]) == 0 {
			return invalid("environment %s is turned, and has no address", name)
		}
	}
	if options.Verify == 0 {
		options.Verify = verifyMax
	}
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	p := &Publisher{options: options, client: route53.NewFromConfig(options.Config), done: map[string]uint64{}}
	for _, endpoint := range options.Cluster {
		p.cluster = append(p.cluster, route53recoverycluster.NewFromConfig(options.Config, func(o *route53recoverycluster.Options) {
			o.BaseEndpoint = aws.String(endpoint)
			o.Region = regionOf(endpoint, o.Region)
			o.RetryMaxAttempts = 1 // the next endpoint is the better try
		}))
	}
	return p, nil
}

// turned returns what is turned for each environment; nothing when the records themselves are written.
func (o Options) turned() map[string]string {
	if len(o.Controls) > 0 {
		return o.Controls
	}
	return o.Checks
}

// regionOf returns the region in the name of a cluster's endpoint, such as 1a2b.route53-recovery-cluster.us-west-2.amazonaws.com.
func regionOf(endpoint, otherwise string) string {
	_, rest, found := strings.Cut(endpoint, ".route53-recovery-cluster.")
	region, _, more := strings.Cut(rest, ".")
	if !found || !more {
		return otherwise
	}
	return region
}

// Publish makes the name lead to the addresses of the change, and returns nil once every name server was seen to answer so. The same change
// again is nil; it also puts right what somebody else has changed since. The error wraps failover.ErrStale when a newer change was there, or
// is a *drill.Error: Invalid, Refused (we may not, or a safety rule says no), Unreachable, or Unproven when the change was made and a name
// server does not follow.
//
// With controls or checks an environment is on or off as a whole: it is on when one of its addresses is published.
func (p *Publisher) Publish(ctx context.Context, change failover.Change) error {
	change, err := change.Valid()
	if err != nil {
		return err
	}
	change.Name = dns.CanonicalName(change.Name)
	turns := len(p.options.turned()) > 0
	lead := change
	if turns {
		if lead.Addresses, err = p.whole(change); err != nil {
			return err
		}
	}
	zone, err := p.zoneOf(ctx, change.Name)
	if err != nil {
		return err
	}
	if p.stands(ctx, zone, lead) {
		return nil
	}
	if turns {
		err = p.turn(ctx, zone, change)
	} else {
		err = p.swap(ctx, zone, change, false)
	}
	if err != nil {
		return err
	}
	if err := nameservers.Verify(ctx, zone.servers, lead, p.options.Verify); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done[change.Name] = max(p.done[change.Name], change.Serial)
	return nil
}

// stands says whether a change that was published before still stands: who looks every two seconds must not use up the requests of an account.
func (p *Publisher) stands(ctx context.Context, zone hosted, change failover.Change) bool {
	p.mu.Lock()
	before := p.done[change.Name]
	p.mu.Unlock()
	if before != change.Serial {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, lookMax)
	defer cancel()
	return !slices.ContainsFunc(nameservers.Served(ctx, zone.servers, change.Name), func(s failover.Served) bool {
		return s.Serial != change.Serial || !s.Leads(change)
	})
}

// Served asks every name server what a name leads to there.
func (p *Publisher) Served(ctx context.Context, name string) []failover.Served {
	name = dns.CanonicalName(name)
	zone, err := p.zoneOf(ctx, name)
	if err != nil {
		return []failover.Served{{Server: "Route 53", Err: err}}
	}
	return nameservers.Served(ctx, zone.servers, name)
}

// zoneOf returns the hosted zone that a name is in.
func (p *Publisher) zoneOf(ctx context.Context, name string) (hosted, error) {
	p.mu.Lock()
	known := p.zone
	p.mu.Unlock()
	if known.id == "" {
		found, err := p.findZone(ctx, name)
		if err != nil {
			return hosted{}, err
		}
		if known, err = p.describe(ctx, found); err != nil {
			return hosted{}, err
		}
		p.mu.Lock()
		p.zone = known
		p.mu.Unlock()
	}
	if !dns.IsSubDomain(known.name, name) {
		return hosted{}, &drill.Error{Op: "publish " + name, Kind: drill.Invalid, Err: fmt.Errorf("it is not in the hosted zone %s", known.name), Hint: "Name its zone in route53."}
	}
	return known, nil
}

// findZone returns the ID of the public zone with the longest name that the name is in.
func (p *Publisher) findZone(ctx context.Context, name string) (string, error) {
	if p.options.Zone != "" {
		return p.options.Zone, nil
	}
	op := "find the hosted zone of " + name
	for rest, more := 0, true; more; {
		candidate := name[rest:]
		listed, err := p.client.ListHostedZonesByName(ctx, &route53.ListHostedZonesByNameInput{DNSName: aws.String(candidate), MaxItems: aws.Int32(20)})
		if err != nil {
			return "", amazon.Problem(op, "", err)
		}
		var fitting []string
		for _, zone := range listed.HostedZones {
			if aws.ToString(zone.Name) == candidate && (zone.Config == nil || !zone.Config.PrivateZone) {
				fitting = append(fitting, strings.TrimPrefix(aws.ToString(zone.Id), "/hostedzone/"))
			}
		}
		if len(fitting) > 1 {
			return "", &drill.Error{Op: op, Kind: drill.Invalid, Err: fmt.Errorf("there are several: %s", strings.Join(fitting, " ")), Hint: "Name the one that the name is delegated to: route53: {zone: ...}."}
		}
		if len(fitting) == 1 {
			return fitting[0], nil
		}
		next, end := dns.NextLabel(name, rest)
		rest, more = next, !end
	}
	return "", &drill.Error{Op: op, Kind: drill.Invalid, Err: errors.New("there is none that these credentials can see"), Hint: "Make the zone, or name it: route53: {zone: ...}."}
}

func (p *Publisher) describe(ctx context.Context, id string) (hosted, error) {
	said, err := p.client.GetHostedZone(ctx, &route53.GetHostedZoneInput{Id: aws.String(id)})
	if err != nil {
		return hosted{}, amazon.Problem("look at hosted zone "+id, "", err)
	}
	zone := hosted{id: id, name: dns.CanonicalName(aws.ToString(said.HostedZone.Name)), servers: slices.Clone(p.options.Servers)}
	if len(zone.servers) == 0 && said.DelegationSet != nil {
		zone.servers = slices.Clone(said.DelegationSet.NameServers)
	}
	if len(zone.servers) == 0 {
		return hosted{}, &drill.Error{Op: "look at hosted zone " + id, Kind: drill.Invalid, Err: errors.New("it is delegated to nobody"), Hint: "Name the name servers in servers."}
	}
	for i, server := range zone.servers {
		zone.servers[i] = nameservers.WithPort(server)
	}
	return zone, nil
}

// again waits a little, and says whether ctx still lives.
func again(ctx context.Context) bool { return move.Pause(ctx, againEvery) }
