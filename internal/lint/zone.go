package lint

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"firedrill/internal/drill"
)

// Zone is what stands in a hosted zone of Route 53, with the health checks that its records use.
type Zone struct {
	Name    string
	Records []Record
	Checks  map[string]Check // by ID; a check that a record names and that is not here is not there
	Public  bool             // checked by Amazon's own checkers, which cannot reach private addresses
}

// Record is one record set.
type Record struct {
	Name, Type, ID string
	Failover       string // PRIMARY, SECONDARY
	Weight         *int64
	Multivalue     bool
	Other          string // another routing policy: its name
	TTL            int64  // seconds; 0 for aliases
	Values         []string
	Check          string
	Alias          string // what it leads to; empty: it has values
	Evaluate       bool   // of an alias: its target's health counts
}

func (r Record) String() string {
	text := strings.TrimSuffix(r.Name, ".") + " " + r.Type
	if part := strings.TrimSpace(r.Failover + " " + r.ID); part != "" {
		text += " (" + part + ")"
	}
	return text
}

// Check is one health check.
type Check struct {
	ID                 string
	Kind               string // HTTP, TCP, CALCULATED, CLOUDWATCH_METRIC, RECOVERY_CONTROL, ...
	Interval, Failures int    // seconds between tries, and tries in a row
	Address, Host      string // of an endpoint
	Inverted, Disabled bool
	Threshold          int      // of a calculated one
	Children           []string // of a calculated one
	Insufficient       string   // of one on an alarm: Healthy, Unhealthy, LastKnownStatus
	AlarmName          string
	Copied, Alarm      *AlarmSettings // as it was copied, and as the alarm is now; a nil Alarm: it is not there
	Control            string         // ARN
}

// AlarmSettings is what an alarm of CloudWatch does.
type AlarmSettings struct {
	Namespace, Metric, Statistic, Comparison, Dimensions string
	Period, Periods                                      int
	Threshold                                            float64

	Datapoints        int    // M of N; not copied
	Extended, Missing string // extended statistic, treatment of missing data; not copied
	Math              bool   // on an expression; not copied
}

// copyable is the part that a health check copies.
func (a AlarmSettings) copyable() AlarmSettings {
	a.Datapoints, a.Extended, a.Missing, a.Math = 0, "", "", false
	return a
}

const (
	zoneTTLMax    = 60 // Amazon's own advice for records with health checks
	negativeMax   = 60 // seconds for which "there is no such name" may be remembered
	multivalueMax = 8  // records in one answer
	connectMax    = 4  // seconds that a checker may take to connect
	checkersEvery = 30 // the slower of the two intervals
	metricMin     = 60 // seconds; metrics of high resolution are not looked at by checks
	kindAlarm     = "CLOUDWATCH_METRIC"
	kindSum       = "CALCULATED"
	kindControl   = "RECOVERY_CONTROL"
)

// InZone returns the traps in a hosted zone, as far as names ask for: those of the service that Route 53 gives, and what else was named. An
// empty list of names stands for all.
func InZone(z Zone, s drill.Service, names []string) []Finding {
	var f findings
	groups := map[string][]Record{}
	for _, record := range z.Records {
		if len(names) == 0 || slices.ContainsFunc(names, func(name string) bool { return same(name, record.Name) }) {
			key := record.Name + " " + record.Type
			groups[key] = append(groups[key], record)
		}
	}
	l := zoneLinter{findings: &f, zone: z, rto: s.Objectives.RTO.Duration(), ours: map[string]bool{}}
	for _, name := range s.Failover {
		if name.Route53 != nil {
			for _, id := range name.Route53.Checks {
				l.ours[id] = true
			}
		}
	}
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		l.group(groups[key])
	}
	for _, name := range s.Failover {
		if name.Provider == drill.ProviderRoute53 && (len(names) == 0 || slices.Contains(names, name.Name)) {
			l.ofService(s, name)
		}
	}
	l.apex()
	return f.sorted()
}

func same(a, b string) bool {
	return strings.EqualFold(strings.TrimSuffix(a, "."), strings.TrimSuffix(b, "."))
}

type zoneLinter struct {
	*findings
	zone Zone
	rto  time.Duration
	ours map[string]bool // checks that we turn: disabled on purpose
}

// group looks at all records of one name and type.
func (l *zoneLinter) group(records []Record) {
	first := records[0]
	for _, record := range records {
		where := record.String()
		if record.Check != "" {
			l.check(record, record.Check, 0)
		}
		if record.Alias != "" && !record.Evaluate && record.Check == "" && (record.Failover != "" || record.Weight != nil || record.Multivalue) {
			l.add(Error, "alias-unevaluated", where, "Set EvaluateTargetHealth, or attach a health check.", "it is an alias whose target's health is not looked at: it is always healthy")
		}
		if (record.Check != "" || record.Failover != "") && record.TTL > zoneTTLMax {
			l.add(Warning, "record-ttl-long", where, "Write a TTL of 60 or less.", "clients keep the old answer for %d s after a failover", record.TTL)
		}
	}
	switch {
	case first.Failover != "":
		l.pair(records)
	case first.Weight != nil:
		l.lots(records, "weighted")
		if !slices.ContainsFunc(records, func(r Record) bool { return r.Weight != nil && *r.Weight > 0 }) {
			l.add(Warning, "weights-all-zero", first.String(), "Give those that are wanted a weight.", "all weights are 0: then all are answered alike")
		}
	case first.Multivalue:
		l.lots(records, "multivalue")
		if len(records) > multivalueMax {
			l.add(Warning, "multivalue-too-many", first.String(), "Use eight records or fewer.", "%d records, of which one answer holds %d", len(records), multivalueMax)
		}
	}
}

// lots looks at records that are answered by lot or together.
func (l *zoneLinter) lots(records []Record, policy string) {
	for _, record := range records {
		if record.Check == "" && record.Alias == "" {
			l.add(Warning, "record-unchecked", record.String(), "Attach a health check.", "a %s record without a health check is always healthy, and answered when it is dead", policy)
		}
	}
}

// pair looks at a primary and a secondary.
func (l *zoneLinter) pair(records []Record) {
	find := func(role string) *Record {
		if i := slices.IndexFunc(records, func(r Record) bool { return r.Failover == role }); i >= 0 {
			return &records[i]
		}
		return nil
	}
	primary, secondary := find("PRIMARY"), find("SECONDARY")
	for role, record := range map[string]*Record{"PRIMARY": primary, "SECONDARY": secondary} {
		if record == nil {
			l.add(Error, "failover-half", records[0].String(), "Add the "+role+" record.", "there is no %s record: nothing can fail over", role)
		}
	}
	if primary == nil || secondary == nil {
		return
	}
	judged := func(r *Record) bool { return r.Check != "" || (r.Alias != "" && r.Evaluate) }
	if !judged(primary) {
		l.add(Error, "primary-unchecked", primary.String(), "Attach the health check of the primary.", "it has no health check, so it is always healthy and the name never fails over")
	}
	if !judged(secondary) {
		l.add(Warning, "secondary-unchecked", secondary.String(), "Attach the health check of the secondary: then the primary is answered when both are dead.",
			"it has no health check, so it is always healthy: when both are dead, clients are sent here")
	}
	if primary.Check != "" && primary.Check == secondary.Check {
		l.add(Error, "check-shared", primary.String(), "Give each side a check of its own.", "both sides hang on the check %s: when it fails both are unhealthy, and Route 53 answers the primary", primary.Check)
		return
	}
	for _, sides := range [][2]*Record{{primary, secondary}, {secondary, primary}} {
		own, other := sides[0], sides[1]
		for _, leaf := range l.leaves(own.Check, map[string]bool{}) {
			if leaf != own.Check && l.speaksFor(leaf, *other) {
				l.add(Error, "check-crosses", own.String(), "Use one check for each record, of that side alone.",
					"its check %s counts %s, which looks at the other side: when that side dies, this one is taken for dead and clients are sent to the dead one", own.Check, leaf)
			}
		}
	}
}

// leaves returns the checks that a check comes down to.
func (l *zoneLinter) leaves(id string, passed map[string]bool) []string {
	check, there := l.zone.Checks[id]
	if !there || passed[id] {
		return nil
	}
	passed[id] = true
	if check.Kind != kindSum {
		return []string{id}
	}
	var all []string
	for _, child := range check.Children {
		all = append(all, l.leaves(child, passed)...)
	}
	return all
}

// speaksFor says whether a check looks at what a record leads to, or is its check.
func (l *zoneLinter) speaksFor(id string, record Record) bool {
	if slices.Contains(l.leaves(record.Check, map[string]bool{}), id) {
		return true
	}
	check := l.zone.Checks[id]
	return (check.Address != "" && slices.Contains(record.Values, check.Address)) ||
		(check.Address == "" && check.Host != "" && slices.ContainsFunc(append(slices.Clone(record.Values), record.Alias), func(value string) bool { return same(value, check.Host) }))
}

// apex looks at what resolvers remember of a name that is not there.
func (l *zoneLinter) apex() {
	for _, record := range l.zone.Records {
		if record.Type != "SOA" || len(record.Values) != 1 {
			continue
		}
		fields := strings.Fields(record.Values[0])
		var minimum int64
		if len(fields) == 7 {
			if _, err := fmt.Sscan(fields[6], &minimum); err != nil {
				continue
			}
		}
		if kept := min(record.TTL, minimum); kept > negativeMax {
			l.add(Warning, "no-is-remembered", record.String(), "Lower the TTL of the SOA record and its last number; and never delete a name to fail over.",
				"that a name is not there is remembered for %d s: a record that was gone for a moment is gone for so long", kept)
		}
	}
}

// ofService holds the zone against the service file.
func (l *zoneLinter) ofService(s drill.Service, name drill.Failover) {
	var own []Record
	for _, record := range l.zone.Records {
		if same(record.Name, name.Name) && (record.Type == "A" || record.Type == "AAAA" || record.Type == "CNAME") {
			own = append(own, record)
		}
	}
	where := strings.TrimSuffix(name.Name, ".")
	turned := len(name.Route53.Checks)+len(name.Route53.Controls) > 0
	for _, record := range own {
		policy := record.Failover != "" || record.Weight != nil || record.Multivalue || record.Other != "" || record.Alias != "" || record.Type == "CNAME"
		if policy && !turned {
			l.add(Error, "name-not-plain", record.String(), "Name controls or checks in route53, or replace it by a plain record.", "it is an alias or has a routing policy, and the service file has its records written")
		}
		for _, value := range record.Values {
			if address, err := netip.ParseAddr(value); err == nil && !isHost(s, address) {
				l.add(Error, "leads-elsewhere", record.String(), "Correct the record, or the address of the host.", "%s is the address of no host of %s", value, s.Name)
			}
		}
	}
	if !turned {
		return
	}
	checkOf := map[string]string{}
	for environment, id := range name.Route53.Checks {
		checkOf[environment] = id
	}
	for environment, arn := range name.Route53.Controls {
		for id, check := range l.zone.Checks {
			if check.Control == arn {
				checkOf[environment] = id
			}
		}
	}
	for _, environment := range []string{name.Primary, name.Secondary} {
		id := checkOf[environment]
		if id == "" || !slices.ContainsFunc(own, func(r Record) bool { return r.Check == id }) {
			l.add(Error, "turned-without-record", where, "Make a record with this health check for the environment.", "no record of the name hangs on what is turned for %s: turning it moves nothing", environment)
		}
	}
}

func isHost(s drill.Service, address netip.Addr) bool {
	return slices.ContainsFunc(s.Environments, func(e drill.Environment) bool {
		return slices.ContainsFunc(e.Hosts, func(h drill.Host) bool { return h.Address == address })
	})
}
