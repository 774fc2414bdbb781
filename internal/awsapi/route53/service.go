package route53

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"firedrill/internal/alarm"
	"firedrill/internal/awsapi/cloudwatch"
	"firedrill/internal/awsapi/wire"
	"firedrill/internal/durable"
	"firedrill/internal/failover"
	"firedrill/internal/failover/authority"
)

const (
	changesKept = 1000

	// alarmEvery is how often checks look at the data of the alarms that they copied.
	alarmEvery = 5 * time.Second
)

// Options make a Service.
type Options struct {
	Directory string // where it keeps what it knows; "": nowhere
	Alarms    *cloudwatch.Engine
	Hosting   *authority.Hosting // answers for the zones; it is started elsewhere
	Now       func() time.Time   // default: the clock
	Log       *slog.Logger

	// ControlOff says whether a routing control is off; nil: there is none.
	ControlOff func(arn string) bool
	// CheckEvery is how often endpoints are checked whatever the checks say; 0: as they say. For rehearsals that cannot wait.
	CheckEvery time.Duration
	// Lookup finds the addresses of a checked host. Default: our own zones first, then the system's resolver.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
}

// Service is Route 53: zones, records, health checks. All methods may be called at once.
type Service struct {
	options Options
	now     func() time.Time
	log     *slog.Logger
	path    string

	mu      sync.Mutex // guards the fields below
	zones   map[string]*zone
	checks  map[string]*check
	changes []ChangeInfo // newest last
	served  []*authority.Zone
	ill     []string

	checking context.Context // nil until Run; endpoints are checked while it lives
	making   sync.WaitGroup
}

// zone is a hosted zone with its records, in no order.
type zone struct {
	Zone   HostedZone
	Serial uint32
	Sets   []ResourceRecordSet
}

// check is a health check with what was seen of it.
type check struct {
	Check     HealthCheck
	LastKnown string // of the alarm: the last state that was not INSUFFICIENT_DATA

	state    alarm.State
	checkers []*checker
	stop     context.CancelFunc
}

type saved struct {
	Zones   map[string]*zone
	Checks  map[string]*check
	Changes []ChangeInfo
}

// Open returns the service with what its directory holds, answering for its zones. Run makes health checks.
func Open(options Options) (*Service, error) {
	s := &Service{options: options, now: options.Now, log: options.Log, zones: map[string]*zone{}, checks: map[string]*check{}}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.options.ControlOff == nil {
		s.options.ControlOff = func(string) bool { return false }
	}
	if s.options.Lookup == nil {
		s.options.Lookup = s.lookup
	}
	if options.Directory != "" {
		s.path = filepath.Join(options.Directory, "route53.json")
		from := saved{Zones: s.zones, Checks: s.checks}
		if err := durable.Load(s.path, &from); err != nil {
			return nil, fmt.Errorf("route53: %w", err)
		}
		s.changes = from.Changes
	}
	served, err := s.build(s.zones)
	if err != nil {
		return nil, fmt.Errorf("route53: %s: %w", s.path, err)
	}
	s.served = served
	for _, c := range s.checks {
		s.prepare(c)
	}
	s.look()
	return s, nil
}

// Run makes health checks until ctx ends, and returns when the last one has ended.
func (s *Service) Run(ctx context.Context) {
	s.mu.Lock()
	s.checking = ctx
	for _, c := range s.checks {
		s.start(c)
	}
	s.mu.Unlock()
	defer s.making.Wait()
	ticks := time.NewTicker(alarmEvery)
	defer ticks.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks.C:
			s.Look()
		}
	}
}

// Look evaluates what is not checked by going there: alarms, routing controls and what is calculated. Answers follow.
func (s *Service) Look() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.look()
}

// look is Look for those who hold mu.
func (s *Service) look() {
	for _, c := range s.checks {
		copied, id := c.Check.CloudWatchAlarmConfiguration, c.Check.HealthCheckConfig.AlarmIdentifier
		if copied == nil || s.options.Alarms == nil {
			continue
		}
		if c.state = s.options.Alarms.Judge(id.Region, *copied, c.state); c.state != alarm.Insufficient && c.state != "" {
			c.LastKnown = string(c.state)
		}
	}
	rules, seen := s.rules(s.checks)
	ill := []string{}
	for _, id := range slices.Sorted(maps.Keys(rules)) {
		if !rules.Healthy(id, seen) {
			ill = append(ill, id)
		}
	}
	if !slices.Equal(ill, s.ill) {
		s.log.Info("health changed", "unhealthy_checks", ill)
	}
	s.ill = ill
	s.options.Hosting.Replace(s.served, ill)
}

// kinds are the types of checks by what they look at.
var kinds = map[string]failover.CheckKind{
	"HTTP": failover.CheckEndpoint, "HTTPS": failover.CheckEndpoint, "HTTP_STR_MATCH": failover.CheckEndpoint, "HTTPS_STR_MATCH": failover.CheckEndpoint,
	"TCP": failover.CheckEndpoint, "CALCULATED": failover.CheckCalculated, "CLOUDWATCH_METRIC": failover.CheckAlarm, "RECOVERY_CONTROL": failover.CheckControl,
}

// rules returns the checks as package failover judges them, and what was seen of each.
func (s *Service) rules(checks map[string]*check) (failover.Checks, map[string]failover.Seen) {
	rules, seen := failover.Checks{}, map[string]failover.Seen{}
	for id, c := range checks {
		config := c.Check.HealthCheckConfig
		rule := failover.Check{
			Kind: kinds[config.Type], Inverted: is(config.Inverted), Disabled: is(config.Disabled), Children: config.ChildHealthChecks,
			Insufficient: config.InsufficientDataHealthStatus,
		}
		if config.HealthThreshold != nil {
			rule.Threshold = *config.HealthThreshold
		}
		rules[id] = rule
		one := failover.Seen{Alarm: string(c.state), LastKnown: c.LastKnown, Off: rule.Kind == failover.CheckControl && s.options.ControlOff(config.RoutingControlArn)}
		for _, k := range c.checkers {
			if k.at.IsZero() {
				continue
			}
			one.Observers++
			if !k.streak.Ill {
				one.Healthy++
			}
		}
		seen[id] = one
	}
	return rules, seen
}

func is(flag *bool) bool { return flag != nil && *flag }

// save writes everything down. Callers hold mu.
func (s *Service) save() error {
	s.changes = s.changes[max(0, len(s.changes)-changesKept):]
	if s.path == "" {
		return nil
	}
	return durable.Save(s.path, saved{s.zones, s.checks, s.changes})
}

// newID returns an identifier as Route 53 makes them: a letter and thirteen more characters.
func newID(letter string) string { return letter + rand.Text()[:13] }

func fault(code string, status int, format string, args ...any) error {
	return &wire.Fault{Code: code, Status: status, Message: fmt.Sprintf(format, args...)}
}

func invalidInput(format string, args ...any) error {
	return fault("InvalidInput", 400, format, args...)
}
