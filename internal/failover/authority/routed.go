package authority

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/miekg/dns"

	"firedrill/internal/drill"
	"firedrill/internal/failover"
	"firedrill/internal/history"
)

// checkFile is a health check as the zone file writes it: of an alarm of the watch, or calculated from others.
type checkFile struct {
	Name         string   `yaml:"-"`
	Alarm        string   `yaml:"alarm"`             // unhealthy while it is in ALARM
	Insufficient string   `yaml:"insufficient_data"` // Healthy, Unhealthy or LastKnownStatus (default)
	Healthy      *int     `yaml:"healthy"`           // calculated: so many of the others must be healthy
	Of           []string `yaml:"of"`
	Inverted     bool     `yaml:"inverted"`
	Disabled     bool     `yaml:"disabled"`
}

// routedFile is a name whose records are chosen by routing and health, as Route 53 does it.
type routedFile struct {
	Name    string         `yaml:"-"`
	Routing string         `yaml:"routing,required"`
	TTL     *drill.Seconds `yaml:"ttl"`
	Records []routedRecord `yaml:"records,keyed,required"`
}

type routedRecord struct {
	Name      string       `yaml:"-"`
	Addresses []netip.Addr `yaml:"addresses,required"`
	Check     string       `yaml:"check"`
	Weight    int          `yaml:"weight"`
	Secondary bool         `yaml:"secondary"`
}

// health is what the checks of a zone look at.
type health struct {
	checks failover.Checks
	alarms map[string]string // name of the check to its alarm
}

func (b *zoneBuilder) checks(read []checkFile) {
	h := health{checks: failover.Checks{}, alarms: map[string]string{}}
	for _, one := range read {
		path := "checks." + one.Name
		check := failover.Check{Kind: failover.CheckAlarm, Inverted: one.Inverted, Disabled: one.Disabled, Insufficient: one.Insufficient}
		switch {
		case one.Alarm != "" && one.Healthy == nil && len(one.Of) == 0:
			h.alarms[one.Name] = one.Alarm
		case one.Alarm == "" && one.Healthy != nil && one.Insufficient == "" && *one.Healthy >= 0:
			check.Kind, check.Threshold, check.Children = failover.CheckCalculated, *one.Healthy, one.Of
		default:
			b.mistake(path, "write alarm: NAME, or healthy: NUMBER with of: [CHECK, ...]")
			continue
		}
		h.checks[one.Name] = check
	}
	if err := h.checks.Valid(); err != nil && len(b.mistakes) == 0 {
		b.mistake("checks", "%v", err)
	}
	b.zone.health = h
}

func (b *zoneBuilder) routed(read routedFile) {
	path := "routed." + read.Name
	at := b.owned(path, read.Name)
	if at == nil {
		return
	}
	if at.failover || at.routed != nil || len(at.addrs) > 0 || len(at.sets[dns.TypeCNAME]) > 0 {
		b.mistake(path, "the name has addresses or an alias elsewhere already; keep one")
		return
	}
	set := failover.RecordSet{Routing: failover.Routing(read.Routing)}
	for _, one := range read.Records {
		for _, address := range one.Addresses {
			if problem := unusable(address); problem != "" {
				b.mistake(path+".records."+one.Name, "%s", problem)
			}
		}
		if _, there := b.zone.health.checks[one.Check]; one.Check != "" && !there {
			b.mistake(path+".records", "%s: there is no check %q; write it under checks", one.Name, one.Check)
		}
		set.Records = append(set.Records, failover.Record{
			ID: one.Name, Addresses: one.Addresses, Check: one.Check, Weight: one.Weight, Secondary: one.Secondary,
		})
		at.addrs = append(at.addrs, one.Addresses...)
	}
	if err := set.Valid(); err != nil {
		b.mistake(path, "%v", err)
	}
	at.addrs = failover.Sorted(at.addrs)
	b.countAddresses(path, at.addrs)
	at.routed = &set
	at.ttl = b.ttl(path+".ttl", read.TTL, failoverTTLDefault, 0, failoverTTLMax)
}

// routedAddresses chooses for one query. The lot comes from the query and the time, so that it is another for each and yet a pure function.
func (a *answerer) routedAddresses(name string, at *owner) []netip.Addr {
	ill := a.decided[name].Ill
	a.varies = a.varies || at.routed.Routing != failover.RoutingFailover
	lot := uint64(a.reply.Id)<<48 ^ uint64(a.now.UnixNano()) //nolint:gosec // any number will do
	return at.routed.Answer(func(check string) bool { return !slices.Contains(ill, check) }, lot)
}

// Watches says whether the zone has checks on alarms, which have to be told to ApplyAlarm.
func (z *Zone) Watches() bool { return len(z.health.alarms) > 0 }

// ApplyAlarm takes the state of an alarm as it comes from a watch. What is answered from then on for the names whose records hang on it
// follows; an alarm that no check looks at is passed over. The error is about the state file alone, as with Set.
func (s *Server) ApplyAlarm(alarm history.Alarm) error {
	if !slices.Contains(slices.Collect(maps.Values(s.zone.health.alarms)), alarm.Name) {
		return nil
	}
	s.mu.Lock()
	before := s.alarms[alarm.Name]
	seen := failover.Seen{Alarm: alarm.To, LastKnown: before.LastKnown}
	if alarm.To != history.AlarmInsufficient {
		seen.LastKnown = alarm.To
	}
	s.alarms[alarm.Name] = seen
	ill := s.ill()
	current := *s.decided.Load()
	next := maps.Clone(current)
	if next == nil {
		next = Decided{}
	}
	changed := false
	for name, at := range s.zone.owners {
		if at.routed != nil && !s.frozen[name] && !slices.Equal(current[name].Ill, ill) {
			next[name] = Decision{Ill: ill}
			changed = true
		}
	}
	if changed {
		s.decided.Store(&next)
	}
	s.mu.Unlock()
	if !changed {
		return nil
	}
	s.log.Info("health changed", "alarm", alarm.Name, "state", alarm.To, "unhealthy_checks", ill)
	return s.save()
}

// ill returns the checks that are unhealthy, in order. Callers hold mu.
func (s *Server) ill() []string {
	seen := map[string]failover.Seen{}
	for check, alarm := range s.zone.health.alarms {
		seen[check] = s.alarms[alarm]
	}
	var ill []string
	for _, check := range slices.Sorted(maps.Keys(s.zone.health.checks)) {
		if !s.zone.health.checks.Healthy(check, seen) {
			ill = append(ill, check)
		}
	}
	return ill
}

// startHealth gives the names that are routed by health their first decision: what the state file says, else what the checks say of alarms
// of which nothing is known yet.
func (s *Server) startHealth(restored Decided) {
	ill := s.ill()
	for name, at := range s.zone.owners {
		if _, known := restored[name]; at.routed != nil && !known {
			restored[name] = Decision{Ill: ill}
		}
	}
}

// checkRouted says why a saved decision does not fit a name that is routed.
func (s *Server) checkRouted(name string, decision Decision) error {
	for _, check := range decision.Ill {
		if _, there := s.zone.health.checks[check]; !there {
			return fmt.Errorf("%s: there is no check %q any more", name, check)
		}
	}
	return nil
}
