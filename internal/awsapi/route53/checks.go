package route53

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"

	"github.com/google/uuid"

	"firedrill/internal/alarm"
	"firedrill/internal/awsapi/wire"
	"firedrill/internal/failover"
)

const (
	checksMax   = 200
	childrenMax = 256
	searchMax   = 255
	pageMax     = 100
)

// CreateHealthCheck makes a check and begins it. The same request again returns the same check.
func (s *Service) CreateHealthCheck(in CreateHealthCheckRequest) (HealthCheck, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	config := withDefaults(in.HealthCheckConfig)
	if in.CallerReference == "" || len(in.CallerReference) > 64 {
		return HealthCheck{}, invalidInput("CallerReference has 1 to 64 characters.")
	}
	for _, c := range s.checks {
		if c.Check.CallerReference != in.CallerReference {
			continue
		}
		if reflect.DeepEqual(c.Check.HealthCheckConfig, config) {
			return c.Check, nil
		}
		return HealthCheck{}, fault("HealthCheckAlreadyExists", 409, "A health check with the caller reference %s and other settings was made before.", in.CallerReference)
	}
	if len(s.checks) >= checksMax {
		return HealthCheck{}, fault("TooManyHealthChecks", 400, "Limits Exceeded: an account has at most %d health checks.", checksMax)
	}
	made := &check{Check: HealthCheck{Id: uuid.NewString(), CallerReference: in.CallerReference, HealthCheckConfig: config, HealthCheckVersion: 1}}
	return s.putCheck(made)
}

// withDefaults returns the configuration with what Route 53 adds.
func withDefaults(c HealthCheckConfig) HealthCheckConfig {
	orFalse := func(flag **bool) {
		if *flag == nil {
			*flag = new(bool)
		}
	}
	orNumber := func(number **int, value int) {
		if *number == nil {
			*number = &value
		}
	}
	orFalse(&c.Inverted)
	orFalse(&c.Disabled)
	if kinds[c.Type] == failover.CheckEndpoint {
		orNumber(&c.RequestInterval, 30)
		orNumber(&c.FailureThreshold, 3)
		orFalse(&c.MeasureLatency)
		secure := strings.HasPrefix(c.Type, "HTTPS")
		if c.EnableSNI == nil {
			c.EnableSNI = &secure
		}
		if c.Type != "TCP" {
			orNumber(&c.Port, map[bool]int{false: 80, true: 443}[secure])
		}
	}
	if c.Type == "CLOUDWATCH_METRIC" && c.InsufficientDataHealthStatus == "" {
		c.InsufficientDataHealthStatus = failover.InsufficientLastKnown
	}
	slices.Sort(c.ChildHealthChecks)
	return c
}

// putCheck puts a check into the place of the one of its ID. Callers hold mu.
func (s *Service) putCheck(made *check) (HealthCheck, error) {
	config := made.Check.HealthCheckConfig
	if err := validCheck(config); err != nil {
		return HealthCheck{}, err
	}
	if id := config.AlarmIdentifier; id != nil {
		copied, there := s.options.Alarms.Configuration(id.Region, id.Name)
		if !there {
			return HealthCheck{}, invalidInput("Invalid parameter : Alarm not found: %s in %s", id.Name, id.Region)
		}
		if copied.Period < 60 {
			return HealthCheck{}, invalidInput("The alarm %s has a period of %d seconds: health checks take alarms on metrics of standard resolution only.", id.Name, copied.Period)
		}
		made.Check.CloudWatchAlarmConfiguration = &copied
	}
	next := maps.Clone(s.checks)
	next[made.Check.Id] = made
	rules, _ := s.rules(next)
	if err := rules.Valid(); err != nil {
		return HealthCheck{}, invalidInput("%v", err)
	}
	before := s.checks[made.Check.Id]
	s.checks = next
	if err := s.save(); err != nil {
		delete(s.checks, made.Check.Id)
		if before != nil {
			s.checks[made.Check.Id] = before
		}
		return HealthCheck{}, err
	}
	if before != nil && before.stop != nil {
		before.stop()
	}
	s.prepare(made)
	if before != nil {
		for i := range min(len(made.checkers), len(before.checkers)) {
			made.checkers[i].take(before.checkers[i])
		}
	}
	s.start(made)
	s.look()
	return made.Check, nil
}

func validCheck(c HealthCheckConfig) error {
	kind, known := kinds[c.Type]
	switch {
	case !known:
		return invalidInput("Invalid parameter : Value '%s' at 'Type' is not one of %v", c.Type, slices.Sorted(maps.Keys(kinds)))
	case (kind == failover.CheckAlarm) != (c.AlarmIdentifier != nil):
		return invalidInput("AlarmIdentifier belongs to health checks of type CLOUDWATCH_METRIC, and they need it.")
	case kind == failover.CheckCalculated && (c.HealthThreshold == nil || *c.HealthThreshold < 0 || *c.HealthThreshold > childrenMax):
		return invalidInput("HealthThreshold is needed for type CALCULATED: 0 to %d.", childrenMax)
	case kind != failover.CheckCalculated && (len(c.ChildHealthChecks) > 0 || c.HealthThreshold != nil):
		return invalidInput("ChildHealthChecks and HealthThreshold belong to type CALCULATED.")
	case kind == failover.CheckControl && c.RoutingControlArn == "":
		return invalidInput("RoutingControlArn is needed for type RECOVERY_CONTROL.")
	case kind != failover.CheckEndpoint:
		return nil
	}
	matches := strings.HasSuffix(c.Type, "_STR_MATCH")
	switch {
	case c.IPAddress == "" && c.FullyQualifiedDomainName == "":
		return invalidInput("IPAddress or FullyQualifiedDomainName is needed for type %s.", c.Type)
	case c.IPAddress != "" && !isAddress(c.IPAddress):
		return invalidInput("Invalid parameter : Value '%s' at 'IPAddress' is not a valid IP address", c.IPAddress)
	case c.Port == nil || *c.Port < 1 || *c.Port > 65535:
		return invalidInput("Port is needed for type %s: 1 to 65535.", c.Type)
	case *c.RequestInterval != 10 && *c.RequestInterval != 30:
		return invalidInput("Invalid parameter : RequestInterval must be 10 or 30")
	case *c.FailureThreshold < 1 || *c.FailureThreshold > 10:
		return invalidInput("Invalid parameter : FailureThreshold must be between 1 and 10")
	case matches != (c.SearchString != "") || len(c.SearchString) > searchMax:
		return invalidInput("SearchString belongs to the types HTTP_STR_MATCH and HTTPS_STR_MATCH, and they need one of at most %d characters.", searchMax)
	case c.Type == "TCP" && (c.ResourcePath != "" || is(c.EnableSNI)):
		return invalidInput("ResourcePath and EnableSNI do not belong to type TCP.")
	}
	return nil
}

func isAddress(text string) bool {
	address, err := netip.ParseAddr(text)
	return err == nil && address.Zone() == ""
}

// UpdateHealthCheck changes what is in the request. An alarm is copied anew.
func (s *Service) UpdateHealthCheck(id string, in UpdateHealthCheckRequest) (HealthCheck, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before, err := s.check(id)
	if err != nil {
		return HealthCheck{}, err
	}
	if v := in.HealthCheckVersion; v != nil && *v != before.Check.HealthCheckVersion {
		return HealthCheck{}, fault("HealthCheckVersionMismatch", 409, "The value of HealthCheckVersion in the request (%d) doesn't match the value of HealthCheckVersion in the health check (%d).",
			*v, before.Check.HealthCheckVersion)
	}
	if in.Type != "" || in.RequestInterval != nil || in.MeasureLatency != nil {
		return HealthCheck{}, invalidInput("Type, RequestInterval and MeasureLatency cannot be changed.")
	}
	next := *before
	next.checkers, next.stop = nil, nil
	next.Check.HealthCheckVersion++
	config := &next.Check.HealthCheckConfig
	overlay(reflect.ValueOf(config).Elem(), reflect.ValueOf(in.HealthCheckConfig))
	for _, element := range in.ResetElements {
		switch element {
		case "ChildHealthChecks":
			config.ChildHealthChecks = nil
		case "FullyQualifiedDomainName":
			config.FullyQualifiedDomainName = ""
		case "Regions":
			config.Regions = nil
		case "ResourcePath":
			config.ResourcePath = ""
		default:
			return HealthCheck{}, invalidInput("%s cannot be reset.", element)
		}
	}
	*config = withDefaults(*config)
	if next.Check.HealthCheckConfig.AlarmIdentifier != nil {
		next.state, next.LastKnown = "", ""
	}
	return s.putCheck(&next)
}

// overlay puts every field that is set over another.
func overlay(onto, from reflect.Value) {
	for i := range from.NumField() {
		if !from.Field(i).IsZero() {
			onto.Field(i).Set(from.Field(i))
		}
	}
}

func (s *Service) check(id string) (*check, error) {
	if c := s.checks[id]; c != nil {
		return c, nil
	}
	return nil, fault("NoSuchHealthCheck", 404, "A health check with id %s does not exist.", id)
}

// GetHealthCheck returns a check.
func (s *Service) GetHealthCheck(id string) (HealthCheck, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.check(id)
	if err != nil {
		return HealthCheck{}, err
	}
	return c.Check, nil
}

// DeleteHealthCheck deletes a check that no record and no other check uses.
func (s *Service) DeleteHealthCheck(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.check(id)
	if err != nil {
		return err
	}
	for _, other := range s.checks {
		if slices.Contains(other.Check.HealthCheckConfig.ChildHealthChecks, id) {
			return fault("HealthCheckInUse", 400, "The health check is a child of the health check %s.", other.Check.Id)
		}
	}
	for _, z := range s.zones {
		if slices.ContainsFunc(z.Sets, func(r ResourceRecordSet) bool { return r.HealthCheckId == id }) {
			return fault("HealthCheckInUse", 400, "The health check is used by a record of %s.", z.Zone.Name)
		}
	}
	delete(s.checks, id)
	if c.stop != nil {
		c.stop()
	}
	s.look()
	return s.save()
}

// ListHealthChecks returns a page of checks in order of their IDs.
func (s *Service) ListHealthChecks(marker string, most int) ListHealthChecksResponse {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := ListHealthChecksResponse{Marker: marker, MaxItems: most}
	for _, id := range slices.Sorted(maps.Keys(s.checks)) {
		switch {
		case id < marker:
		case len(out.HealthChecks) == most:
			out.IsTruncated, out.NextMarker = true, id
			return out
		default:
			out.HealthChecks = append(out.HealthChecks, s.checks[id].Check)
		}
	}
	return out
}

// GetHealthCheckStatus returns what each checker saw last. Checks that are not made by going somewhere have no checkers, and are refused.
func (s *Service) GetHealthCheckStatus(id string) (GetHealthCheckStatusResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, err := s.check(id)
	if err != nil {
		return GetHealthCheckStatusResponse{}, err
	}
	var out GetHealthCheckStatusResponse
	switch kinds[c.Check.HealthCheckConfig.Type] {
	case failover.CheckCalculated, failover.CheckControl:
		return out, invalidInput("Health check status is not available for health checks of type %s.", c.Check.HealthCheckConfig.Type)
	case failover.CheckAlarm:
		if c.state == "" {
			return out, nil
		}
		status := fmt.Sprintf("%s: the data of the alarm is %s", map[bool]string{true: "Failure", false: "Success"}[c.state == alarm.Raised], c.state)
		out.HealthCheckObservations = []HealthCheckObservation{{c.Check.HealthCheckConfig.AlarmIdentifier.Region, "127.0.0.1", StatusReport{status, wire.At(s.now())}}}
		return out, nil
	case failover.CheckEndpoint:
	}
	for _, k := range c.checkers {
		if !k.at.IsZero() {
			out.HealthCheckObservations = append(out.HealthCheckObservations, HealthCheckObservation{k.region, "127.0.0.1", StatusReport{k.said, wire.At(k.at)}})
		}
	}
	return out, nil
}

// Unhealthy returns the IDs of the checks that are unhealthy now.
func (s *Service) Unhealthy() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.ill)
}
